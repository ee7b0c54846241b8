//! The end of a process, awaited by its descriptor. The one module of tools outside the sandbox with unsafe code.

#![expect(unsafe_code, reason = "tokio registers a descriptor only for who swears that it stays open")]

use std::io;
use std::os::fd::OwnedFd;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A pidfd (pidfd_open(2)): readable when its process has ended.
#[derive(Debug)]
pub(super) struct Pidfd(AsyncFd<OwnedFd>);

impl Pidfd {
    /// Watches it, within a runtime.
    pub(super) fn watch(pidfd: OwnedFd) -> io::Result<Pidfd> {
        // SAFETY: the descriptor is owned by what is registered, and never taken out or replaced, so it stays open until it is deregistered.
        let watched = unsafe { AsyncFd::register_with_interest(pidfd, Interest::READABLE) };
        Ok(Pidfd(watched?))
    }

    /// Waits until the process has ended. It is not reaped by that.
    pub(super) async fn ended(&self) {
        if self.0.readable().await.is_err() {
            // The runtime ends, and everything with it.
            std::future::pending::<()>().await;
        }
    }
}
