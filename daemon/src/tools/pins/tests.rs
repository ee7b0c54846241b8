//! Tests of `pins`.

use super::*;
use serde_json::{Value, json};

fn listing(tools: &[(&str, &str)]) -> Arc<Listing> {
    let tool = |(name, description): &(&str, &str)| {
        let told: Value = json!({"name": name, "description": description, "inputSchema": {"type": "object"}});
        serde_json::from_value::<Tool>(told).unwrap()
    };
    Arc::new(Listing { tools: tools.iter().map(tool).collect(), ..Listing::default() })
}

fn told(told: &[Told]) -> Vec<(PinChange, String)> {
    told.iter().map(|told| (told.what, told.pins.keys().cloned().collect::<Vec<_>>().join(" "))).collect()
}

/// What is offered, and what is not.
async fn screened(pins: &Pins, server: &Server, raw: &Arc<Listing>) -> (String, String, Vec<(PinChange, String)>) {
    let looked = pins.screen(server, Arc::clone(raw)).await;
    let events = looked.told.clone();
    let outcome = pins.keep(looked).listing;
    let good: Vec<&str> = outcome.tools.iter().map(|tool| &*tool.name).collect();
    let bad: Vec<&str> = outcome.quarantined.iter().map(|bad| bad.name.as_str()).collect();
    (good.join(" "), bad.join(" "), told(&events))
}

fn open() -> (tempfile::TempDir, PathBuf, Pins) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tools/pins.json");
    (folder, path.clone(), Pins::open(path))
}

fn outcome(good: &str, bad: &str, told: &[(PinChange, &str)]) -> (String, String, Vec<(PinChange, String)>) {
    (good.to_owned(), bad.to_owned(), told.iter().map(|(what, tools)| (*what, (*tools).to_owned())).collect())
}

#[tokio::test]
async fn a_tool_is_what_it_was_first_or_what_a_person_approved() {
    let (_folder, path, pins) = open();
    let server = Server::named("fs", "x");
    let first = listing(&[("a", "one"), ("b", "two")]);
    assert_eq!(screened(&pins, &server, &first).await, outcome("a b", "", &[(PinChange::FirstUse, "a b")]));
    assert_eq!(screened(&pins, &server, &first).await, outcome("a b", "", &[]));
    // Another server's tools are its own.
    assert_eq!(screened(&pins, &Server::named("other", "x"), &first).await.2.len(), 1);

    let pins = Pins::open(path.clone());
    let second = listing(&[("b", "TWO"), ("c", "three")]);
    let wanted = [(PinChange::FirstUse, "c"), (PinChange::Changed, "b"), (PinChange::Removed, "a")];
    assert_eq!(screened(&pins, &server, &second).await, outcome("c", "b", &wanted));
    // A change is told once, however often the server goes to and fro.
    assert_eq!(screened(&pins, &server, &first).await, outcome("a b", "", &[(PinChange::Removed, "c")]));
    let again = listing(&[("b", "TWO"), ("c", "three")]);
    assert_eq!(screened(&pins, &server, &again).await, outcome("c", "b", &[]));

    let [review] = pins.review("fs", None).try_into().unwrap();
    let differences = Definition::differences(review.old.as_ref(), review.new.as_ref().unwrap());
    assert_eq!((review.tool.as_str(), differences[0].old.as_deref(), differences[0].new.as_deref()), ("b", Some("two"), Some("TWO")));
    let shown = |tool: &str, digest: Digest| BTreeMap::from([(tool.to_owned(), digest)]);
    let otherwise = |tool: &str| Err(NotApproved::Otherwise(tool.to_owned()));
    assert_eq!(pins.approve("fs", &shown("b", Digest::ZERO)).await, otherwise("b"));
    assert_eq!(pins.approve("fs", &shown("c", review.digest)).await, otherwise("c"));
    assert_eq!(pins.approve("fs", &shown("b", review.digest)).await, Ok(()));
    assert_eq!(screened(&pins, &server, &again).await, outcome("b c", "", &[]));
    assert_eq!(screened(&Pins::open(path), &server, &first).await.1, "b");
}

#[tokio::test]
async fn where_a_person_has_to_approve_nothing_new_is_trusted() {
    let (_folder, _path, pins) = open();
    let server = Server { trust: Trust::Approve, ..Server::named("fs", "x") };
    let list = listing(&[("a", "one")]);
    assert_eq!(screened(&pins, &server, &list).await, outcome("", "a", &[(PinChange::Unapproved, "a")]));
    assert_eq!(pins.quarantined("fs"), BTreeMap::from([("a".to_owned(), "nobody has approved it yet".to_owned())]));
    let digest = pins.review("fs", Some("a"))[0].digest;
    pins.approve("fs", &BTreeMap::from([("a".to_owned(), digest)])).await.unwrap();
    assert_eq!(screened(&pins, &server, &list).await, outcome("a", "", &[]));
    // The configuration may change with the list as it is.
    let first_use = Server { trust: Trust::FirstUse, ..server.clone() };
    let more = listing(&[("a", "one"), ("b", "two")]);
    assert_eq!(screened(&pins, &server, &more).await.1, "b");
    assert_eq!(screened(&pins, &first_use, &more).await, outcome("a b", "", &[(PinChange::FirstUse, "b")]));
}

#[tokio::test]
async fn what_cannot_be_read_or_written_is_not_trusted_and_never_emptied() {
    let (_folder, path, pins) = open();
    let server = Server::named("fs", "x");
    let list = listing(&[("a", "one")]);
    screened(&pins, &server, &list).await;
    let good = std::fs::read_to_string(&path).unwrap();
    for damaged in ["", "{}", r#"{"version":2,"servers":{}}"#, good.get(..good.len() - 2).unwrap()] {
        std::fs::write(&path, damaged).unwrap();
        let pins = Pins::open(path.clone());
        assert!(pins.problem().unwrap().contains("pins.json: "));
        assert_eq!(screened(&pins, &server, &list).await, outcome("", "a", &[]), "{damaged}");
        let digest = pins.review("fs", None)[0].digest;
        assert!(matches!(pins.approve("fs", &BTreeMap::from([("a".to_owned(), digest)])).await, Err(NotApproved::File(_))));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), damaged);
        std::fs::write(&path, &good).unwrap();
        pins.mend().await;
        assert_eq!(screened(&pins, &server, &list).await, outcome("a", "", &[]));
    }
    // A folder in its place takes no file.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file/pins.json");
    let pins = Pins::open(path);
    std::fs::write(folder.path().join("file"), "").unwrap();
    assert_eq!(screened(&pins, &server, &list).await, outcome("", "a", &[]));
}
