//! How soon a daemon answers, and what it takes while it does nothing.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde::Serialize;

use super::driver::{Load, drive};
use super::process::{cpu, resident_kib};
use super::sample::median;
use super::target::{Kind, Mock, address, agent, config};
use crate::daemon::Daemon;

const STARTS: usize = 7;
const REST: Duration = Duration::from_secs(1);

/// What was found.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Start {
    /// From fork and exec to the first governed call's answer.
    pub(super) first_answer_ms: f64,
    /// Of that, until the daemon said that it is ready.
    pub(super) ready_ms: f64,
    /// A second after that call.
    pub(super) idle_kib: u64,
    /// CPU of that second.
    pub(super) idle_cpu_us: f64,
}

pub(super) fn measure(mock: &Mock) -> Result<Start> {
    let mut daemon = Daemon::start_with(config(Kind::Overlap, mock));
    let token = agent(&daemon, "starter", "1000");
    let (mut ready, mut first) = (Vec::new(), Vec::new());
    for _ in 0..STARTS {
        daemon.stop();
        let began = Instant::now();
        daemon.run();
        ready.push(began.elapsed().as_secs_f64() * 1e3);
        call(&daemon, &token)?;
        first.push(began.elapsed().as_secs_f64() * 1e3);
    }
    let used = cpu(daemon.pid());
    std::thread::sleep(REST);
    let idle_cpu_us = (cpu(daemon.pid()).saturating_sub(used)).as_secs_f64() * 1e6;
    let idle_kib = resident_kib(daemon.pid());
    daemon.stop();
    let middle = |spans| median(spans).unwrap_or_default();
    Ok(Start { first_answer_ms: middle(first), ready_ms: middle(ready), idle_kib, idle_cpu_us })
}

fn call(daemon: &Daemon, token: &str) -> Result<()> {
    let load = Load {
        address: address(daemon)?,
        token: token.to_owned(),
        connections: 1,
        secs: 0.0,
        warm_secs: 0.0,
        once: true,
        stream: false,
        chunks: 0,
        body_bytes: 1000,
        expect: 200,
    };
    let report = drive(load)?;
    ensure!(report.counts.failed() == 0, "the first call failed: {:?}", report.fault);
    Ok(())
}
