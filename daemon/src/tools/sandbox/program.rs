//! Which file a command is, and what has to be readable so that it can run: decided by where it lies, from the plan and a look at the
//! disk. Grants nothing by itself: how far a guess may go, `look` says.
//!
//! Programs of the system need nothing. Of others it is the folder of the file; of a virtual environment and of `node_modules` the whole of
//! it; of a prefix (`…/bin`) its `bin` and its `lib`; of a version manager's `shims` its folder; of a script that is given to an interpreter its project.
//! A folder that also holds other matters of the user (the home, what lies above it) is never one of them.

use super::look::{Look, climbs};
use super::place::{Leash, Place};
use super::{CANNOT_RUN, Failure, NOT_FOUND, Plan};
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Where distributions put programs: readable anyway.
const SYSTEM: [&str; 7] = ["/usr", "/bin", "/sbin", "/lib", "/lib64", "/nix/store", "/run/current-system"];
/// Whose first argument without a dash is a script.
const INTERPRETERS: [&str; 11] = ["node", "nodejs", "python", "pypy", "deno", "bun", "ruby", "perl", "php", "bash", "sh"];
/// Files that stand in the root of a project.
const PROJECT: [&str; 6] = ["package.json", "node_modules", "pyproject.toml", "setup.py", ".venv", "deno.json"];
/// Interpreters of interpreters, as the kernel follows at most.
const DEPTH: usize = 4;
/// The longest first line that names an interpreter, by the kernel.
const SHEBANG: u64 = 256;

/// A command as it can be executed.
#[derive(Debug)]
pub(super) struct Program {
    /// The file, as it was found.
    pub(super) path: PathBuf,
    /// What has to be readable, each by its name.
    pub(super) reads: Vec<(PathBuf, Place)>,
}

/// Finds the command of a plan that confines nothing.
pub(super) fn find(plan: &Plan, command: &str) -> Result<PathBuf, Failure> {
    let path = look_up(plan, command)?;
    Ok(if climbs(&path) { path.canonicalize().unwrap_or(path) } else { path })
}

/// Finds a command, and what it needs.
pub(super) fn needs(look: &Look<'_>, command: &str) -> Result<Program, Failure> {
    let mut needs = Needs { look, reads: Vec::new() };
    let path = look_up(look.plan, command)?;
    let real = needs.visit(&path, &[], Some(DEPTH))?;
    if let Some(script) = script(look.plan, &path) {
        // Its first line is nobody's matter: the interpreter was chosen.
        let real = needs.visit(&script, &[], None)?;
        let named = if climbs(&script) { real } else { script };
        let folders = named.ancestors().skip(1).take_while(|folder| !is_wide(look, folder));
        if let Some(project) = folders.into_iter().find(|folder| is_project(folder)) {
            needs.give(project, &[]);
        }
    }
    let mut reads = needs.reads;
    reads.sort_unstable_by(|one, other| one.0.cmp(&other.0));
    reads.dedup_by(|one, other| one.0 == other.0);
    Ok(Program { path: if climbs(&path) { real } else { path }, reads })
}

/// What a program needs, as far as it is known.
struct Needs<'a> {
    look: &'a Look<'a>,
    reads: Vec<(PathBuf, Place)>,
}

impl Needs<'_> {
    /// Adds what a file needs, by each of its names; and its interpreter, so many of them deep. `leashes`: tools' words that led here. Says
    /// where the file lies.
    fn visit(&mut self, file: &Path, leashes: &[Leash], depth: Option<usize>) -> Result<PathBuf, Failure> {
        let look = self.look;
        let place = look.needed(file, leashes)?;
        let mut leashes = [leashes, &place.leashes].concat();
        let own = Some(file.to_owned()).filter(|file| !climbs(file));
        for name in own.into_iter().chain(place.links.iter().cloned()).chain([place.path.clone()]) {
            for part in around(look, &name) {
                self.give(&part, &leashes);
            }
            let named = look.needed(&name, &leashes)?;
            self.reads.push((name, named));
        }
        if let Some(rest) = depth.and_then(|depth| depth.checked_sub(1))
            && let Some(interpreter) = interpreter(look.plan, &place.path)
        {
            let root = look.writable.of_content(&place.path).cloned();
            leashes.extend(root.map(|root| Leash { said: place.path.clone(), root }));
            self.visit(&interpreter, &leashes, Some(rest))?;
        }
        Ok(place.path)
    }

    /// Adds what it can do without, if it may have it.
    fn give(&mut self, path: &Path, leashes: &[Leash]) {
        let given = self.look.guessed(path, leashes).ok().filter(|place| !place.is_dir || !self.look.is_wide(&place.path));
        self.reads.extend(given.map(|place| (path.to_owned(), place)));
    }
}

/// As execvp(3): a name without a slash is looked for in PATH, which must not be left to the working folder.
fn look_up(plan: &Plan, command: &str) -> Result<PathBuf, Failure> {
    if command.contains('/') {
        let path = plan.cwd.join(command);
        return match runnable(&path) {
            true => Ok(path),
            false if path.exists() => Err(failed(CANNOT_RUN, format!("{}: it is no file that may be executed", path.display()))),
            false => Err(failed(NOT_FOUND, format!("{}: there is no such file", path.display()))),
        };
    }
    in_path(plan, command)
        .ok_or_else(|| failed(NOT_FOUND, format!("{command}: not found in PATH ({})", variable(plan, "PATH").unwrap_or("not set"))))
}

fn failed(code: u8, what: String) -> Failure {
    Failure::Failed { code, what }
}

fn variable<'a>(plan: &'a Plan, name: &str) -> Option<&'a str> {
    plan.env.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
}

fn in_path(plan: &Plan, name: &str) -> Option<PathBuf> {
    let folders = variable(plan, "PATH")?.split(':').map(Path::new).filter(|folder| folder.is_absolute());
    folders.map(|folder| folder.join(name)).find(|path| runnable(path))
}

fn runnable(path: &Path) -> bool {
    path.metadata().is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}

/// Whether a program is an interpreter of scripts, by its name; versions may stand behind it.
pub(super) fn is_interpreter(program: &Path) -> bool {
    let name = program.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    INTERPRETERS.contains(&name.trim_end_matches(|letter: char| letter.is_ascii_digit() || letter == '.'))
}

/// The script among the arguments of an interpreter.
fn script(plan: &Plan, program: &Path) -> Option<PathBuf> {
    let first = plan.args.iter().find(|word| !word.starts_with('-')).filter(|_| is_interpreter(program))?;
    let path = plan.cwd.join(first);
    path.is_file().then_some(path)
}

/// What the first line of a script names, if it is a program.
fn interpreter(plan: &Plan, file: &Path) -> Option<PathBuf> {
    let mut head = Vec::new();
    File::open(file).ok()?.take(SHEBANG).read_to_end(&mut head).ok()?;
    let line = head.strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
    let mut words = std::str::from_utf8(line).ok()?.split_whitespace();
    let path = PathBuf::from(words.next()?);
    if path.file_name()?.to_str()? != "env" {
        return Some(path).filter(|path| path.is_absolute() && runnable(path));
    }
    let name = words.find(|word| !word.starts_with('-') && !word.contains('='))?;
    in_path(plan, name)
}

/// What belongs to a file, by where it lies.
fn around(look: &Look<'_>, file: &Path) -> Vec<PathBuf> {
    let Some(folder) = file.parent().filter(|_| !SYSTEM.iter().any(|system| file.starts_with(system))) else { return Vec::new() };
    let name = |folder: &Path| folder.file_name().and_then(|name| name.to_str()).map(str::to_owned).unwrap_or_default();
    let modules = folder.ancestors().filter(|above| name(above) == "node_modules").last();
    let venv = folder.ancestors().take_while(|above| !is_wide(look, above)).find(|above| above.join("pyvenv.cfg").is_file());
    if let Some(root) = modules.filter(|root| !is_wide(look, root)).or(venv) {
        let project = root.parent().map(|project| project.join("package.json")).filter(|file| file.is_file());
        return [root.to_owned()].into_iter().chain(project).collect();
    }
    let prefix = folder.parent().unwrap_or(folder);
    match name(folder).as_str() {
        "bin" | "sbin" => {
            let parts = ["lib", "lib64", "libexec"].map(|part| prefix.join(part)).into_iter().filter(|part| part.is_dir());
            [folder.to_owned()].into_iter().chain(parts).collect()
        }
        "shims" if !is_wide(look, prefix) => vec![prefix.to_owned()],
        _ => vec![folder.to_owned()],
    }
}

fn is_wide(look: &Look<'_>, folder: &Path) -> bool {
    look.is_wide(&folder.canonicalize().unwrap_or_else(|_| folder.to_owned()))
}

fn is_project(folder: &Path) -> bool {
    PROJECT.iter().any(|name| folder.join(name).exists())
}
