//! One call: what its client and its provider do, and how the daemon sees it end.

use super::random::Random;
use aex_core::ended::{Ended, Passed};
use aex_core::event::Outcome;
use aex_core::price::Bound;
use aex_core::usage::Usage;
use aex_proto::value::AccountId;

/// How far the daemon is with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Its hold is in line.
    Asked,
    /// Money is held; the request is not sent yet.
    Held,
    /// The request is with the provider.
    Sent,
    /// The answer is being relayed.
    Relaying,
    /// Its end is in line or written; or it was refused.
    Over,
}

/// What a provider will do with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Habit {
    /// Answers as a stream of tokens, and reports the usage at its end.
    Streams(u64),
    /// Answers as a whole.
    Answers(u64),
    /// Answers without a report.
    Silent(u64),
    /// Reports more output than was asked for.
    Overbills(u64),
    /// Streams, and breaks off.
    BreaksOff(u64),
    /// Refuses with a status.
    Refuses(u16),
    /// Fails with a status; the input may be billed.
    Fails(u16),
    /// Resets the connection before any answer; the input is billed.
    Resets,
    /// Never answers.
    Stalls,
}

#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) number: u64,
    pub(super) account: AccountId,
    pub(super) model: usize,
    pub(super) bound: Bound,
    pub(super) stage: Stage,
    pub(super) commit: u64,
    pub(super) habit: Habit,
    /// The request reached the provider.
    pub(super) reached: bool,
    /// What the provider bills, in tokens.
    pub(super) bill: Usage,
    /// Tokens that it has produced and that have not been relayed.
    pub(super) in_flight: u64,
    /// Bytes of output that the client has seen.
    pub(super) bytes: u64,
    /// Anything of the answer was shown.
    pub(super) seen: bool,
}

/// What comes of a turn.
pub(super) enum Turn {
    /// It goes on.
    Goes,
    /// It is over, as the daemon sees it.
    Ends(Ended),
}

impl Habit {
    pub(super) fn draw(random: &mut Random, bound: &Bound) -> Habit {
        let output = random.below(bound.output_tokens + 1);
        match random.below(16) {
            0..=3 => Habit::Streams(output),
            4..=6 => Habit::Answers(output),
            7 => Habit::Silent(output),
            8 => Habit::Overbills(bound.output_tokens + 1 + random.below(2_000)),
            9 => Habit::BreaksOff(output),
            10 | 11 => Habit::Refuses(random.pick(&[400, 401, 429, 500, 503, 529])),
            12 | 13 => Habit::Fails(random.pick(&[408, 500, 502, 503, 504, 520])),
            14 => Habit::Resets,
            _ => Habit::Stalls,
        }
    }
}

impl Call {
    fn input(&self, random: &mut Random) -> u64 {
        1 + random.below(self.bound.input_tokens)
    }

    /// The request reaches the provider.
    pub(super) fn send(&mut self, random: &mut Random) {
        self.stage = Stage::Sent;
        self.reached = true;
        let input = self.input(random);
        match self.habit {
            Habit::Refuses(_) => {}
            Habit::Fails(_) => self.bill = Usage::text(random.pick(&[0, input]), 0),
            Habit::Answers(output) | Habit::Silent(output) | Habit::Overbills(output) => self.bill = Usage::text(input, output),
            Habit::Streams(_) | Habit::BreaksOff(_) | Habit::Resets | Habit::Stalls => self.bill = Usage::text(input, 0),
        }
    }

    /// The answer, or what there is instead, moves on by a step.
    pub(super) fn turn(&mut self, random: &mut Random) -> Turn {
        let produced = self.bill.get(aex_core::usage::Bucket::Output);
        match self.habit {
            Habit::Refuses(status) => Turn::Ends(Ended::declined(status, || true)),
            Habit::Fails(status) => Turn::Ends(Ended::declined(status, || false)),
            Habit::Resets => Turn::Ends(Ended::Failed { status: None }),
            Habit::Stalls => Turn::Goes,
            Habit::Answers(_) | Habit::Overbills(_) => self.show(Ended::plain(200, Some(self.bill.clone()), 4 * produced)),
            // No token is shorter than a byte.
            Habit::Silent(output) => self.show(Ended::plain(200, None, output * (1 + random.below(4)))),
            Habit::Streams(output) | Habit::BreaksOff(output) => {
                self.stage = Stage::Relaying;
                if self.in_flight > 0 {
                    self.bytes += self.in_flight * (1 + random.below(4));
                    self.in_flight = 0;
                    self.seen = true;
                } else if produced < output {
                    self.in_flight = 1 + random.below(output - produced);
                    self.bill = Usage::text(self.bill.get(aex_core::usage::Bucket::Input), produced + self.in_flight);
                } else if matches!(self.habit, Habit::BreaksOff(_)) {
                    return Turn::Ends(Ended::cut(200, self.passed(None), Outcome::ProviderLeft));
                } else {
                    self.seen = true;
                    return Turn::Ends(Ended::streamed(200, self.passed(Some(self.bill.clone()))));
                }
                Turn::Goes
            }
        }
    }

    fn show(&mut self, ended: Ended) -> Turn {
        self.seen = true;
        Turn::Ends(ended)
    }

    fn passed(&self, usage: Option<Usage>) -> Passed {
        Passed { bytes: self.bytes, provider_error: false, shows_all: false, usage }
    }

    /// The client leaves: a stream is given up where it is, a plain call goes on.
    pub(super) fn leave(&mut self) -> Turn {
        match self.habit {
            Habit::Streams(_) | Habit::BreaksOff(_) if self.reached => Turn::Ends(Ended::cut(200, self.passed(None), Outcome::ClientLeft)),
            _ => Turn::Goes,
        }
    }
}
