//! What a check found, and what mends it.

use serde::{Deserialize, Serialize};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// All is well.
    Ok,
    /// It works, and may not be what is wanted.
    Warning,
    /// It does not work.
    Error,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What was looked at: `model m1`, `provider groq`, `ledger` …
    pub subject: String,
    /// How it is.
    pub verdict: Verdict,
    /// What was found.
    pub detail: String,
    /// What mends it; `None` when all is well.
    pub fix: Option<String>,
}

impl Finding {
    /// All is well.
    #[must_use]
    pub fn ok(subject: impl Into<String>, detail: impl Into<String>) -> Finding {
        Finding { subject: subject.into(), verdict: Verdict::Ok, detail: detail.into(), fix: None }
    }

    /// It works, and may not be what is wanted.
    #[must_use]
    pub fn warning(subject: impl Into<String>, detail: impl Into<String>, fix: impl Into<String>) -> Finding {
        Finding { subject: subject.into(), verdict: Verdict::Warning, detail: detail.into(), fix: Some(fix.into()) }
    }

    /// It does not work.
    #[must_use]
    pub fn error(subject: impl Into<String>, detail: impl Into<String>, fix: impl Into<String>) -> Finding {
        Finding { subject: subject.into(), verdict: Verdict::Error, detail: detail.into(), fix: Some(fix.into()) }
    }
}

/// Reply of `model.check`, and what `aexd check` prints.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checked {
    /// What was found, in the order in which it was looked at.
    pub findings: Vec<Finding>,
}

impl Checked {
    /// The worst of them.
    #[must_use]
    pub fn worst(&self) -> Verdict {
        self.findings.iter().map(|finding| finding.verdict).max().unwrap_or(Verdict::Ok)
    }
}
