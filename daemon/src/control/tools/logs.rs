//! What servers of tools say, as it comes.

use crate::control::connection::Lines;
use crate::tools::supervisor::{LogLine, Stream};
use aex_proto::frame;
use aex_proto::method::ToolLine;
use aex_proto::rpc::Request;
use aex_proto::tool::{self, LogPushed, LogStream};
use std::collections::VecDeque;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

/// A subscription that is about to begin.
pub(in crate::control) struct Following {
    pub(in crate::control) subscription: u64,
    pub(super) server: String,
    pub(super) receiver: Receiver<LogLine>,
    /// Lines of the reply, which may come once more.
    pub(super) shown: VecDeque<LogLine>,
}

/// Pushes lines until the client goes. One that reads too slowly misses lines, and is told how many.
pub(in crate::control) async fn follow(following: Following, lines: Lines) {
    let Following { subscription, server, mut receiver, mut shown } = following;
    let mut missed: u64 = 0;
    loop {
        let line = match receiver.recv().await {
            Ok(line) if *line.server == *server => line,
            Ok(_) => continue,
            Err(RecvError::Lagged(count)) => {
                missed = missed.saturating_add(count);
                continue;
            }
            Err(RecvError::Closed) => return,
        };
        if let Some(at) = shown.iter().position(|known| *known == line) {
            // All before it have been there, too.
            shown.drain(..=at);
            continue;
        }
        let pushed = LogPushed { subscription, line: Some(told(&line)), missed: std::mem::take(&mut missed) };
        let Ok(request) = Request::notice::<ToolLine>(&pushed) else { return };
        let Ok(bytes) = frame::line(&request) else { return };
        if lines.send(bytes).await.is_err() {
            return;
        }
    }
}

pub(super) fn told(line: &LogLine) -> tool::LogLine {
    let stream = match line.stream {
        Stream::Daemon => LogStream::Daemon,
        Stream::Stderr => LogStream::Stderr,
        Stream::Stdout => LogStream::Stdout,
    };
    tool::LogLine { at: line.at, pid: line.pid, stream, text: line.text.clone() }
}
