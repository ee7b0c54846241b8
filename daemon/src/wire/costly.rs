//! Fields of a chat request that cost beyond the model's prices. They are told as hosted tools: denied, for they have no price.

use crate::wire::json::{Fault, Kind, Scanner};

/// What a field asks the provider to choose or to run by itself, at a price that is not known here.
pub(super) fn costly(name: &str) -> Option<&str> {
    match name {
        "web_search_options" => Some("web_search"),
        // OpenRouter and LiteLLM: other models, other sellers of a model, paid plugins.
        "models" | "route" | "plugins" | "provider" | "preset" | "fallbacks"
        // DashScope, Groq's compound systems, Azure: tools and data of the provider.
        | "enable_search" | "compound_custom" | "data_sources"
        // xAI answers later, to a request that nobody meters.
        | "deferred" => Some(name),
        // Live search of xAI, DashScope, Perplexity and Groq.
        _ => name.starts_with("search_").then_some(name),
    }
}

/// Skips the value of a costly field and tells whether it asks for anything. At OpenAI and xAI an empty object already does.
pub(super) fn asked_for(scanner: &mut Scanner<'_>, name: &str) -> Result<bool, Fault> {
    let mut any = false;
    match scanner.kind()? {
        Kind::Text => return Ok(!scanner.text()?.raw.is_empty()),
        Kind::List => {
            let mut list = scanner.list()?;
            while scanner.item(&mut list)? {
                any = true;
                scanner.pass()?;
            }
            return Ok(any);
        }
        Kind::Object => {
            let mut open = scanner.object()?;
            while scanner.key(&mut open)?.is_some() {
                any = true;
                scanner.pass()?;
            }
            return Ok(any || matches!(name, "web_search_options" | "search_parameters"));
        }
        Kind::Null | Kind::False => {}
        Kind::True | Kind::Number => any = true,
    }
    scanner.skip()?;
    Ok(any)
}
