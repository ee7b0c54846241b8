//! The verifier of exports: whatever a file holds, it is judged without a panic, and a file that differs from a whole one is found out.

use crate::engine::corpus;
use aex_core::export::{Reader, Verified, Verifier};
use aex_core::verify::Finding;
use jiff::tz::TimeZone;
use std::sync::LazyLock;

/// Whole files that pass: those of the corpus.
static WHOLE: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let entries = std::fs::read_dir(corpus("export")).into_iter().flatten().flatten();
    let files: Vec<Vec<u8>> = entries.filter_map(|entry| std::fs::read(entry.path()).ok()).filter(|file| passes(&verify(file))).collect();
    assert!(!files.is_empty(), "no file of the corpus passes");
    files
});

/// A file.
pub fn check(bytes: &[u8]) {
    let verified = verify(bytes);
    assert!(!verified.findings.is_empty());
    if passes(&verified) {
        // SHA-256 stands between a change and a file that passes.
        assert!(WHOLE.iter().any(|whole| whole == bytes), "a changed file passes");
    }
}

fn verify(bytes: &[u8]) -> Verified {
    let zones = |name: &str| (name == "UTC").then_some(TimeZone::UTC);
    let mut verifier = Verifier::new(zones, Vec::new());
    let mut reader = Reader::new();
    verifier.begin("");
    bytes.split_inclusive(|byte| *byte == b'\n').for_each(|line| verifier.part(reader.line(line)));
    verifier.end();
    verifier.finish()
}

fn passes(verified: &Verified) -> bool {
    verified.findings.iter().all(Finding::passed) && verified.unchecked.is_empty()
}
