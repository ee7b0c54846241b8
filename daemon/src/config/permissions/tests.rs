//! permissions.json: what each form of it means, and what is refused with which line.

use super::*;
use aex_core::tool::{Arguments, Caller, Facts, ToolName};

fn read_file(source: &str) -> (Option<Permissions>, Vec<String>, Vec<String>) {
    let mut report = Report::new("permissions.json");
    let read = read(source, &mut report);
    let words = |problems: &[super::super::report::Problem]| problems.iter().map(ToString::to_string).collect();
    let (errors, warnings) = (words(&report.errors), words(&report.warnings));
    (read, errors, warnings)
}

#[track_caller]
fn good(source: &str) -> Permissions {
    let (read, errors, _) = read_file(source);
    assert_eq!(errors, [""; 0], "{source}");
    read.unwrap()
}

/// All that is wrong, to the letter.
#[track_caller]
fn bad(source: &str, wanted: &[&str]) {
    let (read, errors, _) = read_file(source);
    assert_eq!(errors, wanted, "{source}");
    assert_eq!(read, None, "{source}");
}

#[track_caller]
fn decides(permissions: &Permissions, tool: &str, wanted: &str) {
    let (caller, tool) = (Caller { agent: "a".to_owned(), groups: Vec::new() }, ToolName::parse(tool).unwrap());
    let verdict = permissions.decide(&caller, &tool, &Facts::default());
    let by = verdict.by;
    let said = format!("{} {} {}:{}", verdict.effect.name(), by.rule, by.file, by.line.unwrap_or(0));
    assert_eq!(said, wanted, "{tool}");
}

/// The earlier program's own sample.
const SEED: &str = "{\n  \"version\": \"1.0\",\n  \"global_policy\": \"deny\",\n  \"rules\": {\n    \"calculate_sum\": \"allow\",\n    \"delete_system32\": \"deny\"\n  }\n}\n";

#[test]
fn the_seeds_file_means_what_it_meant() {
    let seed = good(SEED);
    decides(&seed, "mock.calculate_sum", "allow rules.calculate_sum permissions.json:5");
    decides(&seed, "other.calculate_sum", "allow rules.calculate_sum permissions.json:5");
    decides(&seed, "mock.delete_system32", "deny rules.delete_system32 permissions.json:6");
    decides(&seed, "mock.unknown", "deny global_policy permissions.json:3");
    // No version, and a rule wins over the global policy, whichever it is.
    let open = good(r#"{"global_policy": "allow", "rules": {"rm": "deny", "ls": "allow"}}"#);
    decides(&open, "a.rm", "deny rules.rm permissions.json:1");
    decides(&open, "a.ls", "allow rules.ls permissions.json:1");
    decides(&open, "a.cat", "allow global_policy permissions.json:1");
    // A name is a name there: no patterns, no server before it.
    let literal = good(r#"{"global_policy": "deny", "rules": {"*": "allow", "mock.sum": "allow"}}"#);
    decides(&literal, "mock.sum", "deny global_policy permissions.json:1");
    decides(&literal, "mock.mock.sum", "allow rules.mock.sum permissions.json:1");
    decides(&literal, "mock.*", "allow rules.* permissions.json:1");
    for nothing in ["{}", r#"{"rules": {}}"#, r#"{"rules": []}"#, "\u{feff}{}"] {
        decides(&good(nothing), "a.b", "deny global_policy permissions.json:0");
    }
}

#[test]
fn only_the_exact_word_allow_allows() {
    for word in ["Allow", "ALLOW", "allow ", " allow", "allowed", "yes", "true", "ask", "", "deny"] {
        let source = format!("{{\"global_policy\": \"{word}\", \"rules\": {{\"t\": \"{word}\"}}}}");
        let (permissions, errors, warnings) = read_file(&source);
        assert_eq!(errors, [""; 0]);
        let permissions = permissions.unwrap();
        decides(&permissions, "s.t", "deny rules.t permissions.json:1");
        decides(&permissions, "s.u", "deny global_policy permissions.json:1");
        assert_eq!(warnings.len(), if word == "deny" { 0 } else { 2 }, "{word}: {warnings:?}");
    }
    let (_, _, warnings) = read_file(r#"{"rules": {"t": "ask"}}"#);
    let wanted = "permissions.json:1: rules.t: \"ask\" denies, as every word but \"allow\" does; to ask, write {\"effect\": \"ask\"}";
    assert_eq!(warnings, [wanted]);
    bad(r#"{"global_policy": true}"#, &["permissions.json:1: global_policy: expected text, found true"]);
    bad(
        r#"{"rules": {"t": true}}"#,
        &[r#"permissions.json:1: rules.t: expected "allow", "deny", or an object with an effect, found true"#],
    );
}

#[test]
fn map_and_list_are_two_spellings_of_one_law() {
    let map = good("{\"rules\": {\n\"read\": {\"effect\": \"ask\", \"agent\": \"bob\"},\n\"list\": \"allow\"}}");
    let list = good(
        "{\"rules\": [\n{\"effect\": \"ask\", \"agent\": [\"bob\"], \"tool\": \"read\"},\n{\"effect\": \"allow\", \"tool\": \"list\"}]}",
    );
    for (tool, agent, effect, line) in
        [("s.read", "bob", Effect::Ask, 2), ("s.read", "eve", Effect::Deny, 0), ("s.list", "eve", Effect::Allow, 3)]
    {
        let (caller, tool) = (Caller { agent: agent.to_owned(), groups: Vec::new() }, ToolName::parse(tool).unwrap());
        for permissions in [&map, &list] {
            let verdict = permissions.decide(&caller, &tool, &Facts::default());
            assert_eq!((verdict.effect, verdict.by.line.unwrap_or(0)), (effect, line), "{tool} {agent}");
        }
    }
}

/// A rule with each of its keys.
const FULL: &str = r#"{
  "rules": [
    {"name": "all", "effect": "allow", "agent": ["a", "b*"], "group": "g", "server": "fs", "tool": ["read_*", "x.y"],
     "when": {
       "/path": {"under": ["/data", "~/work"], "matches": "[a-z/]+", "present": true},
       "/n": {"min": 1, "max": 1.5, "above": 0, "below": 2},
       "/mode": {"equals": null},
       "/kind": {"one_of": ["a", 1, true, null]},
       "/url": {"url_host": ["*.example.com", "[::1]:80"]}},
     "rate": 5, "price_usd": 0.0000000001, "reason": "because"}
  ]
}"#;

#[test]
fn every_key_of_a_rule_is_kept_in_the_snapshot() {
    let permissions = good(FULL);
    let (text, digest) = permissions.snapshot();
    let wanted = concat!(
        r#"{"file":"permissions.json","global_policy":{"effect":"deny"},"rules":[{"agent":["a","b*"],"effect":"allow","group":["g"],"#,
        r#""line":3,"name":"all","price":"100","rate":5,"reason":"because","server":["fs"],"tool":["read_*","x.y"],"when":{"#,
        r#""/kind":{"one_of":["\"a\"","1","true","null"]},"/mode":{"equals":"null"},"#,
        r#""/n":{"above":"0","below":"2","max":"1.5","min":"1"},"/path":{"matches":"[a-z/]+","present":true,"under":["/data","~/work"]},"#,
        r#""/url":{"url_host":["*.example.com","[::1]:80"]}}}],"standing":"loaded"}"#,
    );
    assert_eq!(text, wanted);
    assert!(aex_core::canon::is_canonical(&text));
    let again = Permissions::parse(&text).unwrap();
    assert_eq!((again.snapshot(), &again), ((text, digest), &permissions));
}

#[test]
fn whatever_could_widen_a_rule_by_mistake_is_refused_with_its_line() {
    bad(
        "{\"rules\": [\n{\"effect\": \"allow\", \"agnet\": \"a\"},\n{\"effect\": \"Allow\"},\n{\"tool\": \"x\"},\n{\"effect\": \"allow\", \"agent\": []}]}",
        &[
            "permissions.json:2: rules[0].agnet: unknown key; known are effect, agent, group, server, tool, when, rate, price_usd, price, reason, name",
            "permissions.json:3: rules[1].effect: expected allow or deny or ask, found \"Allow\"",
            "permissions.json:4: rules[2].effect: expected allow, deny or ask, found nothing",
            "permissions.json:5: rules[3].agent: expected at least one text, found an empty list",
        ],
    );
    let rule = |text: &str| format!("{{\"rules\": [{{\"effect\": \"allow\",\n{text}}}]}}");
    let when = |text: &str| rule(&format!("\"when\": {{\n\"/a\": {text}}}"));
    let rows = [
        ("{\"global_polcy\": \"deny\"}".to_owned(), "1: global_polcy: unknown key; known are version, global_policy, rules"),
        ("{\"rules\": null}".to_owned(), "1: rules: null means nothing here; leave the key out"),
        (
            "{\"rules\": \"allow\"}".to_owned(),
            "1: rules: expected a list of rules, or an object of tools with \"allow\" or \"deny\", found \"allow\"",
        ),
        ("{\"version\": 1}".to_owned(), "1: version: expected text, found 1"),
        ("[]".to_owned(), "1: expected an object with global_policy and rules"),
        ("{\"rules\": {\"t\": \"deny\",\n\"t\": \"allow\"}}".to_owned(), "2: duplicate key \"t\", which stands in line 1 already"),
        (rule("\"when\": null"), "2: rules[0].when: null means nothing here; leave the key out"),
        (rule("\"tool\": [\"a\", 5]"), "2: rules[0].tool: expected text, found 5"),
        (rule("\"tool\": \" \""), "2: rules[0].tool: expected patterns of names, of 1 to 256 bytes"),
        (rule("\"rate\": 0"), "2: rules[0].rate: expected calls a minute, a whole number ≥ 1, found 0"),
        (rule("\"rate\": \"5\""), "2: rules[0].rate: expected calls a minute, a whole number ≥ 1, found \"5\""),
        (
            rule("\"price_usd\": 0.0000000000001"),
            "2: rules[0].price_usd: `0.0000000000001` has more than 12 decimals, and amounts are never rounded",
        ),
        (rule("\"price\": -1"), "2: rules[0].price: `-1` is not a decimal number such as 5.00"),
        (rule("\"price\": 1,\n\"price_usd\": 1"), "3: rules[0].price_usd: expected one of them, price or price_usd"),
        (
            rule("\"name\": \"rules[7]\""),
            "2: rules[0].name: expected a name of 1 to 64 bytes that is not global_policy, no_permissions, bad_permissions or a place, found \"rules[7]\"",
        ),
        (when("{}"), "3: rules[0].when./a: asks for nothing"),
        (when("{\"under\": []}"), "3: rules[0].when./a.under: expected at least one text, found an empty list"),
        (when("{\"under\": \"data\"}"), "3: rules[0].when./a: under: `data` is no absolute folder, and none below ~/"),
        (
            when("{\"undr\": \"/data\"}"),
            "3: rules[0].when./a.undr: unknown key; known are above, below, max, min, equals, one_of, matches, present, under, url_host",
        ),
        (when("{\"matches\": \"(\"}"), "3: rules[0].when./a: matches: unclosed group"),
        (when("{\"matches\": \"a)|(b\"}"), "3: rules[0].when./a: matches: unopened group"),
        (when("{\"matches\": \"(?x)a # b\"}"), "3: rules[0].when./a: matches: unclosed group"),
        (when("{\"matches\": \"(\\\\w{500}){500}\"}"), "3: rules[0].when./a: matches: Compiled regex exceeds size limit of 1048576 bytes."),
        (when("{\"max\": \"x\"}"), "3: rules[0].when./a: max: \"x\" is no number"),
        (when("{\"max\": 9007199254740992}"), "3: rules[0].when./a: max: 9007199254740992 is not between -2^53 and 2^53"),
        (when("{\"equals\": [1]}"), "3: rules[0].when./a.equals: expected a text, a number, true, false or null, found a list"),
        (when("{\"one_of\": []}"), "3: rules[0].when./a.one_of: expected a list of values, of one at least, found a list"),
        (when("{\"present\": false, \"min\": 1}"), "3: rules[0].when./a: present: what is absent meets no other condition"),
        (when("{\"max\": null}"), "3: rules[0].when./a.max: null means nothing here; leave the key out"),
        (
            when("{\"url_host\": \"http://x\"}"),
            "3: rules[0].when./a: url_host: `http://x` is no host such as example.com, *.example.com, 127.0.0.1:8080 or [::1]; other alphabets are written as xn--",
        ),
        (rule("\"when\": {\"a\": {\"present\": true}}"), "2: rules[0].when.a: is no JSON pointer such as /path or /edits/*/path"),
        (rule("\"when\": {\"/a~2\": {\"present\": true}}"), "2: rules[0].when./a~2: is no JSON pointer such as /path or /edits/*/path"),
        (
            "{\"rules\": [{\"effect\": \"deny\", \"name\": \"x\"},\n{\"effect\": \"deny\", \"name\": \"x\"}]}".to_owned(),
            "2: name: line 1 has a rule `x` already",
        ),
        ("{\"rules\": [{\"effect\": \"deny\", \"rate\": 5}]}".to_owned(), "1: rules[0]: a rule that denies has no price and no rate"),
        (
            "{\"rules\": {\"t\": {\"effect\": \"deny\", \"tool\": \"x\"}}}".to_owned(),
            "1: rules.t.tool: unknown key; known are effect, agent, group, server, when, rate, price_usd, price, reason",
        ),
    ];
    for (source, wanted) in rows {
        bad(&source, &[&format!("permissions.json:{wanted}")]);
    }
    let many = format!("{{\"rules\": [{}]}}", vec!["{\"effect\": \"deny\"}"; MAX_RULES + 1].join(","));
    bad(&many, &["permissions.json:1: rules: expected at most 4096 rules, found 4097"]);
}

#[test]
fn the_examples_of_the_readme_are_taken() {
    let readme = include_str!("../../../../README.md");
    let examples: Vec<&str> = readme.split("```json\n").skip(1).filter_map(|text| text.split("```").next()).collect();
    let laws: Vec<&&str> = examples.iter().filter(|text| text.contains("global_policy")).collect();
    assert_eq!(laws.len(), 2);
    for law in laws {
        let (read, errors, warnings) = read_file(law);
        assert!(read.is_some() && warnings.is_empty(), "{errors:?} {warnings:?}: {law}");
    }
}

#[test]
fn a_name_for_agents_in_a_rule_is_warned_of() {
    let (read, _, warnings) = read_file(r#"{"rules": [{"effect": "deny", "tool": "fs__write"}]}"#);
    assert!(read.is_some());
    let wanted = "permissions.json:1: rules[0].tool: `fs__write` means a tool of that very name; `fs.write` means a server's";
    assert_eq!(warnings, [wanted]);
    for (law, wanted) in [
        (r#"{"rules": {"fs__write": "deny"}}"#, "rules.fs__write: `fs__write` means a tool of that very name, on every server"),
        (r#"{"rules": {"fs.write": "deny"}}"#, "rules.fs.write: `fs.write` means a tool of that very name, on every server"),
        (
            r#"{"rules": [{"effect": "deny", "server": "fs", "tool": "fs.write"}]}"#,
            "rules[0].tool: `fs.write` means a tool of that very name; beside",
        ),
        (
            r#"{"rules": [{"effect": "deny", "server": "fs", "tool": "fs__write"}]}"#,
            "rules[0].tool: `fs__write` means a tool of that very name; beside",
        ),
    ] {
        let (read, _, warnings) = read_file(law);
        assert!(read.is_some() && warnings.len() == 1 && warnings[0].contains(wanted), "{law}: {warnings:?}");
    }
    let (_, _, warnings) =
        read_file(r#"{"rules": [{"effect": "deny", "tool": "fs.write"}, {"effect": "deny", "server": "fs", "tool": "write"}]}"#);
    assert_eq!(warnings, Vec::<String>::new());
}

#[test]
fn the_facts_of_a_file_are_those_of_its_snapshot() {
    let permissions = good(FULL);
    let again = Permissions::parse(&permissions.snapshot().0).unwrap();
    let (caller, tool) = (Caller { agent: "a".to_owned(), groups: vec!["g".to_owned()] }, ToolName::new("fs", "read_it").unwrap());
    let arguments = Arguments::parse(r#"{"path": 1, "n": 1.2, "kind": "a", "mode": null, "url": "http://a.example.com"}"#).unwrap();
    let facts = permissions.observe(&caller, &tool, &arguments, &aex_core::tool::Resolved::default());
    assert_eq!(facts, again.observe(&caller, &tool, &arguments, &aex_core::tool::Resolved::default()));
    assert_eq!(facts.unclear.len(), 1, "{facts:?}");
}
