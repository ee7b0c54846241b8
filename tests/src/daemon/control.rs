//! The admin socket as a test speaks it: one JSON-RPC message a line.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use serde_json::{Value, json};

use super::PATIENCE;

/// One connection to the admin socket.
pub struct Control {
    stream: BufReader<UnixStream>,
    id: u64,
}

impl Control {
    /// Connects.
    #[must_use]
    #[track_caller]
    pub fn open(path: &Path) -> Self {
        let stream = UnixStream::connect(path).unwrap_or_else(|fault| panic!("connect to {}: {fault}", path.display()));
        stream.set_read_timeout(Some(PATIENCE)).expect("set the read deadline");
        Self { stream: BufReader::new(stream), id: 0 }
    }

    /// Sends bytes as they are.
    #[track_caller]
    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.get_mut().write_all(bytes).expect("write to the admin socket");
    }

    /// Sends nothing more, and still reads.
    #[track_caller]
    pub fn says_no_more(&mut self) {
        self.stream.get_mut().shutdown(std::net::Shutdown::Write).expect("shut one way down");
    }

    /// The next message: an answer or a notification. `None` when the daemon hung up.
    #[track_caller]
    pub fn receive(&mut self) -> Option<Value> {
        let mut line = String::new();
        let read = self.stream.read_line(&mut line).expect("a line from the admin socket before the deadline");
        (read > 0).then(|| serde_json::from_str(&line).unwrap_or_else(|fault| panic!("{fault} in {line:?}")))
    }

    /// Calls a method; its result, or its error object. Notifications that come between are dropped.
    #[track_caller]
    pub fn call(&mut self, method: &str, params: &Value) -> Result<Value, Value> {
        self.id += 1;
        let id = self.id;
        let message = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
        self.send(format!("{message}\n").as_bytes());
        loop {
            let mut answer = self.receive().unwrap_or_else(|| panic!("the daemon hung up during {method}"));
            if answer["id"] == id {
                let error = answer["error"].take();
                return if error.is_null() { Ok(answer["result"].take()) } else { Err(error) };
            }
        }
    }
}
