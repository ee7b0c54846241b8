//! One process of a server, or the place of one, as its callers see it: they take their turn, and wait until it is ready.
//!
//! What becomes of the process is decided in `life`; what is asked of it then, in `entry`.

use super::super::fault::ToolFault;
use super::super::framing::Seen;
use super::super::lock;
use super::super::process::Journal;
use super::super::sandbox::Report;
use super::super::server::Server;
use super::super::session::{Listing, Session};
use super::entry::Entry;
use super::status::{self, Counters, State};
use super::{Caller, Scope};
use crate::os::clock;
use aex_proto::sandbox::Level;
use aex_proto::value::AccountId;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, TryAcquireError, mpsc, oneshot, watch};
use tokio::time::{sleep, timeout};

/// Lines of standard error that a fault tells.
pub(super) const LAST_WORDS: usize = 20;
/// More lines of junk than this, and a server is not well.
const MUCH_JUNK: u64 = 100;

/// Where an instance is in its life.
#[derive(Clone)]
pub(super) enum Phase {
    Stopped(Option<Arc<str>>),
    Starting,
    Ready(Arc<Ready>),
    Stopping,
    /// Until when, on the monotonic clock, and why.
    Backoff(Duration, Arc<str>),
    Failed(Arc<str>),
    /// It takes no more calls: the configuration has another one, or none. Calls in progress may still end.
    Gone,
}

/// A process that takes calls.
pub(super) struct Ready {
    pub(super) session: Arc<Session>,
    /// How it is confined.
    pub(super) level: Level,
    /// Its tools, as they were last read.
    pub(super) listing: Mutex<Arc<Listing>>,
}

/// What an instance is told to do.
pub(super) enum Order {
    /// Somebody needs it.
    Start,
    /// Start it anew, whatever happened before.
    Restart,
    /// End its process.
    Stop(Stop),
    /// End its process, and itself.
    End(Stop),
}

/// How a process is ended.
pub(super) struct Stop {
    pub(super) how: How,
    pub(super) why: String,
    /// Dropped when it is done, for whoever waits for that.
    #[expect(dead_code, reason = "its drop is what counts")]
    pub(super) done: Option<oneshot::Sender<()>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    /// Calls in progress may go on for a while.
    Drain,
    /// At once, but the process may tidy up.
    Gently,
    /// At once.
    Kill,
}

/// What is known of the process of the moment.
#[derive(Clone, Default)]
pub(super) struct Facts {
    pub(super) pid: Option<u32>,
    pub(super) report: Option<Report>,
    pub(super) protocol: Option<String>,
    pub(super) implementation: Option<String>,
    pub(super) ready_at: Option<Duration>,
    pub(super) listing: Arc<Listing>,
    pub(super) starts: u64,
    pub(super) ends: u64,
    /// Those of them that came before it was ready.
    pub(super) failed_starts: u64,
}

/// Becomes true when an instance is dead.
pub(super) type Death = watch::Receiver<bool>;

/// Resolves when all of them are dead.
pub(super) async fn all_dead(deaths: &[Death]) {
    for death in deaths {
        // Without who could tell of it, it is dead.
        drop(death.clone().wait_for(|dead| *dead).await);
    }
}

/// An instance.
pub(super) struct Instance {
    pub(super) server: Arc<Server>,
    pub(super) scope: Scope,
    pub(super) phase: watch::Sender<Phase>,
    pub(super) orders: mpsc::UnboundedSender<Order>,
    /// It was told to end itself. The phase says so when its task has heard of it.
    over: watch::Sender<bool>,
    /// Its process is dead, and none will follow.
    pub(super) dead: watch::Sender<bool>,
    /// Tells of those in whose place it is: it starts when they are dead.
    pub(super) before: Vec<Death>,
    pub(super) facts: Mutex<Facts>,
    pub(super) seen: Arc<Seen>,
    pub(super) journal: Arc<Journal>,
    /// Calls that wait, run or want it to be ready.
    pub(super) in_use: watch::Sender<usize>,
    /// When the last of them ended, in milliseconds of the monotonic clock.
    pub(super) used_ms: AtomicU64,
    /// Told when a call took too long: the server may hang.
    pub(super) suspect: Notify,
    turns: Arc<Semaphore>,
    waiting: AtomicUsize,
    calls: AtomicU64,
    faults: AtomicU64,
    timeouts: AtomicU64,
}

/// Why nothing was asked.
pub(super) enum Refusal {
    Fault(ToolFault),
    /// The configuration has another instance by now.
    Gone,
}

impl From<ToolFault> for Refusal {
    fn from(fault: ToolFault) -> Refusal {
        Refusal::Fault(fault)
    }
}

impl Instance {
    pub(super) fn new(
        server: Arc<Server>,
        scope: Scope,
        journal: Arc<Journal>,
        before: Vec<Death>,
    ) -> (Arc<Instance>, mpsc::UnboundedReceiver<Order>) {
        let (orders, received) = mpsc::unbounded_channel();
        let turns = Semaphore::new(server.bounds.concurrency.clamp(1, Semaphore::MAX_PERMITS));
        let instance = Instance {
            server,
            scope,
            phase: watch::Sender::new(Phase::Stopped(None)),
            orders,
            over: watch::Sender::new(false),
            dead: watch::Sender::new(false),
            before,
            facts: Mutex::new(Facts::default()),
            seen: Arc::default(),
            journal,
            in_use: watch::Sender::new(0),
            used_ms: AtomicU64::new(clock::mono_ms()),
            suspect: Notify::new(),
            turns: Arc::new(turns),
            waiting: AtomicUsize::new(0),
            calls: AtomicU64::new(0),
            faults: AtomicU64::new(0),
            timeouts: AtomicU64::new(0),
        };
        (Arc::new(instance), received)
    }

    /// Enters a call: its turn has come, and the server is started for it where it must be.
    pub(super) async fn enter(self: &Arc<Self>) -> Result<Entry, Refusal> {
        let used = Use::of(self);
        let entered = async {
            let turn = self.turn().await?;
            let ready = self.ready().await?;
            Ok((turn, ready))
        };
        let entered: Result<_, Refusal> = entered.await;
        match entered {
            Ok((turn, ready)) => Ok(Entry::new(Arc::clone(self), ready, turn, used)),
            Err(refusal) => {
                if let Refusal::Fault(fault) = &refusal {
                    self.begun();
                    self.count(fault);
                }
                Err(refusal)
            }
        }
    }

    /// Counts a call.
    pub(super) fn begun(&self) {
        self.calls.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts what a call came to that got no answer.
    pub(super) fn count(&self, fault: &ToolFault) {
        // An error of the server's own is an answer.
        if !matches!(fault, ToolFault::Refused { .. }) {
            self.faults.fetch_add(1, Ordering::Relaxed);
        }
        if matches!(fault, ToolFault::TimedOut { .. }) {
            self.timeouts.fetch_add(1, Ordering::Relaxed);
            self.suspect.notify_one();
        }
    }

    /// Its tools, as they were last read.
    pub(super) async fn listing(self: &Arc<Self>) -> Result<Arc<Listing>, Refusal> {
        let _use = Use::of(self);
        Ok(self.ready().await?.listing())
    }

    /// Its process says that it has these tools.
    pub(super) fn lists(&self, ready: &Ready, listing: Arc<Listing>) {
        lock(&self.facts).listing = Arc::clone(&listing);
        *lock(&ready.listing) = listing;
    }

    /// A turn, in the order of arrival.
    async fn turn(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        match Arc::clone(&self.turns).try_acquire_owned() {
            Ok(turn) => return Ok(turn),
            Err(TryAcquireError::Closed) => return Err(Refusal::Gone),
            Err(TryAcquireError::NoPermits) => {}
        }
        let bounds = &self.server.bounds;
        let busy = || ToolFault::Busy { server: self.server.name.clone(), running: bounds.concurrency, waiting: bounds.queue };
        let place = Waiting::of(&self.waiting);
        if place.number > bounds.queue {
            return Err(busy().into());
        }
        match timeout(self.server.times.call, Arc::clone(&self.turns).acquire_owned()).await {
            Ok(Ok(turn)) => Ok(turn),
            // It was told to end: those who wait go on to the one in its place, in their order.
            Ok(Err(_)) => Err(Refusal::Gone),
            Err(_) => Err(busy().into()),
        }
    }

    /// Waits until it is ready, for one start at most.
    pub(super) async fn ready(&self) -> Result<Arc<Ready>, Refusal> {
        let mut over = self.over.subscribe();
        tokio::select! {
            biased;
            // One that is closed is over, too.
            _ = over.wait_for(|over| *over) => Err(Refusal::Gone),
            ready = self.readied() => ready,
        }
    }

    async fn readied(&self) -> Result<Arc<Ready>, Refusal> {
        all_dead(&self.before).await;
        let mut phase = self.phase.subscribe();
        let patience = self.server.times.start;
        let late = sleep(patience.saturating_mul(2));
        tokio::pin!(late);
        let (mut has_asked, mut has_begun) = (false, false);
        let failed = lock(&self.facts).failed_starts;
        loop {
            let now = phase.borrow_and_update().clone();
            match now {
                // One that is closed is told to have ended in a moment.
                Phase::Ready(ready) if ready.session.is_closed() => {}
                Phase::Ready(ready) => return Ok(ready),
                Phase::Gone => return Err(Refusal::Gone),
                Phase::Failed(why) => return Err(self.failed(&why).into()),
                Phase::Stopped(why) if has_begun => return Err(self.not_started(why.as_deref().unwrap_or("it was stopped")).into()),
                Phase::Stopped(_) => {
                    if !std::mem::replace(&mut has_asked, true) {
                        // Who takes orders is gone together with the phase, which says so.
                        drop(self.orders.send(Order::Start));
                    }
                }
                Phase::Backoff(_, why) if has_begun || lock(&self.facts).failed_starts > failed => {
                    return Err(self.not_started(&why).into());
                }
                Phase::Backoff(until, why) => {
                    let retry_in = until.saturating_sub(clock::mono());
                    if retry_in > patience {
                        return Err(ToolFault::Resting { server: self.server.name.clone(), reason: why.to_string(), retry_in }.into());
                    }
                }
                Phase::Starting => has_begun = true,
                Phase::Stopping => {}
            }
            tokio::select! {
                changed = phase.changed() => {
                    if changed.is_err() {
                        return Err(Refusal::Gone);
                    }
                }
                () = &mut late => return Err(self.not_started("it does not become ready").into()),
            }
        }
    }

    fn not_started(&self, reason: &str) -> ToolFault {
        ToolFault::NotStarted { server: self.server.name.clone(), reason: reason.to_owned(), stderr: self.last_words() }
    }

    fn failed(&self, reason: &str) -> ToolFault {
        ToolFault::Failed { server: self.server.name.clone(), reason: reason.to_owned(), stderr: self.last_words() }
    }

    /// The last lines of the standard error of its last process.
    pub(super) fn last_words(&self) -> Vec<String> {
        let pid = lock(&self.facts).pid;
        pid.map_or_else(Vec::new, |pid| self.journal.last_words(LAST_WORDS, pid))
    }

    /// Ends its process; what comes back resolves when that is done.
    pub(super) fn stop(&self, how: How, why: &str) -> oneshot::Receiver<()> {
        let (done, is_done) = oneshot::channel();
        drop(self.orders.send(Order::Stop(Stop { how, why: why.to_owned(), done: Some(done) })));
        is_done
    }

    /// Ends its process, and itself: no further call gets a place.
    pub(super) fn end(&self, how: How, why: &str) -> Death {
        self.over.send_replace(true);
        self.turns.close();
        drop(self.orders.send(Order::End(Stop { how, why: why.to_owned(), done: None })));
        self.dead.subscribe()
    }

    pub(super) fn status(&self) -> status::Instance {
        let facts = lock(&self.facts).clone();
        let junk = self.seen.junk.load(Ordering::Relaxed);
        let (state, reason) = match &*self.phase.borrow() {
            Phase::Stopped(why) => (State::Stopped, why.as_ref().map(ToString::to_string)),
            Phase::Starting => (State::Starting, None),
            Phase::Ready(_) if self.seen.endless.load(Ordering::Relaxed) => {
                (State::Degraded, Some("a line of its output is longer than a message may be, and has no end yet".to_owned()))
            }
            Phase::Ready(_) if junk > MUCH_JUNK => (State::Degraded, Some(format!("{junk} lines of its output were no MCP"))),
            Phase::Ready(_) => (State::Ready, None),
            Phase::Stopping | Phase::Gone => (State::Stopping, None),
            Phase::Backoff(_, why) => (State::Backoff, Some(why.to_string())),
            Phase::Failed(why) => (State::Failed, Some(why.to_string())),
        };
        let lives = matches!(state, State::Starting | State::Ready | State::Degraded | State::Stopping);
        status::Instance {
            scope: self.scope,
            state,
            reason,
            pid: facts.pid.filter(|_| lives),
            protocol: facts.protocol,
            implementation: facts.implementation,
            ready_for: facts.ready_at.map(|at| clock::mono().saturating_sub(at)),
            confinement: facts.report,
            tools: facts.listing.tools.len(),
            quarantined: facts.listing.quarantined.clone(),
            stderr: self.last_words(),
            counters: Counters {
                starts: facts.starts,
                ends: facts.ends,
                calls: self.calls.load(Ordering::Relaxed),
                faults: self.faults.load(Ordering::Relaxed),
                timeouts: self.timeouts.load(Ordering::Relaxed),
                in_use: *self.in_use.borrow(),
                oversize: self.seen.oversize.load(Ordering::Relaxed),
                late: self.seen.late.load(Ordering::Relaxed),
                junk,
            },
        }
    }
}

impl Ready {
    /// Its tools, as they were last read.
    pub(super) fn listing(&self) -> Arc<Listing> {
        Arc::clone(&lock(&self.listing))
    }
}

impl Scope {
    /// Whose process a caller uses.
    pub(super) fn of(server: &Server, caller: &Caller) -> Scope {
        match server.shared {
            super::super::server::Shared::ByAll => Scope::All,
            super::super::server::Shared::ByRun => caller.run.map_or(Scope::Agent(caller.agent), Scope::Run),
        }
    }

    /// The run or agent that has the process for itself.
    pub(super) const fn owner(self) -> Option<AccountId> {
        match self {
            Scope::All => None,
            Scope::Agent(account) | Scope::Run(account) => Some(account),
        }
    }
}

/// A call in progress keeps its instance from being idle.
pub(super) struct Use(Arc<Instance>);

impl Use {
    fn of(instance: &Arc<Instance>) -> Use {
        instance.in_use.send_modify(|count| *count = count.saturating_add(1));
        Use(Arc::clone(instance))
    }
}

impl Drop for Use {
    fn drop(&mut self) {
        self.0.used_ms.store(clock::mono_ms(), Ordering::Relaxed);
        self.0.in_use.send_modify(|count| *count = count.saturating_sub(1));
    }
}

/// A place in the queue.
struct Waiting<'a> {
    count: &'a AtomicUsize,
    number: usize,
}

impl Waiting<'_> {
    fn of(count: &AtomicUsize) -> Waiting<'_> {
        let number = count.fetch_add(1, Ordering::AcqRel).saturating_add(1);
        Waiting { count, number }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::AcqRel);
    }
}
