//! Answers and flushes that reach the tasks of a thread through its mailbox.

use super::*;
use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

/// A ledger whose holds have to be on disk before they are sent.
async fn house(durability: Durability) -> House {
    let home = tempfile::tempdir().unwrap();
    let options = Options { path: home.path().join("ledger.db"), durability, zone: TimeZone::UTC, wal_limit: 1 << 20 };
    let house = House { ledger: Ledger::open(&options).unwrap(), home, requests: 0 };
    house.config(true).await;
    house
}

async fn hold(ledger: &Ledger, account: AccountId, number: u64) -> Result<Result<Held, Denial>, LedgerFault> {
    let key = HoldKey { request: RequestId::new(ledger.epoch(), number), attempt: 0 };
    ledger.hold(Box::new(hold_call(key, account, 5, true))).await
}

#[tokio::test]
async fn each_task_of_a_thread_hears_of_its_own_hold() {
    for durability in [Durability::Full, Durability::Overlap, Durability::Normal] {
        let house = house(durability).await;
        let agent = house.account(1, AccountKind::Agent, "a", &[(Period::Total, 1_000_000_000)]).await;
        let poor = house.account(1, AccountKind::Agent, "b", &[(Period::Total, 1)]).await;
        let attending = tokio::spawn(house.ledger.attend());
        let tasks: Vec<_> = (1..=40)
            .map(|number| {
                let ledger = house.ledger.clone();
                tokio::spawn(async move {
                    let held = hold(&ledger, if number % 4 == 0 { poor } else { agent }, number).await.unwrap();
                    if let Ok(held) = &held {
                        ledger.may_relay(held).await.unwrap();
                        assert!(durability == Durability::Normal || ledger.inner.disk.newest() >= held.commit);
                    }
                    (number, held.is_ok())
                })
            })
            .collect();
        for task in tasks {
            let (number, is_held) = task.await.unwrap();
            assert_eq!(is_held, number % 4 != 0, "{number} at {durability:?}");
        }
        attending.abort();
        // Without a mailbox it goes on.
        assert!(attending.await.unwrap_err().is_cancelled());
        assert!(hold(&house.ledger, agent, 100).await.unwrap().is_ok());
        assert!(house.ledger.inner.disk.office().is_empty());
        assert_eq!(house.broken().await, Vec::<String>::new());
    }
}

#[tokio::test]
async fn a_disk_that_refuses_ends_every_wait() {
    let house = house(Durability::Normal).await;
    let agent = house.account(1, AccountKind::Agent, "a", &[(Period::Total, 1_000_000_000)]).await;
    let _attending = tokio::spawn(house.ledger.attend());
    tokio::task::yield_now().await;
    let held = hold(&house.ledger, agent, 1).await.unwrap().unwrap();
    // A commit that no flush will ever reach.
    let never = Held { commit: held.commit + 1_000, ..held };
    let mut waits = pin!(house.ledger.flushed(never.commit));
    assert!(poll_fn(|context| Poll::Ready(waits.as_mut().poll(context))).await.is_pending());
    house.ledger.inner.disk.refuse();
    assert!(waits.await.is_err());
    assert!(house.ledger.flushed(never.commit).await.is_err());
    assert!(hold(&house.ledger, agent, 2).await.is_err());
}

#[tokio::test]
async fn a_mailbox_that_closes_leaves_nobody_waiting() {
    let house = house(Durability::Normal).await;
    let attending = tokio::spawn(house.ledger.attend());
    tokio::task::yield_now().await;
    let mut waits = pin!(house.ledger.flushed(1_000_000));
    assert!(poll_fn(|context| Poll::Ready(waits.as_mut().poll(context))).await.is_pending());
    attending.abort();
    assert!(waits.await.is_err());
}
