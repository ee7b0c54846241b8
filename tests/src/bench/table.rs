//! The report, in Markdown. A ratio and an addition are taken within a round; each figure is the median over the rounds.

use std::io::{Result, Write};

use super::plan::Group;
use super::run::{Findings, Row};
use super::sample::median;
use super::target::Kind;
use super::tools::{ToolRow, Way};

type Cell = (&'static str, fn(&Line<'_>) -> String);

/// All rounds of one scenario on one target, and the whole for comparison.
struct Line<'a> {
    rows: Vec<&'a Row>,
    all: &'a [Row],
}

const RATE: [Cell; 3] =
    [("a second", |line| line.show(0, rate)), ("of direct", |line| line.ratio(Kind::Direct)), ("of nginx", |line| line.ratio(Kind::Nginx))];

const LATENCY: [Cell; 4] = [
    ("p50 µs", |line| line.show(0, |row| row.report.latency_us.p50.into())),
    ("p99 µs", |line| line.show(0, |row| row.report.latency_us.p99.into())),
    ("added p50 µs", |line| line.added(|row| row.report.latency_us.p50.into())),
    ("added p99 µs", |line| line.added(|row| row.report.latency_us.p99.into())),
];

const FIRST: [Cell; 2] = [
    ("first byte p50 µs", |line| line.show(0, |row| row.report.first_us.p50.into())),
    ("added µs", |line| line.added(|row| row.report.first_us.p50.into())),
];

const OPEN: [Cell; 3] = [
    ("chunk delay p50 ms", |line| line.show(1, |row| f64::from(row.report.delay_us.p50) / 1e3)),
    ("p99 ms", |line| line.show(1, |row| f64::from(row.report.delay_us.p99) / 1e3)),
    ("all done after s", |line| line.show(2, |row| row.report.secs)),
];

const CPU: Cell = ("CPU µs a call", |line| line.own(1, |row| row.cpu_us / count(row.report.counts.sent)));
const CHUNK: Cell = ("CPU µs a chunk", |line| line.own(2, |row| row.cpu_us / count(row.report.counts.chunks)));

const REST: [Cell; 4] = [
    ("peak MB", |line| line.own(1, |row| count(row.peak_kib) / 1024.0)),
    ("calls", |line| line.sum(|row| row.report.counts.sent)),
    ("failed", |line| line.sum(|row| row.report.counts.failed())),
    ("served by the mock", |line| line.served()),
];

fn cells(group: Group) -> Vec<Cell> {
    let mut cells = Vec::new();
    match group {
        Group::Plain | Group::Prompt | Group::Denial => cells.extend([&RATE[..], &LATENCY, &[CPU]].concat()),
        Group::Stream => cells.extend([&RATE[..], &LATENCY, &FIRST, &[CPU, CHUNK]].concat()),
        Group::Latency => cells.extend([&LATENCY[..], &FIRST, &[CPU]].concat()),
        Group::Open => cells.extend([&OPEN[..], &[CHUNK]].concat()),
        Group::Start | Group::Tools => {}
    }
    cells.extend(REST);
    cells
}

impl Line<'_> {
    fn show(&self, digits: usize, value: fn(&Row) -> f64) -> String {
        number(median(self.rows.iter().map(|row| value(row))), digits)
    }

    /// For what only a process in between has.
    fn own(&self, digits: usize, value: fn(&Row) -> f64) -> String {
        if self.kind() == Some(Kind::Direct) { "–".to_owned() } else { self.show(digits, value) }
    }

    fn kind(&self) -> Option<Kind> {
        self.rows.first().map(|row| row.target)
    }

    fn pairs(&self, base: Kind, value: impl Fn(&Row, &Row) -> f64) -> Vec<f64> {
        let same = |row: &Row, other: &Row| other.target == base && other.round == row.round && other.scenario == row.scenario;
        let pair = |row: &&Row| self.all.iter().find(|other| other.group == row.group && same(row, other)).map(|other| value(row, other));
        self.rows.iter().filter_map(pair).collect()
    }

    /// With the lowest and the highest of the rounds, which tell how far a noisy machine can be trusted.
    fn ratio(&self, base: Kind) -> String {
        let ratios = self.pairs(base, |row, other| rate(row) / rate(other));
        let (low, high) = ratios.iter().fold((f64::INFINITY, 0.0), |(low, high), ratio| (ratio.min(low), ratio.max(high)));
        let middle = number(median(ratios), 2);
        if high - low < 0.005 { middle } else { format!("{middle} ({low:.2}–{high:.2})") }
    }

    fn added(&self, value: fn(&Row) -> f64) -> String {
        if self.kind() == Some(Kind::Direct) {
            return "–".to_owned();
        }
        number(median(self.pairs(Kind::Direct, |row, other| value(row) - value(other))), 0)
    }

    fn sum(&self, value: fn(&Row) -> u64) -> String {
        self.rows.iter().map(|row| value(row)).sum::<u64>().to_string()
    }

    fn served(&self) -> String {
        let off: Vec<String> =
            self.rows.iter().filter(|row| row.served != row.due).map(|row| format!("{} of {}", row.served, row.due)).collect();
        if off.is_empty() { "all due".to_owned() } else { off.join(", ") }
    }
}

fn rate(row: &Row) -> f64 {
    count(row.report.counts.counted) / row.report.secs
}

fn count(number: u64) -> f64 {
    u32::try_from(number).map_or(f64::INFINITY, f64::from)
}

fn number(value: Option<f64>, digits: usize) -> String {
    value.filter(|value| value.is_finite()).map_or_else(|| "–".to_owned(), |value| format!("{value:.digits$}"))
}

/// Prints all groups and what they depend on.
pub(super) fn print(findings: &Findings, groups: &[Group], rounds: usize, out: &mut impl Write) -> Result<()> {
    writeln!(out, "# Benchmark of aexd\n\nMedians over {rounds} rounds; all governance on, ledger on disk.")?;
    if !findings.nginx {
        writeln!(out, "nginx is not installed: no ratio to it.")?;
    }
    for group in groups {
        writeln!(out, "\n## {}\n", group.title())?;
        match group {
            Group::Start => start(findings, out)?,
            Group::Tools => tools(&findings.tools, out)?,
            _ => table(&findings.rows, *group, out)?,
        }
    }
    machine(findings, out)
}

fn table(all: &[Row], group: Group, out: &mut impl Write) -> Result<()> {
    let cells = cells(group);
    let heads: Vec<&str> = cells.iter().map(|(head, _)| *head).collect();
    writeln!(out, "| load | target | {} |\n|---|---|{}", heads.join(" | "), "---:|".repeat(heads.len()))?;
    for (scenario, kind) in keys(all, group) {
        let is_of = |row: &&Row| row.group == group && row.scenario == scenario && row.target == kind;
        let line = Line { rows: all.iter().filter(is_of).collect(), all };
        let shown: Vec<String> = cells.iter().map(|(_, cell)| cell(&line)).collect();
        writeln!(out, "| {scenario} | {} | {} |", kind.name(), shown.join(" | "))?;
    }
    Ok(())
}

/// The lines of a table, in the order of the scenarios and of the targets.
fn keys(all: &[Row], group: Group) -> Vec<(&str, Kind)> {
    let mut scenarios: Vec<&str> = Vec::new();
    for row in all.iter().filter(|row| row.group == group) {
        if !scenarios.contains(&row.scenario.as_str()) {
            scenarios.push(&row.scenario);
        }
    }
    let mut keys = Vec::new();
    for scenario in scenarios {
        let mut kinds: Vec<Kind> = all.iter().filter(|row| row.group == group && row.scenario == scenario).map(|row| row.target).collect();
        kinds.sort_unstable();
        kinds.dedup();
        keys.extend(kinds.into_iter().map(|kind| (scenario, kind)));
    }
    keys
}

fn start(findings: &Findings, out: &mut impl Write) -> Result<()> {
    let Some(start) = findings.start else { return Ok(()) };
    writeln!(out, "| exec → first 200 ms | of that, to ready ms | idle MB | idle CPU µs a second |\n|---:|---:|---:|---:|")?;
    let idle = count(start.idle_kib) / 1024.0;
    writeln!(out, "| {:.1} | {:.1} | {idle:.1} | {:.0} |", start.first_answer_ms, start.ready_ms, start.idle_cpu_us)
}

fn tools(all: &[ToolRow], out: &mut impl Write) -> Result<()> {
    writeln!(out, "| way | p50 µs | p99 µs | added p50 µs | CPU µs of aexd | calls |\n|---|---:|---:|---:|---:|---:|")?;
    for way in Way::ALL {
        let rows: Vec<&ToolRow> = all.iter().filter(|row| row.way == way).collect();
        let middle = |value: fn(&ToolRow) -> f64, digits| number(median(rows.iter().map(|row| value(row))), digits);
        let bare = |row: &ToolRow| all.iter().find(|other| other.way == Way::Pipes && other.round == row.round);
        let pairs = rows.iter().filter_map(|row| Some(f64::from(row.latency_us.p50) - f64::from(bare(row)?.latency_us.p50)));
        let (p50, p99) = (middle(|row| row.latency_us.p50.into(), 0), middle(|row| row.latency_us.p99.into(), 0));
        let (added, cpu) = (number(median(pairs).filter(|_| way != Way::Pipes), 0), middle(|row| row.cpu_us, 1));
        let (cpu, calls) = (if way == Way::Pipes { "–" } else { cpu.as_str() }, rows.iter().map(|row| row.latency_us.count).sum::<usize>());
        writeln!(out, "| {} | {p50} | {p99} | {added} | {cpu} | {calls} |", way.name())?;
    }
    Ok(())
}

fn machine(findings: &Findings, out: &mut impl Write) -> Result<()> {
    let machine = &findings.machine;
    writeln!(out, "\n## Machine\n")?;
    writeln!(out, "- {} cores, {}, kernel {}", machine.cores, machine.processor, machine.kernel)?;
    let flushes: Vec<String> = findings.flush_ms.iter().map(|flush| format!("{flush:.2}")).collect();
    writeln!(
        out,
        "- ledgers on {}; a flush of 4 KiB, before the first round and after each: {} ms",
        machine.filesystem,
        flushes.join(", ")
    )?;
    writeln!(out, "- CPU used by others: {:.1} %; taken by the hypervisor: {:.1} %", findings.others * 100.0, findings.stolen * 100.0)?;
    for audit in &findings.audits {
        let (Ok(text) | Err(text)) = audit;
        writeln!(out, "- {text}")?;
    }
    Ok(())
}
