//! Restores among ledgers of one name that went different ways, and what they must not bring back.

use super::sealing::{calls, forget, house as busy, seal, write};
use super::*;
use aex_core::event::By;
use rusqlite::Connection;
use tempfile::TempDir;

const HOUR_US: i64 = 3_600_000_000;

async fn backup(house: &House, name: &str) -> PathBuf {
    house.ledger.backup(house.home.path().join(name)).await.unwrap().unwrap().path
}

async fn compact(house: &House) {
    seal(house, write(house, now()).await.unwrap()).await;
    while forget(house, 100).await {}
}

fn stop(house: House) -> TempDir {
    house.ledger.close();
    house.home
}

/// The next daemon, whose clock is so far ahead.
async fn start(home: TempDir, ahead_us: i64) -> House {
    let options = Options { path: home.path().join("ledger.db"), durability: Durability::Normal, zone: TimeZone::UTC, wal_limit: 1 << 20 };
    let ledger = Ledger::open_at(&options, Arc::new(move || clock::wall().offset(ahead_us))).unwrap();
    let house = House { home, ledger, requests: 0 };
    house.config(true).await;
    house
}

fn put(home: &TempDir, file: &Path, accept_loss: bool) -> Result<Restored, NotRestored> {
    restore(&home.path().join("ledger.db"), file, accept_loss, By { pid: 1, uid: 1 }).unwrap()
}

#[tokio::test]
async fn what_one_ledger_has_sealed_away_is_not_taken_for_what_the_other_has() {
    let (mut house, agent) = busy().await;
    let before = backup(&house, "before.db").await;
    calls(&mut house, agent, 6).await;
    compact(&house).await;
    let home = stop(house);
    let first = put(&home, &before, true).unwrap();
    let mut house = start(home, 0).await;
    calls(&mut house, agent, 3).await;
    let home = stop(house);
    let kept = first.kept.unwrap();
    let refused = put(&home, &kept, false);
    assert!(
        matches!(&refused, Err(NotRestored::WouldLose(why)) if why.contains("sealed away") && why.contains("calls for $")),
        "{refused:?}"
    );
    let lost = put(&home, &kept, true).unwrap().lost.unwrap();
    assert!(lost.calls >= 3, "{lost:?}");
}

#[tokio::test]
async fn a_backup_of_a_compacted_ledger_is_compared_with_it_as_far_as_can_be() {
    let (mut house, agent) = busy().await;
    let at_the_seal = backup(&house, "at-the-seal.db").await;
    compact(&house).await;
    let behind = backup(&house, "behind.db").await;
    calls(&mut house, agent, 2).await;
    // Once by events that both have, and once by no more than a seal that both have: by then the call in flight has ended with its daemon.
    for (seals_again, calls) in [(false, "2 calls for $"), (true, "3 calls for $")] {
        if seals_again {
            compact(&house).await;
        }
        let home = stop(house);
        for file in [&behind, &at_the_seal].iter().take(if seals_again { 1 } else { 2 }) {
            let Err(NotRestored::WouldLose(why)) = put(&home, file, false) else { panic!("{} was restored", file.display()) };
            assert!(why.contains(calls) && why.contains("sealed away") == seals_again, "{}: {why}", file.display());
        }
        house = start(home, 0).await;
    }
    let home = stop(house);
    assert!(put(&home, &at_the_seal, true).unwrap().lost.unwrap().calls >= 2);
}

#[tokio::test]
async fn a_revocation_is_carried_over_as_what_it_was_wherever_the_clock_stood() {
    // How far the clock is ahead, the grace, whether a compaction comes behind it, which leaves a grace alone; whether the grace is left.
    let rows = [(24 * HOUR_US, 0, false, false), (0, HOUR_US, false, true), (0, HOUR_US, true, true), (0, 0, false, false)];
    for (ahead, grace, sealed, is_left) in rows {
        let house = House::new().await;
        let agent = house.account(1, AccountKind::Agent, "a", &[]).await;
        house.token(agent, 1).await;
        let file = backup(&house, "b.db").await;
        let house = start(stop(house), ahead).await;
        house.revoke(agent, grace).await;
        if sealed {
            compact(&house).await;
        }
        let home = stop(house);
        let restored = put(&home, &file, true).unwrap();
        assert_eq!(restored.revoked, 1);
        let conn = Connection::open(home.path().join("ledger.db")).unwrap();
        let at: i64 = conn.query_row("SELECT revoked_us FROM tokens", [], |row| row.get(0)).unwrap();
        assert_eq!(Stamp::new(at) > now(), is_left, "ahead {ahead}, grace {grace}, sealed {sealed}");
    }
}

#[tokio::test]
async fn tokens_of_another_lineage_come_back_with_a_warning() {
    let house = House::new().await;
    let early = backup(&house, "early.db").await;
    let agent = house.account(1, AccountKind::Agent, "returning", &[]).await;
    house.token(agent, 1).await;
    let late = backup(&house, "late.db").await;
    house.revoke(agent, 0).await;
    let home = stop(house);
    assert_eq!(put(&home, &early, true).unwrap().warnings, Vec::<String>::new());
    let warnings = put(&home, &late, true).unwrap().warnings;
    assert!(matches!(warnings.as_slice(), [one] if one.contains("are good again") && one.contains("tokens of returning")), "{warnings:?}");
}

#[tokio::test]
async fn a_ledger_that_is_busy_or_out_of_reach_is_not_taken_for_a_damaged_one() {
    let house = House::new().await;
    let file = backup(&house, "b.db").await;
    let home = stop(house);
    let path = home.path().join("ledger.db");
    let by = || By { pid: 1, uid: 1 };
    let other = Connection::open(&path).unwrap();
    other.execute_batch("PRAGMA locking_mode = EXCLUSIVE; BEGIN IMMEDIATE; UPDATE chain SET epoch = epoch; COMMIT").unwrap();
    let refused = restore(&path, &file, true, by());
    assert!(refused.is_err(), "{refused:?}");
    drop(other);
    // What is damaged where no number depends on it can be replaced; nobody can count then what is lost.
    Connection::open(&path).unwrap().execute_batch("DROP TABLE calls").unwrap();
    assert!(matches!(put(&home, &file, false), Err(NotRestored::WouldLose(why)) if why.contains("cannot be read")));
    let restored = put(&home, &file, true).unwrap();
    assert_eq!(restored.lost, None);

    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    let refused = restore(&path, &file, true, by());
    assert!(refused.is_err(), "{refused:?}");
    assert!(path.is_dir());
}
