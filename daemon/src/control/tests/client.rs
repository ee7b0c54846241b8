//! A client of the socket, line by line.

use aex_proto::rpc::ErrorObject;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::path::Path;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::time::timeout;

/// For every wait.
const DEADLINE: Duration = Duration::from_secs(20);

pub(super) struct Client {
    stream: BufReader<UnixStream>,
    notices: VecDeque<Value>,
    calls: i64,
}

impl Client {
    pub(super) async fn connect(path: &Path) -> Client {
        Client { stream: BufReader::new(UnixStream::connect(path).await.unwrap()), notices: VecDeque::new(), calls: 0 }
    }

    pub(super) async fn line(&mut self, text: &str) {
        timeout(DEADLINE, self.stream.write_all(format!("{text}\n").as_bytes())).await.unwrap().unwrap();
    }

    async fn read(&mut self) -> String {
        let mut line = String::new();
        timeout(DEADLINE, self.stream.read_line(&mut line)).await.unwrap().unwrap();
        line
    }

    /// The next line, whatever it is.
    pub(super) async fn next(&mut self) -> Value {
        serde_json::from_str(&self.read().await).unwrap()
    }

    pub(super) async fn is_closed(&mut self) -> bool {
        self.read().await.is_empty()
    }

    pub(super) async fn call(&mut self, method: &str, params: Value) -> Result<Value, ErrorObject> {
        self.calls += 1;
        let id = json!(self.calls);
        self.line(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}).to_string()).await;
        loop {
            let mut line = self.next().await;
            if line["id"] != id {
                self.notices.push_back(line);
                continue;
            }
            return match line.get_mut("error") {
                Some(error) => Err(serde_json::from_value(error.take()).unwrap()),
                None => Ok(line["result"].take()),
            };
        }
    }

    pub(super) async fn refused(&mut self, method: &str, params: Value) -> ErrorObject {
        self.call(method, params).await.unwrap_err()
    }

    /// The parameters of the next notification, which has to be of this name.
    pub(super) async fn notice(&mut self, name: &str) -> Value {
        let mut line = match self.notices.pop_front() {
            Some(line) => line,
            None => self.next().await,
        };
        assert_eq!(line["method"], json!(name), "{line}");
        line["params"].take()
    }

    pub(super) fn has_notices(&self) -> bool {
        !self.notices.is_empty()
    }
}
