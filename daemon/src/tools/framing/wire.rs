//! The transport under the SDK's client: what it sends is written, what the server says is cut into lines, sorted and decoded.
//!
//! Answers are decoded by what was asked; progress goes straight to its call, before the answer that follows it; what is no message is
//! told to the server's log.

use super::finder::Whose;
use super::flood::Allowance;
use super::lines::{Cut, Lines};
use super::outbox::Outbox;
use super::seen::{Activity, Junk, Odd, Progress, Seen};
use crate::os::clock;
use rmcp::RoleClient;
use rmcp::model::{
    CallToolResult, ClientJsonRpcMessage, ClientNotification, ClientRequest, CustomResult, ErrorCode, ErrorData, GetExtensions, GetMeta,
    JsonRpcMessage, JsonRpcRequest, NumberOrString, ProgressNotificationParam, RequestId, ServerJsonRpcMessage, ServerNotification,
    ServerRequest, ServerResult,
};
use rmcp::transport::Transport;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::{HashMap, HashSet, VecDeque};
use std::future::ready;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::net::unix::pipe::Receiver;
use tokio::time::{Sleep, sleep};

/// The code of an answer that was too long: made here, never sent. JSON-RPC leaves codes of this size to nobody.
pub(in crate::tools) const RESULT_TOO_LARGE: ErrorCode = ErrorCode(i32::MIN);
/// The code of an answer that could not be decoded.
pub(in crate::tools) const BAD_ANSWER: ErrorCode = ErrorCode(i32::MIN + 1);
/// The code of a request that was too long to send.
pub(in crate::tools) const TOO_LARGE: ErrorCode = ErrorCode(i32::MIN + 2);
/// The code of a request that could not be written.
pub(in crate::tools) const NOT_READ: ErrorCode = ErrorCode(i32::MIN + 3);

/// Requests of a server that may wait for their answers; further ones are refused at once.
const MAX_ASKED: usize = 64;
/// JSON-RPC leaves codes from -32000 to -32099 to implementations.
const BUSY: ErrorCode = ErrorCode(-32000);

/// A request that waits for its answer.
#[derive(Debug)]
struct Waiting {
    kind: Kind,
    token: Option<i64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Call,
    Tools,
    Other,
}

/// One message, before it is known what it is.
#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(default)]
    id: Option<RequestId>,
    #[serde(borrow, default)]
    method: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    params: Option<&'a RawValue>,
    #[serde(borrow, default)]
    result: Option<&'a RawValue>,
    #[serde(default)]
    error: Option<ErrorData>,
}

/// The pipes of a server as the SDK's client sees them.
pub(in crate::tools) struct Wire {
    pipe: Receiver,
    lines: Lines,
    outbox: Arc<Outbox>,
    limit: usize,
    waiting: HashMap<RequestId, Waiting>,
    progress: HashMap<i64, Activity>,
    /// Requests of the server that wait for their answers.
    asked: HashSet<RequestId>,
    decoded: VecDeque<ServerJsonRpcMessage>,
    allowance: Allowance,
    probe: Probe,
    seen: Arc<Seen>,
    junk: Junk,
}

/// The first `server/discover`, which a server of an older revision may leave unanswered.
enum Probe {
    Ahead(Duration),
    Sent(RequestId, Pin<Box<Sleep>>),
    Over(Option<RequestId>),
}

impl Wire {
    /// Over these pipes. `limit` is the longest message in bytes, `probe` how long the first `server/discover` may stay unanswered; `junk` is
    /// told lines that are no message.
    pub(in crate::tools) fn new(pipe: Receiver, outbox: Arc<Outbox>, limit: usize, probe: Duration, seen: Arc<Seen>, junk: Junk) -> Wire {
        seen.endless.store(false, Ordering::Relaxed);
        Wire {
            pipe,
            lines: Lines::new(limit),
            outbox,
            limit,
            waiting: HashMap::new(),
            progress: HashMap::new(),
            asked: HashSet::new(),
            decoded: VecDeque::new(),
            allowance: Allowance::new(clock::mono()),
            probe: Probe::Ahead(probe),
            seen,
            junk,
        }
    }

    fn write(&mut self, message: &ClientJsonRpcMessage) -> io::Result<()> {
        let mut text = serde_json::to_vec(message)?;
        if text.len() > self.limit {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        text.push(b'\n');
        self.outbox.push(text)
    }

    /// Notes what is sent before it is sent.
    fn note(&mut self, message: &ClientJsonRpcMessage) {
        match message {
            JsonRpcMessage::Request(request) => self.expect(&request.id, &request.request),
            JsonRpcMessage::Notification(notification) => {
                if let ClientNotification::CancelledNotification(cancelled) = &notification.notification
                    && let Some(id) = &cancelled.params.request_id
                {
                    self.forget(id);
                }
            }
            JsonRpcMessage::Response(response) => drop(self.asked.remove(&response.id)),
            JsonRpcMessage::Error(error) => drop(error.id.as_ref().map(|id| self.asked.remove(id))),
        }
    }

    /// Takes a request of the server, unless too many wait for their answers. One that does not read its answers gets none either.
    fn take_request(&mut self, request: JsonRpcRequest<ServerRequest>) {
        if self.asked.len() < MAX_ASKED && !self.outbox.is_behind(MAX_ASKED) && self.asked.insert(request.id.clone()) {
            self.decoded.push_back(JsonRpcMessage::Request(request));
            return;
        }
        if !self.outbox.is_behind(MAX_ASKED) {
            let fault = ErrorData::new(BUSY, format!("denied: {MAX_ASKED} requests wait for their answers"), None);
            // Whether it can be told makes no difference.
            drop(self.write(&JsonRpcMessage::error(fault, Some(request.id))));
        }
    }

    fn expect(&mut self, id: &RequestId, request: &ClientRequest) {
        let kind = match request {
            ClientRequest::CallToolRequest(_) => Kind::Call,
            ClientRequest::ListToolsRequest(_) => Kind::Tools,
            _ => Kind::Other,
        };
        let mut token = None;
        if let Some(activity) = request.extensions().get::<Activity>()
            && let Some(rmcp::model::ProgressToken(NumberOrString::Number(number))) = request.get_meta().get_progress_token()
        {
            token = Some(number);
            self.progress.insert(number, activity.clone());
        }
        if let (ClientRequest::DiscoverRequest(_), Probe::Ahead(time)) = (request, &self.probe) {
            self.probe = Probe::Sent(id.clone(), Box::pin(sleep(*time)));
        }
        self.waiting.insert(id.clone(), Waiting { kind, token });
    }

    fn forget(&mut self, id: &RequestId) -> Option<Waiting> {
        let waiting = self.waiting.remove(id)?;
        if let Some(token) = waiting.token {
            self.progress.remove(&token);
        }
        if matches!(&self.probe, Probe::Sent(probe, _) if probe == id) {
            self.probe = Probe::Over(Some(id.clone()));
        }
        Some(waiting)
    }

    /// Ends a request without its answer.
    fn fail(&mut self, id: &RequestId, code: ErrorCode, message: String) {
        if self.forget(id).is_some() {
            let fault = ErrorData::new(code, message, None);
            self.decoded.push_back(JsonRpcMessage::error(fault, Some(id.clone())));
        }
    }

    fn too_long(&mut self, whose: Whose) {
        self.seen.oversize.fetch_add(1, Ordering::Relaxed);
        if !self.seen.endless.load(Ordering::Relaxed) {
            (self.junk)(Odd::TooLong);
        }
        let failed = match whose {
            Whose::Server => Vec::new(),
            Whose::Answer(id) => vec![self.plain(id)],
            Whose::Unknown => self.waiting.keys().cloned().collect(),
        };
        for id in failed {
            self.fail(&id, RESULT_TOO_LARGE, "result too large".to_owned());
        }
    }

    /// The id as it was sent: some servers answer a number with a string of it.
    fn plain(&self, id: RequestId) -> RequestId {
        match &id {
            NumberOrString::String(text) if !self.waiting.contains_key(&id) => text.parse().map_or(id.clone(), NumberOrString::Number),
            _ => id,
        }
    }

    /// Takes a line; false when nobody waited for it.
    fn take(&mut self, line: &[u8]) -> bool {
        let line = line.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(line).trim_ascii();
        match line.first() {
            None => true,
            Some(b'{') => self.take_one(line),
            // Revision 2025-03-26 has batches.
            Some(b'[') => match serde_json::from_slice::<Vec<&RawValue>>(line) {
                Ok(batch) => batch.iter().filter(|one| self.take_one(one.get().as_bytes())).count() > 0,
                Err(_) => self.drop_junk(line),
            },
            Some(_) => self.drop_junk(line),
        }
    }

    fn take_one(&mut self, text: &[u8]) -> bool {
        let Ok(envelope) = serde_json::from_slice::<Envelope<'_>>(text) else { return self.drop_junk(text) };
        let Envelope { id, method, params, result, error } = envelope;
        match (method.as_deref(), id) {
            (Some("notifications/progress"), None) => self.take_progress(params),
            (None, Some(id)) if result.is_some() || error.is_some() => self.take_answer(id, result, error),
            _ => match serde_json::from_slice::<ServerJsonRpcMessage>(text) {
                Ok(JsonRpcMessage::Request(request)) => {
                    self.take_request(request);
                    false
                }
                Ok(message) => {
                    // The SDK answers a request no more that was taken back.
                    if let JsonRpcMessage::Notification(told) = &message
                        && let ServerNotification::CancelledNotification(cancelled) = &told.notification
                        && let Some(id) = &cancelled.params.request_id
                    {
                        self.asked.remove(id);
                    }
                    self.decoded.push_back(message);
                    false
                }
                Err(_) => self.drop_junk(text),
            },
        }
    }

    fn take_answer(&mut self, id: RequestId, result: Option<&RawValue>, error: Option<ErrorData>) -> bool {
        let id = self.plain(id);
        let Some(waiting) = self.forget(&id) else {
            self.seen.late.fetch_add(1, Ordering::Relaxed);
            if matches!(&self.probe, Probe::Over(Some(probe)) if *probe == id) && result.is_some() {
                self.seen.probed_late.store(true, Ordering::Relaxed);
            }
            return false;
        };
        self.seen.answered_ms.store(clock::mono_ms(), Ordering::Relaxed);
        self.decoded.push_back(match (result, error) {
            (_, Some(error)) => JsonRpcMessage::error(error, Some(id)),
            (result, None) => match decode(waiting.kind, result.map_or("null", RawValue::get)) {
                Ok(result) => JsonRpcMessage::response(result, id),
                Err(fault) => JsonRpcMessage::error(ErrorData::new(BAD_ANSWER, fault.to_string(), None), Some(id)),
            },
        });
        true
    }

    fn take_progress(&mut self, params: Option<&RawValue>) -> bool {
        let Some(params) = params.and_then(|params| serde_json::from_str::<ProgressNotificationParam>(params.get()).ok()) else {
            return false;
        };
        let token = match &params.progress_token.0 {
            NumberOrString::Number(number) => Some(*number),
            NumberOrString::String(text) => text.parse().ok(),
        };
        if let Some(activity) = token.and_then(|token| self.progress.get(&token)) {
            activity.at_ms.store(clock::mono_ms(), Ordering::Relaxed);
            if let Some(to) = &activity.progress {
                let told = Progress { progress: params.progress, total: params.total, message: params.message };
                // A caller that does not keep up misses some.
                drop(to.try_send(told));
            }
        }
        false
    }

    fn drop_junk(&mut self, text: &[u8]) -> bool {
        self.seen.junk.fetch_add(1, Ordering::Relaxed);
        (self.junk)(Odd::Line(text));
        false
    }

    /// Nobody waits for what is skipped, so it is read at the rate of what is said unasked.
    fn look_at_skipped(&mut self) {
        let (is_skipping, bytes) = self.lines.skipped();
        if bytes > 0 {
            self.allowance.spend(bytes);
        }
        if !self.seen.endless.swap(is_skipping, Ordering::Relaxed) && is_skipping {
            (self.junk)(Odd::TooLong);
        }
    }

    /// Waits for more bytes, or for the probe's end; false at the end of the stream.
    async fn read(&mut self) -> bool {
        let probe = async {
            match &mut self.probe {
                Probe::Sent(id, time) => {
                    time.as_mut().await;
                    id.clone()
                }
                Probe::Ahead(_) | Probe::Over(_) => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            readable = self.pipe.readable() => match readable.and_then(|()| self.pipe.try_read_buf(self.lines.room())) {
                Ok(count) => count > 0,
                Err(fault) => fault.kind() == io::ErrorKind::WouldBlock || fault.kind() == io::ErrorKind::Interrupted,
            },
            id = probe => {
                self.fail(&id, ErrorCode::METHOD_NOT_FOUND, "not answered in time".to_owned());
                true
            }
        }
    }
}

fn decode(kind: Kind, result: &str) -> serde_json::Result<ServerResult> {
    match kind {
        Kind::Call => match serde_json::from_str::<CallToolResult>(result) {
            Ok(result) => Ok(ServerResult::CallToolResult(result)),
            // It may want input first. What is neither tells what it is not.
            Err(fault) => match serde_json::from_str::<ServerResult>(result) {
                Ok(other @ (ServerResult::InputRequiredResult(_) | ServerResult::CreateTaskResult(_))) => Ok(other),
                _ => Err(fault),
            },
        },
        // Tools are decoded one by one: a bad one takes none of the others away.
        Kind::Tools => Ok(ServerResult::CustomResult(CustomResult(serde_json::from_str(result)?))),
        Kind::Other => serde_json::from_str(result),
    }
}

impl Transport<RoleClient> for Wire {
    type Error = io::Error;

    fn send(&mut self, message: ClientJsonRpcMessage) -> impl Future<Output = io::Result<()>> + Send + 'static {
        self.note(&message);
        let mut sent = self.write(&message);
        // The SDK's client hears of a request that was not sent as of any other that failed.
        if let (Err(fault), JsonRpcMessage::Request(request)) = (&sent, &message) {
            let code = if fault.kind() == io::ErrorKind::FileTooLarge { TOO_LARGE } else { NOT_READ };
            self.fail(&request.id, code, fault.to_string());
            sent = Ok(());
        }
        ready(sent)
    }

    async fn receive(&mut self) -> Option<ServerJsonRpcMessage> {
        loop {
            if let Some(message) = self.decoded.pop_front() {
                return Some(message);
            }
            match self.lines.cut() {
                Some(Cut::Line(range)) => {
                    let length = range.len();
                    let lines = std::mem::replace(&mut self.lines, Lines::new(0));
                    let is_awaited = self.take(lines.bytes(&range));
                    self.lines = lines;
                    if !is_awaited {
                        self.allowance.spend(length);
                    }
                    continue;
                }
                Some(Cut::TooLong(whose)) => {
                    self.too_long(whose);
                    self.allowance.spend(self.limit);
                    continue;
                }
                None => self.look_at_skipped(),
            }
            if let Some(rest) = self.allowance.rest(clock::mono()) {
                sleep(rest).await;
            }
            // One server that talks without end leaves room for the others of this thread.
            tokio::task::consume_budget().await;
            if !self.read().await {
                return None;
            }
        }
    }

    async fn close(&mut self) -> io::Result<()> {
        self.outbox.close();
        Ok(())
    }
}
