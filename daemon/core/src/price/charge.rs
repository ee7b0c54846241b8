//! What a call costs, by what it used.

use super::tier::with_silent;
use super::{Price, is_standard_tier};
use crate::usage::{Bucket, Usage};
use aex_proto::value::Pico;
use serde::{Deserialize, Serialize};

/// One line of a charge. In JSON: `["input", 12, "150000"]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line(pub Bucket, pub u64, pub Pico);

/// What a call costs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Charge {
    /// One line per bucket used.
    pub lines: Vec<Line>,
    /// Every quantity had its price. If not, the charge is none that the provider's report proves.
    pub priced: bool,
    /// The service tier whose prices hold, when it is not the standard one.
    pub tier: Option<String>,
    /// The sum of the lines.
    pub total: Pico,
}

impl Charge {
    /// The sum of lines; `None` when out of range.
    #[must_use]
    pub fn sum(lines: &[Line]) -> Option<Pico> {
        lines.iter().try_fold(Pico::ZERO, |sum, Line(_, quantity, unit)| sum.plus(unit.times(*quantity)?))
    }

    /// Prices a usage: by the tier that it names, and by the length of its input. A quantity whose bucket has no price is priced at
    /// the dearest price of the model, never at zero, and the charge is not `priced` then; nor is it when the usage has unknown
    /// quantities. A tier without prices is charged as the dearest of all. `None` when the sum is out of range.
    #[must_use]
    pub fn of(usage: &Usage, price: &Price) -> Option<Charge> {
        let Some(tier) = usage.tier.as_deref().filter(|tier| !is_standard_tier(tier)) else {
            return Charge::by(usage, price, price);
        };
        let named = Some(tier.to_owned());
        if let Some(rates) = price.tiers.get(tier) {
            return Some(Charge { tier: named, ..Charge::by(usage, price, rates)? });
        }
        let mut dearest = Charge::by(usage, price, price)?;
        for rates in price.tiers.values() {
            let charge = Charge::by(usage, price, rates)?;
            if charge.total > dearest.total {
                dearest = charge;
            }
        }
        Some(Charge { priced: false, tier: named, ..dearest })
    }

    /// Prices a usage whose report says nothing of its tier, or leaves out a field of it: as the dearer of the one that it says and
    /// the one that was asked for, field by field.
    #[must_use]
    pub fn asked(usage: &Usage, price: &Price, asked: Option<&str>) -> Option<Charge> {
        let stated = Charge::of(usage, price)?;
        let asked = match &usage.tier {
            None => asked.map(str::to_owned),
            Some(told) => asked.and_then(|asked| with_silent(told, &usage.silent, asked)),
        };
        let Some(asked) = asked else { return Some(stated) };
        let other = Charge::of(&Usage { tier: Some(asked), ..usage.clone() }, price)?;
        let differ = other.total != stated.total;
        let dearer = if other.total > stated.total { other } else { stated };
        Some(Charge { priced: dearer.priced && !differ, ..dearer })
    }

    /// By the rates of one tier; tools and the call itself cost the same in all.
    fn by(usage: &Usage, price: &Price, rates: &Price) -> Option<Charge> {
        let rates = rates.at(usage.input_tokens());
        let unit = |bucket: Bucket| if bucket.is_tokens() { rates.unit(bucket) } else { price.unit(bucket) };
        let dearest = rates.dearest().max(price.dearest());
        let priced = usage.unknown.is_empty() && usage.quantities.iter().all(|(bucket, _)| unit(*bucket).is_some());
        let call = price.call.map(|unit| Line(Bucket::Call, 1, unit));
        let lines: Vec<Line> = usage
            .quantities
            .iter()
            .map(|(bucket, quantity)| Line(*bucket, *quantity, unit(*bucket).unwrap_or(dearest)))
            .chain(call)
            .collect();
        let total = Charge::sum(&lines)?;
        Some(Charge { lines, priced, tier: None, total })
    }
}
