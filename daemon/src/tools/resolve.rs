//! Where the paths among a call's arguments really lead: the answers that rules on folders ask for.
//!
//! Looks at the file system as the daemon sees it, at this moment. A tool may see another one (its sandbox mounts its own), and links may
//! change before it opens the file: what a tool can reach is the sandbox's to hold, these answers keep honest calls within their rules.
//! What two programs could take for two files has no answer: below /proc, which each process has of its own; `..` behind a link, which some
//! resolve before the link and some after. Must not: decide, write, open a file.

use aex_core::tool::{Of, Question, Resolved, oddity};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::{self, ErrorKind};
use std::path::{Component, Path, PathBuf};

/// Links that a path may lead through, as Linux has it.
const MAX_LINKS: usize = 40;
/// Longest path, in bytes, as Linux has it.
const MAX_PATH: usize = 4_096;

/// Where paths begin that are not absolute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bases {
    /// The folder in which the tool's process runs: of arguments; absent: those that are relative have no answer.
    pub cwd: Option<PathBuf>,
    /// The home of the daemon's user: of rules' folders that begin with `~/`.
    pub home: Option<PathBuf>,
}

/// Answers questions. File systems may be slow, so that a thread for it is taken where there are some.
pub async fn resolve(asked: BTreeSet<Question>, bases: Bases) -> Resolved {
    if asked.is_empty() {
        return Resolved::default();
    }
    // Without an answer the rules that asked cannot let anything pass.
    tokio::task::spawn_blocking(move || answers(&asked, &bases)).await.unwrap_or_default()
}

fn answers(asked: &BTreeSet<Question>, bases: &Bases) -> Resolved {
    let mut resolved = Resolved::default();
    for question in asked {
        let place = begun(question, bases).and_then(|path| one_place(&path).ok());
        if let Some(place) = place.and_then(|place| place.into_os_string().into_string().ok()) {
            resolved.is_at(question.clone(), place);
        }
    }
    resolved
}

/// The absolute path that is meant.
fn begun(question: &Question, bases: &Bases) -> Option<PathBuf> {
    let text = question.text.as_str();
    let path = match question.of {
        Of::Argument if oddity(text).is_some() => return None,
        Of::Argument => bases.cwd.as_deref().unwrap_or(Path::new("")).join(text),
        Of::Folder => match text.strip_prefix('~') {
            Some(below) => bases.home.as_ref()?.join(below.trim_start_matches('/')),
            None => PathBuf::from(text),
        },
    };
    (path.is_absolute() && path.as_os_str().len() < MAX_PATH).then_some(path)
}

/// Where a path leads, whichever way its `..` are read.
fn one_place(path: &Path) -> io::Result<PathBuf> {
    let place = real(path)?;
    let has_parents = path.components().any(|part| part == Component::ParentDir);
    if has_parents && real(&without_parents(path))? != place {
        return Err(io::Error::other("`..` behind a link"));
    }
    Ok(place)
}

/// `..` takes away the name before it, whatever that is.
fn without_parents(path: &Path) -> PathBuf {
    let mut plain = PathBuf::from("/");
    for part in path.components() {
        match part {
            Component::ParentDir => drop(plain.pop()),
            Component::Normal(name) => plain.push(name),
            _ => {}
        }
    }
    plain
}

/// realpath(3) as far as the path exists; names behind that stay as they are.
fn real(path: &Path) -> io::Result<PathBuf> {
    let mut place = PathBuf::from("/");
    let mut pending = parts(path);
    let (mut links, mut missing) = (0_usize, 0_usize);
    while let Some(part) = pending.pop() {
        match part {
            Part::Parent => {
                place.pop();
                missing = missing.saturating_sub(1);
            }
            Part::Root => place = PathBuf::from("/"),
            Part::Name(name) => {
                place.push(name);
                if missing > 0 {
                    missing += 1;
                    continue;
                }
                match std::fs::symlink_metadata(&place) {
                    Ok(found) if found.is_symlink() => {
                        links += 1;
                        if links > MAX_LINKS {
                            return Err(io::Error::other("too many links"));
                        }
                        let target = std::fs::read_link(&place)?;
                        place.pop();
                        pending.extend(parts(&target));
                    }
                    Ok(_) => {}
                    Err(fault) if fault.kind() == ErrorKind::NotFound => missing = 1,
                    Err(fault) => return Err(fault),
                }
            }
        }
        if place.starts_with("/proc") {
            return Err(io::Error::other("each process has its own /proc"));
        }
    }
    Ok(place)
}

enum Part {
    Root,
    Parent,
    Name(OsString),
}

/// The parts of a path, the first one last.
fn parts(path: &Path) -> Vec<Part> {
    let part = |part: Component<'_>| match part {
        Component::RootDir => Some(Part::Root),
        Component::ParentDir => Some(Part::Parent),
        Component::Normal(name) => Some(Part::Name(name.to_owned())),
        Component::CurDir | Component::Prefix(_) => None,
    };
    let mut parts: Vec<Part> = path.components().filter_map(part).collect();
    parts.reverse();
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use aex_core::tool::{Arguments, Caller, Effect, Permissions, ToolName};
    use std::fs;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::symlink;

    /// `data/in/file`, `data/out` → `secret`, `data/loop` → itself, `data/here` → `data/in`, `secret/key`, and `link` → `data`.
    fn world() -> tempfile::TempDir {
        let world = tempfile::tempdir().unwrap();
        let at = |name: &str| world.path().join(name);
        fs::create_dir_all(at("data/in")).unwrap();
        fs::create_dir(at("secret")).unwrap();
        fs::write(at("data/in/file"), "").unwrap();
        fs::write(at("secret/key"), "").unwrap();
        symlink("../secret", at("data/out")).unwrap();
        symlink("loop", at("data/loop")).unwrap();
        symlink(at("data/in"), at("data/here")).unwrap();
        symlink("data", at("link")).unwrap();
        symlink("/proc/self/root", at("data/proc")).unwrap();
        symlink("/dev/fd/0", at("data/fd")).unwrap();
        symlink(at("nowhere/yet"), at("data/dangling")).unwrap();
        world
    }

    /// What a rule with `under` makes of a path: as one that allows, and as one that denies.
    fn effects(world: &Path, folder: &str, path: &str) -> (Effect, Effect) {
        let effect = |rule: &str, global: &str| {
            let text = format!(
                r#"{{"file":"f","global_policy":{{"effect":"{global}"}},"rules":[{{"effect":"{rule}","line":1,"name":"r","when":{{"/path":{{"under":[{}]}}}}}}],"standing":"loaded"}}"#,
                serde_json::to_string(folder).unwrap()
            );
            let permissions = Permissions::parse(&text).unwrap();
            let (caller, tool) = (Caller::default(), ToolName::parse("fs.read").unwrap());
            let arguments = Arguments::parse(&serde_json::json!({ "path": path }).to_string()).unwrap();
            let bases = Bases { cwd: Some(world.join("data/in")), home: Some(world.join("data")) };
            let resolved = answers(&permissions.questions(&caller, &tool, &arguments), &bases);
            let facts = permissions.observe(&caller, &tool, &arguments, &resolved);
            permissions.decide(&caller, &tool, &facts).effect
        };
        (effect("allow", "deny"), effect("deny", "allow"))
    }

    #[track_caller]
    fn check(world: &Path, folder: &str, path: &str, wanted: (Effect, Effect)) {
        let (folder, path) = (folder.replace("{w}", world.to_str().unwrap()), path.replace("{w}", world.to_str().unwrap()));
        assert_eq!(effects(world, &folder, &path), wanted, "{path} under {folder}");
    }

    /// Surely in the folder.
    const IN: (Effect, Effect) = (Effect::Allow, Effect::Deny);
    /// Surely not.
    const OUT: (Effect, Effect) = (Effect::Deny, Effect::Allow);
    /// Nobody can tell: neither rule lets it pass.
    const UNKNOWN: (Effect, Effect) = (Effect::Deny, Effect::Deny);

    #[test]
    fn a_path_is_in_a_folder_where_it_really_leads_there() {
        let world = world();
        let world = &world.path().canonicalize().unwrap();
        let rows = [
            ("{w}/data", "{w}/data/in/file", IN),
            ("{w}/data", "{w}/data", IN),
            ("{w}/data/", "{w}//data/./in//", IN),
            ("{w}/data", "{w}/data/new/file", IN),
            ("{w}/data", "{w}/database", OUT),
            ("{w}/data", "{w}/data.", OUT),
            ("{w}/data", "{w}/data/...", IN),
            ("{w}/data", "{w}", OUT),
            ("/", "{w}/secret/key", IN),
            // Out by `..`, also behind what is not there.
            ("{w}/data", "{w}/data/../secret/key", OUT),
            ("{w}/data", "{w}/data/in/../in/file", IN),
            ("{w}/data", "{w}/data/new/../../secret/key", OUT),
            ("{w}/data", "{w}/data/../../../../../../../../etc/passwd", OUT),
            // Out by a link, in by a link.
            ("{w}/data", "{w}/data/out/key", OUT),
            ("{w}/data", "{w}/data/out/new", OUT),
            ("{w}/data", "{w}/link/in/file", IN),
            ("{w}/link", "{w}/data/in/file", IN),
            ("{w}/data", "{w}/data/dangling/x", OUT),
            // Before the link it is data/x, after it x beside secret.
            ("{w}/data", "{w}/data/out/../x", UNKNOWN),
            ("{w}/data", "{w}/data/here/../in/file", IN),
            // Below the server's folder.
            ("{w}/data", "file", IN),
            ("{w}/data", "../../secret/key", OUT),
            ("{w}/data/in", "./x", IN),
            // Below the home of the daemon's user, in rules alone.
            ("~/in", "{w}/data/in/file", IN),
            ("~", "{w}/data/in/file", IN),
            ("{w}/data", "~/in/file", UNKNOWN),
            ("{w}/data", "~root/x", UNKNOWN),
            // Whatever has no one answer.
            ("{w}/data", "{w}/data/loop", UNKNOWN),
            ("{w}/data", "{w}/data/loop/x", UNKNOWN),
            ("{w}/data", "{w}/data/proc/etc/passwd", UNKNOWN),
            ("{w}/data", "{w}/data/fd", UNKNOWN),
            ("/proc", "/proc/self/environ", UNKNOWN),
            ("{w}/data", "/proc/../etc/passwd", UNKNOWN),
            ("{w}/data", "{w}/data/in/file/x", UNKNOWN),
            ("{w}/data", "{w}/data/in\0/file", UNKNOWN),
            ("{w}/data", "{w}/data/in\n", UNKNOWN),
            ("{w}/data", " {w}/secret", UNKNOWN),
            ("{w}/data", "", UNKNOWN),
            ("{w}/data", "file:///etc/passwd", UNKNOWN),
            ("{w}/data", "FILE:/etc/passwd", UNKNOWN),
            ("{w}/data", "http://x/y", UNKNOWN),
        ];
        for (folder, path, wanted) in rows {
            check(world, folder, path, wanted);
        }
        check(world, "{w}/data", &format!("/{}", "x/".repeat(MAX_PATH)), UNKNOWN);
    }

    #[test]
    fn a_name_that_is_no_text_has_no_answer() {
        let world = world();
        let world = &world.path().canonicalize().unwrap();
        let odd = world.join(std::ffi::OsStr::from_bytes(b"data/odd\xff"));
        fs::create_dir(&odd).unwrap();
        symlink(&odd, world.join("data/bytes")).unwrap();
        check(world, "{w}/data", "{w}/data/bytes/x", UNKNOWN);
    }

    #[tokio::test]
    async fn no_question_needs_no_thread() {
        let bases = Bases { cwd: None, home: None };
        assert_eq!(resolve(BTreeSet::new(), bases.clone()).await, Resolved::default());
        let folder = Question { of: Of::Folder, text: "/".to_owned() };
        let mut wanted = Resolved::default();
        wanted.is_at(folder.clone(), "/".to_owned());
        // A folder below a home that nobody has is nowhere, nor is a file below a folder that nobody knows.
        let lost = Question { of: Of::Folder, text: "~/x".to_owned() };
        let relative = Question { of: Of::Argument, text: "x".to_owned() };
        assert_eq!(resolve(BTreeSet::from([folder, lost, relative]), bases).await, wanted);
    }
}
