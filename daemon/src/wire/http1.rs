//! HTTP/1.1 as a client speaks it (RFC 9112): a request's head as bytes, and from bytes an answer's head and the framing of its body.
//!
//! Strict: what two readers could frame in two ways is no answer. Must not: read or write a socket.

mod chunked;

use bytes::{Buf, Bytes, BytesMut};
use chunked::Chunked;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Response, StatusCode, Uri, Version, response};
use memchr::memchr_iter;
use std::io::Write;

/// The longest head of an answer, in bytes.
pub const MAX_HEAD: usize = 64 << 10;
/// Header lines of an answer, at most.
const MAX_HEADERS: usize = 100;

/// It is no answer, or one whose end two readers could see in two places.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no HTTP/1.1 answer")]
pub struct Malformed;

/// The head of a request. A body's length is stated where there is one, and where its absence would mean something else than none.
#[must_use]
pub fn request_head(method: &Method, target: &Uri, headers: &HeaderMap, body_bytes: usize) -> Vec<u8> {
    let path = target.path_and_query().map_or("/", |path| path.as_str());
    let mut head =
        Vec::with_capacity(64 + path.len() + headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum::<usize>());
    for part in [method.as_str(), " ", path, " HTTP/1.1\r\n"] {
        head.extend_from_slice(part.as_bytes());
    }
    for (name, value) in headers.iter().filter(|(name, _)| *name != header::CONTENT_LENGTH && *name != header::TRANSFER_ENCODING) {
        for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            head.extend_from_slice(part);
        }
    }
    if body_bytes > 0 || *method == Method::POST {
        // Writing to memory does not fail.
        write!(head, "content-length: {body_bytes}\r\n").unwrap_or_default();
    }
    head.extend_from_slice(b"\r\n");
    head
}

/// An answer's head, and what follows it.
#[derive(Debug)]
pub struct Head {
    /// Status and headers, as they were sent.
    pub parts: response::Parts,
    /// Where its body ends.
    pub framing: Framing,
    /// Whether the connection can serve again once the body is read.
    pub keeps: bool,
}

/// Takes an answer's head from the front of what was read, interim ones (1xx) before it included; `None` while it is not complete.
///
/// # Errors
/// When it is none, is too long, or frames its body in two ways.
pub fn take_head(read: &mut BytesMut) -> Result<Option<Head>, Malformed> {
    loop {
        let Some(length) = head_length(read) else {
            return if read.len() > MAX_HEAD { Err(Malformed) } else { Ok(None) };
        };
        if length > MAX_HEAD {
            return Err(Malformed);
        }
        let head = parse(read.split_to(length).freeze())?;
        // 101 would make it another protocol, which nobody asked for.
        match head.parts.status {
            StatusCode::SWITCHING_PROTOCOLS => return Err(Malformed),
            status if status.is_informational() => {}
            _ => return Ok(Some(head)),
        }
    }
}

/// Where the first empty line ends. A line may end in a line feed alone (RFC 9112 §2.2).
fn head_length(bytes: &[u8]) -> Option<usize> {
    memchr_iter(b'\n', bytes).find_map(|at| match bytes.get(at + 1..)? {
        [b'\n', ..] => Some(at + 2),
        [b'\r', b'\n', ..] => Some(at + 3),
        _ => None,
    })
}

fn parse(bytes: Bytes) -> Result<Head, Malformed> {
    let mut lines = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut parsed = httparse::Response::new(&mut lines);
    match parsed.parse(&bytes) {
        Ok(httparse::Status::Complete(length)) if length == bytes.len() => {}
        _ => return Err(Malformed),
    }
    let is_latest = parsed.version == Some(1);
    let status = parsed.code.and_then(|code| StatusCode::from_u16(code).ok()).ok_or(Malformed)?;
    let mut response = Response::new(());
    *response.status_mut() = status;
    *response.version_mut() = if is_latest { Version::HTTP_11 } else { Version::HTTP_10 };
    let headers = response.headers_mut();
    headers.reserve(parsed.headers.len());
    for line in parsed.headers.iter() {
        let name = HeaderName::from_bytes(line.name.as_bytes()).map_err(|_| Malformed)?;
        let value = HeaderValue::from_maybe_shared(bytes.slice_ref(line.value)).map_err(|_| Malformed)?;
        headers.append(name, value);
    }
    let (framing, is_certain) = framing(status, headers)?;
    let keeps = is_latest && is_certain && !says(headers, &header::CONNECTION, "close") && !matches!(framing, Framing::UntilClose);
    Ok(Head { parts: response.into_parts().0, framing, keeps })
}

/// How a body is framed (RFC 9112 §6.3), and whether that was said in one way alone.
fn framing(status: StatusCode, headers: &HeaderMap) -> Result<(Framing, bool), Malformed> {
    let length = length(headers)?;
    if status == StatusCode::NO_CONTENT || status == StatusCode::NOT_MODIFIED {
        return Ok((Framing::Length(0), true));
    }
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        // The coding overrides the length; the connection is not trusted with another answer then.
        (Some(coding), None) if coding.as_bytes().eq_ignore_ascii_case(b"chunked") => {
            Ok((Framing::Chunked(Chunked::default()), length.is_none()))
        }
        (Some(_), _) => Err(Malformed),
        (None, _) => Ok((length.map_or(Framing::UntilClose, Framing::Length), true)),
    }
}

/// The length that is stated; said again it must be the same.
fn length(headers: &HeaderMap) -> Result<Option<u64>, Malformed> {
    let mut stated = None;
    for value in headers.get_all(header::CONTENT_LENGTH) {
        let text = value.to_str().map_err(|_| Malformed)?;
        for part in text.split(',').map(str::trim) {
            // `parse` would take a sign.
            let length = part.parse::<u64>().ok().filter(|_| part.bytes().all(|byte| byte.is_ascii_digit())).ok_or(Malformed)?;
            if stated.is_some_and(|before| before != length) {
                return Err(Malformed);
            }
            stated = Some(length);
        }
    }
    Ok(stated)
}

fn says(headers: &HeaderMap, name: &HeaderName, word: &str) -> bool {
    let mut said = headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    said.any(|said| said.trim().eq_ignore_ascii_case(word))
}

/// Where a body ends, and how much of it has come.
#[derive(Debug)]
pub enum Framing {
    /// After so many bytes more.
    Length(u64),
    /// With its last chunk.
    Chunked(Chunked),
    /// With the connection.
    UntilClose,
}

impl Framing {
    /// Takes what stands of the body at the front of what was read. Many chunks become one run of bytes.
    ///
    /// # Errors
    /// When its framing is broken.
    pub fn take(&mut self, read: &mut BytesMut) -> Result<Bytes, Malformed> {
        match self {
            Framing::Length(left) => {
                let taken = read.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= u64::try_from(taken).unwrap_or(*left);
                Ok(read.split_to(taken).freeze())
            }
            Framing::Chunked(chunked) => chunked.take(read),
            Framing::UntilClose => Ok(read.split().freeze()),
        }
    }

    /// Whether all of it has come.
    #[must_use]
    pub const fn is_over(&self) -> bool {
        match self {
            Framing::Length(left) => *left == 0,
            Framing::Chunked(chunked) => chunked.is_over(),
            Framing::UntilClose => false,
        }
    }

    /// Whether it may end with the connection.
    #[must_use]
    pub const fn ends_with_connection(&self) -> bool {
        matches!(self, Framing::UntilClose)
    }
}

/// Drops the first bytes of a buffer, as far as there are so many.
fn drop_front(read: &mut BytesMut, bytes: usize) {
    read.advance(bytes.min(read.len()));
}

#[cfg(test)]
mod tests;
