//! Fields of a chat request that cost beyond the model's prices. They are told as hosted tools: denied, for they have no price.

use crate::wire::json::{Fault, Kind, Scanner};

/// What a costly field asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Costly<'a> {
    /// A tool that the provider runs. A list may take it out of the request.
    Tool(&'a str),
    /// No tool: without it the request would be another one.
    Field,
}

/// What a field asks the provider to choose or to run by itself, at a price that is not known here.
pub(super) fn costly(name: &str) -> Option<Costly<'_>> {
    Some(match name {
        "web_search_options" => Costly::Tool("web_search"),
        // OpenRouter and LiteLLM: other models, other sellers of a model.
        "models" | "route" | "provider" | "preset" | "fallbacks"
        // Groq's compound systems, with models of their own. xAI answers later, to a request that nobody meters.
        | "compound_custom" | "deferred" => Costly::Field,
        // OpenRouter's paid plugins, DashScope's search, Azure's data.
        "plugins" | "enable_search" | "data_sources" => Costly::Tool(name),
        // Live search of xAI, DashScope, Perplexity and Groq.
        _ if name.starts_with("search_") => Costly::Tool(name),
        _ => return None,
    })
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
