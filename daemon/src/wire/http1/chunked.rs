//! A chunked body (RFC 9112 §7.1). Line ends are CR LF alone; extensions and trailers are passed over, within a bound.

use super::{Malformed, drop_front};
use bytes::{Bytes, BytesMut};

/// Bytes of extensions and trailers in one body, at most.
const MAX_EXTRA: u32 = 16 << 10;

/// How much of a chunked body has come.
#[derive(Debug, Default)]
pub struct Chunked {
    state: State,
    /// Bytes of data that the chunk still has; while its size is read, what of it was read.
    left: u64,
    extra: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// Before the first digit of a size.
    #[default]
    Start,
    Size,
    /// White space or an extension behind the size.
    Extension,
    SizeLineFeed,
    Data,
    DataReturn,
    DataLineFeed,
    /// At the begin of a line behind the last chunk.
    Trailer,
    TrailerLine,
    TrailerLineFeed,
    LastLineFeed,
    Over,
}

impl Chunked {
    pub(super) const fn is_over(&self) -> bool {
        matches!(self.state, State::Over)
    }

    /// Takes the data of all that has come, as one run: later chunks move down over what stood between them.
    pub(super) fn take(&mut self, read: &mut BytesMut) -> Result<Bytes, Malformed> {
        let (mut from, mut to) = (0, 0);
        loop {
            if self.state == State::Data {
                if to == 0 {
                    drop_front(read, from);
                    from = 0;
                }
                let ready = (read.len() - from).min(usize::try_from(self.left).unwrap_or(usize::MAX));
                read.copy_within(from..from + ready, to);
                (from, to) = (from + ready, to + ready);
                self.left -= u64::try_from(ready).unwrap_or(self.left);
                if self.left > 0 {
                    break;
                }
                self.state = State::DataReturn;
            }
            let Some(&byte) = read.get(from).filter(|_| self.state != State::Over) else { break };
            from += 1;
            self.state = self.step(byte)?;
        }
        let data = read.split_to(to).freeze();
        drop_front(read, from - to);
        Ok(data)
    }

    fn step(&mut self, byte: u8) -> Result<State, Malformed> {
        Ok(match (self.state, byte) {
            (State::Start | State::Size, digit) if digit.is_ascii_hexdigit() => {
                let digit = char::from(digit).to_digit(16).ok_or(Malformed)?;
                self.left = self.left.checked_mul(16).and_then(|left| left.checked_add(u64::from(digit))).ok_or(Malformed)?;
                State::Size
            }
            (State::Size | State::Extension, b'\r') => State::SizeLineFeed,
            (State::Size, b' ' | b'\t' | b';') => State::Extension,
            (State::Extension, byte) if byte != b'\n' => self.passed(State::Extension)?,
            (State::SizeLineFeed, b'\n') => {
                if self.left == 0 {
                    State::Trailer
                } else {
                    State::Data
                }
            }
            (State::DataReturn, b'\r') => State::DataLineFeed,
            (State::DataLineFeed, b'\n') => State::Start,
            (State::Trailer, b'\r') => State::LastLineFeed,
            (State::TrailerLine, b'\r') => State::TrailerLineFeed,
            (State::Trailer | State::TrailerLine, byte) if byte != b'\n' => self.passed(State::TrailerLine)?,
            (State::TrailerLineFeed, b'\n') => State::Trailer,
            (State::LastLineFeed, b'\n') => State::Over,
            _ => return Err(Malformed),
        })
    }

    fn passed(&mut self, state: State) -> Result<State, Malformed> {
        self.extra += 1;
        if self.extra > MAX_EXTRA { Err(Malformed) } else { Ok(state) }
    }
}
