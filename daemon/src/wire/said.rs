//! What a model says in an answer, text by text, kept for a count of its tokens where the answer ends without a report of them.
//!
//! Keeps nothing unless it is told to, and 64 KiB at most: what it does not keep counts by its bytes. Must not: count a token, or show
//! a text to anybody.

use super::request::count;
use super::text::Text;
use std::fmt;

/// Bytes of texts that are kept of one answer.
const MOST_BYTES: usize = 64 << 10;
/// Texts that are kept of one answer.
const MOST_TEXTS: usize = 256;

/// What a text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// What answers the prompt.
    Text,
    /// Why the model answers nothing.
    Refusal,
    /// What it thinks.
    Reasoning,
    /// What it thinks, in short.
    Summary,
    /// The name of what it calls.
    Name,
    /// What it calls that with.
    Arguments,
}

/// Where a text belongs. Pieces of one place are one text, in the order in which they came, whatever came between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    /// The choice, or the item of a response.
    choice: u64,
    /// The call or the block within it.
    part: u64,
    field: Field,
}

/// A text as far as it came.
#[derive(Clone, PartialEq, Eq)]
pub struct SaidText {
    place: Place,
    /// What it says.
    pub text: String,
    /// Bytes that it takes in the answer, without quotes: as many as in `text`, or more for its escapes.
    pub bytes: u64,
}

impl SaidText {
    /// What it is.
    #[must_use]
    pub const fn field(&self) -> Field {
        self.place.field
    }
}

/// Tells no text: what a model said does not belong into a log.
impl fmt::Debug for SaidText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SaidText").field("place", &self.place).field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

/// The texts of an answer. By default none is kept.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Said(Option<Box<Texts>>);

impl fmt::Debug for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Said").field(&self.texts()).finish()
    }
}

#[derive(Clone, Default, PartialEq, Eq)]
struct Texts {
    told: Vec<SaidText>,
    /// Pieces of the event that is being read: it may turn out to be none, and names the place of a text before or behind it.
    event: Vec<Piece>,
    /// What they say, one behind the other.
    fresh: String,
    /// Bytes that were taken.
    taken: usize,
    /// One text more, or a gap in one, would be wrong: nothing is taken any more.
    full: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Piece {
    place: Place,
    /// Where it ends in [`Texts::fresh`].
    end: usize,
    bytes: usize,
}

/// The pieces of an event from some place in it on.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub(super) struct Since(usize);

impl Said {
    /// Texts that are to be kept.
    pub(super) fn kept() -> Said {
        Said(Some(Box::default()))
    }

    /// The texts.
    #[must_use]
    pub fn texts(&self) -> &[SaidText] {
        self.0.as_ref().map_or(&[], |texts| &texts.told)
    }

    /// Whether there is nothing to be counted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.texts().is_empty()
    }

    /// A piece of a text.
    pub(super) fn piece(&mut self, field: Field, text: &Text<'_>) {
        let Some(texts) = &mut self.0 else { return };
        if texts.full || text.raw.is_empty() {
            return;
        }
        texts.taken += text.raw.len();
        if texts.taken > MOST_BYTES {
            texts.give_up();
            return;
        }
        text.unescape_into(&mut texts.fresh);
        let place = Place { choice: 0, part: 0, field };
        texts.event.push(Piece { place, end: texts.fresh.len(), bytes: text.raw.len() });
    }

    /// What follows of the event.
    pub(super) fn since(&self) -> Since {
        Since(self.0.as_ref().map_or(0, |texts| texts.event.len()))
    }

    /// The pieces belong to a choice, or to an item.
    pub(super) fn of_choice(&mut self, since: Since, choice: u64) {
        self.each(since, |place| place.choice = choice);
    }

    /// The pieces belong to a call, or to a block.
    pub(super) fn of_part(&mut self, since: Since, part: u64) {
        self.each(since, |place| place.part = part);
    }

    /// The pieces are this.
    pub(super) fn are(&mut self, since: Since, field: Field) {
        self.each(since, |place| place.field = field);
    }

    fn each(&mut self, since: Since, mut change: impl FnMut(&mut Place)) {
        if let Some(texts) = &mut self.0 {
            texts.event.iter_mut().skip(since.0).for_each(|piece| change(&mut piece.place));
        }
    }

    /// The pieces are no text of the model: their bytes count.
    pub(super) fn drop_pieces(&mut self, since: Since) {
        if let Some(texts) = &mut self.0 {
            texts.event.truncate(since.0);
            texts.fresh.truncate(texts.event.last().map_or(0, |piece| piece.end));
        }
    }

    /// The event is read: its pieces are put behind their texts.
    pub(super) fn end_of_event(&mut self) {
        if let Some(texts) = &mut self.0 {
            texts.join();
        }
    }
}

impl Texts {
    fn join(&mut self) {
        let (mut event, mut fresh) = (std::mem::take(&mut self.event), std::mem::take(&mut self.fresh));
        let mut start = 0;
        for piece in &event {
            let said = fresh.get(start..piece.end).unwrap_or_default();
            start = piece.end;
            let Some(text) = self.at(piece.place) else {
                self.give_up();
                return;
            };
            text.text.push_str(said);
            text.bytes += count(piece.bytes);
        }
        event.clear();
        fresh.clear();
        (self.event, self.fresh) = (event, fresh);
    }

    /// The text of a place; `None`: there are too many.
    fn at(&mut self, place: Place) -> Option<&mut SaidText> {
        // Mostly the one that came last.
        let at = self.told.iter().rposition(|text| text.place == place);
        if at.is_none() && self.told.len() < MOST_TEXTS {
            self.told.push(SaidText { place, text: String::new(), bytes: 0 });
            return self.told.last_mut();
        }
        self.told.get_mut(at?)
    }

    /// There is no more room: what was put behind its text stays.
    fn give_up(&mut self) {
        (self.full, self.event, self.fresh) = (true, Vec::new(), String::new());
    }
}

#[cfg(test)]
mod tests;
