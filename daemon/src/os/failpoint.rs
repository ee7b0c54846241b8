//! Fail points: places at which a debug build can be made to die, so that a test kills it exactly there.
//!
//! `AEX_FAILPOINT=name:count` ends the process by SIGKILL when the place of that name is reached for the count-th time: nothing
//! is flushed, dropped or answered any more. Each name stands once in the sources, and the kill test reaches all of them
//! (`tests/tests/tidy.rs`, `tests/tests/kills.rs`). A release build has none of this.

#[cfg(debug_assertions)]
pub use armed::reached;

/// Says that a place is reached. This is a build without fail points: nothing happens.
#[cfg(not(debug_assertions))]
#[inline]
pub const fn reached(_point: &str) {}

#[cfg(debug_assertions)]
mod armed {
    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    const VARIABLE: &str = "AEX_FAILPOINT";

    /// The place where this process is to die.
    struct Trap {
        point: String,
        /// How often it is still to be reached.
        left: AtomicU64,
    }

    impl Trap {
        fn set() -> Option<Trap> {
            let text = std::env::var(VARIABLE).ok()?;
            let trap = text.rsplit_once(':').and_then(|(point, count)| {
                let left = AtomicU64::new(count.parse().ok().filter(|count| *count > 0)?);
                Some(Trap { point: point.to_owned(), left })
            });
            if trap.is_none() {
                tracing::error!(text, "{VARIABLE} is not of the form name:count; it is not heeded");
            }
            trap
        }
    }

    /// Says that a place is reached: the process ends here when it was told so.
    pub fn reached(point: &str) {
        static TRAP: OnceLock<Option<Trap>> = OnceLock::new();
        let Some(trap) = TRAP.get_or_init(Trap::set) else { return };
        if trap.point != point || trap.left.fetch_sub(1, Ordering::SeqCst) != 1 {
            return;
        }
        while let Ok(()) = kill(Pid::this(), Signal::SIGKILL) {
            // The signal takes the process on the way back from the call; until then this thread goes no further.
            std::thread::park();
        }
    }
}
