//! Decimal numbers as they are written in JSON, read as exact amounts. No float.

use aex_proto::value::Pico;

/// Decimals of a USD that a pico-USD stands for.
const PICO_DECIMALS: i32 = 12;
/// The most digits, and the largest exponent, that a price has.
const MAX_DIGITS: usize = 36;
const MAX_EXPONENT: i32 = 30;

/// A price in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Amount {
    /// The whole pico-USD, or the next above it.
    pub(super) pico: Pico,
    /// Nothing was rounded.
    pub(super) exact: bool,
}

/// Reads USD; `None` for what is no non-negative decimal number, or out of range.
pub(super) fn usd(text: &str) -> Option<Amount> {
    let (digits, scale) = decimal(text)?;
    let (pico, exact) = scaled(digits, PICO_DECIMALS.checked_sub(scale)?)?;
    Some(Amount { pico: Pico::new(i64::try_from(pico).ok()?), exact })
}

/// A price times a decimal number; `None` when that is no whole number of pico-USD.
pub(super) fn times(price: Pico, factor: &str) -> Option<Pico> {
    let (digits, scale) = decimal(factor)?;
    let product = i128::from(price.get()).checked_mul(digits)?;
    let (pico, exact) = scaled(product, scale.checked_neg()?)?;
    if exact { i64::try_from(pico).ok().map(Pico::new) } else { None }
}

/// A number times a power of ten, rounded up, and whether it is exact.
fn scaled(number: i128, exponent: i32) -> Option<(i128, bool)> {
    let power = 10_i128.checked_pow(exponent.unsigned_abs())?;
    if exponent >= 0 {
        return Some((number.checked_mul(power)?, true));
    }
    let rest = number.checked_rem(power)?;
    let whole = number.checked_div(power)?;
    Some(if rest == 0 { (whole, true) } else { (whole.checked_add(1)?, false) })
}

/// Digits, and how many of them are behind the point: `1.5e-07` is 15 and 8.
fn decimal(text: &str) -> Option<(i128, i32)> {
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let fraction = fraction.trim_end_matches('0');
    let digits = format!("{whole}{fraction}");
    let exponent: i32 = exponent.parse().ok().filter(|exponent: &i32| exponent.abs() <= MAX_EXPONENT)?;
    if whole.is_empty() || digits.len() > MAX_DIGITS || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some((digits.parse().ok()?, i32::try_from(fraction.len()).ok()?.checked_sub(exponent)?))
}

/// USD per million tokens as models.yaml has it: the price of one in pico-USD has six decimals there.
pub(super) fn per_million(unit: Pico) -> String {
    let whole = unit.get().div_euclid(1_000_000);
    let fraction = format!("{:06}", unit.get().rem_euclid(1_000_000));
    match fraction.trim_end_matches('0') {
        "" => whole.to_string(),
        fraction => format!("{whole}.{fraction}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_price_is_read_to_its_last_digit() {
        #[track_caller]
        fn check(text: &str, pico: i64, exact: bool) {
            assert_eq!(usd(text), Some(Amount { pico: Pico::new(pico), exact }), "{text}");
        }
        check("0", 0, true);
        check("0.0", 0, true);
        check("1.5e-07", 150_000, true);
        check("2.5E-6", 2_500_000, true);
        check("0.00018", 180_000_000, true);
        check("1e-05", 10_000_000, true);
        check("3e+0", 3_000_000_000_000, true);
        check("1.250e-07", 125_000, true);
        // As Python writes what it computed.
        check("2.9999900000000002e-06", 2_999_991, false);
        check("1.5000020000000002e-05", 15_000_021, false);
        check("1e-13", 1, false);
        // 0.1 + 0.2 would be off as a double.
        check("0.3", 300_000_000_000, true);
        for foreign in ["", "-1e-06", "abc", "1e", "e5", ".5", "1.2.3", "1e999", "NaN", "1e-31", "99999999999999999999"] {
            assert_eq!(usd(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn a_multiple_is_whole_or_none() {
        assert_eq!(times(Pico::new(5_000_000), "6.0"), Some(Pico::new(30_000_000)));
        assert_eq!(times(Pico::new(75_000), "1.1"), Some(Pico::new(82_500)));
        assert_eq!(times(Pico::new(5), "1.1"), None);
    }

    #[test]
    fn what_is_written_is_what_the_daemon_reads() {
        for pico in [0, 1, 20_000, 75_000, 150_000, 1_000_000, 2_500_000, 180_000_000, 123_456_789] {
            let text = per_million(Pico::new(pico));
            assert_eq!(Pico::parse_usd_per_million(&text), Ok(Pico::new(pico)), "{text}");
        }
        assert_eq!((per_million(Pico::new(150_000)), per_million(Pico::new(15_000_000))), ("0.15".to_owned(), "15".to_owned()));
    }
}
