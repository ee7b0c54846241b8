//! Bounds and charges against hand-computed amounts.

use super::bound::sum;
use super::*;
use crate::ask::Ask;
use crate::usage::{Bucket, Usage};

fn card() -> ModelCard {
    ModelCard {
        context_tokens: None,
        max_tokens: 100,
        max_tokens_field: MaxTokensField::MaxTokens,
        max_tokens_per_minute: None,
        name: "m".to_owned(),
        overhead: Overhead::WIDEST,
        price: Some(Price {
            audio_input: None,
            audio_output: None,
            cache_write: Some(Pico::new(5)),
            cached_input: Some(Pico::new(1)),
            call: None,
            input: Pico::new(4),
            output: Pico::new(8),
        }),
        provider: "p".to_owned(),
        provider_model: "pm".to_owned(),
        reasoning: false,
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
