//! The event chain: a part of it, or as it grows.

use super::agents;
use super::connection::{After, Lines};
use super::export::told_sealed;
use super::fault::{Answer, read, unfit};
use crate::gate::Gate;
use crate::ledger::{EventFilter, LedgerFault, OwnedEvent};
use aex_proto::event::{Event, EventList, EventNotice, EventQuery, EventTail, Subscription};
use aex_proto::frame;
use aex_proto::method::EventPushed;
use aex_proto::rpc::{ErrorObject, Fault, Id, Request, Response, Standard};
use aex_proto::value::AccountId;
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// Events that are read, and queued, at once.
const PAGE: u32 = 100;
/// How long new events are gathered before they are read.
const GATHER: Duration = Duration::from_millis(10);
/// How long a page may wait for a reader; after that the subscription ends. Shorter than the deadline of a line.
const PATIENCE: Duration = Duration::from_secs(10);

/// A subscription that is about to begin.
pub(super) struct Tail {
    pub(super) subscription: u64,
    after: i64,
    within: Option<AccountId>,
}

pub(super) async fn list(gate: &Gate, query: EventQuery) -> Answer<EventList> {
    let account = match (&query.agent, query.account) {
        (Some(_), Some(_)) => return Err(unfit("name the agent or the account, not both")),
        (Some(name), None) => Some(agents::find(gate, name).await?),
        (None, account) => account,
    };
    let filter = EventFilter {
        after: query.after.map_or(0, seq),
        until: None,
        newest: query.after.is_none(),
        limit: query.limit.min(EventQuery::MAX_LIMIT),
        account,
    };
    read(gate, move |reader| {
        let owned = reader.owned(reader.events(&filter)?, None)?;
        Ok(EventList {
            events: owned.into_iter().map(event).collect::<Result<_, _>>()?,
            head_seq: reader.head()?.seq.unsigned_abs(),
            sealed: reader.sealed()?.map(told_sealed),
        })
    })
    .await
}

pub(super) async fn tail(gate: &Gate, subscription: u64, wanted: EventTail) -> Answer<(Subscription, After)> {
    let within = match &wanted.agent {
        Some(name) => Some(agents::find(gate, name).await?),
        None => None,
    };
    let (head, sealed) = read(gate, |reader| Ok((reader.head()?.seq, reader.sealed()?))).await?;
    let after = wanted.after.map_or(head, seq);
    if let Some(sealed) = sealed.filter(|sealed| after < sealed.last) {
        let why = format!("events up to {} are in segments, the newest of them in {}", sealed.last, sealed.path);
        return Err(ErrorObject::fault(Fault::Gone, why));
    }
    let reply = Subscription { subscription, after: after.unsigned_abs() };
    Ok((reply, After::Tail(Tail { subscription, after, within })))
}

/// A number of the protocol as one of the chain; beyond its range there is no event.
fn seq(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn event(owned: OwnedEvent) -> Result<Event, LedgerFault> {
    let record = owned.record;
    Ok(Event {
        seq: record.seq.unsigned_abs(),
        at: record.at,
        kind: record.kind,
        hash: record.hash,
        account: owned.account,
        agent: owned.agent,
        group: owned.group,
        body: serde_json::from_str(&record.body).map_err(|fault| LedgerFault::Broken(fault.to_string()))?,
    })
}

/// Pushes events until the client goes, reads too slowly, or the ledger ends. Pages are read when the last one is in line, so
/// a slow client costs one page of memory.
pub(super) async fn follow(gate: Gate, tail: Tail, lines: Lines) {
    let subscription = tail.subscription;
    let ended = pages(&gate, tail, &lines, PATIENCE).await;
    let Some(error) = ended else { return };
    let error = ErrorObject { message: format!("subscription {subscription}: {}", error.message), ..error };
    if let Ok(line) = frame::line(&Response::error(Id::Null, error)) {
        // Bounded by the deadline of the lines before it: then the connection ends, and with it this task.
        lines.send(line).await.ok();
    }
}

/// Why the subscription has ended; `None` when nobody is left to be told.
async fn pages(gate: &Gate, tail: Tail, lines: &Lines, patience: Duration) -> Option<ErrorObject> {
    let Tail { subscription, mut after, within } = tail;
    let ledger = gate.ledger();
    let mut head = ledger.head();
    loop {
        let until = head.borrow_and_update().seq;
        while after < until {
            let filter = EventFilter { after, until: Some(until), newest: false, limit: PAGE, account: None };
            let page = ledger.read(move |reader| {
                let records = reader.events(&filter)?;
                let last = records.last().map_or(until, |record| record.seq);
                Ok((last, reader.owned(records, within)?))
            });
            let (last, owned) = match page.await {
                Ok(page) => page,
                Err(fault) => return Some(ErrorObject::fault(Fault::Unavailable, fault.to_string())),
            };
            let page = match notices(subscription, owned) {
                Ok(page) => page,
                Err(fault) => return Some(ErrorObject::standard(Standard::Internal, &fault)),
            };
            if !page.is_empty() {
                match timeout(patience, lines.send(page)).await {
                    Ok(sent) => sent.ok()?,
                    Err(_) => {
                        return Some(ErrorObject::fault(
                            Fault::Throttled,
                            format!("its reader is too slow; it ended behind event {after}"),
                        ));
                    }
                }
            }
            after = last;
        }
        head.changed().await.ok()?;
        sleep(GATHER).await;
    }
}

#[cfg(test)]
pub(super) async fn crowded_out(gate: &Gate, lines: &Lines) -> Option<ErrorObject> {
    let tail = Tail { subscription: 1, after: 0, within: None };
    pages(gate, tail, lines, Duration::ZERO).await
}

fn notices(subscription: u64, owned: Vec<OwnedEvent>) -> Result<Vec<u8>, String> {
    let mut page = Vec::new();
    for owned in owned {
        let notice = EventNotice { subscription, event: event(owned).map_err(|fault| fault.to_string())? };
        let request = Request::notice::<EventPushed>(&notice).map_err(|fault| fault.to_string())?;
        page.append(&mut frame::line(&request).map_err(|fault| fault.to_string())?);
    }
    Ok(page)
}
