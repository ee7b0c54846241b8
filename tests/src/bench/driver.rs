//! The load: N connections, each in a closed loop, on one thread. Answers one line of JSON.
//!
//! Warm-up calls count for the target's CPU, not for rates and latencies. Latency is from the request's first byte to the answer's last.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::Args;
use memchr::{memchr, memmem};
use tokio::sync::Barrier;
use tokio::task::LocalSet;

use super::exchange::Connection;
use super::sample::{Counts, Quantiles, Report};

const PROMPT: &str = "Say in three sentences what stands between an agent and its provider, and what it must never do. ";
/// Beyond the planned end, for what is still in flight.
const PATIENCE: Duration = Duration::from_secs(30);

/// One run of the driver.
#[derive(Args, Clone, Debug)]
pub struct Load {
    /// Where to call
    #[arg(long)]
    pub address: SocketAddr,
    /// The agent's token; empty sends none
    #[arg(long, default_value = "")]
    pub token: String,
    /// Connections
    #[arg(long, default_value_t = 1)]
    pub connections: usize,
    /// Seconds that count
    #[arg(long, default_value_t = 2.0)]
    pub secs: f64,
    /// Seconds before, that don't
    #[arg(long, default_value_t = 0.3)]
    pub warm_secs: f64,
    /// One call per connection, all at once, instead of a time
    #[arg(long)]
    pub once: bool,
    /// Ask for streams
    #[arg(long)]
    pub stream: bool,
    /// Content chunks that a whole stream has
    #[arg(long, default_value_t = 100)]
    pub chunks: u64,
    /// Bytes of the request's body, about
    #[arg(long, default_value_t = 1000)]
    pub body_bytes: usize,
    /// The status that is right
    #[arg(long, default_value_t = 200)]
    pub expect: u16,
}

struct Job {
    load: Load,
    request: Vec<u8>,
    begin: Barrier,
    tally: RefCell<Tally>,
}

#[derive(Default)]
struct Tally {
    counts: Counts,
    latency_us: Vec<u32>,
    first_us: Vec<u32>,
    delay_us: Vec<u32>,
    fault: Option<String>,
    /// When the last counted call ended.
    last: Option<Instant>,
}

/// Runs it to its end.
///
/// # Errors
/// When no runtime can be made.
pub fn drive(load: Load) -> io::Result<Report> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let connections = load.connections;
    let patience = Duration::from_secs_f64(load.secs + load.warm_secs) + PATIENCE;
    let request = request(&load);
    let job = Rc::new(Job { load, request, begin: Barrier::new(connections + 1), tally: RefCell::default() });
    let tasks = LocalSet::new();
    let all: Vec<_> = (0..connections).map(|_| tasks.spawn_local(connection(Rc::clone(&job)))).collect();
    let mut ended = 0;
    let mut began = Instant::now();
    let run = async {
        job.begin.wait().await;
        began = Instant::now();
        for task in all {
            task.await.expect("a connection's task ends");
            ended += 1;
        }
    };
    let in_time = runtime.block_on(async { tasks.run_until(tokio::time::timeout(patience, run)).await.is_ok() });
    let mut tally = job.tally.take();
    if !in_time {
        tally.counts.io += u64::try_from(connections - ended).unwrap_or(u64::MAX);
        tally.fault = Some(format!("{} connections did not end in time", connections - ended));
    }
    Ok(tally.report(&job.load, began))
}

async fn connection(job: Rc<Job>) {
    // All are open before the first request: a burst is one of requests, not of handshakes.
    let mut open = Connection::open(job.load.address).await.ok();
    job.begin.wait().await;
    let warm = Instant::now() + Duration::from_secs_f64(if job.load.once { 0.0 } else { job.load.warm_secs });
    let end = warm + Duration::from_secs_f64(job.load.secs);
    loop {
        let mut connection = match open.take() {
            Some(connection) => connection,
            None => match Connection::open(job.load.address).await {
                Ok(connection) => connection,
                Err(fault) => return job.tally.borrow_mut().failed(&fault),
            },
        };
        let began = Instant::now();
        let mut watch = Watch::new(began, job.load.once);
        let result = connection.call(&job.request, |piece| watch.see(piece)).await;
        let now = Instant::now();
        let counts = job.load.once || (now > warm && now <= end);
        let mut tally = job.tally.borrow_mut();
        tally.counts.sent += 1;
        match result {
            Ok(status) => {
                tally.answered(&job.load, status, &watch, counts.then_some((began, now)));
                open = Some(connection);
            }
            Err(fault) => tally.failed(&fault),
        }
        if job.load.once || now >= end {
            return;
        }
    }
}

impl Tally {
    fn failed(&mut self, fault: &io::Error) {
        self.counts.io += 1;
        self.fault.get_or_insert_with(|| fault.to_string());
    }

    fn answered(&mut self, load: &Load, status: u16, watch: &Watch, counted: Option<(Instant, Instant)>) {
        if status != load.expect {
            self.counts.wrong_status += 1;
            self.fault.get_or_insert_with(|| format!("status {status}: {}", String::from_utf8_lossy(&watch.begin)));
            return;
        }
        self.counts.right += 1;
        self.counts.chunks += watch.chunks;
        if load.stream && !(watch.done && watch.chunks == load.chunks) {
            self.counts.broken += 1;
            self.fault.get_or_insert_with(|| format!("a stream of {} chunks, done: {}", watch.chunks, watch.done));
        }
        if let Some((began, now)) = counted {
            self.counts.counted += 1;
            self.last = Some(now);
            self.latency_us.push(micros(now - began));
            self.first_us.extend(watch.first.map(|first| micros(first - began)));
            self.delay_us.extend_from_slice(&watch.delays);
        }
    }

    fn report(mut self, load: &Load, began: Instant) -> Report {
        let took = self.last.map_or(0.0, |last| (last - began).as_secs_f64());
        Report {
            counts: self.counts,
            secs: if load.once { took } else { load.secs },
            latency_us: Quantiles::of(&mut self.latency_us),
            first_us: Quantiles::of(&mut self.first_us),
            delay_us: Quantiles::of(&mut self.delay_us),
            fault: self.fault,
        }
    }
}

/// What one answer's body shows as it passes.
struct Watch {
    timed: bool,
    began: Instant,
    first: Option<Instant>,
    /// The line that is not whole yet.
    line: Vec<u8>,
    begin: Vec<u8>,
    chunks: u64,
    done: bool,
    delays: Vec<u32>,
}

impl Watch {
    fn new(began: Instant, timed: bool) -> Self {
        Self { timed, began, first: None, line: Vec::new(), begin: Vec::new(), chunks: 0, done: false, delays: Vec::new() }
    }

    fn see(&mut self, piece: &[u8]) {
        if self.first.is_none() {
            self.first = Some(Instant::now().max(self.began));
            self.begin.extend_from_slice(&piece[..piece.len().min(200)]);
        }
        let mut rest = piece;
        while let Some(at) = memchr(b'\n', rest) {
            if self.line.is_empty() {
                self.line_ended(&rest[..at]);
            } else {
                let mut line = std::mem::take(&mut self.line);
                line.extend_from_slice(&rest[..at]);
                self.line_ended(&line);
                line.clear();
                self.line = line;
            }
            rest = &rest[at + 1..];
        }
        self.line.extend_from_slice(rest);
    }

    fn line_ended(&mut self, line: &[u8]) {
        let Some(event) = line.strip_prefix(b"data: ") else { return };
        if event == b"[DONE]" {
            self.done = true;
        } else if let Some(at) = memmem::find(event, b"\"content\":\"t") {
            self.chunks += 1;
            if self.timed {
                self.delays.push(delay_us(&event[at + 12..]));
            }
        }
    }
}

/// Since the time that a chunk carries; 0 when it carries none.
fn delay_us(stamped: &[u8]) -> u32 {
    let digits = stamped.split(|byte| *byte == b';').next().unwrap_or_default();
    let made = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok()).map(Duration::from_micros);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    made.map_or(0, |made| micros(now.saturating_sub(made)))
}

fn micros(span: Duration) -> u32 {
    u32::try_from(span.as_micros()).unwrap_or(u32::MAX)
}

fn request(load: &Load) -> Vec<u8> {
    let stream = if load.stream { r#","stream":true"# } else { "" };
    let frame = |text: &str| {
        format!(
            r#"{{"model":"m1","messages":[{{"role":"system","content":"You are terse."}},{{"role":"user","content":"{text}"}}],"temperature":0.2,"max_tokens":256{stream}}}"#
        )
    };
    let fill = load.body_bytes.saturating_sub(frame("").len());
    let text: String = PROMPT.chars().cycle().take(fill).collect();
    let body = frame(&text);
    let token = if load.token.is_empty() { String::new() } else { format!("authorization: Bearer {}\r\n", load.token) };
    let (address, length) = (load.address, body.len());
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\naccept: */*\r\nuser-agent: aex-bench\r\n\
         content-length: {length}\r\n{token}\r\n{body}"
    )
    .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_counted_alike_however_it_is_cut() {
        let stream = b"data: {\"content\":\"t1;a \"}\n\ndata: {\"content\":\"t2;b \"}\n\ndata: {}\n\ndata: [DONE]\n\n";
        for size in 1..=stream.len() {
            let mut watch = Watch::new(Instant::now(), true);
            stream.chunks(size).for_each(|piece| watch.see(piece));
            assert_eq!((watch.chunks, watch.done, watch.delays.len()), (2, true, 2), "pieces of {size}");
        }
    }
}
