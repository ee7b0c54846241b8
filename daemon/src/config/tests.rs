//! Tables of files: what they mean, or exactly what is said about them.

use super::*;
use aex_core::price::{Charge, MaxTokensField, Price};
use aex_core::usage::Usage;
use aex_proto::value::Pico;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;
use tempfile::TempDir;

const SEED: &str = include_str!("../../tests/fixtures/config/models-aex-1.2.0.yaml");
const ALL_KEYS: &str = include_str!("../../tests/fixtures/config/models-v1-all-keys.yaml");

struct Home {
    _folder: TempDir,
    paths: Paths,
}

fn home(models: &str) -> Home {
    let folder = tempfile::tempdir().unwrap();
    let paths = Paths::resolve(|_| None, Some(folder.path())).unwrap();
    crate::os::paths::prepare(&paths).unwrap();
    fs::write(paths.config_dir.join(MODELS_FILE), models).unwrap();
    Home { _folder: folder, paths }
}

impl Home {
    fn settings(self, text: &str) -> Home {
        fs::write(self.paths.config_dir.join(SETTINGS_FILE), text).unwrap();
        self
    }

    fn env(self, text: &str) -> Home {
        fs::write(&self.paths.env_file, text).unwrap();
        fs::set_permissions(&self.paths.env_file, fs::Permissions::from_mode(0o600)).unwrap();
        self
    }

    fn load(&self) -> Result<Config, ConfigErrors> {
        self.load_with(&[], &Overrides::default())
    }

    fn load_with(&self, environment: &[(&str, &str)], overrides: &Overrides) -> Result<Config, ConfigErrors> {
        let variables: BTreeMap<&str, &str> = environment.iter().copied().collect();
        Config::load(&self.paths, |name| variables.get(name).map(|value| (*value).to_owned()), overrides)
    }
}

#[track_caller]
fn refuse(home: &Home, expected: &[&str]) {
    let errors = home.load().err().map(|errors| errors.to_string()).unwrap_or_default();
    let folder = home.paths.home.display().to_string();
    assert_eq!(errors.replace(&folder, "HOME").lines().collect::<Vec<_>>(), expected);
}

#[track_caller]
fn warn(home: &Home, expected: &[&str]) -> Config {
    let config = home.load().unwrap();
    assert_eq!(config.warnings.iter().map(ToString::to_string).collect::<Vec<_>>(), expected);
    config
}

/// The seed's file with one piece replaced.
#[track_caller]
fn seed(old: &str, new: &str) -> Home {
    assert!(SEED.contains(old), "{old}");
    home(&SEED.replacen(old, new, 1))
}

#[test]
fn the_seeds_own_file_loads_and_charges_as_written() {
    let config = warn(&home(SEED), &[]);
    let card = config.catalog.model("gpt-oss-20b").unwrap();
    assert_eq!(config.catalog.default_model, "gpt-oss-20b");
    assert_eq!((card.provider_model.as_str(), card.max_tokens, card.tools, card.vision), ("llama-3.1-8b-instant", 8192, true, false));
    let price = card.price.clone().unwrap();
    assert_eq!((price.input, price.output), (Pico::new(50_000_000), Pico::new(100_000_000)));
    let charge = Charge::of(&Usage::text(10, 3), &price).unwrap();
    assert_eq!(charge.total, Pico::from_micro(10 * 50 + 3 * 100).unwrap());
    let provider = config.catalog.provider_of(card).unwrap();
    assert_eq!(provider.target("/chat/completions"), "/openai/v1/chat/completions");
    assert_eq!(provider.base_url.host(), Some("api.groq.com"));
}

#[test]
fn every_key_of_version_1_is_read() {
    let config = warn(&home(ALL_KEYS), &[]);
    let names: Vec<&str> = config.catalog.models.iter().map(|card| card.name.as_str()).collect();
    assert_eq!((names.as_slice(), config.catalog.default_model.as_str()), (["big", "small"].as_slice(), "small"));
    let big = config.catalog.model("big").unwrap();
    let price = Price {
        audio_input: Some(Pico::new(10_000_000)),
        audio_output: Some(Pico::new(20_000_000)),
        cache_write: Some(Pico::new(187_500)),
        cached_input: Some(Pico::new(75_000)),
        call: Some(Pico::new(7_000_000)),
        ..Price::of(Pico::new(150_000), Pico::new(2_000_000))
    };
    assert_eq!(big.price, Some(price));
    assert_eq!((big.max_tokens_field, big.context_tokens), (MaxTokensField::MaxCompletionTokens, Some(100_000)));
    let provider = config.catalog.provider_of(big).unwrap();
    assert_eq!(
        (provider.kind, provider.auth, provider.key_variable.as_str()),
        (ProviderKind::OpenAiCompatible, Auth::Bearer, "MY_LLMEU_API_KEY")
    );
    assert_eq!(
        (provider.base_url.to_string().as_str(), provider.target("/models").as_str()),
        ("https://llm.example:8443/v1", "/v1/models")
    );
    assert_eq!(provider.timeouts.idle, Duration::from_secs(3));
    assert_eq!(provider.headers.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["x-team"]);
    let small = config.catalog.model("small").unwrap();
    assert_eq!(Charge::of(&Usage::text(10, 3), small.price.as_ref().unwrap()).unwrap().total, Pico::ZERO);
    let echo = config.catalog.provider_of(small).unwrap();
    assert_eq!((echo.kind, echo.needs_key()), (ProviderKind::Echo, false));
}

#[test]
fn the_default_files_load_without_a_warning_and_are_never_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let paths = Paths::resolve(|_| None, Some(folder.path())).unwrap();
    crate::os::paths::prepare(&paths).unwrap();
    assert_eq!(write_missing(&paths).unwrap().len(), 4);
    let home = Home { _folder: folder, paths };
    let config = warn(&home, &[]);
    let price = config.catalog.model("gpt-oss-20b").unwrap().price.clone().unwrap();
    assert_eq!((price.input, price.cached_input, price.output), (Pico::new(75_000), Some(Pico::new(37_500)), Pico::new(300_000)));
    assert_eq!(config.keys.get("groq"), None);
    fs::write(&home.paths.env_file, "GROQ_API_KEY=k").unwrap();
    assert_eq!(write_missing(&home.paths).unwrap(), Vec::<std::path::PathBuf>::new());
    assert!(home.load().unwrap().keys.get("groq").is_some());
}

#[test]
fn the_settings_that_init_writes_name_every_key_with_its_default() {
    let uncommented: String = AEXD_YAML
        .lines()
        .filter_map(|line| line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')))
        .fold(String::new(), |all, line| all + line + "\n");
    let absent = home(SEED).load().unwrap().settings;
    let written = home(SEED).settings(&uncommented).load().unwrap().settings;
    let values = |settings: &Settings| {
        let Settings { listen, port, allow_remote, allowed_hosts, max_body, max_connections, durability, wal_limit, .. } = settings.clone();
        let Settings { zone, drain_timeout, run_grace, on_disconnect, charge_on_gateway_error, log_level, .. } = settings.clone();
        let Settings { idempotency_answer, idempotency_memory, idempotency_keys, tokenizer, .. } = settings.clone();
        let Settings { head_timeout, body_idle, keep_alive, client_stall, .. } = settings.clone();
        let waits = [head_timeout.value, body_idle.value, keep_alive.value, client_stall.value];
        let first = (
            waits,
            listen.value,
            port.value,
            allow_remote.value,
            allowed_hosts.value,
            max_body.value,
            max_connections.value,
            durability.value,
            wal_limit.value,
        );
        let second =
            (zone.value, drain_timeout.value, run_grace.value, on_disconnect.value, charge_on_gateway_error.value, log_level.value);
        (first, second, (idempotency_answer.value, idempotency_memory.value, idempotency_keys.value, tokenizer.value))
    };
    assert_eq!(values(&absent), values(&written));
    assert!(matches!(written.workers.source, Source::File(_)) && matches!(written.admin_group.source, Source::File(_)));
    assert!(matches!(written.listen.source, Source::File(_)) && matches!(written.log_level.source, Source::File(_)));
}

#[test]
fn a_wrong_value_names_file_line_key_and_expectation() {
    refuse(&seed("8192", "many"), &["models.yaml:18: models.gpt-oss-20b.limits.max_tokens: expected a whole number ≥ 1, found \"many\""]);
    refuse(&seed("8192", "0"), &["models.yaml:18: models.gpt-oss-20b.limits.max_tokens: expected a whole number ≥ 1, found 0"]);
    refuse(
        &seed("      max_tokens: 8192\n", "      max_tokens:\n"),
        &["models.yaml:18: models.gpt-oss-20b.limits.max_tokens: expected a whole number ≥ 1, found nothing"],
    );
    refuse(&seed("version: 1", "version: 2"), &["models.yaml:1: version: expected 1, found 2"]);
    refuse(
        &seed("type: openai_compatible", "type: gemini"),
        &["models.yaml:6: providers.groq.type: expected openai_compatible or anthropic or echo, found \"gemini\""],
    );
    refuse(
        &seed("tools: true", "tools: yes"),
        &["models.yaml:21: models.gpt-oss-20b.capabilities.tools: expected true or false, found \"yes\""],
    );
    refuse(
        &seed("default_model: gpt-oss-20b", "default_model: gpt"),
        &["models.yaml:8: default_model: expected the name of a model listed below `models`, found \"gpt\""],
    );
    refuse(
        &seed("provider: groq", "provider: grok"),
        &["models.yaml:12: models.gpt-oss-20b.provider: expected the name of a provider listed below `providers`, found \"grok\""],
    );
    refuse(
        &seed("https://api.groq.com", "ftp://api.groq.com"),
        &["models.yaml:5: providers.groq.base_url: expected an http or https URL without user, query and fragment"],
    );
    refuse(
        &seed("https://", "https://me:secret@"),
        &["models.yaml:5: providers.groq.base_url: expected an http or https URL without user, query and fragment"],
    );
    refuse(
        &seed("type: openai_compatible", "ca_file: no.pem"),
        &[
            "models.yaml:6: providers.groq.ca_file: expected a readable file, found HOME/config/no.pem: No such file or directory (os error 2)",
        ],
    );
    refuse(
        &seed("type: openai_compatible", "ca_file: models.yaml"),
        &["models.yaml:6: providers.groq.ca_file: expected certificates in PEM in HOME/config/models.yaml, found none"],
    );
    refuse(
        &seed("type: openai_compatible", "headers: {Host: x, x-a: \"s\\n\"}"),
        &[
            "models.yaml:6: providers.groq.headers.Host: expected the name of a header that a request may set",
            "models.yaml:6: providers.groq.headers.x-a: expected a header's value of visible ASCII characters",
        ],
    );
}

#[test]
fn two_providers_never_share_the_variable_of_a_key() {
    let two = |first: &str, second: &str| {
        let provider = "base_url: https://llm.example/v1";
        seed("providers:\n", &format!("providers:\n  my-llm: {{{provider}{first}}}\n  my_llm: {{{provider}{second}}}\n"))
    };
    let text =
        "models.yaml:5: providers.my_llm: expected a name of its own for the key, found MY_LLM_API_KEY, as for providers.my-llm in line 4";
    refuse(&two("", ""), &[text]);
    assert!(two("", ", auth: none").load().is_ok());
}

#[test]
fn an_agents_token_is_no_providers_key() {
    let keys = |environment: &str, file: &str| {
        let config =
            home(SEED).env(&format!("GROQ_API_KEY={file}")).load_with(&[("GROQ_API_KEY", environment)], &Overrides::default()).unwrap();
        let warnings: Vec<String> = config.warnings.iter().map(ToString::to_string).collect();
        (config.keys.get("groq").map(|key| key.expose().to_owned()), config.keys.source("groq"), warnings)
    };
    let warning = |place: &str| format!("GROQ_API_KEY: {place} sets it to an agent's token, which counts as not set");
    let (environment, file) = (warning("the daemon's environment"), warning(".env"));
    assert_eq!(keys("aex_1", "gsk"), (Some("gsk".to_owned()), Some(Origin::DotEnv), vec![environment.clone()]));
    assert_eq!(keys("aex_1", " aex_2"), (None, None, vec![environment, file.clone()]));
    assert_eq!(keys("", "aex_2"), (None, None, vec![file]));
    assert_eq!(keys("gsk", "aex_2"), (Some("gsk".to_owned()), Some(Origin::Environment), vec![]));
}

#[test]
fn a_price_is_exact_or_refused() {
    let micro = "input_micro: 50 ";
    refuse(
        &seed(micro, "input_micro: 0.05 "),
        &[
            "models.yaml:15: models.gpt-oss-20b.pricing.input_micro: expected a whole number of µUSD ≥ 0 (input_per_mtok takes smaller prices), found 0.05",
        ],
    );
    let per_mtok = "models.yaml:15: models.gpt-oss-20b.pricing.input_per_mtok: expected USD per million tokens such as \"0.15\", with at most 6 decimals, found ";
    for (written, found) in [("0.0000001", "0.0000001"), ("1e-3", "1e-3"), ("-1", "-1"), ("\"1,5\"", "\"1,5\"")] {
        refuse(&seed(micro, &format!("input_per_mtok: {written} ")), &[&format!("{per_mtok}{found}")]);
    }
    refuse(
        &seed(micro, "input_micro: 50\n      input_per_mtok: 50 "),
        &["models.yaml:16: models.gpt-oss-20b.pricing.input_per_mtok: expected one price, found input_micro too"],
    );
    refuse(
        &seed(micro, "output_per_mtok: 1 "),
        &[
            "models.yaml:14: models.gpt-oss-20b.pricing: expected input_micro or input_per_mtok, found neither",
            "models.yaml:15: models.gpt-oss-20b.pricing.output_per_mtok: expected one price, found output_micro too",
        ],
    );
}

#[test]
fn keys_without_meaning_warn_inside_providers_and_models_and_are_refused_elsewhere() {
    warn(&seed("type: openai_compatible", "timeout: 3"), &["models.yaml:6: providers.groq.timeout: unknown key, ignored"]);
    warn(&seed("vision: false", "audio: false"), &["models.yaml:22: models.gpt-oss-20b.capabilities.audio: unknown key, ignored"]);
    warn(
        &seed("input_micro: 50 ", "input_micro: 50\n      cached: 3 "),
        &["models.yaml:16: models.gpt-oss-20b.pricing.cached: unknown key, ignored"],
    );
    let limited = warn(&seed("max_tokens: 8192", "max_tokens: 8192\n      max_tokens_per_minute: 100"), &[]);
    assert_eq!(limited.catalog.models[0].max_tokens_per_minute, Some(100));
    refuse(
        &seed("default_model", "defaultmodel"),
        &["models.yaml:8: defaultmodel: unknown key; known are version, providers, default_model, models"],
    );
}

#[test]
fn a_model_without_a_price_loads_unpriced_with_a_warning() {
    let home = seed("    pricing:\n      input_micro: 50    # micro-USD per token\n      output_micro: 100\n", "");
    let text =
        "models.yaml:11: models.gpt-oss-20b.pricing: missing, so every call of this model is denied; `pricing: free` if it costs nothing";
    let config = warn(&home, &[text]);
    assert_eq!(config.catalog.model("gpt-oss-20b").unwrap().price, None);
}

#[test]
fn all_errors_are_named_at_once_and_a_broken_file_never_starts_empty() {
    let broken = home("providers:\n  p:\n    auth: maybe\nmodels:\n  m:\n    provider: p\n").settings("port: x\nprot: 1\n");
    refuse(
        &broken,
        &[
            "aexd.yaml:1: port: expected a port, 0 to 65535, found \"x\"",
            "aexd.yaml:2: prot: unknown key; known are listen, port, allow_remote, allowed_hosts, max_body, max_connections, head_timeout_ms, \
         body_idle_ms, keep_alive_ms, client_stall_ms, durability, wal_limit, zone, workers, drain_timeout_ms, run_grace_ms, on_disconnect, charge_on_gateway_error, \
         idempotency_answer, idempotency_memory, idempotency_keys, tokenizer, log_level, admin_group",
            "models.yaml:2: providers.p.base_url: expected an http or https URL, found nothing",
            "models.yaml:3: providers.p.auth: expected bearer or x_api_key or none, found \"maybe\"",
            "models.yaml:5: models.m.provider_model: expected the provider's name of the model, found nothing",
            "models.yaml:5: models.m.limits: expected a mapping with max_tokens, found nothing",
            "models.yaml:5: models.m.capabilities: expected a mapping with reasoning, tools and vision, found nothing",
        ],
    );
    refuse(
        &home(""),
        &[
            "models.yaml:1: providers: expected at least one provider, found nothing",
            "models.yaml:1: models: expected at least one model, found nothing",
        ],
    );
    refuse(&home("- a\n"), &["models.yaml:1: expected a mapping, found a list"]);
    refuse(&home(&format!("{SEED}  gpt-oss-20b:\n    provider: groq\n")), &["models.yaml:23: duplicate key \"gpt-oss-20b\""]);
    let missing = home(SEED);
    fs::remove_file(missing.paths.config_dir.join(MODELS_FILE)).unwrap();
    refuse(&missing, &["models.yaml: HOME/config/models.yaml does not exist; `aexctl init` writes one"]);
    let folder = home(SEED);
    fs::create_dir(folder.paths.config_dir.join(SETTINGS_FILE)).unwrap();
    refuse(&folder, &["aexd.yaml: cannot read HOME/config/aexd.yaml: Is a directory (os error 21)"]);
    let latin = home(SEED);
    fs::write(latin.paths.config_dir.join(SETTINGS_FILE), b"zone: \xe9").unwrap();
    refuse(&latin, &["aexd.yaml: expected UTF-8 text"]);
}

#[test]
fn the_first_model_of_the_file_is_the_default_when_none_is_named() {
    let config = home(&ALL_KEYS.replace("default_model: small\n", "")).load().unwrap();
    assert_eq!(config.catalog.default_model, "big");
}

#[test]
fn settings_are_read_with_their_source() {
    let config = home(SEED).settings("port: 9100\nmax_body: 1MiB\ndurability: full\nzone: UTC\nlog_level: WARNING\n").load().unwrap();
    let settings = &config.settings;
    assert_eq!(settings.port, Sourced { value: 9100, source: Source::File(1) });
    assert_eq!(settings.max_body.value, 1 << 20);
    assert_eq!(settings.durability, Sourced { value: Durability::Full, source: Source::File(3) });
    assert_eq!(settings.log_level.value, tracing::Level::WARN);
    assert_eq!(settings.run_grace, Sourced { value: Duration::from_secs(10), source: Source::Default });
    refuse(
        &home(SEED).settings("max_body: 3MB\nzone: Mars/Base\nworkers: 0\nlisten: nowhere\nallowed_hosts: [http://x]\nallow_remote: 1\n"),
        &[
            "aexd.yaml:1: max_body: expected a size such as 33554432 or 32MiB, at least 1KiB, found \"3MB\"",
            "aexd.yaml:2: zone: expected a time zone of this machine such as UTC or Europe/Berlin, found \"Mars/Base\"",
            "aexd.yaml:3: workers: expected a whole number, 1 to 64, found 0",
            "aexd.yaml:4: listen: expected an IP address, found \"nowhere\"",
            "aexd.yaml:5: allowed_hosts: expected host names, without scheme, path and wildcard",
            "aexd.yaml:6: allow_remote: expected true or false, found 1",
        ],
    );
}

#[test]
fn flags_win_over_the_environment_that_over_the_file() {
    let home = home(SEED).settings("port: 9100\n").env("AEX_LOG_LEVEL=DEBUG\nAEX_PORT=9300\n");
    let port = |environment: &[(&str, &str)], flag| {
        home.load_with(environment, &Overrides { port: flag, ..Overrides::default() }).map(|config| config.settings.port)
    };
    assert_eq!(port(&[("AEX_PORT", "9200")], Some(1)), Ok(Sourced { value: 1, source: Source::Flag("--port") }));
    assert_eq!(port(&[("AEX_PORT", "9200")], None), Ok(Sourced { value: 9200, source: Source::Environment("AEX_PORT") }));
    assert_eq!(port(&[("AEX_PORT", "")], None), Ok(Sourced { value: 9300, source: Source::DotEnv("AEX_PORT") }));
    assert_eq!(home.load().unwrap().settings.log_level.value, tracing::Level::DEBUG);
    let error = port(&[("AEX_PORT", "70000")], None).unwrap_err();
    assert_eq!(error.to_string(), "AEX_PORT: expected a port, 0 to 65535, found \"70000\"");
}

#[test]
fn an_address_that_others_reach_needs_an_explicit_setting() {
    let text = "listen: 0.0.0.0 can be reached from other machines, which needs `allow_remote: true`";
    refuse(&home(SEED).settings("\nlisten: 0.0.0.0\n"), &[&format!("aexd.yaml:2: {text}")]);
    let flag = Overrides { listen: Some("0.0.0.0".parse().unwrap()), ..Overrides::default() };
    assert_eq!(home(SEED).load_with(&[], &flag).unwrap_err().to_string(), format!("flag --listen: {text}"));
    assert!(home(SEED).settings("allow_remote: true\nlisten: \"::\"\n").load().is_ok());
    assert!(home(SEED).settings("listen: localhost\n").load().is_ok());
}

#[test]
fn keys_come_from_the_environment_first_and_an_empty_one_is_not_set() {
    let home = home(SEED).env("GROQ_API_KEY=from-file\nOTHER=1\n");
    let key = |environment: &[(&str, &str)]| {
        let config = home.load_with(environment, &Overrides::default()).unwrap();
        config.keys.get("groq").map(|key| key.expose().to_owned())
    };
    assert_eq!(key(&[]), Some("from-file".to_owned()));
    assert_eq!(key(&[("GROQ_API_KEY", "from-env\n")]), Some("from-env".to_owned()));
    assert_eq!(key(&[("GROQ_API_KEY", "")]), Some("from-file".to_owned()));
    let error = home.load_with(&[("GROQ_API_KEY", "se\ncret")], &Overrides::default()).unwrap_err();
    assert_eq!(error.to_string(), "GROQ_API_KEY: expected a key of visible ASCII characters");
    assert!(!format!("{:?}", home.load().unwrap()).contains("from-file"));
}

#[test]
fn a_loose_env_file_is_tightened_with_a_warning_and_a_broken_one_is_refused() {
    let home = home(SEED).env("GROQ_API_KEY=k\n");
    fs::set_permissions(&home.paths.env_file, fs::Permissions::from_mode(0o644)).unwrap();
    let config = warn(&home, &[".env: others could read its keys; its mode is 600 now"]);
    assert!(config.keys.get("groq").is_some());
    assert_eq!(fs::metadata(&home.paths.env_file).unwrap().permissions().mode() & 0o777, 0o600);
    warn(&home, &[]);
    refuse(&home.env("GROQ_API_KEY=\"sk-secret\n"), &[".env:1: GROQ_API_KEY: expected a closing quote"]);
}

#[test]
fn the_digest_follows_the_files() {
    let first = home(SEED).load().unwrap().digest;
    assert_eq!(home(SEED).load().unwrap().digest, first);
    assert_ne!(seed("50", "51").load().unwrap().digest, first);
    assert_ne!(home(SEED).settings("port: 1\n").load().unwrap().digest, first);
}

mod permissions;
mod routes;
