//! The configuration that a test gives its daemon: sensible models, each part replaceable as text.

use std::fmt::Write;
use std::path::Path;

use crate::provider::Provider;

/// What lies in the home before the daemon starts. Models: `m1` (upstream `m1-upstream`) and `m2` (upstream `m2`), 1 and 2 micro-USD
/// per token, at most 1000 output tokens, with tools, without vision. The default model is `m1`.
#[derive(Clone, Debug)]
pub struct Config {
    base_url: String,
    provider_lines: Vec<String>,
    model_lines: String,
    models: Option<String>,
    aexd: Option<String>,
    policy: Option<String>,
    permissions: Option<String>,
    mcp: Option<String>,
    pub(super) dotenv: String,
    pub(super) env: Vec<(String, String)>,
    pub(super) flags: Vec<String>,
    pub(super) under: Vec<String>,
}

impl Config {
    /// For a provider named `mock`, its key in `.env`.
    #[must_use]
    pub fn new(provider: &Provider) -> Self {
        let config = Self::with_base_url(&provider.base_url(), provider.key());
        match provider.ca() {
            Some(ca) => config.ca(ca),
            None => config,
        }
    }

    /// For a provider named `mock` anywhere.
    #[must_use]
    pub fn with_base_url(base_url: &str, key: &str) -> Self {
        Self {
            base_url: base_url.to_owned(),
            provider_lines: Vec::new(),
            model_lines: model("m1", "m1-upstream") + &model("m2", "m2"),
            models: None,
            aexd: None,
            policy: None,
            permissions: None,
            mcp: None,
            dotenv: format!("MOCK_API_KEY={key}\n"),
            env: Vec::new(),
            flags: Vec::new(),
            under: Vec::new(),
        }
    }

    /// Trusts this certificate authority for the provider.
    #[must_use]
    pub fn ca(self, pem: &Path) -> Self {
        self.provider_line(&format!("ca_file: {}", pem.display()))
    }

    /// One more line in the provider's entry, such as `auth: none`.
    #[must_use]
    pub fn provider_line(mut self, line: &str) -> Self {
        self.provider_lines.push(line.to_owned());
        self
    }

    /// One more model; `yaml` is its entry, indented by two, `name:` first.
    #[must_use]
    pub fn model(mut self, yaml: &str) -> Self {
        self.model_lines.push_str(yaml.trim_end());
        self.model_lines.push('\n');
        self
    }

    /// Replaces models.yaml as a whole.
    #[must_use]
    pub fn models_yaml(mut self, text: &str) -> Self {
        self.models = Some(text.to_owned());
        self
    }

    /// Writes aexd.yaml, which is absent otherwise.
    #[must_use]
    pub fn aexd_yaml(mut self, text: &str) -> Self {
        self.aexd = Some(text.to_owned());
        self
    }

    /// Writes policy.yaml, which is absent otherwise.
    #[must_use]
    pub fn policy_yaml(mut self, text: &str) -> Self {
        self.policy = Some(text.to_owned());
        self
    }

    /// Writes permissions.json, which is absent otherwise.
    #[must_use]
    pub fn permissions_json(mut self, text: &str) -> Self {
        self.permissions = Some(text.to_owned());
        self
    }

    /// Writes mcp.json, which is absent otherwise.
    #[must_use]
    pub fn mcp_json(mut self, text: &str) -> Self {
        self.mcp = Some(text.to_owned());
        self
    }

    /// Replaces `.env`.
    #[must_use]
    pub fn dotenv(mut self, text: &str) -> Self {
        text.clone_into(&mut self.dotenv);
        self
    }

    /// One more variable in the daemon's own environment, which is empty but for AEX_HOME, HOME, PATH and NOTIFY_SOCKET.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// One more flag for `aexd serve`.
    #[must_use]
    pub fn flag(mut self, flag: &str) -> Self {
        self.flags.push(flag.to_owned());
        self
    }

    /// Has another program start aexd: it is given aexd's command line behind these words, and has to become aexd in the end.
    #[must_use]
    pub fn under<Word: Into<String>>(mut self, words: impl IntoIterator<Item = Word>) -> Self {
        self.under = words.into_iter().map(Into::into).collect();
        self
    }

    /// models.yaml as it will be written.
    #[must_use]
    pub fn models_text(&self) -> String {
        if let Some(text) = &self.models {
            return text.clone();
        }
        let mut text = "version: 1\nproviders:\n  mock:\n    type: openai_compatible\n".to_owned();
        writeln!(text, "    base_url: {}", self.base_url).expect("write to a string");
        for line in &self.provider_lines {
            writeln!(text, "    {line}").expect("write to a string");
        }
        text + "default_model: m1\nmodels:\n" + &self.model_lines
    }

    pub(super) fn write(&self, home: &Path) {
        let folder = home.join("config");
        std::fs::create_dir_all(&folder).expect("make the config folder");
        std::fs::write(folder.join("models.yaml"), self.models_text()).expect("write models.yaml");
        if let Some(text) = &self.aexd {
            std::fs::write(folder.join("aexd.yaml"), text).expect("write aexd.yaml");
        }
        if let Some(text) = &self.policy {
            std::fs::write(folder.join("policy.yaml"), text).expect("write policy.yaml");
        }
        if let Some(text) = &self.permissions {
            std::fs::write(folder.join("permissions.json"), text).expect("write permissions.json");
        }
        if let Some(text) = &self.mcp {
            std::fs::write(folder.join("mcp.json"), text).expect("write mcp.json");
        }
        super::write_private(&home.join(".env"), &self.dotenv);
    }
}

fn model(name: &str, upstream: &str) -> String {
    format!(
        "  {name}:
    provider: mock
    provider_model: {upstream}
    pricing:
      input_micro: 1
      output_micro: 2
    limits:
      max_tokens: 1000
    capabilities:
      reasoning: false
      tools: true
      vision: false
"
    )
}
