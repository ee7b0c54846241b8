//! The canary: marked secrets go through every endpoint, error, command and log level, and are then looked for in every byte that aexd and
//! aexctl wrote anywhere. None may be there but where it was asked for: a token in the answer that creates it.

#![allow(clippy::expect_used, clippy::panic, reason = "a test may fail loudly")]

#[path = "secrets/drive.rs"]
mod drive;

use std::fs;
use std::path::PathBuf;

use aex_tests::canary::{Mark, files};
use aex_tests::client::{self, Answer};
use aex_tests::daemon::{Config, Daemon, Output, output};
use aex_tests::provider::{Provider, Script, Setup};
use serde_json::{Value, json};

const PROVIDER_KEY: &str = "sk-canary-provider/4f+Zq8=Lw0";
const PASSTHROUGH_KEY: &str = "sk-canary-passthrough/9c+Mr2=Xt5";
const OWN_KEY: &str = "sk-ant-canary-own/1d+Vb6=Ks3";
const HEADER_KEY: &str = "canary-header-of-the-entry/2y+Hd4=Wn";
const URL_USER: &str = "canary:password-of-a-url-8v3Tz6";
const IDEMPOTENCY_KEY: &str = "canary-idempotency/5j+Pf1=Ge8";
const PROMPT: &str = "canary prompt \"7u/Rk3+Ty0=\"";
const ANSWER: &str = "canary answer \"3b/Nc8+Qs5=\"";
const QUERY: &str = "canary-query-6m-Zx2-Ja9";
/// Not a secret: it has to be found, or the search is blind.
const SEEN: &str = "canary-that-may-be-seen";

const POSTS: [&str; 8] = [
    "/v1/chat/completions",
    "/openai/v1/chat/completions",
    "/v1/completions",
    "/v1/embeddings",
    "/v1/responses",
    "/openai/v1/responses",
    "/v1/messages",
    "/v1/messages/count_tokens",
];

/// Whose words an answer may repeat.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Echo {
    /// Nobody's.
    Nothing,
    /// The provider's answer. What it says may be the client's words again; the daemon's own words, which name the request, may not.
    Answer,
    /// All that this client said and was answered.
    Talk,
}

/// All that was written, with where, and what it may hold.
struct Said {
    what: String,
    bytes: Vec<u8>,
    echo: Echo,
}

struct Scene {
    provider: Provider,
    daemon: Daemon,
    tokens: Vec<(String, String)>,
    said: Vec<Said>,
    on_stderr: bool,
}

fn models(provider: &Provider) -> String {
    let origin = provider.origin();
    let model = |name: &str, provider: &str| {
        format!(
            "  {name}:\n    provider: {provider}\n    provider_model: {name}-upstream\n    pricing: {{input_micro: 1, output_micro: 2}}\n    \
             limits: {{max_tokens: 1000, context_tokens: 100000}}\n    tokenizer: cl100k\n    capabilities: {{reasoning: false, tools: true, vision: true}}\n"
        )
    };
    format!(
        "version: 1\nproviders:\n  mock:\n    type: openai_compatible\n    base_url: {origin}/v1\n    headers: {{x-canary: \"{HEADER_KEY}\"}}\n  \
         claude:\n    type: anthropic\n    base_url: {origin}\n  closed:\n    base_url: http://127.0.0.1:1/v1\n    auth: none\ndefault_model: m1\nmodels:\n{}{}{}",
        model("m1", "mock"),
        model("c1", "claude"),
        model("closed", "closed"),
    )
}

/// A request at a path, with the marked prompt in all places that hold text.
fn body(path: &str, model: &str) -> Value {
    let path = path.strip_prefix("/openai").unwrap_or(path);
    let user = json!([{"role": "user", "content": PROMPT}]);
    match path {
        "/v1/completions" => json!({"model": model, "prompt": [PROMPT], "max_tokens": 40, "user": PROMPT}),
        "/v1/embeddings" => json!({"model": model, "input": [PROMPT], "user": PROMPT}),
        "/v1/responses" => {
            json!({"model": model, "input": PROMPT, "instructions": PROMPT, "max_output_tokens": 40, "metadata": {"a": PROMPT}})
        }
        "/v1/messages" => json!({"model": model, "system": PROMPT, "messages": user, "max_tokens": 40, "metadata": {"user_id": PROMPT}}),
        "/v1/messages/count_tokens" => json!({"model": model, "system": PROMPT, "messages": user}),
        _ => json!({
            "model": model, "max_tokens": 40, "user": PROMPT, "stop": [PROMPT], "metadata": {"a": PROMPT},
            "messages": [
                {"role": "system", "content": PROMPT}, {"role": "user", "name": "x", "content": [{"type": "text", "text": PROMPT}]},
                {"role": "assistant", "content": null, "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": PROMPT}}]},
                {"role": "tool", "tool_call_id": "c", "content": PROMPT},
            ],
            "tools": [{"type": "function", "function": {"name": "f", "description": PROMPT, "parameters": {"type": "object"}}}],
            "tool_choice": "none",
        }),
    }
}

fn model_at(path: &str) -> &'static str {
    if path.starts_with("/v1/messages") { "c1" } else { "m1" }
}

impl Scene {
    #[track_caller]
    fn new(level: &str, on_stderr: bool) -> Self {
        // Every key is taken: what each call brings is asked of the requests.
        let provider = Provider::with(Setup { key: String::new(), ..Setup::default() });
        provider.always(Script::answer(ANSWER));
        let mut config = Config::new(&provider)
            .models_yaml(&models(&provider))
            .dotenv(&format!("MOCK_API_KEY={PROVIDER_KEY}\nCLAUDE_API_KEY={PROVIDER_KEY}\n"));
        config = config.aexd_yaml(&format!("log_level: {level}\nzone: UTC\n"));
        if on_stderr {
            config = config.flag("--log-stderr");
        }
        let daemon = Daemon::start_with(config);
        Self { provider, daemon, tokens: Vec::new(), said: Vec::new(), on_stderr }
    }

    /// Makes an agent; its token is marked, and stands in that answer alone.
    #[track_caller]
    fn agent(&mut self, name: &str, flags: &[&str]) -> String {
        let made = self.daemon.ctl(["agent", "create", name, "100", "100000", "--json"].iter().chain(flags));
        let token = made.json()["token"].as_str().expect("a token").to_owned();
        self.created(&format!("agent {name}"), made, &token);
        token
    }

    fn created(&mut self, what: &str, made: Output, token: &str) {
        assert_eq!(made.stdout.matches(token).count(), 1, "the answer that creates a token tells it once");
        let rest = format!("{}{}", made.stdout.replace(token, ""), made.stderr);
        self.tokens.push((what.to_owned(), token.to_owned()));
        self.note(&format!("aexctl's answer that creates {what}"), rest.into_bytes(), Echo::Nothing);
    }

    fn note(&mut self, what: &str, bytes: Vec<u8>, echo: Echo) {
        self.said.push(Said { what: what.to_owned(), bytes, echo });
    }

    fn answered(&mut self, what: &str, answer: &Answer, echo: Echo) {
        let mut bytes: Vec<u8> = answer.headers.iter().flat_map(|(name, value)| format!("{name}: {value}\n").into_bytes()).collect();
        bytes.extend_from_slice(&answer.body);
        self.note(what, bytes, echo);
    }

    /// Runs a command that takes and tells no secret.
    fn ctl(&mut self, args: &[&str]) -> Output {
        let mut command = self.daemon.command("aexctl");
        command.args(args).env("AEX_LOG", "trace").env("RUST_LOG", "trace");
        let done = output(command);
        self.note(&format!("aexctl {}", args.join(" ")), format!("{}{}", done.stdout, done.stderr).into_bytes(), Echo::Nothing);
        done
    }

    #[track_caller]
    fn post_as(&mut self, path: &str, headers: &[(&str, &str)], body: &[u8], echo: Echo) -> u16 {
        let headers = [&[("content-type", "application/json")], headers].concat();
        let url = format!("{}{path}", self.daemon.url());
        let answer = client::post_bytes(&url, &headers, body);
        self.answered(&format!("{} for POST {path}", answer.status), &answer, echo);
        answer.status
    }

    #[track_caller]
    fn post(&mut self, path: &str, token: &str, body: &Value, echo: Echo) -> u16 {
        let bearer = format!("Bearer {token}");
        self.post_as(path, &[("authorization", &bearer)], body.to_string().as_bytes(), echo)
    }

    /// The number of the last request that the provider saw with a header.
    #[track_caller]
    fn was_brought(&self, name: &str, value: &str) {
        let request = self.provider.last_request();
        assert_eq!(request.header(name), Some(value), "what the provider saw");
    }

    /// Looks for every mark in all that was written.
    fn search(mut self) {
        self.note("aexd's standard error", self.daemon.stderr().into_bytes(), Echo::Nothing);
        let own: Vec<PathBuf> = ["config/models.yaml", ".env"].iter().map(|name| self.daemon.home().join(name)).collect();
        let written: Vec<PathBuf> = files(self.daemon.scratch()).into_iter().filter(|path| !own.contains(path)).collect();
        let log = if self.on_stderr { "stderr" } else { "aex.log" };
        for name in ["ledger.db", "ledger.db-wal", log, "backup.db", "export.ndjson"] {
            assert!(written.iter().any(|path| path.ends_with(name)), "no {name} in {written:?}");
        }
        for path in written {
            let bytes = fs::read(&path).expect("read a file");
            assert!(!bytes.starts_with(&[0x1f, 0x8b]), "{} is compressed: the search would be blind", path.display());
            self.note(&path.display().to_string(), bytes, Echo::Nothing);
        }
        let seen = Mark::new("what may be seen", SEEN);
        assert!(
            self.said.iter().any(|said| said.what.ends_with("ledger.db") && seen.found(&said.bytes).is_some()),
            "the search finds nothing"
        );
        let fixed = [
            ("the provider's key", PROVIDER_KEY),
            ("the key that a call brings", PASSTHROUGH_KEY),
            ("the client's own key", OWN_KEY),
            ("a header of a provider", HEADER_KEY),
            ("user and password of a base URL", URL_USER),
            ("an idempotency key", IDEMPOTENCY_KEY),
            ("what a query or a foreign header says", QUERY),
            ("a prompt", PROMPT),
            ("an answer", ANSWER),
        ];
        let tokens = self.tokens.iter().map(|(name, token)| (name.as_str(), token.as_str()));
        let mut leaks = Vec::new();
        for (name, secret) in fixed.into_iter().chain(tokens) {
            let mark = Mark::new(name, secret);
            for said in &self.said {
                let is_own = match said.echo {
                    Echo::Nothing => false,
                    Echo::Answer => secret == ANSWER || (secret == PROMPT && !is_a_refusal_of_the_daemon(said)),
                    Echo::Talk => secret == ANSWER || secret == PROMPT,
                };
                if let Some((form, around)) = mark.found(&said.bytes).filter(|_| !is_own) {
                    leaks.push(format!("{name} ({form}) in {}: {around:?}", said.what));
                }
            }
        }
        leaks.dedup();
        assert!(leaks.is_empty(), "{} leaks:\n{}", leaks.len(), leaks.join("\n"));
    }
}

/// Whether an answer is no more than an error in the daemon's own words.
fn is_a_refusal_of_the_daemon(said: &Said) -> bool {
    !said.what.starts_with("200 ") && said.bytes.windows(13).any(|words| words == b"(request req_")
}

#[track_caller]
fn nothing_secret_is_written(level: &str, on_stderr: bool) {
    let mut scene = Scene::new(level, on_stderr);
    let token = scene.agent("bot", &["--allow-passthrough"]);
    scene.calls(&token);
    scene.brought_keys(&token);
    scene.repeats(&token);
    scene.denials(&token);
    scene.failures(&token);
    scene.pages(&token);
    scene.reloads();
    scene.commands(&token);
    scene.daemon.kill9();
    scene.daemon.run();
    scene.repeats(&token);
    scene.search();
}

#[test]
fn nothing_secret_is_written_at_the_level_error() {
    nothing_secret_is_written("error", false);
}

#[test]
fn nothing_secret_is_written_at_the_level_warn() {
    nothing_secret_is_written("warn", false);
}

#[test]
fn nothing_secret_is_written_at_the_level_info() {
    nothing_secret_is_written("info", false);
}

#[test]
fn nothing_secret_is_written_at_the_level_debug() {
    nothing_secret_is_written("debug", false);
}

#[test]
fn nothing_secret_is_written_at_the_level_trace() {
    nothing_secret_is_written("trace", false);
}

#[test]
fn nothing_secret_is_written_to_a_terminal() {
    nothing_secret_is_written("trace", true);
}
