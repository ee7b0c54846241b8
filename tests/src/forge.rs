//! An export as whoever forges it would make it: lines changed, then the chain, the digests of sections and the counts made anew.
//!
//! Shares no code with the verifier but the hash of a link, which has a test of its own against sha256sum.

use aex_core::chain::Head;
use aex_proto::value::{Digest, Stamp};
use serde_json::{Value, json};

/// The lines of an export, without their line feeds.
#[must_use]
pub fn lines(file: &str) -> Vec<String> {
    file.lines().map(str::to_owned).collect()
}

/// What a line is: `event`, `account`, `end`.
#[must_use]
#[track_caller]
pub fn kind(line: &str) -> String {
    let line: Value = serde_json::from_str(line).expect("a line of JSON");
    line.as_object().and_then(|line| line.keys().next().cloned()).expect("a line with one key")
}

/// Puts lines together again: events are numbered and chained anew, snapshots get their digest, and those who name them the new one,
/// and the last line tells of what there is.
#[must_use]
#[track_caller]
pub fn file(lines: &[String]) -> String {
    let mut all = lines.join("\n");
    for line in lines {
        let line: Value = serde_json::from_str(line).expect("a line of JSON");
        if let Some(snapshot) = line.get("snapshot") {
            let text = snapshot["text"].as_str().expect("a text");
            all = all.replace(snapshot["digest"].as_str().expect("a digest"), &Digest::of(text.as_bytes()).to_string());
        }
    }
    let mut head = Head::START;
    let mut out: Vec<(String, String)> = Vec::new();
    for line in all.lines() {
        let mut line: Value = serde_json::from_str(line).expect("a line of JSON");
        let name = line.as_object().and_then(|line| line.keys().next().cloned()).expect("a line with one key");
        match name.as_str() {
            "export" => head = serde_json::from_value(line["export"]["since"].clone()).unwrap_or(Head::START),
            "event" => {
                let event = &mut line["event"];
                let at = Stamp::parse(event["at"].as_str().expect("a time")).expect("a time");
                head = head.link(at, event["kind"].as_str().expect("a kind"), &Digest::of(event["body"].to_string().as_bytes()));
                (event["seq"], event["hash"]) = (json!(head.seq), json!(head.hash));
            }
            "chain" => line["chain"]["head"] = json!(head),
            "end" => continue,
            _ => {}
        }
        out.push((name, line.to_string()));
    }
    // Snapshots stand in the order of their digests.
    let mut snapshots: Vec<(String, String)> = out.extract_if(.., |(name, _)| name == "snapshot").collect();
    snapshots.sort_by(|one, other| one.1.cmp(&other.1));
    let at = out.iter().position(|(name, _)| !matches!(name.as_str(), "export" | "checkpoint") && !name.starts_with("was_")).unwrap_or(0);
    out.splice(at..at, snapshots);
    let sections: Vec<Value> =
        ["header", "checkpoint", "snapshots", "events", "rows"].into_iter().filter_map(|name| sum(name, &out)).collect();
    let end = json!({"end": {"head": head, "lines": out.len() + 1, "sections": sections}});
    out.iter().map(|(_, line)| format!("{line}\n")).chain([format!("{end}\n")]).collect()
}

fn sum(section: &str, lines: &[(String, String)]) -> Option<Value> {
    let own: Vec<&str> = lines.iter().filter(|(name, _)| section_of(name) == section).map(|(_, line)| line.as_str()).collect();
    let text: String = own.iter().map(|line| format!("{line}\n")).collect();
    (!own.is_empty()).then(|| json!({"lines": own.len(), "name": section, "sha256": Digest::of(text.as_bytes())}))
}

fn section_of(name: &str) -> &'static str {
    match name {
        "export" => "header",
        "checkpoint" => "checkpoint",
        name if name.starts_with("was_") => "checkpoint",
        "snapshot" => "snapshots",
        "event" | "stub" => "events",
        _ => "rows",
    }
}

/// Chance, by splitmix64: a seed that is printed makes a failure one that can be repeated.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// With a seed of this moment.
    #[must_use]
    #[track_caller]
    pub fn of_this_moment() -> Self {
        let seed = u64::from(std::process::id()) << 32 | u64::from(std::time::UNIX_EPOCH.elapsed().map_or(0, |since| since.subsec_nanos()));
        eprintln!("seed: {seed}");
        Self(seed)
    }

    /// A number from 0 on, below this one.
    #[track_caller]
    pub fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % u64::try_from(limit).expect("a limit")).expect("below the limit")
    }
}
