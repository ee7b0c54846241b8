//! The log: JSON lines in `logs/aex.log`, or on standard error below systemd, which keeps its own times.

use anyhow::Context;
use std::fs::OpenOptions;
use std::path::Path;
use std::sync::Mutex;
use tracing_subscriber::filter::LevelFilter;

/// Starts logging at a level. The time, level and message are top-level fields of each line.
///
/// # Errors
/// When the log file cannot be opened.
pub fn start(dir: &Path, level: tracing::Level) -> anyhow::Result<()> {
    let builder = tracing_subscriber::fmt().json().flatten_event(true).with_max_level(LevelFilter::from_level(level));
    if std::env::var_os("JOURNAL_STREAM").is_some() {
        builder.with_writer(std::io::stderr).init();
        return Ok(());
    }
    let path = dir.join("aex.log");
    let file = OpenOptions::new().create(true).append(true).open(&path).with_context(|| format!("opening {}", path.display()))?;
    builder.with_writer(Mutex::new(file)).init();
    Ok(())
}
