//! The supervisor of tools under test: in this process, over a temporary home, with servers that do as they are told.

use crate::daemon::{PATIENCE, binary};
use aex_proto::value::AccountId;
use aexd::tools::fault::ToolFault;
use aexd::tools::sandbox::Level;
use aexd::tools::server::{Bounds, Confinement, EnvPart, EnvValue, MayAsk, Resources, Server, Shared, Start, Times, Trust};
use aexd::tools::supervisor::{Answer, Call, Caller, InstanceStatus, Options, Pace, Resolved, State, Tools};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::process::{PidfdFlags, pidfd_open};
use serde_json::Value;
use std::collections::BTreeMap;
use std::future::Future;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

/// The agent that calls.
pub const AGENT: Caller = Caller { agent: AccountId::new(7), run: None };

/// A supervisor and its home.
pub struct Shop {
    /// The supervisor.
    pub tools: Tools,
    /// What it was given.
    pub options: Options,
    _home: TempDir,
}

impl Shop {
    /// With these servers, and a pace at which a test does not wait.
    pub fn open(servers: Vec<Server>) -> Shop {
        Shop::paced(servers, PACE)
    }

    /// At another pace.
    pub fn paced(servers: Vec<Server>, pace: Pace) -> Shop {
        let home = TempDir::new().expect("a temporary home");
        let options = options(home.path().to_owned(), pace);
        let tools = Tools::new(options.clone(), servers).expect("the supervisor starts");
        Shop { tools, options, _home: home }
    }

    /// Calls a tool, within the test's patience.
    pub async fn call(&self, server: &str, tool: &str, arguments: Value) -> Result<String, ToolFault> {
        said(within("a call", self.make(call(server, tool, arguments))).await)
    }

    /// Makes a call as it is written.
    pub async fn make(&self, asked: Asked) -> Result<Answer, ToolFault> {
        make(&self.tools, asked).await
    }

    /// How the first instance of a server is.
    pub fn instance(&self, server: &str) -> Option<InstanceStatus> {
        let status = self.tools.status().into_iter().find(|status| status.server == server);
        status.and_then(|status| status.instances.into_iter().next())
    }

    /// Waits until the first instance of a server is as it should be.
    pub async fn until(&self, server: &str, what: &str, is_it: impl Fn(&InstanceStatus) -> bool) -> InstanceStatus {
        let wait = async {
            loop {
                match self.instance(server) {
                    Some(instance) if is_it(&instance) => return instance,
                    // Counters and phases are told to nobody: looked at again, as long as the test's patience lasts.
                    _ => tokio::time::sleep(Duration::from_millis(2)).await,
                }
            }
        };
        match tokio::time::timeout(PATIENCE, wait).await {
            Ok(instance) => instance,
            Err(_) => panic!("waiting for {what}; now {:#?}", self.instance(server)),
        }
    }

    /// Waits until the first instance of a server is in a state.
    pub async fn state(&self, server: &str, state: State) -> InstanceStatus {
        self.until(server, state.name(), |instance| instance.state == state).await
    }

    /// Its process.
    pub fn pid(&self, server: &str) -> u32 {
        self.instance(server).and_then(|instance| instance.pid).expect("a process")
    }
}

/// A pace at which a test does not wait; what should not happen in a test stays far away.
pub const PACE: Pace = Pace {
    first_rest: Duration::from_millis(20),
    longest_rest: Duration::from_millis(100),
    settle: Duration::from_millis(20),
    relist: Duration::from_millis(20),
    probe: Duration::from_millis(500),
    ..Pace::DEFAULT
};

/// What a supervisor over this home is given. References to secrets in `env` are taken as the secrets themselves.
pub fn options(home: PathBuf, pace: Pace) -> Options {
    Options {
        logs: home.join("logs"),
        home,
        aexd: binary("aexd"),
        env: vec![("PATH".to_owned(), std::env::var("PATH").unwrap_or_default())],
        groups: None,
        deny: Vec::new(),
        user_home: None,
        resolve: Arc::new(resolve),
        pace,
    }
}

fn resolve(server: &Server) -> Result<Resolved, String> {
    let mut resolved = Resolved::default();
    for (name, value) in &server.env {
        let mut whole = String::new();
        for part in &value.0 {
            match part {
                EnvPart::Text(text) => whole.push_str(text),
                EnvPart::Env(secret) => {
                    whole.push_str(secret);
                    resolved.secrets.extend(aexd::os::secret::Secret::new(secret.clone()));
                }
                EnvPart::File(path) => return Err(format!("`{}` is not there", path.display())),
                EnvPart::Credential(name) => return Err(format!("the credential `{name}` is not there")),
            }
        }
        resolved.env.push((name.clone(), whole));
    }
    Ok(resolved)
}

/// A server that is a program of this workspace.
pub fn server(name: &str, program: &str, args: &[&str]) -> Server {
    Server {
        name: name.to_owned(),
        command: binary(program).to_string_lossy().into_owned(),
        args: args.iter().map(|arg| (*arg).to_owned()).collect(),
        env: BTreeMap::new(),
        cwd: None,
        enabled: true,
        start: Start::OnDemand,
        shared: Shared::ByAll,
        confinement: Confinement {
            level: Level::None,
            require: None,
            read: Vec::new(),
            write: Vec::new(),
            hosts: Vec::new(),
            resources: Resources::DEFAULT,
        },
        times: Times { shutdown: Duration::from_millis(300), ..Times::DEFAULT },
        bounds: Bounds::DEFAULT,
        price: None,
        tool_prices: BTreeMap::new(),
        trust: Trust::FirstUse,
        may_ask: MayAsk::default(),
        log_full: false,
    }
}

/// A value of a variable.
pub fn text(value: &str) -> EnvValue {
    EnvValue(vec![EnvPart::Text(value.to_owned())])
}

/// A secret value of a variable.
pub fn secret(value: &str) -> EnvValue {
    EnvValue(vec![EnvPart::Env(value.to_owned())])
}

/// A call, and where it goes.
#[derive(Debug)]
pub struct Asked {
    /// The server.
    pub server: String,
    /// Who calls.
    pub caller: Caller,
    /// The call.
    pub call: Call,
}

/// A call by the agent.
pub fn call(server: &str, tool: &str, arguments: Value) -> Asked {
    let arguments = match arguments {
        Value::Object(arguments) => Some(arguments),
        _ => None,
    };
    let call = Call { tool: tool.to_owned(), arguments, progress: None, asks: None, input: None };
    Asked { server: server.to_owned(), caller: AGENT, call }
}

/// Makes a call, as the gatekeeper does once it may be made.
///
/// # Errors
/// Why there is no answer.
pub async fn make(tools: &Tools, asked: Asked) -> Result<Answer, ToolFault> {
    tools.enter(&asked.server, &asked.caller).await?.call(asked.call).await
}

/// The text of an answer.
pub fn said(answer: Result<Answer, ToolFault>) -> Result<String, ToolFault> {
    answer.map(|answer| match answer {
        Answer::Complete(result) => {
            let texts = result.content.iter().filter_map(|block| block.as_text().map(|text| text.text.as_str()));
            texts.collect::<Vec<_>>().join("\n")
        }
        Answer::InputRequired(_) => "input required".to_owned(),
    })
}

/// The outcome of what must not take longer than the test's patience.
pub async fn within<T>(what: &str, wait: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, wait).await {
        Ok(outcome) => outcome,
        Err(_) => panic!("{what} does not end"),
    }
}

/// Whether a process lives; a zombie does not.
pub fn lives(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, fields)| !fields.starts_with(['Z', 'X']))
}

/// A scripted server; its flags say how it begins.
pub fn scripted(name: &str, flags: &[&str]) -> Server {
    server(name, "scripted-tool", flags)
}

/// A pipe with a name: who opens one end waits for the other.
pub struct Gate {
    path: PathBuf,
    _folder: TempDir,
}

impl Gate {
    /// A new one.
    #[allow(clippy::new_without_default, reason = "it makes a file")]
    pub fn new() -> Gate {
        let folder = TempDir::new().expect("a temporary folder");
        let path = folder.path().join("gate");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).expect("a pipe with a name");
        Gate { path, _folder: folder }
    }

    /// Where it lies.
    pub fn path(&self) -> String {
        self.path.to_string_lossy().into_owned()
    }

    /// Waits until the other side has opened it, and reads what it says.
    pub async fn passed(&self) -> String {
        let path = self.path.clone();
        let read = tokio::task::spawn_blocking(move || std::fs::read_to_string(path));
        within("the other side", read).await.expect("no panic").expect("the pipe can be read")
    }

    /// Lets the other side, which reads, go on.
    pub async fn open(&self) {
        let path = self.path.clone();
        let written = tokio::task::spawn_blocking(move || std::fs::write(path, "go\n"));
        within("the other side", written).await.expect("no panic").expect("the pipe can be written");
    }
}

/// Waits until none of these processes lives.
pub async fn dead(pids: &[u32]) {
    let pids = pids.to_vec();
    tokio::task::spawn_blocking(move || wait_dead(&pids)).await.expect("they end");
}

/// The same where nothing else has to go on meanwhile.
pub fn wait_dead(pids: &[u32]) {
    let patience = PollTimeout::try_from(PATIENCE).unwrap_or(PollTimeout::MAX);
    for pid in pids.iter().copied().filter(|pid| lives(*pid)) {
        let process = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw).expect("a process number");
        // One that ended meanwhile has no descriptor to wait for.
        let Ok(descriptor) = pidfd_open(process, PidfdFlags::empty()) else { continue };
        let ended = poll(&mut [PollFd::new(descriptor.as_fd(), PollFlags::POLLIN)], patience);
        assert_eq!(ended, Ok(1), "{pid} of {pids:?} lives on");
    }
}
