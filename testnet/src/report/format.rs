//! Numbers for people: units that fit the size, and no more digits than are meant.

/// A time in milliseconds, for example `0.42 ms`, `7.3 ms` or `1 204 ms`, from microseconds.
#[must_use]
pub fn milliseconds(time_us: u64) -> String {
    let time_ms = float(time_us) / 1e3;
    match time_us {
        0 => "0 ms".to_owned(),
        1..1_000 => format!("{time_ms:.2} ms"),
        1_000..100_000 => format!("{time_ms:.1} ms"),
        _ => format!("{} ms", grouped((time_us + 500) / 1_000)),
    }
}

/// A size, for example `812 B`, `1.4 KiB` or `23 MiB`.
#[must_use]
pub fn bytes(size: f64) -> String {
    let mut size = size;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if size < 1_000.0 {
            let digits = if unit == "B" || size >= 100.0 { 0 } else { 1 };
            return format!("{size:.digits$} {unit}");
        }
        size /= 1_024.0;
    }
    format!("{size:.1} TiB")
}

/// A share from 0 to 1 in percent. Only a full share is `100 %`: what is nearly full says so.
#[must_use]
pub fn percent(share: f64) -> String {
    let percent = share * 100.0;
    if share >= 1.0 {
        "100 %".to_owned()
    } else if percent > 99.0 {
        // Cut off rather than rounded, so that 99.9996 does not become 100.
        format!("{:.3} %", (percent * 1e3).floor() / 1e3)
    } else {
        format!("{percent:.1} %")
    }
}

/// How busy something was, from 0 to 1, in percent with one decimal: unlike with [`percent`], nearly full is as good as full.
#[must_use]
pub fn load(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

/// A measured time as a multiple of its lower bound, for example `1.83 x`; a dash if the bound is zero.
#[must_use]
pub fn multiple(measured: f64, bound: f64) -> String {
    if bound > 0.0 { format!("{:.2} x", measured / bound) } else { "-".to_owned() }
}

/// How often something happens in a second, with two decimals at most.
#[must_use]
pub fn rate(per_s: f64) -> String {
    let text = format!("{per_s:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// So many of something: `1 message`, `2 messages`.
#[must_use]
pub fn counted(number: u64, singular: &str) -> String {
    format!("{} {singular}{}", grouped(number), if number == 1 { "" } else { "s" })
}

/// A whole number with its thousands set apart.
#[must_use]
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            // A narrow space that does not break, as ISO 80000-1 groups digits.
            grouped.push('\u{202f}');
        }
        grouped.push(digit);
    }
    grouped
}

/// A count or a time as a floating-point number.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "what a run counts and times is far below 2^53")]
pub fn float(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(
            [0, 7, 420, 7_300, 99_960, 123_456, 1_204_400].map(milliseconds),
            ["0 ms", "0.01 ms", "0.42 ms", "7.3 ms", "100.0 ms", "123 ms", "1\u{202f}204 ms"]
        );
        assert_eq!(
            [0.0, 812.4, 1_433.6, 500_000.0, 24e6, 3e12].map(bytes),
            ["0 B", "812 B", "1.4 KiB", "488 KiB", "22.9 MiB", "2.7 TiB"]
        );
        assert_eq!([0.0, 0.5, 0.999_996, 1.0].map(percent), ["0.0 %", "50.0 %", "99.999 %", "100 %"]);
        assert_eq!([0.761, 0.9975, 1.0].map(load), ["76.1 %", "99.8 %", "100.0 %"]);
        assert_eq!(multiple(150.0, 100.0), "1.50 x");
        assert_eq!(multiple(150.0, 0.0), "-");
        assert_eq!([8.458_333_333_333_334, 50.0, 100.5, 0.0].map(rate), ["8.46", "50", "100.5", "0"]);
        assert_eq!(
            [0, 1, 2_000].map(|number| counted(number, "message")),
            ["0 messages", "1 message", "2\u{202f}000 messages"]
        );
        assert_eq!([999, 1_000, 1_234_567].map(grouped), ["999", "1\u{202f}000", "1\u{202f}234\u{202f}567"]);
    }
}
