//! gzip (RFC 1952): members, each with a head, deflated bytes, and their checksum and length.

use super::{Corrupt, Moved, inflated};
use flate2::{Crc, Decompress};

/// Heads carry a file's name at most; a longer one is none.
const MAX_HEAD: usize = 4 << 10;
/// Checksum and length behind the deflated bytes.
const TAIL: usize = 8;

/// A gzip body on its way.
pub(super) struct Gzip {
    part: Part,
    /// Bytes of a head or tail that is not complete.
    held: Vec<u8>,
    inflate: Decompress,
    crc: Crc,
    /// A member has come whole.
    is_any: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Head,
    Deflated,
    Tail,
    /// What follows the last member is none.
    Padding,
}

impl Default for Gzip {
    fn default() -> Gzip {
        Gzip { part: Part::Head, held: Vec::new(), inflate: Decompress::new(false), crc: Crc::new(), is_any: false }
    }
}

impl Gzip {
    /// Whether it may end here.
    pub(super) fn is_done(&self) -> bool {
        self.part == Part::Padding || (self.is_any && self.part == Part::Head && self.held.is_empty())
    }

    pub(super) fn step(&mut self, input: &[u8], out: &mut [u8]) -> Result<Moved, Corrupt> {
        let skipped = |read| Ok(Moved::read(read));
        match self.part {
            Part::Padding => skipped(input.len()),
            Part::Head => match input.first() {
                None => skipped(0),
                Some(byte) if self.is_any && self.held.is_empty() && *byte != 0x1f => {
                    self.part = Part::Padding;
                    skipped(input.len())
                }
                Some(_) => skipped(self.read_head(input)?),
            },
            Part::Deflated => {
                let (moved, ended) = inflated(&mut self.inflate, input, out)?;
                self.crc.update(out.get(..moved.written).unwrap_or_default());
                if ended {
                    self.part = Part::Tail;
                }
                Ok(moved)
            }
            Part::Tail => skipped(self.read_tail(input)?),
        }
    }

    fn read_head(&mut self, input: &[u8]) -> Result<usize, Corrupt> {
        let had = self.held.len();
        self.held.extend_from_slice(input);
        let Some(length) = head(&self.held)? else {
            return if self.held.len() > MAX_HEAD { Err(Corrupt) } else { Ok(input.len()) };
        };
        self.held.clear();
        self.part = Part::Deflated;
        Ok(length.saturating_sub(had))
    }

    fn read_tail(&mut self, input: &[u8]) -> Result<usize, Corrupt> {
        let read = input.len().min(TAIL.saturating_sub(self.held.len()));
        self.held.extend_from_slice(input.get(..read).unwrap_or_default());
        if let [a, b, c, d, e, f, g, h] = *self.held {
            if u32::from_le_bytes([a, b, c, d]) != self.crc.sum() || u32::from_le_bytes([e, f, g, h]) != self.crc.amount() {
                return Err(Corrupt);
            }
            *self = Gzip { is_any: true, ..Gzip::default() };
        }
        Ok(read)
    }
}

/// How long a member's head is; `None` when it is not complete.
fn head(bytes: &[u8]) -> Result<Option<usize>, Corrupt> {
    let known = [0x1f, 0x8b, 8];
    if bytes.iter().zip(known).any(|(byte, known)| *byte != known) {
        return Err(Corrupt);
    }
    let (Some(flags), Some(mut at)) = (bytes.get(3), (bytes.len() >= 10).then_some(10)) else { return Ok(None) };
    let has = |bit: u8| flags & bit != 0;
    if flags & 0xe0 != 0 {
        return Err(Corrupt);
    }
    if has(4) {
        let Some([low, high]) = bytes.get(at..at + 2) else { return Ok(None) };
        at += 2 + usize::from(u16::from_le_bytes([*low, *high]));
    }
    for text in [8, 16] {
        if has(text) {
            let end = bytes.get(at..).and_then(|rest| memchr::memchr(0, rest));
            let Some(end) = end else { return Ok(None) };
            at += end + 1;
        }
    }
    if has(2) {
        at += 2;
    }
    Ok((bytes.len() >= at).then_some(at))
}
