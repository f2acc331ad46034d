//! Everything read off a text before the encoder, in one call.
//!
//! [`read`] owns the order of the steps; each step lives beside it.

use unicode_segmentation::UnicodeSegmentation;

use crate::domain::reading::Reading;

use super::{features, language, links, normalise, pii, sentences};

/// What is known about a text from outside it.
#[derive(Clone, Copy, Debug)]
pub struct ReadHints<'a> {
    /// The language that the source declares; only breaks ties.
    pub language: Option<&'a str>,
    /// The consultation's language, for texts too short to tell.
    pub default_language: &'a str,
}

impl Default for ReadHints<'_> {
    fn default() -> Self {
        Self { language: None, default_language: "en" }
    }
}

/// Reads one text. Never fails: bad input is data here.
pub fn read(text: &str, hint: ReadHints<'_>) -> Reading {
    let links = links::find(text);
    let normalised = normalise::normalise(text, &links);
    let pii = pii::find(text, &links);
    let features = features::of(&features::Found { text, links: &links, normalised: &normalised, pii: &pii });
    Reading {
        sentences: sentences::split(&normalised.judged.text),
        language: language::detect(&normalised.written, hint),
        features,
        pii,
        link_count: links.len(),
        char_count: text.chars().count(),
        word_count: text.unicode_words().count(),
        blank: normalised.judged.text.is_empty(),
        judged: normalised.judged,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::assess::redact::redact;
    use crate::domain::score::Span;

    /// What holds for every reading of every text.
    fn hold_together(text: &str) {
        let reading = read(text, ReadHints::default());
        let count = text.chars().count();
        let judged = reading.judged.text.chars().count();
        assert_eq!(reading.char_count, count);
        assert_eq!(reading.judged.origin.len(), judged);
        let mut before = 0;
        for origin in &reading.judged.origin {
            assert!(origin.start >= before && origin.start < origin.end && origin.end <= count);
            before = origin.start;
        }
        let letters: Vec<char> = reading.judged.text.chars().collect();
        let mut end = 0;
        for sentence in &reading.sentences {
            assert!(sentence.start >= end && sentence.start < sentence.end && sentence.end <= judged);
            assert!(!letters[end..sentence.start].iter().any(|c| c.is_alphanumeric()));
            end = sentence.end;
        }
        assert!(!letters[end..].iter().any(|c| c.is_alphanumeric()));
        let mut end = 0;
        for one in &reading.pii {
            assert!(one.span.start >= end && one.span.start < one.span.end && one.span.end <= count);
            end = one.span.end;
        }
        let redacted = redact(text, &reading.pii);
        let length = redacted.text.chars().count();
        assert_eq!(redacted.map(Span { start: 0, end: count }), Span { start: 0, end: length });
        let mut end = 0;
        for one in &reading.pii {
            let mapped = redacted.map(one.span);
            assert_eq!(mapped.slice(&redacted.text), format!("[{}]", one.kind.key()));
            let between = Span { start: end, end: one.span.start };
            if between.start < between.end {
                assert_eq!(redacted.map(between).slice(&redacted.text), between.slice(text));
            }
            end = one.span.end;
        }
        assert_eq!(reading.blank, judged == 0);
        assert!(reading.features.0.iter().all(|value| value.is_finite()));
        assert_eq!(reading, read(text, ReadHints::default()));
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in any::<String>()) {
            hold_together(&text);
        }

        #[test]
        fn any_mix_of_what_comments_hold_is_read(
            parts in prop::collection::vec(
                prop::sample::select(vec![
                    "f.u.c.k", "i d i o t", "1d10t", "f**k", "s\u{200b}o", "<b>", "</", "<p>", "&amp;", "&#0;",
                    "👍🏽", "🇬🇧", "👨\u{200d}👩", "\u{fe0f}", "\u{301}", "\u{202e}", "\n", "\r\n", "  ", ".", "!",
                    "Mr Khan", "Alder High School", "St Anne's", "Kyle", "a@b.uk", "www.x.com/é", "bit.ly/q", "@ab_1",
                    "07700 900123", "dy1 3qx", "14 Alder Close", "моney", "यह", "の", "שלום", "e.g.", "\0", "é", "x",
                    "my name is", "mr", "aaaa", "'s", "-", "insta: jo_1", "[url=x]", "ﷺ", "\u{1f1e6}", "½",
                ]),
                0..24,
            ),
            glue in prop::sample::select(vec!["", " ", "\n"]),
        ) {
            hold_together(&parts.join(glue));
        }
    }

    #[test]
    fn nothing_readable_is_blank() {
        for text in ["", "  \n", "\u{200b}\u{feff}", "\0\u{1}", "<br>"] {
            assert!(read(text, ReadHints::default()).blank, "{text:?}");
        }
        assert!(!read("?", ReadHints::default()).blank);
    }

    #[test]
    fn long_texts_are_read_in_linear_time() {
        let start = std::time::Instant::now();
        for unit in [
            "😂",
            "a ",
            "<",
            "&",
            "[b",
            "@",
            ".",
            "1",
            "a.",
            "é",
            "e\u{301}",
            "\u{301}",
            "Kyle ",
            "!",
            "i d ",
            "www.",
            "x@",
            "Kyle Alder ",
            "а",
            "好",
            "a@b.",
            "0 1 ",
            "*a",
            "http://",
            "\n",
            "Mr ",
            "word and ",
        ] {
            let text = unit.repeat(300_000 / unit.len());
            let reading = read(&text, ReadHints::default());
            assert_eq!(reading.char_count, text.chars().count());
        }
        assert!(start.elapsed().as_secs() < 60, "{:?}", start.elapsed());
    }
}
