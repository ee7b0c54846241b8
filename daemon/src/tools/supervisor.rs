//! The supervisor of tool servers: which there are, and the way to each.
//!
//! Owns the instances and the two threads that serve them; both begin with the first process. Must not: decide whether a call may be made, or
//! know what it costs.

mod backoff;
mod call;
mod engine;
mod entry;
mod instance;
mod life;
mod look;
mod options;
mod private;
mod status;
mod written;

pub use super::framing::Progress;
pub use super::process::{Leftover, LogLine, Stream};
pub use super::session::{Ask, AskReply, Asked, Listing, Quarantined};
pub use call::{Answer, Call, Caller, Scope};
pub use entry::Entry;
pub use options::{Options, Pace, Resolve, Resolved};
pub use status::{Counters, Instance as InstanceStatus, State, Status};

use super::fault::ToolFault;
use super::lock;
use super::process::{Journal, Running};
use super::server::{Server, Shared, Start};
use super::session::Opening;
use aex_proto::value::AccountId;
use engine::Engine;
use instance::{Death, How, Instance, Order, Phase, Refusal, all_dead};
use life::{Given, Life};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::sync::{Arc, Mutex};
use tokio::sync::{broadcast, oneshot, watch};
use written::Written;

/// Lines that somebody who follows a log may lag behind.
const FOLLOWED: usize = 256;
/// How often a caller looks for the instance that took the place of another.
const LOOKS: usize = 100;

/// All tools of the daemon. Cheap to clone.
#[derive(Clone)]
pub struct Tools(Arc<Inner>);

struct Inner {
    options: Arc<Options>,
    running: Arc<Running>,
    written: Arc<Written>,
    leftovers: Vec<Leftover>,
    state: Mutex<Held>,
    changed: watch::Sender<u64>,
    owned: watch::Sender<u64>,
    followers: broadcast::Sender<LogLine>,
}

#[derive(Default)]
struct Held {
    servers: BTreeMap<String, Slot>,
    /// Tells of instances that were told to end, by their servers: those in their place wait for them, also of a server that was removed
    /// meanwhile and has come back.
    leaving: HashMap<String, Vec<Death>>,
    engine: Option<Engine>,
    is_closed: bool,
}

/// A configured server.
struct Slot {
    server: Arc<Server>,
    journal: Arc<Journal>,
    /// How conversations with it begin, as far as that is known.
    opening: Arc<Mutex<Opening>>,
    instances: HashMap<Scope, Arc<Instance>>,
}

impl Tools {
    /// Takes the servers over; those of the first start begin at once. What an earlier daemon left is killed before that.
    ///
    /// # Errors
    /// When the system gives no random bytes, or no thread for a server that begins at once.
    pub fn new(options: Options, servers: Vec<Server>) -> io::Result<Tools> {
        let (running, leftovers) = Running::begin(options.home.join("running.json"))?;
        let written = Arc::new(Written::open(options.home.join("written.json")));
        let inner = Inner {
            written,
            options: Arc::new(options),
            running: Arc::new(running),
            leftovers,
            state: Mutex::default(),
            changed: watch::Sender::new(0),
            owned: watch::Sender::new(0),
            followers: broadcast::Sender::new(FOLLOWED),
        };
        let tools = Tools(Arc::new(inner));
        tools.replace(servers)?;
        Ok(tools)
    }

    /// Another configuration. Servers that stay as they are run on; of a changed one the calls in progress may end before it is started
    /// anew; one that is no more, or is disabled, is stopped.
    ///
    /// # Errors
    /// When the system gives no thread for a server that begins at once.
    pub fn replace(&self, servers: Vec<Server>) -> io::Result<()> {
        let mut state = lock(&self.0.state);
        let names: BTreeSet<String> = servers.iter().map(|server| server.name.clone()).collect();
        let Held { servers: known, leaving, .. } = &mut *state;
        forget_dead(leaving);
        known.retain(|name, slot| {
            let stays = names.contains(name);
            if !stays {
                slot.leave("its configuration was removed", leaving.entry(name.clone()).or_default());
                if let Err(fault) = private::set_aside(&self.0.options.home, name) {
                    // The next one of that name does not start with them either.
                    tracing::warn!(server = name, %fault, "the private folders of a tool cannot be moved aside");
                }
            }
            stays
        });
        let (mut first, mut new) = (Vec::new(), Vec::new());
        for server in servers {
            let name = server.name.clone();
            let begins = server.enabled && server.start == Start::AtBoot && server.shared == Shared::ByAll;
            let Held { servers: known, leaving, .. } = &mut *state;
            let (server, known) = (Arc::new(server), known.get_mut(&name));
            if server.enabled && known.as_ref().is_none_or(|slot| !slot.server.runs_like(&server)) {
                new.push(Arc::clone(&server));
            }
            match known {
                Some(slot) if slot.server.runs_like(&server) => slot.server = server,
                Some(slot) => {
                    slot.leave("its configuration was changed", leaving.entry(name.clone()).or_default());
                    slot.opening = Arc::new(Mutex::new(Opening::Probe));
                    slot.server = server;
                }
                None => {
                    let journal = Arc::new(Journal::new(&name, &self.0.options.logs, self.0.followers.clone()));
                    let opening = Arc::new(Mutex::new(Opening::Probe));
                    let slot = Slot { server, journal, opening, instances: HashMap::new() };
                    state.servers.insert(name.clone(), slot);
                }
            }
            if begins {
                first.push(name);
            }
        }
        for name in first {
            self.0.instance(&mut state, &name, Scope::All, true).map_err(|fault| io::Error::other(fault.to_string()))?;
        }
        drop(state);
        if !new.is_empty() {
            self.tell_doubts(new);
        }
        self.0.changed.send_modify(|count| *count = count.wrapping_add(1));
        Ok(())
    }

    /// How all servers are, by name.
    #[must_use]
    pub fn status(&self) -> Vec<Status> {
        let state = lock(&self.0.state);
        let of = |(name, slot): (&String, &Slot)| {
            let mut instances: Vec<InstanceStatus> = slot.instances.values().map(|instance| instance.status()).collect();
            instances.sort_by_key(|instance| instance.scope);
            Status { server: name.clone(), enabled: slot.server.enabled, instances }
        };
        state.servers.iter().map(of).collect()
    }

    /// What an earlier daemon left, and was killed at this one's start.
    #[must_use]
    pub fn leftovers(&self) -> &[Leftover] {
        &self.0.leftovers
    }

    /// The tools of a server, which is started for it where it must be.
    ///
    /// # Errors
    /// Why there are none.
    pub async fn list(&self, server: &str, caller: &Caller) -> Result<Arc<Listing>, ToolFault> {
        for _ in 0..LOOKS {
            match self.0.find(server, caller)?.listing().await {
                Ok(listing) => return Ok(listing),
                Err(Refusal::Fault(fault)) => return Err(fault),
                Err(Refusal::Gone) => {}
            }
        }
        Err(unsettled(server))
    }

    /// Takes a call's place at a server: its turn has come, and a process is ready, which is started for it where it must be.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn enter(&self, server: &str, caller: &Caller) -> Result<Entry, ToolFault> {
        for _ in 0..LOOKS {
            match self.0.find(server, caller)?.enter().await {
                Ok(entry) => return Ok(entry),
                Err(Refusal::Gone) => {}
                Err(Refusal::Fault(fault)) => return Err(fault),
            }
        }
        Err(unsettled(server))
    }

    /// Starts a server anew, also one that has failed.
    ///
    /// # Errors
    /// When there is no such server, it is disabled, or does not become ready.
    pub async fn restart(&self, server: &str) -> Result<(), ToolFault> {
        let mut waiting: Vec<Arc<Instance>> = {
            let state = lock(&self.0.state);
            let slot = state.servers.get(server).ok_or_else(|| ToolFault::Unknown { server: server.to_owned() })?;
            slot.instances.values().cloned().collect()
        };
        if waiting.is_empty() {
            let is_shared = lock(&self.0.state).servers.get(server).is_some_and(|slot| slot.server.shared == Shared::ByAll);
            if !is_shared {
                return Ok(());
            }
            let mut state = lock(&self.0.state);
            waiting.push(self.0.instance(&mut state, server, Scope::All, false)?);
        }
        for instance in waiting {
            let mut phase = instance.phase.subscribe();
            drop(instance.orders.send(Order::Restart));
            // The next phase is of the new process, or of the end of the old one.
            drop(phase.changed().await);
            match instance.ready().await {
                Ok(_) | Err(Refusal::Gone) => {}
                Err(Refusal::Fault(fault)) => return Err(fault),
            }
        }
        Ok(())
    }

    /// Stops a server; the next call starts it again. Comes back when its processes are dead.
    ///
    /// # Errors
    /// When there is no such server.
    pub async fn stop(&self, server: &str, why: &str) -> Result<(), ToolFault> {
        let stopped: Vec<oneshot::Receiver<()>> = {
            let state = lock(&self.0.state);
            let slot = state.servers.get(server).ok_or_else(|| ToolFault::Unknown { server: server.to_owned() })?;
            slot.instances.values().map(|instance| instance.stop(How::Gently, why)).collect()
        };
        for done in stopped {
            // Its sender is dropped when that is done.
            drop(done.await);
        }
        Ok(())
    }

    /// The last lines of a server's log, the oldest first; nothing when there is no such server.
    #[must_use]
    pub fn logs(&self, server: &str, count: usize) -> Option<Vec<LogLine>> {
        let journal = Arc::clone(&lock(&self.0.state).servers.get(server)?.journal);
        Some(journal.last(count, None))
    }

    /// The lines of all servers' logs from now on. Who lags behind misses some.
    #[must_use]
    pub fn follow(&self) -> broadcast::Receiver<LogLine> {
        self.0.followers.subscribe()
    }

    /// Changes with each change of which servers and tools there are.
    #[must_use]
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.0.changed.subscribe()
    }

    /// The runs and agents that have instances of their own.
    #[must_use]
    pub fn owners(&self) -> BTreeSet<AccountId> {
        let state = lock(&self.0.state);
        state.servers.values().flat_map(|slot| slot.instances.keys()).filter_map(|scope| scope.owner()).collect()
    }

    /// Changes with each instance that is made for one run, or one agent, alone.
    #[must_use]
    pub fn owned(&self) -> watch::Receiver<u64> {
        self.0.owned.subscribe()
    }

    /// Kills the processes of a run, or of an agent, that is over. Comes back when they are dead.
    pub async fn kill_scope(&self, account: AccountId) {
        let is_of = |scope: &Scope, _: &mut Arc<Instance>| scope.owner() == Some(account);
        let mut deaths = Vec::new();
        {
            let mut state = lock(&self.0.state);
            let Held { servers, leaving, .. } = &mut *state;
            forget_dead(leaving);
            for (name, slot) in servers {
                for (_, instance) in slot.instances.extract_if(is_of) {
                    let death = instance.end(How::Kill, "its run is over");
                    leaving.entry(name.clone()).or_default().push(death.clone());
                    deaths.push(death);
                }
            }
        }
        all_dead(&deaths).await;
    }

    /// Stops all servers, and takes no more calls. Comes back when their processes are dead.
    pub async fn shutdown(&self) {
        let (deaths, engine) = {
            let mut state = lock(&self.0.state);
            state.is_closed = true;
            let mut deaths: Vec<Death> = std::mem::take(&mut state.leaving).into_values().flatten().collect();
            let instances = std::mem::take(&mut state.servers).into_values().flat_map(|slot| slot.instances.into_values());
            deaths.extend(instances.map(|instance| instance.end(How::Gently, "the daemon ends")));
            (deaths, state.engine.take())
        };
        all_dead(&deaths).await;
        if let Some(engine) = engine {
            engine.end().await;
        }
    }
}

impl Inner {
    fn find(&self, server: &str, caller: &Caller) -> Result<Arc<Instance>, ToolFault> {
        let mut state = lock(&self.state);
        let slot = state.servers.get(server);
        let scope = Scope::of(&slot.ok_or_else(|| ToolFault::Unknown { server: server.to_owned() })?.server, caller);
        self.instance(&mut state, server, scope, false)
    }

    /// The instance of a scope, which is made where there is none.
    fn instance(&self, state: &mut Held, server: &str, scope: Scope, is_wanted: bool) -> Result<Arc<Instance>, ToolFault> {
        if state.is_closed {
            return Err(ToolFault::Unavailable { why: "the daemon ends".to_owned() });
        }
        let Held { servers, engine, leaving, .. } = state;
        let slot = servers.get_mut(server).ok_or_else(|| ToolFault::Unknown { server: server.to_owned() })?;
        if !slot.server.enabled {
            return Err(ToolFault::Disabled { server: server.to_owned() });
        }
        let living = slot.instances.get(&scope).filter(|instance| !matches!(*instance.phase.borrow(), Phase::Gone));
        if let Some(instance) = living {
            return Ok(Arc::clone(instance));
        }
        let engine = match engine {
            Some(engine) => engine,
            None => {
                let started = Engine::start(Arc::clone(&self.running));
                engine.insert(started.map_err(|fault| ToolFault::Unavailable { why: fault.to_string() })?)
            }
        };
        // Also those of other scopes: the folders of the server are theirs until they are dead.
        forget_dead(leaving);
        let before = leaving.get(server).cloned().unwrap_or_default();
        let (instance, orders) = Instance::new(Arc::clone(&slot.server), scope, Arc::clone(&slot.journal), before);
        let given = Given { options: Arc::clone(&self.options), written: Arc::clone(&self.written), spawner: engine.spawner.clone() };
        let opening = Arc::clone(&slot.opening);
        let life = Life::new(Arc::clone(&instance), orders, given, self.changed.clone(), opening);
        drop(engine.handle.spawn(life.live(is_wanted)));
        slot.instances.insert(scope, Arc::clone(&instance));
        if scope.owner().is_some() {
            self.owned.send_modify(|count| *count = count.wrapping_add(1));
        }
        Ok(instance)
    }
}

impl Slot {
    /// Tells its instances to end, and keeps word of their deaths.
    fn leave(&mut self, why: &str, leaving: &mut Vec<Death>) {
        leaving.extend(self.instances.drain().map(|(_, instance)| instance.end(How::Drain, why)));
    }
}

fn forget_dead(leaving: &mut HashMap<String, Vec<Death>>) {
    leaving.retain(|_, deaths| {
        deaths.retain(|death| !*death.borrow());
        !deaths.is_empty()
    });
}

fn unsettled(server: &str) -> ToolFault {
    ToolFault::Stopped { server: server.to_owned(), why: "its configuration changes again and again".to_owned() }
}
