//! `doctor --compat`: what clients of each dialect do, against the running daemon and the provider behind it. The first five tests are
//! the earlier program's.
//!
//! They are calls as SDKs make them, so they cost what they cost. Without a token they are those of an agent made for them.

mod answer;
mod chat;
mod messages;
mod models;
mod responses;
mod texts;

use super::super::Context;
use crate::client::Client;
use crate::exit::{Exit, Failure};
use crate::http::{self, Answer};
use crate::view::Paint;
use aex_proto::account::{AgentChange, AgentCreate, AgentName, AgentPolicy, Period};
use aex_proto::method::{self, Nothing};
use aex_proto::token::Scope;
use aex_proto::value::Pico;
use answer::{Checked, Differs, Finding, NotServed, is, shown};
use serde::Serialize;
use serde_json::{Value, json};
use std::time::Duration;

/// What the throwaway agent may spend: 0.10 USD, enough for the holds of short calls, one after the other.
const BUDGET: Pico = Pico::new(100_000_000_000);
/// More than there are calls.
const RPM: u32 = 60;
/// How long its token lives, should nobody delete it.
const TTL_MS: u64 = 600_000;
/// The longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(120);
/// Enough for a short answer of a model that thinks first.
const MAX_TOKENS: u32 = 256;
/// The form of a token that nobody has.
const NOBODY: &str = "00000000000000000000000000000000";

/// One test.
type Run = fn(&Target) -> Checked;

/// All tests, in the order of their report.
const ALL: [(&str, Run); 17] = [
    ("basic_chat", chat::basic),
    ("streaming_sse", chat::streaming),
    ("tool_calling", chat::tool_calling),
    ("structured_output", chat::structured_output),
    ("error_parity", chat::errors),
    ("responses", responses::plain),
    ("responses_stream", responses::streaming),
    ("responses_errors", responses::errors),
    ("messages", messages::plain),
    ("messages_stream", messages::streaming),
    ("messages_errors", messages::errors),
    ("count_tokens", messages::count),
    ("embeddings", texts::embeddings),
    ("completions", texts::plain),
    ("completions_stream", texts::streaming),
    ("models_openai", models::openai),
    ("models_anthropic", models::anthropic),
];

#[derive(Debug, Serialize)]
struct Test {
    name: &'static str,
    passed: bool,
    difference: Option<String>,
    /// Why it says nothing about the daemon.
    skipped: Option<String>,
}

#[derive(Debug, Serialize)]
struct Report {
    passed: bool,
    model: String,
    tests: Vec<Test>,
}

/// Where the calls go, and as whom.
struct Target {
    origin: String,
    token: String,
    model: String,
}

pub(super) fn run(context: &Context<'_>, token: Option<String>, model: Option<String>) -> Result<Exit, Failure> {
    let mut client = context.connect()?;
    let origin = client.call::<method::DaemonStatus>(&Nothing {})?.origin;
    let model = match model {
        Some(model) => model,
        None => default_model(&mut client)?,
    };
    let tests = match token {
        Some(token) => tests(&Target { origin, token, model: model.clone() }),
        None => with_agent(&mut client, origin, model.clone())?,
    };
    let report = Report { passed: tests.iter().all(|test| test.difference.is_none()), model, tests };
    context.view.show(&report, |paint| text(&report, paint))?;
    Ok(if report.passed { Exit::Done } else { Exit::Failed })
}

fn default_model(client: &mut Client) -> Result<String, Failure> {
    let list = client.call::<method::ModelList>(&Nothing {})?;
    let default = list.models.into_iter().find(|model| model.default);
    default.map(|model| model.name).ok_or_else(|| Failure::new("no default model is configured").hint("aexctl models list"))
}

/// Runs the tests as an agent of their own, which is deleted whatever they find.
fn with_agent(client: &mut Client, origin: String, model: String) -> Result<Vec<Test>, Failure> {
    let name: AgentName = format!("doctor-{}", std::process::id()).parse().map_err(Failure::new)?;
    let wanted = AgentCreate {
        group: None,
        name: name.clone(),
        budget_pico: BUDGET,
        per: Period::Total,
        rpm: RPM,
        max_concurrent: None,
        tpm: None,
        scope: Scope::Execution,
        ttl_ms: Some(TTL_MS),
        policy: AgentPolicy::seed(),
        reason: Some("aexctl doctor --compat".to_owned()),
    };
    let created = client.call::<method::AgentCreate>(&wanted)?;
    let tests = tests(&Target { origin, token: created.token.expose().to_owned(), model });
    let reason = Some("aexctl doctor --compat has ended".to_owned());
    client.call::<method::AgentDelete>(&AgentChange { name, reason })?;
    Ok(tests)
}

fn tests(target: &Target) -> Vec<Test> {
    let test = |(name, run): (&'static str, Run)| match run(target) {
        Ok(()) => Test { name, passed: true, difference: None, skipped: None },
        Err(Differs(difference)) => Test { name, passed: false, difference: Some(difference), skipped: None },
        Err(NotServed(why)) => Test { name, passed: false, difference: None, skipped: Some(why) },
    };
    ALL.into_iter().map(test).collect()
}

fn text(report: &Report, paint: Paint) -> String {
    let mut lines = Vec::new();
    for test in &report.tests {
        let verdict = match test {
            Test { passed: true, .. } => paint.good("PASS"),
            Test { skipped: Some(_), .. } => paint.strong("SKIP"),
            Test { .. } => paint.bad("FAIL"),
        };
        lines.push(format!("{}: {verdict}", test.name));
        lines.extend(test.difference.iter().chain(&test.skipped).map(|why| format!("  {why}")));
    }
    let passed = report.tests.iter().filter(|test| test.passed).count();
    let skipped = match report.tests.iter().filter(|test| test.skipped.is_some()).count() {
        0 => String::new(),
        skipped => format!(", {skipped} skipped: the provider does not serve them"),
    };
    lines.push(format!("{passed} of {} pass with model {}{skipped}", report.tests.len(), report.model));
    lines.join("\n")
}

impl Target {
    /// Posts a body of this model, with more members.
    fn call(&self, path: &str, mut body: Value, more: Value) -> Result<Answer, Finding> {
        if let (Some(body), Value::Object(more)) = (body.as_object_mut(), more) {
            body.insert("model".to_owned(), json!(self.model));
            body.extend(more);
        }
        self.post(path, &self.token, &body.to_string())
    }

    fn post(&self, path: &str, token: &str, body: &str) -> Result<Answer, Finding> {
        self.ask(path, token, Some(body), &[])
    }

    fn ask(&self, path: &str, token: &str, body: Option<&str>, headers: &[(&str, &str)]) -> Result<Answer, Finding> {
        let url = format!("{}{path}", self.origin);
        http::ask_with(&url, token, body, headers, PATIENCE).map_err(|fault| Differs(format!("no answer: {fault}")))
    }

    /// What is refused the same way wherever it is asked: an unknown model, an unknown token, broken JSON. Each with the status that
    /// is due, and the members that the error object has.
    fn refusals(&self, path: &str, valid: &Value, statuses: [u16; 3], members: &[&str]) -> Result<[Value; 3], Finding> {
        let mut valid = valid.clone();
        valid["model"] = json!(self.model);
        let mut unknown = valid.clone();
        unknown["model"] = json!("no-such-model");
        let rows = [
            ("an unknown model", self.token.as_str(), unknown.to_string()),
            ("an unknown token", NOBODY, valid.to_string()),
            ("broken JSON", self.token.as_str(), "{\"model\": [".to_owned()),
        ];
        let mut errors = [Value::Null, Value::Null, Value::Null];
        for (((what, token, body), wanted), error) in rows.into_iter().zip(statuses).zip(&mut errors) {
            let answer = self.post(path, token, &body)?;
            is(answer.status == wanted, || format!("{what}: expected {wanted}, found {} {}", answer.status, shown(&answer.body)))?;
            *error = serde_json::from_str(&answer.body).unwrap_or_default();
            for key in members {
                is(error["error"].get(key).is_some(), || format!("{what}: the error object has no `{key}`: {}", shown(&answer.body)))?;
            }
        }
        Ok(errors)
    }
}
