//! What can be read off a text before any model sees it.

use super::score::Span;

/// The language of a text, as an ISO 639-1 code where one exists.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Language(String);

impl Language {
    /// No language can be told: no letters, or too few.
    pub const UNDETERMINED: &'static str = "und";

    /// Wraps a code such as `en`.
    pub fn new(code: impl Into<String>) -> Self {
        Self(code.into())
    }

    /// The code.
    pub fn code(&self) -> &str {
        &self.0
    }

    /// Whether nothing could be told.
    pub fn is_undetermined(&self) -> bool {
        self.0 == Self::UNDETERMINED
    }
}

/// A kind of personal data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PiiKind {
    /// E-mail address.
    Email,
    /// Telephone number.
    Phone,
    /// UK postcode.
    Postcode,
    /// National Insurance number.
    NationalInsurance,
    /// Payment card number.
    Card,
    /// Social media handle.
    Handle,
    /// Street address.
    Address,
    /// A person's name.
    Name,
    /// A named school.
    School,
}

impl PiiKind {
    /// Every kind.
    pub const ALL: [Self; 9] = [
        Self::Email,
        Self::Phone,
        Self::Postcode,
        Self::NationalInsurance,
        Self::Card,
        Self::Handle,
        Self::Address,
        Self::Name,
        Self::School,
    ];

    /// The stable key; the mark in redacted text is this in square brackets.
    pub fn key(self) -> &'static str {
        match self {
            Self::Email => "email",
            Self::Phone => "phone",
            Self::Postcode => "postcode",
            Self::NationalInsurance => "national_insurance",
            Self::Card => "card",
            Self::Handle => "handle",
            Self::Address => "address",
            Self::Name => "name",
            Self::School => "school",
        }
    }

    /// The kind with this key.
    pub fn from_key(key: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.key() == key)
    }
}

/// Personal data found in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pii {
    /// What it is.
    pub kind: PiiKind,
    /// Where, in characters of the original text.
    pub span: Span,
    /// `false` where only a person can tell (a capitalised word that may be a
    /// name): masked in exports all the same, and never quoted.
    pub certain: bool,
}

/// The text as the models shall read it, tied to the original character by character.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct JudgedText {
    /// Normalised: used for judging only, never stored or shown.
    pub text: String,
    /// For each character of `text`, the characters of the original that it stands for.
    pub origin: Vec<Span>,
}

impl JudgedText {
    /// The original characters behind a range of characters of the judged text;
    /// `None` for an empty or outlying range.
    pub fn to_original(&self, span: Span) -> Option<Span> {
        let covered = self.origin.get(span.start..span.end.min(self.origin.len()))?;
        let start = covered.iter().map(|origin| origin.start).min()?;
        let end = covered.iter().map(|origin| origin.end).max()?;
        Some(Span { start, end })
    }
}

/// Numbers read off the text's surface, in the order of [`SurfaceFeatures::NAMES`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SurfaceFeatures(pub Vec<f32>);

impl SurfaceFeatures {
    /// What each number is. Counts are `ln(1 + n)`, the rest are shares of 0 to 1.
    pub const NAMES: [&'static str; 32] = [
        "links",
        "link_hosts",
        "public_good_links",
        "suspect_links",
        "hidden_links",
        "emails",
        "phones",
        "handles",
        "chat_apps",
        "contact_me",
        "money",
        "per_cent",
        "urgency",
        "promotion",
        "site_praise",
        "capitals",
        "exclamations",
        "digits",
        "emoji",
        "repeated_words",
        "repeated_lines",
        "longest_run",
        "non_latin",
        "mixed_script_words",
        "invisible_characters",
        "markup_tags",
        "unmasked_words",
        "length",
        "words",
        "first_person",
        "second_person",
        "subject_words",
    ];

    /// Where the feature called `name` stands.
    pub fn index(name: &str) -> Option<usize> {
        Self::NAMES.iter().position(|known| *known == name)
    }
}

/// Everything read off one text before the encoder.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// For the encoder.
    pub judged: JudgedText,
    /// Sentences as characters of `judged.text`, in order, without gaps that hold letters.
    pub sentences: Vec<Span>,
    /// Told from the text.
    pub language: Language,
    /// Found in the original.
    pub pii: Vec<Pii>,
    /// For the spam head.
    pub features: SurfaceFeatures,
    /// Links in the original text.
    pub link_count: usize,
    /// Characters of the original.
    pub char_count: usize,
    /// Words of the original.
    pub word_count: usize,
    /// Whether nothing readable was written (white space, controls and invisible characters only).
    pub blank: bool,
}
