//! A confined process under test: what it is given, on which machine, and what it says.
//!
//! A machine that lacks something is made by a wrapper round the stage: `unshare` (util-linux) gives it a world in which the kernel refuses
//! what it would have given.

use std::fs;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::sync::mpsc::channel;

use aexd::tools::sandbox::{Failure, Level, Plan, Report, stage};
use aexd::tools::server::{Confinement, Resources};
use nix::pty::openpty;
use tempfile::TempDir;

use crate::daemon::{PATIENCE, binary};

/// What a machine lets a user do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Machine {
    /// This one.
    Own,
    /// No namespaces, as Docker and Ubuntu have it.
    WithoutNamespaces,
    /// Parts of /proc are mounted over, as in a container or a hardened unit.
    MaskedProc,
}

impl Machine {
    /// The words of a shell that lead to it, inside a user namespace of its own.
    fn lacks(self) -> Option<(&'static str, &'static str)> {
        match self {
            Machine::Own => None,
            Machine::WithoutNamespaces => Some(("--user --map-root-user", "echo 0 > /proc/sys/user/max_user_namespaces")),
            Machine::MaskedProc => {
                Some(("--user --map-root-user --mount", "mount --bind /proc/sys /proc/sys && mount -o remount,bind,ro /proc/sys"))
            }
        }
    }

    /// Whether it can be made here; it needs namespaces.
    #[must_use]
    pub fn can_be_made(self) -> bool {
        let Some((flags, words)) = self.lacks() else { return true };
        let tried = std::process::Command::new("unshare").args(flags.split(' ')).args(["sh", "-c", words]).output();
        tried.is_ok_and(|output| output.status.success())
    }
}

/// A folder for the stages of one test.
pub struct Ground {
    /// Holds what a test puts there.
    pub dir: TempDir,
    wrapper: PathBuf,
}

/// A process that runs, and what was reported of it.
pub struct Running {
    /// The stage, which stands for the program.
    pub child: Child,
    /// What is in force.
    pub report: Report,
    /// What it writes.
    pub out: ChildStdout,
    /// What it reads; a terminal when there is none.
    pub input: Option<ChildStdin>,
    /// The other end of its terminal.
    _terminal: OwnedFd,
}

/// What a process reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// A pipe.
    Pipe,
    /// A terminal that the test opened.
    Terminal,
}

impl Ground {
    /// Makes it for a machine.
    #[must_use]
    #[track_caller]
    pub fn on(machine: Machine) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let aexd = binary("aexd");
        let wrapper = match machine.lacks() {
            None => aexd,
            Some((flags, words)) => {
                let path = dir.path().join("aexd");
                let script = format!(
                    "#!/bin/sh\nPATH=/usr/bin:/bin:/usr/sbin:/sbin exec unshare {flags} sh -c '{words} && exec {} \"$@\"' sh \"$@\"\n",
                    aexd.display()
                );
                fs::write(&path, script).expect("write the wrapper");
                fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("make it a program");
                path
            }
        };
        Self { dir, wrapper }
    }

    /// An empty folder below it.
    #[must_use]
    #[track_caller]
    pub fn folder(&self, name: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        if path.exists() {
            fs::remove_dir_all(&path).expect("empty the folder");
        }
        fs::create_dir_all(&path).expect("make the folder");
        path
    }

    /// A plan for a command, with a private folder and one for temporary files.
    #[must_use]
    #[track_caller]
    pub fn plan(&self, level: Level, command: &[&str]) -> Plan {
        let (home, tmp) = (self.folder("private"), self.folder("tmp"));
        let text = |path: &Path| path.display().to_string();
        let [program, args @ ..] = command else { panic!("a command") };
        let env = [
            ("PATH", "/usr/local/bin:/usr/bin:/bin".to_owned()),
            ("HOME", text(&home)),
            ("TMPDIR", text(&tmp)),
            ("LANG", "C.UTF-8".to_owned()),
        ];
        Plan {
            program: Some((*program).to_owned()),
            args: args.iter().map(ToString::to_string).collect(),
            env: env.map(|(name, value)| (name.to_owned(), value)).to_vec(),
            cwd: home.clone(),
            private: vec![home, tmp.clone()],
            tmp: Some(tmp),
            deny: Vec::new(),
            writable: Vec::new(),
            user_home: None,
            group: None,
            confinement: Confinement {
                level,
                require: None,
                read: Vec::new(),
                write: Vec::new(),
                hosts: Vec::new(),
                resources: Resources::DEFAULT,
            },
        }
    }

    /// Starts it.
    ///
    /// # Errors
    /// Why no program runs.
    #[track_caller]
    pub fn start(&self, plan: &Plan, input: Input) -> Result<Running, Failure> {
        let mut stage = stage(&self.wrapper, plan).expect("a stage");
        let terminal = openpty(None, None).expect("a terminal");
        let stdin = match input {
            Input::Pipe => Stdio::piped(),
            Input::Terminal => Stdio::from(terminal.slave),
        };
        let mut child = stage.command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().expect("start the stage");
        drop(stage.command);
        let (sender, told) = channel();
        let reader = stage.report;
        drop(std::thread::spawn(move || sender.send(reader.read()).is_ok()));
        let report = told.recv_timeout(PATIENCE).expect("a report in time").inspect_err(|_| drop(child.wait()))?;
        let (out, input) = (child.stdout.take().expect("a pipe"), child.stdin.take());
        Ok(Running { child, report, out, input, _terminal: terminal.master })
    }

    /// Runs it to its end.
    ///
    /// # Errors
    /// Why no program runs.
    #[track_caller]
    pub fn run(&self, plan: &Plan) -> Result<(Report, String, std::process::ExitStatus), Failure> {
        let mut running = self.start(plan, Input::Terminal)?;
        let (said, status) = running.end();
        Ok((running.report, said, status))
    }
}

impl Running {
    /// What it says until its end, and how it ends.
    #[track_caller]
    pub fn end(&mut self) -> (String, std::process::ExitStatus) {
        drop(self.input.take());
        let said = until_end(&mut self.out);
        (said, self.child.wait().expect("the end of the stage"))
    }
}

/// What comes through a pipe until nobody holds its other end; fails the test at a deadline.
#[track_caller]
pub fn until_end(out: &mut (impl Read + std::os::fd::AsFd)) -> String {
    let mut copy = fs::File::from(out.as_fd().try_clone_to_owned().expect("a descriptor"));
    let (sender, ended) = channel();
    drop(std::thread::spawn(move || {
        let mut said = String::new();
        let read = copy.read_to_string(&mut said).map(|_| said);
        sender.send(read).is_ok()
    }));
    ended.recv_timeout(3 * PATIENCE).expect("the end of its output in time").expect("text")
}
