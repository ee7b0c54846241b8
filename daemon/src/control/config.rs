//! The settings in force and their sources, as the protocol tells them. Of keys, only whether they are set.

use super::models::{key_state, needs_restart};
use crate::config::{OnDisconnect, Settings, Sourced};
use crate::gate::Gate;
use aex_core::paths::Paths;
use aex_proto::config::{ConfigShown, Place, ProviderKey, Setting};
use serde_json::{Value, json};

pub(super) fn show(gate: &Gate, started: &Settings) -> ConfigShown {
    let active = gate.active();
    let config = &active.config;
    let waiting = needs_restart(started, &config.settings);
    let keys = config.catalog.providers.values().map(|provider| ProviderKey {
        provider: provider.name.clone(),
        variable: provider.key_variable.clone(),
        state: key_state(config, provider),
        source: config.keys.source(&provider.name).filter(|_| provider.needs_key()).map(|source| source.name().to_owned()),
    });
    ConfigShown {
        places: places(gate.paths()),
        settings: settings(&config.settings, &waiting),
        keys: keys.collect(),
        warnings: config.warnings.iter().map(ToString::to_string).collect(),
    }
}

fn places(paths: &Paths) -> Vec<Place> {
    let all = [
        ("home", &paths.home),
        ("config", &paths.config_dir),
        ("logs", &paths.log_dir),
        ("ledger", &paths.ledger),
        ("socket", &paths.socket),
        ("env", &paths.env_file),
    ];
    all.into_iter().map(|(name, path)| Place { name: name.to_owned(), path: path.display().to_string() }).collect()
}

/// Every setting, as the file would write it. One that is not named here does not compile.
fn settings(settings: &Settings, waiting: &[String]) -> Vec<Setting> {
    let Settings {
        listen,
        port,
        allow_remote,
        allowed_hosts,
        max_body,
        max_connections,
        head_timeout,
        body_idle,
        keep_alive,
        client_stall,
        durability,
        wal_limit,
        zone,
        workers,
        drain_timeout,
        run_grace,
        approval_timeout,
        on_disconnect,
        charge_on_gateway_error,
        idempotency_answer,
        idempotency_memory,
        idempotency_keys,
        tokenizer,
        log_level,
        admin_group,
    } = settings;
    let mut shown = Vec::new();
    let mut add = |name: &str, value: Value, source: String| {
        let waits_for_restart = waiting.iter().any(|setting| setting == name);
        shown.push(Setting { name: name.to_owned(), value, source, waits_for_restart });
    };
    add("listen", json!(listen.value), source(listen));
    add("port", json!(port.value), source(port));
    add("allow_remote", json!(allow_remote.value), source(allow_remote));
    add("allowed_hosts", json!(allowed_hosts.value), source(allowed_hosts));
    add("max_body", json!(max_body.value), source(max_body));
    add("max_connections", json!(max_connections.value), source(max_connections));
    add("head_timeout_ms", json!(head_timeout.value.as_millis()), source(head_timeout));
    add("body_idle_ms", json!(body_idle.value.as_millis()), source(body_idle));
    add("keep_alive_ms", json!(keep_alive.value.as_millis()), source(keep_alive));
    add("client_stall_ms", json!(client_stall.value.as_millis()), source(client_stall));
    add("durability", json!(durability.value.name()), source(durability));
    add("wal_limit", json!(wal_limit.value), source(wal_limit));
    add("zone", json!(zone.value.iana_name().unwrap_or("UTC")), source(zone));
    add("workers", json!(workers.value), source(workers));
    add("drain_timeout_ms", json!(drain_timeout.value.as_millis()), source(drain_timeout));
    add("run_grace_ms", json!(run_grace.value.as_millis()), source(run_grace));
    add("approval_timeout_ms", json!(approval_timeout.value.as_millis()), source(approval_timeout));
    add("on_disconnect", json!(on_disconnect_name(on_disconnect.value)), source(on_disconnect));
    add("charge_on_gateway_error", json!(charge_on_gateway_error.value), source(charge_on_gateway_error));
    add("idempotency_answer", json!(idempotency_answer.value), source(idempotency_answer));
    add("idempotency_memory", json!(idempotency_memory.value), source(idempotency_memory));
    add("idempotency_keys", json!(idempotency_keys.value), source(idempotency_keys));
    add("tokenizer", json!(if tokenizer.value { "on" } else { "off" }), source(tokenizer));
    add("log_level", json!(log_level.value.as_str().to_ascii_lowercase()), source(log_level));
    add("admin_group", json!(admin_group.value), source(admin_group));
    shown
}

fn source<T>(setting: &Sourced<T>) -> String {
    setting.source.to_string()
}

const fn on_disconnect_name(choice: OnDisconnect) -> &'static str {
    match choice {
        OnDisconnect::Cancel => "cancel",
        OnDisconnect::Drain => "drain",
    }
}
