//! The life of one instance: a task that starts its process, watches it, ends it and starts it again.
//!
//! It alone changes the instance's phase. Must not: serve calls; callers do that themselves, so that none waits for this task.

mod alive;
mod birth;

use super::super::lock;
use super::super::process::{Exit, Spawner};
use super::super::session::{Changed, Opening};
use super::backoff::{Backoff, Next};
use super::instance::{How, Instance, Order, Phase, Ready, Stop, all_dead};
use super::options::Options;
use super::private;
use super::written::Written;
use crate::os::clock;
use alive::{Alive, Talk};
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};

/// How long a process whose output is closed may take to end.
const PARTING: Duration = Duration::from_secs(1);

/// What holds for all servers.
pub(super) struct Given {
    pub(super) options: Arc<Options>,
    pub(super) written: Arc<Written>,
    pub(super) spawner: Spawner,
}

/// What an instance needs to live.
pub(super) struct Life {
    pub(super) instance: Arc<Instance>,
    pub(super) orders: mpsc::UnboundedReceiver<Order>,
    pub(super) given: Given,
    /// Told of each change of a list.
    pub(super) changed: watch::Sender<u64>,
    backoff: Backoff,
    opening: Arc<Mutex<Opening>>,
}

/// What comes next.
enum Step {
    /// Whoever asked for it is told when it is so.
    Wait(Phase, Option<Stop>),
    Start,
    Rest(Duration, Arc<str>),
    Gone(Option<Stop>),
}

/// Why a process runs no longer.
enum Cause {
    /// It ended by itself.
    Exited,
    /// It has to end: nothing can be done with it.
    Ill(String),
    /// Nobody has used it for long.
    Idle,
    Restart,
    Stop(Stop),
    End(Stop),
}

/// Whether a conversation's pipes are closed.
type Closed = watch::Receiver<bool>;

impl Life {
    pub(super) fn new(
        instance: Arc<Instance>,
        orders: mpsc::UnboundedReceiver<Order>,
        given: Given,
        changed: watch::Sender<u64>,
        opening: Arc<Mutex<Opening>>,
    ) -> Life {
        Life { instance, orders, given, changed, backoff: Backoff::default(), opening }
    }

    fn remember(&self, opening: Opening) {
        *lock(&self.opening) = opening;
    }

    /// How to begin after a start that failed. A server may have died of the probe: the next start does without, and the one after that
    /// has it again. One that answered it late is given time.
    fn opening_after(&self, opening: Opening) -> Opening {
        match opening {
            Opening::Probe if self.instance.seen.probed_late.swap(false, Ordering::Relaxed) => Opening::Discover,
            Opening::Probe => Opening::Initialize,
            Opening::Initialize | Opening::Discover => Opening::Probe,
        }
    }

    /// Lives, until the configuration has no place for it.
    pub(super) async fn live(mut self, is_wanted: bool) {
        all_dead(&self.instance.before).await;
        let mut step = if is_wanted { Step::Start } else { Step::Wait(Phase::Stopped(None), None) };
        let told = loop {
            step = match step {
                Step::Wait(phase, told) => self.wait(phase, told).await,
                Step::Start => self.run().await,
                Step::Rest(time, why) => self.rest(time, why).await,
                Step::Gone(told) => break told,
            };
        };
        private::tidy(&self.given.options, &self.instance).await;
        self.publish(Phase::Gone);
        self.instance.dead.send_replace(true);
        drop(told);
    }

    fn publish(&self, phase: Phase) {
        self.instance.phase.send_replace(phase);
    }

    /// Nothing runs, and nothing is planned.
    async fn wait(&mut self, phase: Phase, told: Option<Stop>) -> Step {
        let is_failed = matches!(phase, Phase::Failed(_));
        self.publish(phase);
        drop(told);
        loop {
            match self.orders.recv().await {
                Some(Order::Start) if is_failed => {}
                Some(Order::Start) => return Step::Start,
                Some(Order::Restart) => return self.anew(),
                Some(Order::Stop(stop)) => return Step::Wait(Phase::Stopped(Some(stop.why.as_str().into())), Some(stop)),
                Some(Order::End(stop)) => return Step::Gone(Some(stop)),
                None => return Step::Gone(None),
            }
        }
    }

    /// Between two starts.
    async fn rest(&mut self, time: Duration, why: Arc<str>) -> Step {
        self.publish(Phase::Backoff(clock::mono().saturating_add(time), why));
        let over = sleep(time);
        tokio::pin!(over);
        loop {
            tokio::select! {
                () = &mut over => return Step::Start,
                order = self.orders.recv() => match order {
                    Some(Order::Start) => {}
                    Some(Order::Restart) => return self.anew(),
                    Some(Order::Stop(stop)) => return Step::Wait(Phase::Stopped(Some(stop.why.as_str().into())), Some(stop)),
                    Some(Order::End(stop)) => return Step::Gone(Some(stop)),
                    None => return Step::Gone(None),
                },
            }
        }
    }

    fn anew(&mut self) -> Step {
        self.backoff.forget();
        Step::Start
    }

    /// One process, from its birth to its end.
    async fn run(&mut self) -> Step {
        self.publish(Phase::Starting);
        let mut alive = match birth::give(&self.given, &self.instance).await {
            Ok(alive) => alive,
            Err(why) => return self.fell(None, why),
        };
        let limit = self.instance.server.times.start;
        let opening = *lock(&self.opening);
        let begun = tokio::select! {
            begun = timeout(limit, alive.talk(&self.instance, &self.given.options.pace, opening)) => {
                begun.unwrap_or_else(|_| Err(Cause::Ill(format!("it was not ready within {} s", limit.as_secs_f64()))))
            }
            cause = ordered(&mut self.orders) => Err(cause),
        };
        let Talk { session, level, service, changed, listing } = match begun {
            Ok(talk) => talk,
            Err(cause) => {
                if alive.is_confined {
                    self.remember(self.opening_after(opening));
                }
                return self.after(cause, alive, None, None).await;
            }
        };
        self.remember(session.opening());
        let ready_at = clock::mono();
        let listing = Arc::new(listing);
        let ready = Arc::new(Ready { session, level, listing: Mutex::new(Arc::clone(&listing)) });
        let session = &ready.session;
        {
            let mut facts = lock(&self.instance.facts);
            facts.protocol = Some(session.protocol.to_string());
            facts.implementation = session.implementation();
            facts.ready_at = Some(ready_at);
            facts.listing = listing;
        }
        self.changed.send_modify(|count| *count = count.wrapping_add(1));
        self.publish(Phase::Ready(Arc::clone(&ready)));
        let stop = service.cancellation_token();
        let closing = watch::Sender::new(false);
        let mut closed = closing.subscribe();
        drop(tokio::spawn(async move {
            drop(service.waiting().await);
            closing.send_replace(true);
        }));
        let cause = self.watch(&alive, &ready, &mut closed, changed).await;
        let step = self.after(cause, alive, Some(closed), Some(ready_at)).await;
        stop.cancel();
        step
    }

    /// Watches a process that is ready, until it is not to run any more.
    async fn watch(&mut self, alive: &Alive, ready: &Ready, closed: &mut Closed, mut lists: watch::Receiver<Changed>) -> Cause {
        let session = &ready.session;
        let pace = self.given.options.pace;
        let tidy = sleep(pace.health.min(self.idle_left().unwrap_or(pace.health)));
        let following = Arc::clone(session).follow(alive.changed.clone());
        // One reading of a list, or one question for its health, at a time.
        let mut chore: Option<Pin<Box<dyn Future<Output = Done> + Send>>> = None;
        let mut is_stale = false;
        let mut is_following = true;
        tokio::pin!(tidy, following);
        loop {
            tokio::select! {
                biased;
                () = alive.process.exited() => return Cause::Exited,
                () = alive.input.stuck() => return Cause::Ill(format!("it did not read its input for {} s", pace.unread.as_secs_f64())),
                () = shut(closed) => {
                    let is_gone = timeout(PARTING, alive.process.exited()).await.is_ok();
                    return if is_gone { Cause::Exited } else { Cause::Ill("it closed its output".to_owned()) };
                }
                order = self.orders.recv() => match order {
                    Some(Order::Start) => {}
                    Some(Order::Restart) => return Cause::Restart,
                    Some(Order::Stop(stop)) => return Cause::Stop(stop),
                    Some(Order::End(stop)) => return Cause::End(stop),
                    None => return Cause::Idle,
                },
                done = async { match &mut chore { Some(chore) => chore.as_mut().await, None => std::future::pending().await } } => {
                    chore = None;
                    match done {
                        Done::Listed(listed) => {
                            match listed {
                                Ok(listing) => {
                                    self.instance.lists(ready, Arc::new(listing));
                                    self.changed.send_modify(|count| *count = count.wrapping_add(1));
                                }
                                // The old list holds on: what it names may still be there.
                                Err(fault) => alive.feeder.say(&format!("its changed list could not be read: {fault}")),
                            }
                            chore = Some(Box::pin(async move {
                                sleep(pace.relist).await;
                                Done::Rested
                            }));
                        }
                        Done::Rested | Done::Alive(true) => {}
                        Done::Alive(false) if *self.instance.in_use.borrow() > 0 => {}
                        Done::Alive(false) => return Cause::Ill("it does not answer".to_owned()),
                    }
                }
                changed = lists.changed(), if !is_stale => is_stale = changed.is_ok(),
                () = sleep(Duration::ZERO), if is_stale && chore.is_none() => {
                    is_stale = false;
                    lists.mark_unchanged();
                    let (session, limit) = (Arc::clone(session), self.instance.server.times.start);
                    let mut more = lists.clone();
                    chore = Some(Box::pin(async move {
                        // A server that changes its list again and again is read when it has come to rest.
                        while timeout(pace.settle, more.changed()).await.is_ok_and(|changed| changed.is_ok()) {}
                        Done::Listed(session.list(limit).await)
                    }));
                }
                () = &mut following, if is_following => is_following = false,
                () = self.instance.suspect.notified(), if chore.is_none() => {
                    let session = Arc::clone(session);
                    chore = Some(Box::pin(async move { Done::Alive(session.is_alive(pace.health_answer).await) }));
                }
                () = &mut tidy => {
                    let idle_left = self.idle_left();
                    if idle_left.is_some_and(|left| left.is_zero()) && self.leave() {
                        return Cause::Idle;
                    }
                    let quiet = clock::mono_ms().saturating_sub(self.instance.seen.answered_ms.load(Ordering::Relaxed));
                    let is_quiet = Duration::from_millis(quiet) >= pace.health;
                    if is_quiet && chore.is_none() && *self.instance.in_use.borrow() == 0 {
                        let session = Arc::clone(session);
                        chore = Some(Box::pin(async move { Done::Alive(session.is_alive(pace.health_answer).await) }));
                    }
                    let next = idle_left.filter(|left| !left.is_zero()).map_or(pace.health, |left| left.min(pace.health));
                    tidy.set(sleep(next));
                }
            }
        }
    }

    /// How long it may still be idle; nothing when it may be for ever.
    fn idle_left(&self) -> Option<Duration> {
        let limit = self.instance.server.times.idle?;
        if *self.instance.in_use.borrow() > 0 {
            return Some(limit);
        }
        let idle = clock::mono_ms().saturating_sub(self.instance.used_ms.load(Ordering::Relaxed));
        Some(limit.saturating_sub(Duration::from_millis(idle)))
    }

    /// Stops taking calls, unless one came just now.
    fn leave(&self) -> bool {
        let ready = self.instance.phase.send_replace(Phase::Stopping);
        let is_unused = *self.instance.in_use.borrow() == 0;
        if !is_unused {
            self.publish(ready);
        }
        is_unused
    }

    /// Ends a process for a reason, and says what comes then.
    async fn after(&mut self, cause: Cause, alive: Alive, closed: Option<Closed>, ready_at: Option<Duration>) -> Step {
        let grace = self.instance.server.times.shutdown;
        match cause {
            Cause::Exited => {
                let exit = alive.bury(&self.instance, closed).await;
                let when = if ready_at.is_none() { " before it was ready" } else { "" };
                self.fell(ready_at, format!("{}{when}", how(exit)))
            }
            Cause::Ill(why) => {
                self.publish(Phase::Stopping);
                alive.fell(&self.instance, &why, closed).await;
                self.fell(ready_at, why)
            }
            Cause::Idle => {
                self.publish(Phase::Stopping);
                alive.part("it was not used", grace).await;
                Step::Wait(Phase::Stopped(None), None)
            }
            Cause::Restart => {
                self.publish(Phase::Stopping);
                alive.part("it is restarted", grace).await;
                self.anew()
            }
            Cause::Stop(stop) => {
                self.publish(Phase::Stopping);
                self.stop(alive, &stop).await;
                Step::Wait(Phase::Stopped(Some(stop.why.as_str().into())), Some(stop))
            }
            Cause::End(stop) => {
                // Who waits for it looks for the one in its place, or hears that there is none.
                self.publish(Phase::Gone);
                self.stop(alive, &stop).await;
                Step::Gone(Some(stop))
            }
        }
    }

    async fn stop(&mut self, alive: Alive, stop: &Stop) {
        if stop.how == How::Drain {
            let mut in_use = self.instance.in_use.subscribe();
            // Calls that are not done by then fail.
            drop(timeout(self.given.options.pace.drain, in_use.wait_for(|count| *count == 0)).await);
        }
        if stop.how == How::Kill {
            alive.kill(&stop.why).await;
        } else {
            alive.part(&stop.why, self.instance.server.times.shutdown).await;
        }
    }

    /// After an end that nobody asked for.
    fn fell(&mut self, ready_at: Option<Duration>, why: String) -> Step {
        let now = clock::mono();
        {
            let mut facts = lock(&self.instance.facts);
            facts.ends = facts.ends.saturating_add(1);
            facts.failed_starts = facts.failed_starts.saturating_add(u64::from(ready_at.is_none()));
            facts.ready_at = None;
        }
        let mut dice = [0; 2];
        if let Err(fault) = getrandom::fill(&mut dice) {
            // Without dice servers start together, which is no harm.
            tracing::debug!(%fault, "no random bytes");
        }
        let ready_for = ready_at.map(|at| now.saturating_sub(at));
        tracing::warn!(server = self.instance.server.name, why, "a tool server ended");
        match self.backoff.ended(now, ready_for, &self.given.options.pace, u16::from_le_bytes(dice)) {
            Next::Rest(time) => Step::Rest(time, why.into()),
            Next::Fail => Step::Wait(Phase::Failed(why.into()), None),
        }
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        // Also when it was cut off: whoever calls next gets another instance.
        self.publish(Phase::Gone);
        self.instance.dead.send_replace(true);
    }
}

/// What a chore came to.
enum Done {
    Listed(Result<super::super::session::Listing, super::super::fault::ToolFault>),
    Rested,
    Alive(bool),
}

/// Waits until a conversation's pipes are closed.
async fn shut(closed: &mut Closed) {
    // Without who could tell it they are closed too.
    drop(closed.wait_for(|is_closed| *is_closed).await);
}

/// The next order that ends a start.
async fn ordered(orders: &mut mpsc::UnboundedReceiver<Order>) -> Cause {
    loop {
        match orders.recv().await {
            Some(Order::Start) => {}
            Some(Order::Restart) => return Cause::Restart,
            Some(Order::Stop(stop)) => return Cause::Stop(stop),
            Some(Order::End(stop)) => return Cause::End(stop),
            None => return Cause::Idle,
        }
    }
}

fn how(exit: Option<Exit>) -> String {
    exit.map_or_else(|| "it ended".to_owned(), |exit| format!("it {exit}"))
}
