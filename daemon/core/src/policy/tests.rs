//! Tests of `policy`: tables of rules, and properties of any set of them.

use super::*;
use crate::price::{MaxTokensField, Overhead};
use proptest::prelude::*;

fn card() -> ModelCard {
    ModelCard {
        context_tokens: None,
        drop_tools: Vec::new(),
        max_tokens: 1000,
        max_tokens_field: MaxTokensField::MaxTokens,
        max_tokens_per_minute: None,
        name: "gpt-4o".to_owned(),
        overhead: Overhead::WIDEST,
        price: None,
        provider: "p".to_owned(),
        provider_model: "pm".to_owned(),
        reasoning: false,
        tokenizer: None,
        tools: true,
        vision: true,
    }
}

fn ask() -> Ask {
    Ask { choices: 1, messages: 1, model: "gpt-4o".to_owned(), text_chars: 400, max_tokens: Some(500), ..Ask::default() }
}

fn facts() -> Facts {
    Facts { agent: "bot".to_owned(), budget_share_percent: Some(81), groups: vec!["night".to_owned()], hour: 23 }
}

fn texts(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn rule(name: &str, effect: Effect, when: When) -> RuleSpec {
    let line = name.bytes().map(u64::from).sum();
    let limit = (effect == Effect::Limit).then(|| LimitSpec { max_tokens: Some(line), ..LimitSpec::default() });
    RuleSpec { effect, file: "policy.yaml".to_owned(), limit, line, name: name.to_owned(), reason: None, when }
}

fn policy(default: Fallback, rules: Vec<RuleSpec>) -> Effective {
    let profile = Some(Origin { file: "policy.yaml".to_owned(), line: 3, name: "p".to_owned() });
    Effective { default, fields: Policy::seed(), profile, rules, stated: Some(Digest::ZERO) }
}

fn decided(ask: &Ask, when: When, effect: Effect) -> Result<Permit, Denial> {
    decide(ask, &card(), &policy(Fallback::Deny, vec![rule("r", effect, when)]), Some(&facts()))
}

#[test]
fn each_condition_holds_for_what_it_names_and_for_nothing_else() {
    let span = |above, below| Some(Span { above, below });
    let hours = |from, to| Some(Hours { from, to });
    let rows = [
        (When::default(), true),
        (When { agent: texts(&["b*"]), ..When::default() }, true),
        (When { agent: texts(&["bo", "Bot"]), ..When::default() }, false),
        (When { group: texts(&["x", "n?ght"]), ..When::default() }, true),
        (When { group: texts(&["day"]), ..When::default() }, false),
        (When { model: texts(&["gpt-*"]), ..When::default() }, true),
        (When { model: texts(&["claude-*"]), ..When::default() }, false),
        (When { input_tokens: span(Some(99), None), ..When::default() }, true),
        (When { input_tokens: span(Some(100), None), ..When::default() }, false),
        (When { output_tokens: span(None, Some(501)), ..When::default() }, true),
        (When { output_tokens: span(None, Some(500)), ..When::default() }, false),
        (When { hour: hours(22, 6), ..When::default() }, true),
        (When { hour: hours(6, 22), ..When::default() }, false),
        (When { hour: hours(23, 24), ..When::default() }, true),
        (When { budget_share: span(Some(80), None), ..When::default() }, true),
        (When { budget_share: span(Some(81), None), ..When::default() }, false),
        (When { stream: Some(false), ..When::default() }, true),
        (When { stream: Some(true), ..When::default() }, false),
        (When { tool: texts(&["*"]), ..When::default() }, false),
        (When { agent: texts(&["bot"]), model: texts(&["x"]), ..When::default() }, false),
    ];
    for (when, matches) in rows {
        assert_eq!(decided(&ask(), when.clone(), Effect::Allow).is_ok(), matches, "{when:?}");
    }
}

#[test]
fn one_tool_is_enough_to_deny_and_all_are_needed_to_allow() {
    let offers = |names: &[&str], tools: u64| Ask { tools, tool_names: texts(names), ..ask() };
    let when = |pattern: &str| When { tool: texts(&[pattern]), ..When::default() };
    let denies = |ask: &Ask, pattern: &str| matches!(decided(ask, when(pattern), Effect::Deny), Err(Denial::Rule(ruled)) if ruled.rule == "r" && ruled.error.is_none());
    let allows = |ask: &Ask, pattern: &str| decided(ask, when(pattern), Effect::Allow).is_ok();
    let both = offers(&["search", "shell"], 2);
    assert!(denies(&both, "sh*") && !denies(&both, "x*") && denies(&both, "*"));
    assert!(!allows(&both, "sh*") && allows(&both, "s*") && allows(&both, "*"));
    // What is not named could be anything.
    let nameless = offers(&["search"], 2);
    let error = |effect| match decided(&nameless, when("sh*"), effect) {
        Err(Denial::Rule(ruled)) => ruled.error,
        other => panic!("{other:?}"),
    };
    assert!(error(Effect::Deny).is_some());
    assert!(!allows(&nameless, "se*") && allows(&nameless, "*"));
    let long = format!("{}…", "s".repeat(128));
    assert!(!allows(&offers(&[&long], 1), "s*"));
}

#[test]
fn a_missing_fact_denies_whatever_the_effect() {
    let when = When { budget_share: Some(Span { above: Some(1), below: None }), ..When::default() };
    let facts = Facts { budget_share_percent: None, ..facts() };
    for effect in [Effect::Allow, Effect::Limit, Effect::Ask, Effect::Deny] {
        let policy = policy(Fallback::Allow, vec![rule("r", effect, when.clone())]);
        for known in [Some(&facts), None] {
            let Err(Denial::Rule(ruled)) = decide(&ask(), &card(), &policy, known) else { panic!("{effect:?} passes") };
            assert_eq!(ruled.error.as_deref(), Some("budget_share: the fact is missing"));
        }
    }
}

#[test]
fn a_denial_names_its_rule_the_others_and_what_nearly_matched() {
    let model = When { model: texts(&["x"]), ..When::default() };
    let rules = vec![
        rule("near", Effect::Allow, When { hour: Some(Hours { from: 22, to: 6 }), ..model.clone() }),
        rule("far", Effect::Allow, When { stream: Some(true), ..model }),
        rule("a", Effect::Allow, When::default()),
        RuleSpec { reason: Some("no".to_owned()), ..rule("no", Effect::Deny, When::default()) },
    ];
    let Err(Denial::Rule(ruled)) = decide(&ask(), &card(), &policy(Fallback::Allow, rules), Some(&facts())) else { panic!("it passes") };
    let near = vec![NearMiss { condition: "model: gpt-4o is not x".to_owned(), rule: "near".to_owned() }];
    assert_eq!((ruled.rule.as_str(), ruled.line, ruled.reason.as_deref()), ("no", Some(221), Some("no")));
    assert_eq!((ruled.matched, ruled.near), (texts(&["a", "no"]), near));
    let Err(Denial::Rule(ruled)) = decide(&ask(), &card(), &policy(Fallback::Deny, Vec::new()), None) else { panic!("it passes") };
    assert_eq!((ruled.rule.as_str(), ruled.line), ("default", Some(3)));
}

#[test]
fn a_field_that_is_broken_comes_before_every_rule() {
    let mut strict = policy(Fallback::Deny, vec![rule("no", Effect::Deny, When::default())]);
    strict.fields.allow_streaming = false;
    let stream = Ask { stream: true, ..ask() };
    assert!(matches!(decide(&stream, &card(), &strict, Some(&facts())), Err(Denial::Policy { .. })));
}

#[test]
fn the_strictest_of_all_limits_holds_and_each_change_is_told() {
    let limit = |name: &str, limit: LimitSpec| RuleSpec { limit: Some(limit), ..rule(name, Effect::Limit, When::default()) };
    let cool = |text: &str| LimitSpec { temperature: Some(text.to_owned()), ..LimitSpec::default() };
    let rules = vec![
        limit("a", LimitSpec { max_tokens: Some(200), ..cool("0.70") }),
        limit("b", LimitSpec { max_tokens: Some(100), no_stream: true, ..cool("1.5") }),
    ];
    let policy = policy(Fallback::Deny, rules);
    let permit = |ask: &Ask, card: &ModelCard| decide(ask, card, &policy, Some(&facts())).unwrap();
    let change = |field, from: Option<&str>, to: &str| Change { field, from: from.map(str::to_owned), to: to.to_owned() };
    let hot = Ask { stream: true, temperature: Some("9e-1".to_owned()), ..ask() };
    let all = permit(&hot, &card());
    assert_eq!((all.max_tokens, all.rule.as_deref()), (100, Some("a")));
    let told = [
        change(Changed::MaxTokens, Some("500"), "100"),
        change(Changed::Stream, Some("true"), "false"),
        change(Changed::Temperature, Some("9e-1"), "0.70"),
    ];
    assert_eq!(all.changes, told);
    let silent = Ask { max_tokens: None, ..ask() };
    let told = [change(Changed::MaxTokens, None, "100"), change(Changed::Temperature, None, "0.70")];
    assert_eq!(permit(&silent, &card()).changes, told);
    let cool = Ask { max_tokens: Some(99), temperature: Some("0.7".to_owned()), ..ask() };
    assert_eq!(permit(&cool, &card()).changes, []);
    let thinking = ModelCard { reasoning: true, ..card() };
    assert_eq!(permit(&Ask { max_tokens: Some(9), ..ask() }, &thinking).changes, []);
}

#[test]
fn an_agents_own_fields_win_over_its_profiles_and_those_over_the_defaults() {
    let own = Fields { allow_tools: Some(true), max_output_tokens: Some(5), ..Fields::default() };
    let fields = Fields { allow_tools: Some(false), allow_vision: Some(true), max_output_tokens: Some(9), ..Fields::default() };
    let origin = Origin { file: "policy.yaml".to_owned(), line: 1, name: "p".to_owned() };
    let rules = vec![rule("r", Effect::Allow, When::default())];
    let profile = Profile { origin, agents: texts(&["b*"]), groups: Vec::new(), default: Fallback::Deny, fields, rules };
    let effective = Effective::of(own.clone(), Some(&profile));
    let wanted = Policy { allow_vision: true, max_output_tokens: Some(5), ..Policy::seed() };
    assert_eq!((&effective.fields, effective.default), (&wanted, Fallback::Deny));
    let stated: Vec<_> = sources(&own, &profile.fields).into_iter().filter(|(_, stated)| *stated != Stated::Default).collect();
    let wanted = [("allow_tools", Stated::Agent), ("allow_vision", Stated::Profile), ("max_output_tokens", Stated::Agent)];
    assert_eq!(stated, wanted);
    let other = Profile { agents: texts(&["*"]), ..profile.clone() };
    let profiles = Profiles(vec![profile, other]);
    assert!(profiles.bound_to("bot", &[]).is_err());
    assert_eq!(profiles.bound_to("x", &[]).map(|bound| bound.map(|bound| bound.agents.clone())), Ok(Some(texts(&["*"]))));
}

#[test]
fn a_snapshot_is_canonical_and_those_of_the_first_ledgers_are_read() {
    let full = policy(Fallback::Deny, vec![rule("l", Effect::Limit, When { hour: Some(Hours { from: 1, to: 2 }), ..When::default() })]);
    let (text, digest) = full.snapshot();
    assert!(crate::canon::is_canonical(&text), "{text}");
    assert_eq!((Effective::parse(&text).ok(), Digest::of(text.as_bytes())), (Some(full), digest));
    let old = r#"{"allow_function_calling":true,"allow_passthrough":false,"allow_streaming":true,"allow_tools":true,"allow_vision":false,"max_output_tokens":7,"strict":false}"#;
    let read = Effective::parse(old).unwrap();
    assert_eq!(read, Effective::plain(Policy { max_output_tokens: Some(7), ..Policy::seed() }));
    // And what an agent of such a ledger states is all of it.
    let stated: Fields = serde_json::from_str(old).unwrap();
    assert_eq!((stated.snapshot().0.as_str(), Effective::of(stated.clone(), None).stated), (old, Some(Digest::of(old.as_bytes()))));
    assert_eq!(stated.resolve(), read.fields);
    for text in ["", "{}", "[]", r#"{"default":"allow"}"#] {
        assert!(Effective::parse(text).is_err());
    }
}

fn any_rule() -> impl Strategy<Value = RuleSpec> {
    let effect = prop::sample::select(vec![Effect::Deny, Effect::Ask, Effect::Limit, Effect::Allow]);
    let name = "[a-z]{1,3}";
    let when = (any::<[bool; 4]>(), 0..3_u8).prop_map(|([agent, model, hour, share], stream)| When {
        agent: texts(if agent { &["bot"] } else { &[] }),
        model: texts(if model { &["claude-*"] } else { &[] }),
        hour: hour.then_some(Hours { from: 20, to: 4 }),
        budget_share: share.then_some(Span { above: Some(50), below: None }),
        stream: (stream < 2).then_some(stream == 0),
        ..When::default()
    });
    (name, effect, when).prop_map(|(name, effect, when)| rule(&name, effect, when))
}

fn strength(decision: &Result<Permit, Denial>, rules: &[RuleSpec]) -> Option<Effect> {
    let named = |name: &str| rules.iter().find(|rule| rule.name == name).map(|rule| rule.effect);
    match decision {
        Ok(permit) => permit.rule.as_deref().and_then(named),
        Err(Denial::Rule(ruled)) => named(&ruled.rule),
        Err(other) => panic!("{other:?}"),
    }
}

proptest! {
    #[test]
    fn the_order_of_rules_decides_nothing(
        (rules, shuffled) in prop::collection::btree_map("[a-z]{1,3}", any_rule(), 0..8)
            .prop_map(|rules| rules.into_iter().map(|(name, rule)| RuleSpec { name, ..rule }).collect::<Vec<_>>())
            .prop_flat_map(|rules| (Just(rules.clone()), Just(rules).prop_shuffle())),
        allow in any::<bool>(),
        share in prop::option::of(0..100_u64),
        stream in any::<bool>(),
    ) {
        let default = if allow { Fallback::Allow } else { Fallback::Deny };
        let facts = Facts { budget_share_percent: share, ..facts() };
        let ask = Ask { stream, ..ask() };
        let decision = decide(&ask, &card(), &policy(default, rules), Some(&facts));
        prop_assert_eq!(decision, decide(&ask, &card(), &policy(default, shuffled), Some(&facts)));
    }

    #[test]
    fn the_strongest_effect_that_matches_wins(
        rules in prop::collection::btree_map("[a-z]{1,3}", any_rule(), 0..8)
            .prop_map(|rules| rules.into_iter().map(|(name, rule)| RuleSpec { name, ..rule }).collect::<Vec<_>>()),
        allow in any::<bool>(),
        stream in any::<bool>(),
    ) {
        let default = if allow { Fallback::Allow } else { Fallback::Deny };
        let ask = Ask { stream, ..ask() };
        // Each rule by itself says whether it matches.
        let alone = |rule: &RuleSpec| {
            let decision = decide(&ask, &card(), &policy(Fallback::Allow, vec![rule.clone()]), Some(&facts()));
            strength(&decision, std::slice::from_ref(rule)).is_some()
        };
        let strongest = rules.iter().filter(|rule| alone(rule)).map(|rule| rule.effect).min();
        let decision = decide(&ask, &card(), &policy(default, rules.clone()), Some(&facts()));
        let passes = match strongest {
            Some(effect) => matches!(effect, Effect::Limit | Effect::Allow),
            None => allow,
        };
        prop_assert_eq!((decision.is_ok(), strength(&decision, &rules)), (passes, strongest));
    }
}
