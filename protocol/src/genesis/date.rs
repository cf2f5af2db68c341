//! Moments as RFC 3339 text and as milliseconds since 1970, in UTC and without leap seconds.
//!
//! The days are counted as in Howard Hinnant's *chrono-compatible low-level date algorithms*: years begin in March, so
//! that the leap day comes last, and 400 years ("an era") always have 146,097 days.

use toml::value::{Datetime, Offset};

const DAY_MS: i64 = 86_400_000;
const ERA_DAYS: i64 = 146_097;
/// Days from the 1st of March of the year 0 to the 1st of January 1970.
const EPOCH_DAYS: i64 = 719_468;

/// Milliseconds since 1970 of a date and time with its zone; `None` if a part is missing, or it is before 1970. What is
/// finer than a millisecond is cut off, and the 60th second of a leap second counts as the next minute's first.
pub(super) fn from_datetime(moment: &Datetime) -> Option<u64> {
    let (date, time, offset) = (moment.date?, moment.time?, moment.offset?);
    let offset_minutes = match offset {
        Offset::Z => 0,
        Offset::Custom { minutes } => i64::from(minutes),
    };
    let days = days_from_date(i64::from(date.year), i64::from(date.month), i64::from(date.day));
    let minutes = i64::from(time.hour) * 60 + i64::from(time.minute) - offset_minutes;
    let second = i64::from(time.second.unwrap_or(0));
    let millisecond = i64::from(time.nanosecond.unwrap_or(0) / 1_000_000);
    u64::try_from(days * DAY_MS + (minutes * 60 + second) * 1_000 + millisecond).ok()
}

/// The text of a moment, in UTC to the millisecond.
///
/// # Panics
/// If the moment is some hundred million years away; the text has more than four digits of year from the year 10000 on.
#[must_use]
pub fn to_rfc3339(unix_ms: u64) -> String {
    let unix_ms = i64::try_from(unix_ms).expect("a moment before the year 10000 is far below 2^63 ms");
    let (year, month, day) = date_from_days(unix_ms / DAY_MS);
    let ms = unix_ms % DAY_MS;
    let (hour, minute, second, ms) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1_000 % 60, ms % 1_000);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
}

/// Days since 1970 of a date.
fn days_from_date(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * ERA_DAYS + day_of_era - EPOCH_DAYS
}

/// Year, month and day of a number of days since 1970.
fn date_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + EPOCH_DAYS;
    let era = days.div_euclid(ERA_DAYS);
    let day_of_era = days.rem_euclid(ERA_DAYS);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = (shifted_month + 2) % 12 + 1;
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Option<u64> {
        from_datetime(&text.parse().ok()?)
    }

    #[test]
    fn moments_as_other_tools_give_them() {
        // Checked against `date -u -d TEXT +%s`.
        for (text, seconds) in [
            ("1970-01-01T00:00:00.000Z", 0),
            ("2000-02-29T23:59:59.000Z", 951_868_799),
            ("2000-03-01T00:00:00.000Z", 951_868_800),
            ("2026-11-20T22:50:51.000Z", 1_795_215_051),
            ("2100-03-01T00:00:00.000Z", 4_107_542_400),
            ("9999-12-31T23:59:59.000Z", 253_402_300_799),
        ] {
            assert_eq!(parse(text), Some(seconds * 1_000), "{text}");
            assert_eq!(to_rfc3339(seconds * 1_000), text);
        }
    }

    #[test]
    fn every_day_of_eight_centuries_goes_there_and_back() {
        let (mut previous, mut days) = ((1969, 12, 31), 0);
        while previous.0 < 2770 {
            let date = date_from_days(days);
            assert!(date > previous, "{date:?} follows {previous:?}");
            assert_eq!(days_from_date(date.0, date.1, date.2), days);
            (previous, days) = (date, days + 1);
        }
    }

    #[test]
    fn zones_count_and_fractions_are_cut_to_milliseconds() {
        assert_eq!(parse("2026-11-20T23:50:51.1239+01:00"), Some(1_795_215_051_123));
        assert_eq!(parse("2026-11-20T17:20:51-05:30"), Some(1_795_215_051_000));
        assert_eq!(parse("1969-12-31T23:59:59Z"), None);
        assert_eq!(parse("1970-01-01T00:00:00+00:01"), None);
        for incomplete in ["2026-11-20T23:50:51", "2026-11-20", "23:50:51", "tomorrow"] {
            assert_eq!(parse(incomplete), None, "{incomplete}");
        }
    }
}
