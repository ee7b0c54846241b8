//! Bodies that were encoded by other encoders than ours, cut anywhere, changed, and far larger than they look.

use super::*;
use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
use proptest::prelude::*;
use std::io::Write;

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zlib(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn raw(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A brotli stream of uncompressed meta-blocks (RFC 7932 §9.2): window of 16 bits, blocks of up to 65,536 bytes, the empty last one.
fn brotli(bytes: &[u8]) -> Vec<u8> {
    let (mut stream, mut held, mut bits) = (Vec::new(), 0_u64, 0_u32);
    let mut put = |value: u64, count: u32, stream: &mut Vec<u8>| {
        held |= value << bits;
        bits += count;
        while bits >= 8 {
            stream.push((held & 0xff) as u8);
            held >>= 8;
            bits -= 8;
        }
        bits
    };
    // WBITS 16.
    put(0, 1, &mut stream);
    for block in bytes.chunks(1 << 16) {
        // ISLAST 0, MNIBBLES 4, MLEN - 1, ISUNCOMPRESSED 1, and zeros up to the next byte.
        put(0, 1, &mut stream);
        put(0, 2, &mut stream);
        put(block.len() as u64 - 1, 16, &mut stream);
        let left = put(1, 1, &mut stream);
        put(0, (8 - left) % 8, &mut stream);
        stream.extend_from_slice(block);
    }
    // ISLAST 1, ISLASTEMPTY 1.
    let left = put(3, 2, &mut stream);
    put(0, (8 - left) % 8, &mut stream);
    stream
}

/// All that comes out of a body that arrives in pieces of so many bytes, and whether it came to its end.
fn decoded(coding: &str, body: &[u8], piece: usize) -> Result<(Vec<u8>, bool), Corrupt> {
    let mut decoder = Decoder::of(coding).unwrap();
    let mut all = Vec::new();
    for piece in body.chunks(piece.max(1)) {
        decoder.push(Bytes::copy_from_slice(piece));
        while let Some(bytes) = decoder.decoded()? {
            assert!(bytes.len() <= STEP);
            all.extend_from_slice(&bytes);
        }
    }
    Ok((all, decoder.is_done()))
}

type Encode = fn(&[u8]) -> Vec<u8>;

const CODERS: [(&str, Encode); 5] = [("gzip", gzip), ("x-gzip", gzip), ("deflate", zlib), ("Deflate", raw), ("br", brotli)];

proptest! {
    #[test]
    fn what_was_encoded_comes_out_again_however_it_is_cut(
        text in proptest::collection::vec(any::<u8>(), 0..2000),
        times in 1_usize..100,
        piece in 1_usize..5000,
    ) {
        let body = text.repeat(times);
        for (coding, encode) in CODERS {
            prop_assert_eq!(decoded(coding, &encode(&body), piece), Ok((body.clone(), true)), "{}", coding);
        }
    }

    #[test]
    fn bytes_of_any_kind_are_decoded_or_refused(body in proptest::collection::vec(any::<u8>(), 0..3000), piece in 1_usize..100) {
        for coding in ["gzip", "deflate", "br"] {
            // No panic, no endless loop.
            drop(decoded(coding, &body, piece));
        }
    }
}

#[test]
fn a_body_that_is_cut_or_changed_is_not_done() {
    let body = b"data: {\"x\":\"some words that are said\"}\n\n".repeat(20);
    for (coding, encode) in CODERS {
        let whole = encode(&body);
        for cut in 1..whole.len() {
            let (some, done) = decoded(coding, &whole[..cut], 7).unwrap();
            assert!(!done && body.starts_with(&some), "{coding} {cut}");
        }
    }
    let mut changed = gzip(&body);
    let last = changed.len() - 1;
    changed[last] ^= 1;
    assert_eq!(decoded("gzip", &changed, 100), Err(Corrupt));
}

#[test]
fn what_came_so_far_is_given_without_waiting_for_more() {
    for coding in ["gzip", "deflate"] {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
        let mut zlib = ZlibEncoder::new(Vec::new(), Compression::default());
        let encoder: &mut dyn Write = if coding == "gzip" { &mut gzip } else { &mut zlib };
        encoder.write_all(b"data: 1\n\n").unwrap();
        encoder.flush().unwrap();
        let sent = if coding == "gzip" { gzip.get_ref() } else { zlib.get_ref() };
        assert_eq!(decoded(coding, sent, 1_000), Ok((b"data: 1\n\n".to_vec(), false)), "{coding}");
    }
}

/// The inflater works in windows of 32 KiB, and may hold the rest of what it has read.
#[test]
fn nothing_that_has_come_is_held_back_however_much_it_becomes() {
    for length in [32_767, 32_768, 32_769, 33_800, 65_536, 65_537, 100_000, 1_000_000] {
        let said = vec![b'a'; length];
        let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
        let mut bare = DeflateEncoder::new(Vec::new(), Compression::default());
        for encoder in [&mut gzip as &mut dyn Write, &mut bare] {
            encoder.write_all(&said).unwrap();
            encoder.flush().unwrap();
        }
        for (coding, sent) in [("gzip", gzip.get_ref()), ("deflate", bare.get_ref())] {
            for cut in 0..4 {
                // The last bytes are those of the flush: without them the words are there just the same.
                let (some, done) = decoded(coding, &sent[..sent.len() - cut], usize::MAX).unwrap();
                let (bytewise, _) = decoded(coding, &sent[..sent.len() - cut], 1).unwrap();
                assert!(!done && some == bytewise, "{coding} {length} {cut}: {} and {}", some.len(), bytewise.len());
            }
            assert_eq!(decoded(coding, sent, usize::MAX), Ok((said.clone(), false)), "{coding} {length}");
        }
        assert_eq!(decoded("deflate", &raw(&said), usize::MAX), Ok((said.clone(), true)), "{length}");
    }
}

#[test]
fn several_members_and_named_files_are_read_and_padding_is_not() {
    let mut named = flate2::GzBuilder::new().filename("a").comment("b").extra("c").write(Vec::new(), Compression::fast());
    named.write_all(b"one ").unwrap();
    let body = [named.finish().unwrap(), gzip(b"two"), vec![0; 100]].concat();
    for piece in [1, 3, 1_000] {
        assert_eq!(decoded("gzip", &body, piece), Ok((b"one two".to_vec(), true)));
    }
}

#[test]
fn a_bomb_is_given_in_steps_and_no_faster_than_it_is_asked_for() {
    let bomb = gzip(&vec![0; 50 << 20]);
    assert!(bomb.len() < 60_000, "{}", bomb.len());
    let mut decoder = Decoder::of("gzip").unwrap();
    decoder.push(bomb.into());
    let mut seen = 0;
    while let Some(bytes) = decoder.decoded().unwrap() {
        assert!(bytes.len() <= STEP && decoder.out.capacity() <= 2 * STEP);
        seen += bytes.len();
    }
    assert!(seen == 50 << 20 && decoder.is_done());
}

#[test]
fn what_is_no_single_known_coding_has_no_decoder() {
    for coding in ["zstd", "compress", "gzip, br", "", "aws-chunked"] {
        assert!(Decoder::of(coding).is_none(), "{coding}");
    }
}
