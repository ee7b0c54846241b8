//! The one place that reads a clock: for deadlines, and to compare the wall clock with the daemon's.

use aex_proto::value::Stamp;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

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

/// Wall time.
#[allow(clippy::disallowed_methods, reason = "the one reader of the clock")]
pub(crate) fn wall() -> Stamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Stamp::new(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}
