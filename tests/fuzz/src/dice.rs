//! Choices out of bytes: what a fuzzer changes in the bytes changes one choice of a structure.
//!
//! Owns how bytes become numbers and picks. When the bytes are used up every choice is the first one, so that short inputs are small
//! structures.

/// Bytes that are used up choice by choice.
#[derive(Clone, Debug)]
pub struct Dice<'a> {
    left: &'a [u8],
}

impl<'a> Dice<'a> {
    /// Dice that throw these bytes.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Dice<'a> {
        Dice { left: bytes }
    }

    /// The next byte; 0 behind the last.
    pub fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.left.split_first() else { return 0 };
        self.left = rest;
        *first
    }

    /// A number below `end`, at most 256 of them; 0 when `end` is 0.
    pub fn below(&mut self, end: usize) -> usize {
        usize::from(self.byte()).checked_rem(end).unwrap_or(0)
    }

    /// One of the choices, of which there must be one.
    pub fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    /// True once in so many throws, and never when the bytes are used up.
    pub fn once_in(&mut self, throws: usize) -> bool {
        self.below(throws) == throws.saturating_sub(1) && throws > 1
    }

    /// A number of any size, small ones more often.
    pub fn number(&mut self) -> u64 {
        let bytes = self.below(9);
        (0..bytes).fold(0, |number, _| number << 8 | u64::from(self.byte()))
    }

    /// The next bytes, at most so many.
    pub fn bytes(&mut self, most: usize) -> &'a [u8] {
        let (taken, rest) = self.left.split_at(most.min(self.left.len()));
        self.left = rest;
        taken
    }

    /// Whether the bytes are used up.
    #[must_use]
    pub const fn is_over(&self) -> bool {
        self.left.is_empty()
    }

    /// The bytes cut into pieces, whose lengths are thrown.
    #[must_use]
    pub fn cut<'b>(&mut self, bytes: &'b [u8]) -> Vec<&'b [u8]> {
        let mut pieces = Vec::new();
        let mut rest = bytes;
        while !rest.is_empty() {
            let length = match self.below(4) {
                0 => 1,
                1 => 1 + self.below(8),
                2 => 1 + self.below(256),
                _ => rest.len(),
            };
            let (piece, behind) = rest.split_at(length.min(rest.len()));
            pieces.push(piece);
            rest = behind;
        }
        pieces
    }
}
