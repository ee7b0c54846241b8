//! `aexctl models show`: a model with all its prices.

use super::{abilities, key, per_million};
use crate::units::grouped;
use aex_proto::model::{Model, Prices};
use aex_proto::value::Pico;

pub(super) fn text(model: &Model) -> String {
    let mut lines = Vec::new();
    let mut fact = |name: &str, value: String| lines.push(format!("{name:<18} {value}"));
    fact("model", if model.default { format!("{} (default)", model.name) } else { model.name.clone() });
    fact("provider", format!("{} ({}), as {}", model.provider, model.provider_type, model.provider_model));
    fact("key", key(model));
    fact("most output", format!("{} tokens", grouped(model.max_tokens)));
    fact("context", model.context_tokens.map_or_else(|| "not known".to_owned(), |tokens| format!("{} tokens", grouped(tokens))));
    fact("capabilities", abilities(model));
    match &model.prices {
        None => fact("prices", "none: every call is denied".to_owned()),
        Some(prices) => {
            rates(&mut lines, "", prices);
            for (tier, prices) in &prices.tiers {
                lines.push(format!("tier {tier}"));
                rates(&mut lines, "  ", prices);
            }
            tools(&mut lines, model, prices);
        }
    }
    lines.join("\n")
}

fn rates(lines: &mut Vec<String>, indent: &str, prices: &Prices) {
    let optional = [("cached input", prices.cached_input_pico), ("cache write", prices.cache_write_pico)];
    let named = [("input", Some(prices.input_pico)), ("output", Some(prices.output_pico))].into_iter().chain(optional);
    let others = prices.others_pico.iter().map(|(name, price)| (name.replace('_', " "), *price));
    let all = named.filter_map(|(name, price)| Some((name.to_owned(), price?))).chain(others);
    lines.extend(all.map(|(name, price)| format!("{indent}{name:<18} {} per million tokens", per_million(price))));
    if let Some(call) = prices.call_pico.filter(|call| *call != Pico::ZERO) {
        lines.push(format!("{indent}{:<18} {call}", "each call"));
    }
    for long in &prices.long_context {
        lines.push(format!("{indent}above {} tokens of input", grouped(long.above)));
        rates(lines, &format!("{indent}  "), &long.prices);
    }
}

fn tools(lines: &mut Vec<String>, model: &Model, prices: &Prices) {
    for (name, tool) in &prices.tools {
        let limit =
            tool.max_calls.map_or_else(|| "as many as the request states".to_owned(), |calls| format!("at most {}", grouped(calls)));
        lines.push(format!("{:<18} {} each call, {limit}", format!("tool {name}"), tool.per_call_pico));
    }
    let others = match model.dropped_tools.as_slice() {
        [] => "denied".to_owned(),
        [all] if all == "*" => "taken out of the request".to_owned(),
        some => format!("denied; taken out: {}", some.join(", ")),
    };
    lines.push(format!("{:<18} {others}", "other hosted tools"));
}
