//! The models of the configuration in force.

use super::fault::Answer;
use crate::config::{Config, Provider, ProviderKind, Settings};
use crate::gate::Active;
use crate::tools::gatekeeper::Gatekeeper;
use aex_core::breaker::Standing;
use aex_core::event::By;
use aex_core::price::{ModelCard, Price, ToolPrice};
use aex_core::usage::Bucket;
use aex_proto::model::{HostedTool, KeyState, LongContext, Model, ModelList, ModelReloaded, Prices};
use aex_proto::rpc::{ErrorObject, Fault};

pub(super) fn list(active: &Active) -> ModelList {
    let catalog = &active.config.catalog;
    let models = catalog.models.iter().filter_map(|card| Some(model(active, card, catalog.provider_of(card)?)));
    ModelList { models: models.collect() }
}

pub(super) async fn reload(gatekeeper: &Gatekeeper, started: &Settings, by: By) -> Answer<ModelReloaded> {
    let active = gatekeeper.reload(Some(by)).await.map_err(|problems| {
        ErrorObject::fault(Fault::BadConfig, problems)
            .hint("the old configuration is still in force; correct the file, then aexctl models reload")
    })?;
    let catalog = &active.config.catalog;
    Ok(ModelReloaded {
        models: u32::try_from(catalog.models.len()).unwrap_or(u32::MAX),
        providers: u32::try_from(catalog.providers.len()).unwrap_or(u32::MAX),
        warnings: active.config.warnings.iter().map(ToString::to_string).collect(),
        needs_restart: needs_restart(started, &active.config.settings),
    })
}

/// Settings that shape sockets, threads, ledger and log, and differ from those of the start: they hold until the next one.
pub(super) fn needs_restart(started: &Settings, now: &Settings) -> Vec<String> {
    let changed = [
        ("listen", started.listen.value != now.listen.value),
        ("port", started.port.value != now.port.value),
        ("max_connections", started.max_connections.value != now.max_connections.value),
        ("durability", started.durability.value != now.durability.value),
        ("wal_limit", started.wal_limit.value != now.wal_limit.value),
        ("zone", started.zone.value != now.zone.value),
        ("workers", started.workers.value != now.workers.value),
        ("drain_timeout_ms", started.drain_timeout.value != now.drain_timeout.value),
        ("log_level", started.log_level.value != now.log_level.value),
        ("admin_group", started.admin_group.value != now.admin_group.value),
    ];
    changed.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name.to_owned()).collect()
}

fn model(active: &Active, card: &ModelCard, provider: &Provider) -> Model {
    let config = &active.config;
    let key = key_state(config, provider);
    Model {
        name: card.name.clone(),
        default: card.name == config.catalog.default_model,
        provider: provider.name.clone(),
        provider_type: type_name(provider.kind).to_owned(),
        provider_model: card.provider_model.clone(),
        prices: card.price.as_ref().map(prices),
        max_tokens: card.max_tokens,
        context_tokens: card.context_tokens,
        reasoning: card.reasoning,
        tools: card.tools,
        vision: card.vision,
        fallbacks: config.catalog.routes.get(&card.name).map(|route| route.fallbacks.clone()).unwrap_or_default(),
        down_ms: match active.standing(&provider.name) {
            Standing::Closed => None,
            Standing::HalfOpen => Some(0),
            Standing::Open(wait_ms) => Some(wait_ms),
        },
        dropped_tools: card.drop_tools.clone(),
        key,
        key_variable: (key != KeyState::NotNeeded).then(|| provider.key_variable.clone()),
    }
}

/// Whether the daemon can authenticate to a provider.
pub(super) fn key_state(config: &Config, provider: &Provider) -> KeyState {
    match config.keys.get(&provider.name) {
        _ if !provider.needs_key() => KeyState::NotNeeded,
        Some(_) => KeyState::Present,
        None => KeyState::Missing,
    }
}

const fn type_name(kind: ProviderKind) -> &'static str {
    match kind {
        ProviderKind::OpenAiCompatible => "openai_compatible",
        ProviderKind::Anthropic => "anthropic",
        ProviderKind::Echo => "echo",
    }
}

fn prices(price: &Price) -> Prices {
    let others = [
        (Bucket::CacheWrite5m, price.cache_write_5m),
        (Bucket::CacheWrite30m, price.cache_write_30m),
        (Bucket::CacheWrite1h, price.cache_write_1h),
        (Bucket::CacheWrite12h, price.cache_write_12h),
        (Bucket::AudioInput, price.audio_input),
        (Bucket::AudioOutput, price.audio_output),
        (Bucket::ImageInput, price.image_input),
        (Bucket::ImageOutput, price.image_output),
    ];
    let long = |long: &aex_core::price::LongContext| LongContext { above: long.above, prices: prices(&long.price) };
    let tool = |tool: &ToolPrice| HostedTool { max_calls: tool.max_calls, per_call_pico: tool.per_call };
    Prices {
        input_pico: price.input,
        output_pico: price.output,
        cached_input_pico: price.cached_input,
        cache_write_pico: price.cache_write,
        call_pico: price.call,
        others_pico: others.into_iter().filter_map(|(bucket, unit)| Some((bucket.name(), unit?))).collect(),
        long_context: price.long_context.iter().map(long).collect(),
        tiers: price.tiers.iter().map(|(name, tier)| (name.clone(), prices(tier))).collect(),
        tools: price.tools.iter().map(|(name, price)| (name.clone(), tool(price))).collect(),
    }
}
