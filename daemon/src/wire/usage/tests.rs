//! What each field of a usage object counts as.

use super::*;
use Bucket::{AudioInput, AudioOutput, CacheWrite, CachedInput, ImageInput, Input, Output, Tool};
use aex_core::price::TierField;
use aex_core::usage::{Bucket, ToolName};

fn read(text: &str) -> Option<Usage> {
    chat(&mut Scanner::new(text.as_bytes()).unwrap()).unwrap()
}

#[track_caller]
fn check(text: &str, quantities: &[(Bucket, u64)], unknown: &[(&str, &str)]) {
    let usage = read(text).unwrap();
    assert_eq!(usage.quantities, quantities, "{text}");
    let told: Vec<_> = usage.unknown.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(told, unknown, "{text}");
}

#[test]
fn buckets_are_disjoint_and_sum_to_the_totals() {
    check(r#"{"prompt_tokens":10,"completion_tokens":3,"total_tokens":13}"#, &[(Input, 10), (Output, 3)], &[]);
    check(r#"{"prompt_tokens":0,"completion_tokens":0}"#, &[], &[]);
    check(
        r#"{"prompt_tokens":100,"completion_tokens":30,"prompt_tokens_details":{"cached_tokens":40,"cache_write_tokens":20,"audio_tokens":10,"image_tokens":5},
        "completion_tokens_details":{"reasoning_tokens":25,"audio_tokens":4,"rejected_prediction_tokens":1}}"#,
        &[(Input, 25), (CachedInput, 40), (CacheWrite, 20), (Output, 26), (AudioInput, 10), (AudioOutput, 4), (ImageInput, 5)],
        &[],
    );
    check(
        r#"{"prompt_tokens":1,"completion_tokens":1,"prompt_tokens_details":null,"completion_tokens_details":{"audio_tokens":null}}"#,
        &[(Input, 1), (Output, 1)],
        &[],
    );
    // DeepSeek.
    check(
        r#"{"prompt_tokens":10,"completion_tokens":3,"total_tokens":13,"prompt_tokens_details":{"cached_tokens":4},"prompt_cache_hit_tokens":4,"prompt_cache_miss_tokens":6}"#,
        &[(Input, 6), (CachedInput, 4), (Output, 3)],
        &[],
    );
}

#[test]
fn what_the_total_has_beyond_its_parts_is_output() {
    // xAI.
    check(
        r#"{"prompt_tokens":32,"completion_tokens":9,"total_tokens":135,"prompt_tokens_details":{"text_tokens":32,"audio_tokens":0,"image_tokens":0,
        "cached_tokens":6},"completion_tokens_details":{"reasoning_tokens":94,"audio_tokens":0},"num_sources_used":0}"#,
        &[(Input, 26), (CachedInput, 6), (Output, 103)],
        &[],
    );
    check(
        r#"{"prompt_tokens":32,"completion_tokens":200,"total_tokens":326,"completion_tokens_details":{"reasoning_tokens":94}}"#,
        &[(Input, 32), (Output, 294)],
        &[],
    );
    check(
        r#"{"prompt_tokens":32,"completion_tokens":200,"total_tokens":232,"completion_tokens_details":{"reasoning_tokens":94}}"#,
        &[(Input, 32), (Output, 200)],
        &[],
    );
    check(
        r#"{"prompt_tokens":32,"completion_tokens":9,"completion_tokens_details":{"reasoning_tokens":94}}"#,
        &[(Input, 32), (Output, 103)],
        &[],
    );
    check(r#"{"prompt_tokens":32,"completion_tokens":9,"total_tokens":0}"#, &[(Input, 32), (Output, 9)], &[]);
}

#[test]
fn parts_beyond_their_whole_are_added_never_cut() {
    check(
        r#"{"prompt_tokens":10,"completion_tokens":3,"total_tokens":129,"prompt_tokens_details":{"cached_tokens":99,"cache_write_tokens":8},
        "completion_tokens_details":{"audio_tokens":9}}"#,
        &[(Input, 10), (CachedInput, 99), (CacheWrite, 8), (Output, 3), (AudioOutput, 9)],
        &[],
    );
    // Cached audio is in both counts.
    check(
        r#"{"prompt_tokens":10,"completion_tokens":3,"prompt_tokens_details":{"cached_tokens":8,"audio_tokens":5}}"#,
        &[(CachedInput, 8), (Output, 3), (AudioInput, 5)],
        &[],
    );
}

#[test]
fn what_is_not_known_is_told_with_its_value_when_it_counts() {
    check(r#"{"prompt_tokens":1,"completion_tokens":1,"queue_time":0.02,"total_time":1.5}"#, &[(Input, 1), (Output, 1)], &[]);
    check(
        r#"{"prompt_tokens":1,"completion_tokens":1,"fee": 5.0e-1 ,"free":0,"none":0.0,"tier":"x","x_tokens":"900","zeros":"0.00","prompt_tokens_details":{"video_tokens":7},"tools":{"searches":2,"other":0,"deep":{"a":1}},"l":[1],"e":[]}"#,
        &[(Input, 1), (Output, 1)],
        &[
            ("fee", "5.0e-1"),
            ("x_tokens", r#""900""#),
            ("prompt_tokens_details.video_tokens", "7"),
            ("tools.searches", "2"),
            ("tools.deep", r#"{"a":1}"#),
            ("l", "[1]"),
        ],
    );
    let long = format!(r#"{{"prompt_tokens":1,"completion_tokens":1,"l":[{}1]}}"#, "1,".repeat(100));
    let unknown = read(&long).unwrap().unknown;
    assert_eq!(unknown, [("l".to_owned(), format!("[{}…", "1,".repeat(64).trim_end_matches(',')))]);
    let many: String = (0..100).map(|at| format!(r#","f{at}":1"#)).collect();
    assert_eq!(read(&format!(r#"{{"prompt_tokens":1,"completion_tokens":1{many}}}"#)).unwrap().unknown.len(), NAMES_KEPT);
}

#[test]
fn what_cannot_be_right_is_no_usage() {
    for text in [
        "null",
        "[]",
        "{}",
        r#"{"prompt_tokens":5}"#,
        r#"{"prompt_tokens":-5,"completion_tokens":1}"#,
        r#"{"prompt_tokens":5.5,"completion_tokens":1}"#,
        r#"{"prompt_tokens":"5","completion_tokens":1}"#,
        r#"{"prompt_tokens":5,"completion_tokens":1,"prompt_tokens_details":{"cached_tokens":-1}}"#,
        r#"{"prompt_tokens":99999999999999999999,"completion_tokens":1}"#,
        r#"{"prompt_tokens":9007199254740992,"completion_tokens":1}"#,
        r#"{"prompt_tokens":1,"completion_tokens":1,"total_tokens":9007199254740992}"#,
        r#"{"prompt_tokens":1,"completion_tokens":1,"prompt_tokens_details":{"cached_tokens":9007199254740991}}"#,
    ] {
        assert_eq!(read(text), None, "{text}");
    }
    assert_eq!(read(r#"{"prompt_tokens":9007199254740991,"completion_tokens":0}"#), Some(Usage::text(MAX_COUNT, 0)));
}

#[test]
fn images_that_were_read_from_a_cache_are_not_counted_twice() {
    let row = |image: u64, wanted: &[(Bucket, u64)]| {
        let text = format!(
            r#"{{"prompt_tokens":100,"completion_tokens":0,"prompt_tokens_details":{{"cached_tokens":70,"image_tokens":{image}}}}}"#
        );
        check(&text, wanted, &[]);
    };
    row(20, &[(Input, 10), (CachedInput, 70), (ImageInput, 20)]);
    row(90, &[(CachedInput, 70), (ImageInput, 30)]);
}

#[test]
fn one_count_under_several_names_is_counted_once() {
    check(
        r#"{"prompt_tokens":10,"input_tokens":10,"completion_tokens":2,"output_tokens":2,"cached_tokens":3,"prompt_tokens_details":{"cached_tokens":4}}"#,
        &[(Input, 6), (CachedInput, 4), (Output, 2)],
        &[],
    );
}

#[test]
fn embeddings_have_no_output_and_chat_has() {
    let read_embeddings = |text: &str| embeddings(&mut Scanner::new(text.as_bytes()).unwrap()).unwrap();
    for (text, wanted) in [
        (r#"{"prompt_tokens":8,"total_tokens":8}"#, Usage::text(8, 0)),
        (r#"{"prompt_tokens":0,"total_tokens":5000}"#, Usage::text(5_000, 0)),
        (r#"{"prompt_tokens":8,"total_tokens":0}"#, Usage::text(8, 0)),
        (r#"{"prompt_tokens":8,"completion_tokens":2,"total_tokens":10}"#, Usage::text(8, 2)),
    ] {
        assert_eq!(read_embeddings(text), Some(wanted), "{text}");
    }
    assert_eq!(read(r#"{"prompt_tokens":8,"total_tokens":8}"#), None);
}

fn messages(objects: &[&str]) -> Option<Usage> {
    let mut all = Messages::default();
    for object in objects {
        all.read(&mut Scanner::new(object.as_bytes()).unwrap()).unwrap();
    }
    all.usage()
}

#[test]
fn what_a_delta_says_replaces_and_what_it_leaves_out_stays() {
    let start = r#"{"input_tokens":25,"cache_read_input_tokens":7,"cache_creation_input_tokens":5,"cache_creation":{"ephemeral_5m_input_tokens":2,"ephemeral_1h_input_tokens":3},"output_tokens":1}"#;
    let usage =
        messages(&[start, r#"{"output_tokens":15}"#, r#"{"input_tokens":30,"cache_read_input_tokens":null,"output_tokens":40}"#]).unwrap();
    let wanted = [(Input, 30), (CachedInput, 7), (Bucket::CacheWrite5m, 2), (Bucket::CacheWrite1h, 3), (Output, 40)];
    assert_eq!(usage.quantities, wanted);
    assert_eq!(usage.tier, None);
    // A stream that is cut has what came by then.
    assert_eq!(messages(&[start]).unwrap().get(Output), 1);
    for broken in [
        &[][..],
        &[r#"{"output_tokens":1}"#],
        &["null"],
        &[r#"{"input_tokens":-1,"output_tokens":1}"#],
        &[start, r#"{"output_tokens":"5"}"#],
    ] {
        assert_eq!(messages(broken), None, "{broken:?}");
    }
}

#[test]
fn a_count_that_falls_stays_and_is_noted() {
    let note = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let start = r#"{"input_tokens":300,"cache_read_input_tokens":7,"cache_creation":{"ephemeral_1h_input_tokens":3},"output_tokens":1}"#;
    let zeros = r#"{"input_tokens":0,"cache_read_input_tokens":0,"cache_creation":{"ephemeral_1h_input_tokens":0},"output_tokens":9}"#;
    let usage = messages(&[start, zeros]).unwrap();
    assert_eq!(usage.quantities, [(Input, 300), (CachedInput, 7), (Bucket::CacheWrite1h, 3), (Output, 9)]);
    let fell = [
        note("input_tokens.fell", "[300,0]"),
        note("cache_read_input_tokens.fell", "[7,0]"),
        note("ephemeral_1h_input_tokens.fell", "[3,0]"),
    ];
    assert_eq!(usage.unknown, fell);
    // Passes that were told are not taken back, one by one or all.
    let passes = |count: u64| {
        format!(r#"{{"input_tokens":1,"output_tokens":1,"iterations":[{{"type":"compaction","input_tokens":{count},"output_tokens":2}}]}}"#)
    };
    let usage = messages(&[&passes(50), &passes(40), r#"{"iterations":[]}"#]).unwrap();
    assert_eq!((usage.quantities, usage.unknown), (vec![(Input, 51), (Output, 3)], vec![note("input_tokens.fell", "[50,40]")]));
}

#[test]
fn of_two_reports_of_a_stream_neither_side_falls() {
    let text = |cached: u64, input: u64, output: u64| {
        read(&format!(r#"{{"prompt_tokens":{input},"completion_tokens":{output},"prompt_tokens_details":{{"cached_tokens":{cached}}}}}"#))
            .unwrap()
    };
    let check = |reports: &[Usage], wanted: &[(Bucket, u64)], fell: &[(&str, &str)]| {
        let usage = reports.iter().skip(1).fold(reports[0].clone(), |before, report| later(&before, report));
        assert_eq!(usage.quantities, wanted);
        let noted: Vec<(&str, &str)> = usage.unknown.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(noted, fell);
    };
    check(&[text(0, 300, 1), text(0, 300, 200)], &[(Input, 300), (Output, 200)], &[]);
    // What turns out to be cached is no fall.
    check(&[text(0, 300, 1), text(200, 300, 2)], &[(Input, 100), (CachedInput, 200), (Output, 2)], &[]);
    let fell = [("input.fell", "[300,0]"), ("output.fell", "[200,0]")];
    check(&[text(0, 300, 200), text(0, 0, 0)], &[(Input, 300), (Output, 200)], &fell);
    // A rise behind it does not make it sound.
    check(&[text(0, 300, 200), text(0, 0, 0), text(0, 310, 210)], &[(Input, 310), (Output, 210)], &fell);
    check(&[text(9, 300, 200), text(0, 0, 201)], &[(Input, 291), (CachedInput, 9), (Output, 201)], &fell[..1]);
    let search = ToolName::new("web_search").unwrap();
    let mut searched = text(0, 1, 1);
    searched.add_calls(search, 2);
    let mut none = text(0, 1, 1);
    none.add_calls(search, 0);
    check(&[searched, none], &[(Input, 1), (Output, 1), (Tool(search), 2)], &[("tool:web_search.fell", "[2,0]")]);
}

#[test]
fn passes_that_compact_the_conversation_are_added_and_those_of_others_are_not_known() {
    let usage = messages(&[
        r#"{"input_tokens":23000,"output_tokens":1000,"iterations":[{"type":"compaction","input_tokens":180000,"output_tokens":3500},
        {"type":"message","input_tokens":23000,"output_tokens":1000}]}"#,
    ])
    .unwrap();
    assert_eq!((usage.quantities, usage.unknown), (vec![(Input, 203_000), (Output, 4_500)], vec![]));
    let advised = r#"{"input_tokens":2,"output_tokens":1,"iterations":[{"type":"message"}, {"type":"advisor_message","input_tokens":9}]}"#;
    let unknown = messages(&[advised]).unwrap().unknown;
    assert_eq!(unknown, [("iterations".to_owned(), r#"{"type":"advisor_message","input_tokens":9}"#.to_owned())]);
}

#[test]
fn tier_speed_and_region_of_a_message_choose_its_price_together() {
    let tier = |fields: &str| messages(&[&format!(r#"{{"input_tokens":1,"output_tokens":1,{fields}}}"#)]).unwrap().tier;
    assert_eq!(tier(r#""service_tier":"standard","speed":"standard","inference_geo":"global""#).as_deref(), Some("standard"));
    assert_eq!(tier(r#""service_tier":"standard","speed":"fast","inference_geo":"us""#).as_deref(), Some("fast+us"));
    assert_eq!(tier(r#""service_tier":"batch","inference_geo":"not_available""#).as_deref(), Some("batch"));
    assert_eq!(tier(r#""service_tier":null"#), None);
    // What a report of a tier leaves out is told, too; one that says nothing of any is none.
    let silent = |fields: &str| messages(&[&format!(r#"{{"input_tokens":1,"output_tokens":1{fields}}}"#)]).unwrap().silent;
    assert_eq!(silent(r#","service_tier":"standard""#), [TierField::Speed, TierField::Region]);
    assert_eq!(silent(r#","speed":"fast","inference_geo":null"#), [TierField::Tier, TierField::Region]);
    assert_eq!(silent(r#","service_tier":"standard","speed":"fast","inference_geo":"us""#), []);
    assert_eq!(silent(""), []);
}

#[test]
fn calls_of_hosted_tools_are_told_by_tool_and_so_is_that_there_were_none() {
    let name = |tool: &str| ToolName::new(tool).unwrap();
    let usage =
        messages(&[r#"{"input_tokens":1,"output_tokens":1,"server_tool_use":{"web_search_requests":3,"web_fetch_requests":0}}"#]).unwrap();
    assert_eq!(usage.quantities, [(Input, 1), (Output, 1), (Tool(name("web_search")), 3)]);
    assert_eq!(usage.told, [name("web_search"), name("web_fetch")]);
    assert_eq!(messages(&[r#"{"input_tokens":1,"output_tokens":1}"#]).unwrap().told, usage.told);

    // A response tells calls in its items, and some beside its usage.
    let mut tools = HostedTools::default();
    ["message", "web_search_call", "file_search_call", "web_search_call"].into_iter().for_each(|kind| tools.item(kind));
    let beside = br#"{"web_search":{"num_requests":1},"image_gen":{"input_tokens":0,"output_tokens":7}}"#;
    tools.tool_usage(&mut Scanner::new(beside).unwrap()).unwrap();
    let mut cut = Usage::text(1, 1);
    tools.clone().add_to(&mut cut);
    assert_eq!(cut.told, [name("web_search"), name("file_search")]);
    tools.all_items_seen();
    let mut whole = Usage::text(1, 1);
    tools.add_to(&mut whole);
    assert_eq!(whole.quantities, [(Input, 1), (Output, 1), (Tool(name("file_search")), 1), (Tool(name("web_search")), 2)]);
    assert_eq!(whole.told.len(), 5);
    assert_eq!(whole.unknown, [("tool_usage.image_gen.output_tokens".to_owned(), "7".to_owned())]);
    // Chat says nothing of them.
    assert!(read(r#"{"prompt_tokens":1,"completion_tokens":1}"#).unwrap().told.is_empty());
}
