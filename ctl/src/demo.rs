//! `aexctl demo`: a governed agent from its first call to its spent budget, in a throwaway home.
//!
//! Owns the play and its stage. Each step is the command that it shows, run as a user would run it. Must not: leave anything
//! behind, or end well when a promise was not kept.

mod builtin;
mod ledger;
mod tools;

use crate::clock::Deadline;
use crate::exit::{Attempt, Exit, Failure};
use crate::signals::{Arrived, ENDING, Signals};
use crate::tree::{self, Fall};
use crate::view::View;
use crate::{aexd, spawn};
use aex_core::paths::Paths;
use ledger::Ledger;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

pub(crate) use builtin::run as agent;
pub(crate) use tools::run as tools_agent;

/// What the demo's agent may spend, in USD: a handful of calls.
const BUDGET: &str = "0.0007";
const AGENT_PY: &str = include_str!("demo/agent.py");
const MODELS_YAML: &str = include_str!("demo/models.yaml");
/// What the demo's agents may call, in the form that AETHER had.
const PERMISSIONS: &str = r#"{"global_policy": "deny", "rules": {"calculate_sum": "allow", "delete_system32": "deny"}}"#;
/// Variables that would lead the demo's daemon to files that are not its own.
const FOREIGN: [&str; 8] = [
    "AEX_CONFIG_DIR",
    "AEX_LOG_DIR",
    "AEX_DB_PATH",
    "AEX_PORT",
    "STATE_DIRECTORY",
    "RUNTIME_DIRECTORY",
    "CONFIGURATION_DIRECTORY",
    "LOGS_DIRECTORY",
];
/// How long the demo's processes may take to end.
const CLEAR: Duration = Duration::from_secs(15);
const LOOK: Duration = Duration::from_millis(50);

/// Plays the demo and clears the stage, whatever happened on it.
pub(crate) fn run(view: &View) -> Result<Exit, Failure> {
    let signals = Signals::take(&ENDING)?;
    nix::sys::prctl::set_child_subreaper(true).attempt(|| "become a subreaper".to_owned())?;
    let stage = Stage::build(*view, signals)?;
    let played = stage.play();
    let cleared = stage.clear();
    // A reader that left early has not seen what is promised.
    played.map_err(|failure| if failure.exit == Exit::Done { failure.with(Exit::Failed) } else { failure })?;
    cleared?;
    view.line("\nAll of it happened in a throwaway home, which is gone now. For your own agents:")?;
    view.line("  aexctl init\n  aexctl daemon start\n  aexctl run -- python3 your_agent.py")?;
    Ok(Exit::Done)
}

struct Stage {
    view: View,
    signals: Signals,
    home: PathBuf,
}

impl Stage {
    fn build(view: View, signals: Signals) -> Result<Stage, Failure> {
        let template = std::env::temp_dir().join("aex-demo-XXXXXX");
        let home = nix::unistd::mkdtemp(&template).attempt(|| format!("make a folder in {}", std::env::temp_dir().display()))?;
        let stage = Stage { view, signals, home };
        let config = stage.home.join("config");
        let write = || {
            DirBuilder::new().mode(0o700).create(&config)?;
            fs::write(config.join("models.yaml"), MODELS_YAML)?;
            fs::write(config.join("permissions.json"), format!("{PERMISSIONS}\n"))?;
            fs::write(stage.home.join("agent.py"), AGENT_PY)
        };
        match write().attempt(|| format!("write into {}", stage.home.display())) {
            Ok(()) => Ok(stage),
            Err(failure) => {
                fs::remove_dir_all(&stage.home).ok();
                Err(failure)
            }
        }
    }

    fn play(&self) -> Result<(), Failure> {
        let view = self.view;
        view.line("A daemon of its own, with a provider that needs no key:")?;
        view.prompt(&format!("export AEX_HOME={}", self.home.display()))?;
        self.step(&["daemon", "start", "--port", "0"])?;
        view.line(&format!("\nAn agent that may spend ${BUDGET} and make 600 requests a minute:"))?;
        self.step(&["agent", "create", "demo", BUDGET, "600"])?;
        view.line("\nA script that calls a model, unchanged, until the budget stops it; beside it what the ledger records:")?;
        let ledger = Ledger::follow(&self.paths()?, view, BUDGET)?;
        let script = self.script()?;
        let words: Vec<&str> = ["run", "--agent", "demo", "--"].into_iter().chain(script.iter().map(String::as_str)).collect();
        self.step(&words)?;
        ledger.verify()?;
        self.tools()?;
        view.line("\nWhat is left, what was recorded, and whether it all adds up:")?;
        self.step(&["agent", "list"])?;
        self.step(&["events", "--limit", "8"])?;
        self.step(&["audit"])?;
        self.step(&["daemon", "stop"])
    }

    /// A tool under the same law. It is a program beside aexd.
    fn tools(&self) -> Result<(), Failure> {
        let view = self.view;
        let Some(tool) = aexd::path().and_then(|aexd| Some(aexd.parent()?.join("mock_tool"))).filter(|tool| tool.is_file()) else {
            return view.line("\n(mock_tool is not installed beside aexd: tools are left out)");
        };
        view.line(&format!("\nA tool under the same law. permissions.json says {PERMISSIONS}"))?;
        self.step(&["tools", "add", "mock", "--", &tool.to_string_lossy()])?;
        self.step(&["agent", "create", "clerk", "0.01", "600"])?;
        let own = own().to_string_lossy().into_owned();
        self.step(&["run", "--agent", "clerk", "--", &own, "demo-tools"])?;
        self.step(&["tools", "list"])
    }

    /// The agent's script: for python3, or built in where there is none.
    fn script(&self) -> Result<Vec<String>, Failure> {
        let mut python = Command::new("python3");
        let runs = python
            .args(["-c", ""])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success());
        if runs {
            return Ok(vec!["python3".to_owned(), "agent.py".to_owned()]);
        }
        self.view.line("(python3 is not there: the script is built into aexctl)")?;
        Ok(vec![own().to_string_lossy().into_owned(), "demo-agent".to_owned()])
    }

    /// Shows a command and runs it. It must end well.
    fn step(&self, words: &[&str]) -> Result<(), Failure> {
        let shown = format!("aexctl {}", words.join(" "));
        self.view.prompt(&shown)?;
        let mut command = Command::new(own());
        for name in FOREIGN {
            command.env_remove(name);
        }
        command.args(words).env("AEX_HOME", &self.home).current_dir(&self.home).stdin(Stdio::null());
        let mut child = spawn::with_mask(&mut command, self.signals.before()).spawn().attempt(|| format!("run {shown}"))?;
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap_or_default());
        let mut interrupted = None;
        let status = loop {
            if let Some(status) = child.try_wait().attempt(|| format!("wait for {shown}"))? {
                break status;
            }
            self.signals.wait(None, None)?;
            interrupted = interrupt(pid, &self.signals.arrived()?).or(interrupted);
        };
        match interrupted {
            Some(signal) => Err(Failure::new("interrupted").with(Exit::Command(u8::try_from(128 + signal as i32).unwrap_or(1)))),
            None if status.success() => Ok(()),
            None => Err(Failure::new(format!("`{shown}` ended with {}", aexd::exit_of(status).code()))),
        }
    }

    fn paths(&self) -> Result<Paths, Failure> {
        Paths::resolve(|_| None, Some(&self.home)).attempt(|| "find the demo's files".to_owned())
    }

    /// Ends what still runs below us, the daemon included, and removes the home.
    fn clear(&self) -> Result<(), Failure> {
        let deadline = Deadline::after(CLEAR);
        let mut fall = Fall::begin();
        while !fall.look() && !deadline.is_over() {
            self.signals.wait(None, Some(LOOK))?;
            self.signals.arrived()?;
            tree::reap(Pid::this());
        }
        fs::remove_dir_all(&self.home).attempt(|| format!("remove {}", self.home.display()))?;
        if fall.look() { Ok(()) } else { Err(Failure::new("a process of the demo did not end")) }
    }
}

/// Passes on what asks for an end; which signal it was.
fn interrupt(child: Pid, arrived: &[Arrived]) -> Option<Signal> {
    let mut asked = None;
    for signal in arrived {
        match signal {
            Arrived::SentToUs(signal) => {
                kill(child, *signal).ok();
                asked = Some(*signal);
            }
            Arrived::FromTerminal(signal) => asked = Some(*signal),
            Arrived::Child => {}
        }
    }
    asked
}

fn own() -> PathBuf {
    std::env::current_exe().unwrap_or_else(|_| PathBuf::from("aexctl"))
}
