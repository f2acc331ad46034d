//! The report page: the summary in words, tables and charts, in one HTML file.
//!
//! Every sentence that states a finding is made here from counts; the template
//! holds the order of the page and what never changes. No markup of a comment
//! reaches the page: the template escapes, and charts escape for themselves.

use std::collections::HashMap;

use askama::Template;
use jiff::Timestamp;

use super::cells::neutral;
use super::charts::{self, Bar, Chart, Line, POSITIONS, Volume, base};
use super::cross::{CrossTable, cross_tables};
use super::days;
use super::rows::Shown;
use super::svg::{self, Fill};
use super::words::{plural, thousands, whole_percent};
use crate::assess::report::groups::THRESHOLD;
use crate::assess::report::place::Exclusion;
use crate::assess::report::quotes::Role;
use crate::assess::report::{Split, Summary, ThemeFigures, ThreeWays};
use crate::domain::decision::ReasonKey;
use crate::domain::opinion::{Attitude, Polarity, Tone};
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
    caution: &'static str,
    codebook_version: String,
    model_version: &'a str,
    pipeline_version: String,
    other_rulebooks: String,
    patterns: &'static str,
    funnel_title: String,
    funnel_bar: String,
    funnel_legend: Vec<(String, String)>,
    funnel: Vec<Line>,
    funnel_sum: String,
    disclosures: u64,
    disclosures_title: String,
    disclosures_state: String,
    unacknowledged: u64,
    none_included: bool,
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
    campaign_note: &'static str,
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
    let unacknowledged = summary.disclosures.unacknowledged;
    let page = Page {
        title: neutral(&consultation.title),
        question: neutral(&consultation.question),
        organisation: neutral(&consultation.organisation),
        as_at: days::long_time(as_at, &consultation.time_zone),
        state: state(rulebook, summary, as_at),
        received: thousands(summary.received()),
        included: thousands(summary.included),
        caution: match summary.included {
            0 => "No comment is included yet. The report below shows what it will hold.",
            1..30 => {
                "Fewer than 30 comments are included. Read the comments themselves; percentages of so few say little."
            }
            _ => "",
        },
        codebook_version: rulebook.codebook.as_ref().map_or_else(|| "none".to_owned(), |book| book.version.clone()),
        model_version: &rulebook.model_version,
        pipeline_version: rulebook.version.0.chars().take(16).collect(),
        other_rulebooks: other_rulebooks(rulebook, summary),
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
        disclosures_state: match unacknowledged {
            0 => "All acknowledged".to_owned(),
            some => format!("{} not yet acknowledged", thousands(some)),
        },
        unacknowledged,
        none_included: summary.included == 0,
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
        positions: charts::positions(summary),
        stance: charts::stance(rulebook.codebook.as_ref().and_then(|book| book.stance.as_ref()), summary),
        polarity: charts::counted("polarity", "mood", &summary.polarities, Polarity::key, summary),
        tone: charts::counted("tone", "tone", &summary.tones, Tone::key, summary),
        volume: charts::volume(summary, &consultation.time_zone),
        cross,
        cross_notes,
        respondents: respondents(summary),
        languages: languages(summary),
        quotes: quotes(&themes, shown),
        campaign_title: campaign_title(summary),
        campaign_note: if summary.campaigns.len() > CAMPAIGNS {
            "These are the 20 largest. All are in campaigns.csv."
        } else {
            ""
        },
        campaigns: campaigns(summary, shown),
        ways: ways(&themes, summary),
        needs: needs(summary),
        reliability: reliability.iter().map(reliability_row).collect(),
        threshold: THRESHOLD,
        has_crosstab: !summary.themes.is_empty() && summary.groups.iter().any(|group| !group.rows.is_empty()),
    };
    page.render()
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
            format!("Open until {}. Figures are provisional.", days::closing_time(closes, &consultation.time_zone))
        }
        Some(closes) => {
            let ended = format!("Closed at {}.", days::closing_time(closes, &consultation.time_zone));
            match unsettled {
                0 => format!("{ended} Figures change only by a stated correction."),
                some => format!(
                    "{ended} Figures are provisional: {} still to be decided.",
                    plural(some, "comment is", "comments are")
                ),
            }
        }
    }
}

/// What is not under the standard that the page names, as a sentence; empty where all is.
fn other_rulebooks(rulebook: &Rulebook, summary: &Summary) -> String {
    let others = summary.judged_by.iter().filter(|(version, _)| **version != rulebook.version.0);
    match others.map(|(_, count)| count).sum() {
        0 => String::new(),
        1 => "One comment carries the judgement of another version of models, policy or codebook.".to_owned(),
        count => format!(
            "{} comments carry the judgement of other versions of models, policy or codebook.",
            thousands(count)
        ),
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

/// The same without the positions that nobody takes.
fn split_words_found(split: &Split) -> String {
    let words: Vec<String> =
        split_words(split).split(", ").filter(|part| !part.ends_with(" 0")).map(str::to_owned).collect();
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
                svg: svg::bar(
                    &format!("theme-{at}"),
                    &split_parts(&theme.split),
                    longest,
                    &title,
                    &format!("{words}."),
                ),
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

fn quotes<S: std::hash::BuildHasher>(themes: &[&ThemeFigures], shown: &HashMap<i64, Shown, S>) -> Vec<QuoteGroup> {
    themes
        .iter()
        .filter(|theme| !theme.quotes.is_empty())
        .map(|theme| (theme, matches!(theme.split.most_frequent(), Some(Attitude::Positive | Attitude::Negative))))
        .map(|(theme, decided)| QuoteGroup {
            anchor: anchor(theme),
            label: neutral(&theme.label),
            quotes: theme
                .quotes
                .iter()
                .map(|quote| QuoteView {
                    role: match quote.role {
                        Role::Typical => "Typical of this theme",
                        Role::Opposing if decided => "Taking the opposite view",
                        Role::Opposing => "Taking a clear side",
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
                    (Some(first), Some(last)) => days::stretch(first, last),
                    _ => "no date".to_owned(),
                },
                positions: split_words_found(&campaign.split),
            }
        })
        .collect()
}

fn ways(themes: &[&ThemeFigures], summary: &Summary) -> Vec<(String, [String; 3])> {
    let row =
        |label: String, ways: &ThreeWays| (label, [ways.all, ways.distinct, ways.without_campaigns].map(thousands));
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
            disclosures.unacknowledged,
            "The safeguarding lead reads them now and records that they have.",
        ),
        need(
            "Possible disclosures of harm, acknowledged",
            disclosures.escalated + disclosures.withdrawn - disclosures.unacknowledged,
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
        need(
            "Could not be processed",
            funnel.failed,
            "See exclusions.csv for the reasons; correct the source and send it again.",
        ),
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
