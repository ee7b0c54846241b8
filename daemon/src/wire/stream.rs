//! A stream on its way through: events leave as they arrive, unchanged but for the model's name and the usage chunk
//! that the client did not ask for; usage and the size of the output are read on the way past.
//!
//! Fails closed: a payload that is no JSON ends the relay, and nothing passes behind the last event. Holds at most one event that is not complete, with a cap.

use super::answer::{Answer, Kept};
use super::dialect::{Dialect, Told};
use super::edit::{quoted, spliced};
use super::json::{Kind, Scanner};
use super::said::Said;
use super::sse::{Event, Piece, Splitter};
use super::usage;
use aex_core::price::is_standard_tier;
use aex_core::usage::Usage;
use bytes::{Bytes, BytesMut};
use std::borrow::Cow;
use std::ops::Range;

/// The largest event, in bytes: chunks are small, but some servers send an image as one.
pub const MAX_EVENT_BYTES: usize = 4 << 20;

/// Whose the usage chunk is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UsageChunk {
    /// The client asked for it: it passes.
    Pass,
    /// The daemon asked for it: it is read and taken out.
    Strip,
}

/// Why a stream is not relayed any further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StreamFault {
    /// An event beyond [`MAX_EVENT_BYTES`].
    #[error("the provider sent an event of more than {MAX_EVENT_BYTES} bytes")]
    EventTooLarge,
    /// A payload that is not JSON, or no payload at all.
    #[error("the provider sent something that is no stream of its protocol")]
    Garbage,
}

/// What to send to the client now.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct Relay {
    /// Whole events and comments; may be empty.
    pub bytes: Bytes,
    /// Nothing follows the bytes but an error event.
    pub fault: Option<StreamFault>,
}

/// What was read in a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Meter {
    /// The usage that the provider reported last; reports are cumulative, and what falls in a later one stays.
    pub usage: Option<Usage>,
    /// That is not the last report: the provider's dialect says so, or there was output after it.
    pub usage_goes_on: bool,
    /// What it reported last cannot be understood.
    pub has_unread_usage: bool,
    /// Bytes of output in what was relayed: no fewer than its visible output tokens.
    pub relayed_output_bytes: u64,
    /// By the dialect's word, all that was written by then was shown.
    pub shows_all: bool,
    /// The provider sent an error in the stream.
    pub provider_error: bool,
    /// The last event came: `[DONE]`, or the dialect's own.
    pub done: bool,
    /// Chunks that were read.
    pub events: u64,
    /// What follows the number of the last event, where the dialect counts them.
    pub next_sequence: u64,
    /// What the provider keeps of it, as far as it was told.
    pub kept: Option<Box<Kept>>,
}

/// The end of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct Ending {
    /// What is still to be sent.
    pub tail: Bytes,
    /// All output has passed, and the last report of its usage, whatever else is missing.
    pub metered: bool,
    /// The answer is whole: the last event came, or every choice was finished.
    pub complete: bool,
    /// What was wrong with the stream.
    pub fault: Option<StreamFault>,
    /// What was read in it.
    pub meter: Meter,
    /// The texts that passed, where they were to be kept.
    pub said: Said,
}

/// A place in the bytes, and what stands there instead.
type Splice = (Range<usize>, Bytes);

/// The editor of one stream.
#[derive(Debug)]
pub struct StreamEditor {
    dialect: Dialect,
    /// What earlier events told, where later ones only add to it.
    told: Told,
    client_model: String,
    quoted_model: Bytes,
    usage_chunk: UsageChunk,
    choices: u64,
    splitter: Splitter,
    /// The start of an event that is not complete.
    pending: BytesMut,
    finished: u128,
    /// The last event was taken out: a late line feed of it goes too.
    stripped: bool,
    /// The service tier that a chunk named. One for which the standard prices do not hold stays.
    service_tier: Option<String>,
    fault: Option<StreamFault>,
    meter: Meter,
}

impl StreamEditor {
    /// For the answer to a request for `choices` choices, whose client knows the model as `client_model`.
    #[must_use]
    pub fn new(dialect: Dialect, client_model: &str, choices: u64, usage_chunk: UsageChunk) -> StreamEditor {
        StreamEditor {
            dialect,
            told: Told::default(),
            client_model: client_model.to_owned(),
            quoted_model: Bytes::from(quoted(client_model)),
            usage_chunk,
            choices: choices.max(1),
            splitter: Splitter::default(),
            pending: BytesMut::new(),
            finished: 0,
            stripped: false,
            service_tier: None,
            fault: None,
            meter: Meter::default(),
        }
    }

    /// Keeps the texts that pass, for a count of their tokens.
    #[must_use]
    pub fn keeping_texts(mut self) -> StreamEditor {
        self.told.said = Said::kept();
        self
    }

    /// What was read up to here: all that a stream cut by its client leaves.
    #[must_use]
    pub fn meter(&self) -> &Meter {
        &self.meter
    }

    /// Takes the next bytes of the provider and gives those for the client, up to the last event. A frame of whole events that need no edit comes
    /// back as it is, without a copy.
    pub fn push(&mut self, frame: Bytes) -> Relay {
        if self.fault.is_some() {
            return Relay { bytes: Bytes::new(), fault: self.fault };
        }
        if self.meter.done {
            // The line feed behind the last carriage return may come late.
            let late = usize::from(self.splitter.takes_line_feed(&frame));
            return Relay { bytes: frame.slice(..late), fault: None };
        }
        let (bytes, splices) = if self.pending.is_empty() {
            let (settled, splices) = self.read(&frame);
            if !self.meter.done {
                self.pending.extend_from_slice(frame.get(settled..).unwrap_or_default());
            }
            let whole = settled == frame.len();
            (if whole { frame } else { frame.slice(..settled) }, splices)
        } else {
            self.pending.extend_from_slice(&frame);
            let mut pending = std::mem::take(&mut self.pending);
            let (settled, splices) = self.read(&pending);
            let bytes = pending.split_to(settled).freeze();
            if !pending.is_empty() && !self.meter.done {
                self.pending = pending;
            }
            (bytes, splices)
        };
        self.splitter.shift(bytes.len());
        if self.fault.is_none() && self.pending.len() > MAX_EVENT_BYTES {
            self.fault = Some(StreamFault::EventTooLarge);
        }
        if self.fault.is_some() {
            self.pending = BytesMut::new();
        }
        let bytes = if splices.is_empty() { bytes } else { spliced(&bytes, &splices) };
        Relay { bytes, fault: self.fault }
    }

    /// The provider's stream has ended.
    pub fn finish(mut self) -> Ending {
        let pending = std::mem::take(&mut self.pending).freeze();
        let mut splices = Vec::new();
        let mut tail = pending.clone();
        if self.fault.is_none()
            && let Some(event) = self.splitter.last(&pending)
            && let Err(fault) = self.read_event(&pending, &event, &mut splices)
        {
            // Half an event: the client would take it for a whole one, joined with what follows.
            tail = Bytes::new();
            self.fault = Some(fault);
        }
        if self.fault.is_none() && self.meter.events == 0 {
            self.fault = Some(StreamFault::Garbage);
        }
        let all_finished = u64::from(self.finished.count_ones()) >= self.choices;
        let complete = self.fault.is_none() && (self.meter.done || all_finished);
        if !splices.is_empty() {
            tail = spliced(&tail, &splices);
        }
        if !complete && !tail.is_empty() {
            // An error event follows, which must not become a part of this one.
            tail = [&tail, b"\n\n".as_slice()].concat().into();
        }
        let is_last = !self.meter.usage_goes_on && (complete || self.dialect.tells_last_usage());
        let metered = self.fault.is_none() && self.meter.usage.is_some() && is_last;
        Ending { tail, metered, complete, fault: self.fault, meter: self.meter, said: self.told.said }
    }

    /// Reads what is complete, up to a fault: how many bytes are done with, and the edits in them.
    fn read(&mut self, bytes: &[u8]) -> (usize, Vec<Splice>) {
        let mut splices = Vec::new();
        while let Some(piece) = self.splitter.next(bytes) {
            match piece {
                Piece::Event(event) => {
                    if let Err(fault) = self.read_event(bytes, &event, &mut splices) {
                        self.fault = Some(fault);
                        return (event.span.start, splices);
                    }
                    if self.meter.done {
                        // What follows is no part of the answer, and nobody meters it.
                        return (event.span.end, splices);
                    }
                }
                Piece::LateLineFeed(at) if self.stripped => splices.push((at..at + 1, Bytes::new())),
                Piece::LateLineFeed(_) => {}
            }
        }
        (self.splitter.settled(), splices)
    }

    fn read_event(&mut self, bytes: &[u8], event: &Event, splices: &mut Vec<Splice>) -> Result<(), StreamFault> {
        self.stripped = false;
        self.meter.provider_error |= event.named_error;
        if event.span.len() > MAX_EVENT_BYTES {
            return Err(StreamFault::EventTooLarge);
        }
        let payload = payload(bytes, event);
        match payload.trim_ascii() {
            b"" => return Ok(()),
            b"[DONE]" => {
                self.meter.done = true;
                return Ok(());
            }
            _ => {}
        }
        let Some(mut answer) = self.read_payload(&payload)? else {
            return Ok(());
        };
        self.note(&answer);
        if let Some(kept) = answer.kept.take() {
            self.meter.kept.get_or_insert_default().add(*kept);
        }
        if self.usage_chunk == UsageChunk::Strip && answer.no_choices && answer.has_usage && !answer.is_error {
            self.stripped = true;
            splices.push((event.span.clone(), Bytes::new()));
        } else if answer.foreign_model
            && let Some(span) = answer.model_span.and_then(|span| place(event, span))
        {
            splices.push((span, self.quoted_model.clone()));
        }
        Ok(())
    }

    fn read_payload(&mut self, payload: &[u8]) -> Result<Option<Answer>, StreamFault> {
        let mut scanner = Scanner::new(payload).map_err(|_| StreamFault::Garbage)?;
        let answer = match scanner.kind() {
            Ok(Kind::Object) => self.dialect.event(&mut self.told, &mut scanner, &self.client_model).map(Some),
            _ => scanner.skip().and_then(|_| scanner.finish()).map(|()| None),
        };
        answer.map_err(|_| StreamFault::Garbage)
    }

    fn note(&mut self, answer: &Answer) {
        self.told.said.end_of_event();
        self.meter.events += 1;
        self.meter.relayed_output_bytes = self.meter.relayed_output_bytes.saturating_add(answer.relayed_output_bytes);
        self.meter.shows_all = answer.is_hiding.map_or(self.meter.shows_all, |hides| !hides);
        self.meter.provider_error |= answer.is_error;
        self.finished |= answer.finished;
        self.meter.done |= answer.ends;
        self.meter.next_sequence = answer.sequence.map_or(self.meter.next_sequence, |number| number.saturating_add(1));
        if let Some(usage) = &answer.usage {
            self.meter.usage = Some(self.meter.usage.as_ref().map_or_else(|| usage.clone(), |before| usage::later(before, usage)));
            (self.meter.usage_goes_on, self.meter.has_unread_usage) = (answer.usage_goes_on, false);
        } else {
            self.meter.usage_goes_on |= self.meter.usage.is_some() && answer.relayed_output_bytes > 0;
            self.meter.has_unread_usage |= answer.has_unread_usage;
        }
        if answer.service_tier.is_some() && self.service_tier.as_deref().is_none_or(is_standard_tier) {
            self.service_tier.clone_from(&answer.service_tier);
        }
        if let (Some(usage), Some(tier)) = (&mut self.meter.usage, &self.service_tier) {
            usage::tiered(usage, tier);
        }
    }
}

/// The payload of an event: its `data` lines, joined by line feeds.
fn payload<'a>(bytes: &'a [u8], event: &Event) -> Cow<'a, [u8]> {
    if let Some(line) = event.only_line() {
        return Cow::Borrowed(bytes.get(line.clone()).unwrap_or_default());
    }
    let lines: Vec<&[u8]> = event.lines().map(|line| bytes.get(line.clone()).unwrap_or_default()).collect();
    Cow::Owned(lines.join(&b'\n'))
}

/// Where a span of the payload stands in the bytes. A string of JSON holds no line end, so it lies in one line.
fn place(event: &Event, span: Range<usize>) -> Option<Range<usize>> {
    let mut joined = 0;
    for line in event.lines() {
        if span.end <= joined + line.len() {
            return Some(line.start + span.start - joined..line.start + span.end - joined);
        }
        joined += line.len() + 1;
    }
    None
}

#[cfg(test)]
mod tests;
