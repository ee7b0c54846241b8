//! Accounts in the words of a refusal: what each is called, and which commands show it and lift what stops it.

use aex_core::books::AccountKind;
use aex_core::decision::Named;

/// What it is called: "group `research`".
pub(super) fn called(account: &Named) -> String {
    let name = &account.name;
    match account.kind {
        Some(AccountKind::Root) => format!("this machine (account `{name}`)"),
        Some(AccountKind::Group) => format!("group `{name}`"),
        _ if is_run(account) => format!("this run ({name})"),
        Some(AccountKind::Agent) => format!("agent `{name}`"),
        Some(AccountKind::Run) | None => format!("`{name}`"),
    }
}

/// The same at the beginning of a sentence.
pub(super) fn subject(account: &Named) -> String {
    let called = called(account);
    let mut letters = called.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// The form of it that names no other account, as commands take it: `group:research`.
pub(super) fn reference(account: &Named) -> String {
    let name = &account.name;
    match account.kind {
        Some(AccountKind::Root) => "root".to_owned(),
        Some(AccountKind::Group) => format!("group:{name}"),
        _ if is_run(account) => format!("run_{}", account.id),
        Some(AccountKind::Agent) => format!("agent:{name}"),
        Some(AccountKind::Run) | None => name.clone(),
    }
}

/// The command that shows its limits; none for a run, which its own command ends.
pub(super) fn inspect(account: &Named) -> Option<String> {
    let name = &account.name;
    match account.kind {
        Some(AccountKind::Root) => Some("aexctl budget show root".to_owned()),
        Some(AccountKind::Group) => Some(format!("aexctl budget show group:{name}")),
        _ if is_run(account) => None,
        _ => Some(format!("aexctl agent inspect {name}")),
    }
}

/// The command that lifts a pause, a suspension or a kill.
pub(super) fn resume(account: &Named) -> String {
    let name = &account.name;
    match account.kind {
        Some(AccountKind::Root) => "aexctl resume --all".to_owned(),
        Some(AccountKind::Group) => format!("aexctl resume group:{name}"),
        _ if is_run(account) => format!("aexctl resume run_{}", account.id),
        _ => format!("aexctl agent resume {name}"),
    }
}

/// A run is an account of its own, named by the daemon. Events of the first ledgers do not tell its kind.
pub(super) fn is_run(account: &Named) -> bool {
    account.name.strip_prefix("run-").is_some_and(|number| !number.is_empty() && number.bytes().all(|digit| digit.is_ascii_digit()))
}
