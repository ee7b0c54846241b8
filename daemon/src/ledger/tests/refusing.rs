//! A disk that refuses: what was promised stands, nothing new is admitted, and all goes on when there is room again.

use super::*;
use aex_core::event::{Outcome, Settled};
use aex_core::price::Line;
use aex_core::usage::Bucket;

/// SQLite answers SQLITE_FULL past this many pages, as it does on a full disk.
async fn room(house: &House, pages: u32) {
    let act = move |writer: &mut Writer<'_>| {
        writer.conn.query_row(&format!("PRAGMA max_page_count = {pages}"), [], |_| Ok(()))?;
        Ok(Ok(()))
    };
    house.ledger.admin(act).await.unwrap().unwrap();
}

pub(super) fn exact(tokens: u64) -> Ending {
    let lines = vec![Line(Bucket::Input, tokens, Pico::new(2)), Line(Bucket::Call, 1, Pico::new(7))];
    Ending::Settle {
        state: Settled::Exact,
        lines,
        outcome: Outcome::Answered,
        relayed: None,
        status: Some(200),
        tier: None,
        unknown_usage: Vec::new(),
    }
}

/// Places a hold; `None` when the ledger cannot commit it.
async fn hold(house: &mut House, account: AccountId) -> Option<HoldKey> {
    house.requests += 1;
    let key = HoldKey { request: RequestId::new(house.ledger.epoch(), house.requests), attempt: 0 };
    let ask = Ask { body_bytes: 100, choices: 1, messages: 1, model: "m".to_owned(), max_tokens: Some(5), ..Ask::default() };
    let bound = price::bound(&ask, &card(), 5).unwrap();
    let call = HoldCall {
        tool: None,
        tool_card: None,
        key,
        account,
        ask,
        card: card().snapshot().1,
        policy: seed(),
        facts: None,
        changes: Vec::new(),
        rule: None,
        amount: bound.amount,
        input: Digest::ZERO,
        input_tokens: bound.input_tokens,
        output_tokens: bound.output_tokens,
        max_tokens: 5,
        lasts_us: 3_600_000_000,
        sent: true,
        idempotency: None,
        skipped: Vec::new(),
    };
    house.ledger.hold(Box::new(call)).await.ok().map(|held| held.map(|_| key).unwrap())
}

#[tokio::test]
async fn a_full_disk_admits_nothing_loses_no_end_and_heals() {
    let mut house = House::new().await;
    let agent = house.account(1, AccountKind::Agent, "a", &[(Period::Total, 1_000_000_000)]).await;
    let first = hold(&mut house, agent).await.unwrap();
    room(&house, 1).await;
    // Pages that are not full yet still take some rows.
    let mut placed = vec![first];
    while let Some(key) = hold(&mut house, agent).await {
        placed.push(key);
        assert!(placed.len() < 10_000, "the disk never got full");
    }
    // The next one comes after the writer has said so.
    assert!(hold(&mut house, agent).await.is_none());
    assert!(!house.ledger.is_available());
    // Each end is asked for while nothing can be written: none may be lost.
    for key in &placed {
        house.ledger.end(*key, exact(10)).unwrap();
    }
    assert!(hold(&mut house, agent).await.is_none());
    // Room again, from without: the writer retries by itself, and the first admin action behind that goes through.
    let room = |writer: &mut Writer<'_>| writer.conn.query_row("PRAGMA max_page_count = 1000000", [], |_| Ok(()));
    house.ledger.look(room).await.unwrap().unwrap();
    while house.ledger.admin(|_| Ok(Ok(()))).await.is_err() {}
    let after = hold(&mut house, agent).await.unwrap();
    house.ledger.end(after, exact(10)).unwrap();
    assert!(house.ledger.is_available());
    assert_eq!(house.broken().await, Vec::<String>::new());
    let rows = house.ledger.read(|reader| reader.accounts(AccountKind::Agent, now())).await.unwrap();
    let spent = rows[0].balances[0].spent.get();
    assert_eq!(spent, i64::try_from(placed.len() + 1).unwrap() * 27);
    assert_eq!(rows[0].balances[0].reserved, Pico::ZERO);
}

#[tokio::test]
async fn a_hold_of_an_account_that_was_just_deleted_is_refused_alone() {
    let mut house = House::new().await;
    let gone = house.account(1, AccountKind::Agent, "gone", &[]).await;
    let stays = house.account(1, AccountKind::Agent, "stays", &[]).await;
    house.ledger.admin(move |writer| writer.close_account(gone, "deleted", None).map(Ok)).await.unwrap().unwrap();
    assert!(house.call(gone, 5, true).await.is_none());
    assert!(house.call(stays, 5, true).await.is_some());
    assert!(house.ledger.is_available());
}

/// Closing any descriptor of a file drops the locks that the process holds on it (fcntl(2)): then another program would take
/// the database for idle, and delete the WAL below the daemon.
#[tokio::test]
async fn the_database_stays_locked_after_the_wal_was_started_anew() {
    let mut house = House::new().await;
    let agent = house.account(1, AccountKind::Agent, "a", &[]).await;
    let inode = std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(house.path()).unwrap());
    let is_told = || {
        let locks = std::fs::read_to_string("/proc/locks").unwrap();
        locks.lines().any(|line| line.contains(&format!(":{inode} ")) && line.contains(&format!(" {} ", std::process::id())))
    };
    // The kernel's list is read piece by piece: one that changes meanwhile may leave a lock out, and tells none that is not there.
    let is_locked = || (0..100).any(|_| is_told());
    assert!(is_locked());
    // Past 512 groups the checkpointer looks, and past the limit of 1 MiB it starts the WAL anew.
    for _ in 0..2_000 {
        let key = house.call(agent, 5, true).await.unwrap();
        house.ledger.end(key, exact(10)).unwrap();
    }
    assert!(is_locked());
    assert_eq!(house.broken().await, Vec::<String>::new());
}

/// A provider may report whatever it likes.
#[tokio::test]
async fn a_budget_can_be_set_when_the_bills_of_its_period_are_beyond_the_range_of_money() {
    let mut house = House::new().await;
    let agent = house.account(1, AccountKind::Agent, "a", &[]).await;
    // A call that is in flight all the while has its room in every row.
    let open = house.call(agent, 5, true).await.unwrap();
    for _ in 0..2 {
        let key = house.call(agent, 5, true).await.unwrap();
        house.ledger.end(key, exact(4_000_000_000_000_000_000)).unwrap();
        house.ledger.settled().await.unwrap();
    }
    assert_eq!(house.set_budget(agent, Period::Day, 1_000).await, Pico::MAX);
    assert!(house.call(agent, 5, true).await.is_none());
    assert_eq!(house.broken().await, Vec::<String>::new());
    house.ledger.end(open, exact(4_000_000_000_000_000_000)).unwrap();
    assert_eq!(house.broken().await, Vec::<String>::new());
}
