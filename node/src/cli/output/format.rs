//! Quantities for people: units that fit the size, and no more digits than are meant.

/// A size, such as `812 B`, `1.4 KiB` or `23 MiB`.
pub(in crate::cli) fn bytes(size: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    let mut shown = size as f64;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        // Below 999.5, because what is above would be shown with four digits.
        if shown < 999.5 {
            let digits = usize::from(unit != "B" && shown < 99.95);
            return format!("{shown:.digits$} {unit}");
        }
        shown /= 1_024.0;
    }
    format!("{shown:.1} TiB")
}

/// A length of time in its two largest units, such as `42 s`, `3 h 12 min` or `5 d 0 h`.
pub(in crate::cli) fn duration(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{} h {} min", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

/// A length of time in its largest unit, for narrow columns: `42s`, `12m`, `3h`, `5d`.
pub(in crate::cli) fn age(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m", seconds / 60),
        3_600..86_400 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// A share of a whole in percent without decimals; of nothing, 0.
pub(in crate::cli) fn percent(part: u64, whole: u64) -> String {
    format!("{} %", u128::from(part) * 100 / u128::from(whole.max(1)))
}

/// A count with the thing counted: `1 peer`, `2 peers`.
pub(in crate::cli) fn counted(count: u64, thing: &str) -> String {
    format!("{count} {thing}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_three_digits_at_most() {
        let cases = [(0, "0 B"), (999, "999 B"), (1_000, "1.0 KiB"), (102_348, "99.9 KiB"), (102_400, "100 KiB")];
        for (size, text) in cases {
            assert_eq!(bytes(size), text);
        }
        assert_eq!(bytes(1_023 << 10), "1.0 MiB");
        assert_eq!(bytes(u64::MAX), "16777216.0 TiB");
    }

    #[test]
    fn times_have_two_units_at_most() {
        assert_eq!([0, 59, 61, 3_660, 90_000].map(duration), ["0 s", "59 s", "1 min 1 s", "1 h 1 min", "1 d 1 h"]);
        assert_eq!([0, 59, 61, 3_660, 90_000].map(age), ["0s", "59s", "1m", "1h", "1d"]);
        assert_eq!(duration(u64::MAX), "213503982334601 d 7 h");
    }

    #[test]
    fn shares_and_counts() {
        assert_eq!([percent(7, 12), percent(0, 0), percent(u64::MAX, u64::MAX)], ["58 %", "0 %", "100 %"]);
        assert_eq!((counted(1, "peer"), counted(0, "peer")), ("1 peer".into(), "0 peers".into()));
    }
}
