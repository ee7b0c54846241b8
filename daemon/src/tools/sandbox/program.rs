//! Which file a command is, and what has to be readable so that it can run: decided by where it lies, from the plan and a look at the
//! disk. Grants nothing by itself.
//!
//! Programs of the system need nothing. Of others it is the folder of the file; of a virtual environment and of `node_modules` the whole of
//! it; of a prefix (`…/bin`) its `bin` and its `lib`; of a version manager's `shims` its folder; of a script that is given to an interpreter its project.
//! A folder that also holds other matters of the user (the home, what lies above it) is never one of them.

use super::{CANNOT_RUN, Failure, NOT_FOUND, Plan};
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

/// Where distributions put programs: readable anyway.
const SYSTEM: [&str; 7] = ["/usr", "/bin", "/sbin", "/lib", "/lib64", "/nix/store", "/run/current-system"];
/// Whose first argument without a dash is a script.
const INTERPRETERS: [&str; 11] = ["node", "nodejs", "python", "pypy", "deno", "bun", "ruby", "perl", "php", "bash", "sh"];
/// Files that stand in the root of a project.
const PROJECT: [&str; 6] = ["package.json", "node_modules", "pyproject.toml", "setup.py", ".venv", "deno.json"];
/// Links on the way to a file, as the kernel follows at most.
const HOPS: usize = 40;
/// Interpreters of interpreters, as the kernel follows at most.
const DEPTH: usize = 4;
/// The longest first line that names an interpreter, by the kernel.
const SHEBANG: u64 = 256;

/// A command as it can be executed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Program {
    /// The file, as it was found.
    pub(super) path: PathBuf,
    /// What has to be readable.
    pub(super) reads: Vec<PathBuf>,
}

/// Finds the command of a plan.
pub(super) fn find(plan: &Plan, command: &str) -> Result<Program, Failure> {
    let path = look_up(plan, command)?;
    let mut reads = Vec::new();
    visit(plan, &path, 0, &mut reads);
    if let Some(script) = script(plan, &path) {
        visit(plan, &script, 1, &mut reads);
        reads.extend(
            script.ancestors().skip(1).take_while(|folder| !is_wide(plan, folder)).find(|folder| is_project(folder)).map(Path::to_owned),
        );
    }
    reads.sort_unstable();
    reads.dedup();
    Ok(Program { path, reads })
}

/// As execvp(3): a name without a slash is looked for in PATH, which must not be left to the working folder.
fn look_up(plan: &Plan, command: &str) -> Result<PathBuf, Failure> {
    if command.contains('/') {
        let path = plain(&plan.cwd.join(command));
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

/// The script among the arguments of an interpreter.
fn script(plan: &Plan, program: &Path) -> Option<PathBuf> {
    let name = program.file_name()?.to_str()?;
    let language = name.trim_end_matches(|letter: char| letter.is_ascii_digit() || letter == '.');
    let first = plan.args.iter().find(|word| !word.starts_with('-')).filter(|_| INTERPRETERS.contains(&language))?;
    let path = plain(&plan.cwd.join(first));
    path.is_file().then_some(path)
}

/// Adds what a file needs, its links and its interpreter included.
fn visit(plan: &Plan, file: &Path, depth: usize, reads: &mut Vec<PathBuf>) {
    let mut hop = file.to_owned();
    for _ in 0..HOPS {
        reads.push(hop.clone());
        around(plan, &hop, reads);
        let Ok(to) = hop.read_link() else { break };
        hop = plain(&hop.parent().map_or_else(|| to.clone(), |folder| folder.join(&to)));
    }
    if let Ok(real) = file.canonicalize() {
        around(plan, &real, reads);
        reads.push(real);
    }
    if let Some(interpreter) = interpreter(plan, file).filter(|_| depth < DEPTH) {
        visit(plan, &interpreter, depth.saturating_add(1), reads);
    }
}

/// The same file by a path without `..`: its folder is resolved where there is one.
fn plain(path: &Path) -> PathBuf {
    let climbs = path.components().any(|part| part == Component::ParentDir);
    let resolved = path.parent().filter(|_| climbs).and_then(|folder| Some(folder.canonicalize().ok()?.join(path.file_name()?)));
    resolved.unwrap_or_else(|| path.to_owned())
}

/// What the first line of a script names.
fn interpreter(plan: &Plan, file: &Path) -> Option<PathBuf> {
    let mut head = Vec::new();
    File::open(file).ok()?.take(SHEBANG).read_to_end(&mut head).ok()?;
    let line = head.strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
    let mut words = std::str::from_utf8(line).ok()?.split_whitespace();
    let path = PathBuf::from(words.next()?);
    if path.file_name()?.to_str()? != "env" {
        return Some(path);
    }
    let name = words.find(|word| !word.starts_with('-') && !word.contains('='))?;
    in_path(plan, name)
}

/// Adds the folders that belong to a file.
fn around(plan: &Plan, file: &Path, reads: &mut Vec<PathBuf>) {
    let Some(folder) = file.parent() else { return };
    if SYSTEM.iter().any(|system| file.starts_with(system)) {
        return;
    }
    let narrow = |folder: &&Path| !is_wide(plan, folder);
    let name = |folder: &Path| folder.file_name().and_then(|name| name.to_str()).map(str::to_owned).unwrap_or_default();
    let modules = folder.ancestors().filter(|above| name(above) == "node_modules").last();
    let venv = folder.ancestors().take_while(|above| !is_wide(plan, above)).find(|above| above.join("pyvenv.cfg").is_file());
    if let Some(root) = modules.filter(narrow).or(venv) {
        reads.push(root.to_owned());
        reads.extend(root.parent().map(|project| project.join("package.json")).filter(|file| file.is_file()));
        return;
    }
    let prefix = folder.parent().unwrap_or(folder);
    match name(folder).as_str() {
        "bin" | "sbin" => {
            let parts = ["lib", "lib64", "libexec"].map(|part| prefix.join(part));
            reads.extend([folder].into_iter().filter(narrow).map(Path::to_owned));
            reads.extend(parts.into_iter().filter(|part| part.is_dir() && !is_wide(plan, part)));
        }
        "shims" if !is_wide(plan, prefix) => reads.push(prefix.to_owned()),
        _ => reads.extend([folder].into_iter().filter(narrow).map(Path::to_owned)),
    }
}

/// Whether a folder holds more than programs: the user's home and what is above it, folders of the first level, and what holds the
/// daemon's files or lies among them. The plan's own paths are resolved already.
fn is_wide(plan: &Plan, folder: &Path) -> bool {
    let real = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    real.components().count() <= 2
        || plan.user_home.as_ref().is_some_and(|home| home.starts_with(&real))
        || plan.deny.iter().any(|denied| denied.starts_with(&real) || real.starts_with(denied))
}

fn is_project(folder: &Path) -> bool {
    PROJECT.iter().any(|name| folder.join(name).exists())
}
