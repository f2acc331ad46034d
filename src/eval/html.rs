//! A report as one HTML page: no script, nothing from outside, no comment's text.

use std::fmt::Write;

use askama::Template;

use super::grids::{self, Grid, name};
use super::report::{CalibrationBin, Report, SetReport};
use crate::export::cells::neutral;
use crate::export::svg::escape;
use crate::export::words::thousands;

#[derive(Template)]
#[template(path = "eval.html")]
struct Page {
    title: String,
    note: String,
    facts: Vec<(String, String)>,
    sets: Vec<SetView>,
}

struct SetView {
    name: String,
    rows: String,
    consultation: String,
    note: String,
    remarks: Vec<String>,
    figures: Option<Grid>,
    pictures: Vec<Picture>,
    tables: Vec<Grid>,
}

struct Picture {
    label: String,
    svg: String,
    words: String,
}

/// The whole report.
///
/// # Errors
/// When the template cannot be written, which a full memory may cause.
pub fn render(report: &Report) -> Result<String, askama::Error> {
    let page = Page {
        title: neutral(&report.title),
        note: neutral(&report.note),
        facts: report.facts.iter().map(|(what, fact)| (what.clone(), neutral(fact))).collect(),
        sets: report.sets.iter().enumerate().map(|(at, set)| view(at, set)).collect(),
    };
    page.render()
}

fn view(at: usize, set: &SetReport) -> SetView {
    let mut tables = grids::breakdowns(set);
    tables.extend(grids::bias(set));
    tables.extend(grids::confusions(set));
    tables.extend(grids::verdicts(set));
    tables.extend(grids::worst(set));
    let pictures = set.labels.iter().enumerate().filter_map(|(place, label)| {
        let bins = label.calibration.first()?.as_ref()?;
        let error = label.measures.iter().find(|measure| measure.key == "ece")?.systems[0]?;
        Some(Picture {
            label: label.label.clone(),
            svg: reliability(&format!("reliability-{at}-{place}"), &label.label, bins),
            words: format!("calibration error {:.3}, {} rows", error.value, thousands(error.rows as u64)),
        })
    });
    SetView {
        name: name(&set.name),
        rows: thousands(set.rows as u64),
        consultation: set.consultation.clone(),
        note: neutral(&set.note),
        remarks: set.remarks.iter().map(|remark| neutral(remark)).collect(),
        figures: grids::figures(set, true),
        pictures: pictures.collect(),
        tables,
    }
}

/// Said against came true, with a circle for each bin that has rows.
fn reliability(id: &str, label: &str, bins: &[CalibrationBin]) -> String {
    const SIDE: f64 = 200.0;
    const EDGE: f64 = 26.0;
    let (x, y) = (|share: f64| EDGE + share * SIDE, |share: f64| 8.0 + (1.0 - share) * SIDE);
    let known: Vec<&CalibrationBin> = bins.iter().filter(|bin| bin.rows > 0).collect();
    let most = known.iter().map(|bin| bin.rows).max().unwrap_or(1).max(1) as f64;
    let words: Vec<String> = known
        .iter()
        .map(|bin| format!("said {:.2}, came true {:.2} of {}", bin.probability, bin.came_true, bin.rows))
        .collect();
    let mut out = format!(
        "<svg id=\"{id}\" width=\"{:.0}\" height=\"{:.0}\" role=\"img\" aria-labelledby=\"{id}-title {id}-desc\">\
         <title id=\"{id}-title\">Reliability of {}</title><desc id=\"{id}-desc\">{}.</desc>\
         <rect x=\"{EDGE}\" y=\"8\" width=\"{SIDE}\" height=\"{SIDE}\" fill=\"#ffffff\" stroke=\"#b1b4b6\"/>\
         <line x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" stroke=\"#505a5f\" stroke-dasharray=\"3 3\"/>",
        EDGE + SIDE + 10.0,
        SIDE + 30.0,
        escape(label),
        escape(&words.join("; ")),
        x(0.0),
        y(0.0),
        x(1.0),
        y(1.0),
    );
    let points: Vec<String> =
        known.iter().map(|bin| format!("{:.1},{:.1}", x(bin.probability), y(bin.came_true))).collect();
    let _ = write!(
        out,
        "<polyline points=\"{}\" fill=\"none\" stroke=\"#1d70b8\" stroke-width=\"1.5\"/>",
        points.join(" ")
    );
    for bin in &known {
        let _ = write!(
            out,
            "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"{:.1}\" fill=\"#1d70b8\" fill-opacity=\"0.75\" stroke=\"#0b0c0c\"/>",
            x(bin.probability),
            y(bin.came_true),
            // Area by rows, and never too small to be seen.
            3.0 + 7.0 * (bin.rows as f64 / most).sqrt()
        );
    }
    for (share, word) in [(0.0, "0"), (0.5, "0.5"), (1.0, "1")] {
        let _ = write!(
            out,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\" font-size=\"12\" fill=\"#0b0c0c\">{word}</text>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\" font-size=\"12\" fill=\"#0b0c0c\">{word}</text>",
            x(share),
            SIDE + 24.0,
            EDGE - 5.0,
            y(share) + 4.0
        );
    }
    out + "</svg>"
}
