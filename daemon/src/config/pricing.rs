//! `pricing` and `hosted_tools` of a model: prices that are exact or refused.
//!
//! A key without meaning is a warning directly below `pricing`, where the earlier program ignored it, and an error in all that
//! it did not know: a misspelt price must not leave a dearer call cheap.

use super::report::{Field, Report, Section, Unknown, number};
use super::yaml::Value;
use aex_core::price::{LongContext, Price, ToolPrice};
use aex_core::usage::ToolName;
use aex_proto::value::Pico;

/// Digits behind the point of a multiplier.
const MULTIPLIER_DECIMALS: u32 = 4;

/// What a model costs and which tools are taken out of its requests.
pub(super) struct Pricing {
    pub(super) price: Option<Price>,
    pub(super) drop_tools: Vec<String>,
}

/// Reads both keys of a model.
pub(super) fn read(model: &mut Section<'_>, report: &mut Report) -> Pricing {
    let mut price = read_price(model, report);
    let mut drop_tools = Vec::new();
    if let Some(field) = model.get("hosted_tools") {
        for (name, tool) in hosted_tools(&field, report) {
            match (tool, &mut price) {
                (Hosted::Drop, _) => drop_tools.push(name),
                (Hosted::Price(tool), Some(price)) => drop(price.tools.insert(name, tool)),
                (Hosted::Deny, _) | (Hosted::Price(_), None) => {}
            }
        }
    }
    drop_tools.sort_unstable();
    Pricing { price, drop_tools }
}

fn read_price(model: &mut Section<'_>, report: &mut Report) -> Option<Price> {
    let Some(field) = model.get("pricing") else {
        let text = format!("{}.pricing: missing, so every call of this model is denied; `pricing: free` if it costs nothing", model.key);
        report.warn(model.line, text);
        return None;
    };
    if number(field.node) == Some("free") {
        return Some(free());
    }
    let mut section = report.section(&field)?;
    let call = unit(&mut section, "call_micro", None, report);
    let rates = rates(&mut section, report);
    let long_context = long_context(&mut section, report);
    let tiers = section.get("tiers");
    section.finish(Unknown::Warn, report);
    let mut price = Price { call: call.price(), long_context: long_context?, ..rates? };
    for (name, field) in tiers.and_then(|field| report.section(&field)).iter().flat_map(Section::named) {
        if aex_core::price::is_standard_tier(name) {
            report.refuse(field.line, format!("{}: expected a tier with other prices than the standard one", field.key));
        }
        let tier = read_tier(&field, &price, report)?;
        price.tiers.insert(name.to_owned(), tier);
    }
    Some(price)
}

/// Nothing costs anything, tools that the provider runs excepted.
fn free() -> Price {
    let zero = Some(Pico::ZERO);
    Price {
        audio_input: zero,
        audio_output: zero,
        cache_write: zero,
        cache_write_1h: zero,
        image_output: zero,
        ..Price::of(Pico::ZERO, Pico::ZERO)
    }
}

/// Prices of tokens, without those of a long context.
fn rates(section: &mut Section<'_>, report: &mut Report) -> Option<Price> {
    let mut read = |micro, per_mtok| unit(section, micro, Some(per_mtok), report);
    let input = read("input_micro", "input_per_mtok");
    let output = read("output_micro", "output_per_mtok");
    let cached_input = read("cached_input_micro", "cached_input_per_mtok");
    let cache_write = read("cache_write_micro", "cache_write_per_mtok");
    let cache_write_5m = read("cache_write_5m_micro", "cache_write_5m_per_mtok");
    let cache_write_30m = read("cache_write_30m_micro", "cache_write_30m_per_mtok");
    let cache_write_1h = read("cache_write_1h_micro", "cache_write_1h_per_mtok");
    let cache_write_12h = read("cache_write_12h_micro", "cache_write_12h_per_mtok");
    let audio_input = read("audio_input_micro", "audio_input_per_mtok");
    let audio_output = read("audio_output_micro", "audio_output_per_mtok");
    let image_input = read("image_input_micro", "image_input_per_mtok");
    let image_output = read("image_output_micro", "image_output_per_mtok");
    for (unit, name) in [(&input, "input"), (&output, "output")] {
        if matches!(unit, Unit::Absent) {
            report.refuse(section.line, format!("{}: expected {name}_micro or {name}_per_mtok, found neither", section.key));
        }
    }
    Some(Price {
        audio_input: audio_input.price(),
        audio_output: audio_output.price(),
        cache_write: cache_write.price(),
        cache_write_12h: cache_write_12h.price(),
        cache_write_1h: cache_write_1h.price(),
        cache_write_30m: cache_write_30m.price(),
        cache_write_5m: cache_write_5m.price(),
        cached_input: cached_input.price(),
        image_input: image_input.price(),
        image_output: image_output.price(),
        ..Price::of(input.price()?, output.price()?)
    })
}

/// `long_context`: a mapping with `above` and prices, or a list of them.
fn long_context(section: &mut Section<'_>, report: &mut Report) -> Option<Vec<LongContext>> {
    let Some(field) = section.get("long_context") else { return Some(Vec::new()) };
    let nodes = match &field.node.value {
        Value::List(nodes) => nodes.iter().collect(),
        _ => vec![field.node],
    };
    let mut all: Vec<LongContext> = Vec::new();
    for (at, node) in nodes.iter().enumerate() {
        let key = if nodes.len() > 1 { format!("{}[{at}]", field.key) } else { field.key.clone() };
        let mut section = report.section(&Field { key, line: node.line, node })?;
        let above = section.require("above", "tokens of input, a whole number ≥ 1", report);
        let tokens = above.as_ref().and_then(|above| report.whole(above, 1));
        let price = rates(&mut section, report);
        section.finish(Unknown::Refuse, report);
        let (above, tokens) = above.zip(tokens)?;
        if all.last().is_some_and(|before| before.above >= tokens) {
            report.expected(&above, "more tokens than in the entry before");
        }
        all.push(LongContext { above: tokens, price: price? });
    }
    Some(all)
}

/// One of `tiers`: prices of its own, or what the standard ones are multiplied by.
fn read_tier(field: &Field<'_>, standard: &Price, report: &mut Report) -> Option<Price> {
    let mut section = report.section(field)?;
    let Some(factor) = section.get("multiply") else {
        let rates = rates(&mut section, report);
        let long_context = long_context(&mut section, report);
        section.finish(Unknown::Refuse, report);
        return Some(Price { long_context: long_context?, ..rates? });
    };
    section.finish(Unknown::Refuse, report);
    let product = number(factor.node).and_then(multiplier).and_then(|factor| multiplied(standard, factor));
    if product.is_none() {
        report.expected(&factor, "a decimal number such as \"1.1\" by which each price stays a whole number of pico-USD");
    }
    product
}

/// A decimal number in units of its last decimal.
fn multiplier(text: &str) -> Option<i128> {
    // Read as money is, so that nothing is rounded: USD per million have six decimals.
    let scaled = i128::from(Pico::parse_usd_per_million(text).ok()?.get());
    let unit = 10_i128.pow(6 - MULTIPLIER_DECIMALS);
    (scaled > 0 && scaled % unit == 0).then_some(scaled / unit)
}

fn multiplied(price: &Price, factor: i128) -> Option<Price> {
    let unit = 10_i128.pow(MULTIPLIER_DECIMALS);
    let times = |price: Pico| {
        let product = i128::from(price.get()).checked_mul(factor)?;
        if product % unit == 0 { i64::try_from(product / unit).ok().map(Pico::new) } else { None }
    };
    let maybe = |price: Option<Pico>| price.map_or(Some(None), |price| times(price).map(Some));
    let long = |long: &LongContext| Some(LongContext { above: long.above, price: multiplied(&long.price, factor)? });
    Some(Price {
        audio_input: maybe(price.audio_input)?,
        audio_output: maybe(price.audio_output)?,
        cache_write: maybe(price.cache_write)?,
        cache_write_12h: maybe(price.cache_write_12h)?,
        cache_write_1h: maybe(price.cache_write_1h)?,
        cache_write_30m: maybe(price.cache_write_30m)?,
        cache_write_5m: maybe(price.cache_write_5m)?,
        cached_input: maybe(price.cached_input)?,
        image_input: maybe(price.image_input)?,
        image_output: maybe(price.image_output)?,
        long_context: price.long_context.iter().map(long).collect::<Option<_>>()?,
        ..Price::of(times(price.input)?, times(price.output)?)
    })
}

enum Hosted {
    Deny,
    Drop,
    Price(ToolPrice),
}

const DENY_OR_DROP: [(&str, bool); 2] = [("deny", false), ("drop", true)];

/// `hosted_tools`: one word for all, or a mapping by tool, in which `others` are all that it does not name.
fn hosted_tools(field: &Field<'_>, report: &mut Report) -> Vec<(String, Hosted)> {
    const ALL: &str = "*";
    let word = |field: &Field<'_>, report: &mut Report| {
        report.word(field, &DENY_OR_DROP).map(|drops| if drops { Hosted::Drop } else { Hosted::Deny })
    };
    if !matches!(field.node.value, Value::Map(_)) {
        return word(field, report).map(|tool| (ALL.to_owned(), tool)).into_iter().collect();
    }
    let Some(section) = report.section(field) else { return Vec::new() };
    let mut all = Vec::new();
    let mut denied = Vec::new();
    for (name, field) in section.named() {
        if name == "others" {
            all.extend(word(&field, report).map(|tool| (ALL.to_owned(), tool)));
            continue;
        }
        if ToolName::of_type(name).is_none_or(|tool| tool.as_str() != name) {
            report.refuse(field.line, format!("{}: expected the name of a tool without version or date, such as web_search", field.key));
        }
        let tool = if matches!(field.node.value, Value::Map(_)) { tool(&field, report) } else { word(&field, report) };
        if matches!(tool, Some(Hosted::Deny)) {
            denied.push(field.line);
        }
        all.extend(tool.map(|tool| (name.to_owned(), tool)));
    }
    let drops_others = all.iter().any(|(name, tool)| name == ALL && matches!(tool, Hosted::Drop));
    for line in denied.into_iter().filter(|_| drops_others) {
        report.refuse(line, format!("{}: expected no `deny` beside `others: drop`", section.key));
    }
    all
}

fn tool(field: &Field<'_>, report: &mut Report) -> Option<Hosted> {
    let mut section = report.section(field)?;
    let per_call = section.require("per_call", "USD for each call such as \"0.01\"", report).and_then(|field| {
        let price = number(field.node).and_then(|text| Pico::parse_usd(text).ok());
        if price.is_none() {
            report.expected(&field, "USD for each call such as \"0.01\", with at most 12 decimals");
        }
        price
    });
    let max_calls = section.get("max_calls").map(|field| report.whole(&field, 1));
    section.finish(Unknown::Refuse, report);
    let max_calls = match max_calls {
        Some(read) => Some(read?),
        None => None,
    };
    Some(Hosted::Price(ToolPrice { max_calls, per_call: per_call? }))
}

enum Unit {
    Absent,
    Wrong,
    Price(Pico),
}

impl Unit {
    fn price(self) -> Option<Pico> {
        match self {
            Unit::Price(price) => Some(price),
            Unit::Absent | Unit::Wrong => None,
        }
    }
}

fn unit(section: &mut Section<'_>, micro: &'static str, per_mtok: Option<&'static str>, report: &mut Report) -> Unit {
    let in_micro = section.get(micro);
    let in_mtok = per_mtok.and_then(|name| section.get(name));
    let price = match (in_micro, in_mtok) {
        (None, None) => return Unit::Absent,
        (Some(field), None) => micro_price(&field, per_mtok, report),
        (None, Some(field)) => mtok_price(&field, report),
        (Some(_), Some(field)) => {
            report.refuse(field.line, format!("{}: expected one price, found {micro} too", field.key));
            None
        }
    };
    price.map_or(Unit::Wrong, Unit::Price)
}

fn micro_price(field: &Field<'_>, per_mtok: Option<&str>, report: &mut Report) -> Option<Pico> {
    let price = number(field.node).filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    let price = price.and_then(|text| text.parse().ok()).and_then(Pico::from_micro);
    if price.is_none() {
        let finer = per_mtok.map_or(String::new(), |name| format!(" ({name} takes smaller prices)"));
        report.expected(field, &format!("a whole number of µUSD ≥ 0{finer}"));
    }
    price
}

fn mtok_price(field: &Field<'_>, report: &mut Report) -> Option<Pico> {
    let price = number(field.node).and_then(|text| Pico::parse_usd_per_million(text).ok());
    if price.is_none() {
        report.expected(field, "USD per million tokens such as \"0.15\", with at most 6 decimals");
    }
    price
}

#[cfg(test)]
mod tests {
    use super::super::models;
    use super::*;
    use aex_core::price::ModelCard;
    use std::path::Path;

    const PRICING: &str = r#"
providers: {echo: {type: echo}}
models:
  m:
    provider: echo
    provider_model: e
    pricing:
      input_per_mtok: "3"
      output_per_mtok: "15"
      cached_input_per_mtok: "0.30"
      cache_write_per_mtok: "3.75"
      cache_write_5m_per_mtok: "3.8"
      cache_write_30m_per_mtok: "3.9"
      cache_write_1h_per_mtok: "6"
      cache_write_12h_micro: 7
      image_input_per_mtok: "5"
      image_output_per_mtok: "40"
      long_context:
        - {above: 128000, input_per_mtok: "4", output_per_mtok: "16"}
        - {above: 200000, input_per_mtok: "6", output_per_mtok: "22.50", cache_write_1h_per_mtok: "12"}
      tiers:
        flex: {input_per_mtok: "1.5", output_per_mtok: "7.5", long_context: {above: 9, input_per_mtok: "2", output_per_mtok: "8"}}
        us: {multiply: "1.1"}
    hosted_tools:
      web_search: {per_call: "0.01", max_calls: 10}
      mcp: {per_call: 0}
      file_search: drop
      x_search: deny
    limits: {max_tokens: 8}
    capabilities: {}
"#;

    fn read_text(source: &str) -> (Option<ModelCard>, Vec<String>, Vec<String>) {
        let mut report = Report::new("models.yaml");
        let catalog = models::read(source, Path::new("."), &mut report);
        let card = catalog.and_then(|catalog| catalog.models.into_iter().next());
        let told = |problems: &[super::super::Problem]| problems.iter().map(ToString::to_string).collect();
        (card, told(&report.errors), told(&report.warnings))
    }

    fn usd(text: &str) -> Pico {
        Pico::parse_usd_per_million(text).unwrap()
    }

    #[test]
    fn every_price_is_read_where_it_stands() {
        let (card, errors, warnings) = read_text(PRICING);
        assert!(errors.is_empty() && warnings.is_empty(), "{errors:?} {warnings:?}");
        let card = card.unwrap();
        let long = |above: u64, price: Price| LongContext { above, price };
        let dearer = Price { cache_write_1h: Some(usd("12")), ..Price::of(usd("6"), usd("22.5")) };
        let standard = Price {
            cache_write: Some(usd("3.75")),
            cache_write_12h: Some(usd("7")),
            cache_write_1h: Some(usd("6")),
            cache_write_30m: Some(usd("3.9")),
            cache_write_5m: Some(usd("3.8")),
            cached_input: Some(usd("0.3")),
            image_input: Some(usd("5")),
            image_output: Some(usd("40")),
            long_context: vec![long(128_000, Price::of(usd("4"), usd("16"))), long(200_000, dearer)],
            ..Price::of(usd("3"), usd("15"))
        };
        let mut price = card.price.unwrap();
        let tools: Vec<(String, ToolPrice)> = std::mem::take(&mut price.tools).into_iter().collect();
        let mut tiers = std::mem::take(&mut price.tiers);
        assert_eq!(price, standard);
        let tool = |name: &str, per_call: &str, max_calls| {
            (name.to_owned(), ToolPrice { max_calls, per_call: Pico::parse_usd(per_call).unwrap() })
        };
        assert_eq!(tools, [tool("mcp", "0", None), tool("web_search", "0.01", Some(10))]);
        assert_eq!(card.drop_tools, ["file_search"]);
        let flex = Price { long_context: vec![long(9, Price::of(usd("2"), usd("8")))], ..Price::of(usd("1.5"), usd("7.5")) };
        assert_eq!(tiers.remove("flex"), Some(flex));
        let here = tiers.remove("us").unwrap();
        assert_eq!((here.input, here.cached_input, here.cache_write_1h), (usd("3.3"), Some(usd("0.33")), Some(usd("6.6"))));
        assert_eq!(here.long_context[1].price.output, usd("24.75"));
        assert!(here.tools.is_empty() && here.call.is_none());
    }

    #[test]
    fn hosted_tools_are_denied_unless_a_word_drops_them() {
        let drops = |hosted: &str| {
            let (before, rest) = PRICING.split_once("    hosted_tools:").unwrap();
            let (_, behind) = rest.split_once("    limits:").unwrap();
            let (card, errors, _) = read_text(&format!("{before}{hosted}    limits:{behind}"));
            (card.map(|card| (card.drop_tools, card.price.unwrap().tools.len())), errors)
        };
        assert_eq!(drops("").0, Some((vec![], 0)));
        assert_eq!(drops("    hosted_tools: deny\n").0, Some((vec![], 0)));
        assert_eq!(drops("    hosted_tools: drop\n").0, Some((vec!["*".to_owned()], 0)));
        assert_eq!(drops("    hosted_tools: {others: drop, web_search: {per_call: 1}}\n").0, Some((vec!["*".to_owned()], 1)));
        let (none, errors) = drops("    hosted_tools: {others: drop, mcp: deny}\n");
        assert_eq!(
            (none, errors),
            (None, vec!["models.yaml:24: models.m.hosted_tools: expected no `deny` beside `others: drop`".to_owned()])
        );
    }

    #[test]
    fn what_is_wrong_is_named_with_line_and_key() {
        #[track_caller]
        fn check(old: &str, new: &str, expected: &str) {
            assert!(PRICING.contains(old), "{old}");
            let (card, errors, _) = read_text(&PRICING.replacen(old, new, 1));
            assert_eq!((card, errors), (None, vec![format!("models.yaml:{expected}")]));
        }
        check(
            "128000",
            "200000",
            "20: models.m.pricing.long_context[1].above: expected more tokens than in the entry before, found 200000",
        );
        check(
            "above: 128000, ",
            "",
            "19: models.m.pricing.long_context[0].above: expected tokens of input, a whole number ≥ 1, found nothing",
        );
        check("flex:", "default:", "22: models.m.pricing.tiers.default: expected a tier with other prices than the standard one");
        let exact = "expected a decimal number such as \"1.1\" by which each price stays a whole number of pico-USD";
        check("\"1.1\"", "\"1.1e1\"", &format!("23: models.m.pricing.tiers.us.multiply: {exact}, found \"1.1e1\""));
        check("\"1.1\"", "0", &format!("23: models.m.pricing.tiers.us.multiply: {exact}, found 0"));
        check("\"1.1\"", "\"1.00001\"", &format!("23: models.m.pricing.tiers.us.multiply: {exact}, found \"1.00001\""));
        check("\"0.30\"", "\"0.000001\"", &format!("23: models.m.pricing.tiers.us.multiply: {exact}, found \"1.1\""));
        check("{multiply: \"1.1\"}", "{multiply: 2, input: 3}", "23: models.m.pricing.tiers.us.input: unknown key; known are multiply");
        let name = "expected the name of a tool without version or date, such as web_search";
        check("web_search:", "web_search_20250305:", &format!("25: models.m.hosted_tools.web_search_20250305: {name}"));
        check("file_search: drop", "file_search: free", "27: models.m.hosted_tools.file_search: expected deny or drop, found \"free\"");
        check(
            "per_call: 0}",
            "per_call: cheap}",
            "26: models.m.hosted_tools.mcp.per_call: expected USD for each call such as \"0.01\", with at most 12 decimals, found \"cheap\"",
        );
        check("max_calls: 10", "max_call: 10", "25: models.m.hosted_tools.web_search.max_call: unknown key; known are per_call, max_calls");
        check("max_calls: 10", "max_calls: 0", "25: models.m.hosted_tools.web_search.max_calls: expected a whole number ≥ 1, found 0");
    }
}
