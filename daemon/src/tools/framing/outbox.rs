//! What is written to a server: at once where its pipe has room, else by a task of its own, within bounds of size and time.

use super::super::lock;
use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::unix::pipe::Sender;
use tokio::sync::watch;

/// The writing end of a server's standard input.
#[derive(Debug)]
pub(in crate::tools) struct Outbox {
    state: Mutex<State>,
    /// Bytes that may wait.
    limit: usize,
    /// How long a server may read nothing while something waits.
    patience: Duration,
    is_stuck: watch::Sender<bool>,
}

#[derive(Debug)]
struct State {
    pipe: Option<Arc<Sender>>,
    waiting: VecDeque<Vec<u8>>,
    /// Bytes of the first one that are written.
    written: usize,
    bytes: usize,
    is_pumping: bool,
}

impl Outbox {
    pub(in crate::tools) fn new(pipe: Sender, limit: usize, patience: Duration) -> Arc<Outbox> {
        let state = State { pipe: Some(Arc::new(pipe)), waiting: VecDeque::new(), written: 0, bytes: 0, is_pumping: false };
        Arc::new(Outbox { state: Mutex::new(state), limit, patience, is_stuck: watch::Sender::new(false) })
    }

    /// Writes a message, or puts it in line. Never waits.
    ///
    /// # Errors
    /// When the pipe is closed, or too much waits already: the server does not read.
    pub(super) fn push(self: &Arc<Outbox>, message: Vec<u8>) -> io::Result<()> {
        let mut state = lock(&self.state);
        if state.pipe.is_none() {
            return Err(io::ErrorKind::NotConnected.into());
        }
        if !state.waiting.is_empty() && state.bytes.saturating_add(message.len()) > self.limit {
            return Err(io::Error::other("the server does not read its input"));
        }
        state.bytes = state.bytes.saturating_add(message.len());
        state.waiting.push_back(message);
        if state.is_pumping {
            return Ok(());
        }
        if !state.write()? {
            state.is_pumping = true;
            drop(tokio::spawn(Arc::clone(self).pump()));
        }
        Ok(())
    }

    /// Whether more than so many messages wait to be read.
    pub(super) fn is_behind(&self, count: usize) -> bool {
        lock(&self.state).waiting.len() > count
    }

    /// Closes the pipe: the server reads the end of its input. What waits is dropped.
    pub(in crate::tools) fn close(&self) {
        let mut state = lock(&self.state);
        state.pipe = None;
        state.waiting = VecDeque::new();
    }

    /// Waits until the server has read nothing for too long.
    pub(in crate::tools) async fn stuck(&self) {
        let mut is_stuck = self.is_stuck.subscribe();
        if is_stuck.wait_for(|is_stuck| *is_stuck).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    async fn pump(self: Arc<Outbox>) {
        loop {
            let Some(pipe) = lock(&self.state).pipe.clone() else { return };
            match tokio::time::timeout(self.patience, pipe.writable()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return self.close(),
                Err(_) => {
                    self.is_stuck.send_replace(true);
                    return;
                }
            }
            let mut state = lock(&self.state);
            match state.write() {
                Ok(false) => {}
                Ok(true) => {
                    state.is_pumping = false;
                    return;
                }
                Err(_) => {
                    state.pipe = None;
                    return;
                }
            }
        }
    }
}

impl State {
    /// Writes as much as the pipe takes; true when nothing is left.
    fn write(&mut self) -> io::Result<bool> {
        let Some(pipe) = self.pipe.clone() else { return Ok(true) };
        while let Some(first) = self.waiting.front() {
            let rest = first.get(self.written..).unwrap_or_default();
            if rest.is_empty() {
                self.bytes = self.bytes.saturating_sub(first.len());
                self.waiting.pop_front();
                self.written = 0;
                continue;
            }
            match pipe.try_write(rest) {
                Ok(count) => self.written = self.written.saturating_add(count),
                Err(fault) if fault.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(fault) => return Err(fault),
            }
        }
        Ok(true)
    }
}
