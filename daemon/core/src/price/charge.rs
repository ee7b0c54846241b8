//! What a call costs, by what it used.

use super::Price;
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
    /// The sum of the lines.
    pub total: Pico,
}

impl Charge {
    /// The sum of lines; `None` when out of range.
    #[must_use]
    pub fn sum(lines: &[Line]) -> Option<Pico> {
        lines.iter().try_fold(Pico::ZERO, |sum, Line(_, quantity, unit)| sum.plus(unit.times(*quantity)?))
    }

    /// Prices a usage. A quantity whose bucket has no price is priced at the dearest price of the model, never at zero, and the
    /// charge is not `priced` then; nor is it when the usage has unknown quantities. `None` when the sum is out of range.
    #[must_use]
    pub fn of(usage: &Usage, price: &Price) -> Option<Charge> {
        let optional = [price.cached_input, price.cache_write, price.audio_input, price.audio_output];
        let dearest = optional.into_iter().flatten().fold(price.input.max(price.output), Pico::max);
        let priced = usage.unknown.is_empty() && usage.quantities.iter().all(|(bucket, _)| price.unit(*bucket).is_some());
        let call = price.call.map(|unit| Line(Bucket::Call, 1, unit));
        let lines: Vec<Line> = usage
            .quantities
            .iter()
            .map(|(bucket, quantity)| Line(*bucket, *quantity, price.unit(*bucket).unwrap_or(dearest)))
            .chain(call)
            .collect();
        let total = Charge::sum(&lines)?;
        Some(Charge { lines, priced, total })
    }
}
