//! The report page: the summary in words, tables and charts, in one HTML file.
//!
//! Every sentence that states a finding is made here from counts; the template
//! holds the order of the page and what never changes. No markup of a comment
//! reaches the page: the template escapes, and charts escape for themselves.

use std::collections::HashMap;

use askama::Template;
use jiff::Timestamp;

use super::cells::neutral;
use super::days;
use super::rows::Shown;
use super::svg::{self, Fill};
use crate::assess::report::groups::{Cell, GroupTable, THRESHOLD};
use crate::assess::report::place::Exclusion;
use crate::assess::report::quotes::Role;
use crate::assess::report::{Split, Summary, ThemeFigures, ThreeWays};
use crate::domain::codebook::StancePair;
use crate::domain::decision::ReasonKey;
use crate::domain::opinion::{Attitude, Stance};
use crate::domain::rulebook::Rulebook;

/// A measured figure of quality, with all that is needed to judge it.
#[derive(Clone, Debug, PartialEq)]
pub struct Reliability {
    /// What was measured ("F1 over the headline themes").
    pub name: String,
    /// The figure.
    pub figure: f64,
    /// Lower and upper end of its 95 % interval.
    pub interval: Option<(f64, f64)>,
    /// Comments that it was measured on.
    pub n: u64,
    /// Which data, and who coded it.
    pub data: String,
}

/// `1,842`.
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A whole percentage that never rounds something to nothing, or most to all.
pub fn whole_percent(count: u64, base: u64) -> String {
    let percent = |count: u64| (u128::from(count) * 200 + u128::from(base)) / (u128::from(base) * 2);
    match (count, base) {
        (0, _) | (_, 0) => "0%".to_owned(),
        _ if percent(count) == 0 => "less than 1%".to_owned(),
        _ if percent(count) >= 100 && count < base => "more than 99%".to_owned(),
        _ => format!("{}%", percent(count)),
    }
}

fn plural(count: u64, one: &str, many: &str) -> String {
    format!("{} {}", thousands(count), if count == 1 { one } else { many })
}

/// One row of a table of counts.
struct Line {
    label: String,
    count: String,
    share: String,
    detail: bool,
}

/// One bar with its words.
struct Bar {
    label: String,
    note: String,
    svg: String,
    parts: String,
}

struct ThemeRow {
    label: String,
    key: String,
    definition: String,
    comments: String,
    share: String,
    split: [String; 4],
    to_check: String,
    link: Option<String>,
}

struct QuoteView {
    role: &'static str,
    position: &'static str,
    response_id: String,
    text: String,
}

struct QuoteGroup {
    anchor: String,
    label: String,
    quotes: Vec<QuoteView>,
}

struct CrossTable {
    caption: String,
    headers: Vec<(String, String)>,
    rows: Vec<(String, Vec<String>)>,
}

struct CampaignRow {
    id: String,
    kind: &'static str,
    text: String,
    comments: String,
    respondents: String,
    additions: String,
    dates: String,
    positions: String,
}

struct Need {
    what: String,
    count: String,
    todo: String,
}

/// A chart with its table.
struct Chart {
    title: String,
    subtitle: String,
    bars: Vec<Bar>,
    lines: Vec<Line>,
}

struct Volume {
    title: String,
    subtitle: String,
    svg: String,
    first: String,
    last: String,
    half: String,
    most: String,
    unit: &'static str,
    lines: Vec<(String, String)>,
}

#[derive(Template)]
#[template(path = "report.html")]
struct Page<'a> {
    title: String,
    question: String,
    organisation: String,
    as_at: String,
    state: String,
    received: String,
    included: String,
    few: bool,
    codebook_version: String,
    model_version: &'a str,
    pipeline_version: String,
    patterns: &'static str,
    funnel_title: String,
    funnel_bar: String,
    funnel_legend: Vec<(String, String)>,
    funnel: Vec<Line>,
    funnel_sum: String,
    disclosures: u64,
    disclosures_title: String,
    unacknowledged: String,
    contact: Option<String>,
    has_codebook: bool,
    themes_title: String,
    themes_subtitle: String,
    legend: Vec<(String, &'static str)>,
    theme_bars: Vec<Bar>,
    theme_rows: Vec<ThemeRow>,
    rest_rows: Vec<ThemeRow>,
    positions: Option<Chart>,
    stance: Option<Chart>,
    polarity: Option<Chart>,
    tone: Option<Chart>,
    volume: Option<Volume>,
    cross: Vec<CrossTable>,
    cross_notes: Vec<String>,
    respondents: String,
    languages: Vec<Line>,
    quotes: Vec<QuoteGroup>,
    campaigns: Vec<CampaignRow>,
    campaign_title: String,
    ways: Vec<(String, [String; 3])>,
    needs: Vec<Need>,
    reliability: Vec<(String, String, String, String, String)>,
    threshold: u64,
    has_crosstab: bool,
}

/// The page as one HTML text that needs nothing from outside. `shown` holds the
/// pseudonyms of quoted comments and the masked texts of campaigns, by sequence.
///
/// # Errors
/// When the template cannot be written, which a full memory may cause.
pub fn render<S: std::hash::BuildHasher>(
    rulebook: &Rulebook,
    summary: &Summary,
    shown: &HashMap<i64, Shown, S>,
    as_at: Timestamp,
    reliability: &[Reliability],
) -> Result<String, askama::Error> {
    let consultation = &rulebook.consultation;
    let themes = sorted(&summary.themes);
    let (cross, cross_notes) = cross_tables(summary, &themes);
    let disclosures = summary.disclosures.escalated + summary.disclosures.withdrawn;
    let page = Page {
        title: neutral(&consultation.title),
        question: neutral(&consultation.question),
        organisation: neutral(&consultation.organisation),
        as_at: days::long_time(as_at, &consultation.time_zone),
        state: state(rulebook, summary, as_at),
        received: thousands(summary.received()),
        included: thousands(summary.included),
        few: summary.included < 30,
        codebook_version: rulebook.codebook.as_ref().map_or_else(|| "none".to_owned(), |book| book.version.clone()),
        model_version: &rulebook.model_version,
        pipeline_version: rulebook.version.0.chars().take(16).collect(),
        patterns: svg::PATTERNS,
        funnel_title: funnel_title(summary),
        funnel_bar: funnel_bar(summary),
        funnel_legend: funnel_parts(summary)
            .into_iter()
            .filter(|(_, _, count)| *count > 0)
            .map(|(label, fill, count)| (svg::swatch(fill), format!("{label}: {}", thousands(count))))
            .collect(),
        funnel: funnel_lines(summary),
        funnel_sum: funnel_sum(summary),
        disclosures,
        disclosures_title: match disclosures {
            1 => "1 comment may disclose harm".to_owned(),
            many => format!("{} comments may disclose harm", thousands(many)),
        },
        unacknowledged: thousands(summary.disclosures.unacknowledged + summary.disclosures.withdrawn),
        contact: consultation.safeguarding_contact.as_deref().map(neutral),
        has_codebook: rulebook.codebook.is_some(),
        themes_title: themes_title(&themes, summary),
        themes_subtitle: format!(
            "Comments that raise each theme, by the position that they take on it. {} as at {}. A comment can raise \
             several themes.",
            base(summary),
            days::long_time(as_at, &consultation.time_zone)
        ),
        legend: Fill::POSITIONS.iter().map(|fill| svg::swatch(*fill)).zip(POSITIONS).collect(),
        theme_bars: theme_bars(&themes),
        theme_rows: themes.iter().map(|theme| theme_row(theme, summary)).collect(),
        rest_rows: rest_rows(summary),
        positions: positions(summary),
        stance: stance(rulebook.codebook.as_ref().and_then(|book| book.stance.as_ref()), summary),
        polarity: counted("polarity", "mood", &summary.polarities, |label| label.key(), summary),
        tone: counted("tone", "tone", &summary.tones, |label| label.key(), summary),
        volume: volume(summary, &consultation.time_zone),
        cross,
        cross_notes,
        respondents: respondents(summary),
        languages: languages(summary),
        quotes: quotes(&themes, shown),
        campaign_title: campaign_title(summary),
        campaigns: campaigns(summary, shown),
        ways: ways(&themes, summary),
        needs: needs(summary),
        reliability: reliability.iter().map(reliability_row).collect(),
        threshold: THRESHOLD,
        has_crosstab: !summary.themes.is_empty() && summary.groups.iter().any(|group| !group.rows.is_empty()),
    };
    page.render()
}

const POSITIONS: [&str; 4] = ["for", "mixed", "unclear", "against"];

fn base(summary: &Summary) -> String {
    plural(summary.included, "comment included", "comments included")
}

/// Longest bar first; of equals the codebook's order.
fn sorted(themes: &[ThemeFigures]) -> Vec<&ThemeFigures> {
    let mut themes: Vec<&ThemeFigures> = themes.iter().collect();
    themes.sort_by_key(|theme| std::cmp::Reverse(theme.ways.all));
    themes
}

fn state(rulebook: &Rulebook, summary: &Summary, as_at: Timestamp) -> String {
    let consultation = &rulebook.consultation;
    let unsettled = summary.funnel.held + summary.funnel.waiting + summary.funnel.parked;
    match consultation.closes_at {
        None => "No closing time is set. Figures are provisional.".to_owned(),
        Some(closes) if closes > as_at => {
            format!("Open until {}. Figures are provisional.", days::long_time(closes, &consultation.time_zone))
        }
        Some(closes) => {
            let closed = format!("Closed at {}.", days::long_time(closes, &consultation.time_zone));
            match unsettled {
                0 => format!("{closed} Figures change only by a stated correction."),
                some => format!(
                    "{closed} Figures are provisional: {} still to be decided.",
                    plural(some, "comment is", "comments are")
                ),
            }
        }
    }
}

fn funnel_title(summary: &Summary) -> String {
    match summary.received() {
        0 => "No comments have been received".to_owned(),
        received => format!(
            "{} of {} received are included ({})",
            thousands(summary.included),
            plural(received, "comment", "comments"),
            whole_percent(summary.included, received)
        ),
    }
}

fn funnel_parts(summary: &Summary) -> [(&'static str, Fill, u64); 6] {
    let funnel = &summary.funnel;
    [
        ("Included", Fill::Solid, summary.included),
        ("Excluded", Fill::Slanted, summary.excluded_total()),
        ("Held for a person", Fill::Dotted, funnel.held),
        ("Possible disclosure of harm", Fill::Black, funnel.escalated),
        ("Could not be processed", Fill::Lined, funnel.failed),
        ("Waiting", Fill::White, funnel.waiting + funnel.parked),
    ]
}

fn funnel_bar(summary: &Summary) -> String {
    let parts = funnel_parts(summary);
    let desc: Vec<String> = parts
        .iter()
        .filter(|(_, _, count)| *count > 0)
        .map(|(label, _, count)| format!("{label}: {}", thousands(*count)))
        .collect();
    let drawn: Vec<(Fill, u64)> = parts.iter().map(|(_, fill, count)| (*fill, *count)).collect();
    svg::bar("funnel-bar", &drawn, summary.received(), &funnel_title(summary), &format!("Bar. {}.", desc.join(". ")))
}

fn funnel_lines(summary: &Summary) -> Vec<Line> {
    let funnel = &summary.funnel;
    let received = summary.received();
    let line = |label: &str, count: u64, detail: bool| Line {
        label: label.to_owned(),
        count: thousands(count),
        share: whole_percent(count, received),
        detail,
    };
    let mut lines = vec![line("Included in every figure", summary.included, false)];
    if summary.off_topic > 0 {
        lines.push(line("of these, about something else (still counted)", summary.off_topic, true));
    }
    for reason in Exclusion::ALL {
        let count = summary.excluded.get(&reason).copied().unwrap_or(0);
        if count > 0 || reason != Exclusion::Other {
            lines.push(line(&format!("Excluded: {}", reason.label()), count, false));
        }
    }
    lines.push(line("Held until a person has looked", funnel.held, false));
    for (reason, count) in &summary.held_by_reason {
        lines.push(line(&format!("of these: {}", held_label(*reason)), *count, true));
    }
    lines.push(line("Possible disclosures of harm (see below)", funnel.escalated, false));
    lines.push(line("Could not be processed", funnel.failed, false));
    for (reason, count) in &summary.failed_by_reason {
        lines.push(line(&format!("of these: {}", failed_label(reason)), *count, true));
    }
    if funnel.waiting > 0 {
        lines.push(line("Waiting to be read", funnel.waiting, false));
    }
    if funnel.parked > 0 {
        lines.push(line("Parked: given up on after several attempts", funnel.parked, false));
    }
    lines
}

fn funnel_sum(summary: &Summary) -> String {
    let funnel = &summary.funnel;
    format!(
        "{} included + {} excluded + {} held + {} possible disclosures + {} not processed + {} waiting or parked = {} \
         received",
        thousands(summary.included),
        thousands(summary.excluded_total()),
        thousands(funnel.held),
        thousands(funnel.escalated),
        thousands(funnel.failed),
        thousands(funnel.waiting + funnel.parked),
        thousands(summary.received())
    )
}

fn held_label(reason: ReasonKey) -> String {
    match reason {
        ReasonKey::LOW_CONFIDENCE => "the models are not sure enough".to_owned(),
        ReasonKey::LANGUAGE_NOT_SUPPORTED => "in a language that the models were not measured on".to_owned(),
        ReasonKey::TOO_LONG => "longer than the policy lets pass unread".to_owned(),
        ReasonKey::BLANK => "nothing readable was written".to_owned(),
        ReasonKey::SIGNAL_MISSING | ReasonKey::ENGINE_UNAVAILABLE => "a score is missing".to_owned(),
        other => match other.family() {
            "spam" => format!("may be advertising ({other})"),
            "abuse" => format!("may attack people ({other})"),
            _ => other.to_string(),
        },
    }
}

fn failed_label(reason: &str) -> String {
    match reason {
        "blank" => "blank".to_owned(),
        "no_text" => "no text column or field".to_owned(),
        "duplicate_id" => "an id that stands twice in one file, with different texts".to_owned(),
        "unreadable" => "unreadable".to_owned(),
        "too_large" => "too large".to_owned(),
        other => neutral(other),
    }
}

fn themes_title(themes: &[&ThemeFigures], summary: &Summary) -> String {
    match themes {
        [first, ..] if first.ways.all > 0 => format!(
            "“{}” is raised most often, in {} of {} ({})",
            neutral(&first.label),
            thousands(first.ways.all),
            plural(summary.included, "included comment", "included comments"),
            whole_percent(first.ways.all, summary.included)
        ),
        _ => "No theme has been raised yet".to_owned(),
    }
}

fn split_words(split: &Split) -> String {
    let mut words: Vec<String> = POSITIONS
        .iter()
        .zip(split.in_order())
        .map(|(position, count)| format!("{position} {}", thousands(count)))
        .collect();
    if split.not_judged > 0 {
        words.push(format!("not judged {}", thousands(split.not_judged)));
    }
    words.join(", ")
}

fn split_parts(split: &Split) -> Vec<(Fill, u64)> {
    let mut parts: Vec<(Fill, u64)> = Fill::POSITIONS.into_iter().zip(split.in_order()).collect();
    parts.push((Fill::White, split.not_judged));
    parts
}

fn theme_bars(themes: &[&ThemeFigures]) -> Vec<Bar> {
    let longest = themes.first().map_or(0, |theme| theme.ways.all);
    themes
        .iter()
        .enumerate()
        .map(|(at, theme)| {
            let words = split_words(&theme.split);
            let label = neutral(&theme.label);
            let title = format!("{label}: {}", plural(theme.ways.all, "comment", "comments"));
            Bar {
                svg: svg::bar(&format!("theme-{at}"), &split_parts(&theme.split), longest, &title, &format!("{words}.")),
                label,
                note: thousands(theme.ways.all),
                parts: words,
            }
        })
        .collect()
}

fn anchor(theme: &ThemeFigures) -> String {
    let letters: String =
        theme.id.as_str().chars().map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '-' }).collect();
    format!("quotes-{letters}")
}

fn theme_row(theme: &ThemeFigures, summary: &Summary) -> ThemeRow {
    ThemeRow {
        label: neutral(&theme.label),
        key: neutral(theme.id.as_str()),
        definition: neutral(&theme.definition),
        comments: thousands(theme.ways.all),
        share: whole_percent(theme.ways.all, summary.included),
        split: theme.split.in_order().map(thousands),
        to_check: thousands(theme.to_check),
        link: (!theme.quotes.is_empty()).then(|| anchor(theme)),
    }
}

fn rest_rows(summary: &Summary) -> Vec<ThemeRow> {
    let row = |label: &str, key: &str, ways: &ThreeWays| ThemeRow {
        label: label.to_owned(),
        key: key.to_owned(),
        definition: String::new(),
        comments: thousands(ways.all),
        share: whole_percent(ways.all, summary.included),
        split: [const { String::new() }; 4],
        to_check: String::new(),
        link: None,
    };
    let mut rows = vec![
        row("Other: says something, fits no theme", "OTHER", &summary.other),
        row("None: too short to code", "NONE", &summary.none),
    ];
    if summary.themes_not_judged.all > 0 {
        rows.push(row("Not judged: language not supported", "NOT_JUDGED", &summary.themes_not_judged));
    }
    rows
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
        _ => format!("“{}” are equally frequent: {} each", leaders.join("” and “"), plural(most, "comment", "comments")),
    }
}

fn positions(summary: &Summary) -> Option<Chart> {
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
    let subtitle = format!(
        "Position that whole comments take on the subject. {} of {} were judged.",
        thousands(judged),
        base(summary)
    );
    Some(chart("position", finding("position", &counts, judged), subtitle, &counts, judged))
}

fn stance(pair: Option<&StancePair>, summary: &Summary) -> Option<Chart> {
    let pair = pair?;
    let judged: u64 = summary.stances.values().sum();
    if judged == 0 {
        return None;
    }
    let label = |id: &crate::domain::codebook::ThemeId| {
        summary.themes.iter().find(|theme| theme.id == *id).map_or_else(|| id.to_string(), |theme| neutral(&theme.label))
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
    let title = match one.cmp(&other) {
        std::cmp::Ordering::Greater => {
            format!("More comments prefer “{structured}” ({}) than “{organic}” ({})", thousands(one), thousands(other))
        }
        std::cmp::Ordering::Less => {
            format!("More comments prefer “{organic}” ({}) than “{structured}” ({})", thousands(other), thousands(one))
        }
        std::cmp::Ordering::Equal => {
            format!("As many comments prefer “{structured}” as “{organic}”: {} each", thousands(one))
        }
    };
    let subtitle = format!(
        "Preferred form, whatever the position on the subject. {} of {} were judged.",
        thousands(judged),
        base(summary)
    );
    Some(chart("stance", title, subtitle, &counts, judged))
}

fn counted<L: Copy + Ord>(
    id: &str,
    subject: &str,
    counts: &std::collections::BTreeMap<L, u64>,
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
    let subtitle =
        format!("One {subject} for each comment. {} of {} were judged.", thousands(judged), base(summary));
    Some(chart(id, finding(subject, &counts, judged), subtitle, &counts, judged))
}

fn volume(summary: &Summary, zone: &str) -> Option<Volume> {
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
        half: if peak.1 % 2 == 0 { thousands(peak.1 / 2) } else { format!("{}.5", thousands(peak.1 / 2)) },
        most: thousands(peak.1),
        unit: step.word(),
        lines: columns.iter().map(|(day, count)| (step.long_label(*day), thousands(*count))).collect(),
        title,
    })
}

fn respondents(summary: &Summary) -> String {
    let known = plural(summary.respondents, "respondent", "respondents");
    match (summary.respondents, summary.unknown_respondents) {
        (0, _) => "The source does not say who wrote the comments.".to_owned(),
        (_, 0) => format!("The included comments come from {known}."),
        (_, some) => format!(
            "The included comments come from {known}; {} not say who wrote them.",
            plural(some, "further comment does", "further comments do")
        ),
    }
}

fn languages(summary: &Summary) -> Vec<Line> {
    let mut languages: Vec<(&String, &u64)> = summary.languages.iter().collect();
    languages.sort_by_key(|(code, count)| (std::cmp::Reverse(**count), (*code).clone()));
    languages
        .into_iter()
        .map(|(code, count)| Line {
            label: match code.as_str() {
                "en" => "English".to_owned(),
                "und" => "Cannot be told".to_owned(),
                code => neutral(code),
            },
            count: thousands(*count),
            share: whole_percent(*count, summary.included),
            detail: false,
        })
        .collect()
}

/// Values that stand side by side in one table.
const ACROSS: usize = 6;

fn cross_tables(summary: &Summary, themes: &[&ThemeFigures]) -> (Vec<CrossTable>, Vec<String>) {
    let (mut tables, mut notes) = (Vec::new(), Vec::new());
    for group in summary.groups.iter().filter(|_| !themes.is_empty()) {
        let name = group_name(group);
        if group.too_many_values {
            notes.push(format!("“{name}” has too many different values to be shown as a table."));
            continue;
        }
        let parts = group.rows.chunks(ACROSS);
        let of = parts.len();
        for (part, rows) in parts.enumerate() {
            let more = if of > 1 { format!(" (part {} of {of})", part + 1) } else { String::new() };
            tables.push(CrossTable {
                caption: format!("Themes by {name}{more}"),
                headers: rows.iter().map(|row| (neutral(&row.value), cell(row.base))).collect(),
                rows: themes
                    .iter()
                    .map(|theme| {
                        let at = summary.themes.iter().position(|known| known.id == theme.id).unwrap_or(0);
                        let cells = rows
                            .iter()
                            .map(|row| match (row.base, row.themes[at]) {
                                (Cell::Count(base), Cell::Count(count)) => {
                                    format!("{} ({})", thousands(count), whole_percent(count, base))
                                }
                                _ => "[c]".to_owned(),
                            })
                            .collect();
                        (neutral(&theme.label), cells)
                    })
                    .collect(),
            });
        }
    }
    (tables, notes)
}

fn group_name(group: &GroupTable) -> String {
    neutral(&group.name).replace('_', " ")
}

fn cell(cell: Cell) -> String {
    match cell {
        Cell::Count(count) => thousands(count),
        Cell::Withheld => "[c]".to_owned(),
    }
}

fn quotes<S: std::hash::BuildHasher>(
    themes: &[&ThemeFigures],
    shown: &HashMap<i64, Shown, S>,
) -> Vec<QuoteGroup> {
    themes
        .iter()
        .filter(|theme| !theme.quotes.is_empty())
        .map(|theme| QuoteGroup {
            anchor: anchor(theme),
            label: neutral(&theme.label),
            quotes: theme
                .quotes
                .iter()
                .map(|quote| QuoteView {
                    role: match quote.role {
                        Role::Typical => "Typical of this theme",
                        Role::Opposing => "Taking the opposite view",
                        Role::Evidence => "Giving an account or a reason",
                    },
                    position: quote.position.map_or("position not judged", Attitude::position),
                    response_id: shown.get(&quote.sequence).map(|shown| shown.response_id.clone()).unwrap_or_default(),
                    text: neutral(&quote.text),
                })
                .collect(),
        })
        .collect()
}

fn campaign_title(summary: &Summary) -> String {
    match summary.campaigns.len() as u64 {
        0 => "No organised response was found".to_owned(),
        some => format!(
            "{} found, with {} of {} ({})",
            plural(some, "organised response was", "organised responses were"),
            thousands(summary.in_campaigns()),
            plural(summary.included, "included comment", "included comments"),
            whole_percent(summary.in_campaigns(), summary.included)
        ),
    }
}

/// Campaigns on the page; the table has all.
const CAMPAIGNS: usize = 20;

fn campaigns<S: std::hash::BuildHasher>(summary: &Summary, shown: &HashMap<i64, Shown, S>) -> Vec<CampaignRow> {
    summary
        .campaigns
        .iter()
        .take(CAMPAIGNS)
        .map(|campaign| {
            let text = shown.get(&campaign.template).map(|shown| shown.text_redacted.clone()).unwrap_or_default();
            let start: String = text.chars().take(160).collect();
            CampaignRow {
                id: campaign.id.clone(),
                kind: match campaign.sharing {
                    crate::assess::repeats::Sharing::Exact => "word for word",
                    crate::assess::repeats::Sharing::Near => "with small edits",
                },
                text: if start.len() < text.len() { format!("{} [...]", start.trim_end()) } else { start },
                comments: thousands(campaign.comments),
                respondents: thousands(campaign.respondents),
                additions: thousands(campaign.with_additions),
                dates: match (campaign.first_seen, campaign.last_seen) {
                    (Some(first), Some(last)) if first == last => days::long_day(first),
                    (Some(first), Some(last)) => format!("{} to {}", days::long_day(first), days::long_day(last)),
                    _ => "no date".to_owned(),
                },
                positions: split_words(&campaign.split),
            }
        })
        .collect()
}

fn ways(themes: &[&ThemeFigures], summary: &Summary) -> Vec<(String, [String; 3])> {
    let row = |label: String, ways: &ThreeWays| {
        (label, [ways.all, ways.distinct, ways.without_campaigns].map(thousands))
    };
    let mut rows = vec![row("Included comments".to_owned(), &summary.ways)];
    if summary.positions.not_judged < summary.included {
        let splits = [&summary.positions, &summary.positions_distinct, &summary.positions_without_campaigns];
        for (at, position) in POSITIONS.iter().enumerate() {
            rows.push((format!("Position: {position}"), splits.map(|split| thousands(split.in_order()[at]))));
        }
    }
    let headline = themes.iter().any(|theme| theme.headline);
    for theme in themes.iter().filter(|theme| theme.headline || !headline) {
        rows.push(row(format!("Theme: {}", neutral(&theme.label)), &theme.ways));
    }
    rows
}

fn needs(summary: &Summary) -> Vec<Need> {
    let funnel = &summary.funnel;
    let need = |what: &str, count: u64, todo: &str| {
        (count > 0).then(|| Need { what: what.to_owned(), count: thousands(count), todo: todo.to_owned() })
    };
    let disclosures = summary.disclosures;
    [
        need(
            "Possible disclosures of harm, not acknowledged",
            disclosures.unacknowledged + disclosures.withdrawn,
            "The safeguarding lead reads them now and records that they have.",
        ),
        need(
            "Possible disclosures of harm, acknowledged",
            disclosures.escalated - disclosures.unacknowledged,
            "With the safeguarding lead. Nothing to do here.",
        ),
        need("Held", funnel.held, "Read each and accept or reject it. None is counted or published until then."),
        need(
            "Tags with low confidence",
            summary.low_confidence,
            "Check the themes of these comments: confidence_band is “check” in tags.csv.",
        ),
        need(
            "Personal data that only a person can tell",
            summary.personal_data_to_check,
            "Words that may be names are masked. Read before you publish any text.",
        ),
        need("Could not be processed", funnel.failed, "See exclusions.csv for the reasons; correct the source and send it again."),
        need("Parked", funnel.parked, "Given up on after several attempts. Ask the operator to look at the queue."),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn reliability_row(measured: &Reliability) -> (String, String, String, String, String) {
    (
        neutral(&measured.name),
        format!("{:.2}", measured.figure),
        measured.interval.map_or_else(|| "not given".to_owned(), |(low, high)| format!("{low:.2} to {high:.2}")),
        thousands(measured.n),
        neutral(&measured.data),
    )
}
