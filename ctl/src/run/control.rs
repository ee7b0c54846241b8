//! The connection that a run is tied to, held by a thread of its own for the life of the run and tied again after the daemon
//! was restarted.

use crate::client::Client;
use crate::clock::Deadline;
use crate::exit::{Attempt, Exit, Failure};
use aex_core::paths::Paths;
use aex_proto::method::{RunAttach as Attach, RunClose as Close, RunEnded as EndedNotice};
use aex_proto::run::{RunAttach, RunClose, RunOpened, RunSummary};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

/// The first wait before a new try to connect; it doubles up to [`LONGEST_WAIT`].
const FIRST_WAIT: Duration = Duration::from_millis(50);
const LONGEST_WAIT: Duration = Duration::from_secs(1);
/// How long the daemon may take to answer on a new connection.
const ATTACH: Duration = Duration::from_secs(5);
/// How long the last words may take, reconnecting included.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// What the connection tells while the command runs.
pub(super) enum Told {
    /// The run was ended from elsewhere.
    Ended(String),
    /// The daemon is gone.
    Lost,
    /// It is back, and the run is tied to it again; where it listens when that has changed.
    Back { moved: Option<String> },
}

/// The watcher's end.
pub(super) struct Control {
    wake: UnixStream,
    told: mpsc::Receiver<Told>,
    close: mpsc::Sender<i32>,
    thread: JoinHandle<Option<RunSummary>>,
}

impl Control {
    /// Takes the connection on which the run was opened, and what it is to be tied with to another.
    pub(super) fn start(client: Client, opened: &RunOpened, stop_on_budget: bool, paths: Paths) -> Result<Control, Failure> {
        let (wake, theirs) = UnixStream::pair().attempt(|| "make a socket pair".to_owned())?;
        wake.set_nonblocking(true).and_then(|()| theirs.set_nonblocking(true)).attempt(|| "make a socket pair".to_owned())?;
        let (tell, told) = mpsc::channel();
        let (close, asked) = mpsc::channel();
        let attach = RunAttach { run: opened.run, stop_on_budget };
        let (client, origin) = (Some(client), opened.origin.clone());
        let keeper = Keeper { attach, origin, paths, client, wait: FIRST_WAIT, wake: theirs, tell, asked };
        let thread =
            std::thread::Builder::new().name("control".to_owned()).spawn(move || keeper.keep()).attempt(|| "start a thread".to_owned())?;
        Ok(Control { wake, told, close, thread })
    }

    /// Readable when something was told.
    pub(super) fn wake(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }

    /// What was told since.
    pub(super) fn told(&mut self) -> Vec<Told> {
        drain(&mut self.wake);
        self.told.try_iter().collect()
    }

    /// Closes the run; `None` when the daemon cannot be asked.
    pub(super) fn close(mut self, exit_status: i32) -> Option<RunSummary> {
        self.close.send(exit_status).ok()?;
        self.wake.write_all(b"!").ok()?;
        self.thread.join().ok().flatten()
    }
}

fn drain(stream: &mut UnixStream) {
    let mut bytes = [0; 64];
    while stream.read(&mut bytes).is_ok_and(|count| count > 0) {}
}

/// The thread's end.
struct Keeper {
    attach: RunAttach,
    origin: String,
    paths: Paths,
    client: Option<Client>,
    wait: Duration,
    wake: UnixStream,
    tell: mpsc::Sender<Told>,
    asked: mpsc::Receiver<i32>,
}

/// A try to tie the run to a new connection.
enum Tied {
    Yes(Option<String>),
    NotYet,
    Gone(String),
}

impl Keeper {
    fn keep(mut self) -> Option<RunSummary> {
        loop {
            if let Ok(exit_status) = self.asked.try_recv() {
                return self.last_words(exit_status);
            }
            if self.client.is_some() { self.listen() } else { self.tie() }
        }
    }

    fn listen(&mut self) {
        let Some(client) = &mut self.client else { return };
        // What came together with a reply is here already, and no byte would wake us for it.
        let result = match client.take_notice::<EndedNotice>() {
            Ok(None) if Self::sleep(&self.wake, Some(client.as_fd()), None) => {
                client.pump().and_then(|()| client.take_notice::<EndedNotice>())
            }
            other => other,
        };
        drain(&mut self.wake);
        match result {
            Ok(Some(ended)) if ended.run == self.attach.run => self.tell(Told::Ended(ended.message)),
            Ok(_) => {}
            Err(_) => {
                self.client = None;
                self.wait = FIRST_WAIT;
                self.tell(Told::Lost);
            }
        }
    }

    fn tie(&mut self) {
        Self::sleep(&self.wake, None, Some(self.wait));
        drain(&mut self.wake);
        self.wait = self.wait.saturating_mul(2).min(LONGEST_WAIT);
        match self.attach() {
            Tied::Yes(moved) => self.tell(Told::Back { moved }),
            Tied::NotYet => {}
            Tied::Gone(why) => {
                self.tell(Told::Ended(why));
                // Nothing is left to be tied; only the end of the command is waited for.
                self.wait = LONGEST_WAIT;
            }
        }
    }

    fn attach(&mut self) -> Tied {
        let Ok(mut client) = Client::connect(&self.paths) else { return Tied::NotYet };
        match client.call_within::<Attach>(&self.attach, ATTACH) {
            Ok(attached) => {
                self.client = Some(client);
                Tied::Yes(Some(attached.origin).filter(|origin| *origin != self.origin))
            }
            Err(failure) if failure.exit == Exit::NotFound => {
                self.client = Some(client);
                Tied::Gone(failure.message)
            }
            Err(_) => Tied::NotYet,
        }
    }

    /// Closes the run on its connection, or on a new one when the daemon was restarted just now.
    fn last_words(mut self, exit_status: i32) -> Option<RunSummary> {
        let params = RunClose { run: self.attach.run, exit_status: Some(exit_status) };
        let deadline = Deadline::after(LAST_WORDS);
        loop {
            let mut client = self.client.take().or_else(|| Client::connect(&self.paths).ok());
            match client.as_mut().map(|client| client.call_within::<Close>(&params, ATTACH)) {
                Some(Ok(summary)) => return Some(summary),
                Some(Err(failure)) if failure.exit != Exit::Unreachable => return None,
                // Without a socket there is no daemon, and no restart to wait for.
                _ if deadline.is_over() || !Client::may_connect(&self.paths) => return None,
                _ => std::thread::sleep(FIRST_WAIT),
            }
        }
    }

    fn tell(&mut self, told: Told) {
        // The watcher has gone only when the command has ended.
        self.tell.send(told).ok();
        self.wake.write_all(b"!").ok();
    }

    /// Waits for the watcher, for the daemon, or for the time to be over; whether it was the daemon.
    fn sleep(wake: &UnixStream, daemon: Option<BorrowedFd<'_>>, limit: Option<Duration>) -> bool {
        let limit = limit.map_or(PollTimeout::NONE, |limit| PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX));
        let mut descriptors = vec![PollFd::new(wake.as_fd(), PollFlags::POLLIN)];
        descriptors.extend(daemon.map(|daemon| PollFd::new(daemon, PollFlags::POLLIN)));
        poll(&mut descriptors, limit).ok();
        descriptors.get(1).and_then(PollFd::any).unwrap_or(false)
    }
}
