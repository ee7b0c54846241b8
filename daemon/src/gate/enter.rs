//! The checks that need no body: who calls, with which scope, on which account, at which rate.

use super::{Gate, Ticket, live};
use crate::ledger::AccountView;
use crate::os::clock;
use aex_core::books::{AccountKind, HoldKey};
use aex_core::decision::{AccountState, AuthCause, Denial};
use aex_core::rate::Full;
use aex_proto::value::{AccountId, RequestId, TokenHash};
use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU32;
use std::sync::Arc;

/// Failed authentications that one peer may make at once.
const FAILED_AUTH_BURST: NonZeroU32 = match NonZeroU32::new(60) {
    Some(calls) => calls,
    None => NonZeroU32::MIN,
};
/// Failed authentications that one peer may make in a second, in the long run.
const FAILED_AUTH_PER_SECOND: NonZeroU32 = match NonZeroU32::new(10) {
    Some(calls) => calls,
    None => NonZeroU32::MIN,
};

pub(super) type AuthLimiter = DefaultKeyedRateLimiter<IpAddr>;

pub(super) fn auth_limiter() -> AuthLimiter {
    RateLimiter::keyed(Quota::per_second(FAILED_AUTH_PER_SECOND).allow_burst(FAILED_AUTH_BURST))
}

/// Who a failed authentication counts against. A local process has all of 127/8 to call from.
fn culprit(peer: IpAddr) -> IpAddr {
    let peer = peer.to_canonical();
    if peer.is_loopback() { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { peer }
}

/// A caller whose call counts in the rates until this is dropped.
#[derive(Debug)]
pub struct Entered {
    gate: Gate,
    /// Who calls.
    pub view: Arc<AccountView>,
    /// The request.
    pub request: RequestId,
    /// The token that it came with; none where an administrator calls for the account.
    token: Option<TokenHash>,
    /// The idempotency key that it came with.
    pub(super) ticket: Option<Arc<Ticket>>,
}

impl Drop for Entered {
    fn drop(&mut self) {
        if let Ok(mut rates) = self.gate.inner.rates.lock() {
            rates.leave(&self.view.limits);
        }
    }
}

/// A caller that was turned away.
#[derive(Debug)]
pub struct Refused {
    /// Why.
    pub denial: Denial,
    /// Who it was, when that is known.
    pub view: Option<Arc<AccountView>>,
}

impl Gate {
    /// Who a token belongs to, and whether it may only read.
    ///
    /// # Errors
    /// Why the caller is not known.
    pub fn authenticate(&self, token: Option<&str>, peer: IpAddr) -> Result<(Arc<AccountView>, bool), Denial> {
        self.look_up(token).map_err(|cause| self.throttled(peer).unwrap_or(Denial::Unauthenticated { cause }))
    }

    fn look_up(&self, token: Option<&str>) -> Result<(Arc<AccountView>, bool), AuthCause> {
        self.known(&TokenHash::of(token.ok_or(AuthCause::Missing)?).map_err(|_| AuthCause::Malformed)?)
    }

    fn known(&self, hash: &TokenHash) -> Result<(Arc<AccountView>, bool), AuthCause> {
        let directory = self.inner.ledger.directory();
        let token = directory.tokens.get(hash.bytes()).ok_or(AuthCause::Unknown)?;
        let now = clock::wall();
        if token.revoked_at.is_some_and(|at| at <= now) {
            return Err(AuthCause::Revoked);
        }
        if token.expires_at.is_some_and(|at| at <= now) {
            return Err(AuthCause::Expired);
        }
        let view = directory.accounts.get(&token.account).ok_or(AuthCause::Unknown)?;
        Ok((Arc::clone(view), token.read_only))
    }

    /// Whether a text is a token of this ledger, also one that is no longer good.
    #[must_use]
    pub fn knows(&self, said: &str) -> bool {
        TokenHash::of(said).is_ok_and(|hash| self.inner.ledger.directory().tokens.contains_key(hash.bytes()))
    }

    fn throttled(&self, peer: IpAddr) -> Option<Denial> {
        let limiter = &self.inner.failed_auth;
        let until = limiter.check_key(&culprit(peer)).err()?;
        let wait = until.wait_time_from(DefaultClock::default().now());
        Some(Denial::AuthThrottled { retry_after_ms: u64::try_from(wait.as_millis()).unwrap_or(1_000).max(1) })
    }

    /// Forgets peers whose failures are long past, and the rates of accounts that have been closed.
    pub fn forget_past(&self) {
        self.inner.failed_auth.retain_recent();
        self.inner.failed_auth.shrink_to_fit();
        // The directory is read behind the lock: whoever is in the rates has been in it before.
        if let Ok(mut rates) = self.inner.rates.lock() {
            let directory = self.inner.ledger.directory();
            rates.forget_closed(|account| directory.accounts.contains_key(&account));
        }
        if let Ok(mut tokens) = self.inner.tokens.lock() {
            let directory = self.inner.ledger.directory();
            tokens.forget_closed(|account| directory.accounts.contains_key(&account));
        }
    }

    /// Authenticates a call, checks scope, account and rates, and takes it into the rates.
    ///
    /// # Errors
    /// The first check that fails.
    pub fn enter(&self, token: Option<&str>, peer: IpAddr, request: RequestId) -> Result<Entered, Refused> {
        let (view, read_only) = self.authenticate(token, peer).map_err(|denial| Refused { denial, view: None })?;
        if read_only {
            return Err(Refused { denial: Denial::ReadOnlyToken, view: Some(view) });
        }
        let token = token.and_then(|token| TokenHash::of(token).ok());
        self.enter_known(view, token, request)
    }

    /// The same for an agent whom an administrator calls for, without its token.
    ///
    /// # Errors
    /// The first check that fails.
    pub fn enter_account(&self, account: AccountId, request: RequestId) -> Result<Entered, Refused> {
        let view = self.inner.ledger.directory().accounts.get(&account).map(Arc::clone);
        let unknown = || Refused { denial: Denial::Unauthenticated { cause: AuthCause::Unknown }, view: None };
        self.enter_known(view.ok_or_else(unknown)?, None, request)
    }

    fn enter_known(&self, view: Arc<AccountView>, token: Option<TokenHash>, request: RequestId) -> Result<Entered, Refused> {
        let refused = |denial| Refused { denial, view: Some(Arc::clone(&view)) };
        if let Some(stopped) = &view.stopped {
            return Err(refused(stopped.clone()));
        }
        let entered = match self.inner.rates.lock() {
            Ok(mut rates) => rates.enter(&view.limits, clock::mono_ms()),
            // A panic while rates were held: they can't be trusted, so nothing passes.
            Err(_) => return Err(refused(Denial::LedgerUnavailable)),
        };
        if let Err(full) = entered {
            return Err(refused(self.full(&full)));
        }
        let entered = Entered { gate: self.clone(), view: Arc::clone(&view), request, token, ticket: None };
        if self.inner.live.is_draining() {
            return Err(refused(Denial::Draining));
        }
        Ok(entered)
    }

    /// The caller as it is now, whose token has to be good still: a call may have waited since it entered.
    ///
    /// # Errors
    /// Why it may not call any more.
    pub fn again(&self, entered: &Entered) -> Result<Arc<AccountView>, Denial> {
        let now = self.inner.ledger.directory().accounts.get(&entered.view.named.id).map(Arc::clone);
        let now = now.ok_or_else(|| self.stopped_within(&entered.view))?;
        if let Some(stopped) = &now.stopped {
            return Err(stopped.clone());
        }
        match entered.token.as_ref().map(|token| self.known(token)) {
            Some(Err(cause)) => Err(Denial::Unauthenticated { cause }),
            Some(Ok((_, true))) => Err(Denial::ReadOnlyToken),
            Some(Ok((_, false))) | None => Ok(now),
        }
    }

    fn full(&self, full: &Full) -> Denial {
        Denial::Rate {
            account: self.inner.ledger.directory().name_of(full.account),
            kind: full.kind,
            limit: full.limit,
            retry_after_ms: full.retry_after_ms,
        }
    }

    /// Why a call's account is stopped within its answer: the kill that stands on it or above it, with the words of whoever did
    /// it. What is closed has none left: nobody looks it up any more.
    #[must_use]
    pub fn stopped_within(&self, view: &AccountView) -> Denial {
        let directory = self.inner.ledger.directory();
        let killed = view.path.iter().find_map(|id| {
            let stopped = directory.accounts.get(id)?.stopped.clone()?;
            let is_own = matches!(&stopped, Denial::Account { account, state: AccountState::Killed, .. } if account.id == *id);
            is_own.then_some(stopped)
        });
        killed.unwrap_or_else(|| Denial::Account {
            account: if view.kind == AccountKind::Run { view.named.clone() } else { view.agent.clone() },
            reason: "stopped during the call".to_owned(),
            state: view.stop.state().unwrap_or(AccountState::Killed),
        })
    }

    /// Calls that have not ended yet.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.inner.live.count()
    }

    /// Begins a graceful stop: new calls are refused, `draining` resolves.
    pub fn drain(&self) {
        self.inner.live.drain();
    }

    /// Whether a graceful stop has begun.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.inner.live.is_draining()
    }

    /// Follows whether a graceful stop has begun.
    #[must_use]
    pub fn draining(&self) -> tokio::sync::watch::Receiver<bool> {
        self.inner.live.draining()
    }

    /// Resolves when no call is in flight.
    pub async fn drained(&self) {
        self.inner.live.drained().await;
    }

    /// Counts a call until the answer's last byte, or until its task is done. A call may be tracked by several at once.
    #[must_use]
    pub fn track(&self, request: RequestId) -> live::Call {
        live::Call::begin(self, request)
    }

    /// A call that is tracked goes on with this hold.
    pub(super) fn drives(&self, key: HoldKey) {
        self.inner.live.drives(key);
    }

    /// Which try of a request is under way.
    pub(super) fn attempt_of(&self, request: RequestId) -> u8 {
        self.inner.live.attempt_of(request)
    }

    /// Whether somebody drives a call. One that nobody drives is ended at its deadline.
    #[must_use]
    pub fn is_live(&self, key: HoldKey) -> bool {
        self.inner.live.is_live(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_local_process_has_one_allowance_of_failures_whatever_address_it_calls_from() {
        let limiter = auth_limiter();
        let addresses = (0..FAILED_AUTH_BURST.get()).map(|n| IpAddr::from([127, 1, 2, u8::try_from(n).unwrap()]));
        assert!(addresses.map(culprit).all(|peer| limiter.check_key(&peer).is_ok()));
        for local in ["127.0.0.1", "::1", "::ffff:127.9.9.9"] {
            assert!(limiter.check_key(&culprit(local.parse().unwrap())).is_err(), "{local}");
        }
        assert!(limiter.check_key(&culprit("10.0.0.7".parse().unwrap())).is_ok());
    }
}
