//! The files about the files: `README.txt` and `run.json`.

use jiff::Timestamp;

use super::folder::Written;
use super::{ExportOptions, days::long_time};
use crate::assess::report::Summary;
use crate::assess::report::groups::THRESHOLD;
use crate::domain::rulebook::Rulebook;

/// What differs from run to run; it stands in `run.json` and nowhere else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunInfo {
    /// Names the run.
    pub id: String,
    /// When it started.
    pub started_at: Timestamp,
    /// Name and version of the software.
    pub software: String,
}

/// `README.txt`: what each file is, what its figures are of, what not to conclude.
pub fn readme(rulebook: &Rulebook, summary: &Summary, options: &ExportOptions) -> String {
    let consultation = &rulebook.consultation;
    let zone = &consultation.time_zone;
    let mut text = format!(
        "{title}\n{line}\n{question}\n{organisation}\n\nAs at {as_at}. {received} comments and rows received, \
         {included} included.\n\n",
        title = super::cells::neutral(&consultation.title),
        line = "=".repeat(consultation.title.chars().count().clamp(3, 78)),
        question = super::cells::neutral(&consultation.question),
        organisation = super::cells::neutral(&consultation.organisation),
        as_at = long_time(options.as_at, zone),
        received = summary.received(),
        included = summary.included,
    );
    text += "START WITH\n\
        report.html           the report; open it in a browser, print it, publish it after reading it\n\n\
        TABLES FOR OFFICERS (personal data masked; not for publication as they stand)\n\
        responses.csv         one row for every comment and row received, whatever became of it\n\
        responses.jsonl       the same for machines, with the tags of each comment\n\
        tags.csv              one row for every theme of every included comment, with the words that carry it\n\
        theme_summary.csv     the report's figures for each theme\n\
        exclusions.csv        what does not count, and why; no text\n\
        data_dictionary.csv   every column of every table\n";
    if !summary.campaigns.is_empty() {
        text += "campaigns.csv         organised responses: shown, never removed\n";
    }
    if summary.groups.iter().any(|group| !group.rows.is_empty()) && !summary.themes.is_empty() {
        text += "crosstab.csv          themes by declared group; small numbers withheld, may be published\n";
    }
    text += "run.json              when and with what this was made, and a checksum of every file\n\n";
    if options.restricted {
        text += "restricted/           ONLY for people named for it. Do not copy it with the rest.\n\
            \u{20} disclosures.csv     possible disclosures of harm: read these today\n\
            \u{20} excluded_texts.csv  texts that are held, or excluded as spam or abuse, so that a person can check\n\
            \u{20} failed_rows.csv     rows that could not be read, as they came\n\
            \u{20} key.csv             which response is which comment and person\n\n";
    }
    let rules = format!(
        "HOW THE FILES ARE WRITTEN\n\
        CSV is UTF-8 with a byte-order mark, commas, CRLF. A text that a spreadsheet would run as a formula has\n\
        an apostrophe in front. Personal data is masked, as in [name] or [email]; masking by machine misses some,\n\
        so read before you publish. Hidden characters (controls, zero-width, direction) show as \u{fffd}.\n\
        Offsets in tags.csv count characters of text_redacted from 0, without that apostrophe. A spreadsheet cell\n\
        holds 32,767 characters; longer texts are whole in these files and may be cut by the spreadsheet.\n\
        An escalated comment has an id, the consultation and its status here, and nothing else; its id cannot be\n\
        matched with any other. Cells under {THRESHOLD} in crosstab.csv are withheld: [c].\n\n\
        WHAT THE FIGURES SAY\n\
        received = included + excluded + held + escalated + failed + waiting + parked. Percentages are of included\n\
        comments; a comment can raise several themes. People chose to answer: the figures describe those who did,\n\
        not the public. Claims in comments have not been checked. Themes and positions come from software; how\n\
        far it can be trusted stands in the report.\n"
    );
    (text + &rules).replace('\n', "\r\n")
}

/// `run.json`: the only file that may differ between two exports of the same content.
pub fn run_json(
    rulebook: &Rulebook,
    summary: &Summary,
    options: &ExportOptions,
    key_name: &str,
    files: &[Written],
) -> String {
    let files: Vec<serde_json::Value> = files
        .iter()
        .map(|file| serde_json::json!({"name": file.name, "size_bytes": file.size_bytes, "sha256": file.sha256}))
        .collect();
    let funnel = &summary.funnel;
    let body = serde_json::json!({
        "run_id": options.run.id,
        "started_at": options.run.started_at.to_string(),
        "software": options.run.software,
        "as_at": options.as_at.to_string(),
        "consultation_id": rulebook.consultation.id.as_str(),
        "pipeline_version": rulebook.version.0,
        "judged_by": summary.judged_by,
        "model_version": rulebook.model_version,
        "codebook_version": rulebook.codebook.as_ref().map(|book| &book.version),
        "pseudonym_key": key_name,
        "counts": {
            "received": summary.received(),
            "included": summary.included,
            "excluded": summary.excluded.iter().map(|(reason, count)| (reason.key(), *count))
                .collect::<std::collections::BTreeMap<_, _>>(),
            "held": funnel.held,
            "escalated": funnel.escalated,
            "failed": funnel.failed,
            "waiting": funnel.waiting,
            "parked": funnel.parked,
        },
        "files": files,
    });
    format!("{body:#}\n")
}
