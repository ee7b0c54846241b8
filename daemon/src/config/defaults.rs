//! The files that a fresh home gets.

use aex_core::paths::Paths;
use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// models.yaml, with list prices.
pub const MODELS_YAML: &str = include_str!("../../../config/models.yaml");
/// aexd.yaml, each key commented out with its default.
pub const AEXD_YAML: &str = include_str!("../../../config/aexd.yaml");
/// permissions.json, which denies every tool.
pub const PERMISSIONS_JSON: &str = include_str!("../../../config/permissions.json");
/// .env, with empty keys.
pub const ENV: &str = include_str!("../../../config/env");

/// Writes the files that are missing, for their owner only, and names them. Never overwrites; the folders must exist.
///
/// # Errors
/// When a file cannot be written; the path is in the text.
pub fn write_missing(paths: &Paths) -> io::Result<Vec<PathBuf>> {
    let files = [
        (paths.config_dir.join(super::MODELS_FILE), MODELS_YAML),
        (paths.config_dir.join(super::SETTINGS_FILE), AEXD_YAML),
        (paths.config_dir.join(super::PERMISSIONS_FILE), PERMISSIONS_JSON),
        (paths.env_file.clone(), ENV),
    ];
    let mut written = Vec::new();
    for (path, text) in files {
        match write_new(&path, text) {
            Ok(()) => written.push(path),
            Err(fault) if fault.kind() == ErrorKind::AlreadyExists => {}
            Err(fault) => return Err(io::Error::new(fault.kind(), format!("{}: {fault}", path.display()))),
        }
    }
    Ok(written)
}

/// A file that cannot be written whole is removed again: it would never be overwritten later.
fn write_new(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
    if written.is_err() {
        fs::remove_file(path)?;
    }
    written
}
