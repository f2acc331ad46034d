//! Every table's columns, with their meaning: headers and the data dictionary come
//! from the same lists, so one cannot forget the other.

use std::collections::HashSet;

use crate::assess::report::Summary;

/// A column as the data dictionary describes it: name, meaning, type, allowed values, example.
pub type Column = (&'static str, &'static str, &'static str, &'static str, &'static str);

/// A column of `responses`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Field {
    /// One of [`RESPONSES`], by name.
    Fixed(&'static str),
    /// A declared group: its name as declared, and the column's name.
    Group(String, String),
    /// A theme: its place in the codebook, and the column's name.
    Theme(usize, String),
}

impl Field {
    /// The column's name.
    pub fn name(&self) -> &str {
        match self {
            Self::Fixed(name) => name,
            Self::Group(_, column) | Self::Theme(_, column) => column,
        }
    }
}

/// Columns of `responses.csv` that are the same for every consultation.
pub const RESPONSES: &[Column] = &[
    (
        "response_id",
        "Stable pseudonym of the comment, the same in every table",
        "text",
        "R-, F- (failed row) or E- (escalated) and 10 letters",
        "R-7Q2M9XK4TB",
    ),
    (
        "respondent_id",
        "Stable pseudonym of the respondent; empty where the source does not say who wrote it",
        "text",
        "P- and 12 letters",
        "P-0V8D3M6W1KZA",
    ),
    ("consultation_id", "Consultation that the comment answers", "text", "", "mentoring"),
    ("posted_at", "When the comment was posted, UTC", "date and time, ISO 8601", "", "2026-03-04T09:30:00Z"),
    ("channel", "Source that it came from", "text", "", "web_form"),
    ("language", "Language that the text was read as", "ISO 639-1", "und where it cannot be told", "en"),
    ("status", "Where the comment counts", "key", "included; excluded; held; failed; escalated", "included"),
    (
        "status_reason",
        "Why it is not included",
        "key",
        "spam; abuse; other; repeat; late; withdrawn; for held rows the first reason's key; for failed rows blank, duplicate_id, unreadable, too_large, no_text",
        "repeat",
    ),
    (
        "status_by",
        "Rule of the policy that decided; built-in where it is not in the policy file; (first stage) behind it where plain spam never reached the encoder",
        "text",
        "",
        "insult-hold",
    ),
    ("duplicate_kind", "How the text is shared with other respondents", "key", "none; exact; near", "none"),
    (
        "duplicate_group",
        "Comments with the same value share their text",
        "text",
        "C and a number (campaign), D and a number",
        "D3",
    ),
    ("campaign_id", "Organised response that it belongs to; see campaigns.csv", "text", "C and a number", "C1"),
    (
        "text_redacted",
        "The comment with personal data masked; empty for held, failed, escalated, withdrawn, spam and abuse",
        "text",
        "masks: [name], [email], [phone], ...; hidden characters: \u{fffd}",
        "My mentor [name] listened.",
    ),
    ("redaction_count", "Masks in text_redacted", "whole number", "", "1"),
    ("word_count", "Words of the comment", "whole number", "", "42"),
    ("position", "Attitude to the consultation's subject", "key", "for; mixed; unclear; against", "for"),
    ("position_confidence", "Calibrated probability of position", "number", "0 to 1", "0.91"),
    (
        "polarity",
        "General mood, where the consultation has no codebook",
        "key",
        "positive; neutral; negative",
        "neutral",
    ),
    ("polarity_confidence", "Calibrated probability of polarity", "number", "0 to 1", "0.8"),
    (
        "stance",
        "Preference over the codebook's pair of themes",
        "key",
        "prefers_structured; prefers_organic; both; none",
        "both",
    ),
    ("stance_confidence", "Calibrated probability of stance", "number", "0 to 1", "0.77"),
    (
        "tone",
        "How it is said; not the same as position",
        "key",
        "distressed; angry; humorous; critical; warm; neutral",
        "warm",
    ),
    ("tone_confidence", "Calibrated probability of tone", "number", "0 to 1", "0.66"),
    ("off_topic", "1 where it is about something else; it still counts", "0 or 1", "0; 1", "0"),
    ("themes", "Keys of the themes that it raises", "text", "keys joined with \"; \"; OTHER; NONE", "stigma; organic"),
    ("lowest_confidence", "Smallest probability among its theme tags", "number", "0 to 1", "0.71"),
    ("review_state", "Whether a person has checked it", "key", "machine_only", "machine_only"),
    ("codebook_version", "Version of the codebook", "text", "", "1.2"),
    ("model_version", "Version of the models", "text", "", "2026-03"),
    ("pipeline_version", "Hash over models, policy, thresholds and codebook that judged it", "text", "", "3f9c0a"),
];

/// Columns of `tags.csv`.
pub const TAGS: &[Column] = &[
    ("response_id", "The comment", "text", "", "R-7Q2M9XK4TB"),
    ("theme_key", "The theme", "key", "see the codebook", "stigma"),
    ("theme_label", "The theme as readers see it", "text", "", "Stigma"),
    ("parent_key", "The theme above it", "key", "", ""),
    ("theme_position", "Attitude of the part that carries the theme", "key", "for; mixed; unclear; against", "against"),
    ("theme_position_confidence", "Calibrated probability of theme_position", "number", "0 to 1", "0.7"),
    ("confidence", "Calibrated probability that the comment raises the theme", "number", "0 to 1", "0.93"),
    (
        "confidence_band",
        "The same for reading: high from 0.8, medium from 0.6, else check",
        "key",
        "high; medium; check",
        "high",
    ),
    ("source", "Who assigned the tag", "key", "machine", "machine"),
    (
        "evidence_start",
        "First character of the evidence in text_redacted, from 0, an apostrophe before a formula sign not counted",
        "whole number",
        "",
        "0",
    ),
    ("evidence_end", "One past its last character", "whole number", "", "48"),
    ("evidence_text", "That slice of text_redacted", "text", "", "They gave them purple passes"),
    ("codebook_version", "Version of the codebook", "text", "", "1.2"),
    ("model_version", "Version of the models", "text", "", "2026-03"),
];

/// Columns of `theme_summary.csv`.
pub const THEME_SUMMARY: &[Column] = &[
    ("consultation_id", "Consultation", "text", "", "mentoring"),
    (
        "theme_key",
        "The theme; OTHER: substantive, fits no theme; NONE: too short to code; NOT_JUDGED: language not supported",
        "key",
        "",
        "stigma",
    ),
    ("theme_label", "The theme as readers see it", "text", "", "Stigma"),
    ("comments", "Included comments that raise it", "whole number", "", "120"),
    ("respondents", "Different respondents who raise it", "whole number", "", "118"),
    ("base", "Included comments", "whole number", "", "1842"),
    (
        "percent",
        "comments of base; themes overlap, so the column may add up to more than 100",
        "number",
        "0 to 100",
        "6.5",
    ),
    ("for", "Parts that carry the theme and speak for the subject", "whole number", "", "20"),
    ("mixed", "... on both sides", "whole number", "", "30"),
    ("unclear", "... without a clear attitude", "whole number", "", "10"),
    ("against", "... against it", "whole number", "", "60"),
    ("not_judged", "... whose attitude was not judged", "whole number", "", "0"),
    ("distinct_texts", "comments, each different text once", "whole number", "", "101"),
    ("without_campaigns", "comments, organised responses left out", "whole number", "", "95"),
    ("to_check", "Tags with a probability under 0.6", "whole number", "", "7"),
];

/// Columns of `exclusions.csv`.
pub const EXCLUSIONS: &[Column] = &[
    ("response_id", "The comment or row that does not count", "text", "", "R-7Q2M9XK4TB"),
    ("status", "excluded, held or failed", "key", "excluded; held; failed", "excluded"),
    ("reason", "As status_reason in responses", "key", "", "spam"),
    ("reason_keys", "Every reason that fired, strictest first", "text", "keys joined with \"; \"", "spam.link_farm"),
    ("rule", "Rules that fired, in the same order", "text", "", "built-in"),
    ("confidence", "Probability that carried the first reason", "number", "0 to 1", "0.98"),
    ("note", "A sentence for a person; holds no comment text", "text", "", "row 12 has no text"),
    ("decided_by", "Who decided", "key", "machine; source", "machine"),
    ("pipeline_version", "What judged it", "text", "", "3f9c0a"),
];

/// Columns of `campaigns.csv`.
pub const CAMPAIGNS: &[Column] = &[
    ("campaign_id", "Organised response, numbered by first arrival", "text", "", "C1"),
    ("kind", "Word for word, or with small edits", "key", "exact; near", "near"),
    ("template_response_id", "Comment that stands for the wording", "text", "", "R-7Q2M9XK4TB"),
    ("template_text", "Its text, personal data masked", "text", "", ""),
    ("comments", "Included comments", "whole number", "", "64"),
    ("respondents", "Different respondents", "whole number", "", "64"),
    ("with_additions", "Comments at least eight words longer than the template", "whole number", "", "9"),
    ("first_seen", "Day of the first, in the consultation's time zone", "date", "", "2026-03-04"),
    ("last_seen", "Day of the last", "date", "", "2026-03-09"),
    ("for", "Comments for the subject", "whole number", "", "60"),
    ("mixed", "... on both sides", "whole number", "", "2"),
    ("unclear", "... without a clear attitude", "whole number", "", "2"),
    ("against", "... against it", "whole number", "", "0"),
    ("not_judged", "... whose attitude was not judged", "whole number", "", "0"),
    ("themes", "Themes that it carries, with comments", "text", "key (comments), joined with \"; \"", "organic (60)"),
];

/// Columns of `crosstab.csv`.
pub const CROSSTAB: &[Column] = &[
    ("consultation_id", "Consultation", "text", "", "mentoring"),
    ("group_name", "Declared group", "text", "", "age_band"),
    ("group_value", "Its value; Not stated where the comment has none", "text", "", "11 to 15"),
    ("theme_key", "The theme", "key", "", "stigma"),
    ("base", "Included comments of this group; [c] withheld", "whole number", "[c]", "310"),
    ("comments", "Of these, comments that raise the theme; [c] withheld", "whole number", "[c]", "44"),
    ("percent", "comments of base; [c] withheld", "number", "0 to 100; [c]", "14.2"),
    ("suppressed", "1 where the cell is under 10, or would tell one that is", "0 or 1", "0; 1", "0"),
];

/// Columns of `data_dictionary.csv`.
pub const DICTIONARY: &[Column] = &[
    ("table", "File", "text", "", "tags"),
    ("column", "Column", "text", "", "confidence"),
    ("meaning", "What it holds", "text", "", ""),
    ("type", "How it is written", "text", "", ""),
    ("allowed_values", "What may stand there", "text", "", ""),
    ("example", "Made up", "text", "", ""),
];

/// Columns of `restricted/disclosures.csv`.
pub const DISCLOSURES: &[Column] = &[
    ("escalated_id", "The comment's id in responses.csv", "text", "", "E-7Q2M9XK4TB"),
    ("acknowledged_at", "When somebody looked; empty: nobody yet", "date and time, ISO 8601", "", ""),
    ("acknowledged_by", "Who", "text", "", ""),
    ("escalated_at", "When it was escalated", "date and time, ISO 8601", "", ""),
    ("posted_at", "When it was posted", "date and time, ISO 8601", "", ""),
    ("source", "Where it came from", "text", "", ""),
    ("source_id", "Its id there", "text", "", ""),
    ("url", "Where it can be read", "text", "", ""),
    ("author_id", "Who wrote it, as far as the source says", "text", "", ""),
    ("author_name", "", "text", "", ""),
    ("author_email", "", "text", "", ""),
    (
        "why",
        "Reasons, strictest first, with probabilities and rules",
        "text",
        "",
        "safeguarding.disclosure 0.93 (safeguarding-high)",
    ),
    ("text", "Every word of it", "text", "", ""),
];

/// Columns of `restricted/key.csv`.
pub const KEY: &[Column] = &[
    ("response_id", "As in responses.csv", "text", "", ""),
    ("respondent_id", "As in responses.csv", "text", "", ""),
    ("source", "Where it came from", "text", "", ""),
    ("source_id", "Its id there", "text", "", ""),
    ("url", "Where it can be read", "text", "", ""),
    ("author_id", "Who wrote it, as far as the source says", "text", "", ""),
    ("author_name", "", "text", "", ""),
    ("author_email", "", "text", "", ""),
];

/// Columns of `restricted/excluded_texts.csv`.
pub const EXCLUDED_TEXTS: &[Column] = &[
    ("response_id", "As in responses.csv", "text", "", ""),
    ("status", "excluded or held", "key", "", ""),
    ("reason", "As in exclusions.csv", "key", "", ""),
    ("reason_keys", "Every reason that fired", "text", "", ""),
    ("source", "Where it came from", "text", "", ""),
    ("source_id", "Its id there", "text", "", ""),
    ("text", "Every word of it", "text", "", ""),
];

/// Columns of `restricted/failed_rows.csv`.
pub const FAILED_ROWS: &[Column] = &[
    ("response_id", "As in responses.csv", "text", "", ""),
    ("source", "File or channel", "text", "", ""),
    ("row", "Row or line, from 1; 0 where there is none", "whole number", "", ""),
    ("source_id", "The row's id, if it could be read", "text", "", ""),
    ("reason", "Why it failed", "key", "", ""),
    ("detail", "The same for a person", "text", "", ""),
    ("raw", "What was there, up to 64 KiB", "text", "", ""),
];

/// Names of the columns.
pub fn names(columns: &[Column]) -> impl Iterator<Item = &'static str> {
    columns.iter().map(|column| column.0)
}

/// The columns of `responses` for what was found: a column appears when something fills it.
pub fn response_fields(summary: &Summary) -> Vec<Field> {
    let filled = |name: &str| match name {
        "respondent_id" => summary.respondents > 0,
        "duplicate_kind" | "duplicate_group" => {
            summary.ways.distinct < summary.ways.all || !summary.campaigns.is_empty()
        }
        "campaign_id" => !summary.campaigns.is_empty(),
        "position" | "position_confidence" => summary.positions.not_judged < summary.included,
        "polarity" | "polarity_confidence" => !summary.polarities.is_empty(),
        "stance" | "stance_confidence" => !summary.stances.is_empty(),
        "tone" | "tone_confidence" => !summary.tones.is_empty(),
        "themes" | "lowest_confidence" | "codebook_version" => !summary.themes.is_empty(),
        _ => true,
    };
    let mut taken: HashSet<String> = names(RESPONSES).map(str::to_owned).collect();
    let mut unique = |prefix: &str, name: &str| {
        let letters: String = name
            .trim()
            .chars()
            .map(|c| if c.is_alphanumeric() { c.to_ascii_lowercase() } else { '_' })
            .take(60)
            .collect();
        let mut column = format!("{prefix}_{letters}");
        while !taken.insert(column.clone()) {
            column.push('_');
        }
        column
    };
    let groups: Vec<Field> =
        summary.group_names.iter().map(|name| Field::Group(name.clone(), unique("group", name))).collect();
    let themes: Vec<Field> = summary
        .themes
        .iter()
        .enumerate()
        .map(|(at, theme)| Field::Theme(at, unique("theme", theme.id.as_str())))
        .collect();
    let mut fields = Vec::new();
    for name in names(RESPONSES).filter(|name| filled(name)) {
        match name {
            "language" => fields.extend(groups.iter().cloned()),
            "themes" => fields.extend(themes.iter().cloned()),
            _ => {}
        }
        fields.push(Field::Fixed(name));
    }
    fields
}
