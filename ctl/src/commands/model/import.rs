//! `aexctl models import`: prices and limits of LiteLLM's file into models.yaml.
//!
//! Entries that are there stay as they are. What is written was read by the daemon's own reader first, and replaces the file at once
//! or not at all.

use super::entries::{self, Block, block};
use super::litellm::{self, Known, Read};
use crate::cli::ModelsImport;
use crate::commands::Context;
use crate::exit::{Attempt, Exit, Failure};
use crate::units::count;
use crate::view::Paint;
use aex_core::policy::glob;
use aex_proto::check::{Checked, Verdict};
use aex_proto::value::Digest;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// The largest price file: ten times that of 2026.
const MAX_FILE: u64 = 16 << 20;
/// How many names of one kind are told in a line.
const NAMES_TOLD: usize = 6;

/// What an import did.
#[derive(Debug, Default, Serialize)]
struct Imported {
    /// Names of the models that were added.
    added: Vec<String>,
    /// Providers that were added for them.
    providers_added: BTreeSet<String>,
    /// Those that were there already.
    kept: Vec<String>,
    /// Left out for a price that is no whole number of pico-USD.
    inexact: Vec<String>,
    /// Rounded up to the next pico-USD.
    rounded: Vec<String>,
    /// Left out otherwise: why, and which.
    skipped: BTreeMap<String, Vec<String>>,
    /// Fields about money that were left out of what was added, and of how many.
    not_understood: BTreeMap<String, u64>,
    /// Entries of providers that were not asked for, by LiteLLM's name of the provider.
    other_providers: BTreeMap<String, u64>,
    /// Where it was written; absent for a dry run, and where nothing was added.
    #[serde(skip_serializing_if = "Option::is_none")]
    written: Option<PathBuf>,
    /// What a dry run would add.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    would_add: Vec<String>,
}

/// Which of models.yaml's providers serves the models of one of LiteLLM's.
enum Served {
    /// One that is there, by its name.
    Here(String),
    /// One that is added.
    Added(Known),
}

pub(super) fn run(context: &Context<'_>, wanted: &ModelsImport) -> Result<Exit, Failure> {
    let source = read(&wanted.file, MAX_FILE)?;
    let all = litellm::file(&source).map_err(|fault| Failure::new(format!("{} is no price file: {fault}", wanted.file.display())))?;
    let path = context.paths.config_dir.join("models.yaml");
    let text = read(&path, MAX_FILE).map_err(|failure| failure.hint("`aexctl init` writes one"))?;
    let blocks = block(&text, "providers").zip(block(&text, "models"));
    let (providers, models) = blocks.ok_or_else(|| {
        let failure = Failure::new(format!("{} has no `providers` and `models` with each entry on lines of its own", path.display()));
        failure.hint("write them as `aexctl init` does")
    })?;
    let mut import = Import::new(wanted, &providers, &models)?;
    all.into_iter().for_each(|(name, entry)| import.take(name, entry));
    let Import { mut imported, entries, new_providers, .. } = import;
    if !entries.is_empty() {
        let heading = format!("# From LiteLLM's price file, SHA-256 {}.", Digest::of(source.as_bytes()));
        let blocks: Vec<String> = [format!("\n{heading}\n")].into_iter().chain(entries.iter().cloned()).collect();
        // Models stand mostly behind providers; whichever is last is put in first, so that the places hold.
        let with_models = |text: &str| block(text, "models").map(|block| block.with(text, &blocks));
        let with_both = with_models(&text).and_then(|text| Some(block(&text, "providers")?.with(&text, &new_providers)));
        let new = with_both.ok_or_else(|| Failure::new("the new entries do not fit into models.yaml").with(Exit::Bug))?;
        let target = wanted.out.clone().unwrap_or(path);
        let scratch = Scratch::beside(&target, &new)?;
        check(context, &scratch.path)?;
        if wanted.dry_run {
            imported.would_add = entries;
        } else {
            scratch.replace(&target)?;
            imported.written = Some(target);
        }
    }
    context.view.show(&imported, |paint| tell(&imported, paint))?;
    Ok(Exit::Done)
}

/// An import under way.
struct Import<'a> {
    wanted: &'a ModelsImport,
    /// LiteLLM's providers that were asked for.
    served: BTreeMap<String, Served>,
    taken: BTreeSet<String>,
    imported: Imported,
    entries: Vec<String>,
    new_providers: Vec<String>,
}

impl<'a> Import<'a> {
    fn new(wanted: &'a ModelsImport, providers: &Block, models: &Block) -> Result<Import<'a>, Failure> {
        let is_here = |name: &str| providers.names.iter().any(|here| here == name);
        let here = |known: &Known| [known.litellm, known.name].into_iter().find(|name| is_here(name)).map(str::to_owned);
        let mut served = BTreeMap::new();
        let asked: Vec<&String> =
            if wanted.provider.is_empty() { providers.names.iter().collect() } else { wanted.provider.iter().collect() };
        for name in asked {
            let known = litellm::providers_named(name);
            if known.is_empty() && is_here(name) {
                served.insert(name.clone(), Served::Here(name.clone()));
            } else if known.is_empty() {
                let failure = Failure::new(format!("the provider {name} is neither in models.yaml nor known with its address"));
                return Err(failure.hint("add it to models.yaml under LiteLLM's name of it").with(Exit::Usage));
            }
            for known in known {
                let serves = here(&known).map_or(Served::Added(known), Served::Here);
                served.insert(known.litellm.to_owned(), serves);
            }
        }
        let taken = models.names.iter().cloned().collect();
        Ok(Import { wanted, served, taken, imported: Imported::default(), entries: Vec::new(), new_providers: Vec::new() })
    }

    fn take(&mut self, name: String, Read { provider, entry }: Read) {
        let model = entry.as_ref().map_or(name.as_str(), |entry| entry.model.as_str());
        let fits = |pattern: &String| glob::fits(pattern, &name) || glob::fits(pattern, model);
        if self.wanted.only.as_ref().is_some_and(|pattern| !fits(pattern)) {
            return;
        }
        let Some(serves) = self.served.get(&provider) else {
            let count = self.imported.other_providers.entry(provider).or_default();
            *count = count.saturating_add(1);
            return;
        };
        let entry = match entry {
            Ok(entry) => entry,
            Err(why) => return self.imported.skipped.entry(why).or_default().push(name),
        };
        let own = match serves {
            Served::Here(own) => own.clone(),
            Served::Added(known) => known.name.to_owned(),
        };
        let inexact = entry.amounts().any(|price| !price.exact);
        if inexact && !self.wanted.round_up {
            return self.imported.inexact.push(name);
        }
        // The key of a price by call takes µUSD alone.
        if entry.call.is_some_and(|call| aex_proto::value::Pico::from_micro(call.pico.micro()) != Some(call.pico)) {
            return self.imported.inexact.push(name);
        }
        let full = format!("{own}/{}", entry.model);
        let is_own = self.imported.added.contains(&entry.model);
        // A name that another provider of this import has is told apart by the provider; one that was there stays whose it is.
        let free = [Some(&entry.model), is_own.then_some(&full)].into_iter().flatten().find(|name| !self.taken.contains(*name));
        let Some(own_name) = free.cloned() else { return self.imported.kept.push(name) };
        if let Served::Added(known) = serves
            && self.imported.providers_added.insert(own.clone())
        {
            self.new_providers.push(entries::provider(&own, known.lines));
        }
        let bad = entry.multiplied.iter().filter(|(_, factor)| !entries::is_whole(&entry, factor));
        let left_out =
            entry.not_understood.iter().cloned().chain(bad.map(|(tier, _)| format!("prices of the tier {tier} that are not exact")));
        for field in left_out {
            let count = self.imported.not_understood.entry(field).or_default();
            *count = count.saturating_add(1);
        }
        if inexact {
            self.imported.rounded.push(own_name.clone());
        }
        self.entries.push(entries::model(&own_name, &own, &entry));
        self.taken.insert(own_name.clone());
        self.imported.added.push(own_name);
    }
}

fn read(path: &Path, largest: u64) -> Result<String, Failure> {
    let failed = |fault: &dyn std::fmt::Display| Failure::new(format!("cannot read {}: {fault}", path.display()));
    let size = fs::metadata(path).map_err(|fault| failed(&fault))?.len();
    if size > largest {
        return Err(failed(&format!("it is larger than {largest} bytes")));
    }
    fs::read_to_string(path).map_err(|fault| failed(&fault))
}

/// Has the daemon's own reader look at a models.yaml.
fn check(context: &Context<'_>, file: &Path) -> Result<(), Failure> {
    let mut command = crate::aexd::command("check", context.home.as_deref());
    let output = crate::aexd::output(command.arg("--models").arg(file))?;
    let checked: Checked = serde_json::from_slice(&output.stdout)
        .map_err(|fault| Failure::new(format!("aexd check answers nothing that can be read: {fault}")))?;
    let errors: Vec<String> =
        checked.findings.into_iter().filter(|finding| finding.verdict == Verdict::Error).map(|finding| finding.detail).collect();
    if errors.is_empty() {
        return Ok(());
    }
    Err(Failure::new(format!("the daemon would refuse the result, so nothing was written:\n{}", errors.join("\n"))))
}

/// A file beside the one that it replaces; removed unless it does.
struct Scratch {
    path: PathBuf,
}

impl Scratch {
    fn beside(target: &Path, text: &str) -> Result<Scratch, Failure> {
        let name = target.file_name().ok_or_else(|| Failure::new(format!("{} names no file", target.display())).with(Exit::Usage))?;
        let path = target.with_file_name(format!(".{}.{}", name.to_string_lossy(), std::process::id()));
        let scratch = Scratch { path };
        let write = || {
            let mut file = File::create_new(&scratch.path)?;
            if let Ok(old) = fs::metadata(target) {
                file.set_permissions(old.permissions())?;
            }
            file.write_all(text.as_bytes())?;
            file.sync_all()
        };
        write().attempt(|| format!("write {}", scratch.path.display()))?;
        Ok(scratch)
    }

    fn replace(self, target: &Path) -> Result<(), Failure> {
        // A link keeps pointing where it does.
        let target = target.canonicalize().unwrap_or_else(|_| target.to_owned());
        fs::rename(&self.path, &target).attempt(|| format!("replace {}", target.display()))?;
        let folder = target.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
        File::open(folder).and_then(|folder| folder.sync_all()).attempt(|| format!("flush {}", folder.display()))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Gone already when it took the other's place.
        drop(fs::remove_file(&self.path));
    }
}

fn tell(imported: &Imported, paint: Paint) -> String {
    let number = |length: usize| u64::try_from(length).unwrap_or(u64::MAX);
    let mut lines = imported.would_add.iter().map(|entry| entry.trim_end().to_owned()).collect::<Vec<_>>();
    let added = count(number(imported.added.len()), "model");
    lines.push(match &imported.written {
        Some(path) => format!("{} added to {}. `aexctl models reload` puts them in force.", paint.strong(&added), path.display()),
        None if imported.added.is_empty() => "Nothing was added.".to_owned(),
        None => format!("{} would be added; nothing was written.", paint.strong(&added)),
    });
    if !imported.providers_added.is_empty() {
        lines.push(format!("Providers added: {}.", imported.providers_added.iter().cloned().collect::<Vec<_>>().join(", ")));
    }
    let mut row = |what: &str, names: &[String]| {
        if !names.is_empty() {
            lines.push(format!("{what} ({}): {}", names.len(), few(names)));
        }
    };
    row("Kept as they were, for the name is taken", &imported.kept);
    row("Left out, for a price is no whole pico-USD (`--round-up` takes the next one)", &imported.inexact);
    row("Rounded up to the next pico-USD", &imported.rounded);
    imported.skipped.iter().for_each(|(why, names)| row(&format!("Left out, for it {why}"), names));
    let counted =
        |counts: &BTreeMap<String, u64>| counts.iter().map(|(name, count)| format!("{name} {count}")).collect::<Vec<_>>().join(", ");
    if !imported.not_understood.is_empty() {
        lines.push(format!("Fields that were left out: {}", counted(&imported.not_understood)));
    }
    if !imported.other_providers.is_empty() {
        lines.push(format!("Of other providers (`--provider NAME`): {}", counted(&imported.other_providers)));
    }
    lines.join("\n")
}

fn few(names: &[String]) -> String {
    let more = names.len().saturating_sub(NAMES_TOLD);
    let told = names.iter().take(NAMES_TOLD).cloned().collect::<Vec<_>>().join(", ");
    if more == 0 { told } else { format!("{told} and {more} more") }
}
