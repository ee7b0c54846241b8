//! Frames on the control socket: one JSON text per line, ended by a line feed (NDJSON).
//!
//! Owns the cap of a line and the cutting of bytes into lines, for both sides. Must not: read, write or wait.

use serde::Serialize;

/// Longest line that the daemon reads, in bytes without the line feed.
pub const MAX_LINE: usize = 1024 * 1024;
/// Longest line that a client reads. A reply may list what many requests made.
pub const MAX_REPLY_LINE: usize = 16 * 1024 * 1024;

/// One line as it was cut from the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// A line without its line feed, never blank.
    Line(Vec<u8>),
    /// A line above the cap. It was dropped up to its line feed; the stream goes on behind it.
    TooLong,
}

/// Cuts a stream of bytes into lines, holding at most one line of the cap's length.
#[derive(Debug)]
pub struct Splitter {
    cap: usize,
    held: Vec<u8>,
    dropping: bool,
}

impl Splitter {
    /// With a cap in bytes: [`MAX_LINE`] at the daemon, [`MAX_REPLY_LINE`] at a client.
    #[must_use]
    pub const fn new(cap: usize) -> Splitter {
        Splitter { cap, held: Vec::new(), dropping: false }
    }

    /// Takes bytes as they arrive and gives the lines that they complete, in order. Blank lines are left out.
    pub fn feed(&mut self, bytes: &[u8]) -> Vec<Frame> {
        let mut frames = Vec::new();
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (text, ended) = match piece.strip_suffix(b"\n") {
                Some(text) => (text, true),
                None => (piece, false),
            };
            self.hold(text);
            if ended {
                frames.extend(self.take());
            }
        }
        frames
    }

    /// The end of the stream: whether it ended inside a line.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.dropping || !self.held.is_empty()
    }

    fn hold(&mut self, text: &[u8]) {
        if !self.dropping && self.held.len().saturating_add(text.len()) <= self.cap {
            self.held.extend_from_slice(text);
            return;
        }
        self.dropping = true;
        self.held = Vec::new();
    }

    fn take(&mut self) -> Option<Frame> {
        if std::mem::take(&mut self.dropping) {
            return Some(Frame::TooLong);
        }
        let line = std::mem::take(&mut self.held);
        if line.trim_ascii().is_empty() { None } else { Some(Frame::Line(line)) }
    }
}

/// The line of a message, with its line feed. JSON writes line feeds inside strings as `\n`, so there is only this one.
///
/// # Errors
/// When the message cannot be serialised; no message of this crate fails.
pub fn line<T: Serialize>(message: &T) -> serde_json::Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec(message)?;
    bytes.push(b'\n');
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The whole stream at once, by the standard library.
    fn naive(stream: &[u8], cap: usize) -> Vec<Frame> {
        let mut lines: Vec<&[u8]> = stream.split(|byte| *byte == b'\n').collect();
        lines.pop();
        let frame = |line: &&[u8]| {
            if line.len() > cap {
                Some(Frame::TooLong)
            } else if line.trim_ascii().is_empty() {
                None
            } else {
                Some(Frame::Line(line.to_vec()))
            }
        };
        lines.iter().filter_map(frame).collect()
    }

    #[test]
    fn a_line_above_the_cap_is_dropped_and_the_next_one_is_read() {
        let mut splitter = Splitter::new(4);
        assert_eq!(splitter.feed(b"12345"), vec![]);
        assert_eq!(splitter.feed(b"6\nabcd\n\n \nx"), vec![Frame::TooLong, Frame::Line(b"abcd".to_vec())]);
        assert!(splitter.is_cut());
    }

    proptest::proptest! {
        #[test]
        fn lines_do_not_depend_on_how_the_stream_is_cut(
            parts in proptest::collection::vec(proptest::collection::vec(proptest::sample::select(b"ab \n".to_vec()), 0..12), 0..12),
            cap in 0usize..8,
        ) {
            let mut splitter = Splitter::new(cap);
            let cut: Vec<Frame> = parts.iter().flat_map(|part| splitter.feed(part)).collect();
            proptest::prop_assert_eq!(cut, naive(&parts.concat(), cap));
        }

        #[test]
        fn a_message_is_one_line_and_is_read_back(text in ".*") {
            let bytes = line(&text).unwrap_or_default();
            let frames = Splitter::new(MAX_LINE).feed(&bytes);
            let read: Vec<Option<String>> = frames.iter().map(|frame| match frame {
                Frame::Line(line) => serde_json::from_slice(line).ok(),
                Frame::TooLong => None,
            }).collect();
            proptest::prop_assert_eq!(read, vec![Some(text)]);
        }
    }
}
