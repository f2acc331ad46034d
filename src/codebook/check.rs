//! What is doubtful about a codebook and its examples, beyond what is plainly wrong.

use std::collections::BTreeMap;

use super::example::{Example, Origin, split_key};
use super::near::{cosine, edits, mean};
use crate::domain::codebook::Codebook;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weight {
    /// It works, and a person should look.
    Warning,
    /// It does not work.
    Error,
}

/// One thing found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad.
    pub weight: Weight,
    /// File, and key or line.
    pub place: String,
    /// What, and what to do.
    pub message: String,
}

/// Under so many examples a theme cannot be learnt at all.
pub const FEWEST: usize = 3;

/// From so many on its figures mean something.
pub const ENOUGH: usize = 16;

/// Labels with so small a share of edits are taken for each other.
const SAME_LETTERS: f32 = 0.25;

/// Labels whose vectors are so near mean the same to the encoder.
const SAME_MEANING: f32 = 0.92;

/// Themes whose examples have means so near overlap. Comments on one subject are near anyway.
const OVERLAP: f32 = 0.95;

/// Of two themes, this share of the rarer one's examples under both makes them one.
const TOGETHER: f32 = 0.7;

/// Themes with so few examples are too rare to say who stands together with whom.
const RARE: usize = 8;

/// How much nearer another theme an example must be before it is named.
const MARGIN: f32 = 0.05;

/// Examples named for each theme; the rest are counted.
const NAMED: usize = 5;

/// Vectors of what is checked, in the order of what they belong to.
#[derive(Clone, Copy, Debug)]
pub struct Vectors<'a> {
    /// Of each theme's label.
    pub labels: &'a [Vec<f32>],
    /// Of each example's text.
    pub examples: &'a [Vec<f32>],
}

/// Everything doubtful, by theme. `file` names the codebook.
pub fn check(codebook: &Codebook, file: &str, examples: &[Example], vectors: Option<Vectors<'_>>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut warn = |place: String, message: String| {
        findings.push(Finding { weight: Weight::Warning, place, message });
    };
    for theme in &codebook.themes {
        let at = |key: &str| format!("{file}: theme `{}`.{key}", theme.id);
        if theme.includes.iter().all(|line| line.trim().is_empty()) {
            warn(at("includes"), "is empty: say what counts, so that coders and the machine agree".to_owned());
        }
        for (line, text) in theme.includes.iter().enumerate().filter(|(_, text)| text.trim().is_empty()) {
            warn(at(&format!("includes[{}]", line + 1)), format!("is empty{text}"));
        }
        for (line, text) in theme.examples.iter().enumerate().filter(|(_, text)| text.trim().is_empty()) {
            warn(at(&format!("examples[{}]", line + 1)), format!("is empty{text}"));
        }
    }
    near_labels(codebook, file, vectors, &mut warn);
    let positives = positives(codebook, examples);
    for (theme, rows) in codebook.themes.iter().zip(&positives) {
        let place = format!("{file}: theme `{}`.examples", theme.id);
        match rows.len() {
            count if count < FEWEST => findings.push(Finding {
                weight: Weight::Error,
                place,
                message: format!("has {count} of at least {FEWEST} examples, here and in the files together"),
            }),
            count if count < ENOUGH => findings.push(Finding {
                weight: Weight::Warning,
                place,
                message: format!("has {count} examples: it will be tagged, and how well cannot be told under {ENOUGH}"),
            }),
            _ => {}
        }
    }
    clashes(codebook, examples, &mut findings);
    overlaps(codebook, file, &positives, examples, vectors, &mut findings);
    if let Some(vectors) = vectors {
        strays(codebook, &positives, examples, vectors.examples, &mut findings);
    }
    findings
}

/// Comments under each theme; lines that describe it are none.
fn positives(codebook: &Codebook, examples: &[Example]) -> Vec<Vec<usize>> {
    let raises = |row: &usize, theme: usize| {
        examples[*row].origin != Origin::Described && examples[*row].themes.get(theme) == Some(&Some(true))
    };
    (0..codebook.themes.len()).map(|theme| (0..examples.len()).filter(|row| raises(row, theme)).collect()).collect()
}

fn near_labels(codebook: &Codebook, file: &str, vectors: Option<Vectors<'_>>, warn: &mut impl FnMut(String, String)) {
    for (at, theme) in codebook.themes.iter().enumerate() {
        for (other_at, other) in codebook.themes.iter().enumerate().take(at) {
            let letters = edits(&theme.label, &other.label).min(edits(theme.id.as_str(), other.id.as_str()));
            let meaning = vectors.map_or(0.0, |vectors| cosine(&vectors.labels[at], &vectors.labels[other_at]));
            let place = format!("{file}: theme `{}`.label", theme.id);
            if letters <= SAME_LETTERS {
                warn(
                    place,
                    format!(
                        "`{}` reads like `{}` of theme `{}`: coders will mix them up",
                        theme.label, other.label, other.id
                    ),
                );
            } else if meaning >= SAME_MEANING {
                let message = format!(
                    "`{}` means nearly what `{}` of theme `{}` does (cosine {meaning:.2})",
                    theme.label, other.label, other.id
                );
                warn(place, message);
            }
        }
    }
}

/// The same text with a yes here and a no there.
fn clashes(codebook: &Codebook, examples: &[Example], findings: &mut Vec<Finding>) {
    let mut by_text: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (row, example) in examples.iter().enumerate() {
        by_text.entry(split_key(&example.text)).or_default().push(row);
    }
    for rows in by_text.into_values().filter(|rows| rows.len() > 1) {
        let mut clashing = Vec::new();
        for (at, theme) in codebook.themes.iter().enumerate() {
            let said = |wanted: bool| rows.iter().find(|row| examples[**row].themes.get(at) == Some(&Some(wanted)));
            if let (Some(yes), Some(no)) = (said(true), said(false)) {
                clashing.push((theme.id.as_str(), *yes, *no));
            }
        }
        if let Some((_, yes, no)) = clashing.first() {
            let names: Vec<&str> = clashing.iter().map(|(theme, ..)| *theme).collect();
            findings.push(Finding {
                weight: Weight::Error,
                place: examples[*no].place.clone(),
                message: format!(
                    "has the same text as {}, and they disagree on {}",
                    examples[*yes].place,
                    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
                ),
            });
        }
    }
}

fn overlaps(
    codebook: &Codebook,
    file: &str,
    positives: &[Vec<usize>],
    examples: &[Example],
    vectors: Option<Vectors<'_>>,
    findings: &mut Vec<Finding>,
) {
    // The mean over everything is what all comments on the subject share; it is taken off first.
    let middle = vectors.map(|vectors| mean(vectors.examples.iter()));
    let prototype = |rows: &[usize]| -> Option<Vec<f32>> {
        let (vectors, middle) = (vectors?, middle.as_ref()?);
        let own = mean(rows.iter().map(|row| &vectors.examples[*row]));
        Some(own.iter().zip(middle).map(|(own, middle)| own - middle).collect())
    };
    for (at, theme) in codebook.themes.iter().enumerate() {
        for (other_at, other) in codebook.themes.iter().enumerate().take(at) {
            let (mine, theirs) = (&positives[at], &positives[other_at]);
            let rarer = mine.len().min(theirs.len());
            if rarer < RARE {
                continue;
            }
            let both = mine.iter().filter(|row| examples[**row].themes[other_at] == Some(true)).count();
            let share = both as f32 / rarer as f32;
            let place = format!("{file}: theme `{}`", theme.id);
            let warning = |message: String| Finding { weight: Weight::Warning, place: place.clone(), message };
            if share >= TOGETHER {
                findings.push(warning(format!(
                    "stands together with `{}` in {both} of the rarer one's {rarer} examples: are they one theme?",
                    other.id
                )));
            } else if let (Some(mine), Some(theirs)) = (prototype(mine), prototype(theirs)) {
                let near = cosine(&mine, &theirs);
                if near >= OVERLAP {
                    findings.push(warning(format!(
                        "has examples that mean nearly what those of `{}` do (cosine of their means {near:.2})",
                        other.id
                    )));
                }
            }
        }
    }
}

/// Examples of one theme alone that sit nearer the others of another theme than of their own.
fn strays(
    codebook: &Codebook,
    positives: &[Vec<usize>],
    examples: &[Example],
    vectors: &[Vec<f32>],
    findings: &mut Vec<Finding>,
) {
    for (at, theme) in codebook.themes.iter().enumerate() {
        let mut found: Vec<(f32, usize, usize)> = Vec::new();
        for &row in positives[at].iter().filter(|row| examples[**row].origin == Origin::Listed) {
            if examples[row].themes.iter().filter(|known| **known == Some(true)).count() > 1 {
                continue;
            }
            let to = |theme: usize| {
                let others = positives[theme].iter().filter(|other| **other != row);
                cosine(&vectors[row], &mean(others.map(|other| &vectors[*other])))
            };
            if positives[at].len() < 2 {
                continue;
            }
            let own = to(at);
            let best = (0..codebook.themes.len())
                .filter(|other| *other != at && !positives[*other].is_empty())
                .map(|other| (to(other), other))
                .max_by(|a, b| a.0.total_cmp(&b.0));
            if let Some((near, other)) = best
                && near > own + MARGIN
            {
                found.push((near - own, row, other));
            }
        }
        found.sort_by(|a, b| b.0.total_cmp(&a.0));
        for (_, row, other) in found.iter().take(NAMED) {
            findings.push(Finding {
                weight: Weight::Warning,
                place: examples[*row].place.clone(),
                message: format!(
                    "reads more like `{}` than like the other examples of `{}`",
                    codebook.themes[*other].id, theme.id
                ),
            });
        }
    }
}
