//! A raw HTTP/1.1 client: tests decide each byte, read chunk by chunk, and see whether an answer ended or broke.

mod answer;

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use serde_json::Value;

pub use self::answer::{Answer, End};

use self::answer::{data_of, find};

/// The longest wait for bytes.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// How long a dripping client looks for an answer between two bytes.
const GLANCE: Duration = Duration::from_millis(20);

/// One connection.
pub struct Connection {
    stream: BufReader<TcpStream>,
    host: String,
    /// What remains of the current answer's body.
    rest: Rest,
    /// Decoded bytes that `next_data` did not use yet.
    line: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rest {
    None,
    Length(u64),
    Chunked,
    UntilClose,
}

/// The head of an answer.
#[derive(Clone, Debug)]
pub struct Head {
    /// 200.
    pub status: u16,
    /// Names in lower case, in order.
    pub headers: Vec<(String, String)>,
}

impl Head {
    /// The first header of that name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }
}

impl Connection {
    /// Connects to `http://HOST:PORT…`.
    #[must_use]
    #[track_caller]
    pub fn open(url: &str) -> Self {
        Self::try_open(url).unwrap_or_else(|fault| panic!("connect to {url}: {fault}"))
    }

    /// Connects to `http://HOST:PORT…`, where nobody may be.
    pub fn try_open(url: &str) -> io::Result<Self> {
        let (host, _) = split_url(url);
        let stream = TcpStream::connect(&host)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream: BufReader::new(stream), host, rest: Rest::None, line: Vec::new() })
    }

    /// Sends bytes as they are. An error is the other side's leaving.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes)
    }

    /// Sends a request with `host`, `content-length` and the given headers.
    pub fn request(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> io::Result<()> {
        let mut bytes = format!("{method} {path} HTTP/1.1\r\nhost: {}\r\n", self.host).into_bytes();
        for (name, value) in headers {
            bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        if method != "GET" && method != "HEAD" {
            bytes.extend_from_slice(format!("content-length: {}\r\n", body.len()).as_bytes());
        }
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(body);
        self.send(&bytes)
    }

    /// Sends a JSON body with a bearer token; an empty token sends none.
    #[track_caller]
    pub fn post_json(&mut self, path: &str, token: &str, body: &Value) {
        let bearer = format!("Bearer {token}");
        let mut headers = vec![("content-type", "application/json")];
        if !token.is_empty() {
            headers.push(("authorization", &bearer));
        }
        self.request("POST", path, &headers, body.to_string().as_bytes()).expect("send the request");
    }

    /// Reads the head of the next answer, past any 1xx.
    pub fn head(&mut self) -> io::Result<Head> {
        loop {
            let head = self.one_head()?;
            if head.status >= 200 {
                self.rest = rest_of(&head);
                return Ok(head);
            }
        }
    }

    /// Reads one head, 1xx or not, and none of what follows it.
    pub fn interim(&mut self) -> io::Result<Head> {
        self.one_head()
    }

    fn one_head(&mut self) -> io::Result<Head> {
        let first = self.read_line()?;
        let status = first.split(' ').nth(1).and_then(|word| word.parse().ok());
        let status = status.ok_or_else(|| io::Error::other(format!("not an HTTP answer: {first:?}")))?;
        let mut headers = Vec::new();
        loop {
            let line = self.read_line()?;
            if line.is_empty() {
                return Ok(Head { status, headers });
            }
            let (name, value) = line.split_once(':').ok_or_else(|| io::Error::other(format!("not a header: {line:?}")))?;
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
    }

    fn read_line(&mut self) -> io::Result<String> {
        let mut line = Vec::new();
        self.stream.read_until(b'\n', &mut line)?;
        if line.pop() != Some(b'\n') {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        Ok(String::from_utf8_lossy(&line).into_owned())
    }

    /// The next bytes of the body: one chunk, or what has arrived. `None` at its end; an error when it broke.
    pub fn next_bytes(&mut self) -> io::Result<Option<Vec<u8>>> {
        match self.rest {
            Rest::None | Rest::Length(0) => Ok(None),
            Rest::Length(left) => {
                let bytes = self.some(left)?;
                if bytes.is_empty() {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                self.rest = Rest::Length(left - length(&bytes));
                Ok(Some(bytes))
            }
            Rest::UntilClose => {
                let bytes = self.some(65536)?;
                Ok((!bytes.is_empty()).then_some(bytes))
            }
            Rest::Chunked => self.next_chunk(),
        }
    }

    fn some(&mut self, most: u64) -> io::Result<Vec<u8>> {
        let held = self.stream.fill_buf()?;
        let take = usize::try_from(most).unwrap_or(usize::MAX).min(held.len());
        let bytes = held.iter().copied().take(take).collect();
        self.stream.consume(take);
        Ok(bytes)
    }

    fn next_chunk(&mut self) -> io::Result<Option<Vec<u8>>> {
        let line = self.read_line()?;
        let digits = line.split(';').next().unwrap_or_default().trim();
        let size = usize::from_str_radix(digits, 16).map_err(|_| io::Error::other(format!("not a chunk size: {line:?}")))?;
        if size == 0 {
            while !self.read_line()?.is_empty() {}
            self.rest = Rest::None;
            return Ok(None);
        }
        let mut bytes = vec![0; size];
        self.stream.read_exact(&mut bytes)?;
        self.read_line()?;
        Ok(Some(bytes))
    }

    /// What follows the next `data:` of a stream. `None` at its clean end; an error when it broke.
    pub fn next_data(&mut self) -> io::Result<Option<String>> {
        loop {
            while let Some(end) = self.line.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.line.drain(..=end).collect();
                if let Some(found) = data_of(String::from_utf8_lossy(&line).trim_end()) {
                    return Ok(Some(found.to_owned()));
                }
            }
            match self.next_bytes()? {
                Some(bytes) => self.line.extend_from_slice(&bytes),
                None => return Ok(None),
            }
        }
    }

    /// Reads an answer to its end. An error only when no head came.
    pub fn answer(&mut self) -> io::Result<Answer> {
        let head = self.head()?;
        let mut body = Vec::new();
        let end = loop {
            match self.next_bytes() {
                Ok(Some(bytes)) => body.extend_from_slice(&bytes),
                Ok(None) => break End::Complete,
                Err(fault) if is_deadline(&fault) => panic!("no byte within {PATIENCE:?}, after {} of the body", body.len()),
                Err(_) => break End::Broken,
            }
        };
        Ok(Answer { status: head.status, headers: head.headers, body, end })
    }

    /// All that still comes, whatever it is, up to the connection's end.
    pub fn rest(&mut self) -> Vec<u8> {
        let mut all = Vec::new();
        // A reset ends it, too.
        if let Err(fault) = self.stream.read_to_end(&mut all) {
            assert!(!is_deadline(&fault), "no end within {PATIENCE:?}, after {} bytes", all.len());
        }
        all
    }

    /// Sends byte after byte of this text, over and over and each behind a glance for an answer, until there is one or the
    /// connection has ended: what came.
    pub fn drip(&mut self, text: &[u8]) -> Vec<u8> {
        let deadline = std::time::Instant::now() + PATIENCE;
        self.stream.get_ref().set_read_timeout(Some(GLANCE)).expect("set the read deadline");
        for byte in text.iter().cycle() {
            assert!(std::time::Instant::now() < deadline, "no end within {PATIENCE:?}");
            if self.send(&[*byte]).is_err() {
                break;
            }
            match self.stream.fill_buf() {
                Err(fault) if is_deadline(&fault) => {}
                _ => break,
            }
        }
        self.stream.get_ref().set_read_timeout(Some(PATIENCE)).expect("set the read deadline");
        self.rest()
    }

    /// Says that nothing more will be sent; the answer can still be read.
    pub fn finish_sending(&mut self) {
        // The other side may have left already.
        let _ = self.stream.get_ref().shutdown(Shutdown::Write).is_ok();
    }

    /// Leaves with FIN.
    pub fn close(self) {
        drop(self);
    }

    /// Leaves with RST.
    pub fn reset(self) {
        let linger = nix::libc::linger { l_onoff: 1, l_linger: 0 };
        let option = nix::sys::socket::sockopt::Linger;
        nix::sys::socket::setsockopt(self.stream.get_ref(), option, &linger).expect("set SO_LINGER");
    }
}

/// Sends a JSON body with a bearer token over a connection of its own.
#[track_caller]
pub fn post_json(url: &str, token: &str, body: &Value) -> Answer {
    let mut connection = Connection::open(url);
    connection.post_json(split_url(url).1, token, body);
    connection.answer().unwrap_or_else(|fault| panic!("POST {url}: {fault}"))
}

/// Sends raw bytes as the body, with more headers.
#[track_caller]
pub fn post_bytes(url: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    let mut connection = Connection::open(url);
    // A server may answer and close before it read a body that is too large.
    let sent = connection.request("POST", split_url(url).1, headers, body);
    connection.answer().unwrap_or_else(|fault| panic!("POST {url}: {fault} (sent: {sent:?})"))
}

/// The same body with `stream: true`.
#[track_caller]
pub fn stream(url: &str, token: &str, body: &Value) -> Answer {
    let mut body = body.clone();
    body["stream"] = Value::Bool(true);
    post_json(url, token, &body)
}

/// Any method without a body.
#[track_caller]
pub fn fetch(method: &str, url: &str, headers: &[(&str, &str)]) -> Answer {
    let mut connection = Connection::open(url);
    connection.request(method, split_url(url).1, headers, b"").unwrap_or_else(|fault| panic!("{method} {url}: {fault}"));
    if method == "HEAD" {
        let head = connection.head().unwrap_or_else(|fault| panic!("{method} {url}: {fault}"));
        return Answer { status: head.status, headers: head.headers, body: Vec::new(), end: End::Complete };
    }
    connection.answer().unwrap_or_else(|fault| panic!("{method} {url}: {fault}"))
}

/// GET with a bearer token; an empty one sends none.
#[track_caller]
pub fn get(url: &str, token: &str) -> Answer {
    let bearer = format!("Bearer {token}");
    let headers = [("authorization", bearer.as_str())];
    fetch("GET", url, if token.is_empty() { &[] } else { &headers })
}

fn rest_of(head: &Head) -> Rest {
    if matches!(head.status, 204 | 304) {
        return Rest::None;
    }
    if head.header("transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked")) {
        return Rest::Chunked;
    }
    head.header("content-length").and_then(|text| text.parse().ok()).map_or(Rest::UntilClose, Rest::Length)
}

fn split_url(url: &str) -> (String, &str) {
    let rest = url.strip_prefix("http://").unwrap_or_else(|| panic!("not a plain http URL: {url}"));
    match rest.find('/') {
        Some(at) => {
            let (host, path) = rest.split_at(at);
            (host.to_owned(), path)
        }
        None => (rest.to_owned(), "/"),
    }
}

fn is_deadline(fault: &io::Error) -> bool {
    matches!(fault.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).expect("a length fits 64 bits")
}
