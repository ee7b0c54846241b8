//! models.yaml and policy.yaml: a text is taken or refused with lines that are there, the same each time, and a text that is taken has what
//! it says.

use aexd::config::{Catalog, ConfigErrors, MODELS_YAML, Warning, check_catalog, check_policy, read_cases};
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

/// What is wrong has words, and a line of the text when it has one.
fn told(text: &str, errors: Option<&ConfigErrors>, warnings: &[Warning]) {
    let lines = text.split(['\n', '\r']).count() as u64;
    assert!(errors.is_none_or(|errors| !errors.0.is_empty()), "refused without a reason");
    for problem in errors.iter().flat_map(|errors| &errors.0).chain(warnings) {
        assert!(!problem.text.is_empty() && !problem.text.contains('\n'), "one line: {problem}");
        assert!(problem.line.is_none_or(|line| (1..=lines + 1).contains(&line)), "{problem}: there are {lines} lines");
    }
}
