//! The law against a naive model: every rule is tried, none is indexed, nothing is kept.

use super::*;
use std::collections::BTreeMap;

/// A rule of few names, so that rules meet.
fn rule() -> impl Strategy<Value = RuleSpec> {
    let names = |choice: &'static [&'static str]| prop::collection::vec(prop::sample::select(choice).prop_map(str::to_owned), 0..3);
    let effect = prop::sample::select(&[Effect::Allow, Effect::Ask, Effect::Deny][..]);
    let number = (-2_i64..3).prop_map(|number| Scalar(number.to_string()));
    let condition = prop_oneof![
        number.clone().prop_map(|bound| ConditionSpec { max: Some(bound), ..ConditionSpec::default() }),
        number.clone().prop_map(|bound| ConditionSpec { min: Some(bound), ..ConditionSpec::default() }),
        number.prop_map(|value| ConditionSpec { equals: Some(value), ..ConditionSpec::default() }),
        any::<bool>().prop_map(|present| ConditionSpec { present: Some(present), ..ConditionSpec::default() }),
    ];
    let when = prop::collection::btree_map(prop::sample::select(&["/m", "/n"][..]).prop_map(str::to_owned), condition, 0..3);
    let tool_name = prop::option::of(prop::sample::select(&["t", "u"][..]).prop_map(str::to_owned));
    let who = (names(&["a", "b", "*", "?"]), names(&["g", "h*"]));
    let what = (names(&["s", "r", "s*"]), names(&["t", "u", "t*", "s.t", "*.u", "*"]), tool_name);
    let extra = (prop::option::of(1_u32..4), prop::option::of(0_i64..4));
    (effect, who, what, when, extra).prop_map(|(effect, (agent, group), (server, tool, tool_name), when, (rate, price))| {
        let is_deny = effect == Effect::Deny;
        let price = price.map(aex_proto::value::Pico::new).filter(|_| !is_deny);
        RuleSpec {
            agent,
            effect,
            group,
            line: 0,
            name: String::new(),
            price,
            rate: rate.filter(|_| !is_deny),
            reason: None,
            server,
            tool,
            tool_name,
            when,
        }
    })
}

fn rules() -> impl Strategy<Value = Vec<RuleSpec>> {
    prop::collection::vec(rule(), 0..12).prop_map(|mut rules| {
        for (at, rule) in rules.iter_mut().enumerate() {
            rule.line = u64::try_from(at / 2).unwrap();
            rule.name = format!("r{at}");
        }
        rules
    })
}

/// A value of an argument.
fn argument() -> impl Strategy<Value = Option<serde_json::Value>> {
    prop::option::of(prop_oneof![(-2_i64..3).prop_map(serde_json::Value::from), Just("1".into()), Just(serde_json::Value::Null)])
}

fn permissions(rules: Vec<RuleSpec>, global: Effect) -> Permissions {
    let global_policy = GlobalPolicy { effect: global, line: None };
    Permissions::new(PermissionsSpec { file: "f".to_owned(), global_policy, rules, standing: Standing::Loaded }).unwrap()
}

/// Yes, no, or nobody knows.
type Answer = Option<bool>;

fn naive_condition(condition: &ConditionSpec, value: Option<&serde_json::Value>) -> Answer {
    if let Some(wanted) = condition.present {
        return Some(wanted == value.is_some());
    }
    let Some(value) = value.filter(|value| !value.is_null()) else { return Some(false) };
    let number = value.as_i64()?;
    let of = |scalar: &Option<Scalar>| scalar.as_ref().map(|scalar| scalar.0.parse::<i64>().unwrap());
    let max = of(&condition.max).is_none_or(|max| number <= max);
    let min = of(&condition.min).is_none_or(|min| number >= min);
    Some(max && min && of(&condition.equals).is_none_or(|wanted| number == wanted))
}

fn fits(patterns: &[String], name: &str) -> bool {
    patterns.iter().any(|pattern| crate::policy::glob::fits(pattern, name))
}

fn naive_matches(rule: &RuleSpec, caller: &Caller, tool: &ToolName, arguments: &BTreeMap<String, serde_json::Value>) -> bool {
    let agent = rule.agent.is_empty() || fits(&rule.agent, &caller.agent);
    let group = rule.group.is_empty() || caller.groups.iter().any(|group| fits(&rule.group, group));
    let server = rule.server.is_empty() || fits(&rule.server, &tool.server);
    let named = |pattern: &String| match pattern.split_once('.') {
        Some((server, name)) if rule.server.is_empty() => {
            crate::policy::glob::fits(server, &tool.server) && crate::policy::glob::fits(name, &tool.tool)
        }
        _ => crate::policy::glob::fits(pattern, &tool.tool),
    };
    let any_tool = rule.tool.is_empty() && rule.tool_name.is_none();
    let tool = any_tool || rule.tool.iter().any(named) || rule.tool_name.as_ref() == Some(&tool.tool);
    let answers: Vec<Answer> =
        rule.when.iter().map(|(pointer, condition)| naive_condition(condition, arguments.get(pointer.trim_start_matches('/')))).collect();
    let conditions = if answers.contains(&Some(false)) { false } else { !answers.contains(&None) || rule.effect != Effect::Allow };
    agent && group && server && tool && conditions
}

fn naive(
    rules: &[RuleSpec],
    global: Effect,
    caller: &Caller,
    tool: &ToolName,
    arguments: &BTreeMap<String, serde_json::Value>,
) -> (Effect, Vec<String>, Option<i64>) {
    let matched: Vec<&RuleSpec> = rules.iter().filter(|rule| naive_matches(rule, caller, tool, arguments)).collect();
    let has = |effect: Effect| matched.iter().any(|rule| rule.effect == effect);
    let effect = [Effect::Deny, Effect::Ask, Effect::Allow].into_iter().find(|effect| has(*effect)).unwrap_or(global);
    let mut names: Vec<String> = matched.iter().map(|rule| rule.name.clone()).collect();
    names.sort();
    let price = matched.iter().filter_map(|rule| rule.price).map(aex_proto::value::Pico::get).max().filter(|_| effect != Effect::Deny);
    (effect, names, price)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn it_decides_as_trying_every_rule_does_in_whatever_order_they_stand(
        rules in rules(),
        global in prop::sample::select(&[Effect::Allow, Effect::Deny][..]),
        agent in prop::sample::select(&["a", "b", "cc"][..]),
        groups in prop::collection::vec(prop::sample::select(&["g", "hh"][..]).prop_map(str::to_owned), 0..2),
        server in prop::sample::select(&["s", "r", "ss"][..]),
        tool in prop::sample::select(&["t", "u", "tt", "s.t"][..]),
        (m, n) in (argument(), argument()),
        turn in any::<prop::sample::Index>(),
    ) {
        let (caller, tool) = (Caller { agent: agent.to_owned(), groups }, ToolName::new(server, tool).unwrap());
        let given: BTreeMap<String, serde_json::Value> =
            [("m", m), ("n", n)].into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect();
        let arguments = Arguments::from_map(given.clone().into_iter().collect()).unwrap();
        let law = permissions(rules.clone(), global);
        let facts = law.observe(&caller, &tool, &arguments, &Resolved::default());
        let verdict = law.decide(&caller, &tool, &facts);

        let (effect, matched, price) = naive(&rules, global, &caller, &tool, &given);
        let mut said = verdict.also.clone();
        said.extend(Some(verdict.by.rule.clone()).filter(|rule| rule != "global_policy"));
        said.sort();
        prop_assert_eq!((verdict.effect, &said), (effect, &matched));
        prop_assert_eq!(verdict.price.as_ref().map(|priced| priced.price.get()), price);
        if let Some(by) = rules.iter().find(|rule| rule.name == verdict.by.rule) {
            prop_assert_eq!(by.effect, effect);
        }
        // What may be listed is what some call could do; this one is one of them.
        if effect != Effect::Deny {
            prop_assert!(law.may_pass(&caller, &tool));
        }

        // Another order, the snapshot, and facts from the ledger: all the same.
        let mut turned = rules.clone();
        turned.rotate_left(if rules.is_empty() { 0 } else { turn.index(rules.len()) });
        let turned = permissions(turned, global);
        prop_assert_eq!(turned.snapshot(), law.snapshot());
        let again = Permissions::parse(&law.snapshot().0).unwrap();
        let kept: Facts = serde_json::from_str(&crate::canon::text(&facts)).unwrap();
        for other in [turned, again] {
            prop_assert_eq!(&other.decide(&caller, &tool, &kept), &verdict);
        }
        let text = crate::canon::text(&verdict);
        prop_assert!(crate::canon::is_canonical(&text) && crate::canon::is_canonical(&crate::canon::text(&facts)));
        prop_assert_eq!(serde_json::from_str::<Verdict>(&text).unwrap(), verdict);
    }

    #[test]
    fn facts_that_are_made_up_never_let_a_condition_be_forgotten(rules in rules(), unclear in any::<bool>()) {
        // Without facts no rule with conditions lets anything pass.
        let law = permissions(rules.clone(), Effect::Deny);
        let (caller, tool) = (Caller { agent: "a".to_owned(), groups: vec!["g".to_owned()] }, ToolName::new("s", "t").unwrap());
        let mut facts = Facts::default();
        if unclear {
            let miss = |rule: &RuleSpec| crate::policy::NearMiss { condition: "x".to_owned(), rule: rule.name.clone() };
            facts.unclear.extend(rules.iter().map(miss));
        }
        let verdict = law.decide(&caller, &tool, &facts);
        if verdict.effect == Effect::Allow {
            let by = rules.iter().find(|rule| rule.name == verdict.by.rule).unwrap();
            prop_assert!(by.when.is_empty());
        }
    }
}
