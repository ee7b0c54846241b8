//! Which definitions of tools are trusted: each tool's first one, or one that a person approved.
//!
//! Owns the file of the pins, `tools/pins.json`. A tool that says something else than its pin is quarantined: not offered, not called. A
//! file that cannot be used trusts nothing. Must not: know who may approve.

mod word;

use super::server::{Server, Trust};
use super::supervisor::{Listing, Quarantined};
use super::{keep, lock};
use crate::os::clock;
use aex_core::event::PinChange;
use aex_core::tool::Definition;
use aex_proto::value::{Digest, Stamp};
use rmcp::model::Tool;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

/// Pins of one server, those of tools that it has no more among them: one that invents names takes no other's place.
const MAX_OF_SERVER: usize = 1_000;
/// Pins in all.
const MAX_PINS: usize = 50_000;
/// The longest definition that is kept whole, in bytes; of a longer one only the digest is.
const MAX_TEXT: usize = 64 << 10;
/// All definitions that are kept whole, in bytes: of one server, and of all.
const MAX_TEXTS_OF_SERVER: usize = 2 << 20;
const MAX_TEXTS: usize = 16 << 20;
/// The largest file, in bytes.
const MAX_FILE: u64 = 64 << 20;
/// Lists of a server whose outcome is kept: one for each process that is in use.
const MAX_SCREENED: usize = 16;
/// Changes of one server that are told, each once; one that changes its tools again and again tells no more.
const MAX_TOLD: usize = 2_000;

/// A handle on them. Clones share them.
#[derive(Clone)]
pub struct Pins(Arc<Inner>);

struct Inner {
    path: PathBuf,
    state: Mutex<State>,
    /// One change at a time.
    changing: Arc<tokio::sync::Mutex<()>>,
}

struct State {
    /// Or why the file cannot be used.
    pins: Result<Arc<Pinned>, String>,
    /// What became of lists, while no pin changes.
    screened: HashMap<String, Vec<Screened>>,
    /// Tools in quarantine, by server and name.
    pending: BTreeMap<(String, String), Pending>,
    told: BTreeMap<String, BTreeSet<(PinChange, String, Digest)>>,
    /// Servers with tools for which there is no room among the pins.
    full: BTreeSet<String>,
}

type Pinned = BTreeMap<String, BTreeMap<String, Pin>>;

struct Screened {
    trust: Trust,
    outcome: Trusted,
}

/// A list of a server as far as it is trusted. Clones share it.
#[derive(Clone, Debug)]
pub struct Trusted {
    /// The list: what is not trusted is in quarantine.
    pub listing: Arc<Listing>,
    /// The digests of the definitions that are trusted, by tool.
    digests: Arc<BTreeMap<String, Digest>>,
    raw: Arc<Listing>,
}

/// A list that was looked at, until that is kept.
pub struct Looked {
    trusted: Trusted,
    /// What is to be recorded before.
    pub told: Vec<Told>,
    name: String,
    trust: Trust,
    _one_at_a_time: tokio::sync::OwnedMutexGuard<()>,
}

impl Trusted {
    /// Of a list that could not be looked at: nothing.
    #[must_use]
    pub fn nothing(raw: &Arc<Listing>) -> Trusted {
        let reason = || "its definition could not be looked at".to_owned();
        let bad = raw.tools.iter().map(|tool| Quarantined { name: tool.name.to_string(), reason: reason() });
        let listing = Listing { tools: Vec::new(), quarantined: raw.quarantined.iter().cloned().chain(bad).collect(), ..(**raw).clone() };
        Trusted { listing: Arc::new(listing), digests: Arc::default(), raw: Arc::clone(raw) }
    }

    /// The digest of a tool's definition; `None`: it is not trusted.
    #[must_use]
    pub fn digest(&self, tool: &str) -> Option<Digest> {
        self.digests.get(tool).copied()
    }

    /// Whether a list says of a tool what this one does.
    #[must_use]
    pub fn still_says(&self, tool: &str, listing: &Arc<Listing>) -> bool {
        let said = || listing.tools.iter().find(|listed| listed.name == tool).map(|listed| definition(listed).digest());
        Arc::ptr_eq(&self.raw, listing) || self.digest(tool).is_some_and(|digest| said() == Some(digest))
    }
}

/// What is trusted of a tool.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Pin {
    /// When it was pinned.
    at: Stamp,
    /// What the server said; absent where that was too long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    definition: Option<Definition>,
    digest: Digest,
}

#[derive(Clone)]
struct Pending {
    digest: Digest,
    /// Absent where it is too long.
    definition: Option<Definition>,
    bytes: usize,
    reason: String,
}

/// The file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    version: u32,
    servers: Pinned,
}

/// Something that became of definitions of a server's tools, to be recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// What.
    pub what: PinChange,
    /// The digests, by tool.
    pub pins: BTreeMap<String, Digest>,
}

/// A tool in quarantine, for a person to look at.
#[derive(Clone, Debug)]
pub struct Review {
    /// The tool.
    pub tool: String,
    /// Its definition's digest: by it one is approved.
    pub digest: Digest,
    /// Bytes of it.
    pub bytes: usize,
    /// Why it is in quarantine.
    pub reason: String,
    /// What is pinned of it, if that is known.
    pub old: Option<Definition>,
    /// When that was pinned.
    pub pinned_at: Option<Stamp>,
    /// What the server says now; absent where that is too long.
    pub new: Option<Definition>,
}

/// Why nothing was approved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotApproved {
    /// The tool is not in quarantine, or its server says something else by now.
    Otherwise(String),
    /// The file cannot be used, or written.
    File(String),
    /// So many tools are pinned already.
    Full(String),
}

impl Pins {
    /// Reads the file.
    #[must_use]
    pub fn open(path: PathBuf) -> Pins {
        let pins = load(&path);
        if let Err(why) = &pins {
            tracing::error!(why, "pins of tools cannot be used: every tool is quarantined");
        }
        let state = State { pins, screened: HashMap::new(), pending: BTreeMap::new(), told: BTreeMap::new(), full: BTreeSet::new() };
        Pins(Arc::new(Inner { path, state: Mutex::new(state), changing: Arc::default() }))
    }

    /// Why nothing is trusted; `None`: the file is good.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        lock(&self.0.state).pins.as_ref().err().cloned()
    }

    /// The servers with tools for which there is no room among the pins.
    #[must_use]
    pub fn full(&self) -> Vec<String> {
        lock(&self.0.state).full.iter().cloned().collect()
    }

    /// Makes one change, which reads, hashes and writes: on a thread for that, and to its end whoever stops waiting for it. `None`: a panic.
    async fn change<T: Send + 'static>(&self, change: impl FnOnce(&Pins) -> T + Send + 'static) -> Option<T> {
        let one_at_a_time = Arc::clone(&self.0.changing).lock_owned().await;
        let pins = self.clone();
        let changed = tokio::task::spawn_blocking(move || {
            let changed = change(&pins);
            drop(one_at_a_time);
            changed
        });
        changed.await.ok()
    }

    /// Looks at a file again that could not be used.
    pub async fn mend(&self) {
        let mend = |pins: &Pins| {
            if pins.problem().is_some() {
                let found = load(&pins.0.path);
                let mut state = lock(&pins.0.state);
                state.pins = found;
                state.screened.clear();
            }
        };
        self.change(mend).await.unwrap_or_default();
    }

    /// Why a tool is in quarantine for its definition.
    #[must_use]
    pub fn quarantined(&self, server: &str) -> BTreeMap<String, String> {
        let state = lock(&self.0.state);
        let of = state.pending.iter().filter(|((of, _), _)| of == server);
        of.map(|((_, tool), pending)| (tool.clone(), pending.reason.clone())).collect()
    }

    /// The list of a server as far as it is trusted, and what is to be recorded. Tools that were never seen are pinned by it. Who looks at
    /// the same list meanwhile waits until this is kept.
    pub async fn screen(&self, server: &Server, raw: Arc<Listing>) -> Looked {
        let one_at_a_time = Arc::clone(&self.0.changing).lock_owned().await;
        let (name, trust) = (server.name.clone(), server.trust);
        let looked = |(trusted, told)| Looked { trusted, told, name, trust, _one_at_a_time: one_at_a_time };
        if let Some(trusted) = self.known(server, &raw) {
            return looked((trusted, Vec::new()));
        }
        let (pins, server, listed) = (self.clone(), server.clone(), Arc::clone(&raw));
        let screened = tokio::task::spawn_blocking(move || pins.look(&server, &listed)).await;
        // A panic in between: nothing of the list is trusted.
        looked(screened.unwrap_or_else(|_| (Trusted::nothing(&raw), Vec::new())))
    }

    /// Keeps what came of a list: what is to be recorded is recorded.
    #[must_use]
    pub fn keep(&self, looked: Looked) -> Trusted {
        let Looked { trusted, name, trust, .. } = looked;
        let mut state = lock(&self.0.state);
        let kept = state.screened.entry(name).or_default();
        if kept.iter().any(|kept| kept.trust == trust && Arc::ptr_eq(&kept.outcome.raw, &trusted.raw)) {
            return trusted;
        }
        if kept.len() >= MAX_SCREENED {
            kept.remove(0);
        }
        kept.push(Screened { trust, outcome: trusted.clone() });
        trusted
    }

    /// What came of a list, where that is kept.
    #[must_use]
    pub fn known(&self, server: &Server, raw: &Arc<Listing>) -> Option<Trusted> {
        let state = lock(&self.0.state);
        let mut screened = state.screened.get(&server.name)?.iter();
        let found = screened.find(|screened| Arc::ptr_eq(&screened.outcome.raw, raw) && screened.trust == server.trust)?;
        Some(found.outcome.clone())
    }

    /// Reads, hashes and writes: not for a thread that serves.
    fn look(&self, server: &Server, raw: &Arc<Listing>) -> (Trusted, Vec<Told>) {
        let pinned = lock(&self.0.state).pins.clone();
        let (mut pinned, problem) = match pinned {
            Ok(pinned) => (pinned, None),
            Err(why) => (Arc::default(), Some(format!("pins of tools cannot be used: {why}"))),
        };
        let own = pinned.get(&server.name);
        let (mut good, mut bad, mut fresh) = (Vec::new(), Vec::new(), BTreeMap::new());
        let mut trusted = BTreeMap::new();
        let (mut changed, mut unapproved) = (BTreeMap::new(), BTreeMap::new());
        for tool in &raw.tools {
            let definition = definition(tool);
            let (text, name) = (definition.text(), tool.name.to_string());
            let digest = Digest::of(text.as_bytes());
            let whole = (text.len() <= MAX_TEXT).then_some(definition);
            let mut quarantine = |reason: String| {
                bad.push((tool.clone(), Pending { digest, definition: whole.clone(), bytes: text.len(), reason }));
            };
            match (&problem, own.and_then(|own| own.get(&name))) {
                (Some(problem), _) => quarantine(problem.clone()),
                (None, Some(pin)) if pin.digest == digest => {
                    trusted.insert(name, digest);
                    good.push(tool.clone());
                }
                (None, Some(_)) => {
                    changed.insert(name, digest);
                    quarantine("its server describes it in another way than before".to_owned());
                }
                (None, None) if server.trust == Trust::Approve => {
                    unapproved.insert(name, digest);
                    quarantine("nobody has approved it yet".to_owned());
                }
                (None, None) => {
                    trusted.insert(name.clone(), digest);
                    fresh.insert(name, Pin { at: clock::wall(), definition: whole, digest });
                    good.push(tool.clone());
                }
            }
        }
        let is_there = |name: &str| raw.tools.iter().any(|tool| tool.name == name) || raw.quarantined.iter().any(|bad| bad.name == name);
        let gone = own.into_iter().flatten().filter(|(name, _)| !is_there(name));
        let gone: BTreeMap<String, Digest> = gone.map(|(name, pin)| (name.clone(), pin.digest)).collect();
        let mut told = Vec::new();
        if !fresh.is_empty() {
            let digests = fresh.iter().map(|(name, pin)| (name.clone(), pin.digest)).collect();
            match self.pin(&pinned, &server.name, fresh) {
                Ok(new) => {
                    pinned = new;
                    told.push(Told { what: PinChange::FirstUse, pins: digests });
                }
                Err(why) => {
                    let is_new = !matches!(why, NotApproved::Full(_)) || lock(&self.0.state).full.insert(server.name.clone());
                    let why = why.words();
                    if is_new {
                        tracing::error!(why, server = server.name, "new tools cannot be pinned, so they are quarantined");
                    }
                    for tool in good.extract_if(.., |tool| digests.contains_key(tool.name.as_ref())) {
                        let definition = definition(&tool);
                        let (digest, bytes, reason) = (definition.digest(), definition.text().len(), format!("it cannot be pinned: {why}"));
                        let definition = (bytes <= MAX_TEXT).then_some(definition);
                        trusted.remove(tool.name.as_ref());
                        bad.push((tool, Pending { digest, definition, bytes, reason }));
                    }
                }
            }
        }
        let mut listing = Listing { tools: good, ..(**raw).clone() };
        let reasons = bad.iter().map(|(tool, pending)| Quarantined { name: tool.name.to_string(), reason: pending.reason.clone() });
        listing.quarantined.extend(reasons);
        listing.quarantined.sort_by(|one, other| one.name.cmp(&other.name));
        let outcome = Trusted { listing: Arc::new(listing), digests: Arc::new(trusted), raw: Arc::clone(raw) };
        let mut state = lock(&self.0.state);
        if problem.is_none() {
            state.pins = Ok(pinned);
        }
        for tool in &outcome.listing.tools {
            state.pending.remove(&(server.name.clone(), tool.name.to_string()));
        }
        if state.pending.keys().filter(|(of, _)| *of == server.name).count() > MAX_OF_SERVER {
            state.pending.retain(|(of, tool), _| *of != server.name || is_there(tool));
        }
        state.pending.extend(bad.into_iter().map(|(tool, pending)| ((server.name.clone(), tool.name.to_string()), pending)));
        let seen = state.told.entry(server.name.clone()).or_default();
        for (what, pins) in [(PinChange::Changed, changed), (PinChange::Unapproved, unapproved), (PinChange::Removed, gone)] {
            let mut is_new = |tool: &String, digest: &Digest| {
                let new = seen.len() < MAX_TOLD && seen.insert((what, tool.clone(), *digest));
                if new {
                    tracing::warn!(server = server.name, tool, what = what.name(), "a tool is not what is pinned");
                }
                new
            };
            let pins: BTreeMap<String, Digest> = pins.into_iter().filter(|(tool, digest)| is_new(tool, digest)).collect();
            if !pins.is_empty() {
                told.push(Told { what, pins });
            }
        }
        (outcome, told)
    }

    /// Writes pins beside those that are there.
    fn pin(&self, pinned: &Pinned, server: &str, fresh: BTreeMap<String, Pin>) -> Result<Arc<Pinned>, NotApproved> {
        let mut all = pinned.clone();
        let own = all.entry(server.to_owned()).or_default();
        own.extend(fresh);
        if own.len() > MAX_OF_SERVER {
            return Err(NotApproved::Full(format!("more than {MAX_OF_SERVER} tools of `{server}`, counting those that it has no more")));
        }
        if all.values().map(BTreeMap::len).sum::<usize>() > MAX_PINS {
            return Err(NotApproved::Full(format!("more than {MAX_PINS} tools in all")));
        }
        let mut texts = 0_usize;
        for own in all.values_mut() {
            let mut of_server = 0_usize;
            for pin in own.values_mut() {
                let length = pin.definition.as_ref().map_or(0, |definition| definition.text().len());
                if of_server.saturating_add(length) > MAX_TEXTS_OF_SERVER || texts.saturating_add(length) > MAX_TEXTS {
                    pin.definition = None;
                } else {
                    of_server = of_server.saturating_add(length);
                    texts = texts.saturating_add(length);
                }
            }
        }
        let all = self.write(all).map_err(NotApproved::File)?;
        lock(&self.0.state).full.remove(server);
        Ok(all)
    }

    fn write(&self, servers: Pinned) -> Result<Arc<Pinned>, String> {
        let kept = Kept { version: 1, servers };
        keep::write(&self.0.path, &kept).map_err(|fault| format!("{}: {fault}", self.0.path.display()))?;
        Ok(Arc::new(kept.servers))
    }
}

impl NotApproved {
    /// What stands in the way.
    #[must_use]
    pub fn words(&self) -> &str {
        match self {
            NotApproved::Otherwise(tool) => tool,
            NotApproved::File(why) | NotApproved::Full(why) => why,
        }
    }
}

fn definition(tool: &Tool) -> Definition {
    // It was read from JSON, so it can be said as JSON.
    Definition::of(&serde_json::to_value(tool).unwrap_or_default())
}

fn load(path: &std::path::Path) -> Result<Arc<Pinned>, String> {
    match keep::read::<Kept>(path, MAX_FILE)? {
        Some(Kept { version: 1, servers }) => Ok(Arc::new(servers)),
        Some(Kept { version, .. }) => Err(format!("{}: version {version} is not known here", path.display())),
        None => Ok(Arc::default()),
    }
}

#[cfg(test)]
mod tests;
