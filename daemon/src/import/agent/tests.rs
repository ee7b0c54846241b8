//! Rows as AEX wrote them, and as nobody should have.

use super::*;

/// A column, what stands in it, and what has to follow.
type Case = (&'static str, Cell, fn(&Plan) -> bool);

fn row(changes: &[(&str, Cell)]) -> AexAgent {
    let seed = [
        ("name", Cell::Text("bot".to_owned())),
        ("budget_micro", Cell::Whole(5_000_000)),
        ("spent_micro", Cell::Whole(30_000)),
        ("reserved_micro", Cell::Whole(0)),
        ("rpm_limit", Cell::Whole(60)),
        ("created_at", Cell::Text("2026-11-21 11:13:59".to_owned())),
    ];
    let cells: Vec<(&str, Cell)> = seed.into_iter().chain(changes.iter().cloned()).collect();
    AexAgent::of(AexToken::Is(hash()), &cells)
}

fn hash() -> TokenHash {
    TokenHash::from_bytes([7; 32])
}

fn text(text: &str) -> Cell {
    Cell::Text(text.to_owned())
}

#[test]
fn a_row_of_the_first_version_has_the_programs_defaults() {
    let plan = plan(&row(&[])).unwrap();
    assert_eq!(plan.account.policy.clone().resolve(), Policy::seed());
    assert_eq!(plan.account.budgets, [(Period::Total, Pico::new(5_000_000_000_000))]);
    assert_eq!((plan.spent, plan.reserved), (Pico::new(30_000_000_000), Pico::ZERO));
    assert_eq!(plan.created_at.map(|at| at.to_string()).as_deref(), Some("2026-11-21T11:13:59.000000Z"));
    assert_eq!(plan.token, Some(OldToken { hash: hash(), read_only: false, ends: None }));
    assert_eq!((plan.pause, plan.warnings), (None, vec![]));
}

#[test]
fn a_cell_that_cannot_be_read_restricts_and_pauses() {
    let rows: [Case; 13] = [
        ("allowed_models", text("[\"a\""), |plan| plan.account.policy.allowed_models == Some(vec![])),
        ("allowed_models", text("null"), |plan| plan.account.policy.allowed_models == Some(vec![])),
        ("allowed_models", text(""), |plan| plan.account.policy.allowed_models == Some(vec![])),
        ("allowed_tool_names", text("{\"a\":1}"), |plan| plan.account.policy.allowed_tool_names == Some(vec![])),
        ("allow_tools", Cell::Null, |plan| plan.account.policy.allow_tools == Some(false)),
        ("strict_mode", text("no"), |plan| plan.account.policy.strict == Some(true)),
        ("max_input_tokens", Cell::Whole(-1), |plan| plan.account.policy.max_input_tokens == Some(0)),
        ("budget_micro", Cell::Other, |plan| plan.account.budgets == [(Period::Total, Pico::ZERO)]),
        ("spent_micro", Cell::Null, |plan| plan.spent == Pico::new(5_000_000_000_000)),
        ("rpm_limit", text("many"), |plan| plan.account.limits.rpm == Some(0)),
        ("token_scope", text("writer"), |plan| plan.token.is_some_and(|token| token.read_only)),
        ("token_expires_at", text("next year"), |plan| plan.token.is_some_and(|token| token.ends == Some(Ends::Now))),
        ("lifecycle_state", text("QUARANTINED"), |plan| plan.pause.as_deref() == Some("imported from AEX: it was QUARANTINED")),
    ];
    for (column, cell, holds) in rows {
        let plan = plan(&row(&[(column, cell.clone())])).unwrap();
        assert!(holds(&plan) && plan.pause.is_some(), "{column} {cell:?}: {plan:?}");
    }
}

#[test]
fn what_we_cannot_keep_as_it_was_is_told_and_pauses_nobody() {
    let rows: [Case; 4] = [
        ("rpm_limit", Cell::Whole(0), |plan| plan.account.limits.rpm == Some(0)),
        ("budget_micro", Cell::Whole(i64::MAX), |plan| plan.account.budgets == [(Period::Total, Pico::MAX)]),
        ("max_tokens_per_request", Cell::Whole(500), |plan| {
            (plan.account.policy.max_input_tokens, plan.account.policy.max_output_tokens) == (Some(500), Some(500))
        }),
        ("created_at", Cell::Null, |plan| plan.created_at.is_none()),
    ];
    for (column, cell, holds) in rows {
        let plan = plan(&row(&[(column, cell.clone())])).unwrap();
        assert!(holds(&plan) && plan.pause.is_none() && plan.warnings.len() == 1, "{column} {cell:?}: {plan:?}");
    }
}

#[test]
fn a_name_that_is_none_of_ours_is_left_out_with_the_reason() {
    for name in ["run-7", "", " x", "a/b"] {
        assert!(plan(&row(&[("name", text(name))])).is_err(), "{name:?}");
    }
    assert!(plan(&row(&[("name", Cell::Null)])).is_err());
}

#[test]
fn times_are_read_as_python_and_sqlite_write_them() {
    let wanted = Stamp::parse("2026-11-21T11:14:03Z").ok();
    for text in ["2026-11-21 11:14:03", "2026-11-21T11:14:03", "2026-11-21T11:14:03+00:00", "2026-11-21T13:14:03.000000+02:00"] {
        assert_eq!(instant(text), wanted, "{text}");
    }
    for text in ["", "soon", "2026-13-01 00:00:00"] {
        assert_eq!(instant(text), None, "{text}");
    }
}
