//! Lines cut from a stream of bytes, none kept that is longer than a message may be.

use super::finder::{Finder, Whose};
use std::ops::Range;

/// What is read at once at most.
const CHUNK: usize = 64 << 10;
/// What an idle reader keeps.
const IDLE: usize = 4 << 10;
/// A line that goes on for so many times the limit is given up before its end is seen.
const GIVE_UP: usize = 8;

/// Bytes that came in, and where the next line begins.
#[derive(Debug)]
pub(super) struct Lines {
    buffer: Vec<u8>,
    start: usize,
    searched: usize,
    limit: usize,
    skipping: Option<Skipping>,
    /// Bytes that were dropped for nobody, since they were last asked for.
    skipped: usize,
}

#[derive(Debug, Default)]
struct Skipping {
    finder: Finder,
    bytes: usize,
    is_told: bool,
}

/// A line.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Cut {
    /// Where it lies in the buffer, without its end.
    Line(Range<usize>),
    /// It was too long, and is dropped.
    TooLong(Whose),
}

impl Lines {
    pub(super) fn new(limit: usize) -> Lines {
        Lines { buffer: Vec::new(), start: 0, searched: 0, limit, skipping: None, skipped: 0 }
    }

    /// The buffer, with room for more bytes at its end.
    pub(super) fn room(&mut self) -> &mut Vec<u8> {
        if self.start > 0 {
            self.buffer.drain(..self.start);
            self.searched = self.searched.saturating_sub(self.start);
            self.start = 0;
        }
        if self.buffer.is_empty() && self.buffer.capacity() > CHUNK {
            self.buffer = Vec::new();
        }
        let room = if self.buffer.is_empty() { IDLE } else { self.buffer.len().clamp(IDLE, CHUNK) };
        self.buffer.reserve(room);
        &mut self.buffer
    }

    /// The bytes of a line.
    pub(super) fn bytes(&self, line: &Range<usize>) -> &[u8] {
        self.buffer.get(line.clone()).unwrap_or_default()
    }

    /// Whether a line is being dropped that has no end yet, and the bytes that nobody waited for since this was last asked.
    pub(super) fn skipped(&mut self) -> (bool, usize) {
        (self.skipping.is_some(), std::mem::take(&mut self.skipped))
    }

    /// The next line that is whole, or was given up.
    pub(super) fn cut(&mut self) -> Option<Cut> {
        let fresh = self.buffer.get(self.searched..).unwrap_or_default();
        let end = memchr::memchr(b'\n', fresh).map(|at| self.searched.saturating_add(at));
        let start = self.start;
        if let Some(end) = end {
            self.start = end.saturating_add(1);
            self.searched = self.start;
        } else {
            self.searched = self.buffer.len();
        }
        let until = end.unwrap_or(self.buffer.len());
        let is_long = until.saturating_sub(start) > self.limit;
        if self.skipping.is_none() && !is_long {
            return end.map(|end| Cut::Line(start..end));
        }
        let skipping = self.skipping.get_or_insert_default();
        let passed = self.buffer.get(start..until).unwrap_or_default();
        skipping.finder.feed(passed);
        skipping.bytes = skipping.bytes.saturating_add(passed.len());
        if skipping.is_told {
            self.skipped = self.skipped.saturating_add(passed.len());
        }
        self.start = self.searched;
        if end.is_some() {
            let skipped = self.skipping.take().filter(|skipped| !skipped.is_told);
            return match skipped {
                Some(skipped) => Some(Cut::TooLong(skipped.finder.whose())),
                None => self.cut(),
            };
        }
        let whose = skipping.finder.whose();
        let is_hopeless = skipping.bytes > self.limit.saturating_mul(GIVE_UP);
        if !skipping.is_told && (whose != Whose::Unknown || is_hopeless) {
            skipping.is_told = true;
            return Some(Cut::TooLong(whose));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rmcp::model::RequestId;

    /// Feeds the bytes in pieces, and tells what was cut.
    fn cut(limit: usize, bytes: &[u8], piece: usize) -> Vec<Result<Vec<u8>, Whose>> {
        let mut lines = Lines::new(limit);
        let mut found = Vec::new();
        for piece in bytes.chunks(piece.max(1)) {
            lines.room().extend_from_slice(piece);
            while let Some(cut) = lines.cut() {
                found.push(match cut {
                    Cut::Line(range) => Ok(lines.bytes(&range).to_vec()),
                    Cut::TooLong(whose) => Err(whose),
                });
            }
            assert!(lines.buffer.len().saturating_sub(lines.start) <= limit.saturating_add(piece.len()), "no more is kept");
        }
        found
    }

    #[test]
    fn a_long_line_is_told_as_soon_as_it_shows_whose_it_is() {
        let answer = |id| Err(Whose::Answer(RequestId::Number(id)));
        let early = br#"{"id":3,"result":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"#;
        assert_eq!(cut(20, early, 10), [answer(3)], "before its end");
        let late = b"{\"result\":\"aaaaaaaaaaaaaaaaaaaaaaaaaaaa\",\"id\":4}\nnext\n";
        assert_eq!(cut(20, late, 10), [answer(4), Ok(b"next".to_vec())]);
        let endless = [b'a'; 400];
        assert_eq!(cut(20, &endless, 16), [Err(Whose::Unknown)], "an endless line is told once");
    }

    proptest! {
        #[test]
        fn any_pieces_give_the_same_lines(text in "[a-c\n]{0,200}", limit in 1_usize..20, piece in 1_usize..30) {
            let whole: Vec<&[u8]> = text.as_bytes().split(|byte| *byte == b'\n').collect();
            let ended = &whole[..whole.len().saturating_sub(1)];
            let found = cut(limit, text.as_bytes(), piece);
            let kept: Vec<&[u8]> = found.iter().filter_map(|line| line.as_deref().ok()).collect();
            let short: Vec<&[u8]> = ended.iter().copied().filter(|line| line.len() <= limit).collect();
            prop_assert_eq!(kept, short);
            let long = ended.iter().filter(|line| line.len() > limit).count();
            let told = found.iter().filter(|line| line.is_err()).count();
            prop_assert!(told == long || told == long.saturating_add(1), "{} long lines, {} told", long, told);
        }
    }
}
