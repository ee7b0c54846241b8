//! Tables of policy files: what they mean, or exactly what is said about them.

use super::*;

fn parsed(source: &str) -> (Option<Profiles>, Vec<String>, Vec<String>) {
    let mut report = Report::new("policy.yaml");
    let profiles = read(source, None, &mut report);
    let texts = |problems: &[super::super::Problem]| problems.iter().map(ToString::to_string).collect();
    (profiles, texts(&report.errors), texts(&report.warnings))
}

#[track_caller]
fn refuse(source: &str, expected: &[&str]) {
    let (profiles, mut errors, _) = parsed(source);
    errors.sort();
    assert_eq!(
        (profiles, errors.as_slice()),
        (None, expected.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>().as_slice()),
        "{source}"
    );
}

/// One rule of one profile.
#[track_caller]
fn refuse_rule(rule: &str, expected: &str) {
    refuse(
        &format!("profiles:\n  p:\n    agents: a\n    rules:\n      - {rule}\n"),
        &[&format!("policy.yaml:5: profiles.p.rules[0]{expected}")],
    );
}

#[test]
fn an_absent_or_empty_file_binds_nobody() {
    for source in ["", "version: 1\n", "version: 1\nprofiles: {}\n", "# nothing\n"] {
        assert_eq!(parsed(source), (Some(Profiles::default()), vec![], vec![]), "{source}");
    }
}

#[test]
fn what_is_said_is_one_line_whatever_a_key_holds() {
    refuse("\"a\\nb\\e[2J\": 1\n", &["policy.yaml:1: a\\nb\\u{1b}[2J: unknown key; known are version, profiles"]);
}

#[test]
fn every_key_has_its_meaning() {
    let source = "version: 1
profiles:
  all:
    agents: [a, \"b-*\"]
    groups: team
    default: allow
    allow_function_calling: false
    allow_passthrough: true
    allow_streaming: false
    allow_tools: false
    allow_vision: true
    allowed_models: [m]
    allowed_tool_names: f
    max_input_tokens: 5
    max_output_tokens: 6
    strict: true
    rules:
      - name: every condition
        effect: limit
        when:
          agent: a
          group: [g]
          model: [m, \"n*\"]
          tool: t
          input_tokens: {above: 1}
          output_tokens: {below: 9}
          hour: 22-6
          budget_share: {above: 80, below: 100}
          stream: true
        limit: {max_tokens: 7, temperature: 0.70, stream: false}
        reason: because
";
    let (profiles, errors, warnings) = parsed(source);
    assert_eq!((errors, warnings), (vec![], vec![]));
    let texts = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let span = |above, below| Some(Span { above, below });
    let when = When {
        agent: texts(&["a"]),
        budget_share: span(Some(80), Some(100)),
        group: texts(&["g"]),
        hour: Some(Hours { from: 22, to: 6 }),
        input_tokens: span(Some(1), None),
        model: texts(&["m", "n*"]),
        output_tokens: span(None, Some(9)),
        stream: Some(true),
        tool: texts(&["t"]),
    };
    let rule = RuleSpec {
        effect: Effect::Limit,
        file: "policy.yaml".to_owned(),
        limit: Some(LimitSpec { max_tokens: Some(7), no_stream: true, temperature: Some("0.70".to_owned()) }),
        line: 18,
        name: "every condition".to_owned(),
        reason: Some("because".to_owned()),
        when,
    };
    let fields = Fields {
        allow_function_calling: Some(false),
        allow_passthrough: Some(true),
        allow_streaming: Some(false),
        allow_tools: Some(false),
        allow_vision: Some(true),
        allowed_models: Some(texts(&["m"])),
        allowed_tool_names: Some(texts(&["f"])),
        max_input_tokens: Some(5),
        max_output_tokens: Some(6),
        strict: Some(true),
    };
    let origin = Origin { file: "policy.yaml".to_owned(), line: 3, name: "all".to_owned() };
    let profile =
        Profile { origin, agents: texts(&["a", "b-*"]), groups: texts(&["team"]), default: Fallback::Allow, fields, rules: vec![rule] };
    assert_eq!(profiles, Some(Profiles(vec![profile])));
}

#[test]
fn the_default_denies_where_there_are_rules() {
    let default = |source: &str| parsed(source).0.unwrap().0[0].default;
    assert_eq!(default("profiles: {p: {agents: a}}"), Fallback::Allow);
    assert_eq!(default("profiles: {p: {agents: a, rules: [{name: r, effect: allow}]}}"), Fallback::Deny);
}

#[test]
fn what_is_wrong_is_told_with_its_line_and_key() {
    refuse("version: 2\n", &["policy.yaml:1: version: expected 1, found 2"]);
    refuse("profile: {}\n", &["policy.yaml:1: profile: unknown key; known are version, profiles"]);
    refuse("profiles:\n  p: {agents: a}\n  p: {agents: b}\n", &["policy.yaml:3: duplicate key \"p\""]);
    refuse(
        "profiles:\n  p: {agents: [a, b]}\n  q: {agents: [c, b]}\n",
        &["policy.yaml:3: profiles.q: `b` is bound to profile `p` (policy.yaml:2) already"],
    );
    refuse(
        "profiles:\n  p:\n    agents: a\n    rules:\n      - {name: r, effect: deny}\n      - {name: r, effect: allow}\n",
        &["policy.yaml:6: profiles.p.rules[1].name: line 5 has a rule `r` already"],
    );
    refuse_rule("{effect: deny}", ".name: expected a name, found nothing");
    refuse_rule("{name: default, effect: deny}", ".name: expected a name of at most 64 bytes that is not `default`, found \"default\"");
    refuse_rule("{name: r, effect: block}", ".effect: expected deny or ask or limit or allow, found \"block\"");
    refuse_rule("{name: r, effect: limit}", ".limit: expected max_tokens, temperature or stream, found nothing");
    refuse_rule("{name: r, effect: allow, limit: {max_tokens: 1}}", ".limit: only a rule with `effect: limit` has one");
    refuse_rule(
        "{name: r, effect: limit, limit: {stream: true}}",
        ".limit.stream: expected false: a limit can only take streams away, found true",
    );
    refuse_rule(
        "{name: r, effect: limit, limit: {temperature: -1}}",
        ".limit.temperature: expected a temperature such as \"0.7\", found -1",
    );
    refuse_rule(
        "{name: r, effect: deny, when: {modell: m}}",
        ".when.modell: unknown key; known are agent, group, model, tool, input_tokens, output_tokens, budget_share, hour, stream",
    );
    refuse_rule("{name: r, effect: deny, when: {hour: 22}}", ".when.hour: expected hours such as \"9-17\" or \"22-6\", found 22");
    refuse_rule("{name: r, effect: deny, when: {hour: 5-5}}", ".when.hour: expected hours such as \"9-17\" or \"22-6\", found \"5-5\"");
    refuse_rule("{name: r, effect: deny, when: {input_tokens: {}}}", ".when.input_tokens: expected above or below, found neither");
    refuse_rule(
        "{name: r, effect: deny, when: {input_tokens: {above: 5, below: 6}}}",
        ".when.input_tokens: no number is above 5 and below 6",
    );
    refuse_rule("{name: r, effect: deny, when: {stream: maybe}}", ".when.stream: expected true or false, found \"maybe\"");
}

#[test]
fn a_profile_that_lets_nothing_pass_or_binds_nobody_is_a_warning() {
    let (profiles, errors, warnings) = parsed("profiles:\n  p: {default: deny}\n");
    assert!(profiles.is_some() && errors.is_empty());
    let wanted = [
        "policy.yaml:2: profiles.p: no rule lets a call pass, and the default denies",
        "policy.yaml:2: profiles.p: bound to nobody, for it has no agents and no groups",
    ];
    assert_eq!(warnings, wanted);
}

#[test]
fn the_readmes_examples_are_sound() {
    let readme = include_str!("../../../../README.md");
    let mut blocks = readme.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next());
    let (profiles, errors, warnings) = parsed(blocks.next().unwrap());
    assert_eq!((errors, warnings), (vec![], vec![]));
    assert_eq!(profiles.map(|profiles| profiles.0[0].rules.len()), Some(4));
    let cases = super::super::read_cases("cases.yaml", blocks.next().unwrap()).unwrap();
    assert_eq!((cases[0].expect, cases[0].hour, cases[0].budget_share), (Effect::Limit, Some(23), 10));
}
