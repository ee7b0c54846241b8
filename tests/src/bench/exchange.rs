//! One request and its answer on a kept connection, with no more HTTP than the benchmark's peers speak: Content-Length and chunked.
//!
//! A frame that arrives is shown at once; nothing is kept.

use std::io::{Error, ErrorKind, Result};
use std::net::SocketAddr;

use memchr::memchr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const BUFFER: usize = 64 << 10;

/// One kept connection.
pub(super) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
    from: usize,
    to: usize,
}

struct Head {
    status: u16,
    length: Option<usize>,
    chunked: bool,
}

impl Connection {
    pub(super) async fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: vec![0; BUFFER], from: 0, to: 0 })
    }

    /// Sends a request, shows each piece of the answer's body, and answers the status.
    pub(super) async fn call(&mut self, request: &[u8], mut show: impl FnMut(&[u8])) -> Result<u16> {
        self.stream.write_all(request).await?;
        let head = self.head().await?;
        if head.chunked {
            loop {
                let size = self.chunk_size().await?;
                if size == 0 {
                    break;
                }
                self.pass(size, &mut show).await?;
                self.line().await?;
            }
            self.line().await?;
        } else {
            let length = head.length.ok_or_else(|| broken("an answer without a length"))?;
            self.pass(length, &mut show).await?;
        }
        Ok(head.status)
    }

    async fn head(&mut self) -> Result<Head> {
        let (from, to) = self.line().await?;
        let status = self.buffer[from..to].get(9..12).and_then(number).ok_or_else(|| broken("a status line"))?;
        let mut head = Head { status: u16::try_from(status).unwrap_or(0), length: None, chunked: false };
        loop {
            let (from, to) = self.line().await?;
            let line = &self.buffer[from..to];
            if line.is_empty() {
                return Ok(head);
            }
            let Some(colon) = memchr(b':', line) else { return Err(broken("a header")) };
            let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
            if name.eq_ignore_ascii_case(b"content-length") {
                head.length = number(value);
            } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
                head.chunked = value.eq_ignore_ascii_case(b"chunked");
            }
        }
    }

    async fn chunk_size(&mut self) -> Result<usize> {
        let (from, to) = self.line().await?;
        let text = std::str::from_utf8(&self.buffer[from..to]).map_err(|_| broken("a chunk size"))?;
        usize::from_str_radix(text.trim(), 16).map_err(|_| broken("a chunk size"))
    }

    async fn pass(&mut self, mut length: usize, show: &mut impl FnMut(&[u8])) -> Result<()> {
        while length > 0 {
            if self.from == self.to {
                self.fill().await?;
            }
            let end = self.to.min(self.from + length);
            show(&self.buffer[self.from..end]);
            length -= end - self.from;
            self.from = end;
        }
        Ok(())
    }

    /// Where the next line lies in the buffer, without its end.
    async fn line(&mut self) -> Result<(usize, usize)> {
        let mut seen = 0;
        loop {
            if let Some(at) = memchr(b'\n', &self.buffer[self.from + seen..self.to]) {
                let (from, end) = (self.from, self.from + seen + at);
                self.from = end + 1;
                let carriage = end > from && self.buffer[end - 1] == b'\r';
                return Ok((from, if carriage { end - 1 } else { end }));
            }
            seen = self.to - self.from;
            self.fill().await?;
        }
    }

    /// Reads more behind what is there. It may move what is there to the buffer's begin.
    async fn fill(&mut self) -> Result<()> {
        if self.from == self.to {
            (self.from, self.to) = (0, 0);
        } else if self.to == self.buffer.len() {
            self.buffer.copy_within(self.from..self.to, 0);
            (self.from, self.to) = (0, self.to - self.from);
        }
        let read = self.stream.read(&mut self.buffer[self.to..]).await?;
        if read == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        self.to += read;
        Ok(())
    }
}

fn number(digits: &[u8]) -> Option<usize> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

fn broken(what: &str) -> Error {
    Error::new(ErrorKind::InvalidData, format!("{what} was expected"))
}
