//! Text made safe for a cell: nothing hidden in it, nothing that a spreadsheet would run.

use std::borrow::Cow;

use crate::assess::report::hidden;

/// Stands where a control, zero-width or direction character stood.
pub const HIDDEN_MARK: char = '\u{fffd}';

/// The text with every hidden character replaced by [`HIDDEN_MARK`], one for one,
/// so that offsets stay true. Line breaks and tabs stay; a lone carriage return
/// becomes a line break. Joiners stay where a script or an emoji needs them, not
/// beside plain letters.
pub fn neutral(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut letters = text.chars().peekable();
    let mut before = None;
    while let Some(letter) = letters.next() {
        let after = letters.peek().copied();
        let beside_plain = |near: Option<char>| near.is_none_or(|near| near.is_ascii());
        out.push(match letter {
            '\n' | '\t' => letter,
            '\r' if after == Some('\n') => letter,
            '\r' => '\n',
            '\u{200c}' | '\u{200d}' if beside_plain(before) || beside_plain(after) => HIDDEN_MARK,
            _ if hidden(letter) => HIDDEN_MARK,
            _ => letter,
        });
        before = Some(letter);
    }
    out
}

/// The cell as a spreadsheet may open it: a text that it would take for a formula
/// gets an apostrophe in front. White space and apostrophes before the sign do
/// not hide it, so one apostrophe taken off a cell that starts with one, where
/// the rest would be a formula, always gives the text back.
pub fn inert(cell: &str) -> Cow<'_, str> {
    let first = cell.trim_start_matches(['\'', ' ', '\u{a0}']).chars().next();
    match first {
        Some('=' | '+' | '-' | '@' | '\t' | '\r' | '\n' | '＝' | '＋' | '－' | '＠') => {
            Cow::Owned(format!("'{cell}"))
        }
        _ => Cow::Borrowed(cell),
    }
}

/// One value of a table, as both CSV and JSON Lines write it.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Nothing to say.
    Empty,
    /// Made neutral when written, and inert in CSV.
    Text(String),
    /// A whole number.
    Whole(u64),
    /// A probability, to four decimals.
    Share(f32),
    /// 1 or 0.
    Flag(bool),
}

impl Value {
    /// A text, or nothing.
    pub fn maybe(text: Option<impl Into<String>>) -> Self {
        text.map_or(Self::Empty, |text| Self::Text(text.into()))
    }

    /// As a CSV cell.
    pub fn cell(&self) -> String {
        match self {
            Self::Empty => String::new(),
            Self::Text(text) => inert(&neutral(text)).into_owned(),
            Self::Whole(number) => number.to_string(),
            Self::Share(share) => rounded(*share).to_string(),
            Self::Flag(flag) => u8::from(*flag).to_string(),
        }
    }

    /// As JSON.
    pub fn json(&self) -> serde_json::Value {
        match self {
            Self::Empty => serde_json::Value::Null,
            Self::Text(text) => neutral(text).into(),
            Self::Whole(number) => (*number).into(),
            Self::Share(share) => rounded(*share).into(),
            Self::Flag(flag) => u8::from(*flag).into(),
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Self::Whole(number)
    }
}

fn rounded(share: f32) -> f64 {
    (f64::from(share) * 10_000.0).round() / 10_000.0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn plain(cell: &str) -> &str {
        match cell.strip_prefix('\'') {
            Some(rest) if inert(rest) != rest => rest,
            _ => cell,
        }
    }

    #[test]
    fn formulas_are_inert() {
        for bad in ["=1+1", "+44", "-2", "@SUM(A1)", "\t=1", "\r=1", "\n=1", " =1", "'=1", "＝1"] {
            assert_eq!(inert(bad), format!("'{bad}"));
        }
        for fine in ["a=b", "'tis", "3 - 2", "", "№ 5"] {
            assert_eq!(inert(fine), fine);
        }
    }

    #[test]
    fn hidden_characters_show_and_offsets_stay() {
        let text = "a\u{202e}b\u{0}c\u{200b}d\re\r\nf\tg";
        assert_eq!(neutral(text), "a\u{fffd}b\u{fffd}c\u{fffd}d\ne\r\nf\tg");
        assert_eq!(neutral("👩\u{200d}🏫"), "👩\u{200d}🏫");
        assert_eq!(neutral("id\u{200d}iot"), "id\u{fffd}iot");
        assert_eq!(neutral("می\u{200c}خواهم"), "می\u{200c}خواهم");
    }

    proptest! {
        #[test]
        fn an_inert_cell_gives_its_text_back(text in "['=+@ -]{0,4}.{0,6}") {
            let cell = inert(&text).into_owned();
            prop_assert_eq!(plain(&cell), &text);
            prop_assert!(!cell.starts_with(['=', '+', '-', '@', '\t', '\r']));
        }

        #[test]
        fn neutral_keeps_every_offset(text in any::<String>()) {
            prop_assert_eq!(neutral(&text).chars().count(), text.chars().count());
        }
    }
}
