//! What a comment thinks and how it says so: three separate judgements, never merged.

macro_rules! labels {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident => $key:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($(#[$vdoc])* $variant),+ }

        impl $name {
            /// Every value, in published order.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The stable key used in files and messages.
            pub fn key(self) -> &'static str {
                match self { $(Self::$variant => $key),+ }
            }

            /// The value with this key.
            pub fn from_key(key: &str) -> Option<Self> {
                match key { $($key => Some(Self::$variant),)+ _ => None }
            }
        }
    };
}

labels!(
    /// Attitude to the consultation's subject. Reports call it position.
    Attitude {
        /// Values it: "for".
        Positive => "positive",
        /// No attitude shows: "unclear".
        Neutral => "neutral",
        /// Doubts or opposes it: "against".
        Negative => "negative",
        /// Real weight on both sides.
        Mixed => "mixed",
    }
);

impl Attitude {
    /// The word that reports and exports use for it.
    pub fn position(self) -> &'static str {
        match self {
            Self::Positive => "for",
            Self::Neutral => "unclear",
            Self::Negative => "against",
            Self::Mixed => "mixed",
        }
    }
}

labels!(
    /// General mood of a text that answers no particular question.
    Polarity {
        /// Pleased.
        Positive => "positive",
        /// Neither.
        Neutral => "neutral",
        /// Displeased.
        Negative => "negative",
    }
);

labels!(
    /// Over the pair of themes that the codebook declares; about form, not worth.
    Stance {
        /// For organised mentoring.
        PrefersStructured => "prefers_structured",
        /// For mentoring that grows by itself.
        PrefersOrganic => "prefers_organic",
        /// Worth in each.
        Both => "both",
        /// Says nothing on form.
        Neither => "none",
    }
);

labels!(
    /// How it is said.
    Tone {
        /// Fear, grief, despair.
        Distressed => "distressed",
        /// Outrage or contempt.
        Angry => "angry",
        /// Sarcasm, irony, jokes.
        Humorous => "humorous",
        /// Displeased or doubtful, but calm.
        Critical => "critical",
        /// Pleased, grateful, affectionate.
        Warm => "warm",
        /// None of these.
        Neutral => "neutral",
    }
);
