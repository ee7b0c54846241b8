//! A ledger as a file: whole it passes, and nothing in it can be changed without being found, with its line.

use super::forged::story;
use super::*;
use crate::export::{Agent, Filter, Header, Reader, Row, Verified, Verifier, Writer, named};
use std::collections::BTreeSet;

/// The lines of an export by the scribe, from behind an event on, for one agent or all.
fn export(scribe: &Scribe, after: usize, agent: Option<i64>) -> Vec<u8> {
    let records = Scribe::chained(&scribe.events);
    let mut before = Audit::new(zones);
    snapshots().iter().for_each(|(kind, text, digest)| before.snapshot(*digest, kind, text));
    for record in &records[..after] {
        scribe.take(&mut before, record);
    }
    let agent = agent.map(AccountId::new);
    let path: BTreeSet<AccountId> = agent.map(|agent| scribe.books.path(agent).into_iter().collect()).unwrap_or_default();
    let below = |id: AccountId| agent.is_none_or(|agent| scribe.books.path(id).contains(&agent));
    let own: BTreeSet<AccountId> = scribe.accounts.iter().map(|row| row.id).filter(|id| below(*id)).collect();
    let state = agent.map_or_else(|| before.checkpoint(), |agent| before.checkpoint().within(agent, &path, &own));
    let open = state.open().map(|hold| hold.key).collect();
    let mut filter = agent.map(|_| Filter::new(path.clone(), own, open));
    let header = Header {
        agent: agent.map(|account| Agent { account, name: "a3".to_owned() }),
        ledger: "0".repeat(32),
        living: Some(scribe.epoch),
        made_at: scribe.now,
        rows: true,
        since: (after > 0).then_some(before.head()),
        version: 1,
    };
    let mut out = Vec::new();
    let mut writer = Writer::begin(&header, &mut out);
    if after > 0 {
        writer.checkpoint(&state, &mut out);
    }
    let mut texts = snapshots();
    texts.sort_by_key(|(.., digest)| *digest);
    for (kind, text, digest) in texts {
        writer.snapshot(digest, kind, &text, &mut out);
    }
    for record in &records[after..] {
        let event = Event::parse(&record.kind, &record.body).unwrap();
        assert!(named(&event).iter().all(|digest| snapshots().iter().any(|(.., known)| known == digest)));
        if filter.as_mut().is_none_or(|filter| filter.tells(&event)) {
            writer.event(record, &mut out);
        } else {
            let Record { seq, at, kind, body, hash } = record.clone();
            writer.stub(Stub { at, digest: Digest::of(body.as_bytes()), hash, kind, seq }, &mut out);
        }
    }
    for row in rows(scribe, records.last().unwrap()) {
        let is_told = match &row {
            Row::Account(row) => below(row.id) || path.contains(&row.id),
            Row::Budget(row) => below(row.account) || path.contains(&row.account),
            Row::Token(row) => below(row.account),
            Row::Balance(row) => below(row.account),
            Row::Hold(row) => below(row.account),
            Row::Chain(_) => true,
        };
        if is_told {
            writer.row(&row, &mut out);
        }
    }
    let last = records.last().unwrap();
    writer.end(Head { hash: last.hash, seq: last.seq }, &mut out);
    out
}

fn rows(scribe: &Scribe, last: &Record) -> Vec<Row> {
    let mut rows: Vec<Row> = scribe.accounts.iter().cloned().map(Row::Account).collect();
    for account in &scribe.accounts {
        let budgets = &scribe.books.account(account.id).unwrap().budgets;
        let mut budgets: Vec<(&Period, &Pico)> = budgets.iter().collect();
        budgets.sort_by_key(|(period, _)| period.name());
        rows.extend(budgets.into_iter().map(|(period, limit)| Row::Budget(Budget { account: account.id, limit: *limit, period: *period })));
    }
    rows.extend(scribe.tokens.iter().cloned().map(Row::Token));
    rows.extend(scribe.books.balances().cloned().map(Row::Balance));
    rows.extend(scribe.holds.values().cloned().map(Row::Hold));
    rows.push(Row::Chain(scribe.chain(Head { hash: last.hash, seq: last.seq })));
    rows
}

fn verify(files: &[&[u8]], expected: Vec<Head>) -> Verified {
    let mut verifier = Verifier::new(zones, expected);
    for (number, file) in files.iter().enumerate() {
        verifier.begin(&if files.len() > 1 { format!("file {number}") } else { String::new() });
        let mut reader = Reader::new();
        for line in file.split_inclusive(|byte| *byte == b'\n') {
            verifier.part(reader.line(line));
        }
        verifier.end();
    }
    verifier.finish()
}

fn broken(file: &[u8]) -> Vec<String> {
    let found = verify(&[file], Vec::new()).findings;
    found.into_iter().flat_map(|finding| finding.broken.into_iter().map(move |what| format!("{}: {what}", finding.name))).collect()
}

#[track_caller]
fn found(file: &[u8], words: &str) {
    let broken = broken(file);
    assert!(broken.iter().any(|what| what.contains(words)), "{words}: {broken:#?}");
}

fn lines(file: &[u8]) -> Vec<Vec<u8>> {
    file.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect()
}

#[test]
fn a_file_passes_whole_from_any_event_on_for_all_and_for_one_agent() {
    let scribe = story();
    let all = export(&scribe, 0, None);
    for line in std::str::from_utf8(&all).unwrap().lines() {
        assert!(crate::canon::is_canonical(line), "{line}");
    }
    let verified = verify(&[&all], Vec::new());
    assert_eq!((broken(&all), verified.unchecked), (Vec::new(), Vec::new()));
    assert!(verified.findings.iter().all(|finding| finding.checked > 0));
    for after in 0..=scribe.events.len() {
        for agent in [None, Some(2), Some(3)] {
            let file = export(&scribe, after, agent);
            assert_eq!(broken(&file), Vec::<String>::new(), "behind {after}, of {agent:?}");
            let unchecked = verify(&[&file], Vec::new()).unchecked;
            assert_eq!(unchecked.len(), usize::from(after > 0) + usize::from(agent.is_some()), "{unchecked:?}");
        }
    }
}

#[test]
fn a_filtered_file_tells_nothing_of_others() {
    let mut scribe = story();
    for (account, period) in [(2, Period::Day), (3, Period::Total), (3, Period::Week)] {
        scribe.budget(account, period, Some(90_000));
    }
    let other = scribe.account(Some(2), AccountKind::Agent, &[(Period::Total, 20_000)]);
    scribe.token(other, 2);
    let call = scribe.call(other, 51, true).unwrap();
    scribe.settle(call, Settled::Exact, Outcome::Answered, &Usage::text(9, 21));
    let open = scribe.call(other, 52, true).unwrap();
    let own = scribe.call(3, 50, true).unwrap();
    scribe.settle(own, Settled::Exact, Outcome::Answered, &Usage::text(9, 20));
    for after in [0, scribe.events.len() - 3] {
        let file = String::from_utf8(export(&scribe, after, Some(3))).unwrap();
        assert_eq!(broken(file.as_bytes()), Vec::<String>::new());
        assert!(file.contains(&own.request.to_string()) && file.contains("{\"stub\":") || after > 0);
        for foreign in [call.request.to_string(), open.request.to_string(), Digest::of(&[2]).to_string(), format!("\"a{other}\"")] {
            assert!(!file.contains(&foreign), "{foreign}");
        }
    }
}

#[test]
fn a_flipped_bit_is_found_with_its_line_wherever_it_is() {
    let mut scribe = Scribe::new("UTC");
    scribe.account(Some(1), AccountKind::Agent, &[(Period::Total, 5_000)]);
    scribe.token(2, 1);
    let call = scribe.call(2, 50, true).unwrap();
    scribe.settle(call, Settled::Exact, Outcome::Answered, &Usage::text(9, 20));
    scribe.call(2, 50, true).unwrap();
    every_flip(&export(&scribe, 0, None), 1);
    every_flip(&export(&scribe, scribe.events.len() - 1, Some(2)), 1);
    every_flip(&export(&story(), 30, None), 17);
}

/// Whether a finding names the section of a line: `lines 2 to 7 (checkpoint)`.
fn in_section(what: &str, line: usize) -> bool {
    let Some((_, rest)) = what.split_once("lines ") else { return false };
    let (Some((first, rest)), true) = (rest.split_once(" to "), rest.contains("(header)") || rest.contains("(checkpoint)")) else {
        return false;
    };
    let last = rest.split(' ').next().and_then(|last| last.parse::<usize>().ok());
    first.parse::<usize>().is_ok_and(|first| first <= line) && last.is_some_and(|last| line <= last)
}

/// Flips a bit of each byte, or of each so many.
#[track_caller]
fn every_flip(file: &[u8], step: usize) {
    let mut line = 1;
    for at in 0..file.len() {
        if at.is_multiple_of(step) {
            let mut flipped = file.to_vec();
            flipped[at] ^= 1 << (at % 8);
            let broken = broken(&flipped);
            assert!(!broken.is_empty(), "byte {at} in line {line}");
            // The line itself, or its section: alone in it, or a part of the state, which no event of the file repeats.
            let here = broken.iter().any(|what| {
                let named = [format!("line {line}:"), format!("lines {line} and "), format!("by line {line} ")];
                named.iter().any(|name| what.contains(name)) || in_section(what, line)
            });
            assert!(here, "byte {at} in line {line}: {broken:#?}");
        }
        line += usize::from(file[at] == b'\n');
    }
}

#[test]
fn a_line_that_is_removed_doubled_or_swapped_is_found_and_so_is_a_file_that_is_cut_off() {
    let scribe = story();
    let file = export(&scribe, 3, None);
    let all = lines(&file);
    for at in 0..all.len() {
        let mut removed = all.clone();
        removed.remove(at);
        assert!(!broken(&removed.concat()).is_empty(), "without line {}", at + 1);
        let mut doubled = all.clone();
        doubled.insert(at, all[at].clone());
        let found = broken(&doubled.concat());
        assert!(found.iter().any(|what| what.contains(&format!("line {}:", at + 2))), "line {} twice: {found:?}", at + 1);
        if at + 1 < all.len() {
            let mut swapped = all.clone();
            swapped.swap(at, at + 1);
            assert!(broken(&swapped.concat()).iter().any(|what| what.contains("line ")), "line {} behind the next", at + 1);
        }
        found_cut(&all[..at].concat());
        found_cut(&file[..all[..at].concat().len() + 1]);
    }
    found(&[file.as_slice(), b"\n"].concat(), "it stands behind the end");
}

#[track_caller]
fn found_cut(file: &[u8]) {
    let broken = broken(file);
    assert!(broken.iter().any(|what| what.contains("cut off") || what.contains("nothing behind")), "{broken:?}");
}

/// Lines anew, with the sums and the chain as whoever forged them would make them.
fn forged(file: &[u8], forge: impl Fn(&mut String)) -> Vec<u8> {
    let mut out = Vec::new();
    let mut writer = None;
    let mut head = Head::START;
    for line in lines(file) {
        let mut text = String::from_utf8(line).unwrap();
        forge(&mut text);
        let mut line: serde_json::Value = serde_json::from_str(&text).unwrap();
        if let Some(header) = line.get("export") {
            writer = Some(Writer::begin(&serde_json::from_value(header.clone()).unwrap(), &mut out));
        } else if let Some(snapshot) = line.get("snapshot") {
            let field = |name: &str| snapshot[name].as_str().unwrap();
            writer.as_mut().unwrap().snapshot(field("digest").parse().unwrap(), field("kind"), field("text"), &mut out);
        } else if let Some(event) = line.get("event") {
            let (at, kind) = (Stamp::parse(event["at"].as_str().unwrap()).unwrap(), event["kind"].as_str().unwrap().to_owned());
            let body = event["body"].to_string();
            head = head.link(at, &kind, &Digest::of(body.as_bytes()));
            writer.as_mut().unwrap().event(&Record { seq: head.seq, at, kind, body, hash: head.hash }, &mut out);
        } else if line.get("end").is_none() {
            if line.get("chain").is_some() {
                line["chain"]["head"] = serde_json::to_value(head).unwrap();
            }
            writer.as_mut().unwrap().row(&serde_json::from_value(line).unwrap(), &mut out);
        }
    }
    writer.unwrap().end(head, &mut out);
    out
}

#[test]
fn an_edited_price_balance_or_charge_is_found_when_all_digests_and_the_chain_are_made_anew() {
    let scribe = story();
    let file = export(&scribe, 0, None);
    assert_eq!(broken(&forged(&file, |_| {})), Vec::<String>::new());
    let rows = [
        ("{\"balance\":", "\"spent\":\"", "\"spent\":\"1", "spent_matches_events: line "),
        ("{\"snapshot\":", "\\\"input\\\":\\\"2", "\\\"input\\\":\\\"1", "its text has another digest"),
        ("{\"event\":", "\"charge\":\"", "\"charge\":\"1", "charges_repriced: line "),
        ("{\"event\":", "\"amount\":\"", "\"amount\":\"1", "decisions_recomputed: line "),
    ];
    for (start, from, to, words) in rows {
        let edited = forged(&file, |line| {
            if line.starts_with(start) {
                *line = line.replacen(from, to, 1);
            }
        });
        assert_ne!(edited, file);
        found(&edited, words);
    }
}

#[test]
fn a_chain_that_was_made_anew_is_found_by_a_head_that_was_noted() {
    let scribe = story();
    let file = export(&scribe, 0, None);
    let records = Scribe::chained(&scribe.events);
    let noted = |at: usize| Head { hash: records[at].hash, seq: records[at].seq };
    let last = records.len() - 1;
    let renamed = forged(&file, |line| *line = line.replace("\"deadline\":\"2026-11-21T13", "\"deadline\":\"2026-11-21T14"));
    assert_eq!(broken(&renamed).iter().filter(|what| what.starts_with("event_log")).count(), 0, "{:?}", broken(&renamed));
    for at in [5, last] {
        assert!(verify(&[&file], vec![noted(at)]).findings.iter().all(Finding::passed));
    }
    let told: Vec<String> = verify(&[&renamed], vec![noted(last)]).findings.into_iter().flat_map(|finding| finding.broken).collect();
    assert!(told.iter().any(|what| what.contains("the chain was rewritten")), "{told:?}");
    let short = Scribe { events: scribe.events[..5].to_vec(), ..story() };
    let told: Vec<String> =
        verify(&[&export(&short, 0, None)], vec![noted(last)]).findings.into_iter().flat_map(|finding| finding.broken).collect();
    assert!(told.iter().any(|what| what.contains("the event is not there")), "{told:?}");
}

#[test]
fn what_says_the_same_in_other_bytes_is_found() {
    let scribe = story();
    let mut audit = Audit::new(zones);
    let body = scribe.events[0].1.body().replace("\"epoch\":1,", "\"epoch\": 1,");
    let (at, kind) = (scribe.events[0].0, scribe.events[0].1.kind());
    let Head { hash, seq } = Head::START.link(at, kind, &Digest::of(body.as_bytes()));
    audit.event(&Record { seq, at, kind: kind.to_owned(), body, hash });
    let broken: Vec<String> = audit.finish_without_rows().into_iter().flat_map(|finding| finding.broken).collect();
    assert_eq!(broken, ["event 1: epoch.opened: its body is not canonical"]);

    let file = String::from_utf8(export(&scribe, 3, None)).unwrap();
    let rows = [
        ("\"since\":", " \"since\":", "line 1: it is not canonical"),
        ("{\"checkpoint\":{", "{\"checkpoint\":{ ", "line 2: it is not canonical"),
        ("{\"event\":{", "{\"event\": {", "it is not the canonical line of an event"),
        ("{\"account\":{\"closed_at\":null,", "{\"account\":{", "line "),
        ("{\"end\":{", "{ \"end\":{", "line "),
    ];
    for (from, to, words) in rows {
        assert!(file.contains(from), "{from}");
        found(file.replacen(from, to, 1).as_bytes(), words);
    }
}
