//! The scripted provider as a process, for tests in Python, kill tests and the benchmark.

#![expect(clippy::print_stdout, reason = "its one line of output is its interface")]

use std::io::Write;

use aex_tests::provider::{KEY, Provider, Script, Setup};
use clap::Parser;

/// Serves a scripted OpenAI-compatible chat endpoint on 127.0.0.1 until it is ended.
#[derive(Parser)]
struct Flags {
    /// Port to listen on; 0 takes a free one.
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Wait before each answer's head, in microseconds.
    #[arg(long, default_value_t = 0)]
    latency_us: u64,
    /// Content chunks (tokens) of each answer.
    #[arg(long)]
    chunks: Option<usize>,
    /// Wait between two chunks, in microseconds.
    #[arg(long, default_value_t = 0)]
    chunk_delay_us: u64,
    /// Bearer key to expect; empty takes every request.
    #[arg(long, default_value = KEY)]
    key: String,
    /// Names for GET /v1/models.
    #[arg(long, value_delimiter = ',', default_values_t = ["m1-upstream".to_owned(), "m2-upstream".to_owned()])]
    models: Vec<String>,
    /// Serve https; a second line of output names the authority's certificate.
    #[arg(long)]
    tls: bool,
    /// Keep no raw requests.
    #[arg(long)]
    no_record: bool,
}

fn main() -> anyhow::Result<()> {
    let flags = Flags::parse();
    let always =
        Script { delay_us: flags.latency_us, output_tokens: flags.chunks, chunk_delay_us: flags.chunk_delay_us, ..Script::default() };
    let provider =
        Provider::with(Setup { port: flags.port, tls: flags.tls, key: flags.key, models: flags.models, always, record: !flags.no_record });
    println!("listening on {}", provider.origin());
    if let Some(ca) = provider.ca() {
        println!("certificate authority {}", ca.display());
    }
    std::io::stdout().flush()?;
    wait_for_signal()
}

fn wait_for_signal() -> anyhow::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
        Ok(())
    })
}
