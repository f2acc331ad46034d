//! The end of a run on a terminal: plain text that fits 80 columns.

use super::words::{thousands, whole_percent};
use crate::assess::report::Summary;
use crate::assess::report::place::Exclusion;

const WIDTH: usize = 78;

fn line(label: &str, figure: &str) -> String {
    let room = WIDTH.saturating_sub(figure.chars().count() + 3);
    let label: String = super::cells::neutral(label).replace(['\n', '\r', '\t'], " ").chars().take(room).collect();
    let dots = ".".repeat(WIDTH.saturating_sub(label.chars().count() + figure.chars().count() + 2));
    format!("{label} {dots} {figure}\n")
}

/// What became of every comment, the headline themes and what needs a person,
/// possible disclosures of harm first.
pub fn terminal_summary(summary: &Summary) -> String {
    let funnel = &summary.funnel;
    let mut out = String::new();
    let disclosures = summary.disclosures;
    if disclosures.escalated + disclosures.withdrawn > 0 {
        let waiting = disclosures.unacknowledged;
        let rule = "!".repeat(WIDTH);
        let read = if waiting > 0 { " READ THEM NOW." } else { "" };
        out = format!(
            "{rule}\n!! POSSIBLE DISCLOSURES OF HARM: {} ({} not acknowledged).{read}\n{rule}\n\n",
            thousands(disclosures.escalated + disclosures.withdrawn),
            thousands(waiting)
        );
    }
    out += "Where every comment went\n";
    out += &line("Received", &thousands(summary.received()));
    out += &line("  Included", &thousands(summary.included));
    for reason in Exclusion::ALL {
        let count = summary.excluded.get(&reason).copied().unwrap_or(0);
        if count > 0 {
            out += &line(&format!("  Excluded: {}", reason.label()), &thousands(count));
        }
    }
    for (label, count) in [
        ("  Held for a person", funnel.held),
        ("  Escalated to the safeguarding lead", funnel.escalated),
        ("  Could not be processed", funnel.failed),
        ("  Waiting in the queue", funnel.waiting),
        ("  Parked", funnel.parked),
    ] {
        if count > 0 {
            out += &line(label, &thousands(count));
        }
    }
    let headline = summary.themes.iter().any(|theme| theme.headline);
    if !summary.themes.is_empty() {
        out += "\nThemes (a comment can raise several)\n";
        let mut themes: Vec<_> = summary.themes.iter().filter(|theme| theme.headline || !headline).collect();
        themes.sort_by_key(|theme| std::cmp::Reverse(theme.ways.all));
        for theme in themes {
            let count = theme.ways.all;
            let figure = format!("{} ({})", thousands(count), whole_percent(count, summary.included));
            out += &line(&format!("  {}", theme.label), &figure);
        }
    }
    let needs = [
        ("  Possible disclosures not acknowledged", disclosures.unacknowledged),
        ("  Held", funnel.held),
        ("  Tags with low confidence, in comments", summary.low_confidence),
        ("  Comments with possible personal data to check", summary.personal_data_to_check),
        ("  Rows that could not be processed", funnel.failed),
        ("  Parked", funnel.parked),
    ];
    if needs.iter().any(|(_, count)| *count > 0) {
        out += "\nNeeds a person\n";
        for (label, count) in needs.iter().filter(|(_, count)| *count > 0) {
            out += &line(label, &thousands(*count));
        }
    } else {
        out += "\nNothing needs a person.\n";
    }
    out
}
