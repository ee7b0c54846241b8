//! The only readers of clocks. Everything else is handed the time.

#![expect(clippy::disallowed_methods, reason = "this is the one place that may read a clock")]

use aex_proto::value::Stamp;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

static START: OnceLock<Instant> = OnceLock::new();

/// What tells the wall time to whoever must not read a clock.
pub type Wall = Arc<dyn Fn() -> Stamp + Send + Sync>;

/// Wall time. Before 1970 it stays at 1970.
#[must_use]
pub fn wall() -> Stamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Stamp::new(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

/// Monotonic time since the first call, which never goes back.
#[must_use]
pub fn mono() -> Duration {
    START.get_or_init(Instant::now).elapsed()
}

/// Monotonic milliseconds, moved by an hour so that calls from before a restart have a place on the same scale.
#[must_use]
pub fn mono_ms() -> u64 {
    let since = mono().saturating_add(Duration::from_secs(3_600));
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Microseconds since the machine booted, suspended time included.
#[must_use]
pub fn boot_us() -> i64 {
    nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME)
        .map_or(0, |at| at.tv_sec().saturating_mul(1_000_000).saturating_add(at.tv_nsec() / 1_000))
}
