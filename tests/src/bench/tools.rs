//! A call of a tool without a price: over bare pipes, and through aexd, over plain HTTP and over `/mcp`.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use serde_json::json;

use super::exchange::Connection;
use super::process::cpu;
use super::sample::Quantiles;
use super::target::address;
use crate::daemon::{Config, Daemon, binary};
use crate::mcp::{Mcp, REVISIONS, registry};

const RPM: u32 = 1_000_000_000;
const ALLOWED: &str = r#"{"version": "1.0", "global_policy": "deny", "rules": {"calculate_sum": "allow"}}"#;
/// What the sum of two and three is told as.
const SUM: &str = "The sum is 5";

/// A way to the tool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) enum Way {
    Pipes,
    Rest,
    /// Of this revision.
    Mcp(&'static str),
}

impl Way {
    pub(super) const ALL: [Way; 4] = [Way::Pipes, Way::Rest, Way::Mcp(REVISIONS[3]), Way::Mcp(REVISIONS[4])];

    pub(super) fn name(self) -> String {
        match self {
            Way::Pipes => "bare pipes".to_owned(),
            Way::Rest => "aexd, plain HTTP".to_owned(),
            Way::Mcp(revision) => format!("aexd, /mcp {revision}"),
        }
    }
}

/// One way in one round.
#[derive(Clone, Debug, Serialize)]
pub(super) struct ToolRow {
    pub(super) way: Way,
    pub(super) round: usize,
    pub(super) latency_us: Quantiles,
    /// Of aexd, a call.
    pub(super) cpu_us: f64,
}

/// A daemon with the tool, and the tool by itself.
pub(super) struct Tools {
    daemon: Daemon,
    address: SocketAddr,
    token: String,
    bare: Bare,
}

impl Tools {
    pub(super) fn start() -> Result<Tools> {
        let config = Config::with_base_url("http://127.0.0.1:9/v1", "sk-nobody").aexd_yaml("log_level: warn\n");
        let daemon = Daemon::start_with(config.permissions_json(ALLOWED).mcp_json(&registry(&[("mock", "mock_tool", &[])])));
        let token = daemon.agent_with("bench", "1000000", RPM, &["--max-concurrent", "10000"]);
        let address = address(&daemon)?;
        let mut tools = Tools { daemon, address, token, bare: Bare::start()? };
        // How a conversation with the tool begins is found out once; that is no call's time.
        tools.measure(Way::Rest, 0, Duration::ZERO)?;
        Ok(tools)
    }

    /// All ways, the order turned each round.
    pub(super) fn round(&mut self, round: usize, span: Duration) -> Result<Vec<ToolRow>> {
        let mut ways = Way::ALL;
        ways.rotate_left(round % Way::ALL.len());
        ways.into_iter().map(|way| self.measure(way, round, span)).collect()
    }

    fn measure(&mut self, way: Way, round: usize, span: Duration) -> Result<ToolRow> {
        eprintln!("round {} tools {}", round + 1, way.name());
        let before = cpu(self.daemon.pid());
        let mut times = match way {
            Way::Pipes => repeat(span, || self.bare.call())?,
            Way::Rest | Way::Mcp(_) => {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                let (request, mut answer) = (self.request(way), Vec::new());
                let mut connection = runtime.block_on(Connection::open(self.address))?;
                repeat(span, || {
                    answer.clear();
                    let status = runtime.block_on(connection.call(&request, |piece| answer.extend_from_slice(piece)))?;
                    let text = String::from_utf8_lossy(&answer);
                    ensure!(status == 200 && text.contains(SUM), "{status}: {text}");
                    Ok(())
                })?
            }
        };
        let cpu = (cpu(self.daemon.pid()).saturating_sub(before)).as_secs_f64() * 1e6;
        let calls = f64::from(u32::try_from(times.len()).unwrap_or(u32::MAX));
        Ok(ToolRow { way, round, latency_us: Quantiles::of(&mut times), cpu_us: cpu / calls })
    }

    fn request(&self, way: Way) -> Vec<u8> {
        let arguments = json!({"a": 2, "b": 3});
        let (path, headers, body) = match way {
            Way::Mcp(revision) => {
                let client = Mcp::new(&self.daemon, &self.token, revision);
                let message = client.message(1, "tools/call", json!({"name": "mock__calculate_sum", "arguments": arguments}));
                ("/mcp", client.headers(&message), message.to_string())
            }
            Way::Pipes | Way::Rest => {
                let headers = [("content-type", "application/json".to_owned()), ("authorization", format!("Bearer {}", self.token))];
                let headers = headers.map(|(name, value)| (name.to_owned(), value)).to_vec();
                ("/aex/v1/tools/execute", headers, json!({"tool": "mock.calculate_sum", "arguments": arguments}).to_string())
            }
        };
        let mut request = format!("POST {path} HTTP/1.1\r\nhost: {}\r\ncontent-length: {}\r\n", self.address, body.len());
        for (name, value) in headers {
            // A text takes whatever is written to it.
            write!(request, "{name}: {value}\r\n").ok();
        }
        [request.as_bytes(), b"\r\n", body.as_bytes()].concat()
    }
}

/// Calls for a while, the first tenth of which does not count; microseconds of each call.
fn repeat(span: Duration, mut call: impl FnMut() -> Result<()>) -> Result<Vec<u32>> {
    let (mut times, began) = (Vec::new(), Instant::now());
    loop {
        let at = Instant::now();
        call()?;
        times.push(u32::try_from(at.elapsed().as_micros()).unwrap_or(u32::MAX));
        if began.elapsed() >= span {
            break;
        }
    }
    times.drain(..times.len() / 10);
    Ok(times)
}

/// The tool without anybody between.
struct Bare {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    line: String,
}

impl Bare {
    fn start() -> Result<Bare> {
        let mut child =
            Command::new(binary("mock_tool")).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("start mock_tool")?;
        let output = BufReader::new(child.stdout.take().context("its output")?);
        Ok(Bare { input: child.stdin.take(), child, output, line: String::new() })
    }

    fn call(&mut self) -> Result<()> {
        let params = json!({"name": "calculate_sum", "arguments": {"a": 2, "b": 3}});
        let request = format!("{}\n", json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}));
        self.input.as_mut().context("its input")?.write_all(request.as_bytes())?;
        self.line.clear();
        self.output.read_line(&mut self.line)?;
        ensure!(self.line.contains(SUM), "mock_tool said {}", self.line);
        Ok(())
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        self.input = None;
        // It ends with its input.
        self.child.wait().ok();
    }
}
