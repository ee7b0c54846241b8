//! The provider of the benchmark: answers of about 1 KB, streams of N chunks, delays as told, and a count of the calls it served.
//!
//! It checks nothing and keeps nothing; the scripted provider does. `GET /_count` answers the count, `GET /_shape?chunks=…` changes
//! the shape. Each chunk carries the time of its making as `t<microseconds>;`, from which a driver on this machine reads its delay.

use std::convert::Infallible;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use clap::Args;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use memchr::memmem;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, Sleep, sleep_until};

const THREADS: usize = 2;
const MODEL: &str = "m1-upstream";
const PROMPT_TOKENS: u64 = 120;
const OUTPUT_TOKENS: u64 = 160;
const TEXT: &str = "The daemon sits between the agent and the provider. It asks who is calling, what the call may cost at most, how often \
    the agent called in the last minute, and whether its policy allows the model and the tools that the request names. Then it passes \
    the bytes on, reads the usage that the provider reports, and settles the account. This text has no other purpose than to give the \
    answer the length that a short answer of a real model has, so that the benchmark moves about one thousand bytes in each direction.";

/// How it answers.
#[derive(Args, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shape {
    /// Wait before a plain answer, in microseconds
    #[arg(long, default_value_t = 0)]
    pub latency_us: u64,
    /// Content chunks of a stream
    #[arg(long, default_value_t = 100)]
    pub chunks: u64,
    /// Wait before a stream's first chunk, in microseconds
    #[arg(long, default_value_t = 0)]
    pub first_us: u64,
    /// Wait between two chunks, in microseconds
    #[arg(long, default_value_t = 0)]
    pub chunk_us: u64,
}

impl Shape {
    /// As `/_shape` reads it.
    pub(super) fn query(self) -> String {
        let Self { latency_us, chunks, first_us, chunk_us } = self;
        format!("latency_us={latency_us}&chunks={chunks}&first_us={first_us}&chunk_us={chunk_us}")
    }
}

#[derive(Default)]
struct Site {
    latency_us: AtomicU64,
    chunks: AtomicU64,
    first_us: AtomicU64,
    chunk_us: AtomicU64,
    served: AtomicU64,
}

impl Site {
    fn set(&self, name: &str, value: u64) {
        match name {
            "latency_us" => self.latency_us.store(value, Relaxed),
            "chunks" => self.chunks.store(value, Relaxed),
            "first_us" => self.first_us.store(value, Relaxed),
            "chunk_us" => self.chunk_us.store(value, Relaxed),
            _ => {}
        }
    }

    fn reshape(&self, query: &str) {
        for (name, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
            self.set(name, value.parse().unwrap_or(0));
        }
    }
}

/// Serves on 127.0.0.1 until it is ended; its first line on `out` says where.
///
/// # Errors
/// When it can't listen.
pub fn serve(port: u16, shape: Shape, mut out: impl Write) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(THREADS).enable_all().build()?;
    let site = Arc::new(Site::default());
    site.reshape(&shape.query());
    runtime.block_on(async {
        let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], port))).await?;
        writeln!(out, "listening on {}", listener.local_addr()?)?;
        out.flush()?;
        loop {
            let (stream, _) = listener.accept().await?;
            drop(tokio::spawn(connection(stream, Arc::clone(&site))));
        }
    })
}

async fn connection(stream: TcpStream, site: Arc<Site>) {
    stream.set_nodelay(true).ok();
    let service = service_fn(|request| answer(request, &site));
    // A peer that leaves ends its connection; there is nobody to tell.
    http1::Builder::new().serve_connection(TokioIo::new(stream), service).await.ok();
}

async fn answer(request: Request<Incoming>, site: &Site) -> Result<Response<Answer>, Infallible> {
    match request.uri().path() {
        "/_count" => return Ok(whole(Bytes::from(site.served.load(Relaxed).to_string()))),
        "/_shape" => {
            site.reshape(request.uri().query().unwrap_or_default());
            return Ok(whole(Bytes::from_static(b"ok")));
        }
        _ => {}
    }
    let body = request.into_body().collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let call = site.served.fetch_add(1, Relaxed);
    if flag(&body, b"\"stream\"") {
        return Ok(streamed(Stream::new(site, call, flag(&body, b"\"include_usage\""))));
    }
    let latency = site.latency_us.load(Relaxed);
    if latency > 0 {
        tokio::time::sleep(Duration::from_micros(latency)).await;
    }
    Ok(whole(completion(call)))
}

/// Whether the key's value is `true`.
fn flag(body: &[u8], key: &[u8]) -> bool {
    memmem::find_iter(body, key).any(|at| {
        let rest = body[at + key.len()..].trim_ascii_start();
        rest.strip_prefix(b":").is_some_and(|value| value.trim_ascii_start().starts_with(b"true"))
    })
}

fn whole(body: Bytes) -> Response<Answer> {
    response(Answer::Whole(Some(body)), "application/json")
}

fn streamed(stream: Stream) -> Response<Answer> {
    response(Answer::Stream(stream), "text/event-stream")
}

fn response(answer: Answer, kind: &'static str) -> Response<Answer> {
    let mut response = Response::new(answer);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

fn completion(call: u64) -> Bytes {
    let total = PROMPT_TOKENS + OUTPUT_TOKENS;
    let created = now_us() / 1_000_000;
    Bytes::from(format!(
        r#"{{"id":"chatcmpl-bench{call:016x}","object":"chat.completion","created":{created},"model":"{MODEL}","choices":[{{"index":0,"message":{{"role":"assistant","content":"{TEXT}","refusal":null}},"logprobs":null,"finish_reason":"stop"}}],"usage":{{"prompt_tokens":{PROMPT_TOKENS},"completion_tokens":{OUTPUT_TOKENS},"total_tokens":{total},"prompt_tokens_details":{{"cached_tokens":0}},"completion_tokens_details":{{"reasoning_tokens":0}}}}}}"#
    ))
}

fn now_us() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

enum Answer {
    Whole(Option<Bytes>),
    Stream(Stream),
}

/// Makes each chunk when it is due, without a task or a queue.
struct Stream {
    call: u64,
    next: u64,
    chunks: u64,
    usage: bool,
    every: Duration,
    due: Instant,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Stream {
    fn new(site: &Site, call: u64, usage: bool) -> Self {
        let due = Instant::now() + Duration::from_micros(site.first_us.load(Relaxed));
        let every = Duration::from_micros(site.chunk_us.load(Relaxed));
        Self { call, next: 0, chunks: site.chunks.load(Relaxed), usage, every, due, timer: None }
    }

    fn is_over(&self) -> bool {
        self.next > self.chunks
    }

    fn poll_due(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if Instant::now() >= self.due {
            return Poll::Ready(());
        }
        let due = self.due;
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(due)));
        if timer.deadline() != due {
            timer.as_mut().reset(due);
        }
        timer.as_mut().poll(context)
    }

    fn event(&mut self) -> Bytes {
        let at = self.next;
        self.next += 1;
        if at < self.chunks {
            self.due += self.every;
            let delta = format!(r#"{{"content":"t{};word{at} "}}"#, now_us());
            return Bytes::from(self.chunk(&delta, "null"));
        }
        let mut last = self.chunk("{}", r#""stop""#);
        if self.usage {
            last.push_str(&self.usage_chunk());
        }
        Bytes::from(last + "data: [DONE]\n\n")
    }

    fn chunk(&self, delta: &str, finish: &str) -> String {
        let usage = if self.usage { r#","usage":null"# } else { "" };
        format!(
            "data: {},\"choices\":[{{\"index\":0,\"delta\":{delta},\"logprobs\":null,\"finish_reason\":{finish}}}]{usage}}}\n\n",
            self.head()
        )
    }

    fn usage_chunk(&self) -> String {
        let total = PROMPT_TOKENS + self.chunks;
        format!(
            "data: {},\"choices\":[],\"usage\":{{\"prompt_tokens\":{PROMPT_TOKENS},\"completion_tokens\":{},\"total_tokens\":{total}}}}}\n\n",
            self.head(),
            self.chunks
        )
    }

    fn head(&self) -> String {
        format!(
            r#"{{"id":"chatcmpl-bench{:016x}","object":"chat.completion.chunk","created":1790000000,"model":"{MODEL}","system_fingerprint":"fp_bench""#,
            self.call
        )
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.get_mut() {
            Answer::Whole(body) => Poll::Ready(body.take().map(|body| Ok(Frame::data(body)))),
            Answer::Stream(stream) if stream.is_over() => Poll::Ready(None),
            Answer::Stream(stream) => {
                ready!(stream.poll_due(context));
                Poll::Ready(Some(Ok(Frame::data(stream.event()))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Answer::Whole(body) => body.is_none(),
            Answer::Stream(stream) => stream.is_over(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Answer::Whole(Some(body)) => SizeHint::with_exact(u64::try_from(body.len()).unwrap_or(u64::MAX)),
            Answer::Whole(None) => SizeHint::with_exact(0),
            Answer::Stream(_) => SizeHint::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_counts_only_when_it_is_true() {
        for (body, expected) in [
            (&br#"{"stream":true}"#[..], true),
            (br#"{"stream" : true}"#, true),
            (br#"{"stream":false}"#, false),
            (br#"{"stream_options":{"include_usage":true}}"#, false),
            (br#"{"content":"\"stream\"","stream":true}"#, true),
            (b"{}", false),
        ] {
            assert_eq!(flag(body, b"\"stream\""), expected, "{}", String::from_utf8_lossy(body));
        }
    }
}
