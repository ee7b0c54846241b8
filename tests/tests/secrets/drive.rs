//! What drives the secrets through the daemon: calls, refusals, failures, pages, commands, configurations.

use aex_core::event::Relayed;
use aex_tests::ask;
use aex_tests::client::{self, Connection};
use aex_tests::ledger::{self, End, quiet};
use aex_tests::provider::{At, Cut, How, Script, Usage};
use serde_json::json;

use super::{
    ANSWER, Echo, HEADER_KEY, IDEMPOTENCY_KEY, OWN_KEY, PASSTHROUGH_KEY, POSTS, PROMPT, PROVIDER_KEY, QUERY, SEEN, Scene, URL_USER, body,
    model_at, models,
};

fn key_of(path: &str) -> String {
    if model_at(path) == "c1" { PROVIDER_KEY.to_owned() } else { format!("Bearer {PROVIDER_KEY}") }
}

impl Scene {
    /// Calls that pass, at every endpoint.
    pub(super) fn calls(&mut self, token: &str) {
        for path in POSTS {
            let body = body(path, model_at(path));
            assert_eq!(self.post(path, token, &body, Echo::Answer), 200, "{path}");
            self.was_brought(if model_at(path) == "c1" { "x-api-key" } else { "authorization" }, &key_of(path));
            if !path.ends_with("embeddings") && !path.ends_with("count_tokens") {
                assert_eq!(self.post(path, token, &ask::with(body, &json!({"stream": true})), Echo::Answer), 200, "{path}");
            }
        }
        self.provider
            .script(Script { extra: json!({"output_text_of": PROMPT}).as_object().cloned().unwrap_or_default(), ..Script::default() });
        self.post("/v1/chat/completions", token, &body("", "m1"), Echo::Talk);
    }

    pub(super) fn brought_keys(&mut self, token: &str) {
        let bearer = format!("Bearer {token}");
        let brought = [("authorization", bearer.as_str()), ("x-aex-provider-key", PASSTHROUGH_KEY)];
        for path in ["/v1/chat/completions", "/v1/responses", "/v1/embeddings"] {
            assert_eq!(self.post_as(path, &brought, body(path, "m1").to_string().as_bytes(), Echo::Answer), 200, "{path}");
            self.was_brought("authorization", &format!("Bearer {PASSTHROUGH_KEY}"));
            self.provider.script(Script::error(401));
            assert_eq!(self.post_as(path, &brought, body(path, "m1").to_string().as_bytes(), Echo::Answer), 401, "{path}");
        }
        let own = [("authorization", &*format!("Bearer {OWN_KEY}")), ("x-aex-token", token)];
        assert_eq!(self.post_as("/v1/messages", &own, body("/v1/messages", "c1").to_string().as_bytes(), Echo::Answer), 200);
        self.was_brought("authorization", &format!("Bearer {OWN_KEY}"));
    }

    pub(super) fn repeats(&mut self, token: &str) {
        let bearer = format!("Bearer {token}");
        for path in ["/v1/chat/completions", "/v1/messages"] {
            let key = format!("{IDEMPOTENCY_KEY}{path}");
            let headers = [("authorization", bearer.as_str()), ("idempotency-key", &key)];
            let body = body(path, model_at(path));
            let other = ask::with(body.clone(), &json!({"temperature": 0}));
            // 409 after a restart, and as long as the first has not quite ended.
            for (body, wanted) in [(&body, [200, 409]), (&body, [200, 409]), (&other, [409, 409])] {
                let status = self.post_as(path, &headers, body.to_string().as_bytes(), Echo::Answer);
                assert!(wanted.contains(&status), "{path}: {status}");
            }
        }
    }

    pub(super) fn denials(&mut self, token: &str) {
        let plain = self.agent("plain", &["--no-streaming", "--no-tools", "--allowed-models", "m1,c1"]);
        let poor = self.agent("poor", &[]);
        self.ctl(&["budget", "set", "agent:poor", "0.000001"]);
        let slow = self.agent("slow", &[]);
        self.ctl(&["agent", "update", "slow", "--rpm", "0"]);
        let paused = self.agent("paused", &[]);
        self.ctl(&["agent", "pause", "paused", "--reason", SEEN]);
        let expired = self.agent("expired", &[]);
        self.ctl(&["agent", "delete", "expired"]);
        let mut unknown = token.to_owned();
        let last = unknown.pop();
        unknown.push(if last == Some('0') { '1' } else { '0' });
        self.tokens.push(("a token that nobody has".to_owned(), unknown.clone()));
        for path in POSTS {
            let body = body(path, model_at(path));
            for refused in [&*poor, &slow, &paused, &expired, &unknown, PROVIDER_KEY, PASSTHROUGH_KEY] {
                let status = self.post(path, refused, &body, Echo::Nothing);
                // A count is free.
                let is_free = path.ends_with("count_tokens") && refused == poor;
                assert!(is_free || (401..=429).contains(&status), "{path}: {status}");
            }
            for change in [
                json!({"model": "no-such-model"}),
                json!({"max_tokens": PROMPT, "max_output_tokens": PROMPT}),
                json!({"stream": PROMPT}),
                json!({"messages": PROMPT, "input": {"a": PROMPT}, "prompt": {"a": PROMPT}}),
                json!({"messages": [{"role": PROMPT, "content": PROMPT}], "input": [{"type": PROMPT, "role": PROMPT}]}),
                json!({"tools": PROMPT, "n": PROMPT}),
                json!({"previous_response_id": "resp_of_nobody"}),
                json!({"background": true, "model": "closed"}),
            ] {
                self.post(path, token, &ask::with(body.clone(), &change), Echo::Answer);
                self.post(path, &plain, &ask::with(body.clone(), &change), Echo::Answer);
            }
            let bearer = format!("Bearer {token}");
            let text = body.to_string();
            let cut = text.trim_end_matches('}');
            let twice = text.replacen('{', &format!("{{\"model\":{},", serde_json::to_string(PROMPT).expect("JSON")), 1);
            for broken in [cut.as_bytes(), twice.as_bytes(), PROMPT.as_bytes(), &[PROMPT.as_bytes(), b"\xff"].concat(), b""] {
                let status = self.post_as(path, &[("authorization", &bearer)], broken, Echo::Nothing);
                assert_eq!(status, 400, "{path}");
            }
            for headers in [
                vec![],
                vec![("authorization", token)],
                vec![("x-api-key", token), ("x-aex-provider-key", PASSTHROUGH_KEY)],
                vec![("authorization", &*bearer), ("x-aex-provider-key", "no\tkey"), ("x-aex-token", OWN_KEY)],
                vec![("authorization", &*bearer), ("host", QUERY)],
                vec![("authorization", &*bearer), ("content-encoding", "gzip")],
                vec![("authorization", &*bearer), ("upgrade", "websocket"), ("connection", "upgrade")],
            ] {
                self.post_as(path, &headers, text.as_bytes(), Echo::Answer);
            }
            self.post(&format!("{path}?api_key={QUERY}&token={token}"), token, &body, Echo::Answer);
        }
        let brought = [("authorization", &*format!("Bearer {plain}")), ("x-aex-provider-key", PASSTHROUGH_KEY)];
        assert_eq!(self.post_as("/v1/chat/completions", &brought, body("", "m1").to_string().as_bytes(), Echo::Nothing), 403);
    }

    /// Providers that fail in each way, and say what they were told.
    pub(super) fn failures(&mut self, token: &str) {
        let said = json!({"error": {"message": format!("Incorrect API key: {ANSWER}"), "type": "x", "code": ANSWER}}).to_string();
        let scripts = [
            Script { status: Some(401), body: Some(said.clone()), ..Script::default() },
            Script { status: Some(500), body: Some(ANSWER.to_owned()), ..Script::default() },
            Script { status: Some(503), body: Some(said), ..Script::default() },
            Script { status: Some(302), ..Script::default() }.header("location", &format!("http://127.0.0.1:1/?{QUERY}")),
            Script::cut(At::Head, How::Reset),
            Script { cut: Some(Cut { at: At::Chunk(1), how: How::Close }), ..Script::answer(ANSWER) },
            Script { garbage: Some(ANSWER.to_owned()), ..Script::default() },
            Script { error_after: Some(1), ..Script::answer(ANSWER) },
            Script { usage: Usage::Missing, ..Script::answer(ANSWER) },
            Script {
                usage: Usage::Raw(json!({"prompt_tokens": ANSWER, "new_tokens": {"a": ANSWER}, "input_tokens": 1, ANSWER: 5})),
                ..Script::answer(ANSWER)
            },
            Script::answer(ANSWER).header("x-request-id", SEEN).header("content-type", ANSWER),
        ];
        for path in POSTS {
            for script in &scripts {
                for stream in [false, true] {
                    self.provider.script(script.clone());
                    let body = ask::with(body(path, model_at(path)), &json!({"stream": stream}));
                    self.post(path, token, &body, Echo::Answer);
                }
            }
        }
        // Scripts of calls that were not sent.
        self.provider.forget();
        self.provider.always(Script::answer(ANSWER));
        // A client that leaves: what it was told is counted.
        let mut connection = Connection::open(&self.daemon.url());
        self.provider.script(Script { hold_after: Some(4), ..Script::answer(ANSWER) });
        connection.post_json("/v1/chat/completions", token, &ask::with(body("", "m1"), &json!({"stream": true})));
        assert_eq!(connection.head().expect("a head").status, 200);
        (0..2).for_each(|_| drop(connection.next_data().expect("a stream").expect("a chunk")));
        drop(connection);
        let left = quiet(&self.daemon).pop().expect("a call");
        assert!(matches!(left.end(), End::Charged { relayed: Some(Relayed { tokens: Some(_), .. }), .. }), "{left:?}");
        self.provider.release();
    }

    pub(super) fn pages(&mut self, token: &str) {
        let bearer = format!("Bearer {token}");
        let (authorized, shaped) = ([("authorization", bearer.as_str())], [("x-api-key", token), ("anthropic-version", "2023-06-01")]);
        let stored = client::post_json(&format!("{}/v1/responses", self.daemon.url()), token, &body("/v1/responses", "m1"));
        let stored = format!("/v1/responses/{}", stored.json()["id"].as_str().expect("an id"));
        let root = self.daemon.ctl(["token", "create", "--root", "--scope", "read-only", "--json"]);
        let root_token = root.json()["token"].as_str().expect("a token").to_owned();
        self.created("the root's token", root, &root_token);
        let metrics = format!("Bearer {root_token}");
        let bad = format!("/v1/{QUERY}?token={token}");
        for (method, path, headers) in [
            ("GET", "/", &[][..]),
            ("HEAD", "/", &[]),
            ("GET", "/health", &[]),
            ("GET", "/ready", &[]),
            ("GET", "/dashboard", &[]),
            ("GET", "/metrics", &[]),
            ("GET", "/metrics", &authorized),
            ("GET", "/metrics?format=json", &authorized),
            ("GET", "/metrics", &[("authorization", metrics.as_str())]),
            ("GET", "/metrics?format=json", &[("authorization", metrics.as_str())]),
            ("GET", "/v1/models", &authorized),
            ("GET", "/v1/models?limit=1", &shaped),
            ("GET", "/v1/models/m1", &authorized),
            ("GET", "/v1/models/none", &shaped),
            ("GET", "/v1/models", &[]),
            ("GET", &bad, &authorized),
            ("DELETE", "/v1/chat/completions", &authorized),
            ("OPTIONS", "/v1/messages", &authorized),
            ("GET", &stored, &authorized),
            ("GET", &format!("{stored}/input_items"), &authorized),
            ("DELETE", &stored, &authorized),
            ("GET", &stored, &authorized),
        ] {
            let answer = client::fetch(method, &format!("{}{path}", self.daemon.url()), headers);
            let echo = if path.starts_with("/v1/responses") { Echo::Talk } else { Echo::Nothing };
            self.answered(&format!("{} for {method} {path}", answer.status), &answer, echo);
        }
        for head in [
            "GET /v1/models HTTP/1.1\r\nhost: a b\r\n",
            "GE\u{1}T / HTTP/1.1\r\n",
            "GET / HTTP/9.9\r\n",
            "POST /v1/messages HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n",
        ] {
            let mut connection = Connection::open(&self.daemon.url());
            connection
                .send(format!("{head}authorization: {bearer}\r\nx-aex-provider-key: {PASSTHROUGH_KEY}\r\n\r\n").as_bytes())
                .expect("send");
            let head = connection.head().expect("an answer");
            self.note("an answer to a broken head", format!("{head:?}").into_bytes(), Echo::Nothing);
        }
    }

    pub(super) fn commands(&mut self, token: &str) {
        self.ctl(&["group", "create", "team", "--reason", SEEN]);
        let more = self.daemon.ctl(["token", "create", "bot", "--label", "second", "--json"]);
        let second = more.json()["token"].as_str().expect("a token").to_owned();
        self.created("a second token", more, &second);
        let rotated = self.daemon.ctl(["agent", "rotate-token", "plain", "--json"]);
        let third = rotated.json()["token"].as_str().expect("a token").to_owned();
        self.created("a rotated token", rotated, &third);
        let requests: Vec<String> =
            ledger::events(&self.daemon).iter().filter_map(|event| event["body"]["request"].as_str().map(str::to_owned)).collect();
        assert!(requests.len() > 100, "{} requests", requests.len());
        for request in requests.iter().step_by(requests.len() / 20) {
            self.ctl(&["explain", request]);
            self.ctl(&["explain", request, "--json"]);
        }
        let scratch = self.daemon.scratch().to_path_buf();
        let file = |name: &str| scratch.join(name).to_string_lossy().into_owned();
        let (backup, export, child) = (file("backup.db"), file("export.ndjson"), "test -n \"$OPENAI_API_KEY\" && exit 7");
        let tomorrow = "2000-01-01";
        for args in [
            &["status"][..],
            &["status", "--json"],
            &["metrics", "--json"],
            &["agent", "list", "--verbose"],
            &["agent", "list", "--json"],
            &["agent", "inspect", "bot"],
            &["agent", "inspect", "bot", "--json"],
            &["agent", "env", "bot"],
            &["budget", "show", "--json"],
            &["token", "list"],
            &["token", "list", "--json"],
            &["events", "--limit", "1000", "--json"],
            &["events"],
            &["models", "list"],
            &["models", "check"],
            &["models", "show", "m1"],
            &["config"],
            &["config", "--json"],
            &["policy", "show", "bot", "--json"],
            &["policy", "check"],
            &["doctor"],
            &["doctor", "--json"],
            &["doctor", "--compat", "--json"],
            &["audit"],
            &["audit", "--json"],
            &["export", "--out", &export],
            &["export", "--agent", "bot"],
            &["audit", "--file", &export],
            &["backup", &backup],
            &["ledger", "compact", "--before", tomorrow],
            &["run", "--agent", "bot", "--json", "--", "sh", "-c", child],
            &["version"],
        ] {
            self.ctl(args);
        }
        let doctor = self.daemon.ctl(["doctor", "--compat", "--token", token]);
        self.note("aexctl doctor --compat --token", format!("{}{}", doctor.stdout, doctor.stderr).into_bytes(), Echo::Nothing);
    }

    /// Good and bad configurations: what is wrong with a file is told without the secrets in it.
    pub(super) fn reloads(&mut self) {
        let good = models(&self.provider);
        for text in [
            good.replace("type: openai_compatible\n", &format!("type: openai_compatible\n    api_key: {PROVIDER_KEY}\n")),
            good.replace("headers: {x-canary: ", "headers: {authorization: "),
            good.replace(&format!("{{x-canary: \"{HEADER_KEY}\"}}"), &format!("\"{HEADER_KEY}\"")),
            good.replace(&format!("x-canary: \"{HEADER_KEY}\""), &format!("\"x canary\": \"{HEADER_KEY}\"")),
            good.replace("http://127.0.0.1:1/", &format!("http://{URL_USER}@127.0.0.1:1/")),
            good.replace("http://127.0.0.1:1/", &format!("htp://{URL_USER}@127.0.0.1:x/")),
            good.replace("http://127.0.0.1:1/", &format!("[\"{URL_USER}\"]")),
            good.clone(),
        ] {
            self.daemon.write_models(&text);
            self.ctl(&["models", "reload"]);
            self.ctl(&["config", "--json"]);
        }
        for text in [
            format!("MOCK_API_KEY\n{PROVIDER_KEY}\n"),
            format!("MOCK_API_KEY=\"{PROVIDER_KEY}\n"),
            format!("MOCK_API_KEY={PROVIDER_KEY}\nCLAUDE_API_KEY={PROVIDER_KEY}\n"),
        ] {
            self.daemon.write_dotenv(&text);
            self.ctl(&["models", "reload"]);
            self.ctl(&["doctor"]);
        }
    }
}
