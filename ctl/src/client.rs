//! The connection to the daemon: blocking calls over the control socket.

use crate::clock::Deadline;
use crate::exit::{Exit, Failure};
use aex_core::paths::{Paths, Place};
use aex_proto::daemon::{Hello, PROTOCOL};
use aex_proto::frame::{self, Frame, MAX_REPLY_LINE, Splitter};
use aex_proto::method::{DaemonHello, Method, Nothing, Notice, RunEnded};
use aex_proto::rpc::{Id, Outcome, Outgoing, Request};
use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a method may take; the audit of a large ledger has its own.
const CALL: Duration = Duration::from_secs(30);
/// How long the recomputation of the ledger may take.
pub(crate) const AUDIT: Duration = Duration::from_secs(3600);
const READ_BYTES: usize = 64 * 1024;

/// A connection that has said hello.
pub(crate) struct Client {
    stream: UnixStream,
    splitter: Splitter,
    arrived: VecDeque<Outgoing>,
    notices: VecDeque<Request>,
    calls: i64,
    hello: Hello,
}

impl Client {
    /// Connects to the daemon of a home, wherever its socket may be.
    pub(crate) fn connect(paths: &Paths) -> Result<Client, Failure> {
        Client::connect_any(paths, &sockets(paths))
    }

    /// Whether there is a socket: without one there is no daemon.
    pub(crate) fn may_connect(paths: &Paths) -> bool {
        sockets(paths).iter().any(|socket| socket.exists())
    }

    fn connect_any(paths: &Paths, sockets: &[PathBuf]) -> Result<Client, Failure> {
        let mut failures = Vec::new();
        for socket in sockets {
            match Client::connect_at(socket) {
                // Only the first place belongs to this home alone.
                Ok(client) if failures.is_empty() || is_same(Path::new(&client.hello.home), &paths.home) => return Ok(client),
                Ok(_) => {}
                Err(failure) => failures.push(failure),
            }
        }
        // A daemon that is there and cannot be used says more than a place where there is none.
        let telling = failures.iter().position(|failure| failure.exit != Exit::Unreachable).unwrap_or(0);
        let failure = failures.swap_remove(telling);
        let hidden = running_pid(paths).filter(|_| failure.exit == Exit::Unreachable);
        let variable = if paths.place == Place::System { "RUNTIME_DIRECTORY" } else { "XDG_RUNTIME_DIR" };
        Err(hidden.map_or(failure, |pid| {
            Failure::new(format!("the daemon runs (pid {pid}), but nothing answers at {}", paths.socket.display()))
                .with(Exit::Unreachable)
                .hint(format!("set {variable} as it was when the daemon was started, or `kill {pid}` and then `aexctl daemon start`"))
        }))
    }

    /// Connects and makes sure that both sides speak the same protocol.
    fn connect_at(socket: &Path) -> Result<Client, Failure> {
        let stream = UnixStream::connect(socket).map_err(|fault| unreachable_daemon(socket, &fault))?;
        let hello = Hello { version: String::new(), protocol: 0, pid: 0, port: 0, epoch: 0, home: String::new() };
        let splitter = Splitter::new(MAX_REPLY_LINE);
        let mut client = Client { stream, splitter, arrived: VecDeque::new(), notices: VecDeque::new(), calls: 0, hello };
        client.hello = client.call::<DaemonHello>(&Nothing {})?;
        if client.hello.protocol == PROTOCOL {
            return Ok(client);
        }
        let message = format!("aexd {} speaks protocol {}, this aexctl speaks {PROTOCOL}", client.hello.version, client.hello.protocol);
        Err(Failure::new(message).hint("install aexctl and aexd of the same version, then `aexctl daemon stop` and `aexctl daemon start`"))
    }

    /// Who answered.
    pub(crate) const fn hello(&self) -> &Hello {
        &self.hello
    }

    /// Calls a method and waits for its reply.
    pub(crate) fn call<M: Method>(&mut self, params: &M::Params) -> Result<M::Reply, Failure> {
        self.call_within::<M>(params, CALL)
    }

    /// Calls a method that may take longer, or must not take long.
    pub(crate) fn call_within<M: Method>(&mut self, params: &M::Params, limit: Duration) -> Result<M::Reply, Failure> {
        self.call_told::<M, RunEnded>(params, limit, None)
    }

    /// The same; notifications of one kind are told as they come, where somebody hears them. All others are kept.
    pub(crate) fn call_told<M: Method, N: Notice>(
        &mut self,
        params: &M::Params,
        limit: Duration,
        hear: Option<&dyn Fn(N::Params)>,
    ) -> Result<M::Reply, Failure> {
        self.calls += 1;
        let bug = |fault: serde_json::Error| Failure::new(format!("{}: {fault}", M::NAME)).with(Exit::Bug);
        let request = Request::call::<M>(self.calls, params).map_err(bug)?;
        let line = frame::line(&request).map_err(bug)?;
        let deadline = Deadline::after(limit);
        if let Err(fault) = self.stream.write_all(&line) {
            // A daemon that takes no connection of ours has said why before it closed.
            return match self.next(deadline, M::NAME) {
                Ok(Outgoing::Response(response)) if response.id == Id::Null => reply::<M>(response.outcome),
                _ => Err(lost(&fault.to_string())),
            };
        }
        loop {
            match self.next(deadline, M::NAME)? {
                Outgoing::Response(response) if response.id == Id::Number(self.calls) => return reply::<M>(response.outcome),
                Outgoing::Notice(notice) => match hear.filter(|_| notice.method == N::NAME) {
                    Some(hear) => hear(notice.params().map_err(|error| Failure::from(error).with(Exit::Bug))?),
                    None => self.notices.push_back(notice),
                },
                // The daemon could not read the request at all.
                Outgoing::Response(response) if response.id == Id::Null => return reply::<M>(response.outcome),
                // The late reply to a call that was given up.
                Outgoing::Response(_) | Outgoing::Batch(_) => {}
            }
        }
    }

    /// The next notification of a kind; blocks for as long as the connection lives.
    pub(crate) fn wait_notice<N: Notice>(&mut self) -> Result<N::Params, Failure> {
        loop {
            if let Some(params) = self.take_notice::<N>()? {
                return Ok(params);
            }
            self.stream.set_read_timeout(None).map_err(|fault| lost(&fault.to_string()))?;
            self.pump()?;
        }
    }

    /// A notification of a kind that has arrived already.
    pub(crate) fn take_notice<N: Notice>(&mut self) -> Result<Option<N::Params>, Failure> {
        while let Some(message) = self.arrived.pop_front() {
            if let Outgoing::Notice(notice) = message {
                self.notices.push_back(notice);
            }
        }
        let Some(at) = self.notices.iter().position(|notice| notice.method == N::NAME) else { return Ok(None) };
        let notice = self.notices.remove(at).map(|notice| notice.params());
        notice.transpose().map_err(|error| Failure::from(error).with(Exit::Bug))
    }

    /// Reads once what the daemon has sent; an error when it has gone.
    pub(crate) fn pump(&mut self) -> Result<(), Failure> {
        let mut bytes = [0; READ_BYTES];
        let count = match self.stream.read(&mut bytes) {
            Ok(0) => return Err(lost("the connection was closed")),
            Ok(count) => count,
            Err(fault) if fault.kind() == ErrorKind::Interrupted => 0,
            Err(fault) => return Err(lost(&fault.to_string())),
        };
        for frame in self.splitter.feed(bytes.get(..count).unwrap_or_default()) {
            let Frame::Line(line) = frame else { return Err(Failure::new("the daemon sent a line that is too long").with(Exit::Bug)) };
            let message = serde_json::from_slice(&line);
            self.arrived.push_back(message.map_err(|fault| Failure::new(format!("the daemon sent no JSON-RPC: {fault}")).with(Exit::Bug))?);
        }
        Ok(())
    }

    /// A second handle of the socket, to end a wait from another thread.
    pub(crate) fn socket(&self) -> Result<UnixStream, Failure> {
        self.stream.try_clone().map_err(|fault| lost(&fault.to_string()))
    }

    fn next(&mut self, deadline: Deadline, method: &str) -> Result<Outgoing, Failure> {
        loop {
            if let Some(message) = self.arrived.pop_front() {
                return Ok(message);
            }
            let left = deadline.left();
            if left.is_zero() {
                return Err(Failure::new(format!("the daemon did not answer {method} in time")).hint("aexctl daemon status"));
            }
            self.stream.set_read_timeout(Some(left)).map_err(|fault| lost(&fault.to_string()))?;
            match self.pump() {
                Err(_) if deadline.is_over() => {}
                other => other?,
            }
        }
    }
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

fn reply<M: Method>(outcome: Outcome) -> Result<M::Reply, Failure> {
    match outcome {
        Outcome::Error(error) => Err(Failure::from(error)),
        Outcome::Result(value) => serde_json::from_value(value)
            .map_err(|fault| Failure::new(format!("the reply to {} cannot be read: {fault}", M::NAME)).with(Exit::Bug)),
    }
}

fn lost(why: &str) -> Failure {
    Failure::new(format!("the daemon has gone: {why}")).with(Exit::Unreachable).hint("aexctl daemon start")
}

fn sockets(paths: &Paths) -> Vec<PathBuf> {
    paths.sockets(nix::unistd::getuid().as_raw())
}

/// The process of the daemon, when its file names one that lives.
pub(crate) fn running_pid(paths: &Paths) -> Option<u32> {
    let pid: u32 = std::fs::read_to_string(&paths.pid_file).ok()?.trim().parse().ok()?;
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // proc_pid_stat(5): the number, the name in parentheses, the state. A zombie has ended.
    let state = stat.strip_prefix(&format!("{pid} (aexd) "))?;
    (!state.starts_with(['Z', 'X'])).then_some(pid)
}

/// Whether two paths name one folder.
fn is_same(one: &Path, other: &Path) -> bool {
    one == other || matches!((one.canonicalize(), other.canonicalize()), (Ok(one), Ok(other)) if one == other)
}

fn unreachable_daemon(socket: &Path, fault: &std::io::Error) -> Failure {
    let socket = socket.display();
    match fault.kind() {
        ErrorKind::PermissionDenied => Failure::new(format!("no permission to use {socket}"))
            .with(Exit::Denied)
            .hint("run as the daemon's user, or join its admin_group"),
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => {
            Failure::new(format!("the daemon is not running: nothing answers at {socket}"))
                .with(Exit::Unreachable)
                .hint("aexctl daemon start")
        }
        _ => Failure::new(format!("the daemon is not reachable at {socket}: {fault}")).with(Exit::Unreachable).hint("aexctl daemon start"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aex_proto::method::AgentInspect;
    use aex_proto::rpc::{ErrorObject, Fault, Incoming, Response};
    use std::io::{BufRead, BufReader};
    use std::os::unix::net::UnixListener;

    fn paths(home: &std::path::Path) -> Paths {
        Paths::resolve(|_| None, Some(home)).unwrap_or_else(|fault| unreachable!("{fault}"))
    }

    /// A daemon that answers each request by a script and then leaves.
    fn daemon(paths: &Paths, answers: Vec<fn(Id) -> Vec<u8>>) -> std::thread::JoinHandle<()> {
        let listener = UnixListener::bind(&paths.socket).unwrap_or_else(|fault| unreachable!("{fault}"));
        std::thread::spawn(move || {
            let Ok((stream, _)) = listener.accept() else { return };
            let mut lines = BufReader::new(&stream).lines();
            for answer in answers {
                let Some(Ok(line)) = lines.next() else { return };
                let Incoming::One(Ok(request)) = Incoming::parse(line.as_bytes()) else { return };
                (&stream).write_all(&answer(request.id.unwrap_or(Id::Null))).ok();
            }
        })
    }

    fn hello(id: Id) -> Vec<u8> {
        let hello = Hello { version: "1".to_owned(), protocol: PROTOCOL, pid: 7, port: 9000, epoch: 1, home: "/h".to_owned() };
        frame::line(&Response::reply::<DaemonHello>(id, &hello)).unwrap_or_default()
    }

    #[test]
    fn a_daemon_that_is_not_there_is_exit_3_with_the_next_command() {
        let home = tempfile::tempdir().unwrap_or_else(|fault| unreachable!("{fault}"));
        let failure = Client::connect(&paths(home.path())).err().unwrap_or_else(|| unreachable!("nobody listens"));
        assert_eq!((failure.exit, failure.hint.as_deref()), (Exit::Unreachable, Some("aexctl daemon start")));
    }

    #[test]
    fn a_daemon_that_was_started_in_another_environment_is_found_by_its_home_only() {
        let home = tempfile::tempdir().unwrap_or_else(|fault| unreachable!("{fault}"));
        let at = |socket: &str| Paths { socket: home.path().join(socket), ..paths(Path::new("/h")) };
        let (first, second) = (at("first"), at("second"));
        let sockets = [first.socket.clone(), second.socket.clone()];
        for (home, is_found) in [("/h", true), ("/other", false)] {
            let server = daemon(&second, vec![hello]);
            let paths = paths(Path::new(home));
            assert_eq!(Client::connect_any(&paths, &sockets).map(|client| client.hello.pid).ok(), is_found.then_some(7), "{home}");
            server.join().ok();
            std::fs::remove_file(&second.socket).ok();
        }
    }

    #[test]
    fn a_notification_before_a_reply_is_kept_and_a_fault_has_its_exit_code() {
        let home = tempfile::tempdir().unwrap_or_else(|fault| unreachable!("{fault}"));
        let paths = paths(home.path());
        let refuse = |id: Id| {
            let mut bytes =
                br#"{"jsonrpc":"2.0","method":"run.ended","params":{"run":"run_9","reason":"killed","message":"stop"}}"#.to_vec();
            bytes.push(b'\n');
            let error = Response::error(id, ErrorObject::fault(Fault::NotFound, "no agent 'x'").hint("aexctl agent list"));
            bytes.extend(frame::line(&error).unwrap_or_default());
            bytes
        };
        let server = daemon(&paths, vec![hello, refuse]);
        let mut client = Client::connect(&paths).unwrap_or_else(|failure| unreachable!("{failure:?}"));
        let name = "x".parse().unwrap_or_else(|fault| unreachable!("{fault}"));
        let failure = client.call::<AgentInspect>(&aex_proto::account::AgentRef { name }).err();
        assert_eq!(failure.map(|failure| (failure.exit, failure.hint)), Some((Exit::NotFound, Some("aexctl agent list".to_owned()))));
        assert_eq!(client.take_notice::<RunEnded>().map(|notice| notice.map(|ended| ended.message)), Ok(Some("stop".to_owned())));
        server.join().ok();
        assert_eq!(client.pump().map_err(|failure| failure.exit), Err(Exit::Unreachable));
    }

    #[test]
    fn a_process_file_that_a_dead_daemon_left_names_no_daemon() {
        let home = tempfile::tempdir().unwrap_or_else(|fault| unreachable!("{fault}"));
        let paths = paths(home.path());
        for text in [String::new(), "0".to_owned(), format!("{}\n", std::process::id())] {
            std::fs::write(&paths.pid_file, text).ok();
            assert_eq!(running_pid(&paths), None);
        }
    }

    #[test]
    fn a_daemon_of_another_protocol_is_refused() {
        let home = tempfile::tempdir().unwrap_or_else(|fault| unreachable!("{fault}"));
        let paths = paths(home.path());
        let newer = |id: Id| {
            let hello = Hello { version: "9".to_owned(), protocol: 9, pid: 7, port: 9000, epoch: 1, home: "/h".to_owned() };
            frame::line(&Response::reply::<DaemonHello>(id, &hello)).unwrap_or_default()
        };
        let server = daemon(&paths, vec![newer]);
        let failure = Client::connect(&paths).err().unwrap_or_else(|| unreachable!("the protocol differs"));
        assert_eq!((failure.exit, failure.message.as_str()), (Exit::Failed, "aexd 9 speaks protocol 9, this aexctl speaks 1"));
        server.join().ok();
    }
}
