//! What a person wrote, with its identity and origin.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// Wraps a non-empty identifier; surrounding white space is removed.
            /// `None` when nothing is left.
            pub fn new(text: impl AsRef<str>) -> Option<Self> {
                let text = text.as_ref().trim();
                (!text.is_empty()).then(|| Self(text.to_owned()))
            }

            /// The identifier as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}
pub(crate) use text_id;

text_id!(
    /// The comment's identifier at its source, unique within (consultation, source).
    CommentId
);
text_id!(
    /// One question with its codebook, policy, time zone and opening hours.
    ConsultationId
);
text_id!(
    /// Where comments come from: a file's stem, a site, an exchange.
    SourceName
);

/// The identity of a comment: (consultation, source, id).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommentKey {
    /// The consultation that the comment answers.
    pub consultation: ConsultationId,
    /// Where it came from.
    pub source: SourceName,
    /// Its identifier there.
    pub id: CommentId,
}

/// Who wrote it, as far as the source says. None of this leaves the restricted store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Author {
    /// An opaque identifier given by the source.
    pub id: Option<String>,
    /// Display name.
    pub name: Option<String>,
    /// E-mail address.
    pub email: Option<String>,
}

impl Author {
    /// The strongest key that tells one respondent from another: id, else e-mail
    /// (lower-cased), else display name. `None` when the source says nothing.
    pub fn respondent_key(&self) -> Option<String> {
        let clean = |value: &Option<String>| {
            value.as_deref().map(str::trim).filter(|text| !text.is_empty()).map(str::to_lowercase)
        };
        clean(&self.id)
            .map(|id| format!("id:{id}"))
            .or_else(|| clean(&self.email).map(|email| format!("email:{email}")))
            .or_else(|| clean(&self.name).map(|name| format!("name:{name}")))
    }
}

/// One comment as it arrived: the text is exactly what the person sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Comment {
    /// (consultation, source, id).
    pub key: CommentKey,
    /// Orders edits of one comment; `None` when the source gives no order.
    pub revision: Option<i64>,
    /// When this text was written, if the source says so; orders edits when `revision` is absent.
    pub edited_at: Option<Timestamp>,
    /// The words, untouched.
    pub text: String,
    /// When the comment was posted.
    pub posted_at: Option<Timestamp>,
    /// Who wrote it.
    pub author: Author,
    /// Where it can be read.
    pub url: Option<String>,
    /// The comment that it answers.
    pub parent_id: Option<String>,
    /// The language that the source declares (BCP 47), a hint only.
    pub language: Option<String>,
    /// Declared breakdowns: respondent type, age band, ward, by column name.
    pub groups: BTreeMap<String, String>,
}

impl Comment {
    /// Words and whose they are by; of the rest nothing is known.
    pub fn bare(key: CommentKey, text: impl Into<String>) -> Self {
        Self {
            key,
            revision: None,
            edited_at: None,
            text: text.into(),
            posted_at: None,
            author: Author::default(),
            url: None,
            parent_id: None,
            language: None,
            groups: BTreeMap::new(),
        }
    }
}
