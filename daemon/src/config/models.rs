//! models.yaml, version 1: providers, models and prices.
//!
//! Decides which shapes are accepted. A key without meaning inside a provider or a model is a warning, because the earlier
//! program ignored it and a key left over must not stop a start; elsewhere it is an error.

use super::pricing::{self, Pricing};
use super::provider::{self, Provider};
use super::report::{Field, Report, Section, Unknown, number};
use super::route::{self, Route};
use aex_core::price::{MaxTokensField, ModelCard, Overhead};
use aex_core::vocabulary::Vocabulary;
use std::collections::BTreeMap;
use std::path::Path;

/// All that can be called.
#[derive(Clone, Debug)]
pub struct Catalog {
    /// By name.
    pub providers: BTreeMap<String, Provider>,
    /// In the order of the file.
    pub models: Vec<ModelCard>,
    /// The name that a request without `model` gets.
    pub default_model: String,
    /// What may be tried for a model's calls, by its name.
    pub routes: BTreeMap<String, Route>,
    by_name: BTreeMap<String, usize>,
}

impl Catalog {
    /// A model by the name that clients use.
    #[must_use]
    pub fn model(&self, name: &str) -> Option<&ModelCard> {
        self.by_name.get(name).and_then(|at| self.models.get(*at))
    }

    /// The provider of a model.
    #[must_use]
    pub fn provider_of(&self, card: &ModelCard) -> Option<&Provider> {
        self.providers.get(&card.provider)
    }
}

/// Reads the file. `None` when the report holds an error.
pub(super) fn read(source: &str, config_dir: &Path, report: &mut Report) -> Option<Catalog> {
    let document = report.parse(source)?;
    let mut top = Section::document(&document, report)?;
    if let Some(version) = top.get("version")
        && number(version.node) != Some("1")
    {
        report.expected(&version, "1");
    }
    let providers = read_providers(&mut top, config_dir, report);
    let default = top.get("default_model").and_then(|field| Some((report.text(&field)?, field)));
    let mut written = BTreeMap::new();
    let models = read_models(&mut top, &providers, &mut written, report);
    top.finish(Unknown::Refuse, report);

    let by_name: BTreeMap<String, usize> = models.iter().enumerate().map(|(at, (name, _))| (name.clone(), at)).collect();
    if let Some((name, field)) = &default
        && !models.is_empty()
        && !by_name.contains_key(name)
    {
        report.expected(field, "the name of a model listed below `models`");
    }
    let default_model = default.map(|(name, _)| name).or_else(|| models.first().map(|(name, _)| name.clone()))?;
    let provider_of = |name: &str| models.get(*by_name.get(name)?)?.1.as_ref().and_then(|card| providers.get(&card.provider)?.as_ref());
    let routes = route::routes(written, |model| provider_of(model)?.retries, report);
    if !report.errors.is_empty() {
        return None;
    }
    let providers = providers.into_iter().map(|(name, provider)| Some((name, provider?))).collect::<Option<_>>()?;
    let models = models.into_iter().map(|(_, card)| card).collect::<Option<_>>()?;
    Some(Catalog { providers, models, default_model, routes, by_name })
}

/// Providers that are listed; `None` for one with errors, so that its models don't add errors of their own.
type Providers = BTreeMap<String, Option<Provider>>;

fn read_providers(top: &mut Section<'_>, config_dir: &Path, report: &mut Report) -> Providers {
    let Some(section) = required_section(top, "providers", "at least one provider", report) else { return BTreeMap::new() };
    let mut owners = BTreeMap::new();
    let mut providers = BTreeMap::new();
    for (name, field) in section.named() {
        let provider = provider::read(name, &field, config_dir, report);
        if let Some(provider) = provider.as_ref().filter(|provider| provider.needs_key()) {
            own_variable(&provider.key_variable, &field, &mut owners, report);
        }
        providers.insert(name.to_owned(), provider);
    }
    providers
}

/// Refuses a second provider with the same variable: it would be sent the first one's key.
fn own_variable(variable: &str, field: &Field<'_>, owners: &mut BTreeMap<String, (String, u64)>, report: &mut Report) {
    match owners.get(variable) {
        Some((other, line)) => {
            let text = format!("{}: expected a name of its own for the key, found {variable}, as for {other} in line {line}", field.key);
            report.refuse(field.line, text);
        }
        None => drop(owners.insert(variable.to_owned(), (field.key.clone(), field.line))),
    }
}

fn read_models(
    top: &mut Section<'_>,
    providers: &Providers,
    routes: &mut BTreeMap<String, route::Written>,
    report: &mut Report,
) -> Vec<(String, Option<ModelCard>)> {
    let Some(section) = required_section(top, "models", "at least one model", report) else { return Vec::new() };
    section.named().map(|(name, field)| (name.to_owned(), read_model(name, &field, providers, routes, report))).collect()
}

fn required_section<'a>(top: &mut Section<'a>, name: &'static str, what: &str, report: &mut Report) -> Option<Section<'a>> {
    let field = top.require(name, what, report)?;
    let section = report.section(&field)?;
    if section.named().next().is_none() {
        report.refuse(field.line, format!("{name}: expected {what}, found nothing"));
    }
    Some(section)
}

fn read_model(
    name: &str,
    field: &Field<'_>,
    providers: &Providers,
    routes: &mut BTreeMap<String, route::Written>,
    report: &mut Report,
) -> Option<ModelCard> {
    let mut section = report.section(field)?;
    if name.trim().is_empty() || name.chars().any(char::is_control) {
        report.refuse(field.line, "models: expected a name of visible characters".to_owned());
    }
    let provider = section.require("provider", "the name of a provider", report).and_then(|field| {
        let name = report.text(&field)?;
        if !providers.contains_key(&name) {
            report.expected(&field, "the name of a provider listed below `providers`");
        }
        Some(name)
    });
    let provider_model =
        section.require("provider_model", "the provider's name of the model", report).and_then(|field| report.text(&field));
    let Pricing { price, drop_tools } = pricing::read(&mut section, report);
    let tokenizer = read_tokenizer(&mut section, provider_model.as_deref(), report);
    let limits = read_limits(&mut section, report);
    let capabilities = read_capabilities(&mut section, report);
    routes.insert(name.to_owned(), route::read(&mut section, report));
    section.finish(Unknown::Warn, report);
    let (limits, capabilities, provider_model) = (limits?, capabilities?, provider_model?);
    Some(ModelCard {
        context_tokens: limits.context_tokens,
        drop_tools,
        max_tokens: limits.max_tokens?,
        max_tokens_field: limits.max_tokens_field,
        max_tokens_per_minute: limits.max_tokens_per_minute,
        overhead: Overhead::of_model(&provider_model),
        name: name.to_owned(),
        price,
        provider: provider?,
        provider_model,
        reasoning: capabilities.reasoning,
        tokenizer,
        tools: capabilities.tools,
        vision: capabilities.vision,
    })
}

/// What is written, or else what the name of the model surely has.
fn read_tokenizer(model: &mut Section<'_>, provider_model: Option<&str>, report: &mut Report) -> Option<Vocabulary> {
    let words = [Vocabulary::Cl100k, Vocabulary::O200k].map(|vocabulary| (vocabulary.name(), Some(vocabulary)));
    let words = [words.as_slice(), &[("off", None)]].concat();
    match model.get("tokenizer") {
        Some(field) => report.word(&field, &words).flatten(),
        None => provider_model.and_then(Vocabulary::of_model),
    }
}

struct Limits {
    max_tokens: Option<u64>,
    max_tokens_field: MaxTokensField,
    max_tokens_per_minute: Option<u32>,
    context_tokens: Option<u64>,
}

fn read_limits(model: &mut Section<'_>, report: &mut Report) -> Option<Limits> {
    let field = model.require("limits", "a mapping with max_tokens", report)?;
    let mut section = report.section(&field)?;
    let max_tokens = section.require("max_tokens", "a whole number ≥ 1", report).and_then(|field| report.whole(&field, 1));
    let words = [MaxTokensField::MaxTokens, MaxTokensField::MaxCompletionTokens].map(|field| (field.name(), field));
    let max_tokens_field =
        section.get("max_tokens_field").and_then(|field| report.word(&field, &words)).unwrap_or(MaxTokensField::MaxTokens);
    let context_tokens = section.get("context_tokens").and_then(|field| report.whole(&field, 1));
    let max_tokens_per_minute = section.get("max_tokens_per_minute").and_then(|field| {
        let tokens = report.whole(&field, 0)?;
        // More than u32 holds limits nothing that a provider serves in a minute.
        Some(u32::try_from(tokens).unwrap_or(u32::MAX))
    });
    section.finish(Unknown::Warn, report);
    Some(Limits { max_tokens, max_tokens_field, max_tokens_per_minute, context_tokens })
}

struct Capabilities {
    reasoning: bool,
    tools: bool,
    vision: bool,
}

fn read_capabilities(model: &mut Section<'_>, report: &mut Report) -> Option<Capabilities> {
    let field = model.require("capabilities", "a mapping with reasoning, tools and vision", report)?;
    let mut section = report.section(&field)?;
    let mut flag = |name| section.get(name).and_then(|field| report.flag(&field)).unwrap_or(false);
    let capabilities = Capabilities { reasoning: flag("reasoning"), tools: flag("tools"), vision: flag("vision") };
    section.finish(Unknown::Warn, report);
    Some(capabilities)
}
