//! What is wrong with models, prices and providers, before a call finds out. Spends nothing.

use super::daemon::counted;
use super::models::key_state;
use crate::config::{Config, Provider, ProviderKind};
use crate::gate::Active;
use crate::proxy;
use crate::tools::sandbox::{self, Level, Report};
use crate::wire::denial::UpstreamFault;
use aex_core::price::{ModelCard, Price};
use aex_core::tool::Effect;
use aex_proto::check::{Checked, Finding};
use aex_proto::model::KeyState;
use aex_proto::value::Pico;
use http::StatusCode;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::task::JoinSet;

/// Tokens that price lists count by.
const MILLION: u64 = 1_000_000;
/// No model that is sold by the token cost more in 2026; an 8B model costs a hundredth of it.
const DEAR_INPUT: Pico = Pico::new(20_000_000);
const DEAR_OUTPUT: Pico = Pico::new(100_000_000);
/// How often the dearest plausible price a price may hold, before it cannot be meant: 1,000 USD per million tokens of input.
const ABSURD: i64 = 50;
/// Below a thousandth of a USD per million tokens, a price for one token was written where one for a million is expected.
const CHEAP: Pico = Pico::new(1_000);

/// Models and providers, then what tools can be confined to, and what a person's word is worth.
pub async fn check(active: &Active) -> Checked {
    let mut checked = catalog(active).await;
    checked.findings.push(sandbox().await);
    checked.findings.extend(approvals(active));
    checked
}

/// How strictly tools can be confined here: by this process, for a unit may take from it what its user has.
async fn sandbox() -> Finding {
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let told = tokio::task::spawn_blocking(move || sandbox::survey(Path::new(sandbox::SELF), home.as_deref())).await;
    let fix = "see `Sandbox` in README.md";
    match told {
        Ok(Ok(report)) if report.active == Level::Strict => Finding::ok("sandbox", strict(&report)),
        Ok(Ok(report)) => {
            let gaps: Vec<&str> = report.gaps.iter().map(|gap| gap.why.as_str()).collect();
            Finding::warning("sandbox", format!("tools can be confined to `{}` at most: {}", report.active.name(), gaps.join("; ")), fix)
        }
        Ok(Err(failure)) => Finding::error("sandbox", failure.to_string(), fix),
        Err(fault) => Finding::error("sandbox", fault.to_string(), fix),
    }
}

/// What keeps a call from being approved by whoever made it; nothing where no rule asks.
fn approvals(active: &Active) -> Option<Finding> {
    let rules = &active.permissions.permissions.spec().rules;
    let asking = rules.iter().filter(|rule| rule.effect == Effect::Ask).count();
    (asking > 0).then(|| {
        let rules = counted(u64::try_from(asking).unwrap_or(u64::MAX), "rule");
        let told = "a process that the sandbox confines cannot answer; for any other process of this user within a run that is a fence, not a wall";
        Finding::ok("approvals", format!("{rules} of permissions.json ask a person: {told}"))
    })
}

fn strict(report: &Report) -> String {
    let gaps = report.gaps.iter().map(|gap| format!("; {}", gap.why)).collect::<String>();
    format!("tools can be confined to `strict` (Landlock {}){gaps}", report.landlock.abi)
}

/// Checks all models, then all providers, these at the same time.
async fn catalog(active: &Active) -> Checked {
    let catalog = &active.config.catalog;
    let mut findings: Vec<Finding> = catalog.models.iter().flat_map(model).collect();
    let mut asking = JoinSet::new();
    for (place, provider) in catalog.providers.values().enumerate() {
        let known = before_asking(&active.config, provider);
        let (provider, key) = (Arc::new(provider.clone()), active.config.keys.get(&provider.name).cloned());
        let generation = active.generation;
        asking.spawn(async move {
            match known {
                Some(finding) => (place, finding),
                None => (place, asked(&provider, proxy::probe(&provider, generation, key.as_ref()).await)),
            }
        });
    }
    let mut answers = asking.join_all().await;
    answers.sort_by_key(|(place, _)| *place);
    findings.extend(answers.into_iter().map(|(_, finding)| finding));
    Checked { findings }
}

/// What is wrong with a model; that nothing is.
fn model(card: &ModelCard) -> Vec<Finding> {
    let subject = format!("model {}", card.name);
    let mut findings = Vec::new();
    match &card.price {
        None => findings.push(Finding::error(
            &subject,
            "has no price: every call is denied",
            "give it `pricing` in models.yaml, `pricing: free` if it costs nothing",
        )),
        Some(price) => findings.extend(prices(&subject, price)),
    }
    if card.vision && card.context_tokens.is_none() {
        findings.push(Finding::warning(
            &subject,
            "takes images, but has no `limits.context_tokens`: what an image costs has no bound then, so calls with images are denied",
            "state context_tokens, or `vision: false`",
        ));
    }
    if card.context_tokens.is_some_and(|context| context < card.max_tokens) {
        findings.push(Finding::warning(
            &subject,
            format!("may answer with {} tokens, more than its context holds", card.max_tokens),
            "make limits.max_tokens smaller than limits.context_tokens",
        ));
    }
    if findings.is_empty() {
        findings.push(Finding::ok(subject, card.price.as_ref().map(per_million).unwrap_or_default()));
    }
    findings
}

fn per_million(price: &Price) -> String {
    if price.input == Pico::ZERO && price.output == Pico::ZERO {
        return "free".to_owned();
    }
    format!("{} in, {} out per million tokens", million(price.input), million(price.output))
}

fn million(unit: Pico) -> String {
    unit.times(MILLION).map_or_else(|| "more than can be told".to_owned(), |amount| amount.to_string())
}

fn prices(subject: &str, price: &Price) -> Vec<Finding> {
    let sides = [("input", price.input, DEAR_INPUT), ("output", price.output, DEAR_OUTPUT)];
    let mut findings: Vec<Finding> = sides.into_iter().filter_map(|(side, unit, dear)| implausible(subject, side, unit, dear)).collect();
    if (price.input == Pico::ZERO) != (price.output == Pico::ZERO) {
        let (free, paid) = if price.input == Pico::ZERO { ("input", "output") } else { ("output", "input") };
        findings.push(Finding::warning(subject, format!("{free} is free, {paid} is not"), "compare with the provider's price list"));
    }
    findings
}

/// A price that looks like a wrong unit.
fn implausible(subject: &str, side: &str, unit: Pico, dear: Pico) -> Option<Finding> {
    let shown = million(unit);
    let fix = "check the unit: *_micro is micro-USD per token (1 is 1 USD per million tokens), *_per_mtok is USD per million tokens";
    if unit > dear {
        let times = unit.get() / dear.get();
        let factor = if times > 1 { format!("{times} times") } else { "more than".to_owned() };
        let detail = format!("{side} costs {shown} per million tokens, {factor} the {} of the dearest models", million(dear));
        let absurd = dear.get().checked_mul(ABSURD).is_some_and(|absurd| unit.get() > absurd);
        return Some(if absurd { Finding::error(subject, detail, fix) } else { Finding::warning(subject, detail, fix) });
    }
    (unit > Pico::ZERO && unit < CHEAP)
        .then(|| Finding::warning(subject, format!("{side} costs {shown} per million tokens, next to nothing"), fix))
}

/// What is known of a provider without asking it.
fn before_asking(config: &Config, provider: &Provider) -> Option<Finding> {
    let subject = format!("provider {}", provider.name);
    if provider.kind == ProviderKind::Echo {
        return Some(Finding::ok(subject, "built in"));
    }
    if key_state(config, provider) != KeyState::Missing {
        return None;
    }
    let variable = &provider.key_variable;
    let detail = format!("{variable} is not set: calls of its models are denied");
    let fix = format!("put {variable}=… into .env, then `aexctl models reload`");
    // Whoever uses one of two providers lacks the other's key on purpose.
    let default = config.catalog.model(&config.catalog.default_model).is_some_and(|card| card.provider == provider.name);
    let any = config.catalog.providers.values().any(|other| key_state(config, other) != KeyState::Missing);
    Some(if any && !default { Finding::warning(subject, detail, fix) } else { Finding::error(subject, detail, fix) })
}

fn asked(provider: &Provider, answer: Result<StatusCode, UpstreamFault>) -> Finding {
    let subject = format!("provider {}", provider.name);
    let place = &provider.base_url;
    match answer {
        Ok(status) if status.is_success() && provider.needs_key() => Finding::ok(subject, format!("{place} answers and takes the key")),
        Ok(status) if status.is_success() => Finding::ok(subject, format!("{place} answers")),
        Ok(status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)) => Finding::error(
            subject,
            format!("{place} refuses the key ({})", status.as_u16()),
            format!("correct {} in .env or the environment, then `aexctl models reload`", provider.key_variable),
        ),
        Ok(status) => Finding::warning(
            subject,
            format!("{place} answers its list of models with {}: the key could not be checked", status.as_u16()),
            "compare base_url in models.yaml with the provider's documentation",
        ),
        Err(fault) => Finding::error(
            subject,
            format!("{place} {}", words(fault)),
            "check base_url in models.yaml, the network and HTTPS_PROXY; the daemon's log says more",
        ),
    }
}

const fn words(fault: UpstreamFault) -> &'static str {
    match fault {
        UpstreamFault::Tls => "has no trusted certificate",
        UpstreamFault::ConnectTimeout | UpstreamFault::FirstByteTimeout | UpstreamFault::IdleTimeout => "does not answer in time",
        UpstreamFault::BadAnswer | UpstreamFault::AnswerTooLarge => "answers, but not with HTTP",
        UpstreamFault::Unreachable | UpstreamFault::Cut | UpstreamFault::BoundPassed => "cannot be reached",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Overrides;
    use aex_core::paths::Paths;
    use aex_proto::check::Verdict;

    fn config(models: &str, keys: &str) -> Config {
        let folder = tempfile::tempdir().unwrap();
        let paths = Paths::resolve(|_| None, Some(folder.path())).unwrap();
        crate::os::paths::prepare(&paths).unwrap();
        std::fs::write(paths.config_dir.join("models.yaml"), models).unwrap();
        std::fs::write(&paths.env_file, keys).unwrap();
        Config::load(&paths, |_| None, &Overrides::default()).unwrap()
    }

    #[track_caller]
    fn check_price(input: &str, output: &str, wanted: Verdict, words: &[&str]) {
        let models = format!(
            "providers: {{echo: {{type: echo}}}}\nmodels:\n  m: {{provider: echo, provider_model: e, pricing: {{{input}, {output}}}, \
             limits: {{max_tokens: 8}}, capabilities: {{}}}}\n"
        );
        let findings = model(&config(&models, "").catalog.models[0]);
        assert_eq!(findings.iter().map(|finding| finding.verdict).max(), Some(wanted), "{findings:?}");
        let text = format!("{findings:?}");
        assert!(words.iter().all(|word| text.contains(word)), "{findings:?}");
    }

    #[test]
    fn a_price_in_the_wrong_unit_is_pointed_out() {
        // The earlier program's own file: 50 and 100 µUSD per token for a model of 8 billion parameters.
        let words = ["input costs $50.00 per million tokens, 2 times the $20.00", "check the unit: *_micro is micro-USD per token"];
        check_price("input_micro: 50", "output_micro: 100", Verdict::Warning, &words);
        check_price("input_micro: 20", "output_micro: 100", Verdict::Ok, &["$20.00 in, $100.00 out"]);
        check_price("input_micro: 1001", "output_micro: 1", Verdict::Error, &["50 times"]);
        check_price("input_micro: 1", "output_micro: 101", Verdict::Warning, &["output costs $101.00", "more than the $100.00"]);
        check_price("input_per_mtok: \"0.000015\"", "output_micro: 1", Verdict::Warning, &["next to nothing"]);
        check_price("input_micro: 0", "output_micro: 1", Verdict::Warning, &["input is free, output is not"]);
        check_price("input_micro: 0", "output_micro: 0", Verdict::Ok, &["free"]);
    }

    #[test]
    fn a_model_without_price_or_with_images_that_nothing_bounds_is_told() {
        let models = "
providers: {echo: {type: echo}}
models:
  unpriced: {provider: echo, provider_model: e, limits: {max_tokens: 8}, capabilities: {}}
  seeing: {provider: echo, provider_model: e, pricing: free, limits: {max_tokens: 8}, capabilities: {vision: true}}
  narrow: {provider: echo, provider_model: e, pricing: free, limits: {max_tokens: 8, context_tokens: 4}, capabilities: {}}
";
        let found: Vec<(Verdict, String)> =
            config(models, "").catalog.models.iter().flat_map(model).map(|finding| (finding.verdict, finding.detail)).collect();
        let rows =
            [(Verdict::Error, "no price"), (Verdict::Warning, "calls with images are denied"), (Verdict::Warning, "may answer with 8")];
        assert_eq!(found.len(), rows.len(), "{found:?}");
        for ((verdict, detail), (wanted, words)) in found.iter().zip(rows) {
            assert!(*verdict == wanted && detail.contains(words), "{found:?}");
        }
    }

    #[test]
    fn the_key_of_a_provider_that_is_not_used_may_be_missing() {
        let models = "
providers: {a: {base_url: http://localhost:1}, b: {base_url: http://localhost:1}}
models:
  m: {provider: a, provider_model: m, pricing: free, limits: {max_tokens: 8}, capabilities: {}}
";
        let verdicts = |keys: &str| {
            let config = config(models, keys);
            config.catalog.providers.values().map(|one| before_asking(&config, one).map(|found| found.verdict)).collect::<Vec<_>>()
        };
        assert_eq!(verdicts(""), [Some(Verdict::Error), Some(Verdict::Error)]);
        assert_eq!(verdicts("A_API_KEY=k\n"), [None, Some(Verdict::Warning)]);
        assert_eq!(verdicts("B_API_KEY=k\n"), [Some(Verdict::Error), None]);
    }
}
