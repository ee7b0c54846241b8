//! An agent that speaks MCP to `/mcp`, byte by byte: tests choose the revision, the headers and the order of the messages.

use serde_json::{Value, json};

use crate::client::{Answer, Connection, End, Head};
use crate::daemon::{Daemon, binary};

/// The revisions, the oldest first.
pub const REVISIONS: [&str; 5] = ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25", NEWEST];
/// The one without a handshake.
pub const NEWEST: &str = "2026-07-28";

/// A client of one revision. It keeps nothing but the address, as the server does.
#[derive(Clone, Debug)]
pub struct Mcp {
    url: String,
    token: String,
    revision: &'static str,
}

/// A message whose answer is a stream.
pub struct Streaming {
    connection: Connection,
    /// The head of the answer.
    pub head: Head,
}

impl Mcp {
    /// Of a revision, with a token; an empty one is not sent.
    #[must_use]
    #[track_caller]
    pub fn new(daemon: &Daemon, token: &str, revision: &'static str) -> Self {
        Self { url: daemon.url(), token: token.to_owned(), revision }
    }

    /// A request as this revision has it.
    #[must_use]
    pub fn message(&self, id: u64, method: &str, mut params: Value) -> Value {
        if self.revision == NEWEST {
            let meta = &mut params["_meta"];
            meta["io.modelcontextprotocol/protocolVersion"] = json!(NEWEST);
            meta["io.modelcontextprotocol/clientCapabilities"] = json!({});
            meta["io.modelcontextprotocol/clientInfo"] = json!({"name": "raw", "version": "1"});
        }
        json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params})
    }

    /// The headers of a message. Revision 2026-07-28 repeats what it says in them.
    #[must_use]
    pub fn headers(&self, message: &Value) -> Vec<(String, String)> {
        let mut headers =
            vec![("content-type", "application/json".to_owned()), ("accept", "application/json, text/event-stream".to_owned())];
        if !self.token.is_empty() {
            headers.push(("authorization", format!("Bearer {}", self.token)));
        }
        // The first two revisions do not know the header, and no handshake has it.
        if self.revision >= "2025-06-18" && message["method"] != "initialize" {
            headers.push(("mcp-protocol-version", self.revision.to_owned()));
        }
        if self.revision == NEWEST {
            headers.extend(message["method"].as_str().map(|method| ("mcp-method", method.to_owned())));
            let name = message["params"]["name"].as_str().or(message["params"]["uri"].as_str());
            headers.extend(name.map(|name| ("mcp-name", name.to_owned())));
        }
        headers.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    #[track_caller]
    fn open(&self, message: &Value, more: &[(&str, &str)]) -> Connection {
        let headers = self.headers(message);
        let mut all: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        all.extend(more);
        let mut connection = Connection::open(&self.url);
        connection.request("POST", "/mcp", &all, message.to_string().as_bytes()).expect("send the message");
        connection
    }

    /// Sends a message; the whole answer.
    #[track_caller]
    pub fn post(&self, message: &Value, more: &[(&str, &str)]) -> Answer {
        let answer = self.open(message, more).answer().expect("an answer");
        assert_eq!(answer.end, End::Complete);
        answer
    }

    /// Sends a request; what came of it, `result` or `error` and all.
    #[track_caller]
    pub fn ask(&self, method: &str, params: Value) -> Value {
        let answer = self.post(&self.message(1, method, params), &[]);
        assert_eq!(answer.header("content-type"), Some("application/json"), "{answer}");
        let told = answer.json();
        assert_eq!((&told["jsonrpc"], &told["id"]), (&json!("2.0"), &json!(1)), "{told}");
        told
    }

    /// Sends a request; its result.
    #[track_caller]
    pub fn result(&self, method: &str, params: Value) -> Value {
        let mut told = self.ask(method, params);
        assert!(told["error"].is_null(), "{told}");
        told["result"].take()
    }

    /// Calls a tool; whether the result is an error, and its text.
    #[track_caller]
    pub fn call(&self, tool: &str, arguments: Value) -> (bool, String) {
        said(&self.result("tools/call", json!({"name": tool, "arguments": arguments})))
    }

    /// The names of the tools.
    #[track_caller]
    pub fn tools(&self) -> Vec<String> {
        let listed = self.result("tools/list", json!({}));
        let names = listed["tools"].as_array().expect("tools").iter().map(|tool| tool["name"].as_str().expect("a name").to_owned());
        names.collect()
    }

    /// Sends a request whose answer is a stream.
    #[track_caller]
    pub fn stream(&self, id: u64, method: &str, params: Value) -> Streaming {
        let mut connection = self.open(&self.message(id, method, params), &[]);
        let head = connection.head().expect("the head of an answer");
        Streaming { connection, head }
    }

    /// Sends a request, and does not wait for any of its answer.
    #[track_caller]
    pub fn begin(&self, id: u64, method: &str, params: Value) -> Connection {
        self.open(&self.message(id, method, params), &[])
    }

    /// Opens the stream of older revisions.
    #[track_caller]
    pub fn listen(&self) -> Streaming {
        let bearer = format!("Bearer {}", self.token);
        let headers = [("accept", "text/event-stream"), ("authorization", bearer.as_str()), ("mcp-protocol-version", self.revision)];
        let mut connection = Connection::open(&self.url);
        connection.request("GET", "/mcp", &headers, b"").expect("send the request");
        let head = connection.head().expect("the head of an answer");
        Streaming { connection, head }
    }
}

impl Streaming {
    /// The next message. `None` at the stream's end.
    #[track_caller]
    pub fn message(&mut self) -> Option<Value> {
        loop {
            let data = self.connection.next_data().expect("the stream goes on")?;
            // An event without data says when to come again.
            if !data.is_empty() {
                return Some(serde_json::from_str(&data).expect("a message"));
            }
        }
    }

    /// Leaves.
    pub fn close(self) {
        self.connection.close();
    }
}

/// Whether a result is an error, and its text.
#[must_use]
#[track_caller]
pub fn said(result: &Value) -> (bool, String) {
    let parts = result["content"].as_array().unwrap_or_else(|| panic!("no content: {result}"));
    let text: Vec<&str> = parts.iter().filter_map(|part| part["text"].as_str()).collect();
    (result["isError"] == true, text.join("\n"))
}

/// An mcp.json of servers that are programs of this workspace: name, program, arguments. They are not confined: they are to reach what the
/// test gives them.
#[must_use]
pub fn registry(servers: &[(&str, &str, &[&str])]) -> String {
    let entry = |(name, program, args): &(&str, &str, &[&str])| {
        let command = binary(program).to_string_lossy().into_owned();
        ((*name).to_owned(), json!({"command": command, "args": args, "sandbox": {"level": "none"}}))
    };
    json!({"mcpServers": servers.iter().map(entry).collect::<serde_json::Map<_, _>>()}).to_string()
}
