//! Rows changed by hand: the audit finds each and says where.

use super::*;
use aex_core::event::{Outcome, Released, Settled};
use aex_core::price::Charge;
use aex_core::usage::Usage;
use rusqlite::Connection;

/// root 1, group 2 with 5,000 a day, agent 3 with 20,000 in all, its run 4, agent 5 that is closed. Calls 1 to 4 ended exactly, by
/// an estimate, in full and released; call 5 is open. Agent 3 has a token and a revoked one.
pub(super) async fn house() -> House {
    let mut house = House::new().await;
    house.account(1, AccountKind::Group, "g", &[(Period::Day, 5_000)]).await;
    let agent = house.account(2, AccountKind::Agent, "a", &[(Period::Total, 20_000)]).await;
    let run = house.account(3, AccountKind::Run, "r", &[]).await;
    let gone = house.account(1, AccountKind::Agent, "b", &[(Period::Week, 9)]).await;
    house.token(agent, 1).await;
    house.revoke(agent, 0).await;
    house.token(agent, 2).await;
    house.ledger.admin(move |writer| writer.close_account(gone, "deleted", None).map(Ok)).await.unwrap().unwrap();
    let lines = |output| Charge::of(&Usage::text(9, output), &card().price.unwrap()).unwrap().lines;
    let settle = |state, outcome, lines| Ending::Settle {
        state,
        lines,
        outcome,
        relayed: None,
        status: Some(200),
        tier: None,
        unknown_usage: Vec::new(),
    };
    let ends = [
        settle(Settled::Exact, Outcome::Answered, lines(5)),
        settle(Settled::Estimated, Outcome::ClientLeft, lines(7)),
        settle(Settled::WorstCase, Outcome::Panic, Vec::new()),
        Ending::Release { reason: Released::Refused, status: Some(400) },
    ];
    for end in ends {
        let key = house.call(run, 50, true).await.unwrap();
        house.ledger.end(key, end).unwrap();
    }
    assert!(house.call(run, 50, true).await.is_some());
    assert!(house.call(run, 1_000, true).await.is_some());
    assert_eq!(house.call(run, 1_000, true).await, None);
    house
}

/// The audit of a copy in which some SQL was run, with the guards of the tables taken away.
fn audit_of(house: &House, sql: &str) -> Vec<String> {
    let path = house.home.path().join("copy.db");
    drop(std::fs::remove_file(&path));
    std::fs::copy(house.path(), &path).unwrap();
    let conn = Connection::open(&path).unwrap();
    conn.execute_batch("PRAGMA ignore_check_constraints = 1; PRAGMA foreign_keys = 0").unwrap();
    unguarded(&conn, sql);
    words(&Reader::new(&conn).audit(now(), Some(1)).unwrap())
}

/// Runs some SQL with the triggers taken away, and puts them back.
pub(super) fn unguarded(conn: &Connection, sql: &str) {
    let mut statement = conn.prepare("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'").unwrap();
    let triggers = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    let triggers: Vec<(String, String)> = triggers.collect::<Result<_, _>>().unwrap();
    triggers.iter().for_each(|(name, _)| conn.execute_batch(&format!("DROP TRIGGER {name}")).unwrap());
    let before = conn.total_changes();
    conn.execute_batch(sql).unwrap();
    assert!(sql.is_empty() || conn.total_changes() > before, "{sql}: changed nothing");
    triggers.iter().for_each(|(_, trigger)| conn.execute_batch(trigger).unwrap());
}

#[tokio::test]
async fn a_guard_that_is_gone_or_changed_is_a_finding() {
    let house = house().await;
    house.ledger.close();
    for (sql, what) in [
        ("DROP TRIGGER events_are_kept", "table events: trigger events_are_kept"),
        ("DROP INDEX tokens_by_account", "table tokens: index tokens_by_account"),
        ("ALTER TABLE holds ADD COLUMN more TEXT", "table holds: table holds"),
    ] {
        let path = house.home.path().join("copy.db");
        drop(std::fs::remove_file(&path));
        std::fs::copy(house.path(), &path).unwrap();
        let conn = Connection::open(&path).unwrap();
        conn.execute_batch(sql).unwrap();
        let found = words(&Reader::new(&conn).audit(now(), Some(1)).unwrap());
        assert_eq!(found, [format!("event_log_integrity: {what} is not what this version makes")], "{sql}");
    }
}

/// SQL, and the one thing that the audit has to say of it.
const ROWS: &[(&str, &str)] = &[
    (
        "UPDATE balances SET start_us = start_us - 86400000000 WHERE period = 'day'",
        "spent_matches_events: balance 1 (group g by day): window is",
    ),
    (
        "UPDATE balances SET end_us = end_us + 86400000000 WHERE period = 'day'",
        "spent_matches_events: balance 1 (group g by day): window is",
    ),
    ("UPDATE balances SET account = 1 WHERE id = 1", "spent_matches_events: balance 1 (group g by day): account is"),
    ("UPDATE balances SET period = 'week' WHERE id = 1", "spent_matches_events: balance 1 (group g by day): period is"),
    (
        "UPDATE balances SET overdraft_pico = 100000000000000000 WHERE id = 1",
        "spent_matches_events: balance 1 (group g by day): overdraft is",
    ),
    ("UPDATE balances SET limit_pico = limit_pico * 1000 WHERE id = 1", "spent_matches_events: balance 1 (group g by day): limit is"),
    ("UPDATE balances SET limit_pico = NULL WHERE id = 1", "spent_matches_events: balance 1 (group g by day): limit is"),
    ("UPDATE balances SET spent_pico = 0 WHERE id = 2", "spent_matches_events: balance 2 (agent a by total): spent is"),
    ("UPDATE balances SET reserved_pico = 0 WHERE id = 2", "spent_matches_events: balance 2 (agent a by total): reserved is"),
    ("UPDATE balances SET spent_pico = -1 WHERE id = 2", "no_negative_values: balance 2 (agent a by total): spent "),
    ("DELETE FROM balances WHERE id = 2", "spent_matches_events: balance 2 (agent a by total): its row is missing"),
    (
        "INSERT INTO balances VALUES (99, 3, 'month', 0, 1, NULL, 0, 0, 0)",
        "spent_matches_events: balance 99 (agent a by month): no event opened it",
    ),
    ("UPDATE budgets SET limit_pico = limit_pico * 1000 WHERE account = 2", "spent_matches_events: budget of account 2 by day: limit is"),
    ("UPDATE budgets SET period = 'month' WHERE account = 2", "spent_matches_events: budget of account 2 by month: no event set it"),
    ("DELETE FROM budgets WHERE account = 3", "spent_matches_events: budget of account 3 by total: its row is missing"),
    ("UPDATE accounts SET state = 'paused' WHERE id = 3", "event_log_integrity: account 3: state is"),
    ("UPDATE accounts SET state = 'active', closed_us = NULL WHERE id = 5", "event_log_integrity: account 5: state is"),
    ("UPDATE accounts SET rpm = 60000 WHERE id = 3", "event_log_integrity: account 3: limits is"),
    ("UPDATE accounts SET concurrent = 7 WHERE id = 3", "event_log_integrity: account 3: limits is"),
    ("UPDATE accounts SET policy = '{\"strict\":true}' WHERE id = 3", "event_log_integrity: account 3: policy is"),
    ("UPDATE accounts SET name = 'x' WHERE id = 3", "event_log_integrity: account 3: name is"),
    ("UPDATE accounts SET parent = 1 WHERE id = 3", "event_log_integrity: account 3: parent is"),
    ("UPDATE accounts SET kind = 'group' WHERE id = 3", "event_log_integrity: account 3: kind is"),
    ("UPDATE accounts SET reason = 'x' WHERE id = 3", "event_log_integrity: account 3: reason is"),
    ("UPDATE accounts SET created_us = 0 WHERE id = 3", "event_log_integrity: account 3: created_at is"),
    ("UPDATE accounts SET kind = 'ghost' WHERE id = 3", "event_log_integrity: accounts: a row cannot be read"),
    ("DELETE FROM accounts WHERE id = 5", "event_log_integrity: account 5: its row is missing"),
    (
        "INSERT INTO accounts SELECT 9, 1, kind, 'n', state, '', rpm, concurrent, policy, 1, NULL, tpm FROM accounts WHERE id = 3",
        "account 9: no event made it",
    ),
    ("INSERT INTO tokens (hash, account, read_only, created_us) VALUES (randomblob(32), 3, 0, 1)", "event_log_integrity: token "),
    ("UPDATE tokens SET revoked_us = NULL WHERE revoked_us IS NOT NULL", "revoked_at is none, by its events 20"),
    ("UPDATE tokens SET account = 4", "account is 4, by its events 3"),
    ("UPDATE tokens SET read_only = 1", "read_only is true"),
    ("UPDATE tokens SET expires_us = 1", "expires_at is 1970-01-01T00:00:00.000001Z, by its events none"),
    ("DELETE FROM tokens", "event_log_integrity: token "),
    ("UPDATE chain SET epoch = epoch + 1", "event_log_integrity: chain: epoch is"),
    ("UPDATE chain SET next_account = 3", "event_log_integrity: chain: next_account is"),
    ("UPDATE chain SET seq = seq - 1", "event_log_integrity: chain: head is"),
    ("UPDATE chain SET hash = zeroblob(32)", "event_log_integrity: chain: head is"),
    ("UPDATE chain SET ledger = replace(hex(zeroblob(16)), '0', 'a')", "event_log_integrity: chain: ledger is"),
    ("DELETE FROM chain", "event_log_integrity: chain: its row is missing"),
    ("UPDATE calls SET account = 3 WHERE request & 255 = 1", "spent_matches_events: req_0000010000000001: account is"),
    ("UPDATE calls SET model = 'x' WHERE request & 255 = 1", "spent_matches_events: req_0000010000000001: model is"),
    ("UPDATE calls SET state = 'exact' WHERE request & 255 = 2", "spent_matches_events: req_0000010000000002: state is"),
    ("UPDATE calls SET amount_pico = 1 WHERE request & 255 = 1", "spent_matches_events: req_0000010000000001: amount is"),
    ("UPDATE calls SET charge_pico = 0 WHERE request & 255 = 1", "spent_matches_events: req_0000010000000001: charge is"),
    ("UPDATE calls SET tokens = 0 WHERE request & 255 = 3", "spent_matches_events: req_0000010000000003: tokens is"),
    ("UPDATE calls SET held_us = 0 WHERE request & 255 = 1", "spent_matches_events: req_0000010000000001: held_at is"),
    ("UPDATE calls SET ended_us = 0 WHERE request & 255 = 1", "spent_matches_events: req_0000010000000001: ended_at is"),
    ("UPDATE calls SET held_seq = 1 WHERE request & 255 = 1", "spent_matches_events: req_0000010000000001: held_seq is"),
    ("UPDATE calls SET ended_seq = 1 WHERE request & 255 = 1", "spent_matches_events: req_0000010000000001: ended_seq is"),
    ("DELETE FROM calls WHERE request & 255 = 4", "req_0000010000000004: it has ended by its events, and its row is missing"),
    (
        "INSERT INTO calls SELECT request + 90, attempt, account, model, state, amount_pico, charge_pico, tokens, held_us, ended_us, held_seq, ended_seq FROM calls WHERE request & 255 = 1",
        "spent_matches_events: req_000001000000005b: no event ended it",
    ),
    ("UPDATE holds SET amount_pico = 1 WHERE request & 255 = 5", "spent_matches_events: req_0000010000000005: amount is"),
    ("UPDATE holds SET account = 3 WHERE request & 255 = 5", "spent_matches_events: req_0000010000000005: account is"),
    ("UPDATE holds SET balances = '1' WHERE request & 255 = 5", "spent_matches_events: req_0000010000000005: balances is"),
    ("UPDATE holds SET balances = 'x' WHERE request & 255 = 5", "event_log_integrity: holds: a row cannot be read"),
    ("UPDATE holds SET sent = 0 WHERE request & 255 = 5", "spent_matches_events: req_0000010000000005: sent is"),
    ("UPDATE holds SET deadline_us = deadline_us + 1 WHERE request & 255 = 5", "spent_matches_events: req_0000010000000005: deadline is"),
    ("DELETE FROM holds WHERE request & 255 = 5", "req_0000010000000005: it is held by its events, and its row is missing"),
    ("UPDATE holds SET epoch = 9 WHERE request & 255 = 5", "no_orphaned_reservations: req_0000010000000005"),
    ("UPDATE snapshots SET body = replace(body, '\"3\"', '\"1\"') WHERE kind = 'card'", "its text has another digest"),
    ("DELETE FROM snapshots WHERE kind = 'card'", "that it names is missing"),
    ("DELETE FROM snapshots WHERE kind = 'policy'", "that it names is missing"),
    (
        "UPDATE events SET body = replace(body, '\"n\"', '\"m\"') || ' ' WHERE seq = 3",
        "event_log_integrity: event 3: its hash does not follow",
    ),
    ("UPDATE events SET at_us = at_us + 1 WHERE seq = 3", "event_log_integrity: event 3: its hash does not follow"),
    ("DELETE FROM events WHERE seq = 3", "event_log_integrity: event 4: 3 was expected"),
    ("DELETE FROM events WHERE seq = (SELECT max(seq) FROM events)", "event_log_integrity: chain: head is"),
];

#[tokio::test]
async fn whatever_is_changed_by_hand_is_found_and_named() {
    let house = house().await;
    assert_eq!(house.broken().await, Vec::<String>::new());
    house.ledger.close();
    assert_eq!(audit_of(&house, ""), Vec::<String>::new());
    for (sql, words) in ROWS {
        let broken = audit_of(&house, sql);
        let is_code = |what: &&String| ["Some(", "None", "Pico(", "Id(", " { "].iter().any(|form| what.contains(form));
        assert_eq!(broken.iter().find(is_code), None, "{sql}: a finding in a form of the code");
        assert!(broken.iter().any(|what| what.contains(words)), "{sql}: {broken:#?}");
    }
}
