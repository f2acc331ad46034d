//! Charts with the words that state what they show, and the table beside each.

use std::collections::BTreeMap;

use super::cells::neutral;
use super::days;
use super::svg::{self, Fill};
use super::words::{plural, thousands, whole_percent};
use crate::assess::report::Summary;
use crate::domain::codebook::{StancePair, ThemeId};
use crate::domain::opinion::Stance;

/// The order of every chart.
pub(super) const POSITIONS: [&str; 4] = ["for", "mixed", "unclear", "against"];

/// `1,842 comments included`.
pub(super) fn base(summary: &Summary) -> String {
    plural(summary.included, "comment included", "comments included")
}

/// One row of a table of counts.
pub(super) struct Line {
    pub label: String,
    pub count: String,
    pub share: String,
    pub detail: bool,
}

/// One bar with its words.
pub(super) struct Bar {
    pub label: String,
    pub note: String,
    pub svg: String,
    pub parts: String,
}

/// A chart with its table.
pub(super) struct Chart {
    pub title: String,
    pub subtitle: String,
    pub bars: Vec<Bar>,
    pub lines: Vec<Line>,
}

pub(super) struct Volume {
    pub title: String,
    pub subtitle: String,
    pub svg: String,
    pub first: String,
    pub last: String,
    pub most: String,
    pub unit: &'static str,
    pub lines: Vec<(String, String)>,
}

/// Bars of one series, each from zero, with their table.
fn chart(id: &str, title: String, subtitle: String, counts: &[(String, Fill, u64)], base: u64) -> Chart {
    let longest = counts.iter().map(|(_, _, count)| *count).max().unwrap_or(0);
    let bars = counts
        .iter()
        .enumerate()
        .map(|(at, (label, fill, count))| {
            let title = format!("{label}: {} ({})", plural(*count, "comment", "comments"), whole_percent(*count, base));
            Bar {
                svg: svg::bar(&format!("{id}-{at}"), &[(*fill, *count)], longest, &title, "Bar from zero."),
                label: label.clone(),
                note: format!("{} ({})", thousands(*count), whole_percent(*count, base)),
                parts: String::new(),
            }
        })
        .collect();
    let lines = counts
        .iter()
        .map(|(label, _, count)| Line {
            label: label.clone(),
            count: thousands(*count),
            share: whole_percent(*count, base),
            detail: false,
        })
        .collect();
    Chart { title, subtitle, bars, lines }
}

fn judged_of(judged: u64, summary: &Summary) -> String {
    match summary.included - judged {
        0 => format!("{}.", base(summary)),
        _ => format!("{} of {} were judged.", thousands(judged), base(summary)),
    }
}

/// What most say, in words; equals are named as equals.
fn finding(subject: &str, counts: &[(String, Fill, u64)], base: u64) -> String {
    let most = counts.iter().map(|(_, _, count)| *count).max().unwrap_or(0);
    let leaders: Vec<&str> =
        counts.iter().filter(|(_, _, count)| *count == most).map(|(label, _, _)| label.as_str()).collect();
    match leaders[..] {
        [leader] => format!(
            "The most frequent {subject} is “{leader}”: {} ({})",
            plural(most, "comment", "comments"),
            whole_percent(most, base)
        ),
        _ => {
            format!("“{}” are equally frequent: {} each", leaders.join("” and “"), plural(most, "comment", "comments"))
        }
    }
}

pub(super) fn positions(summary: &Summary) -> Option<Chart> {
    let judged = summary.included - summary.positions.not_judged;
    if judged == 0 {
        return None;
    }
    let counts: Vec<(String, Fill, u64)> = POSITIONS
        .iter()
        .zip(Fill::POSITIONS)
        .zip(summary.positions.in_order())
        .map(|((label, fill), count)| ((*label).to_owned(), fill, count))
        .collect();
    let subtitle = format!("Position that whole comments take on the subject. {}", judged_of(judged, summary));
    Some(chart("position", finding("position", &counts, judged), subtitle, &counts, judged))
}

pub(super) fn stance(pair: Option<&StancePair>, summary: &Summary) -> Option<Chart> {
    let pair = pair?;
    let judged: u64 = summary.stances.values().sum();
    if judged == 0 {
        return None;
    }
    let label = |id: &ThemeId| {
        summary
            .themes
            .iter()
            .find(|theme| theme.id == *id)
            .map_or_else(|| id.to_string(), |theme| neutral(&theme.label))
    };
    let (structured, organic) = (label(&pair.structured), label(&pair.organic));
    let count = |stance: Stance| summary.stances.get(&stance).copied().unwrap_or(0);
    let counts = [
        (format!("Prefers “{structured}”"), Fill::Solid, count(Stance::PrefersStructured)),
        (format!("Prefers “{organic}”"), Fill::Lined, count(Stance::PrefersOrganic)),
        ("Sees worth in both".to_owned(), Fill::Slanted, count(Stance::Both)),
        ("Says nothing on form".to_owned(), Fill::Dotted, count(Stance::Neither)),
    ];
    let (one, other) = (counts[0].2, counts[1].2);
    // A difference that a reader cannot see in the bars is no finding.
    let title = if one.abs_diff(other) * 20 <= one + other {
        format!(
            "About as many comments prefer “{structured}” ({}) as “{organic}” ({})",
            thousands(one),
            thousands(other)
        )
    } else if one > other {
        format!("More comments prefer “{structured}” ({}) than “{organic}” ({})", thousands(one), thousands(other))
    } else {
        format!("More comments prefer “{organic}” ({}) than “{structured}” ({})", thousands(other), thousands(one))
    };
    let subtitle = format!("Preferred form, whatever the position on the subject. {}", judged_of(judged, summary));
    Some(chart("stance", title, subtitle, &counts, judged))
}

pub(super) fn counted<L: Copy + Ord>(
    id: &str,
    subject: &str,
    counts: &BTreeMap<L, u64>,
    key: fn(L) -> &'static str,
    summary: &Summary,
) -> Option<Chart> {
    let judged: u64 = counts.values().sum();
    if judged == 0 {
        return None;
    }
    let mut counts: Vec<(String, Fill, u64)> =
        counts.iter().map(|(label, count)| (key(*label).to_owned(), Fill::Solid, *count)).collect();
    counts.sort_by_key(|(_, _, count)| std::cmp::Reverse(*count));
    let subtitle = format!("One {subject} for each comment. {}", judged_of(judged, summary));
    Some(chart(id, finding(subject, &counts, judged), subtitle, &counts, judged))
}

pub(super) fn volume(summary: &Summary, zone: &str) -> Option<Volume> {
    let (step, columns) = days::columns(&summary.days);
    let (first, last) = (columns.first()?, columns.last()?);
    let peak = columns.iter().rev().max_by_key(|(_, count)| *count)?;
    let counts: Vec<u64> = columns.iter().map(|(_, count)| *count).collect();
    let title = format!(
        "The busiest {} was {}, with {}",
        step.word(),
        step.long_label(peak.0).trim_start_matches("week from "),
        plural(peak.1, "comment", "comments")
    );
    let undated = match summary.undated {
        0 => String::new(),
        some => format!(" {} not shown.", plural(some, "comment without a date is", "comments without a date are")),
    };
    let desc = format!(
        "Column chart from {} to {}, {} columns. The figures are in the table that follows.",
        step.long_label(first.0),
        step.long_label(last.0),
        columns.len()
    );
    Some(Volume {
        svg: svg::columns("volume-columns", &counts, &title, &desc),
        subtitle: format!("Included comments by {} of posting, {zone} time. {}.{undated}", step.word(), base(summary)),
        first: step.label(first.0),
        last: if columns.len() > 1 { step.label(last.0) } else { String::new() },
        most: thousands(peak.1),
        unit: step.word(),
        lines: columns.iter().map(|(day, count)| (step.long_label(*day), thousands(*count))).collect(),
        title,
    })
}
