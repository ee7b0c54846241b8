//! Bounds and charges against hand-computed amounts.

use super::bound::sum;
use super::*;
use crate::ask::{Ask, NAMES_KEPT};
use crate::usage::{Bucket, Usage};
use crate::vocabulary::Vocabulary;

fn card() -> ModelCard {
    ModelCard {
        context_tokens: None,
        drop_tools: Vec::new(),
        max_tokens: 100,
        max_tokens_field: MaxTokensField::MaxTokens,
        max_tokens_per_minute: None,
        name: "m".to_owned(),
        overhead: Overhead::WIDEST,
        price: Some(Price { cache_write: Some(Pico::new(5)), cached_input: Some(Pico::new(1)), ..Price::of(Pico::new(4), Pico::new(8)) }),
        provider: "p".to_owned(),
        provider_model: "pm".to_owned(),
        reasoning: false,
        tokenizer: None,
        tools: true,
        vision: true,
    }
}

fn ask() -> Ask {
    Ask { body_bytes: 1000, choices: 2, messages: 3, model: "m".to_owned(), text_chars: 900, ..Ask::default() }
}

#[test]
fn the_bound_takes_the_dearest_input_and_every_choice() {
    let bound = bound(&ask(), &card(), 50);
    assert_eq!(bound, Ok(Bound { amount: Pico::new(1112 * 5 + 100 * 8), input_tokens: 1112, output_tokens: 100 }));
}

#[test]
fn what_bytes_do_not_show_is_bounded_by_the_context_or_denied() {
    let image = Ask { images: 1, ..ask() };
    assert_eq!(bound(&image, &card(), 1), Err(Unbounded::ContextUnknown));
    let known = ModelCard { context_tokens: Some(8000), ..card() };
    assert_eq!(bound(&image, &known, 1).map(|b| b.input_tokens), Ok(8000));
}

#[test]
fn texts_that_were_tokenised_count_by_tokens_and_never_more_than_by_bytes() {
    let known = ModelCard { tokenizer: Some(Vocabulary::O200k), ..card() };
    let input = |tokenized_bytes, text_tokens, card: &ModelCard| {
        bound(&Ask { tokenized_bytes, text_tokens, ..ask() }, card, 50).map(|bound| bound.input_tokens)
    };
    assert_eq!(input(0, 0, &known), Ok(1112));
    assert_eq!(input(900, 200, &known), Ok(1112 - 900 + 200));
    // What a forged or a foolish count says.
    for (bytes, tokens) in [(900, 901), (900, u64::MAX), (1_001, 1_000), (u64::MAX, u64::MAX), (0, 5)] {
        assert_eq!(input(bytes, tokens, &known), Ok(1112), "{bytes} {tokens}");
    }
    // A fallback whose vocabulary nobody knows.
    assert_eq!(input(900, 200, &card()), Ok(1112));
    // What does not show in bytes does not show in tokens.
    let seeing = ModelCard { context_tokens: Some(8000), ..known };
    assert_eq!(bound(&Ask { images: 1, tokenized_bytes: 900, text_tokens: 9, ..ask() }, &seeing, 1).map(|b| b.input_tokens), Ok(8000));
}

#[test]
fn tools_that_the_request_only_names_cost_what_the_provider_adds_for_them() {
    let named = Ask { known_tool_tokens: 2048, tools: 1, ..ask() };
    let once = Overhead::WIDEST.tools + Overhead::WIDEST.tool;
    assert_eq!(bound(&named, &card(), 1).map(|bound| bound.input_tokens), Ok(1112 + once + 2048));
}

#[test]
fn what_has_no_price_is_denied_never_free() {
    assert_eq!(bound(&ask(), &ModelCard { price: None, ..card() }, 1), Err(Unbounded::Unpriced));
    let hosted = Ask { hosted_tools: vec!["web_search".to_owned()], ..ask() };
    assert_eq!(bound(&hosted, &card(), 1), Err(Unbounded::HostedTool("web_search".to_owned())));
    let tier = Ask { service_tier: Some("priority".to_owned()), ..ask() };
    assert_eq!(bound(&tier, &card(), 1), Err(Unbounded::Tier("priority".to_owned())));
    assert_eq!(bound(&Ask { audio_out: true, ..ask() }, &card(), 1), Err(Unbounded::AudioUnpriced));
    assert_eq!(bound(&Ask { audio_in: 1, ..ask() }, &card(), 1), Err(Unbounded::AudioUnpriced));
    assert_eq!(bound(&ask(), &card(), u64::MAX), Err(Unbounded::TooLarge));
}

#[test]
fn audio_is_bounded_by_the_context_at_the_dearest_price_of_input() {
    let price = card().price.map(|price| Price { audio_input: Some(Pico::new(40)), ..price });
    let hearing = ModelCard { context_tokens: Some(8000), price, ..card() };
    let heard = Ask { audio_in: 1, choices: 1, ..ask() };
    assert_eq!(bound(&heard, &hearing, 1).map(|bound| bound.amount), Ok(Pico::new(8000 * 40 + 8)));
    assert_eq!(bound(&heard, &ModelCard { context_tokens: None, ..hearing.clone() }, 1), Err(Unbounded::ContextUnknown));
    let file = Ask { attachments: 1, choices: 1, ..ask() };
    assert_eq!(bound(&file, &hearing, 1).map(|bound| bound.amount), Ok(Pico::new(8000 * 40 + 8)));
}

/// What providers document or report to add to the texts of a request, beside a tool's definition, which is at most its bytes.
#[test]
fn no_provider_adds_more_than_the_overhead() {
    #[track_caller]
    fn check(model: &str, messages: u64, tools: u64, added: u64) {
        let ask = Ask { messages, tools, ..Ask::default() };
        let overhead = sum(&Overhead::of_model(model).around(&ask));
        assert!(added <= overhead, "{model} adds {added}, of {overhead}");
    }
    // OpenAI's cookbook: 3 a message, 1 for its name, 3 that prime the answer; 7 a function, 12 for all of them.
    check("gpt-4o", 1, 0, 7);
    check("gpt-4o", 1000, 0, 4 * 1000 + 3);
    check("gpt-4o", 1, 128, 7 + 128 * 7 + 12);
    // Anthropic's tool use system prompt, from Claude 3 Haiku's 264 to Opus' 530.
    check("claude-3-haiku", 1, 1, 264 + 8);
    check("claude-3-opus", 1, 1, 530 + 8);
    // The same of later models, with a forced tool: platform.claude.com, "Tool use with Claude".
    check("claude-opus-4-7", 0, 1, 804);
    check("anthropic/claude-sonnet-4.6", 0, 1, 589);
    // Llama 3 at Groq: five for the frame of a message, its role and end; once a date preamble and the answer's header.
    check("llama-3.3-70b-versatile", 1, 0, 12 + 40);
    check("llama-3.3-70b-versatile", 1000, 0, 12 * 1000 + 40);
    // Prompt tokens that charmbracelet/fantasy recorded for two messages, less the 8 that their texts have at least.
    check("gpt-4o-mini", 2, 0, 20 - 8);
    check("gpt-5-mini", 2, 0, 19 - 8);
    check("moonshotai/kimi-k2-instruct-0905", 2, 0, 20 - 8);
    check("openai/gpt-oss-20b", 2, 0, 84 - 8);
    check("anthropic/claude-haiku-4.5", 2, 1, 607 - 8);
    check("grok-4-fast", 2, 0, 165 - 8);
    check("grok-code-fast-1", 2, 0, 213 - 8);
    check("grok-3-mini", 2, 1, 288 - 8);
    // "Hello", as a reseller shows it in its documentation.
    check("x-ai/grok-4", 1, 0, 686 - 1);
}

#[test]
fn a_charge_prices_each_bucket_once() {
    let mut usage = Usage::text(10, 3);
    usage.add(Bucket::CachedInput, 7);
    let price = card().price.unwrap_or_else(|| unreachable!("the card has a price"));
    let charge = Charge::of(&usage, &price).unwrap_or_default();
    assert_eq!(charge.total, Pico::new(10 * 4 + 7 + 3 * 8));
    assert_eq!(charge.lines.len(), 3);
    assert!(charge.priced);
}

#[test]
fn a_quantity_without_a_price_costs_the_dearest_and_is_told() {
    let price = card().price.unwrap_or_else(|| unreachable!("the card has a price"));
    let mut heard = Usage::text(1, 0);
    heard.add(Bucket::AudioInput, 2);
    let charge = Charge::of(&heard, &price).unwrap_or_default();
    assert_eq!((charge.total, charge.priced), (Pico::new(4 + 2 * 8), false));
    let unknown = Usage { unknown: vec![("searches".to_owned(), "2".to_owned())], ..Usage::text(1, 0) };
    let charge = Charge::of(&unknown, &price).unwrap_or_default();
    assert_eq!((charge.total, charge.priced), (Pico::new(4), false));
}

fn priced(change: impl FnOnce(&mut Price)) -> ModelCard {
    let mut price = Price::of(Pico::new(4), Pico::new(8));
    change(&mut price);
    ModelCard { context_tokens: Some(8000), price: Some(price), ..card() }
}

fn searching(max_calls: Option<u64>) -> ModelCard {
    priced(|price| {
        price.tools.insert("web_search".to_owned(), ToolPrice { max_calls, per_call: Pico::new(1_000) });
    })
}

fn offering(kind: &str, uses: Option<u64>) -> Ask {
    let mut ask = Ask { choices: 1, ..ask() };
    ask.offer_hosted(kind.to_owned(), uses);
    ask
}

/// Each call of a tool has the model read its whole context again.
#[test]
fn a_hosted_tool_is_bounded_by_its_calls_and_the_context_of_each_step() {
    #[track_caller]
    fn check(ask: &Ask, card: &ModelCard, calls: Result<u64, Unbounded>) {
        let amount = calls.map(|calls| Pico::new(i64::try_from((calls + 1) * 8000 * 4 + calls * 1_000 + 8).unwrap()));
        assert_eq!(bound(ask, card, 1).map(|bound| bound.amount), amount);
    }
    let unlimited = |kind: &str| Err(Unbounded::HostedUnlimited(kind.to_owned()));
    check(&offering("web_search_20250305", Some(3)), &searching(None), Ok(3));
    check(&offering("web_search_preview", None), &searching(Some(5)), Ok(5));
    check(&offering("web_search", Some(9)), &searching(Some(5)), Ok(5));
    check(&Ask { max_tool_calls: Some(2), ..offering("web_search", None) }, &searching(None), Ok(2));
    check(&offering("web_search", None), &searching(None), unlimited("web_search"));
    check(&offering("file_search", Some(1)), &searching(Some(5)), Err(Unbounded::HostedTool("file_search".to_owned())));
    let mut twice = offering("web_search", Some(1));
    twice.offer_hosted("web_search".to_owned(), Some(2));
    // Both entries may be used as often as both say.
    check(&twice, &searching(None), Ok(6));
    twice.offer_hosted("web_search".to_owned(), None);
    check(&twice, &searching(None), unlimited("web_search"));
    let nowhere = ModelCard { context_tokens: None, ..searching(Some(5)) };
    check(&offering("web_search", None), &nowhere, Err(Unbounded::ContextUnknown));
    let mut many = offering("web_search", None);
    (0..NAMES_KEPT).for_each(|_| many.offer_hosted("web_search".to_owned(), None));
    check(&many, &searching(Some(5)), Err(Unbounded::HostedTool("web_search".to_owned())));
}

#[test]
fn a_dropped_tool_is_neither_counted_nor_bounded_and_a_priced_one_stays() {
    let dropping =
        |names: &[&str], card: ModelCard| ModelCard { drop_tools: names.iter().map(|name| (*name).to_owned()).collect(), ..card };
    let asked = Ask { function_calling: true, ..offering("web_search_preview", None) };
    for names in [&["web_search"][..], &["*"]] {
        let card = dropping(names, priced(|_| {}));
        assert_eq!(dropped(&asked, &card), ["web_search_preview"]);
        let left = without_dropped(&asked, &card);
        assert_eq!((left.tools, left.function_calling, left.hosted_tools.len()), (0, false, 0));
        assert!(bound(&asked, &card, 1).is_ok());
    }
    assert_eq!(bound(&asked, &dropping(&["mcp"], priced(|_| {})), 1), Err(Unbounded::HostedTool("web_search_preview".to_owned())));
    assert!(dropped(&asked, &dropping(&["*"], searching(Some(1)))).is_empty());
    assert!(dropped(&offering("modalities.image", None), &dropping(&["*"], card())).is_empty());
}

#[test]
fn a_tier_is_bounded_at_the_dearer_of_both_and_denied_without_a_price() {
    let card = priced(|price| {
        price.tiers.insert("priority".to_owned(), Price::of(Pico::new(9), Pico::new(20)));
        price.tiers.insert("flex".to_owned(), Price::of(Pico::new(2), Pico::new(4)));
    });
    let units = |tier: Option<&str>| {
        let reckoned = reckon(&Ask { service_tier: tier.map(str::to_owned), ..ask() }, &card, 1);
        reckoned.map(|reckoned| (reckoned.input_unit.get(), reckoned.output_unit.get()))
    };
    assert_eq!(units(None), Ok((4, 8)));
    assert_eq!(units(Some("on_demand")), Ok((4, 8)));
    assert_eq!(units(Some("priority")), Ok((9, 20)));
    assert_eq!(units(Some("flex")), Ok((4, 8)));
    assert_eq!(units(Some("scale")), Err(Unbounded::Tier("scale".to_owned())));
}

#[test]
fn fields_that_choose_a_price_together_have_one_name() {
    assert_eq!(tier([Some("auto"), Some("standard"), Some("global")]), None);
    assert_eq!(tier([None, Some("fast"), Some("us")]).as_deref(), Some("fast+us"));
    assert_eq!(tier([Some("batch"), None, Some("not_available")]).as_deref(), Some("batch"));
}

fn long(base: Price, above: u64, price: Price) -> Price {
    Price { long_context: vec![LongContext { above, price }], ..base }
}

#[test]
fn a_long_context_is_charged_by_its_actual_length_and_bounded_by_the_longest() {
    let rates = long(Price::of(Pico::new(4), Pico::new(8)), 1000, Price::of(Pico::new(8), Pico::new(12)));
    let total = |usage: &Usage| Charge::of(usage, &rates).map(|charge| charge.total);
    assert_eq!(total(&Usage::text(1000, 1)), Some(Pico::new(4000 + 8)));
    assert_eq!(total(&Usage::text(1001, 1)), Some(Pico::new(1001 * 8 + 12)));
    // What was read from a cache is as long.
    let mut cached = Usage::text(500, 1);
    cached.add(Bucket::CachedInput, 501);
    assert_eq!(total(&cached), Some(Pico::new(1001 * 8 + 12)));
    let card = ModelCard { price: Some(rates), ..card() };
    let unit = |body_bytes: u64| reckon(&Ask { body_bytes, ..ask() }, &card, 1).map(|reckoned| reckoned.input_unit.get());
    // The bound counts what a provider adds.
    assert_eq!((unit(888), unit(889)), (Ok(4), Ok(8)));
}

#[test]
fn the_tier_that_was_billed_prices_the_call_and_an_unknown_one_is_the_dearest() {
    let mut price = Price::of(Pico::new(4), Pico::new(8));
    let priority = Price::of(Pico::new(9), Pico::new(20));
    price.tiers.insert("priority".to_owned(), long(priority, 10, Price::of(Pico::new(90), Pico::new(20))));
    price.tiers.insert("flex".to_owned(), Price::of(Pico::new(2), Pico::new(4)));
    let charge = |tier: Option<&str>, input: u64, asked: Option<&str>| {
        let usage = Usage { tier: tier.map(str::to_owned), ..Usage::text(input, 1) };
        let charge = Charge::asked(&usage, &price, asked).unwrap();
        (charge.total.get(), charge.tier, charge.priced)
    };
    let named = |tier: &str| Some(tier.to_owned());
    assert_eq!(charge(Some("default"), 10, Some("priority")), (48, None, true));
    assert_eq!(charge(Some("priority"), 10, None), (110, named("priority"), true));
    assert_eq!(charge(Some("priority"), 11, None), (1010, named("priority"), true));
    assert_eq!(charge(Some("scale"), 10, None), (110, named("scale"), false));
    // A provider that says nothing may have billed either.
    assert_eq!(charge(None, 10, Some("flex")), (48, None, false));
    assert_eq!(charge(None, 10, Some("priority")), (110, named("priority"), false));
    assert_eq!(charge(None, 10, None), (48, None, true));
}

/// Anthropic's report may name the service tier alone, of a call that asked for a speed or a region.
#[test]
fn a_field_of_the_tier_that_is_not_reported_counts_as_it_was_asked_for() {
    let mut price = Price::of(Pico::new(1), Pico::new(0));
    for (tier, unit) in [("fast", 6), ("us", 2), ("fast+us", 12), ("priority", 3), ("priority+fast", 20)] {
        price.tiers.insert(tier.to_owned(), Price::of(Pico::new(unit), Pico::new(0)));
    }
    let check = |asked: &str, told: &str, silent: &[TierField], total: i64, tier: Option<&str>, priced: bool| {
        let usage = Usage { tier: Some(told.to_owned()), silent: silent.to_vec(), ..Usage::text(1, 0) };
        let charge = Charge::asked(&usage, &price, Some(asked)).unwrap();
        let wanted = (total, tier, priced);
        assert_eq!((charge.total.get(), charge.tier.as_deref(), charge.priced), wanted, "{asked} asked, {told} told, but {silent:?}");
    };
    let (tier, speed, region) = (TierField::Tier, TierField::Speed, TierField::Region);
    check("fast", "standard", &[speed, region], 6, Some("fast"), false);
    check("fast", "standard", &[region], 1, None, true);
    check("us", "standard", &[region], 2, Some("us"), false);
    check("us", "standard", &[speed], 1, None, true);
    check("fast+us", "standard", &[speed, region], 12, Some("fast+us"), false);
    check("fast+us", "fast", &[tier, region], 12, Some("fast+us"), false);
    check("fast+us", "us", &[speed], 12, Some("fast+us"), false);
    check("fast+us", "fast", &[tier], 6, Some("fast"), true);
    check("fast", "priority", &[speed, region], 20, Some("priority+fast"), false);
    // Without a price of the two together it is the dearest of all.
    check("us", "priority", &[speed, region], 20, Some("priority+us"), false);
    check("fast", "fast", &[tier, region], 6, Some("fast"), true);
}

#[test]
fn cache_writes_are_priced_by_their_lifetime_and_denied_where_that_has_no_price() {
    let full = priced(|price| (price.cache_write, price.cache_write_1h) = (Some(Pico::new(5)), Some(Pico::new(8))));
    let plain = priced(|_| {});
    let unit = |card: &ModelCard, lifetimes: &[&str]| {
        let mut ask = ask();
        lifetimes.iter().for_each(|lifetime| ask.write_cache(lifetime));
        reckon(&ask, card, 1).map(|reckoned| reckoned.input_unit.get())
    };
    let denied = |lifetime: &str| Err(Unbounded::CacheUnpriced(lifetime.to_owned()));
    assert_eq!((unit(&full, &[]), unit(&full, &["5m"]), unit(&full, &["1h", "5m"])), (Ok(5), Ok(5), Ok(8)));
    assert_eq!((unit(&plain, &[]), unit(&plain, &["5m"]), unit(&plain, &["1h"])), (Ok(4), denied("5m"), denied("1h")));
    assert_eq!(unit(&full, &["24h"]), denied("24h"));
    let charge = |card: &ModelCard, bucket: Bucket| {
        let mut usage = Usage::default();
        usage.add(bucket, 10);
        let charge = Charge::of(&usage, card.price.as_ref().unwrap()).unwrap();
        (charge.total.get(), charge.priced)
    };
    assert_eq!((charge(&full, Bucket::CacheWrite5m), charge(&full, Bucket::CacheWrite1h)), ((50, true), (80, true)));
    assert_eq!((charge(&plain, Bucket::CacheWrite5m), charge(&plain, Bucket::CacheWrite1h)), ((80, false), (80, false)));
    // OpenAI writes on its own, at one price for all lifetimes.
    assert_eq!((charge(&full, Bucket::CacheWrite30m), charge(&plain, Bucket::CacheWrite12h)), ((50, true), (40, true)));
}

#[test]
fn images_cost_what_text_costs_as_input_and_have_a_price_of_their_own_as_output() {
    let mut usage = Usage::text(1, 1);
    usage.add(Bucket::ImageInput, 10);
    let charge = |usage: &Usage, card: &ModelCard| {
        let charge = Charge::of(usage, card.price.as_ref().unwrap()).unwrap();
        (charge.total.get(), charge.priced)
    };
    let dear = priced(|price| (price.image_input, price.image_output) = (Some(Pico::new(6)), Some(Pico::new(40))));
    assert_eq!((charge(&usage, &priced(|_| {})), charge(&usage, &dear)), ((52, true), (72, true)));
    usage.add(Bucket::ImageOutput, 10);
    assert_eq!((charge(&usage, &priced(|_| {})), charge(&usage, &dear)), ((132, false), (472, true)));
    let seen = Ask { images: 1, ..ask() };
    assert_eq!(reckon(&seen, &dear, 1).map(|reckoned| reckoned.input_unit), Ok(Pico::new(6)));
}

/// Cards, charges and asks of before have none of the fields that were added since.
#[test]
fn what_is_absent_is_left_out_of_cards_and_asks() {
    let (text, _) = card().snapshot();
    assert_eq!(
        text,
        r#"{"max_tokens":100,"max_tokens_field":"max_tokens","name":"m","overhead":{"message":16,"request":64,"tool":64,"tools":640},"price":{"cache_write":"5","cached_input":"1","input":"4","output":"8"},"provider":"p","provider_model":"pm","reasoning":false,"tools":true,"vision":true}"#
    );
    let full = priced(|price| {
        let nested = Price { cache_write_1h: Some(Pico::new(1)), ..price.clone() };
        price.long_context.push(LongContext { above: 5, price: nested.clone() });
        price.tiers.insert("flex".to_owned(), nested);
        price.tools.insert("web_search".to_owned(), ToolPrice { max_calls: Some(1), per_call: Pico::ZERO });
    });
    let full = ModelCard { drop_tools: vec!["*".to_owned()], ..full };
    let (text, _) = full.snapshot();
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(value.to_string(), text, "keys are sorted");
    assert_eq!(serde_json::from_str::<ModelCard>(&text).unwrap(), full);
}
