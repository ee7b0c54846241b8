//! models.yaml, policy.yaml and permissions.json: a text is taken or refused with lines that are there, the same each time, and a text that is taken has what
//! it says.

use aex_core::tool::{Effect, Permissions};
use aexd::config::{Catalog, ConfigErrors, MODELS_YAML, Warning, check_catalog, check_permissions, check_policy, read_cases};
use std::path::Path;
use std::sync::LazyLock;

/// Files that a text names are in no folder.
const NOWHERE: &str = "/nonexistent";

/// The catalog that policies are read against: the one that `aexctl init` writes.
static CATALOG: LazyLock<Catalog> = LazyLock::new(|| check_catalog(MODELS_YAML, Path::new(NOWHERE)).0.expect("the catalog of every day"));

/// A models.yaml.
pub fn models(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    // Such a name may be of a device that never ends.
    if text.contains("ca_file") {
        return;
    }
    let read = || check_catalog(text, Path::new(NOWHERE));
    let (catalog, warnings) = read();
    told(text, catalog.as_ref().err(), &warnings);
    match (catalog, read().0) {
        (Ok(catalog), Ok(again)) => {
            assert_eq!(catalog.models, again.models, "the same text, the same models");
            assert!(!catalog.models.is_empty() && !catalog.providers.is_empty());
            for card in &catalog.models {
                assert!(text.contains(&card.name) || text.contains(['\\', '&', '*', '\'', '"', '\n']), "{} stands nowhere", card.name);
                assert_eq!(catalog.model(&card.name).map(|found| &found.name), Some(&card.name));
                assert!(catalog.provider_of(card).is_some(), "{} has no provider", card.name);
                assert!(card.max_tokens > 0 && card.context_tokens.is_none_or(|tokens| tokens > 0));
                let (snapshot, _) = card.snapshot();
                let back: aex_core::price::ModelCard = serde_json::from_str(&snapshot).expect("a card is read back");
                assert_eq!(&back, card);
            }
            assert!(catalog.model(&catalog.default_model).is_some());
        }
        (Err(one), Err(other)) => assert_eq!(one, other),
        (one, other) => panic!("{one:?}, and then {other:?}"),
    }
}

/// A policy.yaml; and the same text as cases of `policy test`.
pub fn policy(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let read = || check_policy("policy.yaml", text, &CATALOG);
    let (profiles, warnings) = read();
    told(text, profiles.as_ref().err(), &warnings);
    match (profiles, read().0) {
        (Ok(profiles), Ok(again)) => {
            assert_eq!(format!("{profiles:?}"), format!("{again:?}"), "the same text, the same profiles");
            for (at, profile) in profiles.0.iter().enumerate() {
                assert!(profiles.0.iter().take(at).all(|earlier| earlier.origin.name != profile.origin.name), "a profile twice");
                let names: Vec<&String> = profile.rules.iter().map(|rule| &rule.name).collect();
                assert!(names.iter().enumerate().all(|(at, name)| !names[..at].contains(name)), "a rule twice");
            }
        }
        (Err(one), Err(other)) => assert_eq!(one, other),
        (one, other) => panic!("{one:?}, and then {other:?}"),
    }
    if let Err(errors) = read_cases("cases.yaml", text) {
        told(text, Some(&errors), &[]);
    }
}

/// A permissions.json: what is taken is JSON to everybody, allows nothing that it does not say, and comes back from its snapshot.
pub fn permissions(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let (permissions, warnings) = check_permissions("permissions.json", text);
    told(text, permissions.as_ref().err(), &warnings);
    let Ok(permissions) = permissions else { return };
    let json: serde_json::Value = serde_json::from_str(text.trim_start_matches('\u{feff}')).expect("it is JSON");
    assert_eq!(Permissions::parse(&permissions.snapshot().0).as_ref(), Ok(&permissions), "a snapshot is read back");
    assert_eq!(permissions.spec().global_policy.effect == Effect::Allow, json["global_policy"] == "allow");
    let stated = json["rules"].as_object().map_or_else(|| json["rules"].as_array().map_or(0, Vec::len), serde_json::Map::len);
    assert_eq!(permissions.spec().rules.len(), stated, "each rule counts once");
    for rule in permissions.spec().rules.iter().filter(|rule| rule.effect == Effect::Allow) {
        let says = |value: &serde_json::Value| value == "allow" || value["effect"] == "allow";
        let by_key = rule.tool_name.as_ref().is_some_and(|name| says(&json["rules"][name]));
        let by_place = || json["rules"].as_array().is_some_and(|rules| rules.iter().any(says));
        assert!(by_key || by_place(), "{} allows", rule.name);
    }
}

/// What is wrong has words, and a line of the text when it has one.
fn told(text: &str, errors: Option<&ConfigErrors>, warnings: &[Warning]) {
    let lines = text.split(['\n', '\r']).count() as u64;
    assert!(errors.is_none_or(|errors| !errors.0.is_empty()), "refused without a reason");
    for problem in errors.iter().flat_map(|errors| &errors.0).chain(warnings) {
        assert!(!problem.text.is_empty() && !problem.text.contains('\n'), "one line: {problem}");
        assert!(problem.line.is_none_or(|line| (1..=lines + 1).contains(&line)), "{problem}: there are {lines} lines");
    }
}
