//! The one place that reads a clock: for deadlines only.

use std::time::{Duration, Instant};

/// An end of waiting.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline(Instant);

impl Deadline {
    #[allow(clippy::disallowed_methods, reason = "the one reader of the clock")]
    pub(crate) fn after(span: Duration) -> Deadline {
        Deadline(Instant::now() + span)
    }

    #[allow(clippy::disallowed_methods, reason = "the one reader of the clock")]
    pub(crate) fn left(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }

    pub(crate) fn is_over(self) -> bool {
        self.left().is_zero()
    }
}
