//! Content codings: what a provider compressed although identity was asked, bytes → bytes, as they arrive (RFC 9110 §8.4.1).
//!
//! Bounded: each step gives at most [`STEP`] bytes however small what it read was, and holds one window (32 KiB, brotli at most
//! 16 MiB). Must not: know what the bytes say.

mod gzip;

use self::gzip::Gzip;
use brotli_decompressor::{BrotliDecompressStream, BrotliResult, BrotliState, StandardAlloc};
use bytes::{Bytes, BytesMut};
use flate2::{Decompress, FlushDecompress, Status};

/// The most bytes that one step gives.
pub const STEP: usize = 64 << 10;

/// The bytes are none of their coding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Corrupt;

/// The decoder of one body.
pub struct Decoder {
    coding: Coding,
    /// What has come and was not decoded yet.
    input: Bytes,
    /// The decoder may hold bytes that the last step did not give.
    may_hold: bool,
    /// Something has come.
    is_any: bool,
    out: Vec<u8>,
}

enum Coding {
    Gzip(Box<Gzip>),
    /// zlib's format, or none around the deflated bytes: servers send either (RFC 9110 §8.4.1.2). The first byte, while it is alone.
    Deflate {
        first: Option<u8>,
        inflate: Option<Decompress>,
        is_done: bool,
    },
    Brotli {
        state: Box<Brotli>,
        is_done: bool,
    },
}

type Brotli = BrotliState<StandardAlloc, StandardAlloc, StandardAlloc>;

/// What a step of a decoder did.
#[derive(Clone, Copy, Debug, Default)]
struct Moved {
    read: usize,
    written: usize,
    /// Another part of the format follows.
    is_next: bool,
}

impl Moved {
    const fn read(read: usize) -> Moved {
        Moved { read, written: 0, is_next: false }
    }
}

impl Decoder {
    /// The decoder of a `content-encoding`; `None` when it is not known, or is more than one.
    #[must_use]
    pub fn of(coding: &str) -> Option<Decoder> {
        let coding = coding.trim();
        let is = |name: &str| coding.eq_ignore_ascii_case(name);
        let coding = if is("gzip") || is("x-gzip") {
            Coding::Gzip(Box::default())
        } else if is("deflate") {
            Coding::Deflate { first: None, inflate: None, is_done: false }
        } else if is("br") {
            let alloc = StandardAlloc::default;
            Coding::Brotli { state: Box::new(BrotliState::new(alloc(), alloc(), alloc())), is_done: false }
        } else {
            return None;
        };
        Some(Decoder { coding, input: Bytes::new(), may_hold: false, is_any: false, out: Vec::new() })
    }

    /// Takes the next bytes of the body. What was taken before must be decoded: [`Decoder::decoded`] has said `None`.
    pub fn push(&mut self, bytes: Bytes) {
        self.is_any |= !bytes.is_empty();
        self.input = bytes;
    }

    /// The next decoded bytes, at most [`STEP`]; `None` when more of the body is needed.
    ///
    /// # Errors
    /// When the body is none of its coding.
    pub fn decoded(&mut self) -> Result<Option<Bytes>, Corrupt> {
        while !self.input.is_empty() || self.may_hold {
            self.out.resize(STEP, 0);
            let moved = self.coding.step(&self.input, &mut self.out)?;
            self.input = self.input.slice(moved.read..);
            // Room that is left does not mean that nothing is held back: an inflater gives no more than its window at once.
            self.may_hold = moved.written > 0;
            if moved.written > 0 {
                return Ok(Some(BytesMut::from(self.out.get(..moved.written).unwrap_or_default()).freeze()));
            }
            if moved.read == 0 && !moved.is_next {
                // Padding behind the end is nobody's.
                self.input = Bytes::new();
            }
        }
        Ok(None)
    }

    /// Whether the body has come to its end: one that ends before is cut. No body at all needs no end.
    #[must_use]
    pub fn is_done(&self) -> bool {
        !self.is_any || self.coding.is_done()
    }
}

impl Coding {
    fn is_done(&self) -> bool {
        match self {
            Coding::Gzip(gzip) => gzip.is_done(),
            Coding::Deflate { is_done, .. } | Coding::Brotli { is_done, .. } => *is_done,
        }
    }

    fn step(&mut self, input: &[u8], out: &mut [u8]) -> Result<Moved, Corrupt> {
        match self {
            Coding::Gzip(gzip) => gzip.step(input, out),
            Coding::Deflate { is_done: true, .. } | Coding::Brotli { is_done: true, .. } => Ok(Moved::default()),
            Coding::Deflate { first, inflate, is_done } => {
                if inflate.is_none() {
                    *inflate = Coding::begun(first, input);
                }
                let Some(inflating) = inflate else { return Ok(Moved::read(input.len())) };
                if let Some(byte) = first.take() {
                    // One byte gives nothing: neither format's first byte does.
                    inflated(inflating, &[byte], out)?;
                }
                let (moved, ended) = inflated(inflating, input, out)?;
                *is_done = ended;
                Ok(moved)
            }
            Coding::Brotli { state, is_done } => {
                let (moved, result) = unbrotlied(state, input, out);
                match result {
                    BrotliResult::ResultFailure => Err(Corrupt),
                    BrotliResult::ResultSuccess => {
                        *is_done = true;
                        Ok(moved)
                    }
                    BrotliResult::NeedsMoreInput | BrotliResult::NeedsMoreOutput => Ok(moved),
                }
            }
        }
    }

    /// Two bytes tell which of its two formats it is (RFC 1950 §2.2). One alone is kept.
    fn begun(first: &mut Option<u8>, input: &[u8]) -> Option<Decompress> {
        let (one, two) = match (*first, input) {
            (None, [one]) => {
                *first = Some(*one);
                return None;
            }
            (None, [one, two, ..]) => (*one, *two),
            (Some(one), [two, ..]) => (one, *two),
            (_, []) => return None,
        };
        let is_zlib = one & 0x0f == 8 && u16::from_be_bytes([one, two]).is_multiple_of(31);
        Some(Decompress::new(is_zlib))
    }
}

/// One step of inflating, and whether that was the end.
fn inflated(inflate: &mut Decompress, input: &[u8], out: &mut [u8]) -> Result<(Moved, bool), Corrupt> {
    let (read, written) = (inflate.total_in(), inflate.total_out());
    let status = inflate.decompress(input, out, FlushDecompress::None).map_err(|_| Corrupt)?;
    let moved = |now: u64, before: u64| usize::try_from(now.saturating_sub(before)).unwrap_or(usize::MAX);
    let is_end = status == Status::StreamEnd;
    Ok((Moved { read: moved(inflate.total_in(), read), written: moved(inflate.total_out(), written), is_next: is_end }, is_end))
}

fn unbrotlied(state: &mut Brotli, input: &[u8], out: &mut [u8]) -> (Moved, BrotliResult) {
    let (mut left, mut read, mut room, mut written, mut total) = (input.len(), 0, out.len(), 0, 0);
    let result = BrotliDecompressStream(&mut left, &mut read, input, &mut room, &mut written, out, &mut total, state);
    (Moved { read, written, is_next: false }, result)
}

#[cfg(test)]
mod tests;
