//! One HTTP request to the daemon's own port, over a socket of the standard library.
//!
//! HTTP/1.0, so that the answer ends with the connection and has no chunks to undo.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

/// How long a connection may take: the daemon is on this machine.
const CONNECT: Duration = Duration::from_secs(2);
/// The largest answer that is read.
const MAX_ANSWER: u64 = 8 << 20;

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) content_type: String,
    pub(crate) body: String,
}

/// `GET` without a body, `POST` of JSON with one. `url` begins with `http://`; an empty token sends none.
pub(crate) fn ask(url: &str, token: &str, body: Option<&str>, patience: Duration) -> std::io::Result<Answer> {
    ask_with(url, token, body, &[], patience)
}

/// The same with more headers.
pub(crate) fn ask_with(
    url: &str,
    token: &str,
    body: Option<&str>,
    headers: &[(&str, &str)],
    patience: Duration,
) -> std::io::Result<Answer> {
    let (host, path) = url.trim_start_matches("http://").split_once('/').unwrap_or((url, ""));
    let method = if body.is_some() { "POST" } else { "GET" };
    let mut head = format!("{method} /{path} HTTP/1.0\r\nHost: {host}\r\n");
    if !token.is_empty() {
        head.push_str(&format!("Authorization: Bearer {token}\r\n"));
    }
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if let Some(body) = body {
        head.push_str(&format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len()));
    }
    let address = host.to_socket_addrs()?.next().ok_or(std::io::ErrorKind::AddrNotAvailable)?;
    let mut stream = TcpStream::connect_timeout(&address, CONNECT)?;
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    stream.write_all(format!("{head}\r\n{}", body.unwrap_or_default()).as_bytes())?;
    read(BufReader::new(stream.take(MAX_ANSWER)))
}

fn read(mut answer: impl BufRead) -> std::io::Result<Answer> {
    let mut line = String::new();
    answer.read_line(&mut line)?;
    let status = line.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| std::io::Error::other("the answer is not HTTP"))?;
    let mut content_type = String::new();
    while !line.trim().is_empty() {
        line.clear();
        answer.read_line(&mut line)?;
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-type")
        {
            value.trim().clone_into(&mut content_type);
        }
    }
    let mut body = Vec::new();
    answer.read_to_end(&mut body)?;
    Ok(Answer { status, content_type, body: String::from_utf8_lossy(&body).into_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_to_its_end() {
        let answer = read("HTTP/1.0 402 Payment Required\r\nContent-Type: application/json\r\n\r\n{}".as_bytes());
        let answer = answer.unwrap_or_else(|fault| unreachable!("{fault}"));
        assert_eq!((answer.status, answer.content_type.as_str(), answer.body.as_str()), (402, "application/json", "{}"));
        assert!(read("SSH-2.0\r\n".as_bytes()).is_err());
    }
}
