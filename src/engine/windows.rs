//! From judged text to windows of word pieces, each piece tied to its characters.

use tokenizers::Tokenizer;

use crate::domain::score::Span;

/// One word piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token {
    /// Its id.
    pub id: u32,
    /// Its characters in the judged text.
    pub span: Span,
    /// Whether it goes on with the word of the piece before it.
    pub continues: bool,
}

/// The word pieces of a text. A text that the tokeniser refuses gives none,
/// and is then judged by rules alone.
pub fn tokenize(tokenizer: &Tokenizer, text: &str) -> Vec<Token> {
    let Ok(encoding) = tokenizer.encode_char_offsets(text, false) else {
        return Vec::new();
    };
    encoding
        .get_ids()
        .iter()
        .zip(encoding.get_offsets())
        .zip(encoding.get_tokens())
        .map(|((id, (start, end)), piece)| Token {
            id: *id,
            span: Span { start: *start, end: *end },
            continues: piece.starts_with("##"),
        })
        .collect()
}

/// Half-open token ranges that cover `count` tokens: each at most `size` long,
/// neighbours sharing `overlap`. Every token is in at least one; there is always one window.
pub fn windows(count: usize, size: usize, overlap: usize) -> Vec<(usize, usize)> {
    if count <= size {
        return vec![(0, count)];
    }
    let step = size.saturating_sub(overlap).max(1);
    let mut windows = Vec::new();
    let mut start = 0;
    loop {
        let end = (start + size).min(count);
        windows.push((start, end));
        if end == count {
            return windows;
        }
        start += step;
    }
}

#[cfg(test)]
mod tests {
    use super::windows;

    #[test]
    fn a_short_text_is_one_window() {
        assert_eq!(windows(0, 10, 3), [(0, 0)]);
        assert_eq!(windows(10, 10, 3), [(0, 10)]);
    }

    #[test]
    fn a_long_text_is_covered_without_a_gap() {
        for count in 1..300 {
            let windows = windows(count, 20, 5);
            assert_eq!(windows[0].0, 0);
            assert_eq!(windows.last().map(|window| window.1), Some(count));
            for pair in windows.windows(2) {
                assert!(pair[1].0 < pair[0].1, "neighbours share tokens");
                assert!(pair[1].1 > pair[0].1, "each window goes on");
            }
        }
    }
}
