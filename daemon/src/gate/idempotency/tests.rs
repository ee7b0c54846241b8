//! Tests of `idempotency`.

use super::*;

const LIMITS: KeyLimits = KeyLimits { answer: 1_000, memory: 4 * (AROUND + 100), keys: 4 };
const HOUR: Duration = Duration::from_secs(3_600);

fn call(body: &str) -> KeyedCall<'static> {
    KeyedCall { key: b"", endpoint: "/chat/completions", input: Digest::of(body.as_bytes()), limits: LIMITS }
}

fn key(number: u64) -> Digest {
    Digest::of(&number.to_be_bytes())
}

#[track_caller]
fn first(keys: &Keys, number: u64, now: Duration) -> Arc<Ticket> {
    match keys.begin(key(number), RequestId::new(1, number), call("body"), now) {
        Begun::First(ticket) => ticket,
        other => panic!("{other:?}"),
    }
}

/// Makes a call, charges it, and keeps an answer of so many bytes.
#[track_caller]
fn made(keys: &Keys, number: u64, bytes: usize) {
    let ticket = first(keys, number, Duration::ZERO);
    ticket.spend();
    let mut recorder = ticket.record(200, Vec::new());
    recorder.push(&vec![b'x'; bytes]);
    recorder.complete();
}

#[track_caller]
fn check(keys: &Keys, number: u64, body: &str, now: Duration, expected: &str) {
    let told = match keys.begin(key(number), RequestId::new(9, 9), call(body), now) {
        Begun::First(_) => "first".to_owned(),
        Begun::Again(answer) => format!("again {}", answer.body.len()),
        Begun::Denied(Denial::Idempotency { cause, first }) => {
            assert_eq!(first, RequestId::new(1, number));
            format!("{cause:?}")
        }
        Begun::Denied(denial) => denial.rule().into_owned(),
    };
    assert_eq!(told, expected, "key {number}");
}

#[test]
fn a_key_runs_one_call_and_then_gives_its_answer_to_the_same_request_alone() {
    let keys = Keys::default();
    let ticket = first(&keys, 1, Duration::ZERO);
    check(&keys, 1, "body", Duration::ZERO, "Running");
    check(&keys, 1, "other", Duration::ZERO, "OtherRequest");
    ticket.spend();
    let recorder = ticket.record(200, Vec::new());
    drop(ticket);
    check(&keys, 1, "body", Duration::ZERO, "Running");
    recorder.complete();
    check(&keys, 1, "body", HOUR, "again 0");
    check(&keys, 1, "other", HOUR, "OtherRequest");
    let elsewhere = KeyedCall { endpoint: "/completions", ..call("body") };
    assert!(matches!(keys.begin(key(1), RequestId::new(9, 9), elsewhere, HOUR), Begun::Denied(Denial::Idempotency { .. })));
    check(&keys, 1, "body", 24 * HOUR, "first");
}

#[test]
fn what_cost_nothing_leaves_its_key_free_and_what_was_charged_never_does() {
    let keys = Keys::default();
    drop(first(&keys, 1, Duration::ZERO));
    check(&keys, 1, "other", Duration::ZERO, "first");
    let released = first(&keys, 2, Duration::ZERO);
    released.spend();
    let mut recorder = released.record(429, Vec::new());
    recorder.push(b"slow down");
    recorder.complete();
    released.free();
    drop(released);
    check(&keys, 2, "other", Duration::ZERO, "first");
    assert_eq!(keys.uses.lock().unwrap().bytes, 0);
    let broken = first(&keys, 3, Duration::ZERO);
    broken.spend();
    let mut recorder = broken.record(200, Vec::new());
    recorder.push(b"half");
    drop((recorder, broken));
    check(&keys, 3, "body", HOUR, "AnswerGone");
    assert_eq!(keys.uses.lock().unwrap().bytes, 0);
}

#[test]
fn answers_are_bounded_one_by_one_and_all_together_and_the_oldest_goes_first() {
    let keys = Keys::default();
    made(&keys, 1, LIMITS.answer + 1);
    check(&keys, 1, "body", HOUR, "AnswerGone");
    assert_eq!(keys.uses.lock().unwrap().bytes, 0);
    for number in 2..=4 {
        made(&keys, number, 500);
        assert!(keys.uses.lock().unwrap().bytes <= LIMITS.memory);
    }
    check(&keys, 2, "body", HOUR, "AnswerGone");
    check(&keys, 3, "body", HOUR, "again 500");
    check(&keys, 4, "body", HOUR, "again 500");
}

#[test]
fn more_keys_than_are_kept_are_refused_until_the_time_of_some_is_over() {
    let keys = Keys::default();
    (1..=4).for_each(|number| made(&keys, number, 1));
    check(&keys, 5, "body", HOUR, "idempotency_keys");
    check(&keys, 4, "body", HOUR, "again 1");
    check(&keys, 5, "body", 25 * HOUR, "first");
    assert_eq!(keys.uses.lock().unwrap().bytes, 0);
}

#[test]
fn a_key_of_an_earlier_daemon_is_known_without_its_answer_and_its_path() {
    let keys = Keys::default();
    let (request, input) = (RequestId::new(1, 7), Digest::of(b"body"));
    keys.recall(&UsedKey { key: key(7), request, input, at: aex_proto::value::Stamp::new(0) }, 2 * HOUR);
    check(&keys, 7, "body", HOUR, "AnswerGone");
    check(&keys, 7, "other", HOUR, "OtherRequest");
    check(&keys, 7, "body", 2 * HOUR, "first");
}

#[test]
fn agents_do_not_share_keys_and_no_raw_key_is_kept() {
    let of = |agent, key: &str| name(AccountId::new(agent), key.as_bytes());
    assert_eq!(of(2, "a"), of(2, "a"));
    assert!(of(2, "a") != of(3, "a") && of(2, "1a") != of(21, "a"));
}

#[test]
fn of_many_at_once_one_runs() {
    let keys = Keys::default();
    let tickets: Vec<Begun> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..16)
            .map(|number| {
                let keys = &keys;
                scope.spawn(move || keys.begin(key(1), RequestId::new(1, number), call("body"), Duration::ZERO))
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(tickets.iter().filter(|begun| matches!(begun, Begun::First(_))).count(), 1);
}
