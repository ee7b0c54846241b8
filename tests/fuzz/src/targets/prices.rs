//! LiteLLM's price file: what the import makes of an entry, the daemon's reader takes for the same prices. The modules of aexctl are compiled
//! in here, for a program has no library.

#[path = "../../../../ctl/src/commands/model/decimal.rs"]
#[allow(dead_code, clippy::unwrap_used, reason = "not all of it is called here, and it has tests of its own")]
mod decimal;
#[path = "../../../../ctl/src/commands/model/entries.rs"]
#[allow(dead_code, clippy::unwrap_used, reason = "not all of it is called here, and it has tests of its own")]
mod entries;
#[path = "../../../../ctl/src/commands/model/litellm.rs"]
#[allow(dead_code, clippy::unwrap_used, reason = "not all of it is called here, and it has tests of its own")]
mod litellm;

use aex_core::price::Price;
use aex_proto::value::Pico;
use aexd::config::check_catalog;
use std::path::Path;

const BASE: &str = "version: 1\nproviders:\n  p: {base_url: \"http://127.0.0.1:1/v1\", auth: none}\nmodels:\n  base model: {provider: p, provider_model: b, pricing: free, limits: {max_tokens: 1}}\n";

/// A price file.
pub fn check(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    number(text);
    let Ok(file) = litellm::file(text) else { return };
    for (name, read) in file {
        let Ok(entry) = read.entry else { continue };
        let whole = entry.call.is_none_or(|call| Pico::from_micro(call.pico.micro()) == Some(call.pico));
        if !whole || entry.amounts().any(|amount| !amount.exact) {
            continue;
        }
        let block = entries::block(BASE, "models").expect("a block");
        let written = block.with(BASE, &[entries::model(&name, "p", &entry)]);
        let (catalog, _) = check_catalog(&written, Path::new("/nonexistent"));
        let catalog = match catalog {
            Ok(catalog) => catalog,
            // The import is given up then, and the file stays as it was.
            Err(errors) => {
                assert!(errors.0.iter().all(|problem| problem.line.is_some()), "{errors}\n{written}");
                continue;
            }
        };
        let card = catalog.model(&name).unwrap_or_else(|| panic!("{name:?} is not there:\n{written}"));
        assert_eq!((&card.provider_model, card.max_tokens, card.context_tokens), (&entry.model, entry.max_tokens, entry.context_tokens));
        let price = card.price.as_ref().unwrap_or_else(|| panic!("no price:\n{written}"));
        for ((tier, above), rates) in &entry.rates {
            let of =
                tier.as_ref().map_or(Some(price), |tier| price.tiers.get(tier)).unwrap_or_else(|| panic!("no tier {tier:?}:\n{written}"));
            let of =
                if *above == 0 { of } else { &of.long_context.iter().find(|long| long.above == *above).expect("a long context").price };
            rates
                .iter()
                .for_each(|(key, amount)| assert_eq!(rate(of, key), Some(amount.pico), "{key} of {tier:?} above {above}:\n{written}"));
        }
    }
}

fn rate(price: &Price, key: &str) -> Option<Pico> {
    match key {
        "input" => Some(price.input),
        "output" => Some(price.output),
        "cached_input" => price.cached_input,
        "cache_write" => price.cache_write,
        "cache_write_1h" => price.cache_write_1h,
        "audio_input" => price.audio_input,
        "audio_output" => price.audio_output,
        "image_input" => price.image_input,
        "image_output" => price.image_output,
        other => panic!("a price that is not known here: {other}"),
    }
}

/// A decimal number means what its digits say, and what is not exact is the next pico-USD above.
fn number(text: &str) {
    let Some(amount) = decimal::usd(text) else { return };
    let double: f64 = text.parse().expect("a number to others, too");
    let (pico, read) = (double * 1e12, amount.pico.get() as f64);
    // As near as a double is, and never below.
    let blur = pico * 1e-12 + 1e-9;
    assert!(read >= pico - blur && read < pico + 1.0 + blur, "{text} is {pico}, and was read as {read}");
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let decimals = mantissa.split_once('.').map_or(0, |(_, fraction)| fraction.len());
    let digits = mantissa.replace('.', "");
    let zeros = digits.len() - digits.trim_end_matches('0').len();
    let finest =
        i64::try_from(decimals).expect("short") - i64::try_from(zeros).expect("short") - exponent.parse::<i64>().expect("an exponent");
    assert_eq!(amount.exact, finest <= 12 || digits.len() == zeros, "{text} was read as {read}");
}
