//! What stands inside a chat request: messages and their parts, tools, a predicted output, modalities.
//!
//! Counts for the decision; keeps names of tools and nothing of the texts.

use super::costly::asked_for;
use super::hosted::HostedPlaces;
use super::json::{Fault, Kind, Number, Scanner};
use super::request::{Malformed, count, keep, shortened, stated};
use super::text::Text;
use aex_core::ask::{Ask, NAMES_KEPT};

/// What the messages of a request hold.
#[derive(Debug, Default)]
pub(super) struct Contents {
    pub(super) messages: u64,
    /// Characters of all contents.
    pub(super) chars: u64,
    pub(super) images: u64,
    pub(super) audio: u64,
    pub(super) attachments: u64,
    /// How long parts of it shall be kept in a cache; each once.
    pub(super) lifetimes: Vec<String>,
}

impl Contents {
    fn keep_in_cache(&mut self, scanner: &mut Scanner<'_>) -> Result<(), Fault> {
        if let Some(lifetime) = cache_control(scanner)?
            && !self.lifetimes.contains(&lifetime)
            && self.lifetimes.len() < NAMES_KEPT
        {
            self.lifetimes.push(lifetime);
        }
        Ok(())
    }
}

/// Reads `messages`: a list of objects.
pub(super) fn messages(scanner: &mut Scanner<'_>) -> Result<Contents, Malformed> {
    let mut contents = Contents::default();
    if scanner.kind()? != Kind::List {
        return Err(Malformed::field("messages", "must be a list"));
    }
    let mut list = scanner.list()?;
    while scanner.item(&mut list)? {
        if scanner.kind()? != Kind::Object {
            return Err(at_message(&contents, "", "must be an object"));
        }
        message(scanner, &mut contents)?;
        contents.messages += 1;
    }
    Ok(contents)
}

fn message(scanner: &mut Scanner<'_>, contents: &mut Contents) -> Result<(), Malformed> {
    let mut seen = false;
    let mut open = scanner.object()?;
    while let Some(key) = scanner.key(&mut open)? {
        if key.is("content") {
            if seen {
                return Err(at_message(contents, ".content", "stands twice"));
            }
            seen = true;
            content(scanner, contents)?;
        } else if key.is("audio") {
            // An earlier answer, named by its id: how long it is does not show.
            contents.audio += u64::from(stated(scanner)?);
        } else if key.is("images") {
            // As ollama's own API has them: how many, and how large, nobody counts here.
            contents.attachments += u64::from(asked_for(scanner, "images")?);
        } else if key.is("cache_control") {
            contents.keep_in_cache(scanner)?;
        } else {
            scanner.skip()?;
        }
    }
    Ok(())
}

fn content(scanner: &mut Scanner<'_>, contents: &mut Contents) -> Result<(), Malformed> {
    match scanner.kind()? {
        Kind::Text => contents.chars += count(scanner.text()?.chars()),
        Kind::Null => {
            scanner.skip()?;
        }
        Kind::List => {
            let mut list = scanner.list()?;
            while scanner.item(&mut list)? {
                if scanner.kind()? != Kind::Object {
                    return Err(at_message(contents, ".content", "must hold objects"));
                }
                part(scanner, contents)?;
            }
        }
        _ => return Err(at_message(contents, ".content", "must be a string, a list of parts or null")),
    }
    Ok(())
}

fn part(scanner: &mut Scanner<'_>, contents: &mut Contents) -> Result<(), Malformed> {
    let mut kind: Option<Text<'_>> = None;
    let mut texts = 0_u32;
    let (mut image, mut audio) = (false, false);
    let mut open = scanner.object()?;
    while let Some(key) = scanner.key(&mut open)? {
        if key.is("type") {
            if kind.is_some() {
                return Err(at_message(contents, ".content[].type", "stands twice"));
            }
            kind = Some(string(scanner, contents, ".content[].type")?);
        } else if key.is("text") || key.is("refusal") {
            texts += 1;
            if texts > 1 {
                return Err(at_message(contents, ".content[].text", "stands twice"));
            }
            contents.chars += count(string(scanner, contents, ".content[].text")?.chars());
        } else if key.is("cache_control") {
            contents.keep_in_cache(scanner)?;
        } else {
            // A part without the right type may still be taken as the image or the sound that it carries.
            image |= key.is("image_url");
            audio |= key.is("input_audio") || key.is("audio_url");
            scanner.skip()?;
        }
    }
    let kind = kind.map(|kind| kind.unescape());
    let kind = kind.as_deref();
    // Some servers take the types of other dialects here too.
    image |= matches!(kind, Some("image_url" | "input_image" | "image" | "image_file"));
    audio |= matches!(kind, Some("input_audio" | "audio_url" | "audio"));
    let text = matches!(kind, Some("text" | "refusal"));
    contents.images += u64::from(image);
    contents.audio += u64::from(audio);
    contents.attachments += u64::from(!(image || audio || text));
    Ok(())
}

fn at_message(contents: &Contents, member: &str, what: &str) -> Malformed {
    Malformed::field(format!("messages[{}]{member}", contents.messages), what)
}

fn string<'a>(scanner: &mut Scanner<'a>, contents: &Contents, member: &str) -> Result<Text<'a>, Malformed> {
    if scanner.kind()? != Kind::Text {
        return Err(at_message(contents, member, "must be a string"));
    }
    Ok(scanner.text()?)
}

/// Reads `tools`: functions and custom tools by their names, all others as tools that the provider runs.
pub(super) fn tools(scanner: &mut Scanner<'_>, ask: &mut Ask, places: &mut HostedPlaces) -> Result<(), Malformed> {
    each(scanner, "tools", |scanner, place| {
        let start = scanner.at();
        let mut uses = None;
        let mut kind = None;
        let mut function = None;
        let mut custom = None;
        let mut open = scanner.object()?;
        while let Some(key) = scanner.key(&mut open)? {
            let held = if key.is("type") {
                (&mut kind, "type", false)
            } else if key.is("function") {
                (&mut function, "function", true)
            } else if key.is("custom") {
                (&mut custom, "custom", true)
            } else if key.is("max_uses") {
                if uses.is_some() {
                    return Err(Malformed::field(format!("{place}.max_uses"), "stands twice"));
                }
                uses = Some(match scanner.kind()? {
                    Kind::Number => scanner.number()?,
                    _ => scanner.skip().map(|_| Number::Other)?,
                });
                continue;
            } else if key.is("cache_control") {
                cache_control(scanner)?.iter().for_each(|lifetime| ask.write_cache(lifetime));
                continue;
            } else {
                scanner.skip()?;
                continue;
            };
            let (slot, member, inside) = held;
            if slot.is_some() {
                return Err(Malformed::field(format!("{place}.{member}"), "stands twice"));
            }
            let member = format!("{place}.{member}");
            *slot = Some(if inside { name_in(scanner, &member)?.unwrap_or_default() } else { text(scanner, &member)? });
        }
        let name = match kind.as_deref() {
            Some("function") => function,
            Some("custom") => custom,
            Some(hosted) => {
                let uses = uses.and_then(|uses| if let Number::Natural(uses) = uses { Some(uses) } else { None });
                ask.offer_hosted(hosted.to_owned(), uses);
                places.element(Some(hosted), None, start..scanner.at());
                return Ok(());
            }
            None => return Err(Malformed::field(format!("{place}.type"), "is missing")),
        };
        offer(ask, name.as_deref());
        places.element(None, None, start..scanner.at());
        Ok(())
    })
}

/// Reads the legacy `functions`.
pub(super) fn functions(scanner: &mut Scanner<'_>, ask: &mut Ask) -> Result<(), Malformed> {
    each(scanner, "functions", |scanner, place| {
        let name = name_in(scanner, place)?;
        offer(ask, name.as_deref());
        Ok(())
    })
}

/// Reads a `cache_control`, which gateways before Anthropic's models take in chat, too: how long the input shall be kept. `None`: it is
/// not to be. Without a `ttl` it is 5 minutes.
pub(super) fn cache_control(scanner: &mut Scanner<'_>) -> Result<Option<String>, Fault> {
    if scanner.kind()? != Kind::Object {
        scanner.skip()?;
        return Ok(None);
    }
    let mut lifetime = None;
    let mut open = scanner.object()?;
    while let Some(key) = scanner.key(&mut open)? {
        if key.is("ttl") && scanner.kind()? == Kind::Text {
            lifetime = Some(shortened(&scanner.text()?.unescape()));
        } else {
            scanner.skip()?;
        }
    }
    Ok(Some(lifetime.unwrap_or_else(|| "5m".to_owned())))
}

/// A tool without a name is counted and not named: a list of allowed names refuses it then.
pub(super) fn offer(ask: &mut Ask, name: Option<&str>) {
    ask.tools += 1;
    if let Some(name) = name.filter(|name| !name.is_empty()) {
        keep(&mut ask.tool_names, name);
    }
}

/// Calls `read` at each object of a list; null counts as an empty one.
pub(super) fn each<'a>(
    scanner: &mut Scanner<'a>,
    field: &str,
    mut read: impl FnMut(&mut Scanner<'a>, &str) -> Result<(), Malformed>,
) -> Result<(), Malformed> {
    match scanner.kind()? {
        Kind::Null => {
            scanner.skip()?;
            return Ok(());
        }
        Kind::List => {}
        _ => return Err(Malformed::field(field, "must be a list")),
    }
    let mut list = scanner.list()?;
    let mut at = 0_u32;
    while scanner.item(&mut list)? {
        let place = format!("{field}[{at}]");
        if scanner.kind()? != Kind::Object {
            return Err(Malformed::field(place, "must be an object"));
        }
        read(scanner, &place)?;
        at = at.saturating_add(1);
    }
    Ok(())
}

/// The `name` in an object.
fn name_in(scanner: &mut Scanner<'_>, place: &str) -> Result<Option<String>, Malformed> {
    name_in_member(scanner, place, "name")
}

/// A text in an object, by the name of its member.
pub(super) fn name_in_member(scanner: &mut Scanner<'_>, place: &str, wanted: &str) -> Result<Option<String>, Malformed> {
    if scanner.kind()? != Kind::Object {
        return Err(Malformed::field(place, "must be an object"));
    }
    let mut name = None;
    let mut open = scanner.object()?;
    while let Some(key) = scanner.key(&mut open)? {
        if !key.is(wanted) {
            scanner.skip()?;
            continue;
        }
        let member = format!("{place}.{wanted}");
        if name.is_some() {
            return Err(Malformed::field(member, "stands twice"));
        }
        name = Some(text(scanner, &member)?);
    }
    Ok(name)
}

fn text(scanner: &mut Scanner<'_>, place: &str) -> Result<String, Malformed> {
    if scanner.kind()? != Kind::Text {
        return Err(Malformed::field(place, "must be a string"));
    }
    Ok(shortened(&scanner.text()?.unescape()))
}

/// Bytes of the content that `prediction` foretells: billed as output where the model says otherwise.
pub(super) fn prediction(scanner: &mut Scanner<'_>) -> Result<u64, Malformed> {
    match scanner.kind()? {
        Kind::Null => {
            scanner.skip()?;
            return Ok(0);
        }
        Kind::Object => {}
        _ => return Err(Malformed::field("prediction", "must be an object")),
    }
    let mut bytes = 0_u64;
    let mut open = scanner.object()?;
    while let Some(key) = scanner.key(&mut open)? {
        let kind = scanner.kind()?;
        let span = scanner.skip()?;
        if key.is("content") && kind != Kind::Null {
            // A string's quotes are no content; of a list of parts the frame counts too.
            bytes = bytes.saturating_add(count(span.len() - if kind == Kind::Text { 2 } else { 0 }));
        }
    }
    Ok(bytes)
}

/// Reads `modalities`. Whatever is neither text nor audio has a price that is not known, as a hosted tool has.
pub(super) fn modalities(scanner: &mut Scanner<'_>, ask: &mut Ask) -> Result<(), Malformed> {
    match scanner.kind()? {
        Kind::Null => {
            scanner.skip()?;
            return Ok(());
        }
        Kind::List => {}
        _ => return Err(Malformed::field("modalities", "must be a list")),
    }
    let mut list = scanner.list()?;
    while scanner.item(&mut list)? {
        match text(scanner, "modalities[]")?.as_str() {
            "text" => {}
            "audio" => ask.audio_out = true,
            other => ask.offer_hosted(shortened(&format!("modalities.{other}")), None),
        }
    }
    Ok(())
}
