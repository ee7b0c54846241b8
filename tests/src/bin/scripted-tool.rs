//! A tool server that does as it is told: it speaks each revision of MCP, and misbehaves in every way that the supervisor has to bear.
//!
//! `ready PATH` of a call names a pipe that the test opens for reading: it is written to when the call has come as far as it should.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::exit, reason = "it is told to fail")]

use clap::Parser;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::io::{self, BufRead, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};

const MODERN: &str = "2026-07-28";

/// How it begins.
#[derive(Parser, Clone)]
struct Flags {
    /// The revision that it speaks.
    #[arg(long, default_value = "2025-11-25")]
    revision: String,
    /// Leave what it does not know unanswered.
    #[arg(long)]
    silent: bool,
    /// End when it is asked which revisions it speaks.
    #[arg(long)]
    dies_of_probe: bool,
    /// End at once, with this code.
    #[arg(long)]
    exit: Option<i32>,
    /// Say this on standard error first.
    #[arg(long)]
    say: Option<String>,
    /// Never answer anything.
    #[arg(long)]
    mute: bool,
    /// Take no notice of SIGTERM and of the end of its input.
    #[arg(long)]
    stubborn: bool,
    /// Offer a tool whose schema is none.
    #[arg(long)]
    bad_tool: bool,
    /// Where more tools stand as JSON, read whenever the list is asked for; one of a known name takes its place.
    #[arg(long)]
    tools: Option<std::path::PathBuf>,
    /// Answer this method with an error; its words stand in the variable SAYS.
    #[arg(long)]
    refuse: Option<String>,
    /// Answer a batch for each request (revision 2025-03-26), with ids as strings.
    #[arg(long)]
    odd: bool,
}

#[derive(Clone)]
struct Tool {
    flags: Flags,
    added: Arc<Mutex<Vec<String>>>,
    cancelled: Arc<Mutex<Vec<Value>>>,
    /// Held by who wants nothing to be read any more.
    reading: Arc<Mutex<()>>,
    listener: Arc<Mutex<Option<Value>>>,
    answers: Arc<Mutex<HashMap<i64, mpsc::Sender<Value>>>>,
    /// Answers that came.
    answered: Arc<AtomicU64>,
}

fn main() {
    let flags = Flags::parse();
    if let Some(text) = &flags.say {
        say(text);
    }
    if let Some(code) = flags.exit {
        std::process::exit(code);
    }
    if flags.stubborn {
        let mut ignored = nix::sys::signal::SigSet::empty();
        ignored.add(nix::sys::signal::Signal::SIGTERM);
        ignored.thread_block().unwrap();
    }
    let (added, cancelled, reading, listener, answers, answered) = Default::default();
    let tool = Tool { flags, added, cancelled, reading, listener, answers, answered };
    for line in io::stdin().lock().lines() {
        let Ok(message) = serde_json::from_str::<Value>(&line.unwrap()) else { continue };
        if !tool.flags.mute {
            tool.take(message);
        }
    }
    if tool.flags.stubborn {
        hang();
    }
}

/// A question (revision 2026-07-28, multi round-trip requests).
fn need() -> Value {
    let schema = json!({"type": "object", "properties": {}});
    let who = json!({"method": "elicitation/create", "params": {"mode": "form", "message": "who?", "requestedSchema": schema}});
    json!({"resultType": "input_required", "inputRequests": {"who": who}, "requestState": "state"})
}

fn hang() -> ! {
    loop {
        std::thread::park();
    }
}

/// A line that is no print: standard error may be closed.
fn say(text: &str) {
    drop(writeln!(io::stderr().lock(), "{text}"));
}

/// What it is told to say in its errors, and of itself.
fn says() -> String {
    std::env::var("SAYS").unwrap_or_default()
}

fn write(bytes: &[u8]) {
    let mut output = io::stdout().lock();
    if output.write_all(bytes).and_then(|()| output.flush()).is_err() {
        std::process::exit(7);
    }
}

fn send(message: &Value) {
    write(format!("{message}\n").as_bytes());
}

impl Tool {
    fn take(&self, message: Value) {
        let id = message.get("id").cloned();
        let method = message.get("method").and_then(Value::as_str).unwrap_or_default().to_owned();
        let params = message.get("params").cloned().unwrap_or_default();
        drop(self.reading.lock().unwrap());
        match (method.as_str(), id) {
            ("", Some(id)) => {
                self.answered.fetch_add(1, Ordering::Relaxed);
                if let Some(waiting) = id.as_i64().and_then(|id| self.answers.lock().unwrap().remove(&id)) {
                    drop(waiting.send(message));
                }
            }
            ("notifications/cancelled", _) => self.cancelled.lock().unwrap().push(params["requestId"].clone()),
            (_, None) => {}
            (refused, Some(id)) if self.flags.refuse.as_deref() == Some(refused) => {
                let data = json!({"said": says()});
                send(&json!({"jsonrpc": "2.0", "id": id, "error": {"code": -32000, "message": says(), "data": data}}));
            }
            ("initialize", Some(id)) if self.flags.revision != MODERN => {
                let name = if says().is_empty() { "scripted".to_owned() } else { says() };
                let info = json!({"name": name, "version": "1"});
                self.answer(
                    &id,
                    json!({
                        "protocolVersion": self.flags.revision,
                        "capabilities": {"tools": {"listChanged": true}, "resources": {}, "prompts": {}},
                        "serverInfo": info,
                        "instructions": "Do as you are told.",
                    }),
                );
            }
            ("server/discover", Some(_)) if self.flags.dies_of_probe => std::process::exit(3),
            ("server/discover", Some(id)) if self.flags.revision == MODERN => self.answer(
                &id,
                json!({
                    "resultType": "complete",
                    "supportedVersions": [MODERN],
                    "capabilities": {"tools": {"listChanged": true}, "resources": {}, "prompts": {}},
                    "ttlMs": 0,
                    "cacheScope": "private",
                    "_meta": {"io.modelcontextprotocol/serverInfo": {"name": "scripted", "version": "1"}},
                }),
            ),
            ("subscriptions/listen", Some(id)) if self.flags.revision == MODERN => {
                *self.listener.lock().unwrap() = Some(id.clone());
                send(&json!({"jsonrpc": "2.0", "method": "notifications/subscriptions/acknowledged", "params": {
                    "notifications": {"toolsListChanged": true},
                    "_meta": {"io.modelcontextprotocol/subscriptionId": id},
                }}));
            }
            ("ping", Some(id)) if self.flags.revision != MODERN && !self.flags.silent => self.answer(&id, json!({})),
            ("tools/list", Some(id)) => self.list(&id, &params),
            ("resources/read", Some(id)) => {
                let contents = json!([{"uri": params["uri"], "text": format!("content of {}", params["uri"])}]);
                self.answer(&id, json!({"contents": contents, "ttlMs": 0, "cacheScope": "private"}));
            }
            ("resources/list", Some(id)) => {
                self.answer(&id, json!({"resources": [{"uri": "memo:a", "name": "a"}], "ttlMs": 0, "cacheScope": "private"}));
            }
            ("resources/templates/list", Some(id)) => {
                let templates = json!([{"uriTemplate": "memo:{name}", "name": "memos"}]);
                self.answer(&id, json!({"resourceTemplates": templates, "ttlMs": 0, "cacheScope": "private"}));
            }
            ("prompts/list", Some(id)) => {
                let prompts = json!([{"name": "greet", "arguments": [{"name": "who"}]}, {"name": "say it loud"}]);
                self.answer(&id, json!({"prompts": prompts, "ttlMs": 0, "cacheScope": "private"}));
            }
            ("prompts/get", Some(id)) => {
                let text = format!("{} {}", params["name"], params["arguments"]);
                let link = json!({"role": "user", "content": {"type": "resource_link", "uri": "memo:a", "name": "a"}});
                self.answer(&id, json!({"messages": [{"role": "user", "content": {"type": "text", "text": text}}, link]}));
            }
            ("tools/call", Some(id)) => {
                let tool = self.clone();
                std::thread::spawn(move || tool.call(&id, &params));
            }
            (_, Some(_)) if self.flags.silent => {}
            (_, Some(id)) => send(&json!({"jsonrpc": "2.0", "id": id, "error": {"code": -32601, "message": "not served"}})),
        }
    }

    fn answer(&self, id: &Value, mut result: Value) {
        if self.flags.revision == MODERN && result.get("resultType").is_none() {
            result["resultType"] = json!("complete");
        }
        if self.flags.odd {
            let id = id.as_i64().unwrap().to_string();
            return send(&json!([{"jsonrpc": "2.0", "id": id, "result": result}]));
        }
        send(&json!({"jsonrpc": "2.0", "id": id, "result": result}));
    }

    fn text(&self, id: &Value, text: &str) {
        self.answer(id, json!({"content": [{"type": "text", "text": text}]}));
    }

    /// Two pages.
    fn list(&self, id: &Value, params: &Value) {
        let tool = |name: &str| json!({"name": name, "inputSchema": {"type": "object"}});
        let mut more = self.more();
        let mut own = |name: &str| {
            let found = more.iter().position(|told| told["name"] == name);
            found.map_or_else(|| tool(name), |at| more.swap_remove(at))
        };
        let (echo, hang, last) = (own("echo"), own("hang"), own("do"));
        if params["cursor"].is_null() {
            return self.answer(id, json!({"tools": [echo, hang], "nextCursor": "more", "ttlMs": 0, "cacheScope": "private"}));
        }
        let mut tools = vec![last];
        tools.append(&mut more);
        tools.extend(self.added.lock().unwrap().iter().map(|name| tool(name)));
        if self.flags.bad_tool {
            tools.push(json!({"name": "bad", "inputSchema": "none"}));
        }
        self.answer(id, json!({"tools": tools, "ttlMs": 0, "cacheScope": "private"}));
    }

    /// The tools that its file has now.
    fn more(&self) -> Vec<Value> {
        let text = self.flags.tools.as_ref().and_then(|path| std::fs::read(path).ok());
        text.map(|text| serde_json::from_slice(&text).unwrap()).unwrap_or_default()
    }

    fn call(&self, id: &Value, params: &Value) {
        let told = &params["arguments"];
        let number = |name: &str| told[name].as_u64().unwrap_or_default();
        let word = |name: &str| told[name].as_str().unwrap_or_default().to_owned();
        if let Some(path) = told["ready"].as_str() {
            std::fs::write(path, "ready\n").unwrap();
        }
        // `do` is listed, and does what any other does.
        let named = params["name"].as_str().unwrap_or_default();
        match if named == "do" { told["as"].as_str().unwrap_or(named) } else { named } {
            "echo" => self.text(id, &word("text")),
            // Reading a pipe with a name waits until somebody opens it for writing.
            "hold" => {
                let mut read = String::new();
                std::fs::File::open(word("path")).unwrap().read_to_string(&mut read).unwrap();
                self.text(id, "released");
            }
            "hang" => hang(),
            "exit" => std::process::exit(i32::try_from(number("code")).unwrap()),
            "answer_and_exit" => {
                self.text(id, "last words");
                std::process::exit(0);
            }
            "abort" => std::process::abort(),
            "flood" => self.flood(id, told),
            "garbage" => {
                write(b"Listening on stdio...\n{\"jsonrpc\":\n[1,2\n\xff\xfe\n{\"id\":99,\"result\":{}}\n\n");
                self.text(id, "after garbage");
            }
            "wrong_shape" => self.answer(id, json!({"content": "no list"})),
            "huge" => {
                let text = "a".repeat(usize::try_from(number("bytes")).unwrap());
                let result = json!({"content": [{"type": "text", "text": text}]});
                // Where the id stands makes a difference to whoever drops the line.
                write(
                    match told["id_first"].as_bool() {
                        Some(true) => format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"result\":{result}}}\n"),
                        _ => format!("{{\"result\":{result},\"jsonrpc\":\"2.0\",\"id\":{id}}}\n"),
                    }
                    .as_bytes(),
                );
            }
            "endless" => loop {
                write(&[b'a'; 64 << 10]);
            },
            "fork" => self.fork(id, told),
            "progress" => {
                let token = &params["_meta"]["progressToken"];
                for step in 1..=number("steps") {
                    send(&json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": {
                        "progressToken": token, "progress": step, "total": number("steps"), "message": format!("step {step}"),
                    }}));
                }
                if told["hang"] == true {
                    hang();
                }
                self.text(id, "done");
            }
            "add" => {
                self.added.lock().unwrap().push(word("tool"));
                let mut params = json!({});
                if let Some(id) = &*self.listener.lock().unwrap() {
                    params = json!({"_meta": {"io.modelcontextprotocol/subscriptionId": id}});
                }
                send(&json!({"jsonrpc": "2.0", "method": "notifications/tools/list_changed", "params": params}));
                self.text(id, "added");
            }
            "exec" => {
                let words: Vec<&str> = told["argv"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
                let done = Command::new(words[0]).args(&words[1..]).stdin(Stdio::null()).output().unwrap();
                let text = [done.stdout, done.stderr].concat();
                self.text(id, &String::from_utf8_lossy(&text));
            }
            "relist" => {
                send(&json!({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"}));
                self.text(id, "told");
            }
            "ask" => self.ask(id, &word("method")),
            "ask_many" => self.ask_many(id, number("count")),
            "ask_unread" => {
                let kept = self.reading.lock().unwrap();
                (0..number("count")).for_each(|number| send(&json!({"jsonrpc": "2.0", "id": 2_000 + number, "method": "roots/list"})));
                self.text(id, "asked");
                drop(kept);
            }
            "answers" => self.text(id, &self.answered.load(Ordering::Relaxed).to_string()),
            // Asks in the answer, and tells all that it is given then.
            "need" if params["inputResponses"].is_null() && params["requestState"].is_null() => self.answer(id, need()),
            "need" => self.text(id, &json!([told, params["inputResponses"], params["requestState"]]).to_string()),
            "cancelled" => {
                let cancelled = self.cancelled.lock().unwrap().len().to_string();
                self.text(id, &cancelled);
            }
            "late" => {
                // The answer of a call that nobody waits for any more.
                let late = self.cancelled.lock().unwrap().pop().unwrap_or_default();
                self.text(&late, "late");
                self.text(id, "told");
            }
            "env" => {
                let mut names: Vec<String> = std::env::vars().map(|(name, value)| format!("{name}={value}")).collect();
                names.sort();
                self.text(id, &names.join("\n"));
            }
            "say" => {
                say(&word("text"));
                self.text(id, "said");
            }
            "stop_reading" => {
                // The main thread waits for this lock with its next line.
                let _kept = self.reading.lock().unwrap();
                self.text(id, "");
                hang();
            }
            "close_output" => {
                nix::unistd::close(1).unwrap();
                hang();
            }
            "structured" => self
                .answer(id, json!({"content": [], "structuredContent": {"text": "a".repeat(usize::try_from(number("bytes")).unwrap())}})),
            "link" => self.answer(id, json!({"content": [{"type": "resource_link", "uri": "memo:a", "name": "a"}]})),
            "pid" => self.text(id, &std::process::id().to_string()),
            other if self.more().iter().any(|tool| tool["name"] == other) => self.text(id, &format!("did {other}")),
            other => send(&json!({"jsonrpc": "2.0", "id": id, "error": {"code": -32602, "message": format!("no tool {other}")}})),
        }
    }

    fn flood(&self, id: &Value, told: &Value) {
        let lines = told["lines"].as_u64().unwrap_or_default();
        let line = "x".repeat(100);
        for number in 0..lines {
            match told["where"].as_str().unwrap_or_default() {
                "stderr" => say(&format!("{number} {line}")),
                "stdout" => write(format!("{number} {line}\n").as_bytes()),
                _ => send(&json!({"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": line}})),
            }
        }
        self.text(id, "flooded");
    }

    /// Children that hold its pipes and outlive it; those in a session of their own leave its group.
    fn fork(&self, id: &Value, told: &Value) {
        let mut pids = Vec::new();
        for _ in 0..told["count"].as_u64().unwrap_or(1) {
            let mut command = Command::new("sleep");
            command.arg("100000").stdin(Stdio::null());
            if told["own_group"] == true {
                command.process_group(0);
            }
            pids.push(command.spawn().unwrap().id().to_string());
        }
        if told["exit"] == true {
            send(&json!({"jsonrpc": "2.0", "id": id, "result": {"content": [{"type": "text", "text": pids.join(" ")}]}}));
            std::process::exit(0);
        }
        self.text(id, &pids.join(" "));
    }

    fn ask(&self, id: &Value, method: &str) {
        let params = match method {
            "sampling/createMessage" => json!({"messages": [{"role": "user", "content": {"type": "text", "text": "hi"}}], "maxTokens": 5}),
            "elicitation/create" => json!({"message": "who?", "requestedSchema": {"type": "object", "properties": {}}}),
            _ => json!({}),
        };
        let (sender, answer) = mpsc::channel();
        self.answers.lock().unwrap().insert(1_000, sender);
        send(&json!({"jsonrpc": "2.0", "id": 1_000, "method": method, "params": params}));
        let answer = answer.recv().unwrap();
        self.text(id, &format!("{}{}", answer["error"]["message"].as_str().unwrap_or_default(), answer["result"]));
    }

    /// Asks so many questions at once, and tells the first answer.
    fn ask_many(&self, id: &Value, count: u64) {
        let (sender, answer) = mpsc::channel();
        let params = json!({"message": "who?", "requestedSchema": {"type": "object", "properties": {}}});
        for number in 2_000..2_000 + i64::try_from(count).unwrap() {
            self.answers.lock().unwrap().insert(number, sender.clone());
            send(&json!({"jsonrpc": "2.0", "id": number, "method": "elicitation/create", "params": params}));
        }
        let answer = answer.recv().unwrap();
        self.text(id, &format!("{}: {}", answer["id"], answer["error"]["message"]));
    }
}
