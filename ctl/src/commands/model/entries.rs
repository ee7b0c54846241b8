//! models.yaml as text: what stands in it, where more is put in, and how an imported model is written there.
//!
//! Looks at lines alone and adds whole blocks; whether the result is right is for the daemon's own reader to say.

use super::decimal::{self, per_million};
use super::litellm::{Entry, RATES, Rates};
use std::fmt::Write as _;
use std::ops::Range;

/// A mapping at the top of the file, written as a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Block {
    /// Its keys.
    pub(super) names: Vec<String>,
    /// The white space before each of them.
    indent: String,
    /// Where another entry is put in.
    end: usize,
}

/// Finds a block by its name; `None` when there is none, or it is written in another form.
pub(super) fn block(text: &str, name: &str) -> Option<Block> {
    let mut found: Option<Block> = None;
    for (line, span) in lines(text) {
        let content = line.trim_start();
        let is_indented = content.len() < line.len();
        let is_filled = !content.is_empty() && !content.starts_with('#');
        match &mut found {
            None if !is_indented && opens(line, name) => found = Some(Block { names: Vec::new(), indent: String::new(), end: span.end }),
            Some(_) if is_filled && !is_indented => break,
            Some(block) if is_filled => {
                let indent = line.get(..line.len() - content.len()).unwrap_or_default();
                if block.names.is_empty() {
                    indent.clone_into(&mut block.indent);
                }
                if indent == block.indent {
                    block.names.push(key(content)?);
                }
                block.end = span.end;
            }
            _ => {}
        }
    }
    found.filter(|block| !block.names.is_empty())
}

/// Lines without their ends, and where they stand with them.
fn lines(text: &str) -> impl Iterator<Item = (&str, Range<usize>)> {
    text.split_inclusive('\n').scan(0, |at, line| {
        let start = *at;
        *at += line.len();
        Some((line.trim_end_matches(['\n', '\r']), start..*at))
    })
}

fn opens(line: &str, name: &str) -> bool {
    let behind = line.strip_prefix(name).and_then(|rest| rest.trim_start().strip_prefix(':'));
    behind.is_some_and(|rest| rest.trim_start().is_empty() || rest.trim_start().starts_with('#'))
}

/// The key at the start of an entry.
fn key(content: &str) -> Option<String> {
    if content.starts_with('"') {
        let mut texts = serde_json::Deserializer::from_str(content).into_iter::<String>();
        return texts.next()?.ok();
    }
    if let Some(rest) = content.strip_prefix('\'') {
        return rest.split_once('\'').map(|(name, _)| name.to_owned());
    }
    let plain = content.split_once(": ").map(|(name, _)| name).or_else(|| content.trim_end().strip_suffix(':'));
    plain.map(|name| name.trim_end().to_owned())
}

impl Block {
    /// The text with more entries, each of them lines without indentation.
    pub(super) fn with(&self, text: &str, entries: &[String]) -> String {
        let (before, behind) = text.split_at(self.end);
        let mut all = before.to_owned();
        if !all.ends_with('\n') {
            all.push('\n');
        }
        for line in entries.iter().flat_map(|entry| entry.lines()) {
            if !line.is_empty() {
                all.extend([&self.indent, line]);
            }
            all.push('\n');
        }
        all + behind
    }
}

/// A text as a key or a value: plain where nothing can take it for anything else.
fn scalar(text: &str) -> String {
    // Words that a reader of YAML may take for a truth, for nothing or for a number.
    const WORDS: [&str; 11] = ["true", "false", "yes", "no", "on", "off", "y", "n", "null", "nan", "inf"];
    let is_plain = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && !WORDS.contains(&text.to_ascii_lowercase().as_str())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '/' | '.' | '_'));
    if is_plain { text.to_owned() } else { serde_json::Value::from(text).to_string() }
}

/// A provider's entry.
pub(super) fn provider(name: &str, lines: &[&str]) -> String {
    let below: String = lines.iter().fold(String::new(), |all, line| all + "  " + line + "\n");
    format!("{name}:\n{below}")
}

/// A model's entry.
pub(super) fn model(name: &str, provider: &str, entry: &Entry) -> String {
    let mut text =
        format!("\n{}:\n  provider: {}\n  provider_model: {}\n  pricing:\n", scalar(name), scalar(provider), scalar(&entry.model));
    put_tier(&mut text, "    ", &of_tier(entry, None));
    if let Some(call) = entry.call {
        // The key takes whole µUSD alone; the import leaves out what is none.
        let _ = writeln!(text, "    call_micro: {}", call.pico.micro());
    }
    let mut tiers: Vec<&str> = entry.rates.keys().filter_map(|(tier, _)| tier.as_deref()).collect();
    tiers.dedup();
    let multiplied: Vec<(&String, &String)> = entry.multiplied.iter().filter(|(_, factor)| is_whole(entry, factor)).collect();
    if !tiers.is_empty() || !multiplied.is_empty() {
        text += "    tiers:\n";
    }
    for tier in tiers {
        let _ = writeln!(text, "      {tier}:");
        put_tier(&mut text, "        ", &of_tier(entry, Some(tier)));
    }
    for (tier, factor) in multiplied {
        let _ = writeln!(text, "      {tier}: {{multiply: \"{}\"}}", factor.trim_end_matches('0').trim_end_matches('.'));
    }
    if let Some(search) = entry.search {
        let _ = writeln!(text, "  hosted_tools:\n    web_search: {{per_call: \"{}\"}}", search.pico.usd());
    }
    let _ = writeln!(text, "  limits:\n    max_tokens: {}", entry.max_tokens);
    if entry.reasoning && matches!(entry.provider.as_str(), "openai") {
        text += "    max_tokens_field: max_completion_tokens\n";
    }
    if let Some(tokens) = entry.context_tokens {
        let _ = writeln!(text, "    context_tokens: {tokens}");
    }
    let Entry { reasoning, tools, vision, .. } = entry;
    let _ = writeln!(text, "  capabilities: {{reasoning: {reasoning}, tools: {tools}, vision: {vision}}}");
    text
}

/// The prices of a tier by the tokens above which they hold.
fn of_tier<'e>(entry: &'e Entry, tier: Option<&str>) -> Vec<(u64, &'e Rates)> {
    let own = entry.rates.iter().filter(|((of, _), _)| of.as_deref() == tier);
    own.map(|((_, above), rates)| (*above, rates)).collect()
}

/// Whether each standard price can be multiplied without rounding.
pub(super) fn is_whole(entry: &Entry, factor: &str) -> bool {
    let standard = entry.rates.iter().filter(|((tier, _), _)| tier.is_none());
    standard.flat_map(|(_, rates)| rates.values()).all(|price| decimal::times(price.pico, factor).is_some())
}

/// Prices, those of a long input below them.
fn put_tier(text: &mut String, indent: &str, levels: &[(u64, &Rates)]) {
    for (_, rates) in levels.iter().filter(|(above, _)| *above == 0) {
        put_rates(text, indent, rates);
    }
    let mut long = levels.iter().filter(|(above, _)| *above > 0).peekable();
    if long.peek().is_some() {
        let _ = writeln!(text, "{indent}long_context:");
    }
    for (above, rates) in long {
        let _ = writeln!(text, "{indent}  - above: {above}");
        put_rates(text, &format!("{indent}    "), rates);
    }
}

fn put_rates(text: &mut String, indent: &str, rates: &Rates) {
    for (key, price) in RATES.iter().filter_map(|key| Some((key, rates.get(key)?))) {
        let note = if price.exact { "" } else { "  # rounded up" };
        let _ = writeln!(text, "{indent}{key}_per_mtok: \"{}\"{note}", per_million(price.pico));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "version: 1\n\nproviders: # who\n  a:\n    base_url: x\n  'b c':   # one\n    auth: none\n\n# between\ndefault_model: m\nmodels:\n    \"m:1\":\n      x: 1\n    # a remark\n    n: {y: 2}\n";

    #[test]
    fn a_block_has_its_names_and_the_place_for_more() {
        let providers = block(FILE, "providers").unwrap();
        assert_eq!(providers.names, ["a", "b c"]);
        let models = block(FILE, "models").unwrap();
        assert_eq!(models.names, ["m:1", "n"]);
        let more = models.with(FILE, &["k:\n  z: 3\n".to_owned()]);
        assert_eq!(more, format!("{FILE}    k:\n      z: 3\n"));
        let more = providers.with(FILE, &["k:\n  z: 3\n".to_owned()]);
        assert_eq!(more, FILE.replace("    auth: none\n", "    auth: none\n  k:\n    z: 3\n"));
        // Without a line end at the end of the file.
        let cut = FILE.trim_end();
        assert_eq!(block(cut, "models").unwrap().with(cut, &["k: 1\n".to_owned()]), format!("{FILE}    k: 1\n"));
    }

    #[test]
    fn what_is_written_otherwise_is_no_block() {
        for text in ["", "models: {a: {}}\n", "models:\n", "models:\nx: 1\n", " models:\n  a:\n", "models:\n  ? a\n  : b\n"] {
            assert_eq!(block(text, "models"), None, "{text}");
        }
    }

    #[test]
    fn a_name_is_quoted_where_it_could_mean_something_else() {
        for (name, written) in [
            ("gpt-5.5", "gpt-5.5"),
            ("o1", "o1"),
            ("a/b_c", "a/b_c"),
            ("no", "\"no\""),
            ("1m", "\"1m\""),
            ("a:b", "\"a:b\""),
            ("a b", "\"a b\""),
        ] {
            assert_eq!(scalar(name), written);
        }
    }
}
