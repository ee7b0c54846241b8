//! Server-sent events: bytes → events, incrementally (WHATWG HTML, "server-sent events").
//!
//! Knows line ends (LF, CRLF, CR), comments, and the fields `data` and `event`; all other fields pass. Holds offsets only:
//! the bytes stay with the caller. Must not: know what a payload says.

use memchr::memchr2;
use std::ops::Range;

/// A whole event, from its first field to its blank line. Offsets count in the bytes given to [`Splitter::next`].
#[derive(Debug, Default)]
pub(super) struct Event {
    pub(super) span: Range<usize>,
    /// Values of its `data` lines: nearly always one.
    first: Option<Range<usize>>,
    more: Vec<Range<usize>>,
    /// Its name is `error`.
    pub(super) named_error: bool,
}

impl Event {
    /// Values of its `data` lines.
    pub(super) fn lines(&self) -> impl Iterator<Item = &Range<usize>> {
        self.first.iter().chain(&self.more)
    }

    /// Its payload, when it has exactly one `data` line.
    pub(super) fn only_line(&self) -> Option<&Range<usize>> {
        self.first.as_ref().filter(|_| self.more.is_empty())
    }
}

/// What a [`Splitter`] found.
#[derive(Debug)]
pub(super) enum Piece {
    /// An event.
    Event(Event),
    /// The line feed at this offset belongs to the blank line of the event before: its carriage return came alone.
    LateLineFeed(usize),
}

/// Finds events in bytes that grow between calls.
#[derive(Debug, Default)]
pub(super) struct Splitter {
    /// Start of the line that is not complete yet.
    line: usize,
    /// No line ends between `line` and here.
    searched: usize,
    /// The event that is not complete yet.
    open: Option<Event>,
    /// The last byte was a carriage return: a line feed may still belong to it.
    after_return: bool,
    /// The last line was the blank line of an event.
    after_event: bool,
    /// A first line was read: no byte order mark can follow.
    begun: bool,
}

impl Splitter {
    /// The next event, or `None` until more bytes stand behind those given.
    pub(super) fn next(&mut self, bytes: &[u8]) -> Option<Piece> {
        loop {
            if self.after_return {
                let follower = *bytes.get(self.line)?;
                self.after_return = false;
                if follower == b'\n' {
                    self.line += 1;
                    self.searched = self.line;
                    if self.after_event {
                        return Some(Piece::LateLineFeed(self.line - 1));
                    }
                }
            }
            let Some(found) = memchr2(b'\n', b'\r', bytes.get(self.searched..)?) else {
                self.searched = bytes.len();
                return None;
            };
            let end = self.searched + found;
            let line = self.line..end;
            self.line = end + 1;
            if bytes.get(end) == Some(&b'\r') {
                match bytes.get(end + 1) {
                    Some(b'\n') => self.line += 1,
                    Some(_) => {}
                    None => self.after_return = true,
                }
            }
            self.searched = self.line;
            let event = self.read_line(bytes, line);
            self.after_event = event.is_some();
            if let Some(event) = event {
                return Some(Piece::Event(event));
            }
        }
    }

    /// The event that the end of the stream completes.
    pub(super) fn last(&mut self, bytes: &[u8]) -> Option<Event> {
        let line = self.line..bytes.len();
        self.line = bytes.len();
        if !line.is_empty() {
            self.read_line(bytes, line);
        }
        let mut event = self.open.take()?;
        event.span.end = bytes.len();
        Some(event)
    }

    /// Bytes before here are done with: neither an event nor a line is open in them.
    pub(super) fn settled(&self) -> usize {
        self.open.as_ref().map_or(self.line, |event| event.span.start)
    }

    /// Whether a line feed that comes next belongs to the line before.
    pub(super) const fn is_after_return(&self) -> bool {
        self.after_return
    }

    /// The caller has dropped this many bytes from the front.
    pub(super) fn shift(&mut self, bytes: usize) {
        self.line -= bytes;
        self.searched -= bytes;
        if let Some(event) = &mut self.open {
            event.span.start -= bytes;
            for line in event.first.iter_mut().chain(&mut event.more) {
                *line = line.start - bytes..line.end - bytes;
            }
        }
    }

    fn read_line(&mut self, bytes: &[u8], span: Range<usize>) -> Option<Event> {
        let mut line = bytes.get(span.clone()).unwrap_or_default();
        if !self.begun {
            self.begun = true;
            line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line);
        }
        match line.first() {
            None => {
                let mut event = self.open.take()?;
                event.span.end = self.line;
                return Some(event);
            }
            // A comment before an event is no part of it: it passes at once.
            Some(b':') => return None,
            Some(_) => {}
        }
        let event = self.open.get_or_insert_with(|| Event { span: span.start..span.start, ..Event::default() });
        let (name, value) = match line.iter().position(|byte| *byte == b':') {
            Some(colon) => (line.get(..colon)?, line.get(colon + 1..)?),
            None => (line, [].as_slice()),
        };
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match name {
            b"data" => {
                let value = span.end - value.len()..span.end;
                match event.first {
                    None => event.first = Some(value),
                    Some(_) => event.more.push(value),
                }
            }
            b"event" => event.named_error = value == b"error",
            _ => {}
        }
        None
    }
}
