//! The daemon's life: open, bind, ready, serve, drain.

use crate::gate::{Active, Facts, Gate, Source};
use crate::ledger::{Ledger, Options};
use crate::os::{clock, limits, memory, notify};
use crate::tools::gatekeeper::Gatekeeper;
use crate::{control, proxy, tools};
use aex_core::event::Outcome;
use anyhow::Context;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

/// How long refusals are counted before they are handed to the ledger.
const GATHER: Duration = Duration::from_secs(1);
/// How often the head of the chain is noted in the log.
const HEAD: Duration = Duration::from_secs(3600);
/// How long queries and look-ups that are still running may take to end with the daemon.
const LAST_READS: Duration = Duration::from_secs(2);
/// How often holds past their deadline are looked for.
const SWEEP: Duration = Duration::from_secs(60);

/// Serves until told to stop.
///
/// # Errors
/// When the daemon cannot start, or the disk refuses what was promised.
pub fn run(source: Source, active: Active) -> anyhow::Result<()> {
    memory::bound_free();
    // One thread accepts and controls; calls have threads of their own.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting the runtime")?;
    let ended = runtime.block_on(serve(source, active));
    // All that counts is on disk. A name that never resolves, or a long report, is waited for by nobody any more.
    runtime.shutdown_timeout(LAST_READS);
    ended
}

async fn serve(source: Source, active: Active) -> anyhow::Result<()> {
    let settings = active.config.settings.clone();
    let paths = source.paths.clone();
    let address = SocketAddr::new(settings.listen.value, settings.port.value);
    limits::raise_open_files();
    // The port before the ledger: a second daemon is told who holds it.
    let listener = proxy::bind(address)?;
    let options = Options {
        path: paths.ledger.clone(),
        durability: settings.durability.value,
        zone: settings.zone.value.clone(),
        wal_limit: settings.wal_limit.value,
    };
    let ledger = Ledger::open(&options).context("opening the ledger")?;
    if ledger.recovered() > 0 {
        tracing::warn!(holds = ledger.recovered(), "calls of a daemon that died were ended");
    }
    let (started_at, started_boot_us) = (clock::wall(), clock::boot_us());
    let facts = Arc::new(Facts { listen: listener.local_addr()?, home: paths.home.clone(), started_at, started_boot_us });
    let gate = Gate::open(ledger.clone(), source, active).await.context("opening the gate")?;
    let keeper = tools::open::open(&gate).await.context("starting the tool servers")?;
    tokio::spawn(keeper.clone().look_on());
    tokio::spawn(keeper.clone().end_with_owners());
    // A large ledger takes a while to count; nobody has to wait for it but who asks before it is done.
    tokio::spawn(count(ledger.clone()));
    tokio::spawn(forget_sealed(ledger.clone()));
    let socket = control::bind(&paths.socket, settings.admin_group.value.as_deref())
        .with_context(|| format!("binding {}", paths.socket.display()))?;
    let listening = proxy::start(listener, &keeper, &facts, settings.workers.value, settings.max_connections.value)?;
    let (end_control, control_ends) = watch::channel(false);
    let control = tokio::spawn(control::serve(socket, keeper.clone(), Arc::clone(&facts), control_ends));
    let pid_file = PidFile::write(&paths.pid_file)?;
    // Whoever hears that the daemon is ready may signal it at once.
    let signals = Signals::take().context("taking signals")?;
    give_back();
    notify::ready(facts.listen);
    tracing::info!(listen = %facts.listen, epoch = ledger.epoch(), version = env!("CARGO_PKG_VERSION"), "serving");

    let broken = attend(&keeper, signals).await;
    notify::stopping();
    gate.drain();
    tracing::info!(in_flight = gate.in_flight(), "stopping");
    listening.stop(settings.drain_timeout.value).await;
    // Their calls have ended, or were broken off with their connections.
    keeper.tools().shutdown().await;
    gate.flush_denials().await;
    end_control.send_replace(true);
    if control.await.is_err() {
        tracing::error!("the control socket ended by a panic");
    }
    remove(&paths.socket);
    // Before the ledger is free: from then on both files may be a successor's.
    drop(pid_file);
    let closing = ledger.clone();
    tokio::task::spawn_blocking(move || closing.close()).await.context("closing the ledger")?;
    if let Some(what) = ledger.damage() {
        anyhow::bail!("the ledger is damaged: {what}; `aexctl audit` says more, `aexctl restore FILE` puts a backup in its place");
    }
    // A flush may have failed as late as in the last checkpoint.
    if broken || ledger.has_refused() {
        anyhow::bail!("the disk refused a flush of the ledger: what was promised may not be on disk");
    }
    // What is noted here and found changed at the next start was changed while no daemon ran.
    note_head(&ledger).await;
    tracing::info!("stopped");
    Ok(())
}

async fn note_head(ledger: &Ledger) {
    if let Err(fault) = control::note_head(ledger).await {
        tracing::warn!(%fault, "the ledger's head could not be noted");
    }
}

/// What a daemon that was killed had sealed and not deleted yet.
async fn forget_sealed(ledger: Ledger) {
    if let Err(fault) = control::forget_sealed(&ledger).await {
        tracing::warn!(%fault, "events that are sealed could not be deleted");
    }
}

async fn count(ledger: Ledger) {
    if let Err(fault) = ledger.tally().await {
        tracing::debug!(%fault, "the ledger could not be counted ahead");
    }
}

/// The signals that a daemon lives by; from then on none of them kills it.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    reload: Signal,
}

impl Signals {
    fn take() -> std::io::Result<Signals> {
        let (terminate, interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        Ok(Signals { terminate, interrupt, reload: signal(SignalKind::hangup())? })
    }
}

/// Signals, sweeps, and the end. `true`: the disk has failed.
async fn attend(keeper: &Gatekeeper, signals: Signals) -> bool {
    let gate = keeper.gate();
    let Signals { mut terminate, mut interrupt, mut reload } = signals;
    let mut sweep = tokio::time::interval(SWEEP);
    // The first tick is at once.
    let mut head = tokio::time::interval(HEAD);
    let mut rest = Rest::default();
    let mut draining = gate.draining();
    let mut beat = pin!(beat(gate));
    let mut gather = pin!(gather(gate));
    loop {
        tokio::select! {
            never = &mut beat => match never {},
            never = &mut gather => match never {},
            _ = terminate.recv() => return false,
            _ = interrupt.recv() => return false,
            _ = draining.wait_for(|draining| *draining) => return false,
            () = gate.ledger().failed() => return true,
            _ = reload.recv() => reread(keeper).await,
            _ = head.tick() => note_head(gate.ledger()).await,
            _ = sweep.tick() => {
                gate.forget_past();
                end_overdue(gate).await;
                rest.look(gate);
            }
        }
    }
}

/// Whether the daemon rests: nothing has happened since the last look.
#[derive(Default)]
struct Rest {
    /// The newest event at the last look.
    seen: i64,
    /// The newest event when memory was last given back.
    rested: i64,
}

impl Rest {
    /// What a busy time needed is not kept for a rest, and given back once in it.
    fn look(&mut self, gate: &Gate) {
        let head = gate.ledger().head().borrow().seq;
        if std::mem::replace(&mut self.seen, head) == head && self.rested != head && gate.in_flight() == 0 {
            self.rested = head;
            give_back();
        }
    }
}

fn give_back() {
    if let Err(fault) = memory::give_back() {
        tracing::debug!(%fault, "memory was not given back");
    }
}

/// Hands counted refusals to the ledger; an idle daemon is not woken.
async fn gather(gate: &Gate) -> Infallible {
    loop {
        gate.refusal().await;
        tokio::time::sleep(GATHER).await;
        gate.gather_refusals(false);
    }
}

/// Tells a watchdog, at half its interval, that this thread runs and the ledger's writer answers. Silence has the daemon restarted.
async fn beat(gate: &Gate) -> Infallible {
    let Some(interval) = notify::watchdog() else { return std::future::pending().await };
    let half = (interval / 2).max(Duration::from_millis(1));
    let mut tick = tokio::time::interval(half);
    loop {
        tick.tick().await;
        match tokio::time::timeout(half, gate.ledger().settled()).await {
            Ok(Ok(())) => notify::alive(),
            Ok(Err(fault)) => tracing::error!(%fault, "the watchdog is not told that the daemon is alive"),
            Err(_) => tracing::error!("the watchdog is not told that the daemon is alive: the ledger did not answer within {half:?}"),
        }
    }
}

async fn reread(keeper: &Gatekeeper) {
    notify::reloading();
    match keeper.reload(None).await {
        Ok(active) => tracing::info!(models = active.config.catalog.models.len(), "the configuration was read anew"),
        Err(problems) => {
            tracing::error!(problems, "the configuration is wrong; the old one stays in force");
            notify::status("the configuration is wrong; the old one stays in force");
        }
    }
    notify::ready_again();
}

/// A hold past its deadline belongs to a call that nobody drives any more.
async fn end_overdue(gate: &Gate) {
    match gate.ledger().overdue().await {
        // A call that somebody drives ends itself.
        Ok(overdue) => overdue.into_iter().filter(|key| !gate.is_live(*key)).for_each(|key| gate.end_unknown(key, Outcome::Deadline)),
        Err(fault) => tracing::warn!(%fault, "holds past their deadline could not be looked for"),
    }
}

/// The file that holds the daemon's process id while it runs.
struct PidFile<'a>(&'a Path);

impl PidFile<'_> {
    fn write(path: &Path) -> anyhow::Result<PidFile<'_>> {
        std::fs::write(path, format!("{}\n", std::process::id())).with_context(|| format!("writing {}", path.display()))?;
        Ok(PidFile(path))
    }
}

impl Drop for PidFile<'_> {
    fn drop(&mut self) {
        remove(self.0);
    }
}

fn remove(path: &Path) {
    if let Err(fault) = std::fs::remove_file(path) {
        tracing::debug!(%fault, path = %path.display(), "could not be removed");
    }
}
