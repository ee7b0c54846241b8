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

    /// The event as it is complete: its lines, which counted from its start, count as its span does.
    fn ended(mut self, end: usize) -> Event {
        self.span.end = end;
        let start = self.span.start;
        for line in self.first.iter_mut().chain(&mut self.more) {
            *line = start + line.start..start + line.end;
        }
        self
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
    /// The event that is not complete yet. Its lines count from its start: bytes that go from the front leave them as they are.
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
        self.open.take().map(|event| event.ended(bytes.len()))
    }

    /// Bytes before here are done with: neither an event nor a line is open in them.
    pub(super) fn settled(&self) -> usize {
        self.open.as_ref().map_or(self.line, |event| event.span.start)
    }

    /// Whether the next bytes begin with a line feed that belongs to the line before. Asked once for it.
    pub(super) fn takes_line_feed(&mut self, bytes: &[u8]) -> bool {
        let Some(first) = bytes.first() else { return false };
        std::mem::take(&mut self.after_return) && *first == b'\n'
    }

    /// The caller has dropped this many bytes from the front.
    pub(super) fn shift(&mut self, bytes: usize) {
        self.line -= bytes;
        self.searched -= bytes;
        if let Some(event) = &mut self.open {
            event.span.start -= bytes;
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
                return self.open.take().map(|event| event.ended(self.line));
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
                let end = span.end - event.span.start;
                let value = end - value.len()..end;
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A shift comes with each frame: what it did to each line of an open event would be done lines × frames times.
    #[test]
    fn what_goes_from_the_front_leaves_the_lines_of_an_open_event_as_they_are() {
        let before = b": ping\n";
        let mut bytes = [before.as_slice(), b"id: 7\ndata: a\ndata:bc\n"].concat();
        let mut splitter = Splitter::default();
        assert!(splitter.next(&bytes).is_none());
        assert_eq!(splitter.settled(), before.len());
        let lines = |splitter: &Splitter| splitter.open.as_ref().unwrap().lines().cloned().collect::<Vec<_>>();
        let stored = lines(&splitter);
        assert_eq!(stored, [12..13, 19..21]);
        bytes.drain(..before.len());
        splitter.shift(before.len());
        assert_eq!(lines(&splitter), stored);
        splitter.shift(0);
        bytes.extend_from_slice(b"data: d\n\n");
        let Some(Piece::Event(event)) = splitter.next(&bytes) else { panic!("no event") };
        let texts: Vec<&[u8]> = event.lines().map(|line| &bytes[line.clone()]).collect();
        assert_eq!((texts, event.span), (vec![b"a".as_slice(), b"bc", b"d"], 0..bytes.len()));
    }

    /// The lines of an event count as its span does, wherever in the bytes it begins.
    #[test]
    fn an_event_behind_another_has_its_own_lines() {
        let bytes = b"data: a\n\ndata: b\ndata: c";
        let mut splitter = Splitter::default();
        let Some(Piece::Event(first)) = splitter.next(bytes) else { panic!("no event") };
        assert!(splitter.next(bytes).is_none());
        let last = splitter.last(bytes).unwrap();
        let texts: Vec<&[u8]> = first.lines().chain(last.lines()).map(|line| &bytes[line.clone()]).collect();
        assert_eq!(texts, [b"a", b"b", b"c"]);
    }
}
