//! A provider that answers with given bytes: for answers that no HTTP library would send, in the pieces that a test chooses.

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};

/// What becomes of the connection behind an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// It takes the next request.
    Keep,
    /// FIN.
    Close,
    /// RST.
    Reset,
    /// Nothing more, until the other side has gone.
    Hold,
    /// The last piece over and over, until the other side has gone.
    Repeat,
}

/// One answer.
#[derive(Clone, Debug)]
pub struct Raw {
    /// Each is sent by a write of its own.
    pub pieces: Vec<Vec<u8>>,
    /// What comes then.
    pub then: Then,
}

impl Raw {
    /// These bytes in one piece.
    #[must_use]
    pub fn new(bytes: impl Into<Vec<u8>>, then: Then) -> Self {
        Self { pieces: vec![bytes.into()], then }
    }

    /// A whole answer with its length.
    #[must_use]
    pub fn plain(headers: &str, body: impl AsRef<[u8]>) -> Self {
        let body = body.as_ref();
        let head = format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n{headers}\r\n", body.len());
        Self::new([head.as_bytes(), body].concat(), Then::Keep)
    }

    /// A stream in these chunks. Without its last chunk unless the connection is kept.
    #[must_use]
    pub fn stream<'a>(headers: &str, chunks: impl IntoIterator<Item = &'a [u8]>, then: Then) -> Self {
        let head = format!("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n{headers}\r\n");
        let framed = |chunk: &[u8]| [format!("{:x}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat();
        let mut pieces = vec![head.into_bytes()];
        pieces.extend(chunks.into_iter().filter(|chunk| !chunk.is_empty()).map(framed));
        if then == Then::Keep {
            pieces.push(b"0\r\n\r\n".to_vec());
        }
        Self { pieces, then }
    }
}

/// A running provider; its threads end with the test's process.
pub struct RawProvider {
    address: SocketAddr,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Default)]
struct Shared {
    answers: VecDeque<Raw>,
    requests: usize,
}

impl RawProvider {
    /// Starts one on a free port.
    #[must_use]
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind the provider");
        let address = listener.local_addr().expect("a bound socket has an address");
        let shared = Arc::new(Mutex::new(Shared::default()));
        let provider = Self { address, shared: Arc::clone(&shared) };
        drop(std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&shared);
                // A connection's end is the other side's business.
                drop(std::thread::spawn(move || serve(&stream, &shared).is_ok()));
            }
        }));
        provider
    }

    /// `http://127.0.0.1:PORT/v1`, for a `base_url`.
    #[must_use]
    pub fn base_url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// Plans the answer of one coming request; several are taken in order.
    pub fn answer(&self, raw: Raw) {
        self.shared().answers.push_back(raw);
    }

    /// Requests that came so far.
    #[must_use]
    pub fn requests(&self) -> usize {
        self.shared().requests
    }

    fn shared(&self) -> std::sync::MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn serve(stream: &TcpStream, shared: &Mutex<Shared>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut input = BufReader::new(stream.try_clone()?);
    while read_request(&mut input)? {
        let planned = {
            let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
            shared.requests += 1;
            shared.answers.pop_front()
        };
        let Raw { pieces, then } = planned.unwrap_or_else(|| Raw::new("HTTP/1.1 500 Not planned\r\ncontent-length: 0\r\n\r\n", Then::Keep));
        for piece in &pieces {
            { stream }.write_all(piece)?;
        }
        match then {
            Then::Keep => {}
            Then::Hold => drop(input.read_until(0, &mut Vec::new())?),
            Then::Repeat => loop {
                { stream }.write_all(pieces.last().map_or(b"\0", Vec::as_slice))?;
            },
            Then::Close => return stream.shutdown(Shutdown::Both),
            Then::Reset => {
                let linger = nix::libc::linger { l_onoff: 1, l_linger: 0 };
                nix::sys::socket::setsockopt(stream, nix::sys::socket::sockopt::Linger, &linger)?;
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Reads a request with its body. `false` at the connection's end.
fn read_request(input: &mut impl BufRead) -> io::Result<bool> {
    let mut length = 0;
    loop {
        let mut line = String::new();
        if input.read_line(&mut line)? == 0 {
            return Ok(false);
        }
        let line = line.trim_end().to_ascii_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().map_err(io::Error::other)?;
        }
        if line.is_empty() {
            let mut body = vec![0; length];
            input.read_exact(&mut body)?;
            return Ok(true);
        }
    }
}
