//! What one run of the driver found.

use serde::{Deserialize, Serialize};

/// What the driver says.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// Calls of all kinds.
    pub counts: Counts,
    /// The span that rates refer to.
    pub secs: f64,
    /// First byte sent to last byte received.
    pub latency_us: Quantiles,
    /// First byte sent to first byte of the body.
    pub first_us: Quantiles,
    /// A chunk's making to its arrival; only where each connection makes one call.
    pub delay_us: Quantiles,
    /// The first failure.
    pub fault: Option<String>,
}

/// Calls of all kinds.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Counts {
    /// Requests sent, the warm-up's too.
    pub sent: u64,
    /// Of those, with the expected status.
    pub right: u64,
    /// Of those, ended within the span that counts.
    pub counted: u64,
    /// With another status.
    pub wrong_status: u64,
    /// Streams with the right status that were not whole.
    pub broken: u64,
    /// Connections that failed.
    pub io: u64,
    /// Content chunks.
    pub chunks: u64,
}

impl Counts {
    /// All that went wrong.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.wrong_status + self.broken + self.io
    }
}

/// Of a list of microseconds; all 0 when it is empty.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Quantiles {
    /// How many.
    pub count: usize,
    /// Half are not above.
    pub p50: u32,
    /// 99 of 100 are not above.
    pub p99: u32,
    /// None is above.
    pub max: u32,
}

impl Quantiles {
    /// Sorts the list.
    #[must_use]
    pub fn of(micros: &mut [u32]) -> Self {
        micros.sort_unstable();
        let at = |percent: usize| micros.get((micros.len() * percent).div_ceil(100).saturating_sub(1)).copied().unwrap_or(0);
        Self { count: micros.len(), p50: at(50), p99: at(99), max: at(100) }
    }
}

/// The middle one; of an even number, the mean of the middle two. `None` of none.
#[must_use]
pub(super) fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = *values.get(middle)?;
    let even = values.len().is_multiple_of(2);
    Some(if even { f64::midpoint(values[middle - 1], upper) } else { upper })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_of_the_list() {
        for (count, p50, p99, max) in [(0, 0, 0, 0), (1, 1, 1, 1), (2, 1, 2, 2), (100, 50, 99, 100), (1000, 500, 990, 1000)] {
            let mut list: Vec<u32> = (1..=count).rev().collect();
            let found = Quantiles::of(&mut list);
            assert_eq!((found.p50, found.p99, found.max), (p50, p99, max), "of {count}");
        }
    }

    #[test]
    fn a_median_lies_in_the_middle() {
        assert_eq!(median([]), None);
        assert_eq!(median([3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median([4.0, 1.0]), Some(2.5));
    }
}
