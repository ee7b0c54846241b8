//! permissions.json beside the other files: what keeps a start going and what does not.

use super::*;
use aex_core::tool::{Effect, Permissions, Standing};

fn with_file(write: impl FnOnce(&std::path::Path)) -> Home {
    let home = home(SEED);
    write(&home.paths.config_dir.join(PERMISSIONS_FILE));
    home
}

/// Puts a file in its place.
type Write<'w> = &'w dyn Fn(&std::path::Path);

#[test]
fn whatever_is_wrong_with_permissions_denies_all_tools_and_stops_nothing() {
    let large = format!("{{\"global_policy\": \"allow\"{}}}", " ".repeat(4 << 20));
    let rows: [(Write<'_>, &str); 5] = [
        (&|file| fs::write(file, "{").unwrap(), "permissions.json:1: no JSON: EOF while parsing an object"),
        (&|file| fs::write(file, b"{\"\xff\": 1}").unwrap(), "permissions.json: expected UTF-8 text"),
        (&|file| fs::create_dir(file).unwrap(), "permissions.json: cannot read "),
        (&|file| fs::write(file, &large).unwrap(), "permissions.json: cannot read "),
        (&|file| fs::write(file, "").unwrap(), "permissions.json:1: no JSON: EOF while parsing a value"),
    ];
    for (write, wanted) in rows {
        let config = with_file(write).load().unwrap();
        let told: Vec<String> = config.permissions_errors.iter().map(ToString::to_string).collect();
        assert!(told.len() == 1 && told[0].starts_with(wanted), "{told:?}");
        assert_eq!(config.permissions, Permissions::refused(PERMISSIONS_FILE), "{wanted}");
        assert_eq!(config.permissions.spec().global_policy.effect, Effect::Deny);
    }
}

#[test]
fn without_the_file_nothing_is_wrong_and_nothing_is_allowed() {
    let config = home(SEED).load().unwrap();
    assert_eq!((config.permissions, config.permissions_errors), (Permissions::absent(PERMISSIONS_FILE), Vec::new()));
    let config = with_file(|file| fs::write(file, PERMISSIONS_JSON).unwrap()).load().unwrap();
    let spec = config.permissions.spec();
    assert_eq!((spec.standing, spec.global_policy.effect, spec.rules.len()), (Standing::Loaded, Effect::Deny, 0));
}

#[test]
fn the_digest_follows_permissions_and_is_the_old_one_without_them() {
    let digest = |text: Option<&str>| {
        let home = with_file(|file| text.into_iter().for_each(|text| fs::write(file, text).unwrap()));
        home.load().unwrap().digest
    };
    let (none, empty, open) = (digest(None), digest(Some("{}")), digest(Some("{\"global_policy\": \"allow\"}")));
    assert!(none != empty && empty != open && none != open);
    assert_eq!(digest(Some("{}")), empty);
    // As ledgers have it from before there were permissions.
    let text = format!("0\n{SEED}");
    assert_eq!(none, aex_proto::value::Digest::of(text.as_bytes()));
}
