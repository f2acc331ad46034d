//! What can be labelled, and the names and values under which files have it.

use std::collections::BTreeMap;

use crate::domain::decision::Verdict;
use crate::domain::opinion::{Attitude, Polarity, Stance, Tone};
use crate::domain::rulebook::Rulebook;
use crate::domain::score::Attribute;

/// A label that applies or does not.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Binary {
    /// An attribute of the published list.
    Attribute(Attribute),
    /// A theme of the codebook, by its id.
    Theme(String),
}

impl Binary {
    /// The name in files.
    pub fn key(&self) -> &str {
        match self {
            Self::Attribute(attribute) => attribute.key(),
            Self::Theme(theme) => theme,
        }
    }
}

/// A question with exactly one answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// What happens to the comment.
    Verdict,
    /// Attitude with a codebook, polarity without.
    Sentiment,
    /// Over the codebook's pair of themes.
    Stance,
    /// How it is said.
    Tone,
}

impl Class {
    /// Every one, in the order of reports.
    pub const ALL: [Self; 4] = [Self::Verdict, Self::Sentiment, Self::Stance, Self::Tone];

    /// The name in files.
    pub fn key(self) -> &'static str {
        match self {
            Self::Verdict => "verdict",
            Self::Sentiment => "sentiment",
            Self::Stance => "stance",
            Self::Tone => "tone",
        }
    }
}

/// One theme of a codebook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Theme {
    /// Its id.
    pub id: String,
    /// Whether it is one of the headline themes.
    pub headline: bool,
}

/// What a rulebook answers, in which words, and from which point it acts.
#[derive(Clone, Debug, Default)]
pub struct Codes {
    /// Themes of the codebook, in its order.
    pub themes: Vec<Theme>,
    /// Whether there is a codebook, so that sentiment is attitude.
    pub codebook: bool,
    /// Probability from which a label acts or shows, by its key.
    pub points: BTreeMap<String, f64>,
}

impl Codes {
    /// The codes of a rulebook: an attribute acts from the mildest rule on it,
    /// else from the point that `point` names, which reads the models' manifest.
    pub fn new(rulebook: &Rulebook, point: &dyn Fn(&str) -> Option<f32>) -> Self {
        let mut points = BTreeMap::new();
        for attribute in Attribute::ALL {
            let rules = rulebook.policy.rules.iter().filter(|rule| rule.attribute == attribute);
            let mildest = rules.map(|rule| rule.from.get()).min_by(f32::total_cmp);
            let shown = rulebook.off_topic_from.filter(|_| attribute == Attribute::OffTopic);
            let found =
                mildest.or(shown.map(crate::domain::score::Probability::get)).or_else(|| point(attribute.key()));
            points.extend(found.map(|found| (attribute.key().to_owned(), f64::from(found))));
        }
        let book = rulebook.codebook.as_ref();
        let themes: Vec<Theme> = book
            .iter()
            .flat_map(|book| &book.themes)
            .map(|theme| {
                points.insert(theme.id.to_string(), f64::from(theme.tag_from.get()));
                Theme { id: theme.id.to_string(), headline: theme.headline }
            })
            .collect();
        Self { themes, codebook: book.is_some(), points }
    }

    /// The values of a class, in the order of reports.
    pub fn values(&self, class: Class) -> Vec<&'static str> {
        match class {
            Class::Verdict => Verdict::ALL.iter().map(|verdict| verdict.key()).collect(),
            Class::Sentiment if self.codebook => Attitude::ALL.iter().map(|attitude| attitude.key()).collect(),
            Class::Sentiment => Polarity::ALL.iter().map(|polarity| polarity.key()).collect(),
            Class::Stance => Stance::ALL.iter().map(|stance| stance.key()).collect(),
            Class::Tone => Tone::ALL.iter().map(|tone| tone.key()).collect(),
        }
    }

    /// The place of a value among [`Codes::values`]; an attitude may be given as the
    /// position that exports call it (`for`, `against`).
    pub fn value(&self, class: Class, value: &str) -> Option<usize> {
        if class == Class::Sentiment
            && self.codebook
            && let Some(place) = Attitude::ALL.iter().position(|attitude| attitude.position() == value)
        {
            return Some(place);
        }
        self.values(class).iter().position(|known| *known == value)
    }

    /// The theme with this id.
    pub fn theme(&self, id: &str) -> Option<&Theme> {
        self.themes.iter().find(|theme| theme.id == id)
    }

    /// Every label that a file can have, for messages.
    pub fn names(&self) -> Vec<String> {
        let attributes = Attribute::ALL.iter().map(|attribute| attribute.key().to_owned());
        let classes = Class::ALL.iter().map(|class| class.key().to_owned());
        let themes = self.themes.iter().map(|theme| theme.id.clone());
        attributes.chain(classes).chain(["themes".to_owned(), "spans".to_owned()]).chain(themes).collect()
    }
}
