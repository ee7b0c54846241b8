//! Every change is held against the bytes that are to be there, and against what the reader makes of them.

use super::*;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::BTreeMap;

const ENTRY: &str = "{\n  \"command\": \"x\"\n}";

const FILE: &str = r#"{
  // My servers.
  "mcpServers": {
    "one": { "command": "a", "args": ["}", "{\"", ","] }, // the first
    /* the second */
    "two": {
      "disabled": false,
      "command": "b", // why b
    },
  },
  "other": [1, {"mcpServers": 2}],
}
"#;

#[track_caller]
fn adds(source: Option<&str>, wanted: &str) {
    assert_eq!(add(source, "new", ENTRY).unwrap(), wanted);
}

#[test]
fn a_server_is_added_behind_the_others() {
    let fresh = "{\n  \"mcpServers\": {\n    \"new\": {\n      \"command\": \"x\"\n    }\n  }\n}\n";
    adds(None, fresh);
    adds(Some(" \n"), fresh);
    adds(Some("{}"), "{\n  \"mcpServers\": {\n    \"new\": {\n      \"command\": \"x\"\n    }\n  }\n}");
    adds(Some("{\"mcpServers\": {}}"), "{\"mcpServers\": {\n    \"new\": {\n      \"command\": \"x\"\n    }\n  }}");
    adds(
        Some("{\n\t\"mcpServers\": {\n\t\t\"a\": {}\n\t}\n}\n"),
        "{\n\t\"mcpServers\": {\n\t\t\"a\": {},\n\t\t\"new\": {\n\t\t  \"command\": \"x\"\n\t\t}\n\t}\n}\n",
    );
    let wanted = FILE.replace("    },\n  },", "    },\n    \"new\": {\n      \"command\": \"x\"\n    }\n  },");
    adds(Some(FILE), &wanted);
    let remark = "{\"mcpServers\": {\n  \"a\": {} // about a\n}}";
    adds(Some(remark), "{\"mcpServers\": {\n  \"a\": {}, // about a\n  \"new\": {\n    \"command\": \"x\"\n  }\n}}");
    let other = "{\n  \"inputs\": []\n}";
    adds(Some(other), "{\n  \"inputs\": [],\n  \"mcpServers\": {\n    \"new\": {\n      \"command\": \"x\"\n    }\n  }\n}");
}

#[test]
fn a_name_is_added_once() {
    assert_eq!(add(Some(FILE), "two", ENTRY), Err(EditFault::Exists("two".to_owned())));
    let escaped = "{\"mcpServers\": {\"t\\u0077o\": {}}}";
    assert_eq!(add(Some(escaped), "two", ENTRY), Err(EditFault::Exists("two".to_owned())));
    // What stands elsewhere is no server.
    assert!(add(Some(FILE), "mcpServers", ENTRY).is_ok());
}

#[track_caller]
fn removes(source: &str, name: &str, wanted: &str) {
    assert_eq!(remove(source, name).unwrap(), wanted, "{source}");
}

#[test]
fn a_server_is_taken_out_with_its_comma_and_nothing_else() {
    removes("{\"mcpServers\": {\"a\": {}, \"b\": 1, \"c\": []}}", "a", "{\"mcpServers\": { \"b\": 1, \"c\": []}}");
    removes("{\"mcpServers\": {\"a\": {}, \"b\": 1, \"c\": []}}", "b", "{\"mcpServers\": {\"a\": {}, \"c\": []}}");
    removes("{\"mcpServers\": {\"a\": {}, \"b\": 1, \"c\": []}}", "c", "{\"mcpServers\": {\"a\": {}, \"b\": 1}}");
    removes("{\"mcpServers\": {\n  \"a\": {}\n}}", "a", "{\"mcpServers\": {\n}}");
    removes("{\"mcpServers\": {\n  \"a\": {},\n  \"b\": {},\n}}", "b", "{\"mcpServers\": {\n  \"a\": {},\n}}");
    let wanted = FILE.replace("\n    \"one\": { \"command\": \"a\", \"args\": [\"}\", \"{\\\"\", \",\"] },", "");
    removes(FILE, "one", &wanted);
    // A comment before the last one stays.
    removes("{\"mcpServers\": {\n  \"a\": {}, // x\n  \"b\": {}\n}}", "b", "{\"mcpServers\": {\n  \"a\": {} // x\n  \n}}");
}

#[test]
fn a_comment_is_not_lost() {
    assert_eq!(remove(FILE, "two"), Err(EditFault::Comment("two".to_owned())));
    assert_eq!(remove(FILE, "other"), Err(EditFault::NotFound("other".to_owned())));
    assert_eq!(remove("{}", "a"), Err(EditFault::NotFound("a".to_owned())));
}

#[track_caller]
fn switches(entry: &str, enabled: bool, wanted: &str) {
    let around = |entry: &str| format!("{{\"mcpServers\": {{\"a\": {entry}, \"b\": {{\"disabled\": false}}}}}}");
    assert_eq!(set_enabled(&around(entry), "a", enabled).unwrap(), around(wanted));
}

#[test]
fn a_server_is_switched_in_its_own_word() {
    switches("{\"command\": \"x\"}", false, "{\"command\": \"x\", \"disabled\": true}");
    switches("{\"command\": \"x\",}", false, "{\"command\": \"x\", \"disabled\": true}");
    switches("{\"command\": \"x\"}", true, "{\"command\": \"x\"}");
    switches("{\"disabled\": true, \"command\": \"x\"}", true, "{\"disabled\": false, \"command\": \"x\"}");
    switches("{\"enabled\": true, \"command\": \"x\"}", false, "{\"enabled\": false, \"command\": \"x\"}");
    switches("{\"env\": {\"disabled\": \"1\"}}", false, "{\"env\": {\"disabled\": \"1\"}, \"disabled\": true}");
    let lines = "{\n  \"command\": \"x\" // why\n}";
    switches(lines, false, "{\n  \"command\": \"x\", // why\n  \"disabled\": true\n}");
    assert_eq!(set_enabled(FILE, "two", false).unwrap(), FILE.replace("\"disabled\": false", "\"disabled\": true"));
    assert_eq!(set_enabled(FILE, "three", false), Err(EditFault::NotFound("three".to_owned())));
}

#[test]
fn what_is_no_object_is_left_alone() {
    for source in ["[]", "{\"mcpServers\": []}", "1"] {
        assert_eq!(add(Some(source), "a", ENTRY), Err(EditFault::Form), "{source}");
        assert_eq!(remove(source, "a"), Err(EditFault::Form), "{source}");
    }
}

/// What a reader makes of a text.
fn servers(source: &str) -> BTreeMap<String, Value> {
    let read: Value = serde_json::from_str(&jsonc::plain(source).json).unwrap();
    read.get("mcpServers").and_then(Value::as_object).cloned().unwrap_or_default().into_iter().collect()
}

proptest! {
    #[test]
    fn a_change_changes_one_server(
        names in prop::collection::btree_set("[a-c\"\\\\{,/*]{1,3}", 0..5),
        pretty in any::<bool>(),
        which in any::<prop::sample::Index>(),
    ) {
        let all: serde_json::Map<String, Value> =
            names.iter().map(|name| (name.clone(), json!({"command": name, "args": [name, "//", ",}"]}))).collect();
        let file = json!({"a": 1, "mcpServers": all, "z": {"mcpServers": {}}});
        let source = if pretty { serde_json::to_string_pretty(&file) } else { serde_json::to_string(&file) }.unwrap();
        let mut model = servers(&source);
        let added = add(Some(&source), "new", ENTRY).unwrap();
        model.insert("new".to_owned(), json!({"command": "x"}));
        prop_assert_eq!(servers(&added), model.clone());
        let off = set_enabled(&added, "new", false).unwrap();
        prop_assert_eq!(&servers(&off)["new"], &json!({"command": "x", "disabled": true}));
        let on = set_enabled(&off, "new", true).unwrap();
        prop_assert_eq!(&servers(&on)["new"], &json!({"command": "x", "disabled": false}));
        let all: Vec<String> = model.keys().cloned().collect();
        let gone = which.get(&all);
        model.remove(gone);
        prop_assert_eq!(servers(&remove(&added, gone).unwrap()), model);
        // What was added and taken out again has left nothing.
        prop_assert_eq!(servers(&remove(&added, "new").unwrap()), servers(&source));
    }
}
