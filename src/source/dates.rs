//! Dates as people and programs write them, in the zone of the consultation.

use jiff::Timestamp;
use jiff::civil::{Date, DateTime, Time};
use jiff::tz::TimeZone;

/// Which of two leading numbers is the day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    DayFirst,
    MonthFirst,
}

/// How many ways a date can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hint {
    /// One, whatever the order.
    Certain,
    /// Two: both leading numbers could be months.
    Either,
    /// One, which shows the order in which it was written.
    Only(Order),
}

/// A date that could be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reading {
    pub(super) at: Timestamp,
    pub(super) hint: Hint,
}

/// Reads a date; one without an offset is local to `zone`, one without a time is midnight.
pub(super) fn read(value: &str, order: Order, zone: &TimeZone) -> Option<Reading> {
    // No date is longer; a comment in the wrong column need not be searched.
    if value.len() > 80 {
        return None;
    }
    let value = value.trim();
    let certain = |at| Reading { at, hint: Hint::Certain };
    if let Some(at) = iso(value, zone) {
        return Some(certain(at));
    }
    let mut words: Vec<&str> =
        value.split(|c: char| c.is_whitespace() || c == ',').filter(|word| !word.is_empty()).collect();
    let utc = matches!(words.last(), Some(&("UTC" | "GMT" | "Z" | "utc" | "gmt")));
    if utc {
        words.pop();
    }
    let zone = if utc { &TimeZone::UTC } else { zone };
    let (first, rest) = words.split_first()?;
    let (date, hint, time) = if let Some((date, hint)) = numeric(first, order) {
        (date, hint, time(rest)?)
    } else {
        let (date, time) = worded(&words)?;
        (date, Hint::Certain, time)
    };
    let at = local(date.to_datetime(time), zone)?;
    Some(Reading { at, hint })
}

fn local(at: DateTime, zone: &TimeZone) -> Option<Timestamp> {
    // A time that the clocks skip or repeat is read as jiff does: later, then earlier.
    zone.to_timestamp(at).ok()
}

/// RFC 3339 and its relatives: year first.
fn iso(value: &str, zone: &TimeZone) -> Option<Timestamp> {
    let year = value.as_bytes().get(..5)?;
    if !year[..4].iter().all(u8::is_ascii_digit) || year[4] != b'-' {
        return None;
    }
    let joined = value.replace(" +", "+");
    joined.parse::<Timestamp>().ok().or_else(|| local(joined.parse::<DateTime>().ok()?, zone))
}

/// `2/11/26`, `02-11-2026`, `02.11.2026`, `2026/11/02`.
fn numeric(word: &str, order: Order) -> Option<(Date, Hint)> {
    let parts: Vec<&str> = word.split(['/', '-', '.']).collect();
    let [a, b, c] = parts.as_slice() else {
        return None;
    };
    if a.len() == 4 {
        return Some((date(a, b, c)?, Hint::Certain));
    }
    let (first, second) = (number(a)?, number(b)?);
    let (hint, order) = match (first > 12, second > 12) {
        (true, true) => return None,
        (true, false) => (Hint::Only(Order::DayFirst), Order::DayFirst),
        (false, true) => (Hint::Only(Order::MonthFirst), Order::MonthFirst),
        (false, false) if first == second => (Hint::Certain, order),
        (false, false) => (Hint::Either, order),
    };
    let date = match order {
        Order::DayFirst => date(c, b, a)?,
        Order::MonthFirst => date(c, a, b)?,
    };
    Some((date, hint))
}

fn number(text: &str) -> Option<i16> {
    let digits = (1..=4).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

fn date(year: &str, month: &str, day: &str) -> Option<Date> {
    let full = match (year.len(), number(year)?) {
        (4, year) => year,
        // Two digits: 70 to 99 are the last century, as spreadsheets have it.
        (2, year) if year >= 70 => 1900 + year,
        (2, year) => 2000 + year,
        _ => return None,
    };
    let short = |text: &str| i8::try_from(number(text)?).ok();
    Date::new(full, short(month)?, short(day)?).ok()
}

/// `2 November 2026`, `Nov 2, 2026`, `Mon 2nd Nov 2026 at 2:03 pm`, `2-Nov-26`.
fn worded(words: &[&str]) -> Option<(Date, Time)> {
    let mut month = None;
    let mut numbers: Vec<&str> = Vec::new();
    let mut clock: Vec<&str> = Vec::new();
    for word in words {
        if word.contains(':') || !clock.is_empty() {
            clock.push(word);
            continue;
        }
        let dashed = word.contains('-') && word.bytes().any(|b| b.is_ascii_alphabetic());
        let parts: Vec<&str> = if dashed { word.split('-').collect() } else { vec![word] };
        for part in parts {
            let bare = part.trim_end_matches('.');
            let ordinal = ["st", "nd", "rd", "th"]
                .iter()
                .find_map(|end| bare.strip_suffix(end))
                .filter(|digits| number(digits).is_some());
            if let Some(digits) = ordinal {
                numbers.push(digits);
            } else if number(bare).is_some() {
                numbers.push(bare);
            } else if let (Some(found), None) = (month_of(bare), month) {
                month = Some(found);
            } else if !matches!(bare.to_lowercase().as_str(), "of" | "at" | "on" | "the") && !is_weekday(bare) {
                return None;
            }
        }
    }
    let [a, b] = numbers.as_slice() else {
        return None;
    };
    let (year, day) = if a.len() == 4 { (a, b) } else { (b, a) };
    Some((date(year, month?, day)?, time(&clock)?))
}

const MONTHS: [(&str, &str); 12] = [
    ("january", "1"),
    ("february", "2"),
    ("march", "3"),
    ("april", "4"),
    ("may", "5"),
    ("june", "6"),
    ("july", "7"),
    ("august", "8"),
    ("september", "9"),
    ("october", "10"),
    ("november", "11"),
    ("december", "12"),
];

fn month_of(word: &str) -> Option<&'static str> {
    let word = word.to_lowercase();
    if word.len() < 3 {
        return None;
    }
    MONTHS
        .iter()
        .find(|(name, _)| name.starts_with(&word) || (word == "sept" && *name == "september"))
        .map(|(_, number)| *number)
}

fn is_weekday(word: &str) -> bool {
    let word = word.to_lowercase();
    word.len() >= 3
        && ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]
            .iter()
            .any(|day| day.starts_with(&word))
}

/// `14:03`, `14:03:22.5`, `2:03 pm`, or nothing, which is midnight.
fn time(words: &[&str]) -> Option<Time> {
    let joined = words.concat().to_lowercase();
    if joined.is_empty() {
        return Some(Time::midnight());
    }
    let (clock, half) = match (joined.strip_suffix("am"), joined.strip_suffix("pm")) {
        (Some(clock), _) => (clock, Some(0)),
        (_, Some(clock)) => (clock, Some(12)),
        _ => (joined.as_str(), None),
    };
    let mut parts = clock.split(':');
    let short = |text: &str| i8::try_from(number(text)?).ok();
    let hour = short(parts.next()?)?;
    let minute = parts.next().map_or(Some(0), short)?;
    // Fractions of a second do not order comments.
    let second = parts.next().map_or(Some(0), |text| short(text.split('.').next().unwrap_or(text)))?;
    if parts.next().is_some() || (half.is_none() && !clock.contains(':')) {
        return None;
    }
    let hour = match half {
        Some(add) if (1..=12).contains(&hour) => hour % 12 + add,
        Some(_) => return None,
        None => hour,
    };
    Time::new(hour, minute, second, 0).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn london() -> TimeZone {
        TimeZone::get("Europe/London").unwrap()
    }

    fn check(value: &str, order: Order, expected: &str) {
        let at = read(value, order, &london()).map(|reading| reading.at.to_string());
        assert_eq!(at.as_deref(), Some(expected), "{value}");
    }

    #[test]
    fn dates_are_read_as_programs_write_them() {
        for value in [
            "2026-11-02T14:03:22Z",
            "2026-11-02T15:03:22+01:00",
            "2026-11-02 14:03:22",
            "2026-11-02T14:03:22",
            "2026-11-02 14:03:22 +0000",
            "2026-11-02 14:03:22 UTC",
            " 2026-11-02 14:03:22 ",
        ] {
            check(value, Order::DayFirst, "2026-11-02T14:03:22Z");
        }
        check("2026-11-02 14:03", Order::DayFirst, "2026-11-02T14:03:00Z");
        check("2026-11-02", Order::MonthFirst, "2026-11-02T00:00:00Z");
    }

    #[test]
    fn dates_are_read_as_people_write_them() {
        for value in [
            "02/11/2026 14:03",
            "2/11/26 14:03",
            "02-11-2026 14:03:00",
            "02.11.2026 2:03 pm",
            "2/11/2026, 2:03PM",
            "2026/11/02 14:03",
            "2 November 2026 14:03",
            "2nd Nov 2026 at 14:03",
            "Nov 2, 2026 2:03 PM",
            "Monday 2 November 2026, 14:03",
            "2-Nov-2026 14:03",
            "02-Nov-26 14:03 GMT",
        ] {
            check(value, Order::DayFirst, "2026-11-02T14:03:00Z");
        }
        check("11/02/2026", Order::MonthFirst, "2026-11-02T00:00:00Z");
        check("2/11/26", Order::DayFirst, "2026-11-02T00:00:00Z");
    }

    #[test]
    fn a_local_date_follows_summer_time() {
        check("2026-07-01 12:00", Order::DayFirst, "2026-07-01T11:00:00Z");
        check("01/07/2026", Order::DayFirst, "2026-06-30T23:00:00Z");
        check("1 July 2026 12:00 UTC", Order::DayFirst, "2026-07-01T12:00:00Z");
    }

    #[test]
    fn a_number_above_twelve_shows_the_order() {
        let hint = |value| read(value, Order::DayFirst, &london()).map(|r| r.hint);
        assert_eq!(hint("02/11/2026"), Some(Hint::Either));
        assert_eq!(hint("11/11/2026"), Some(Hint::Certain));
        assert_eq!(hint("25/11/2026"), Some(Hint::Only(Order::DayFirst)));
        assert_eq!(hint("11/25/2026"), Some(Hint::Only(Order::MonthFirst)));
        check("11/25/2026", Order::DayFirst, "2026-11-25T00:00:00Z");
    }

    #[test]
    fn what_is_no_date_is_none() {
        for value in [
            "",
            "soon",
            "31/31/2026",
            "30/02/2026",
            "2026",
            "12",
            "14:03",
            "2026-13-40",
            "02/11/2026 25:00",
            "2/11/2026 pm",
            "1/2",
            "1/2/3/4",
            "May",
            "٠٢/١١/٢٠٢٦",
            "2-",
            "--",
        ] {
            assert_eq!(read(value, Order::DayFirst, &london()), None, "{value}");
        }
    }
}
