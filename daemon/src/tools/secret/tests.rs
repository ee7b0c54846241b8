//! References are read, shown and looked up; what goes wrong is told without a value.

use super::*;
use std::collections::BTreeMap;

#[track_caller]
fn reads(source: &str, parts: &[EnvPart], shown: &str) {
    let value = EnvValue::parse(source, Some(Path::new("/u"))).unwrap();
    assert_eq!((value.0.as_slice(), value.shown().as_str()), (parts, shown), "{source}");
}

fn text(text: &str) -> EnvPart {
    EnvPart::Text(text.to_owned())
}

fn env(name: &str) -> EnvPart {
    EnvPart::Env(name.to_owned())
}

#[test]
fn a_value_is_text_and_references_and_shows_the_references_alone() {
    reads("", &[], "");
    reads("sk-1", &[text("sk-1")], "***");
    reads("${env:A_1}", &[env("A_1")], "${env:A_1}");
    reads("${A}", &[env("A")], "${env:A}");
    reads("Bearer ${env:A}!", &[text("Bearer "), env("A"), text("!")], "***${env:A}***");
    reads("${env:A}${env:B}", &[env("A"), env("B")], "${env:A}${env:B}");
    reads("${file:/run/key}", &[EnvPart::File("/run/key".into())], "${file:/run/key}");
    reads("${file:~/a b}", &[EnvPart::File("/u/a b".into())], "${file:/u/a b}");
    reads("${credential:tok-1}", &[EnvPart::Credential("tok-1".to_owned())], "${credential:tok-1}");
    reads("a $b {c} $$", &[text("a $b {c} $$")], "***");
    reads("$${env:A} ${B}", &[text("${env:A} "), env("B")], "***${env:B}");
}

#[track_caller]
fn refuses(source: &str, words: &str) {
    let why = EnvValue::parse(source, None).unwrap_err();
    assert!(why.contains(words), "{source}: {why}");
    assert!(!why.contains("hunter2"), "{source}: {why}");
}

#[test]
fn a_reference_that_means_nothing_is_refused_without_its_text() {
    refuses("${env:A", "has no `}`");
    refuses("${input:hunter2}", "asks a person");
    refuses("${command:hunter2}", "not known; known are ${env:NAME}, ${file:PATH} and ${credential:NAME}");
    refuses("${hunter2!}", "not known");
    refuses("${}", "not known");
    refuses("${env:}", "names no variable");
    refuses("${env:1A}", "names no variable");
    refuses("${A:-hunter2}", "no default: write ${env:A}");
    refuses("${file:key}", "no absolute path");
    refuses("${file:~/key}", "no absolute path");
    refuses("${file:~root/key}", "no absolute path");
    refuses("${credential:../x}", "no file of a folder");
    refuses("${credential:..}", "no file of a folder");
    refuses("hunter2\0", "no NUL");
}

#[test]
fn variables_that_run_code_of_others_are_no_tools() {
    for name in ["LD_PRELOAD", "LD_AUDIT", "LD_LIBRARY_PATH", "NODE_OPTIONS", "BASH_ENV", "PERL5OPT", "_JAVA_OPTIONS", "ENV"] {
        assert!(check_name(name).unwrap_err().contains("code of others"), "{name}");
    }
    for name in ["", "A=B", "A B", "A\n"] {
        assert!(check_name(name).unwrap_err().contains("the name of a variable"), "{name:?}");
    }
    for name in ["PATH", "HOME", "NODE_PATH", "PYTHONPATH", "my.dotted-name", "OLD_LD_PRELOAD"] {
        assert_eq!(check_name(name), Ok(()), "{name}");
    }
}

#[track_caller]
fn exposes(name: &str, value: &str, expected: bool) {
    assert_eq!(is_exposed(name, &EnvValue::parse(value, None).unwrap()), expected, "{name}={value}");
}

#[test]
fn a_secret_that_is_written_out_is_known_by_its_name_or_its_beginning() {
    exposes("GITHUB_TOKEN", "abcdef", true);
    exposes("GITHUB_PERSONAL_ACCESS_TOKEN", "${env:T}", false);
    exposes("api-key", "abcdef", true);
    exposes("OTHER", "ghp_abc", true);
    exposes("NOTE", "sk-abc", true);
    exposes("DB_PASSWORD", "", false);
    exposes("USE_AUTH", "true", false);
    exposes("MONKEY", "abcdefgh", false);
    exposes("LOG_LEVEL", "debugging", false);
}

fn server(values: &[(&str, &str)]) -> Server {
    let env = values.iter().map(|(name, value)| ((*name).to_owned(), EnvValue::parse(value, None).unwrap())).collect();
    Server { env, ..Server::named("s", "true") }
}

fn looked_up(values: &[(&str, &str)], credentials: Option<&Path>) -> Result<Resolved, String> {
    let variables = BTreeMap::from([("A", "value-a"), ("EMPTY", "")]);
    let variable = |name: &str| variables.get(name).map(|value| (*value).to_owned());
    resolve(&server(values), &Sources { variable: &variable, credentials })
}

#[test]
fn an_environment_is_what_it_refers_to_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key");
    let named = format!("${{file:{}}}", path.display());
    std::fs::write(&path, "one\r\n").unwrap();
    std::fs::write(folder.path().join("cred"), "two\nlines\n\n").unwrap();
    let values =
        [("FILE", named.as_str()), ("MIXED", "x ${A} y"), ("PLAIN", "text"), ("SECRET", "${credential:cred}"), ("TOKEN", "written")];
    let found = looked_up(&values, Some(folder.path())).unwrap();
    let wanted = [("FILE", "one"), ("MIXED", "x value-a y"), ("PLAIN", "text"), ("SECRET", "two\nlines\n"), ("TOKEN", "written")];
    assert_eq!(found.env, wanted.map(|(name, value)| (name.to_owned(), value.to_owned())));
    let secrets: Vec<&str> = found.secrets.iter().map(Secret::expose).collect();
    assert_eq!(secrets, ["one", "value-a", "two\nlines\n", "written"]);
    // At the next start, another value.
    std::fs::write(&path, "three").unwrap();
    assert_eq!(looked_up(&values, Some(folder.path())).unwrap().env[0].1, "three");
}

#[track_caller]
fn is_missing(value: &str, credentials: Option<&Path>, words: &str) {
    let why = looked_up(&[("X", value)], credentials).map(|_| ()).unwrap_err();
    assert!(why.starts_with("its variable X is missing: ") && why.contains(words), "{value}: {why}");
    assert!(!why.contains("hunter2"), "{why}");
}

#[test]
fn what_is_missing_is_named_and_its_value_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        std::fs::write(folder.path().join(name), bytes).unwrap();
        format!("${{credential:{name}}}")
    };
    let here = Some(folder.path());
    is_missing("${NOT_SET}", None, "neither the daemon's environment nor .env sets NOT_SET");
    is_missing("${EMPTY}", None, "sets EMPTY");
    is_missing("${credential:x}", None, "CREDENTIALS_DIRECTORY is not set");
    is_missing("${credential:x}", here, "No such file");
    is_missing("${file:/dev/zero}", here, "/dev/zero: it is no file");
    is_missing(&file("empty", b"\n"), here, "it is empty");
    is_missing(&file("nul", b"hunter2\0"), here, "it holds a NUL");
    is_missing(&file("bytes", b"hunter2\xff"), here, "UTF-8");
    is_missing(&file("long", &[b'x'; 65_537]), here, "larger than 65536 bytes");
    let pipe = folder.path().join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    is_missing("${credential:pipe}", here, "it is no file");
}
