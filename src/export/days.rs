//! Days and times as readers write them, in the consultation's time zone.

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

/// The zone with this IANA name; UTC where the machine does not know it.
pub fn zone(name: &str) -> TimeZone {
    TimeZone::get(name).unwrap_or(TimeZone::UTC)
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

fn month(day: Date) -> &'static str {
    MONTHS[(day.month() as usize).clamp(1, 12) - 1]
}

/// `4 March 2026`.
pub fn long_day(day: Date) -> String {
    format!("{} {} {}", day.day(), month(day), day.year())
}

/// `4 Mar`.
pub fn short_day(day: Date) -> String {
    format!("{} {}", day.day(), &month(day)[..3])
}

/// `9:05am on 4 March 2026 (Europe/London)`.
pub fn long_time(at: Timestamp, zone_name: &str) -> String {
    let (zone, name) = match TimeZone::get(zone_name) {
        Ok(zone) => (zone, zone_name),
        Err(_) => (TimeZone::UTC, "UTC"),
    };
    let local = zone.to_datetime(at);
    let half = if local.hour() < 12 { "am" } else { "pm" };
    let hour = match local.hour() % 12 {
        0 => 12,
        hour => hour,
    };
    format!("{hour}:{:02}{half} on {} ({name} time)", local.minute(), long_day(local.date()))
}

/// The same for the end of a period: midnight belongs to the day that it ends.
pub fn closing_time(at: Timestamp, zone_name: &str) -> String {
    let local = zone(zone_name).to_datetime(at);
    match local.date().yesterday() {
        Ok(day) if local.time() == jiff::civil::Time::midnight() => format!("the end of {}", long_day(day)),
        _ => long_time(at, zone_name),
    }
}

/// `3 to 26 March 2026`, as short as it stays clear.
pub fn stretch(first: Date, last: Date) -> String {
    match (first == last, first.year() == last.year(), first.month() == last.month()) {
        (true, ..) => long_day(first),
        (_, true, true) => format!("{} to {}", first.day(), long_day(last)),
        (_, true, false) => format!("{} {} to {}", first.day(), month(first), long_day(last)),
        _ => format!("{} to {}", long_day(first), long_day(last)),
    }
}

/// How many days one column of a chart stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// One.
    Day,
    /// Seven, from a Monday.
    Week,
    /// A calendar month.
    Month,
    /// A calendar year.
    Year,
}

impl Step {
    /// The word for one column.
    pub fn word(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
            Self::Year => "year",
        }
    }

    fn start(self, day: Date) -> Date {
        match self {
            Self::Day => day,
            Self::Week => day.saturating_sub(i64::from(day.weekday().to_monday_zero_offset()).days()),
            Self::Month => day.first_of_month(),
            Self::Year => day.first_of_year(),
        }
    }

    fn next(self, start: Date) -> Date {
        start.saturating_add(match self {
            Self::Day => 1.days(),
            Self::Week => 7.days(),
            Self::Month => 1.months(),
            Self::Year => 1.years(),
        })
    }

    /// What stands under a column.
    pub fn label(self, start: Date) -> String {
        match self {
            Self::Day | Self::Week => short_day(start),
            Self::Month => format!("{} {}", &month(start)[..3], start.year()),
            Self::Year => start.year().to_string(),
        }
    }

    /// What stands in the table.
    pub fn long_label(self, start: Date) -> String {
        match self {
            Self::Day => long_day(start),
            Self::Week => format!("week from {}", long_day(start)),
            Self::Month => format!("{} {}", month(start), start.year()),
            Self::Year => start.year().to_string(),
        }
    }
}

/// Columns of a chart, empty ones included: days, or longer steps where there are
/// more days than a page shows. Dates centuries apart are shown by year, only
/// where there are comments.
pub fn columns(days: &std::collections::BTreeMap<Date, u64>) -> (Step, Vec<(Date, u64)>) {
    let (Some(first), Some(last)) = (days.keys().next(), days.keys().next_back()) else {
        return (Step::Day, Vec::new());
    };
    let length = i64::from(last.year() - first.year()) * 366 + i64::from(last.day_of_year() - first.day_of_year()) + 1;
    // Up to 45 columns: days, weeks (45 * 7 = 315) or months (45 * 30.4 = 1,370).
    let step = if length <= 45 {
        Step::Day
    } else if length <= 315 {
        Step::Week
    } else if length <= 1370 {
        Step::Month
    } else {
        Step::Year
    };
    let mut columns: std::collections::BTreeMap<Date, u64> = std::collections::BTreeMap::new();
    if length < 100 * 366 {
        let (mut at, end) = (step.start(*first), step.start(*last));
        while at < end {
            columns.insert(at, 0);
            at = step.next(at);
        }
    }
    for (day, count) in days {
        *columns.entry(step.start(*day)).or_default() += count;
    }
    (step, columns.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(text: &str) -> Date {
        text.parse().unwrap()
    }

    #[test]
    fn times_are_said_as_people_say_them() {
        let at: Timestamp = "2026-07-04T11:05:00Z".parse().unwrap();
        assert_eq!(long_time(at, "Europe/London"), "12:05pm on 4 July 2026 (Europe/London time)");
        assert_eq!(long_time(at, "No/Where"), "11:05am on 4 July 2026 (UTC time)");
        let closes: Timestamp = "2026-03-29T23:00:00Z".parse().unwrap();
        assert_eq!(closing_time(closes, "Europe/London"), "the end of 29 March 2026");
        assert_eq!(stretch(day("2026-03-03"), day("2026-03-26")), "3 to 26 March 2026");
        assert_eq!(stretch(day("2026-02-28"), day("2026-03-01")), "28 February to 1 March 2026");
    }

    #[test]
    fn quiet_days_are_columns_too_and_long_times_fold() {
        let days = [(day("2026-03-02"), 3), (day("2026-03-05"), 1)].into();
        let (step, found) = columns(&days);
        assert_eq!(step, Step::Day);
        assert_eq!(found.iter().map(|(_, count)| *count).collect::<Vec<_>>(), [3, 0, 0, 1]);
        let days = [(day("2026-01-01"), 3), (day("2026-05-05"), 1)].into();
        let (step, found) = columns(&days);
        assert_eq!((step, found.len()), (Step::Week, 19));
        assert_eq!(found.iter().map(|(_, count)| count).sum::<u64>(), 4);
        let days = [(day("0001-01-01"), 3), (day("9999-05-05"), 1)].into();
        assert_eq!(columns(&days).1.len(), 2);
        assert!(columns(&std::collections::BTreeMap::new()).1.is_empty());
    }
}
