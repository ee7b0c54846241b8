//! `aexctl models`.

mod decimal;
mod entries;
mod import;
mod litellm;
mod show;

use super::{Context, check};
use crate::cli::Models;
use crate::exit::{Exit, Failure};
use crate::units::{count, grouped};
use crate::view::table;
use aex_proto::method::{ModelCheck, ModelReload, Nothing};
use aex_proto::model::{KeyState, Model, ModelList, ModelReloaded};
use aex_proto::value::Pico;

pub(super) fn run(context: &Context<'_>, verb: Models) -> Result<Exit, Failure> {
    match verb {
        Models::Import(wanted) => return import::run(context, &wanted),
        Models::Reload => return reload(context),
        Models::Show { name } => {
            let list = context.connect()?.call::<aex_proto::method::ModelList>(&Nothing {})?;
            let model = list.models.into_iter().find(|model| model.name == name).ok_or_else(|| {
                let failure = Failure::new(format!("no model `{name}` is configured")).with(Exit::NotFound);
                failure.hint("`aexctl models list` shows the names")
            })?;
            context.view.show(&model, |_| show::text(&model))?;
        }
        Models::List => {
            let list = context.connect()?.call::<aex_proto::method::ModelList>(&Nothing {})?;
            context.view.show(&list, |_| text(&list))?;
        }
        Models::Check => {
            let checked = context.connect()?.call::<ModelCheck>(&Nothing {})?;
            context.view.show(&checked, |paint| check::text(&checked, paint))?;
            return Ok(check::exit(&checked));
        }
    }
    Ok(Exit::Done)
}

/// Has the daemon read its configuration and its keys again.
pub(super) fn reload(context: &Context<'_>) -> Result<Exit, Failure> {
    let reloaded = context.connect()?.call::<ModelReload>(&Nothing {})?;
    warn(context, &reloaded);
    context.view.show(&reloaded, |_| {
        let (models, providers) = (count(u64::from(reloaded.models), "model"), count(u64::from(reloaded.providers), "provider"));
        format!("Configuration reloaded: {models} of {providers}.")
    })?;
    Ok(Exit::Done)
}

fn warn(context: &Context<'_>, reloaded: &ModelReloaded) {
    for warning in &reloaded.warnings {
        context.view.note(&format!("warning: {warning}"));
    }
    for setting in &reloaded.needs_restart {
        context.view.note(&format!("warning: {setting} has changed; it takes effect at the next start of the daemon"));
    }
}

fn text(list: &ModelList) -> String {
    let row = |model: &Model| {
        let price = |of: fn(&aex_proto::model::Prices) -> Pico| {
            model.prices.as_ref().map_or_else(|| "none: denied".to_owned(), |prices| per_million(of(prices)))
        };
        let named = if model.default { format!("{} (default)", model.name) } else { model.name.clone() };
        let down = match model.down_ms {
            None => String::new(),
            Some(0) => " (fails; the next call finds out)".to_owned(),
            Some(wait_ms) => format!(" (fails; refused for {} s)", wait_ms.div_ceil(1_000)),
        };
        let serves = format!("{}/{}{down}", model.provider, model.provider_model);
        [named, serves, price(|p| p.input_pico), price(|p| p.output_pico), grouped(model.max_tokens), abilities(model), key(model)]
    };
    table(["Model", "Provider", "Input /M", "Output /M", "Max tokens", "Capabilities", "Key"], list.models.iter().map(row))
}

pub(super) fn per_million(unit: Pico) -> String {
    unit.times(1_000_000).map_or_else(|| format!("{unit} each"), |amount| amount.to_string())
}

pub(super) fn abilities(model: &Model) -> String {
    let all = [("reasoning", model.reasoning), ("tools", model.tools), ("vision", model.vision)];
    let has: Vec<&str> = all.into_iter().filter(|(_, has)| *has).map(|(name, _)| name).collect();
    if has.is_empty() { "-".to_owned() } else { has.join(", ") }
}

pub(super) fn key(model: &Model) -> String {
    let variable = model.key_variable.as_deref().unwrap_or_default();
    match model.key {
        KeyState::Present => "present".to_owned(),
        KeyState::Missing => format!("missing: set {variable}"),
        KeyState::NotNeeded => "not needed".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aex_proto::model::Prices;
    use std::collections::BTreeMap;

    #[test]
    fn prices_are_told_per_million_tokens_and_a_missing_key_names_its_variable() {
        let model = Model {
            name: "gpt-oss-20b".to_owned(),
            default: true,
            provider: "groq".to_owned(),
            provider_type: "openai_compatible".to_owned(),
            provider_model: "openai/gpt-oss-20b".to_owned(),
            prices: Some(Prices {
                input_pico: Pico::new(75_000),
                output_pico: Pico::new(300_000),
                cached_input_pico: None,
                cache_write_pico: None,
                call_pico: None,
                others_pico: BTreeMap::new(),
                long_context: Vec::new(),
                tiers: BTreeMap::new(),
                tools: BTreeMap::new(),
            }),
            max_tokens: 8192,
            context_tokens: None,
            reasoning: true,
            tools: true,
            vision: false,
            fallbacks: Vec::new(),
            down_ms: None,
            dropped_tools: Vec::new(),
            key: KeyState::Missing,
            key_variable: Some("GROQ_API_KEY".to_owned()),
        };
        let free = Model {
            name: "x".to_owned(),
            default: false,
            prices: None,
            key: KeyState::NotNeeded,
            reasoning: false,
            tools: false,
            ..model.clone()
        };
        let wanted = "
 Model                 | Provider                | Input /M     | Output /M    | Max tokens | Capabilities     | Key
-----------------------+-------------------------+--------------+--------------+------------+------------------+---------------------------
 gpt-oss-20b (default) | groq/openai/gpt-oss-20b | $0.075       | $0.30        | 8,192      | reasoning, tools | missing: set GROQ_API_KEY
 x                     | groq/openai/gpt-oss-20b | none: denied | none: denied | 8,192      | -                | not needed";
        assert_eq!(text(&ModelList { models: vec![model, free] }), wanted.trim_start_matches('\n'));
    }
}
