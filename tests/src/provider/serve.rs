//! Serves one connection: routes, the key, and the script of each call carried out.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue};
use http::{Method, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;

use super::api::Api;
use super::body::{Gone, Live, Part, Producer, Reply, ResetFlag};
use super::book::{Arrival, Bill, Book, Ended, Gate, Request, Tab};
use super::chat::{self, Answer, Call, Refusal};
use super::messages;
use super::render;
use super::responses::Store;
use super::script::{At, Control, Cut, How, Script};

// Small, so that a bill holds few tokens that the socket did not take yet.
const PARTS: usize = 1;

/// What every connection knows.
pub(super) struct Site {
    pub(super) book: Arc<Book>,
    pub(super) key: String,
    pub(super) models: Vec<String>,
    pub(super) store: Store,
}

pub(super) async fn connection(site: Arc<Site>, stream: impl AsyncRead + AsyncWrite + Unpin + 'static, reset: ResetFlag) {
    let service = service_fn(move |request| answer(Arc::clone(&site), request, reset.clone()));
    // Its error is the client's leaving or a cut that the script asked for: the book knows both.
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await.is_ok();
}

async fn answer(site: Arc<Site>, request: http::Request<Incoming>, reset: ResetFlag) -> Result<Response<Reply>, io::Error> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    if head.uri.path().starts_with("/_") {
        return Ok(control(&site, head.uri.path(), &body).await);
    }
    let api = Api::at(head.uri.path());
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let noted = Request {
        seq: 0,
        method: head.method.to_string(),
        path: head.uri.to_string(),
        headers: head.headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect(),
        body: body.clone(),
    };
    let arrival = site.book.arrive(noted, api.is_some());
    if let Err(refusal) = authorise(&site, &head.headers) {
        let refusal = if head.uri.path().contains("/messages") { refusal.in_anthropics_shape() } else { refusal };
        return Ok(refuse(&site, &refusal, &arrival, api.is_some()));
    }
    if head.uri.path().ends_with("/messages/count_tokens") {
        return Ok(count(&site, &head.headers, &body, &arrival));
    }
    if head.uri.path().contains("/responses/") {
        let (status, body) = site.store.serve(head.method.as_str(), head.uri.path());
        return Ok(reply(status, &body.to_string()));
    }
    let Some(api) = api else { return Ok(models(&site, head.uri.path(), &arrival)) };
    if head.method != Method::POST {
        let message = "Not allowed to call this URL with that method.";
        let refusal = api.shaped(Refusal::new(405, message, None, None));
        return Ok(refuse(&site, &refusal, &arrival, true));
    }
    let checked = api.check(&head.headers, &body).and_then(|mut call| {
        call.prompt_tokens += site.store.before(&call.body)?;
        Ok(call)
    });
    match checked {
        Ok(call) => complete(&site, arrival, call, reset).await,
        Err(refusal) => Ok(refuse(&site, &api.shaped(refusal), &arrival, true)),
    }
}

fn authorise(site: &Site, headers: &http::HeaderMap) -> Result<(), Refusal> {
    let given = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let bearer = given.and_then(|value| value.strip_prefix("Bearer "));
    let key = bearer.or_else(|| headers.get("x-api-key").and_then(|value| value.to_str().ok()));
    if site.key.is_empty() || key == Some(site.key.as_str()) {
        return Ok(());
    }
    let message = "Incorrect API key provided. You can find your API key at your provider's console.";
    Err(Refusal::new(401, message, None, Some("invalid_api_key")))
}

/// Anthropic's count of a message's tokens, which costs nothing.
fn count(site: &Site, headers: &http::HeaderMap, body: &[u8], arrival: &Arrival) -> Response<Reply> {
    let body = serde_json::from_slice(body).unwrap_or_default();
    match messages::check(body, headers) {
        Ok(call) => reply(200, &json!({"input_tokens": call.prompt_tokens}).to_string()),
        Err(refusal) => refuse(site, &refusal.in_anthropics_shape(), arrival, false),
    }
}

fn models(site: &Site, path: &str, arrival: &Arrival) -> Response<Reply> {
    let entry = |name: &str| json!({"id": name, "object": "model", "created": 1_760_000_000, "owned_by": "scripted"});
    let Some((_, rest)) = path.split_once("/models") else {
        return refuse(site, &Refusal::new(404, &format!("Invalid URL ({path})"), None, None), arrival, false);
    };
    let known = site.models.iter().find(|name| rest.strip_prefix('/') == Some(name));
    match known {
        Some(name) => reply(200, &entry(name).to_string()),
        None if rest.is_empty() => {
            let list: Vec<Value> = site.models.iter().map(|name| entry(name)).collect();
            reply(200, &json!({"object": "list", "data": list}).to_string())
        }
        None => refuse(site, &Refusal::new(404, "The model does not exist.", Some("model"), Some("model_not_found")), arrival, false),
    }
}

async fn complete(site: &Site, arrival: Arrival, call: Call, reset: ResetFlag) -> Result<Response<Reply>, io::Error> {
    let Arrival { seq, script, mut gate } = arrival;
    let answer = chat::answer(&call, &script);
    let mut bill = render::bill(&call, &answer, &script, seq);
    if call.stream {
        bill.completion_tokens = 0;
    }
    if call.api == Api::Responses {
        site.store.keep(&call, call.api.voice(&call, &answer, &script, seq).plain());
    }
    let tab = site.book.open(bill);
    let delay = Duration::from_millis(script.delay_ms) + Duration::from_micros(script.delay_us);
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
    if script.hold_head {
        gate.wait().await;
    }
    if let Some(Cut { at: At::Head, how }) = script.cut {
        reset.set(how == How::Reset);
        tab.end(Ended::CutByProvider);
        return Err(io::Error::other("cut by the script"));
    }
    if let Some(status) = script.status {
        return Ok(scripted(status, call.api, &script, tab));
    }
    let pause = Duration::from_micros(script.chunk_delay_us);
    let (parts, read) = mpsc::channel(PARTS);
    let producer = Producer { parts, split: script.split, pause };
    let task = Task { call, answer, script, seq, gate, producer };
    let headers = task.script.headers.clone();
    if task.call.stream {
        drop(tokio::spawn(task.stream()));
        let reply = Reply::Live(Live::new(read, tab, reset, None));
        return Ok(head(200, "text/event-stream; charset=utf-8", &headers, reply));
    }
    let bytes = task.render();
    let reply = if task.is_whole() {
        tab.end(Ended::Complete);
        Reply::Whole(Some(Bytes::from(bytes)))
    } else {
        let length = u64::try_from(bytes.len()).ok();
        drop(tokio::spawn(task.plain(bytes)));
        Reply::Live(Live::new(read, tab, reset, length))
    };
    Ok(head(200, "application/json", &headers, reply))
}

/// An answer that is produced as it is read.
struct Task {
    call: Call,
    answer: Answer,
    script: Script,
    seq: u64,
    gate: Gate,
    producer: Producer,
}

impl Task {
    /// Whether a plain answer goes out in one piece.
    fn is_whole(&self) -> bool {
        self.script.split.is_none() && self.script.cut.is_none() && self.script.hold_after.is_none()
    }

    /// The body of a plain answer.
    fn render(&self) -> Vec<u8> {
        match &self.script.garbage {
            Some(garbage) => garbage.clone().into_bytes(),
            None => self.call.api.voice(&self.call, &self.answer, &self.script, self.seq).plain(),
        }
    }

    async fn stream(mut self) -> Result<(), Gone> {
        let Self { call, answer, script, seq, gate, producer } = &mut self;
        let voice = call.api.voice(call, answer, script, *seq);
        if let Some(garbage) = &script.garbage {
            return producer.send(garbage.clone().into_bytes(), answer.tokens() * call.choices).await;
        }
        for choice in 0..call.choices {
            producer.send(voice.role(choice), answer.silent).await?;
        }
        for index in 0..=answer.pieces.len() {
            if pause(script, gate, producer, index).await? {
                return Ok(());
            }
            if script.error_after == Some(index) {
                return producer.send(voice.error(), 0).await;
            }
            if index == answer.pieces.len() {
                break;
            }
            for choice in 0..call.choices {
                producer.send(voice.piece(choice, index), 1).await?;
            }
        }
        for choice in 0..call.choices {
            producer.send(voice.finish(choice), 0).await?;
        }
        producer.send(voice.usage_chunk(), 0).await?;
        producer.send(voice.done(), 0).await
    }

    async fn plain(mut self, bytes: Vec<u8>) -> Result<(), Gone> {
        let size = self.producer.split.unwrap_or(16).max(1);
        for (index, piece) in bytes.chunks(size).enumerate() {
            if pause(&self.script, &mut self.gate, &self.producer, index).await? {
                return Ok(());
            }
            self.producer.send(piece.to_vec(), 0).await?;
        }
        Ok(())
    }
}

/// Holds or cuts before the chunk of that index. True when the answer was cut.
async fn pause(script: &Script, gate: &mut Gate, producer: &Producer, index: usize) -> Result<bool, Gone> {
    if script.hold_after == Some(index) {
        producer.unless_gone(gate.wait()).await?;
    }
    match script.cut {
        Some(Cut { at: At::Chunk(at), how }) if at == index => {
            producer.part(Part::Cut(how)).await?;
            Ok(true)
        }
        _ => Ok(false),
    }
}

fn scripted(status: u16, api: Api, script: &Script, tab: Tab) -> Response<Reply> {
    tab.end(if status < 400 { Ended::Complete } else { Ended::Refused });
    let message = format!("The script answers {status}.");
    let code = (status == 429).then_some("rate_limit_exceeded");
    let body = script.body.clone().unwrap_or_else(|| api.shaped(Refusal::new(status, &message, None, code)).body.to_string());
    head(status, "application/json", &script.headers, Reply::Whole(Some(Bytes::from(body))))
}

async fn control(site: &Arc<Site>, path: &str, body: &[u8]) -> Response<Reply> {
    match path {
        "/_bills" => reply(200, &json!(site.book.bills()).to_string()),
        "/_requests" => {
            let row = |request: &Request| {
                let body = String::from_utf8_lossy(&request.body);
                json!({"seq": request.seq, "method": request.method, "path": request.path, "headers": request.headers, "body": body})
            };
            let rows: Vec<Value> = site.book.requests().iter().map(row).collect();
            reply(200, &json!(rows).to_string())
        }
        "/_ctl" => match serde_json::from_slice(body) {
            Ok(message) => obey(site, message).await,
            Err(fault) => reply(400, &json!({"error": fault.to_string()}).to_string()),
        },
        _ => reply(404, "{}"),
    }
}

async fn obey(site: &Arc<Site>, message: Control) -> Response<Reply> {
    let book = Arc::clone(&site.book);
    // Waiting blocks a thread: the runtime goes on.
    let waited = match message {
        Control::WaitForRequests(count) => tokio::task::spawn_blocking(move || book.wait_for_requests(count).is_ok()).await,
        Control::WaitForBills(count) => tokio::task::spawn_blocking(move || book.wait_for_bills(count).is_ok()).await,
        Control::Next(script) => {
            book.next(*script);
            Ok(true)
        }
        Control::Always(script) => {
            book.always(*script);
            Ok(true)
        }
        Control::Release => {
            book.release();
            Ok(true)
        }
        Control::Forget => {
            book.forget();
            Ok(true)
        }
    };
    if matches!(waited, Ok(true)) { reply(200, r#"{"ok":true}"#) } else { reply(504, r#"{"error":"deadline passed"}"#) }
}

/// An error answer. A chat call gets its bill, over nothing.
fn refuse(site: &Site, refusal: &Refusal, arrival: &Arrival, chat: bool) -> Response<Reply> {
    if chat {
        let bill = Bill {
            seq: arrival.seq,
            model: String::new(),
            prompt_tokens: 0,
            cached_tokens: 0,
            written_tokens: 0,
            completion_tokens: 0,
            ended: Ended::Open,
        };
        site.book.open(bill).end(Ended::Refused);
    }
    let body = Bytes::from(refusal.body.to_string());
    head(refusal.status, "application/json", &arrival.script.headers, Reply::Whole(Some(body)))
}

fn reply(status: u16, body: &str) -> Response<Reply> {
    head(status, "application/json", &[], Reply::Whole(Some(Bytes::copy_from_slice(body.as_bytes()))))
}

fn head(status: u16, content_type: &'static str, headers: &[(String, String)], reply: Reply) -> Response<Reply> {
    let mut response = Response::new(reply);
    *response.status_mut() = StatusCode::from_u16(status).expect("a script's status is one of HTTP");
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    for (name, value) in headers {
        let name = HeaderName::from_bytes(name.as_bytes()).expect("a script's header name is one");
        let value = HeaderValue::from_str(value).expect("a script's header value is one");
        response.headers_mut().insert(name, value);
    }
    response
}
