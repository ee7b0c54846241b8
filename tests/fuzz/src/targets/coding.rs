//! Compressed answers: any cutting gives the same bytes, a step gives no more than its most, and the whole no more than its format can.

use crate::dice::Dice;
use crate::engine::halves;
use aex_proto::value::Digest;
use aexd::wire::coding::{Decoder, STEP};
use bytes::Bytes;
use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
use std::fmt;
use std::io::Write;

const CODINGS: &[&str] = &["gzip", "deflate", "br"];
/// What is decoded of one body: a small one may hold as much as a provider likes.
const MOST: usize = 64 * STEP;
/// RFC 1951 allows no more than 258 bytes for two bits.
const MOST_PER_BYTE: usize = 1032;

/// Sixteen bytes of choices, and the body: as it came, and compressed.
pub fn check(bytes: &[u8]) {
    let (mut dice, body) = halves(bytes);
    let coding = dice.pick(CODINGS);
    let whole = decoded(coding, &[body]);
    let pieces = dice.cut(body);
    assert_eq!(whole, decoded(coding, &pieces), "{coding}: cut");
    let single: Vec<&[u8]> = body.chunks(1).collect();
    assert_eq!(whole, decoded(coding, &single), "{coding}: byte by byte");
    if coding != "br" {
        assert!(whole.bytes.len() <= body.len() * MOST_PER_BYTE, "{coding}: {} of {}", whole.bytes.len(), body.len());
    }
    round(&mut dice, body);
}

fn round(dice: &mut Dice<'_>, body: &[u8]) {
    let level = Compression::new(u32::try_from(dice.below(10)).unwrap_or(0));
    let (coding, packed) = match dice.below(3) {
        0 => ("gzip", {
            let mut to = GzEncoder::new(Vec::new(), level);
            to.write_all(body).expect("memory");
            to.finish().expect("memory")
        }),
        1 => ("deflate", {
            let mut to = ZlibEncoder::new(Vec::new(), level);
            to.write_all(body).expect("memory");
            to.finish().expect("memory")
        }),
        _ => ("deflate", {
            let mut to = DeflateEncoder::new(Vec::new(), level);
            to.write_all(body).expect("memory");
            to.finish().expect("memory")
        }),
    };
    let pieces = dice.cut(&packed);
    let back = decoded(coding, &pieces);
    // Bare deflate whose first two bytes happen to be a header of zlib's format is read as that.
    let is_ambiguous = coding == "deflate" && begins_as_zlib(&packed) && !back.is_done;
    assert!(
        is_ambiguous || (back.bytes == body && back.is_done && !back.is_corrupt),
        "{coding}: {} bytes came back as {back:?}",
        body.len()
    );
}

fn begins_as_zlib(packed: &[u8]) -> bool {
    matches!(packed, [one, two, ..] if one & 0x0f == 8 && u16::from_be_bytes([*one, *two]).is_multiple_of(31))
}

/// What came of a body.
#[derive(PartialEq, Eq)]
struct Told {
    bytes: Vec<u8>,
    is_done: bool,
    is_corrupt: bool,
}

impl fmt::Debug for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Told { bytes, is_done, is_corrupt } = self;
        write!(f, "{} bytes ({}), done {is_done}, corrupt {is_corrupt}", bytes.len(), Digest::of(bytes))
    }
}

fn decoded(coding: &str, pieces: &[&[u8]]) -> Told {
    let mut decoder = Decoder::of(coding).expect("known");
    let mut told = Told { bytes: Vec::new(), is_done: false, is_corrupt: false };
    for piece in pieces {
        decoder.push(Bytes::copy_from_slice(piece));
        loop {
            match decoder.decoded() {
                Ok(Some(step)) => {
                    assert!(!step.is_empty() && step.len() <= STEP, "a step of {}", step.len());
                    told.bytes.extend_from_slice(&step);
                }
                Ok(None) => break,
                Err(_) => {
                    // How much came before it is seen depends on the cutting.
                    told.bytes.clear();
                    told.is_corrupt = true;
                    return told;
                }
            }
            if told.bytes.len() >= MOST {
                told.bytes.truncate(MOST);
                return told;
            }
        }
    }
    told.is_done = decoder.is_done();
    told
}
