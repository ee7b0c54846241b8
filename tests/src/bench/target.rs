//! Where the driver can call: the mock itself, nginx before it, and aexd before it once per durability. All stand at the same time.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::Serialize;

use super::machine::Clocks;
use super::mock::Shape;
use super::process;
use crate::daemon::{Config, Daemon};

const PATIENCE: Duration = Duration::from_secs(10);
const RPM: u32 = 1_000_000_000;
const KEY: &str = "sk-bench-provider-key";

/// What stands between the driver and the mock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    Direct,
    Nginx,
    Overlap,
    Full,
    Normal,
}

impl Kind {
    pub(super) const DURABILITIES: [Kind; 3] = [Kind::Overlap, Kind::Full, Kind::Normal];

    pub(super) fn name(self) -> &'static str {
        match self {
            Kind::Direct => "direct",
            Kind::Nginx => "nginx",
            Kind::Overlap => "aexd overlap",
            Kind::Full => "aexd full",
            Kind::Normal => "aexd normal",
        }
    }

    pub(super) fn is_aexd(self) -> bool {
        Kind::DURABILITIES.contains(&self)
    }

    pub(super) fn durability(self) -> &'static str {
        match self {
            Kind::Overlap => "overlap",
            Kind::Full => "full",
            _ => "normal",
        }
    }
}

/// One of them.
pub(super) struct Target {
    pub(super) kind: Kind,
    pub(super) address: SocketAddr,
    /// Of an agent that may spend more than a run can.
    pub(super) token: String,
    /// Of one that can't pay for a single call.
    pub(super) poor: String,
    /// Whose CPU and memory count.
    pub(super) pids: Vec<i32>,
    pub(super) daemon: Option<Daemon>,
    nginx: Option<Nginx>,
}

impl Target {
    pub(super) fn direct(mock: &Mock) -> Self {
        Self::at(Kind::Direct, mock.address, Vec::new())
    }

    /// `None` where no nginx is installed.
    pub(super) fn nginx(mock: &Mock, folder: &Path) -> Result<Option<Self>> {
        let Some(program) = find("nginx") else { return Ok(None) };
        let nginx = Nginx::start(&program, mock, folder)?;
        let mut target = Self::at(Kind::Nginx, nginx.address, nginx.pids());
        target.nginx = Some(nginx);
        Ok(Some(target))
    }

    pub(super) fn aexd(kind: Kind, mock: &Mock) -> Result<Self> {
        let daemon = Daemon::start_with(config(kind, mock));
        let token = agent(&daemon, "bench", "1000000");
        let poor = agent(&daemon, "poor", "0.000001");
        let mut target = Self::at(kind, address(&daemon)?, vec![daemon.pid()]);
        (target.token, target.poor, target.daemon) = (token, poor, Some(daemon));
        Ok(target)
    }

    fn at(kind: Kind, address: SocketAddr, pids: Vec<i32>) -> Self {
        Self { kind, address, token: String::new(), poor: String::new(), pids, daemon: None, nginx: None }
    }

    pub(super) fn cpu(&self) -> Duration {
        self.pids.iter().map(|pid| process::cpu(*pid)).sum()
    }

    pub(super) fn reset_peak(&self) {
        self.pids.iter().copied().for_each(process::reset_peak);
    }

    pub(super) fn peak_kib(&self) -> u64 {
        self.pids.iter().copied().map(process::peak_kib).sum()
    }

    /// Audits the ledger; what it says, or what is broken.
    pub(super) fn audit(&self) -> Option<Result<String, String>> {
        let daemon = self.daemon.as_ref()?;
        let began = Instant::now();
        let output = daemon.ctl(["audit", "--json"]);
        let audit: serde_json::Value = serde_json::from_str(&output.stdout).unwrap_or_default();
        let took = began.elapsed().as_secs_f64();
        let file = daemon.scratch().join("export.ndjson").display().to_string();
        let began = Instant::now();
        let exported = daemon.ctl(["export", "--out", &file]);
        let writing = began.elapsed().as_secs_f64();
        let began = Instant::now();
        let proven = daemon.ctl(["audit", "--file", &file]);
        let proving = began.elapsed().as_secs_f64();
        let a_second = |secs: f64| audit["head_seq"].as_f64().unwrap_or_default() / secs / 1e3;
        let holds = output.code == 0 && exported.code == 0 && proven.code == 0;
        let text = format!(
            "{}: audit of {} events: {}, {} charges exact, {} estimated, {} worst case ({took:.1} s, {:.0} k events a second, ledger {} MB); \
             export {writing:.1} s, its audit {proving:.1} s, {:.0} k events a second",
            self.kind.name(),
            audit["head_seq"],
            if holds { "holds" } else { "BROKEN" },
            audit["exact"],
            audit["estimated"],
            audit["worst_case"],
            a_second(took),
            ledger_bytes(&daemon.home()) >> 20,
            a_second(proving),
        );
        Some(if holds { Ok(text) } else { Err(format!("{text}\n{output:?}\n{exported:?}\n{proven:?}")) })
    }

    /// Ends it and waits, so that its CPU is counted among that of this process's children.
    pub(super) fn stop(&mut self) {
        // One that died has made its calls fail already; the report is still wanted.
        if let Some(mut daemon) = self.daemon.take()
            && process::resident_kib(daemon.pid()) > 0
        {
            daemon.stop();
        }
        self.nginx = None;
    }
}

/// A configuration with the mock as provider.
pub(super) fn config(kind: Kind, mock: &Mock) -> Config {
    let config = Config::with_base_url(&format!("http://{}/v1", mock.address), KEY);
    config.aexd_yaml(&format!("durability: {}\nlog_level: warn\n", kind.durability()))
}

/// An agent with each kind of limit set, none of which but the budget can be reached; its token.
pub(super) fn agent(daemon: &Daemon, name: &str, budget_usd: &str) -> String {
    let flags = "--per day --max-concurrent 10000 --allowed-models m1,m2 --max-input-tokens 1000000 --max-output-tokens 1000 \
                 --allowed-tool-names search,read_file --ttl 1000";
    daemon.agent_with(name, budget_usd, RPM, &flags.split_whitespace().collect::<Vec<_>>())
}

pub(super) fn address(daemon: &Daemon) -> Result<SocketAddr> {
    let url = daemon.url();
    url.strip_prefix("http://").and_then(|address| address.parse().ok()).with_context(|| format!("an address in {url}"))
}

fn ledger_bytes(home: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(home) else { return 0 };
    let entries = entries.filter_map(|entry| entry.ok()?.metadata().ok());
    entries.filter(fs::Metadata::is_file).map(|entry| entry.len()).max().unwrap_or(0)
}

/// The mock in a process of its own.
pub(super) struct Mock {
    child: Child,
    pub(super) address: SocketAddr,
}

impl Mock {
    pub(super) fn start() -> Result<Self> {
        let program = std::env::current_exe().context("find the benchmark's own program")?;
        let mut child = Command::new(program).args(["mock", "--port", "0"]).stdout(Stdio::piped()).spawn().context("start the mock")?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("the mock's output")?).read_line(&mut line)?;
        let address = line.trim().strip_prefix("listening on ").and_then(|address| address.parse().ok());
        Ok(Self { child, address: address.with_context(|| format!("the mock said {line:?}"))? })
    }

    /// Calls that it served since its start.
    pub(super) fn served(&self) -> Result<u64> {
        self.get("/_count")?.trim().parse().context("the mock's count")
    }

    pub(super) fn reshape(&self, shape: Shape) -> Result<()> {
        self.get(&format!("/_shape?{}", shape.query())).map(drop)
    }

    fn get(&self, path: &str) -> Result<String> {
        let mut stream = TcpStream::connect(self.address).context("connect to the mock")?;
        stream.set_read_timeout(Some(PATIENCE))?;
        write!(stream, "GET {path} HTTP/1.1\r\nhost: mock\r\nconnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).context("read from the mock")?;
        let (_, body) = answer.split_once("\r\n\r\n").context("the mock's answer")?;
        Ok(body.to_owned())
    }
}

impl Drop for Mock {
    fn drop(&mut self) {
        end(&mut self.child, Signal::SIGKILL);
    }
}

struct Nginx {
    child: Child,
    address: SocketAddr,
}

impl Nginx {
    fn start(program: &Path, mock: &Mock, folder: &Path) -> Result<Self> {
        let folder = folder.join("nginx");
        fs::create_dir(&folder)?;
        let address = free_address()?;
        let config = folder.join("nginx.conf");
        fs::write(&config, nginx_conf(&folder, address, mock.address))?;
        let mut command = Command::new(program);
        command.arg("-p").arg(&folder).arg("-e").arg(folder.join("error.log")).arg("-c").arg(&config);
        let nginx = Self { child: command.stdin(Stdio::null()).spawn().context("start nginx")?, address };
        let deadline = Instant::now() + PATIENCE;
        // The master listens before it has made its workers, which do all the work that is to be counted.
        while TcpStream::connect(address).is_err() || nginx.pids().len() == 1 {
            ensure!(Instant::now() < deadline, "nginx did not listen within {PATIENCE:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(nginx)
    }

    fn pids(&self) -> Vec<i32> {
        let master = i32::try_from(self.child.id()).unwrap_or_default();
        std::iter::once(master).chain(process::children(master)).collect()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        end(&mut self.child, Signal::SIGTERM);
    }
}

/// A bare reverse proxy: kept connections, no log, no buffering.
fn nginx_conf(folder: &Path, address: SocketAddr, mock: SocketAddr) -> String {
    let folder = folder.display();
    format!(
        "daemon off; worker_processes auto; pid {folder}/pid; error_log {folder}/error.log warn; worker_rlimit_nofile 16384;
events {{ worker_connections 8192; }}
http {{
  access_log off; keepalive_requests 100000000; keepalive_timeout 300s; tcp_nodelay on;
  client_body_buffer_size 256k; client_max_body_size 32m;
  client_body_temp_path {folder}/a; proxy_temp_path {folder}/b; fastcgi_temp_path {folder}/c; uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e;
  upstream mock {{ server {mock}; keepalive 1024; keepalive_requests 100000000; }}
  server {{ listen {address} backlog=4096;
    location / {{ proxy_pass http://mock; proxy_http_version 1.1; proxy_set_header Connection \"\"; proxy_buffering off; }} }}
}}
"
    )
}

/// nginx can't say which free port it took.
fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))?.local_addr()?)
}

fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    folders.map(|folder| folder.join(program)).find(|path| path.is_file())
}

fn end(child: &mut Child, signal: Signal) {
    if let Ok(pid) = i32::try_from(child.id()) {
        // It may have ended by itself; the wait tells.
        kill(Pid::from_raw(pid), signal).ok();
    }
    child.wait().ok();
}

/// All targets, and the mock behind them.
pub(super) struct Stage {
    // Ended before the mock and before the folder goes.
    pub(super) targets: Vec<Target>,
    pub(super) mock: Mock,
    folder: tempfile::TempDir,
    began: Clocks,
}

impl Stage {
    pub(super) fn set(kinds: &[Kind]) -> Result<Self> {
        let began = Clocks::read()?;
        let folder = tempfile::tempdir().context("a temporary folder")?;
        let mock = Mock::start()?;
        let mut targets = vec![Target::direct(&mock)];
        if kinds.contains(&Kind::Nginx) {
            targets.extend(Target::nginx(&mock, folder.path())?);
        }
        for kind in kinds.iter().filter(|kind| kind.is_aexd()) {
            targets.push(Target::aexd(*kind, &mock)?);
        }
        if targets.len() < 2 {
            bail!("there is nothing to compare");
        }
        Ok(Self { targets, mock, folder, began })
    }

    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(super) fn has(&self, kind: Kind) -> bool {
        self.targets.iter().any(|target| target.kind == kind)
    }

    /// Ends all of it; the shares of the CPU that others and the hypervisor had since the begin.
    pub(super) fn strike(self, cores: usize) -> Result<(f64, f64)> {
        let Self { mut targets, mock, folder, began } = self;
        targets.iter_mut().for_each(Target::stop);
        drop(mock);
        folder.close()?;
        Ok(Clocks::read()?.others_since(&began, cores))
    }
}
