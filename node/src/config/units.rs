//! Lengths of time and numbers of bytes in the words that people write: a number and its unit.

use std::time::Duration;

/// Units of time with their length in milliseconds, the longest first.
const TIME_UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Units of size with their bytes, the largest first.
const SIZE_UNITS: [(&str, u64); 5] = [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

/// Reads a length of time with its unit, such as `500ms`, `2s`, `5m`, `12h` or `7d`.
///
/// # Errors
/// If it is none, or more milliseconds than 64 bits count.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let problem = || format!("{text:?} is no length of time; write a number with its unit, such as 500ms, 2s or 5m");
    number_with_unit(text, &TIME_UNITS).map(Duration::from_millis).ok_or_else(problem)
}

/// Reads a length of time as milliseconds; see [`parse_duration`].
///
/// # Errors
/// If it is none.
pub fn parse_duration_ms(text: &str) -> Result<u64, String> {
    parse_duration(text).map(|length| u64::try_from(length.as_millis()).unwrap_or(u64::MAX))
}

/// Reads a number of bytes: `4096`, `512KiB`, `64MiB`, `2GiB`.
///
/// # Errors
/// If it is none, or more than 64 bits count.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let problem = || format!("{text:?} is no number of bytes; write one such as 4096, 512KiB, 64MiB or 2GiB");
    if let Ok(bytes) = text.parse() {
        return Ok(bytes);
    }
    number_with_unit(text, &SIZE_UNITS).ok_or_else(problem)
}

fn number_with_unit(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let number: u64 = text[..digits].parse().ok()?;
    let (_, unit) = units.iter().find(|(name, _)| *name == &text[digits..])?;
    number.checked_mul(*unit)
}

/// What [`parse_duration`] reads back, in the largest unit without a remainder. Whole milliseconds are kept.
#[must_use]
pub fn format_duration(length: Duration) -> String {
    in_largest_unit(u64::try_from(length.as_millis()).unwrap_or(u64::MAX), &TIME_UNITS, "0s")
}

/// What [`parse_bytes`] reads back, in the largest unit without a remainder.
#[must_use]
pub fn format_bytes(bytes: u64) -> String {
    in_largest_unit(bytes, &SIZE_UNITS, "0B")
}

fn in_largest_unit(number: u64, units: &[(&str, u64)], zero: &str) -> String {
    let whole = |(name, unit): &(&str, u64)| number.is_multiple_of(*unit).then(|| format!("{}{name}", number / unit));
    match number {
        0 => zero.to_owned(),
        _ => units.iter().find_map(whole).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lengths_of_time_need_a_unit() {
        assert_eq!(parse_duration_ms("2s"), Ok(2_000));
        assert_eq!(parse_duration_ms("1500ms"), Ok(1_500));
        assert_eq!(parse_duration_ms("5m"), Ok(300_000));
        assert_eq!(parse_duration_ms("3h"), Ok(10_800_000));
        assert_eq!(parse_duration_ms("7d"), Ok(604_800_000));
        for wrong in ["", "2", "s", "2.5s", "-2s", "2 s", "99999999999999999999s", "9999999999999999h"] {
            assert!(parse_duration_ms(wrong).expect_err(wrong).contains("such as"), "{wrong}");
        }
    }

    #[test]
    fn sizes_may_have_a_unit() {
        assert_eq!(parse_bytes("4096"), Ok(4_096));
        assert_eq!(parse_bytes("64MiB"), Ok(64 << 20));
        assert_eq!(parse_bytes("1B"), Ok(1));
        for wrong in ["", "MiB", "64MB", "6.5GiB", "-1", "99999999999GiB", "64 MiB"] {
            assert!(parse_bytes(wrong).expect_err(wrong).contains("such as"), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(number in prop_oneof![any::<u64>(), (0..1_000_000_u64).prop_map(|n| n * 60_000)]) {
            prop_assert_eq!(parse_bytes(&format_bytes(number)), Ok(number));
            prop_assert_eq!(parse_duration_ms(&format_duration(Duration::from_millis(number))), Ok(number));
        }
    }
}
