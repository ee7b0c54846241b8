//! Vocabularies: how a model cuts a text into tokens. Which model has which is decided here; counting is the daemon's.

use serde::{Deserialize, Serialize};

/// A vocabulary that is public. Anthropic publishes none: bytes bound its models' input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Vocabulary {
    /// `cl100k_base`: GPT-4, GPT-3.5, embeddings.
    Cl100k,
    /// `o200k_base`: GPT-4o and later, the o series. `o200k_harmony` of gpt-oss differs from it in special tokens alone.
    O200k,
}

/// Families of models, by how their names begin, and which characters may follow: from `tiktoken/model.py` 0.14.
const FAMILIES: [(&str, &str, Vocabulary); 15] = [
    ("chatgpt-4o", "-", Vocabulary::O200k),
    ("gpt-3.5-turbo", "-", Vocabulary::Cl100k),
    // Not any word: `gpt-4-x-alpaca` is a llama.
    ("gpt-4", "", Vocabulary::Cl100k),
    ("gpt-4-0", "0123456789", Vocabulary::Cl100k),
    ("gpt-4-1", "0123456789", Vocabulary::Cl100k),
    ("gpt-4-turbo", "-", Vocabulary::Cl100k),
    ("gpt-4.1", "-", Vocabulary::O200k),
    ("gpt-4o", "-", Vocabulary::O200k),
    ("gpt-5", "-.", Vocabulary::O200k),
    ("gpt-oss", "-:", Vocabulary::O200k),
    ("o1", "-", Vocabulary::O200k),
    ("o3", "-", Vocabulary::O200k),
    ("o4-mini", "-", Vocabulary::O200k),
    ("text-embedding-3", "-", Vocabulary::Cl100k),
    ("text-embedding-ada-002", "", Vocabulary::Cl100k),
];

impl Vocabulary {
    /// Its name in models.yaml.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Vocabulary::Cl100k => "cl100k",
            Vocabulary::O200k => "o200k",
        }
    }

    /// The vocabulary of a model by its provider's name of it, with or without a maker's prefix as OpenRouter and Groq have it.
    /// `None`: it is not known for certain.
    #[must_use]
    pub fn of_model(provider_model: &str) -> Option<Vocabulary> {
        let name = provider_model.to_ascii_lowercase();
        let name = name.strip_prefix("openai/").or_else(|| name.strip_prefix("ft:")).unwrap_or(&name);
        let fits = |family: &str, next: &str| {
            let rest = name.strip_prefix(family)?;
            // A fine-tuned model goes on with its owner.
            Some(rest.chars().next().is_none_or(|letter| next.contains(letter) || (provider_model.starts_with("ft:") && letter == ':')))
        };
        FAMILIES.iter().find(|(family, next, _)| fits(family, next) == Some(true)).map(|(_, _, vocabulary)| *vocabulary)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_has_a_vocabulary_by_default_only_when_its_name_is_certain() {
        let check = |expected: Option<Vocabulary>, names: &[&str]| {
            for name in names {
                assert_eq!(Vocabulary::of_model(name), expected, "{name}");
            }
        };
        let o200k =
            ["gpt-4o", "gpt-4o-mini-2024-07-18", "gpt-4.1-nano", "gpt-5", "gpt-5.1-codex", "gpt-5-mini", "o1", "o3-mini", "o4-mini"];
        check(Some(Vocabulary::O200k), &o200k);
        check(
            Some(Vocabulary::O200k),
            &["openai/gpt-oss-120b", "gpt-oss:20b", "chatgpt-4o-latest", "openai/gpt-4o", "ft:gpt-4o:us::x", "GPT-4o"],
        );
        let cl100k = ["gpt-4", "gpt-4-0613", "gpt-4-1106-preview", "gpt-4-turbo", "gpt-3.5-turbo-0125", "text-embedding-3-small"];
        check(Some(Vocabulary::Cl100k), &cl100k);
        check(Some(Vocabulary::Cl100k), &["text-embedding-ada-002", "ft:gpt-3.5-turbo:us::x"]);
        let others =
            ["claude-opus-4-7", "gpt-4-x-alpaca", "gpt-40", "gpt-4all", "o1x", "o4", "llama-3.3-70b", "anthropic/gpt-4o", "gpt-6", ""];
        check(None, &others);
    }
}
