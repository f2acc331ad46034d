//! What a system answered: our judgement, or a file in the shape that `assess` prints.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{BufRead, BufReader, Read};

use serde::Deserialize;
use serde_json::Value;

use super::labelled::{self, Row};
use super::labels::{Binary, Class, Codes};
use super::table::Problems;
use crate::domain::assessment::{Assessment, Sentiment};
use crate::domain::score::{Attribute, Distribution, Probability, Signals, Span};

/// What a system said of one comment. What it did not say is absent.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answer {
    /// Probabilities.
    pub scores: BTreeMap<Binary, f64>,
    /// Themes that it applied.
    pub tags: Option<BTreeSet<String>>,
    /// The value chosen, and how likely it is.
    pub classes: BTreeMap<Class, (usize, Option<f64>)>,
    /// Characters that carry a reason of abuse.
    pub spans: Option<Vec<Span>>,
    /// Characters that carry `toxic`, however unlikely it is.
    pub carrying: Option<Vec<Span>>,
}

/// A system with its answers, one for each row of the set where it has one.
#[derive(Clone, Debug)]
pub struct System {
    /// What tables call it.
    pub name: String,
    /// Whether the rulebook's operating points are its own.
    pub own_points: bool,
    /// In the order of the set's rows.
    pub answers: Vec<Option<Answer>>,
    /// Whether it applied themes anywhere; if so, no list is an empty one.
    pub tags: bool,
    /// The classes that it answers anywhere; if so, no answer is a wrong one.
    pub classes: BTreeSet<Class>,
    /// Whether it marked spans anywhere.
    pub spans: bool,
}

impl System {
    /// Puts answers, one a row, under a name.
    pub fn new(name: &str, own_points: bool, answers: Vec<Option<Answer>>) -> Self {
        let given = || answers.iter().flatten();
        Self {
            name: name.to_owned(),
            own_points,
            tags: given().any(|answer| answer.tags.is_some()),
            classes: given().flat_map(|answer| answer.classes.keys().copied()).collect(),
            spans: given().any(|answer| answer.spans.is_some()),
            answers,
        }
    }
}

fn likely(probability: Probability) -> f64 {
    f64::from(probability.get())
}

impl Answer {
    /// Our own judgement, with the scores of themes that were not tagged.
    pub fn of(assessment: &Assessment, signals: &Signals, codes: &Codes) -> Self {
        let mut scores: BTreeMap<Binary, f64> = assessment
            .attributes
            .iter()
            .map(|(attribute, probability)| (Binary::Attribute(*attribute), likely(*probability)))
            .collect();
        for scored in &signals.themes {
            if codes.theme(scored.theme.as_str()).is_some() {
                scores.insert(Binary::Theme(scored.theme.to_string()), likely(scored.score.probability));
            }
        }
        let mut classes = BTreeMap::new();
        let mut put = |class, value: &str, probability| {
            classes.extend(codes.value(class, value).map(|place| (class, (place, probability))));
        };
        put(Class::Verdict, assessment.verdict.key(), None);
        match &assessment.sentiment {
            Some(Sentiment::Attitude(attitude)) => top(attitude, |label, p| put(Class::Sentiment, label.key(), p)),
            Some(Sentiment::Polarity(polarity)) => top(polarity, |label, p| put(Class::Sentiment, label.key(), p)),
            None => {}
        }
        if let Some((stance, probability)) = assessment.stance {
            put(Class::Stance, stance.key(), Some(likely(probability)));
        }
        if let Some((tone, probability)) = assessment.tone {
            put(Class::Tone, tone.key(), Some(likely(probability)));
        }
        let abuse = assessment.reasons.iter().filter(|reason| reason.key.family() == "abuse");
        let toxic = signals.attributes.get(&Attribute::Toxic).and_then(|score| score.span);
        Self {
            scores,
            tags: assessment.themes.as_ref().map(|tags| tags.iter().map(|tag| tag.theme.to_string()).collect()),
            classes,
            spans: Some(abuse.filter_map(|reason| reason.span).collect()),
            carrying: Some(toxic.into_iter().collect()),
        }
    }
}

fn top<L: Copy + PartialEq>(distribution: &Distribution<L>, mut put: impl FnMut(L, Option<f64>)) {
    let (label, probability) = distribution.top();
    put(label, Some(likely(probability)));
}

/// A line as `assess` prints it; whatever is left out was not answered.
/// Two fields go beyond it: `theme_probabilities` (of all themes, not only of those
/// applied) and `spans` (else the spans of the reasons of abuse count).
#[derive(Debug, Deserialize)]
struct Line {
    id: Value,
    #[serde(default)]
    error: Option<String>,
    #[serde(default)]
    verdict: Option<String>,
    #[serde(default)]
    reasons: Option<Vec<ReasonLine>>,
    #[serde(default)]
    attributes: Option<BTreeMap<String, Option<f64>>>,
    #[serde(default)]
    themes: Option<Vec<ThemeLine>>,
    #[serde(default)]
    theme_probabilities: Option<BTreeMap<String, Option<f64>>>,
    #[serde(default)]
    sentiment: Option<LabelLine>,
    #[serde(default)]
    stance: Option<LabelLine>,
    #[serde(default)]
    tone: Option<LabelLine>,
    #[serde(default)]
    spans: Option<Value>,
}

#[derive(Debug, Deserialize)]
struct ReasonLine {
    key: String,
    #[serde(default)]
    span: Option<Value>,
}

#[derive(Debug, Deserialize)]
struct ThemeLine {
    id: String,
}

#[derive(Debug, Deserialize)]
struct LabelLine {
    label: String,
    #[serde(default)]
    probability: Option<f64>,
    #[serde(default)]
    probabilities: Option<BTreeMap<String, f64>>,
}

/// Reads answers and puts each at the row with its id.
///
/// The second value says how many lines belong to no row.
///
/// # Errors
/// Every problem with file, line and field; also when no line belongs to a row.
pub fn read(
    name: &str,
    input: impl Read,
    rows: &[Row],
    codes: &Codes,
) -> Result<(Vec<Option<Answer>>, usize), Problems> {
    let places: HashMap<&str, usize> = rows.iter().enumerate().map(|(at, row)| (row.id.as_str(), at)).collect();
    let mut answers: Vec<Option<Answer>> = vec![None; rows.len()];
    let (mut strangers, mut matched, mut problems) = (0, 0, Problems::default());
    for (at, line) in BufReader::new(input).split(b'\n').enumerate() {
        let bytes = line.map_err(|error| Problems::one(format!("{name}: cannot be read: {error}")))?;
        if bytes.trim_ascii().is_empty() {
            continue;
        }
        let mut told = |problem: String| problems.add(format!("{name}, line {}: {problem}", at + 1));
        // A list would be taken for the fields in order.
        if !bytes.trim_ascii().starts_with(b"{") {
            told("not as `assess` prints it: no JSON object".to_owned());
            continue;
        }
        let line: Line = match serde_json::from_slice(&bytes) {
            Ok(line) => line,
            Err(error) if error.is_data() => {
                // What serde says of a field never repeats more than the field's kind.
                told(format!("not as `assess` prints it (column {})", error.column()));
                continue;
            }
            Err(error) => {
                told(format!("not valid JSON (column {})", error.column()));
                continue;
            }
        };
        let id = match &line.id {
            Value::String(id) => id.trim().to_owned(),
            other => other.to_string(),
        };
        let Some(place) = places.get(id.as_str()).copied() else {
            strangers += 1;
            continue;
        };
        matched += 1;
        match line.answer(codes) {
            Ok(_) if answers[place].is_some() => told("an id that stands in the file already".to_owned()),
            Ok(answer) => answers[place] = Some(answer),
            Err(problem) => told(problem),
        }
    }
    if matched == 0 {
        problems.add(format!("{name}: no id of it is an id of the set"));
    }
    problems.or((answers, strangers))
}

impl Line {
    fn answer(self, codes: &Codes) -> Result<Answer, String> {
        if self.error.is_some() {
            return Err("`error`: the comment was not judged".to_owned());
        }
        let mut scores = BTreeMap::new();
        for (key, value) in self.attributes.into_iter().flatten() {
            let attribute = Attribute::from_key(&key).ok_or_else(|| format!("`attributes`: no attribute `{key}`"))?;
            if let Some(value) = value {
                scores.insert(Binary::Attribute(attribute), probability(value, "attributes", &key)?);
            }
        }
        let known = |field: &str, id: &str| match codes.theme(id) {
            Some(theme) => Ok(theme.id.clone()),
            None => Err(format!("`{field}`: no theme `{id}` in the codebook")),
        };
        for (id, value) in self.theme_probabilities.into_iter().flatten() {
            if let Some(value) = value {
                let theme = known("theme_probabilities", &id)?;
                scores.insert(Binary::Theme(theme), probability(value, "theme_probabilities", &id)?);
            }
        }
        let tags = self
            .themes
            // Without a codebook the list is empty for every comment, which is no answer.
            .filter(|_| codes.codebook)
            .map(|tags| tags.iter().map(|tag| known("themes", &tag.id)).collect::<Result<BTreeSet<_>, _>>())
            .transpose()?;
        let mut classes = BTreeMap::new();
        let verdict = self.verdict.map(|label| LabelLine { label, probability: None, probabilities: None });
        for (class, found) in [
            (Class::Verdict, verdict),
            (Class::Sentiment, self.sentiment),
            (Class::Stance, self.stance),
            (Class::Tone, self.tone),
        ] {
            let Some(found) = found else { continue };
            let key = class.key();
            let place = codes
                .value(class, &found.label)
                .ok_or_else(|| format!("`{key}`: its label is none of {}", codes.values(class).join(", ")))?;
            let of = found.probabilities.as_ref().and_then(|all| all.get(&found.label).copied());
            let sure = found.probability.or(of).map(|value| probability(value, key, &found.label)).transpose()?;
            classes.insert(class, (place, sure));
        }
        let read = |value: &Value| labelled::spans(value, None).map_err(|problem| format!("`spans`: {problem}"));
        let spans = match (&self.spans, &self.reasons) {
            (Some(spans), _) => Some(read(spans)?),
            (None, Some(reasons)) => {
                let abuse = reasons.iter().filter(|reason| reason.key.starts_with("abuse."));
                let spans = abuse.filter_map(|reason| reason.span.as_ref()).filter(|span| !span.is_null());
                Some(read(&Value::Array(spans.cloned().collect()))?)
            }
            (None, None) => None,
        };
        Ok(Answer { scores, tags, classes, spans, carrying: None })
    }
}

fn probability(value: f64, field: &str, key: &str) -> Result<f64, String> {
    if (0.0..=1.0).contains(&value) { Ok(value) } else { Err(format!("`{field}`: `{key}` is not between 0 and 1")) }
}
