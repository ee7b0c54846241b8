//! Answers of providers in HTTP/1.1: wherever the reads end, head, body and what is left are the same; a body that was framed comes back.

use crate::dice::Dice;
use crate::engine::halves;
use aexd::wire::http1::{Head, MAX_HEAD, take_head};
use bytes::BytesMut;
use std::fmt::Write;

/// Sixteen bytes of choices, and the answer.
pub fn check(bytes: &[u8]) {
    let (mut dice, answer) = halves(bytes);
    hold(&mut dice, answer);
    let (framed, body) = made(&mut dice, answer);
    let told = hold(&mut dice, &framed);
    assert!(told.body == body && told.is_over && told.left == b"HTTP/1.1 2", "{} bytes came back as {told:?}", body.len());
}

/// What was read.
#[derive(Debug, Default, PartialEq, Eq)]
struct Told {
    status: Option<u16>,
    headers: Vec<(String, Vec<u8>)>,
    keeps: bool,
    body: Vec<u8>,
    is_over: bool,
    is_malformed: bool,
    /// Behind a body that is over.
    left: Vec<u8>,
}

fn hold(dice: &mut Dice<'_>, answer: &[u8]) -> Told {
    let whole = read(&[answer]);
    let single: Vec<&[u8]> = answer.chunks(1).collect();
    assert_eq!(whole, read(&single), "byte by byte");
    assert_eq!(whole, read(&dice.cut(answer)), "cut");
    assert!(whole.body.len() <= answer.len(), "no more body than bytes");
    whole
}

fn read(pieces: &[&[u8]]) -> Told {
    let (mut told, mut unread) = (Told::default(), BytesMut::new());
    let mut head: Option<Head> = None;
    for piece in pieces {
        unread.extend_from_slice(piece);
        if head.is_none() {
            match take_head(&mut unread) {
                Ok(taken) => head = taken,
                Err(_) => return Told { is_malformed: true, ..Told::default() },
            }
            assert!(head.is_some() || unread.len() <= MAX_HEAD, "a head has a limit");
        }
        let Some(head) = &mut head else { continue };
        match head.framing.take(&mut unread) {
            Ok(bytes) => told.body.extend_from_slice(&bytes),
            // What came before the fault depends on the reads.
            Err(_) => return Told { is_malformed: true, ..Told::default() },
        }
    }
    let Some(head) = head else { return Told::default() };
    told.status = Some(head.parts.status.as_u16());
    told.headers = head.parts.headers.iter().map(|(name, value)| (name.to_string(), value.as_bytes().to_vec())).collect();
    told.keeps = head.keeps;
    told.is_over = head.framing.is_over();
    if told.is_over {
        told.left = unread.to_vec();
    }
    told
}

/// The bytes as the body of an answer, chunked or with its length, and the begin of another answer behind it.
fn made(dice: &mut Dice<'_>, body: &[u8]) -> (Vec<u8>, Vec<u8>) {
    const EXTRAS: &[&str] = &["", ";a", " ;a=\"b\"", "\t"];
    const TRAILERS: &[&str] = &["", "a: b\r\n", "a:\r\nb: c\r\n"];
    let end = dice.pick(&["\r\n", "\n"]);
    let interim = dice.pick(&["", "HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 103 x\r\nlink: y\r\n\r\n"]);
    let mut answer = format!("{interim}HTTP/1.1 200 OK{end}");
    let mut bytes;
    if dice.once_in(3) {
        write!(answer, "Content-Length: {}{end}{end}", body.len()).expect("a string");
        bytes = [answer.as_bytes(), body].concat();
    } else {
        write!(answer, "transfer-encoding: chunked{end}{end}").expect("a string");
        bytes = answer.into_bytes();
        for chunk in dice.cut(body).into_iter().filter(|chunk| !chunk.is_empty()) {
            bytes.extend_from_slice(format!("{:x}{}\r\n", chunk.len(), dice.pick(EXTRAS)).as_bytes());
            bytes.extend_from_slice(chunk);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(format!("0{}\r\n{}\r\n", dice.pick(EXTRAS), dice.pick(TRAILERS)).as_bytes());
    }
    bytes.extend_from_slice(b"HTTP/1.1 2");
    (bytes, body.to_vec())
}
