//! Framing against made-up answers, wherever the reads end.

use super::*;
use proptest::prelude::*;

fn head_of(text: &str) -> Result<Option<Head>, Malformed> {
    take_head(&mut BytesMut::from(text.as_bytes()))
}

/// The body behind a head, read in pieces that end where `splits` say; `None` when it is broken or not over.
fn body(answer: &[u8], splits: &[usize]) -> Option<Vec<u8>> {
    let (mut read, mut rest, mut whole) = (BytesMut::new(), answer, Vec::new());
    let mut splits = splits.iter();
    let mut head: Option<Head> = None;
    while !rest.is_empty() {
        let (now, later) = rest.split_at((*splits.next().unwrap_or(&rest.len())).clamp(1, rest.len()));
        rest = later;
        read.extend_from_slice(now);
        if head.is_none() {
            head = take_head(&mut read).ok()?;
        }
        if let Some(head) = &mut head {
            whole.extend_from_slice(&head.framing.take(&mut read).ok()?);
        }
    }
    head.filter(|head| head.framing.is_over() && read.is_empty()).map(|_| whole)
}

fn chunked(pieces: &[Vec<u8>], extension: &str, trailer: &str) -> Vec<u8> {
    let mut answer = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
    for piece in pieces.iter().filter(|piece| !piece.is_empty()) {
        answer.extend_from_slice(format!("{:X}{extension}\r\n", piece.len()).as_bytes());
        answer.extend_from_slice(piece);
        answer.extend_from_slice(b"\r\n");
    }
    answer.extend_from_slice(format!("000{extension}\r\n{trailer}\r\n").as_bytes());
    answer
}

proptest! {
    #[test]
    fn chunks_give_their_data_wherever_the_reads_end(
        pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..12),
        splits in prop::collection::vec(1_usize..30, 0..60),
        extension in prop_oneof![Just(""), Just(";a=\"b\""), Just(" ;x")],
        trailer in prop_oneof![Just(""), Just("x: y\r\n"), Just("x: y\r\nz:\r\n")],
    ) {
        prop_assert_eq!(body(&chunked(&pieces, extension, trailer), &splits), Some(pieces.concat()));
    }

    #[test]
    fn no_bytes_break_it(bytes in prop::collection::vec(any::<u8>(), 0..200), splits in prop::collection::vec(1_usize..50, 0..20)) {
        body(&bytes, &splits);
        let behind = [b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".as_slice(), &bytes].concat();
        body(&behind, &splits);
    }
}

#[test]
fn a_chunk_that_comes_alone_is_not_copied() {
    let mut read = BytesMut::from(b"5\r\nhello\r\n".as_slice());
    let place = read.as_ptr().wrapping_add(3);
    let mut framing = Framing::Chunked(Chunked::default());
    let taken = framing.take(&mut read).unwrap();
    assert_eq!((&*taken, taken.as_ptr()), (b"hello".as_slice(), place));
    assert!(read.is_empty() && !framing.is_over());
}

#[test]
fn what_is_chunked_wrongly_is_refused() {
    for wrong in [
        "\r\n",
        "g\r\n",
        "-1\r\n",
        "+1\r\nx\r\n",
        " 1\r\nx\r\n",
        "0x1\r\nx\r\n",
        "1\nx\r\n",
        "1\r\nxy\r\n",
        "1\r\nx\n",
        "1;a\n",
        "0\r\na\n\r\n",
        "0\r\n\n",
        "10000000000000000\r\n",
    ] {
        let mut framing = Framing::Chunked(Chunked::default());
        assert_eq!(framing.take(&mut BytesMut::from(wrong.as_bytes())), Err(Malformed), "{wrong:?}");
    }
    for (begin, end) in [("1;", "\r\nx\r\n0\r\n\r\n"), ("0\r\n", "\r\n\r\n")] {
        let long = format!("{begin}{}{end}", "a".repeat(17 << 10));
        assert_eq!(Framing::Chunked(Chunked::default()).take(&mut BytesMut::from(long.as_bytes())), Err(Malformed), "{begin:?}");
    }
}

#[test]
fn what_follows_an_answer_is_left_alone() {
    for (head, answer) in [("content-length: 2", "okHTTP/1.1 200"), ("transfer-encoding: chunked", "2\r\nok\r\n0\r\n\r\nHTTP/1.1 200")] {
        let mut read = BytesMut::from(format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n{answer}").as_bytes());
        let mut head = take_head(&mut read).unwrap().unwrap();
        assert_eq!(&*head.framing.take(&mut read).unwrap(), b"ok");
        assert!(head.framing.is_over());
        assert_eq!((&*head.framing.take(&mut read).unwrap(), &*read), (b"".as_slice(), b"HTTP/1.1 200".as_slice()));
    }
}

/// Headers of an answer, and how its body is framed by them: `length 5`, `chunked`, `until close`, or `malformed`; `keeps` behind it.
#[test]
fn a_body_is_framed_in_one_way_or_not_at_all() {
    #[track_caller]
    fn row(head: &str, expected: &str) {
        let read = head_of(&format!("{head}\r\n\r\n")).map(|head| head.expect("a whole head"));
        let told = read.map_or("malformed".to_owned(), |head| {
            let framed = match head.framing {
                Framing::Length(length) => format!("length {length}"),
                Framing::Chunked(_) => "chunked".to_owned(),
                Framing::UntilClose => "until close".to_owned(),
            };
            if head.keeps { format!("{framed} keeps") } else { framed }
        });
        assert_eq!(told, expected, "{head}");
    }
    row("HTTP/1.1 200 OK\r\ncontent-length: 5", "length 5 keeps");
    row("HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: x, Close", "length 5");
    row("HTTP/1.0 200 OK\r\ncontent-length: 5\r\nconnection: keep-alive", "length 5");
    row("HTTP/1.1 200 OK\r\ncontent-length: 5, 5\r\nContent-Length: 5", "length 5 keeps");
    row("HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6", "malformed");
    for length in ["-5", "+5", "5x", "", "0x5", "18446744073709551616"] {
        row(&format!("HTTP/1.1 200 OK\r\ncontent-length: {length}"), "malformed");
    }
    row("HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked", "chunked keeps");
    row("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-length: 5", "chunked");
    row("HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked", "malformed");
    row("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked", "malformed");
    row("HTTP/1.1 200 OK\r\ntransfer-encoding: xchunked", "malformed");
    row("HTTP/1.1 200 OK", "until close");
    row("HTTP/1.1 204 No Content\r\ncontent-length: 5", "length 0 keeps");
    row("HTTP/1.1 304", "length 0 keeps");
    row("HTTP/1.1 101 Switching Protocols", "malformed");
    for broken in [
        "HTTP/2 200 OK",
        "HTTP/1.1 2000 OK",
        "ICY 200 OK",
        "HTTP/1.1 200 OK\r\na b: c",
        "HTTP/1.1 200 OK\r\na : c",
        "HTTP/1.1 200 OK\r\na: b\r\n c",
    ] {
        row(broken, "malformed");
    }
}

#[test]
fn interim_answers_are_passed_over_and_heads_have_a_limit() {
    let head =
        head_of("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
            .unwrap()
            .unwrap();
    assert_eq!((head.parts.status.as_u16(), head.parts.headers.len()), (200, 1));
    assert!(head_of("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 20").unwrap().is_none());
    assert!(head_of(&format!("HTTP/1.1 200 OK\r\na: {}\r\n\r\n", "b".repeat(MAX_HEAD))).is_err());
    assert!(head_of(&format!("HTTP/1.1 200 OK\r\na: {}", "b".repeat(MAX_HEAD))).is_err());
    assert!(head_of(&format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(MAX_HEADERS + 1))).is_err());
}

#[test]
fn a_requests_head_states_its_body_once() {
    let mut headers = HeaderMap::new();
    headers.insert(header::HOST, HeaderValue::from_static("h"));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("7"));
    headers.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    let written =
        |method, bytes| String::from_utf8(request_head(&method, &Uri::from_static("http://x/v1/a?b=c"), &headers, bytes)).unwrap();
    assert_eq!(written(Method::POST, 3), "POST /v1/a?b=c HTTP/1.1\r\nhost: h\r\ncontent-length: 3\r\n\r\n");
    assert_eq!(written(Method::POST, 0), "POST /v1/a?b=c HTTP/1.1\r\nhost: h\r\ncontent-length: 0\r\n\r\n");
    assert_eq!(written(Method::GET, 0), "GET /v1/a?b=c HTTP/1.1\r\nhost: h\r\n\r\n");
}
