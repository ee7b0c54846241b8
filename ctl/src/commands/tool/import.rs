//! `aexctl tools import`: servers of other hosts into mcp.json, by the daemon, which checks them and keeps what is there.

use super::hosts::{self, Found, Place};
use crate::cli::ToolsImport;
use crate::commands::Context;
use crate::exit::{Attempt, Exit, Failure};
use crate::units::count;
use crate::view::Paint;
use aex_proto::method;
use aex_proto::tool::{ToolAdd, ToolImport};
use serde::Serialize;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// The largest file: Claude Code keeps the history of its projects beside their servers.
const MAX_FILE: u64 = 64 << 20;

/// What an import did.
#[derive(Debug, Default, Serialize)]
struct Imported {
    /// The files that were read.
    files: Vec<PathBuf>,
    /// The servers that were taken over.
    taken: Vec<Taken>,
    /// The others.
    skipped: Vec<Skipped>,
    /// What a user should know of those that were taken.
    warnings: Vec<String>,
    /// mcp.json was written.
    written: bool,
}

#[derive(Debug, Serialize)]
struct Taken {
    /// Its name here.
    name: String,
    /// Where it came from.
    from: PathBuf,
    /// Its keys that mean nothing here.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    left_out: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Skipped {
    /// Its name there.
    name: String,
    /// Where it came from.
    from: PathBuf,
    /// Why.
    why: String,
}

pub(super) fn run(context: &Context<'_>, wanted: &ToolsImport) -> Result<Exit, Failure> {
    let home = std::env::home_dir().filter(|home| home.is_absolute()).unwrap_or_else(|| PathBuf::from("/"));
    let here = std::env::current_dir().attempt(|| "tell the folder that you are in".to_owned())?;
    let mut imported = Imported::default();
    let mut found = Vec::new();
    for (place, source) in sources(wanted, &home, &here)? {
        match hosts::read(&place, &source, &home) {
            Ok(servers) => found.extend(servers.into_iter().map(|server| (place.path.clone(), server))),
            Err(why) if wanted.file.is_some() => return Err(Failure::new(format!("{}: {why}", place.path.display()))),
            Err(why) => imported.warnings.push(format!("{}: {why}", place.path.display())),
        }
        imported.files.push(place.path);
    }
    let mut client = context.connect()?;
    let candidates = imported.sort_out(found);
    let servers = candidates.iter().map(|(_, _, add)| add.clone()).collect();
    let reply = client.call::<method::ToolImport>(&ToolImport { servers, dry_run: wanted.dry_run })?;
    let mut skipped = reply.skipped;
    for (from, left_out, add) in candidates {
        // Of two with one name the first is taken, and the second stands among the skipped ones.
        let is_new = !imported.taken.iter().any(|taken| taken.name == add.name);
        if is_new && reply.taken.contains(&add.name) {
            imported.taken.push(Taken { name: add.name, from, left_out });
        } else if let Some(at) = skipped.iter().position(|skipped| skipped.name == add.name) {
            imported.skipped.push(Skipped { name: add.name, from, why: skipped.remove(at).why });
        }
    }
    imported.warnings.extend(reply.warnings);
    imported.written = !wanted.dry_run && !imported.taken.is_empty();
    imported.warnings.iter().for_each(|warning| context.view.note(&format!("warning: {warning}")));
    context.view.show(&imported, |paint| tell(&imported, paint))?;
    Ok(Exit::Done)
}

impl Imported {
    /// Those that the daemon is asked to take; the others are skipped.
    fn sort_out(&mut self, found: Vec<(PathBuf, Found)>) -> Vec<(PathBuf, Vec<String>, ToolAdd)> {
        let mut candidates = Vec::new();
        for (from, Found { name, entry, left_out }) in found {
            match entry {
                Ok(server) => {
                    let fitting = hosts::fit(&name);
                    if left_out.iter().any(|key| key == "envFile") {
                        self.warnings.push(format!("{fitting}: its envFile is not read: add its variables to env"));
                    }
                    candidates.push((from, left_out, ToolAdd { name: fitting, server }));
                }
                Err(why) => self.skipped.push(Skipped { name, from, why }),
            }
        }
        candidates
    }
}

/// The files that are there, with their texts.
fn sources(wanted: &ToolsImport, home: &Path, here: &Path) -> Result<Vec<(Place, String)>, Failure> {
    if let Some(file) = &wanted.file {
        let path = file.canonicalize().attempt(|| format!("read {}", file.display()))?;
        let source = read(&path)?;
        let host = wanted.from.unwrap_or_else(|| hosts::host_of(&path, &source));
        return Ok(vec![(Place { host, path }, source)]);
    }
    let config = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from).filter(|folder| folder.is_absolute());
    let places = hosts::places(wanted.from, home, &config.unwrap_or_else(|| home.join(".config")), here);
    let mut sources = Vec::new();
    for place in &places {
        match fs::metadata(&place.path) {
            Err(fault) if fault.kind() == ErrorKind::NotFound || fault.kind() == ErrorKind::NotADirectory => {}
            _ => sources.push((place.clone(), read(&place.path)?)),
        }
    }
    if sources.is_empty() {
        let looked: Vec<String> = places.iter().map(|place| format!("  {}", place.path.display())).collect();
        let failure = Failure::new(format!("no file of another host is there; these places were looked at:\n{}", looked.join("\n")));
        return Err(failure.hint("name the file: aexctl tools import FILE").with(Exit::NotFound));
    }
    Ok(sources)
}

fn read(path: &Path) -> Result<String, Failure> {
    let what = || format!("read {}", path.display());
    let size = fs::metadata(path).attempt(what)?.len();
    if size > MAX_FILE {
        return Err(Failure::new(format!("cannot read {}: it is larger than {MAX_FILE} bytes", path.display())));
    }
    fs::read_to_string(path).attempt(what)
}

fn tell(imported: &Imported, paint: Paint) -> String {
    let number = u64::try_from(imported.taken.len()).unwrap_or(u64::MAX);
    let servers = paint.strong(&count(number, "server"));
    let mut lines = vec![match (imported.written, number) {
        (true, _) => format!("{servers} taken over into mcp.json."),
        (false, 0) => "Nothing was taken over.".to_owned(),
        (false, _) => format!("{servers} would be taken over; nothing was written."),
    }];
    for Taken { name, from, left_out } in &imported.taken {
        let left_out = if left_out.is_empty() { String::new() } else { format!("; left out: {}", left_out.join(", ")) };
        lines.push(format!("  {name} from {}{left_out}", from.display()));
    }
    if !imported.skipped.is_empty() {
        lines.push("Skipped:".to_owned());
        lines.extend(imported.skipped.iter().map(|Skipped { name, from, why }| format!("  {name} from {}: {why}", from.display())));
    }
    lines.join("\n")
}
