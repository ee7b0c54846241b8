//! Service tiers: which one a call asks for, and by which one it is charged.

use super::{HostedCalls, ModelCard, Step};
use crate::ask::Ask;

/// Service tiers for which the standard prices hold at OpenAI and Groq; any other is priced differently.
pub const STANDARD_TIERS: [&str; 4] = ["auto", "default", "standard", "on_demand"];

/// Whether the standard prices hold for what a field about the tier, the speed or the region says. Anthropic: `standard_only` leaves
/// out the priority tier; `global` and `not_available` are no region that costs more.
#[must_use]
pub fn is_standard_tier(word: &str) -> bool {
    word.is_empty() || STANDARD_TIERS.contains(&word) || matches!(word, "standard_only" | "global" | "not_available")
}

/// One name for all that makes a call dearer or cheaper than its standard price: what the fields say that are not standard, in
/// the order of the arguments, joined by `+`: Anthropic's `service_tier`, `speed` and `inference_geo` may be `fast+us`. `None`: the
/// standard prices hold.
#[must_use]
pub fn tier<'a>(words: impl IntoIterator<Item = Option<&'a str>>) -> Option<String> {
    let named: Vec<&str> = words.into_iter().flatten().filter(|word| !is_standard_tier(word)).collect();
    if named.is_empty() { None } else { Some(named.join(JOINT.encode_utf8(&mut [0; 4]))) }
}

/// What joins the words of a tier's name.
const JOINT: char = '+';

/// A field of a report whose word chooses the price, in the order in which words are joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TierField {
    /// `service_tier`.
    Tier,
    /// `speed`.
    Speed,
    /// `inference_geo`.
    Region,
}

impl TierField {
    /// All of them.
    pub const ALL: [TierField; 3] = [TierField::Tier, TierField::Speed, TierField::Region];

    /// The field of a word that is not standard. Anthropic documents one speed and OpenAI, Groq and Anthropic these tiers; what is
    /// neither is a region.
    fn of(word: &str) -> TierField {
        match word {
            "fast" => TierField::Speed,
            "priority" | "flex" | "batch" | "scale" | "performance" => TierField::Tier,
            _ => TierField::Region,
        }
    }
}

/// The tier of a report that names `told` and leaves out the fields `silent`, if these are as they were asked for. `None`: nothing
/// of what was asked for is left out.
pub(super) fn with_silent(told: &str, silent: &[TierField], asked: &str) -> Option<String> {
    let told = || told.split(JOINT).filter(|word| !is_standard_tier(word));
    let untold: Vec<&str> = asked
        .split(JOINT)
        .filter(|word| !is_standard_tier(word) && silent.contains(&TierField::of(word)) && told().all(|known| known != *word))
        .collect();
    if untold.is_empty() {
        return None;
    }
    let mut words: Vec<&str> = told().chain(untold).collect();
    words.sort_by_key(|word| TierField::of(word));
    tier(words.into_iter().map(Some))
}

/// At OpenAI a project's settings decide the tier of a request that names none, or `auto`. Elsewhere the field may be refused.
#[must_use]
pub fn is_tier_by_project(host: &str) -> bool {
    const OPENAI: &str = "api.openai.com";
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    host == OPENAI || host.strip_suffix(OPENAI).is_some_and(|region| region.ends_with('.'))
}

/// What of an ask decides its charge, beside what was used: for reports that do not tell it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// The tier that was asked for, when it is not the standard one.
    pub tier: Option<String>,
    /// Input of one step of the model; `None`: as many as the bound has.
    pub step: Option<Step>,
    /// Output that may have been written unseen; `None`: as much as the bound has.
    pub hidden: Option<u64>,
    /// Tools that the provider may have run, and how often at most.
    pub tools: Vec<HostedCalls>,
}

impl Terms {
    /// Those of an ask that has a bound.
    #[must_use]
    pub fn of(ask: &Ask, card: &ModelCard) -> Terms {
        let sent = &*super::without_dropped(ask, card);
        let tools = card.price.as_ref().and_then(|price| super::hosted::calls(sent, price).ok()).unwrap_or_default();
        let hidden = if card.reasoning { ask.hidden_tokens } else { Some(0) };
        Terms { step: Some(Step::of(sent, card, !tools.is_empty())), tier: asked(ask).map(str::to_owned), hidden, tools }
    }
}

/// The tier that a call asks for, when it is not the standard one.
pub(super) fn asked(ask: &Ask) -> Option<&str> {
    ask.service_tier.as_deref().filter(|tier| !STANDARD_TIERS.contains(tier))
}
