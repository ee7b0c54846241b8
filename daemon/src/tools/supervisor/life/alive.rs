//! A process that runs and the conversation with it: begun, and ended in each way that there is.

use super::super::super::framing::{Odd, Outbox};
use super::super::super::lock;
use super::super::super::process::{Exit, Feeder, Process, Stream};
use super::super::super::server::Level;
use super::super::super::session::{Changed, End, Listing, Opening, Pipes, Service, Session, Unopened};
use super::super::instance::{Instance, LAST_WORDS};
use super::super::options::Pace;
use super::{Cause, Closed, PARTING};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::unix::pipe::Receiver;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

/// How long the last messages and lines of a process that ended are waited for: one that left the group may hold the pipes open.
const LAST_LINES: Duration = Duration::from_millis(500);

/// A process that runs.
pub(super) struct Alive {
    pub(super) process: Process,
    pub(super) input: Arc<Outbox>,
    pub(super) output: Option<OwnedFd>,
    /// Whether its program has begun.
    pub(super) is_confined: bool,
    pub(super) feeder: Arc<Feeder>,
    pub(super) stderr: JoinHandle<()>,
    pub(super) ended: watch::Sender<Option<End>>,
    pub(super) changed: watch::Sender<Changed>,
}

/// A conversation that has begun.
pub(super) struct Talk {
    pub(super) session: Arc<Session>,
    /// How the process is confined.
    pub(super) level: Level,
    pub(super) service: Service,
    pub(super) changed: watch::Receiver<Changed>,
    pub(super) listing: Listing,
}

impl Alive {
    /// Begins the conversation: the process is confined, a revision is found, its tools are known.
    ///
    /// # Errors
    /// What went wrong.
    pub(super) async fn talk(&mut self, instance: &Instance, pace: &Pace, opening: Opening) -> Result<Talk, Cause> {
        let ill = |fault: &dyn std::fmt::Display| Cause::Ill(fault.to_string());
        let report = self.process.confined().await.map_err(|fault| ill(&fault))?;
        let level = report.active;
        lock(&instance.facts).report = Some(report);
        self.is_confined = true;
        let output = self.output.take().ok_or_else(|| ill(&"it has no output"))?;
        let output = Receiver::from_owned_fd(output).map_err(|fault| ill(&fault))?;
        let junk = Arc::clone(&self.feeder);
        let changed = self.changed.subscribe();
        let pipes = Pipes {
            output,
            input: Arc::clone(&self.input),
            seen: Arc::clone(&instance.seen),
            junk: Box::new(move |odd| match odd {
                Odd::Line(line) => junk.line(Stream::Stdout, line),
                Odd::TooLong => junk.line(Stream::Daemon, b"a line of its output is longer than a message may be, and is dropped"),
            }),
            // One that is known to answer it has all the time.
            probe: if opening == Opening::Discover { instance.server.times.start } else { pace.probe },
            hidden: Arc::clone(self.feeder.hidden()),
            changed: self.changed.clone(),
            ended: self.ended.subscribe(),
        };
        let talk = async {
            let (session, service) = match Session::open(&instance.server, pipes, opening).await {
                Ok(open) => open,
                Err(Unopened::Said(why)) => return Err(Cause::Ill(why)),
                Err(Unopened::Closed) => {
                    // A process that ends closes its output first: how it ends says more.
                    sleep(PARTING).await;
                    return Err(ill(&"its output ended before it answered"));
                }
            };
            let listing = session.list(instance.server.times.start).await.map_err(|fault| ill(&fault))?;
            Ok(Talk { session: Arc::new(session), level, service, changed, listing })
        };
        tokio::select! {
            biased;
            talk = talk => talk,
            () = self.process.exited() => Err(Cause::Exited),
        }
    }

    /// Buries a process that ended by itself: what is left of its tree dies, the answers that it still gave are delivered, and calls in
    /// progress hear of it.
    pub(super) async fn bury(self, instance: &Instance, closed: Option<Closed>) -> Option<Exit> {
        let pid = self.process.pid();
        let exit = self.process.end().await;
        if let Some(mut closed) = closed {
            drop(timeout(LAST_LINES, super::shut(&mut closed)).await);
        }
        drop(timeout(LAST_LINES, self.stderr).await);
        self.feeder.say(&exit.map_or_else(|| "ended".to_owned(), |exit| exit.to_string()));
        let words = instance.journal.last_words(LAST_WORDS, pid);
        // One that was killed is told by why, also to those who look when it is dead.
        self.ended.send_if_modified(|end| {
            let is_first = end.is_none();
            end.get_or_insert_with(|| match exit {
                Some(exit) => End::Exited(exit, words),
                None => End::Stopped("it ended".to_owned()),
            });
            is_first
        });
        exit
    }

    /// Ends a process with which nothing can be done.
    pub(super) async fn fell(self, instance: &Instance, why: &str, closed: Option<Closed>) -> Option<Exit> {
        self.ended.send_replace(Some(End::Stopped(why.to_owned())));
        self.feeder.say(&format!("killed: {why}"));
        self.bury(instance, closed).await
    }

    /// Kills a process: somebody wants that.
    pub(super) async fn kill(self, why: &str) -> Option<Exit> {
        self.ended.send_replace(Some(End::Stopped(why.to_owned())));
        self.feeder.say(&format!("killed: {why}"));
        self.process.end().await
    }

    /// Lets a process end: it reads the end of its input; its group is asked to end; its tree is killed. Each step has this time.
    pub(super) async fn part(self, why: &str, grace: Duration) -> Option<Exit> {
        self.ended.send_replace(Some(End::Stopped(why.to_owned())));
        self.feeder.say(&format!("stopped: {why}"));
        self.input.close();
        if timeout(grace, self.process.exited()).await.is_err() {
            self.process.terminate();
            drop(timeout(grace, self.process.exited()).await);
        }
        self.process.end().await
    }
}
