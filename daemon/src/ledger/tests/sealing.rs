//! Old events taken out of the ledger: what stays proves what is gone, whatever moment a kill comes at, and whatever is changed by hand.

use super::*;
use aex_core::decision::AuthCause;
use aex_core::event::{AuthFailed, Outcome, Settled};
use aex_core::price::Charge;
use aex_core::usage::Usage;
use aex_proto::value::Stamp;
use rusqlite::Connection;

/// An agent with so many calls that ended, one in flight, a refusal and a failed authentication.
pub(super) async fn house() -> (House, AccountId) {
    let mut house = House::new().await;
    let agent = house.account(1, AccountKind::Agent, "a", &[(Period::Total, 200_000), (Period::Day, 100_000)]).await;
    house.token(agent, 1).await;
    calls(&mut house, agent, 5).await;
    assert!(house.call(agent, 50, true).await.is_some());
    let poor = house.account(1, AccountKind::Agent, "poor", &[(Period::Total, 1)]).await;
    assert_eq!(house.call(poor, 50, true).await, None);
    let (first, last) = (RequestId::new(1, 90), RequestId::new(1, 92));
    house.ledger.record(AuthFailed { cause: AuthCause::Unknown, count: 3, first, last }.into(), [None, None]).unwrap();
    house.ledger.settled().await.unwrap();
    (house, agent)
}

pub(super) async fn calls(house: &mut House, agent: AccountId, count: usize) {
    let lines = Charge::of(&Usage::text(9, 5), &card().price.unwrap()).unwrap().lines;
    for _ in 0..count {
        let key = house.call(agent, 50, true).await.unwrap();
        let (state, outcome) = (Settled::Exact, Outcome::Answered);
        house
            .ledger
            .end(
                key,
                Ending::Settle {
                    state,
                    lines: lines.clone(),
                    outcome,
                    relayed: None,
                    status: Some(200),
                    tier: None,
                    unknown_usage: Vec::new(),
                },
            )
            .unwrap();
    }
    house.ledger.settled().await.unwrap();
}

pub(super) async fn write(house: &House, before: Stamp) -> Result<Segment, Refused> {
    let folder = house.home.path().join("segments");
    house.ledger.read(move |reader| reader.segment(before, &folder, now())).await.unwrap()
}

pub(super) async fn seal(house: &House, segment: Segment) {
    house.ledger.admin(move |writer| writer.seal(&segment, None)).await.unwrap().unwrap();
}

pub(super) async fn forget(house: &House, at_most: i64) -> bool {
    house.ledger.admin(move |writer| writer.forget_sealed(at_most).map(Ok)).await.unwrap().unwrap()
}

async fn first(house: &House) -> Option<i64> {
    let all = EventFilter { limit: 1, ..EventFilter::default() };
    house.ledger.read(move |reader| Ok(reader.events(&all)?.first().map(|event| event.seq))).await.unwrap()
}

/// What a kill at this moment leaves, in a folder of its own: audited at rest, and by the next daemon.
async fn killed_now(house: &House) {
    let home = tempfile::tempdir().unwrap();
    for file in ["ledger.db", "ledger.db-wal"] {
        std::fs::copy(house.home.path().join(file), home.path().join(file)).unwrap();
    }
    let path = home.path().join("ledger.db");
    let broken = words(&read_only_audit(&path).unwrap());
    assert!(broken.iter().all(|what| what.contains("nobody works on it")), "{broken:#?}");
    let next = House { ledger: open(home.path(), TimeZone::UTC), home, requests: 0 };
    assert_eq!(next.broken().await, Vec::<String>::new());
    while forget(&next, 3).await {}
    assert_eq!(next.broken().await, Vec::<String>::new());
    next.ledger.close();
}

#[tokio::test]
async fn a_kill_at_any_step_leaves_a_ledger_that_audits() {
    let (mut house, agent) = house().await;
    for round in 0..2 {
        killed_now(&house).await;
        let segment = write(&house, now()).await.unwrap();
        assert!(segment.path.is_file(), "{segment:?}");
        killed_now(&house).await;
        let last = segment.last;
        seal(&house, segment).await;
        killed_now(&house).await;
        assert_eq!(first(&house).await, Some(last + 1), "what is sealed and not deleted yet is not told");
        while forget(&house, 4).await {
            killed_now(&house).await;
        }
        killed_now(&house).await;
        assert_eq!((house.broken().await, first(&house).await), (Vec::new(), Some(last + 1)), "round {round}");
        calls(&mut house, agent, 3).await;
        assert_eq!(house.broken().await, Vec::<String>::new());
    }
    house.ledger.close();
}

#[tokio::test]
async fn what_was_counted_is_counted_after_a_restart_too() {
    let (house, _) = house().await;
    let before = format!("{:?}", house.ledger.tally().await.unwrap());
    seal(&house, write(&house, now()).await.unwrap()).await;
    while forget(&house, 100).await {}
    house.ledger.close();
    let House { home, ledger, .. } = house;
    drop(ledger);
    let next = House { ledger: open(home.path(), TimeZone::UTC), home, requests: 0 };
    let worst = |text: &str| text.matches("worst_case: 1").count();
    let after = format!("{:?}", next.ledger.tally().await.unwrap());
    assert_eq!((worst(&before), worst(&after) > 0), (0, true), "the call in flight ended in full");
    for words in ["denials: {\"budget\": 1}", "exact: 5", "Unknown: 3"] {
        assert_eq!((before.contains(words), after.contains(words)), (true, true), "{words}: {before} and {after}");
    }
    assert_eq!(after.matches("\"budget\"").count(), before.matches("\"budget\"").count());
}

#[tokio::test]
async fn nothing_is_sealed_when_there_is_nothing_or_the_audit_finds_something() {
    let (mut house, agent) = house().await;
    assert!(matches!(write(&house, Stamp::new(1)).await, Err(Refused::State(why)) if why.starts_with("no event from before")));
    // A run that is open keeps the events since it began: its sums are made of them.
    let began = house.ledger.read(|reader| Ok(reader.head()?.seq)).await.unwrap();
    house.account(agent.get(), AccountKind::Run, "r", &[]).await;
    calls(&mut house, agent, 1).await;
    let segment = write(&house, now()).await.unwrap();
    assert_eq!(segment.last, began);
    let other = segment.clone();
    seal(&house, segment).await;
    let twice = house.ledger.admin(move |writer| writer.seal(&other, None)).await.unwrap();
    assert!(matches!(twice, Err(Refused::State(why)) if why.contains("meanwhile")));
    let events = house.ledger.read(|reader| Ok(reader.head()?.seq)).await.unwrap();

    let conn = Connection::open(house.path()).unwrap();
    conn.execute_batch("DROP TRIGGER calls_are_final; UPDATE calls SET charge_pico = 1 WHERE ended_seq > (SELECT max(last) FROM seals)")
        .unwrap();
    let run = house.ledger.admin(|writer| writer.find(AccountKind::Run, "r").map_or_else(|why| Ok(Err(why)), |run| Ok(Ok(run)))).await;
    house.ledger.admin(move |writer| writer.close_account(run.unwrap().unwrap().id, "over", None).map(Ok)).await.unwrap().unwrap();
    let refused = write(&house, now()).await;
    assert!(
        matches!(&refused, Err(Refused::State(why)) if why.starts_with("nothing is sealed: ") && why.contains("charge is")),
        "{refused:?}"
    );
    assert_eq!(house.ledger.read(|reader| Ok(reader.sealed()?.map(|sealed| sealed.last))).await.unwrap(), Some(began));
    assert!(house.ledger.read(|reader| Ok(reader.head()?.seq)).await.unwrap() > events);
    house.ledger.close();
}

/// SQL, and the one thing that the audit has to say of it.
const ROWS: &[(&str, &str)] = &[
    ("UPDATE seals SET state_text = replace(state_text, '\"exact\":5', '\"exact\":6')", "its text has another digest"),
    ("UPDATE seals SET state_text = NULL", "its text has another digest"),
    ("UPDATE seals SET state = zeroblob(32)", "its text has another digest"),
    ("UPDATE seals SET denials_text = replace(denials_text, '1', '2')", "what it knows of refusals has another digest"),
    ("UPDATE seals SET denials = zeroblob(32)", "seal of event"),
    ("UPDATE seals SET segment = zeroblob(32)", "by its event events "),
    ("UPDATE seals SET first = 2", "by its event events "),
    ("DELETE FROM seals", "event_log_integrity: event "),
    ("INSERT INTO seals SELECT 3, 2, path, segment, state, denials, NULL, NULL FROM seals", "seals: 2 rows, by their events 1"),
    ("UPDATE calls SET charge_pico = charge_pico + 1 WHERE request & 255 = 2", "spent_matches_events: calls that ended up to event"),
    ("UPDATE calls SET ended_seq = ended_seq + 1 WHERE request & 255 = 2", "spent_matches_events: calls that ended up to event"),
    ("UPDATE calls SET model = 'x' WHERE request & 255 = 2", "spent_matches_events: calls that ended up to event"),
    ("UPDATE calls SET state = 'estimated' WHERE request & 255 = 2", "spent_matches_events: calls that ended up to event"),
    ("DELETE FROM calls WHERE request & 255 = 2", "spent_matches_events: calls that ended up to event"),
    ("UPDATE balances SET spent_pico = spent_pico + 1 WHERE id = 1", "spent_matches_events: balance 1 ("),
    ("UPDATE holds SET amount_pico = 1", "spent_matches_events: req_"),
    ("UPDATE accounts SET rpm = 9 WHERE id = 2", "event_log_integrity: account 2: limits is"),
    ("DELETE FROM tokens", "event_log_integrity: token"),
    ("UPDATE events SET body = replace(body, '\"first\":1', '\"first\":2') WHERE kind = 'ledger.sealed'", "its hash does not follow"),
    ("DELETE FROM events WHERE kind = 'ledger.sealed'", "event_log_integrity"),
];

#[tokio::test]
async fn whatever_is_changed_by_hand_in_what_was_sealed_is_found() {
    let (mut house, agent) = house().await;
    seal(&house, write(&house, now()).await.unwrap()).await;
    while forget(&house, 100).await {}
    calls(&mut house, agent, 2).await;
    assert_eq!(house.broken().await, Vec::<String>::new());
    house.ledger.close();
    let audit_of = |sql: &str| {
        let path = house.home.path().join("copy.db");
        drop(std::fs::remove_file(&path));
        std::fs::copy(house.path(), &path).unwrap();
        let conn = Connection::open(&path).unwrap();
        conn.execute_batch("PRAGMA ignore_check_constraints = 1").unwrap();
        tampered::unguarded(&conn, sql);
        words(&Reader::new(&conn).audit(now(), Some(1)).unwrap())
    };
    assert_eq!(audit_of(""), Vec::<String>::new());
    for (sql, words) in ROWS {
        let broken = audit_of(sql);
        assert!(broken.iter().any(|what| what.contains(words)), "{sql}: {broken:#?}");
    }
}

#[tokio::test]
async fn the_tables_let_nobody_delete_an_event_that_is_not_sealed() {
    let (house, _) = house().await;
    let segment = write(&house, now()).await.unwrap();
    let last = segment.last;
    let conn = Connection::open(house.path()).unwrap();
    assert!(conn.execute("DELETE FROM events WHERE seq = 1", []).is_err_and(|fault| fault.to_string().contains("sealed")));
    seal(&house, segment).await;
    assert!(conn.execute("DELETE FROM events WHERE seq = ?", [last + 1]).is_err());
    assert!(conn.execute("DELETE FROM seals", []).is_err() && conn.execute("UPDATE seals SET last = 99", []).is_err());
    assert!(conn.execute("DELETE FROM events WHERE seq = 1", []).is_ok());
    house.ledger.close();
}

#[tokio::test]
async fn a_budget_whose_past_was_compacted_meanwhile_is_summed_up_anew() {
    let (mut house, agent) = house().await;
    let early = house.ledger.past(agent, Period::Week).await.unwrap();
    calls(&mut house, agent, 3).await;
    let segment = write(&house, now()).await.unwrap();
    seal(&house, segment).await;
    while forget(&house, 1_000).await {}
    let fits = |past: Option<Past>| house.ledger.admin(move |writer| writer.is_past(agent, Period::Week, past.as_ref()).map(Ok));
    assert!(!fits(early).await.unwrap().unwrap());
    house.set_budget(agent, Period::Week, 50_000_000).await;
    let row = house.ledger.read(move |reader| reader.account(agent, now())).await.unwrap().unwrap();
    let spent = |period| row.balances.iter().find(|balance| balance.period == period).map(|balance| balance.spent);
    assert_eq!(spent(Period::Week), spent(Period::Total));
    assert_eq!(house.broken().await, Vec::<String>::new());
}

#[tokio::test]
async fn a_look_at_the_chain_goes_on_behind_what_is_compacted_meanwhile() {
    let (mut house, agent) = house().await;
    let conn = schema::open_for_reading(&house.path()).unwrap();
    let third = house.ledger.read(|reader| Ok(reader.events(&EventFilter { limit: 3, ..EventFilter::default() })?.pop())).await.unwrap();
    let third = third.unwrap();
    let mut before = Some(aex_core::chain::Head { seq: third.seq, hash: third.hash });
    let segment = write(&house, now()).await.unwrap();
    seal(&house, segment).await;
    while forget(&house, 1_000).await {}
    calls(&mut house, agent, 2).await;
    while check::slice(&conn, &mut before).unwrap() {}
    assert_eq!(before.map(|head| head.seq), Some(house.ledger.head().borrow().seq));
}

#[tokio::test]
async fn a_grace_that_runs_is_not_compacted_and_lasts_over_a_start() {
    let (house, agent) = house().await;
    house.revoke(agent, 3_600_000_000).await;
    let segment = write(&house, now()).await.unwrap();
    seal(&house, segment).await;
    while forget(&house, 1_000).await {}
    let House { home, ledger, .. } = house;
    ledger.close();
    drop(ledger);
    let again = open(home.path(), TimeZone::UTC);
    let revoked: Vec<Option<Stamp>> = again.directory().tokens.values().map(|token| token.revoked_at).collect();
    assert!(revoked.iter().all(|at| at.is_some_and(|at| at > now())) && revoked.len() == 1, "{revoked:?}");
}

#[tokio::test]
async fn a_start_does_not_take_windows_of_another_zone_for_damage() {
    let House { home, ledger, requests } = House::new().await;
    ledger.close();
    drop(ledger);
    let ledger = open(home.path(), TimeZone::fixed(jiff::tz::offset(5)));
    let mut house = House { home, ledger, requests };
    house.config(true).await;
    let agent = house.account(1, AccountKind::Agent, "a", &[(Period::Total, 1_000_000)]).await;
    calls(&mut house, agent, 2).await;
    house.set_budget(agent, Period::Week, 500_000).await;
    house.ledger.settled().await.unwrap();
    // The zone of the events is known here by other rules than those by which they were written.
    let rules: aex_core::verify::Zones = |_| Some(TimeZone::fixed(jiff::tz::offset(-7)));
    let trusting = move |reader: &Reader<'_>| reader.audit_with(rules, now(), Some(2), &[], aex_core::verify::Audit::trust_windows);
    let strict = move |reader: &Reader<'_>| reader.audit_with(rules, now(), Some(2), &[], |_| {});
    let of_rows = |report: &AuditReport| words(report).into_iter().filter(|what| !what.contains(": event ")).collect::<Vec<_>>();
    let (trusting, strict) = house.ledger.read(move |reader| Ok((trusting(reader)?, strict(reader)?))).await.unwrap();
    assert_eq!(of_rows(&trusting), Vec::<String>::new());
    assert!(of_rows(&strict).iter().any(|what| what.contains("window")), "{:?}", words(&strict));
}
