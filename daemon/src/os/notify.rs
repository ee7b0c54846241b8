//! Tells whoever started the daemon how it is: systemd, or `aexctl daemon start` (sd_notify(3)).

use sd_notify::NotifyState;
use std::net::SocketAddr;
use std::time::Duration;

/// The daemon serves.
pub fn ready(listen: SocketAddr) {
    send(&[NotifyState::Ready, NotifyState::Status(&format!("listening on {listen}"))]);
}

/// The daemon serves again, after a reload.
pub fn ready_again() {
    send(&[NotifyState::Ready]);
}

/// The daemon has begun to stop.
pub fn stopping() {
    send(&[NotifyState::Stopping]);
}

/// How often whoever started the daemon wants to hear that it is alive; `None`: not at all.
#[must_use]
pub fn watchdog() -> Option<Duration> {
    sd_notify::watchdog_enabled().filter(|interval| !interval.is_zero())
}

/// The daemon is alive.
pub fn alive() {
    send(&[NotifyState::Watchdog]);
}

/// The configuration is read anew.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => send(&[NotifyState::Reloading, now]),
        Err(fault) => tracing::debug!(%fault, "no monotonic clock for the reload's notification"),
    }
}

/// What went wrong, or that all is well again.
pub fn status(text: &str) {
    send(&[NotifyState::Status(text)]);
}

fn send(states: &[NotifyState<'_>]) {
    // Nobody listening is the common case, and no fault.
    if let Err(fault) = sd_notify::notify(states) {
        tracing::debug!(%fault, "nobody took the notification");
    }
}
