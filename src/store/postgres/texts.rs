//! Texts from outside, as PostgreSQL can keep them.
//!
//! Its TEXT holds any character but U+0000. An id or a failed row may hold one, and nothing
//! is lost here: it is written as two characters that no sender uses, and read back.

use std::borrow::Cow;

/// A code point that Unicode promises never to give a meaning.
const ESCAPE: char = '\u{10ffff}';

/// As it is kept.
pub fn kept(text: &str) -> Cow<'_, str> {
    if !text.contains(['\0', ESCAPE]) {
        return Cow::Borrowed(text);
    }
    let mut kept = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match c {
            '\0' => kept.extend([ESCAPE, '0']),
            ESCAPE => kept.extend([ESCAPE, '1']),
            _ => kept.push(c),
        }
    }
    Cow::Owned(kept)
}

/// As it came.
pub fn given(kept: String) -> String {
    if !kept.contains(ESCAPE) {
        return kept;
    }
    let mut given = String::with_capacity(kept.len());
    let mut rest = kept.chars();
    while let Some(c) = rest.next() {
        given.push(match (c, c == ESCAPE) {
            (_, false) => c,
            (_, true) => match rest.next() {
                Some('0') => '\0',
                _ => ESCAPE,
            },
        });
    }
    given
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_comes_back_as_it_was_given() {
        for text in
            ["", "plain", "a\0b", "\0", "\u{10ffff}", "\u{10ffff}0", "\u{10ffff}\0\u{10ffff}1", "ends\u{10ffff}"]
        {
            let kept = kept(text).into_owned();
            assert!(!kept.contains('\0'), "{text:?}");
            assert_eq!(given(kept), text);
        }
    }
}
