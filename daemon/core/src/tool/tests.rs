//! The law as a table, and against a naive model.

mod conditions;
mod model;

use super::*;
use proptest::prelude::*;

/// Permissions of which each rule is `EFFECT` and further members in JSON; its line is its number, its name `rN`.
fn law(global: &str, rules: &[&str]) -> Permissions {
    let rule = |(at, rule): (usize, &&str)| {
        let (effect, more) = rule.split_once(' ').unwrap_or((rule, ""));
        let more = if more.is_empty() { String::new() } else { format!(",{more}") };
        format!(r#"{{"effect":"{effect}","line":{at},"name":"r{at}"{more}}}"#)
    };
    let rules: Vec<String> = rules.iter().enumerate().map(rule).collect();
    let text = format!(r#"{{"file":"f","global_policy":{{"effect":"{global}"}},"rules":[{}],"standing":"loaded"}}"#, rules.join(","));
    Permissions::parse(&text).unwrap()
}

fn caller(agent: &str, groups: &[&str]) -> Caller {
    Caller { agent: agent.to_owned(), groups: groups.iter().map(|&group| group.to_owned()).collect() }
}

/// Decides without any path.
fn decide(law: &Permissions, caller: &Caller, tool: &str, arguments: &str) -> Verdict {
    let (tool, arguments) = (ToolName::parse(tool).unwrap(), Arguments::parse(arguments).unwrap());
    let facts = law.observe(caller, &tool, &arguments, &Resolved::default());
    law.decide(caller, &tool, &facts)
}

/// `EFFECT rule; also; near`.
fn said(verdict: &Verdict) -> String {
    let near: Vec<String> = verdict.near.iter().map(|miss| format!("{} ({})", miss.rule, miss.condition)).collect();
    format!("{} {}; {}; {}", verdict.effect.name(), verdict.by.rule, verdict.also.join(" "), near.join(" "))
        .trim_end_matches([';', ' '])
        .to_owned()
}

#[track_caller]
fn check(law: &Permissions, who: &Caller, tool: &str, wanted: &str) {
    assert_eq!(said(&decide(law, who, tool, "{}")), wanted, "{tool}");
}

#[test]
fn a_server_of_which_an_agent_may_call_nothing_is_known_without_its_list() {
    let rules = [
        r#"allow "agent":["a"],"tool":["fs.read_*"]"#,
        r#"ask "group":["g"],"server":["sh*"]"#,
        r#"allow "agent":["b"],"tool":["echo"]"#,
        r#"deny "server":["net"]"#,
    ];
    let rows: [(&str, &[&str], &[&str]); 4] =
        [("a", &[], &["fs"]), ("b", &[], &["fs", "net", "shell"]), ("c", &["g"], &["shell"]), ("d", &[], &[])];
    for (agent, groups, may) in rows {
        let law = law("deny", &rules);
        let used: Vec<&str> = ["fs", "net", "shell"].into_iter().filter(|server| law.may_use(&caller(agent, groups), server)).collect();
        assert_eq!(used, may, "{agent}");
    }
    assert!(law("allow", &[]).may_use(&caller("d", &[]), "fs"));
}

#[test]
fn deny_stands_above_ask_above_allow_above_the_global_policy() {
    let nobody = caller("a", &[]);
    let all = ["allow", "ask", "deny"];
    for (take, wanted) in [(0, "allow global_policy"), (1, "allow r0"), (2, "ask r1; r0"), (3, "deny r2; r1 r0")] {
        check(&law("allow", &all[..take]), &nobody, "s.t", wanted);
    }
    check(&law("deny", &[]), &nobody, "s.t", "deny global_policy");
    check(&law("deny", &["allow", "allow"]), &nobody, "s.t", "allow r0; r1");
    let verdict = decide(&law("deny", &["ask \"reason\":\"why\""]), &nobody, "s.t", "{}");
    let by = DecidedBy { file: "f".to_owned(), line: Some(0), reason: Some("why".to_owned()), rule: "r0".to_owned(), unclear: None };
    assert_eq!((verdict.effect, verdict.by), (Effect::Ask, by));
}

#[test]
fn what_asks_is_named_by_all_that_the_rules_say_that_ask() {
    let nobody = caller("a", &[]);
    let asked = |rules: &[&str]| {
        let law = law("allow", rules);
        law.asked_by(&decide(&law, &nobody, "s.t", "{}"))
    };
    let first = asked(&["ask \"reason\":\"why\""]);
    assert!(first.is_some());
    // Others that let pass, or mean another tool, make no difference; another that asks does, and so does another word.
    assert_eq!(asked(&["ask \"reason\":\"why\"", "allow", "ask \"tool\":[\"u\"]"]), first);
    let other = [asked(&["ask \"reason\":\"why\"", "ask"]), asked(&["ask \"reason\":\"WHY\""]), asked(&["ask"])];
    assert!(other.iter().all(|other| other.is_some() && *other != first) && other[0] != other[2]);
    // Where it stands is no word of it.
    let moved =
        Permissions::parse(&crate::canon::text(law("allow", &["ask \"reason\":\"why\""]).spec()).replace("\"line\":0", "\"line\":9"))
            .unwrap();
    assert_eq!(moved.asked_by(&decide(&moved, &nobody, "s.t", "{}")), first);
    assert_eq!((asked(&["allow"]), asked(&["ask", "deny"]), asked(&["ask"; 40])), (None, None, None));
}

#[test]
fn a_rule_means_the_agents_groups_servers_and_tools_that_it_states() {
    let rows: [(&str, &str, &[&str], &str, bool); 26] = [
        (r#""agent":["bob"]"#, "bob", &[], "s.t", true),
        (r#""agent":["bob"]"#, "Bob", &[], "s.t", false),
        (r#""agent":["b*","eve"]"#, "bill", &[], "s.t", true),
        (r#""agent":["?"]"#, "", &[], "s.t", false),
        (r#""group":["ops"]"#, "a", &["dev", "ops"], "s.t", true),
        (r#""group":["ops"]"#, "ops", &[], "s.t", false),
        (r#""group":["*"]"#, "a", &[], "s.t", false),
        (r#""agent":["a"],"group":["ops"]"#, "a", &["dev"], "s.t", false),
        (r#""server":["s"]"#, "a", &[], "s.t", true),
        (r#""server":["s"]"#, "a", &[], "s2.t", false),
        (r#""server":["s*"]"#, "a", &[], "s2.t", true),
        (r#""tool":["t"]"#, "a", &[], "any.t", true),
        (r#""tool":["t"]"#, "a", &[], "any.t2", false),
        (r#""tool":["t*"]"#, "a", &[], "any.t2", true),
        (r#""tool":["*t"]"#, "a", &[], "any.cat", true),
        (r#""tool":["s.t"]"#, "a", &[], "s.t", true),
        (r#""tool":["s.t"]"#, "a", &[], "x.t", false),
        (r#""tool":["s.t"]"#, "a", &[], "x.s.t", false),
        (r#""tool":["s.*"]"#, "a", &[], "s.anything.at.all", true),
        (r#""tool":["*.t"]"#, "a", &[], "x.t", true),
        // With a server the tool is its own name, dots and all.
        (r#""server":["x"],"tool":["s.t"]"#, "a", &[], "x.s.t", true),
        (r#""server":["x"],"tool":["s.t"]"#, "a", &[], "s.t", false),
        (r#""tool_name":"*""#, "a", &[], "s.t", false),
        (r#""tool_name":"s.t""#, "a", &[], "x.s.t", true),
        (r#""tool_name":"t","server":["s"]"#, "a", &[], "x.t", false),
        (r#""server":["s"],"tool":["a","b","c*"]"#, "a", &[], "s.cc", true),
    ];
    for (rule, agent, groups, tool, wanted) in rows {
        let (law, caller) = (law("deny", &[&format!("allow {rule}")]), caller(agent, groups));
        let verdict = decide(&law, &caller, tool, "{}");
        assert_eq!(verdict.effect == Effect::Allow, wanted, "{rule} {agent} {groups:?} {tool}");
        assert_eq!(law.may_pass(&caller, &ToolName::parse(tool).unwrap()), wanted, "{rule} {agent} {tool}");
    }
}

#[test]
fn a_denial_by_default_tells_what_would_have_let_it_pass() {
    let rules = [
        r#"allow "agent":["bob"],"tool":["t"]"#,
        r#"ask "group":["ops"],"tool":["t"]"#,
        r#"allow "agent":["bob"],"group":["ops"],"tool":["t"]"#,
        r#"deny "agent":["bob"],"tool":["t"]"#,
        r#"allow "tool":["t"],"when":{"/n":{"max":"5"}}"#,
        r#"allow "tool":["t"],"when":{"/n":{"max":"5"},"/m":{"max":"5"}}"#,
        r#"allow "tool":["t"],"when":{"/x":{"max":"5"}}"#,
        r#"allow "tool":["u"]"#,
    ];
    let law = law("deny", &rules);
    let verdict = decide(&law, &caller("a", &[]), "s.t", r#"{"n": 6, "m": 6, "x": "1"}"#);
    let wanted = "deny global_policy; ; r0 (agent bob) r1 (group ops) r4 (/n max 5) r6 (/x max 5: cannot be told)";
    assert_eq!(said(&verdict), wanted);
    // Whoever is denied by a rule hears of all that are near.
    let open = decide(&law, &caller("bob", &[]), "s.t", r#"{"n": 6}"#);
    assert_eq!(said(&open), "deny r3; r0; r1 (group ops) r2 (group ops) r4 (/n max 5) r6 (/x max 5)");
    let many: Vec<String> = (0..40).map(|_| r#"allow "agent":["bob"]"#.to_owned()).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert_eq!(decide(&super::tests::law("deny", &many), &caller("a", &[]), "s.t", "{}").near.len(), 8);
    assert_eq!(decide(&super::tests::law("deny", &many), &caller("bob", &[]), "s.t", "{}").also.len(), 32);
}

#[test]
fn every_rate_holds_and_the_dearest_price() {
    let law = law(
        "deny",
        &[
            r#"allow "price":"5","rate":10"#,
            r#"ask "tool":["t"],"price":"9""#,
            r#"allow "rate":3"#,
            r#"deny "tool":["no"]"#,
            r#"allow "price":"9""#,
        ],
    );
    let rated = |per_minute, rule: &str| Rated { per_minute, rule: rule.to_owned() };
    let verdict = decide(&law, &caller("a", &[]), "s.t", "{}");
    assert_eq!(verdict.price, Some(Priced { price: aex_proto::value::Pico::new(9), rule: "r1".to_owned() }));
    assert_eq!(verdict.rates, [rated(10, "r0"), rated(3, "r2")]);
    let denied = decide(&law, &caller("a", &[]), "s.no", "{}");
    assert_eq!((denied.effect, denied.price, denied.rates), (Effect::Deny, None, Vec::new()));
}

#[test]
fn without_a_good_file_everything_is_denied_and_the_verdict_says_so() {
    for (permissions, rule) in [(Permissions::absent("f"), "no_permissions"), (Permissions::refused("f"), "bad_permissions")] {
        let verdict = decide(&permissions, &caller("a", &[]), "s.t", "{}");
        assert_eq!((verdict.effect, verdict.by.rule.as_str(), verdict.by.line), (Effect::Deny, rule, None));
        assert!(!permissions.may_pass(&caller("a", &[]), &ToolName::parse("s.t").unwrap()));
        assert_eq!(Permissions::parse(&permissions.snapshot().0), Ok(permissions));
    }
}

#[test]
fn a_tool_is_listed_where_some_call_of_it_could_pass() {
    let tool = ToolName::parse("s.t").unwrap();
    let rows: [(&str, &[&str], bool); 6] = [
        ("allow", &[], true),
        ("deny", &[], false),
        ("allow", &["deny"], false),
        ("deny", &[r#"allow "when":{"/n":{"max":"1"}}"#], true),
        ("allow", &[r#"deny "when":{"/n":{"max":"1"}}"#], true),
        ("deny", &["ask"], true),
    ];
    for (global, rules, wanted) in rows {
        assert_eq!(law(global, rules).may_pass(&caller("a", &[]), &tool), wanted, "{global} {rules:?}");
    }
}

#[test]
fn the_rules_of_an_agent_are_those_that_mean_it() {
    let law = law("deny", &[r#"allow "agent":["bob"]"#, r#"deny "group":["ops"]"#, "ask", r#"allow "agent":["b*"],"group":["ops"]"#]);
    let of = |agent, groups: &[&str]| law.of(&caller(agent, groups)).map(|rule| rule.name.clone()).collect::<Vec<_>>();
    assert_eq!(of("bob", &[]), ["r0", "r2"]);
    assert_eq!(of("bill", &["ops"]), ["r1", "r2", "r3"]);
}

#[test]
fn a_snapshot_that_is_none_is_refused() {
    let rows = [
        (r#"{"file":"f","global_policy":{"effect":"deny"},"standing":"loaded","more":1}"#, "unknown field `more`"),
        (r#"{"file":"f","global_policy":{"effect":"maybe"},"standing":"loaded"}"#, "unknown variant `maybe`"),
        (
            r#"{"file":"f","global_policy":{"effect":"deny"},"rules":[{"effect":"allow","line":1,"name":"a","when":{"/a":{"matches":"("}}}],"standing":"loaded"}"#,
            "a: when: /a: matches: unclosed group",
        ),
        (
            r#"{"file":"f","global_policy":{"effect":"deny"},"rules":[{"effect":"deny","line":1,"name":"a","rate":1},{"effect":"deny","line":2,"name":"a"}],"standing":"loaded"}"#,
            "a: a rule that denies has no price and no rate; a: another rule has this name",
        ),
    ];
    for (text, wanted) in rows {
        let why = Permissions::parse(text).unwrap_err();
        assert!(why.starts_with(wanted), "{why}");
    }
}

#[test]
fn a_tools_name_for_agents_is_short_plain_and_never_anothers() {
    let wire = |server: &str, tool: &str| ToolName::new(server, tool).unwrap().wire();
    assert_eq!(wire("fs", "read_file"), "fs__read_file");
    assert_eq!(wire("a", "_b"), "a___b");
    assert_eq!(wire("fs", &"x".repeat(60)), format!("fs__{}", "x".repeat(60)));
    // Pinned: agents know tools by these.
    assert_eq!(wire("fs", &"x".repeat(61)), format!("fs__{}_13d664cd1d", "x".repeat(49)));
    assert_eq!(wire("fs", "read.file"), "fs__read_file_a70c27002f");
    assert_eq!(wire("a_", "b"), "a___b_a00766a378");
    for (name, may_be) in
        [("fs__read_file_a70c27002f", true), ("fs__read_file", false), ("fs__read_file-a70c27002f", false), ("a70c27002f", false)]
    {
        assert_eq!(ToolName::may_be_short(name), may_be, "{name}");
    }
    for (server, tool) in [("", "t"), ("a__b", "t"), ("a.b", "t"), ("é", "t"), ("s", ""), ("s", "a\nb")] {
        assert!(ToolName::new(server, tool).is_err(), "{server:?} {tool:?}");
    }
    assert!(ToolName::new(&"s".repeat(48), &"t".repeat(256)).is_ok());
    assert!(ToolName::new(&"s".repeat(49), "t").is_err() && ToolName::new("s", &"t".repeat(257)).is_err());
    assert_eq!(ToolName::parse("fs.read.file").map(|name| (name.server, name.tool)), Ok(("fs".to_owned(), "read.file".to_owned())));
    assert!(ToolName::parse("fs").is_err());
}

proptest! {
    #[test]
    fn two_tools_have_two_names_for_agents(a in ("[ab_]{1,3}", "[ab_.]{1,3}"), b in ("[ab_]{1,3}", "[ab_.]{1,3}")) {
        let name = |(server, tool): &(String, String)| ToolName::new(server, tool).ok();
        if let (Some(first), Some(second)) = (name(&a), name(&b)) {
            prop_assert_eq!(first.wire() == second.wire(), first == second);
        }
    }

    #[test]
    fn a_name_for_agents_is_what_every_provider_takes(server in "[A-Za-z0-9-]{1,48}", tool in "\\PC{1,80}") {
        let wire = ToolName::new(&server, &tool).unwrap().wire();
        prop_assert!(wire.len() <= MAX_WIRE, "{}", wire);
        prop_assert!(wire.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-'), "{}", wire);
        let prefix = format!("{server}__");
        prop_assert!(wire.starts_with(&prefix), "{}", wire);
        prop_assert!(wire == format!("{prefix}{tool}") || ToolName::may_be_short(&wire), "{}", wire);
    }
}
