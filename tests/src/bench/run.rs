//! The rounds: each scenario on all its targets before the next, the order of the targets turned each round.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};
use serde::Serialize;

use super::machine::{Machine, flush_ms, raise_files};
use super::plan::{Caller, Group, Scenario, scenarios};
use super::sample::Report;
use super::start::{self, Start};
use super::table;
use super::target::{Kind, Stage, Target};
use super::tools::{ToolRow, Tools};

/// For what a daemon still does when its last client has its answer.
const SETTLE: Duration = Duration::from_millis(60);

/// What to run.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Seconds of each measurement
    #[arg(long, default_value_t = 2.0)]
    pub secs: f64,
    /// Rounds; a figure is the median over them
    #[arg(long, default_value_t = 3)]
    pub rounds: usize,
    /// Only these groups
    #[arg(long, value_enum, value_delimiter = ',')]
    pub only: Vec<Group>,
    /// Only these durabilities of aexd (overlap, full, normal)
    #[arg(long, value_delimiter = ',', default_value = "overlap,full,normal")]
    pub durability: Vec<String>,
    /// Streams of the group `open`
    #[arg(long, default_value_t = 500)]
    pub streams: usize,
    /// Write every single measurement to this file
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// One scenario on one target in one round.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Row {
    pub(super) group: Group,
    pub(super) scenario: String,
    pub(super) target: Kind,
    pub(super) round: usize,
    pub(super) report: Report,
    /// Of the target, over all calls that were sent.
    pub(super) cpu_us: f64,
    pub(super) peak_kib: u64,
    /// Calls that the mock served meanwhile.
    pub(super) served: u64,
    /// What the mock ought to have served.
    pub(super) due: u64,
}

impl Row {
    pub(super) fn is_sound(&self) -> bool {
        self.report.counts.failed() == 0 && self.served == self.due && self.report.counts.counted > 0
    }
}

/// All that was found.
#[derive(Serialize)]
pub(super) struct Findings {
    pub(super) machine: Machine,
    /// Before the first round and after each.
    pub(super) flush_ms: Vec<f64>,
    pub(super) nginx: bool,
    pub(super) rows: Vec<Row>,
    pub(super) start: Option<Start>,
    pub(super) tools: Vec<ToolRow>,
    pub(super) audits: Vec<Result<String, String>>,
    pub(super) others: f64,
    pub(super) stolen: f64,
}

/// Measures, prints, and says whether all calls did what they ought to.
///
/// # Errors
/// When a part could not be started or read.
pub fn run(options: &Options) -> Result<bool> {
    raise_files().context("raise the limit of open files")?;
    let groups = if options.only.is_empty() { Group::value_variants().to_vec() } else { options.only.clone() };
    let stage = Stage::set(&kinds(&options.durability)?)?;
    let machine = Machine::look(stage.folder()).context("look at the machine")?;
    let start = groups.contains(&Group::Start).then(|| start::measure(&stage.mock)).transpose()?;
    let mut tools = groups.contains(&Group::Tools).then(Tools::start).transpose()?;
    let mut tool_rows = Vec::new();
    let mut rows = Vec::new();
    let mut flushes = vec![flush_ms(stage.folder())?];
    let scenarios = scenarios(&groups, options.streams);
    for round in 0..options.rounds {
        for scenario in &scenarios {
            rows.extend(compare(&stage, scenario, options, round)?);
        }
        if let Some(tools) = &mut tools {
            tool_rows.extend(tools.round(round, Duration::from_secs_f64(options.secs))?);
        }
        flushes.push(flush_ms(stage.folder())?);
    }
    drop(tools);
    let audits = stage.targets.iter().filter_map(Target::audit).collect();
    let nginx = stage.has(Kind::Nginx);
    let (others, stolen) = stage.strike(machine.cores)?;
    let findings = Findings { machine, flush_ms: flushes, nginx, rows, start, tools: tool_rows, audits, others, stolen };
    if let Some(path) = &options.json {
        std::fs::write(path, serde_json::to_vec_pretty(&findings)?).with_context(|| format!("write {}", path.display()))?;
    }
    table::print(&findings, &groups, options.rounds, &mut std::io::stdout())?;
    Ok(findings.rows.iter().all(Row::is_sound) && findings.audits.iter().all(Result::is_ok))
}

fn kinds(durabilities: &[String]) -> Result<Vec<Kind>> {
    let mut kinds = vec![Kind::Nginx];
    for name in durabilities {
        let kind = Kind::DURABILITIES.into_iter().find(|kind| kind.durability() == name);
        kinds.push(kind.with_context(|| format!("{name}: expected overlap, full or normal"))?);
    }
    Ok(kinds)
}

fn compare(stage: &Stage, scenario: &Scenario, options: &Options, round: usize) -> Result<Vec<Row>> {
    stage.mock.reshape(scenario.shape)?;
    let mut targets: Vec<&Target> = stage.targets.iter().filter(|target| scenario.kinds.contains(&target.kind)).collect();
    let turned = round % targets.len().max(1);
    targets.rotate_left(turned);
    targets.into_iter().map(|target| measure(stage, scenario, target, options, round)).collect()
}

fn measure(stage: &Stage, scenario: &Scenario, target: &Target, options: &Options, round: usize) -> Result<Row> {
    eprintln!("round {} {:?} {} {}", round + 1, scenario.group, scenario.name, target.kind.name());
    target.reset_peak();
    let (served, cpu) = (stage.mock.served()?, target.cpu());
    let report = drive(scenario, target, options)?;
    std::thread::sleep(SETTLE);
    let cpu = target.cpu().saturating_sub(cpu);
    let served = stage.mock.served()? - served;
    let due = if scenario.caller == Caller::Poor { 0 } else { report.counts.right };
    let row = Row {
        group: scenario.group,
        scenario: scenario.name.clone(),
        target: target.kind,
        round,
        report,
        cpu_us: cpu.as_secs_f64() * 1e6,
        peak_kib: target.peak_kib(),
        served,
        due,
    };
    if !row.is_sound() {
        eprintln!("  not as it ought to be: {row:?}");
    }
    Ok(row)
}

/// The driver in a process of its own.
fn drive(scenario: &Scenario, target: &Target, options: &Options) -> Result<Report> {
    let program = std::env::current_exe().context("find the benchmark's own program")?;
    let mut command = Command::new(program);
    let (token, expect) = match scenario.caller {
        Caller::Rich => (&target.token, 200),
        Caller::Poor => (&target.poor, 402),
    };
    command.arg("driver").arg(format!("--address={}", target.address)).arg(format!("--token={token}"));
    command.arg(format!("--connections={}", scenario.connections)).arg(format!("--secs={}", options.secs));
    command.arg(format!("--chunks={}", scenario.shape.chunks)).arg(format!("--body-bytes={}", scenario.body_bytes));
    command.arg(format!("--expect={expect}"));
    command.args(scenario.stream.then_some("--stream")).args(scenario.once.then_some("--once"));
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output().context("run the driver")?;
    ensure!(output.status.success(), "the driver ended with {}", output.status);
    serde_json::from_slice(&output.stdout).context("read what the driver said")
}
