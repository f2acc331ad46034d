//! Letters borrowed from another alphabet to slip past a reader's filter.
//!
//! Only whole runs of letters are judged: a run that mixes Latin with Cyrillic
//! or Greek and could be all Latin, or a run made of nothing but look-alikes in
//! a text that is otherwise Latin. Real words of another script never are.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::normalise::Piece;

/// Folds look-alike letters in place; how many runs of letters mixed scripts.
pub(super) fn fold(pieces: &mut [Piece]) -> usize {
    let (mut latin, mut other) = (0_usize, 0_usize);
    for piece in pieces.iter().filter(|piece| piece.letter.is_alphabetic()) {
        match script(piece.letter) {
            Script::Latin => latin += 1,
            Script::Borrowed if to_latin(piece.letter).is_some() => {}
            _ => other += 1,
        }
    }
    let mostly_latin = latin > 0 && latin >= 8 * other;
    let mut mixed = 0;
    let mut start = 0;
    while start < pieces.len() {
        if !pieces[start].letter.is_alphabetic() {
            start += 1;
            continue;
        }
        let length = pieces[start..].iter().take_while(|piece| piece.letter.is_alphabetic()).count();
        let run = &mut pieces[start..start + length];
        start += length;
        let has_latin = run.iter().any(|p| script(p.letter) == Script::Latin);
        let borrowed = run.iter().filter(|p| script(p.letter) == Script::Borrowed).count();
        if borrowed == 0 {
            continue;
        }
        mixed += usize::from(has_latin);
        let all_fold = run.iter().all(|p| script(p.letter) == Script::Latin || to_latin(p.letter).is_some());
        if all_fold && (has_latin || (mostly_latin && length >= 2)) {
            for piece in run {
                piece.letter = to_latin(piece.letter).unwrap_or(piece.letter);
            }
        }
    }
    mixed
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Script {
    Latin,
    /// Cyrillic, Greek, Armenian, Cherokee, Lisu or a phonetic sign.
    Borrowed,
    Other,
}

fn script(c: char) -> Script {
    match c {
        '\u{0261}'
        | '\u{0251}'
        | '\u{026a}'
        | '\u{0299}'
        | '\u{029c}'
        | '\u{029f}'
        | '\u{0280}'
        | '\u{0274}'
        | '\u{0262}'
        | '\u{028f}'
        | '\u{1d00}'..='\u{1d2b}'
        | '\u{a730}'
        | '\u{a731}'
        | '\u{0370}'..='\u{052f}'
        | '\u{0531}'..='\u{0589}'
        | '\u{13a0}'..='\u{13ff}'
        | '\u{a4d0}'..='\u{a4ff}'
        | '\u{1f150}'..='\u{1f169}'
        | '\u{1f170}'..='\u{1f189}' => Script::Borrowed,
        'a'..='z' | 'A'..='Z' | '\u{00c0}'..='\u{024f}' | '\u{1e00}'..='\u{1eff}' => Script::Latin,
        _ => Script::Other,
    }
}

/// Small letters that a Latin reader takes for Latin.
const PAIRS: &[(&str, char)] = &[
    ("аαɑᴀ", 'a'),
    ("ввʙьβ", 'b'),
    ("сϲᴄ", 'c'),
    ("ԁᴅ", 'd'),
    ("еєёеэᴇε", 'e'),
    ("ɡԍɢ", 'g'),
    ("һнʜ", 'h'),
    ("іїιɪ", 'i'),
    ("јᴊ", 'j'),
    ("кκᴋ", 'k'),
    ("ӏʟ", 'l'),
    ("мᴍ", 'm'),
    ("пηɴ", 'n'),
    ("оοσօᴏ", 'o'),
    ("рρᴘ", 'p'),
    ("ԛ", 'q'),
    ("гʀ", 'r'),
    ("ѕꜱ", 's'),
    ("тτᴛ", 't'),
    ("υսᴜц", 'u'),
    ("ѵνᴠ", 'v'),
    ("ԝшωᴡ", 'w'),
    ("хχ", 'x'),
    ("уγʏ", 'y'),
    ("ᴢ", 'z'),
    ("ꜰ", 'f'),
    ("АΑ", 'A'),
    ("ВΒ", 'B'),
    ("СϹ", 'C'),
    ("ЕΕЁ", 'E'),
    ("Ԍ", 'G'),
    ("НΗ", 'H'),
    ("ІΙЇ", 'I'),
    ("Ј", 'J'),
    ("КΚ", 'K'),
    ("МΜ", 'M'),
    ("Ν", 'N'),
    ("ОΟ", 'O'),
    ("РΡ", 'P'),
    ("Ѕ", 'S'),
    ("ТΤ", 'T'),
    ("ХΧ", 'X'),
    ("УΥ", 'Y'),
    ("Ζ", 'Z'),
];

static LATIN: LazyLock<HashMap<char, char>> =
    LazyLock::new(|| PAIRS.iter().flat_map(|(alike, latin)| alike.chars().map(|c| (c, *latin))).collect());

/// The Latin letter that a borrowed one stands in for.
fn to_latin(c: char) -> Option<char> {
    if script(c) != Script::Borrowed {
        return None;
    }
    if let Some(latin) = LATIN.get(&c) {
        return Some(*latin);
    }
    let boxed = match c {
        '\u{1f150}'..='\u{1f169}' => Some(c as u32 - 0x1_f150),
        '\u{1f170}'..='\u{1f189}' => Some(c as u32 - 0x1_f170),
        _ => None,
    };
    if let Some(offset) = boxed {
        return char::from_u32('A' as u32 + offset);
    }
    let mut one = [0; 4];
    let mut skeleton = unicode_security::skeleton(c.encode_utf8(&mut one)).fuse();
    match (skeleton.next(), skeleton.next()) {
        (Some(latin), None) if latin.is_ascii_alphabetic() => Some(latin),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folded(text: &str) -> String {
        let mut pieces = Piece::plain(text);
        fold(&mut pieces);
        pieces.iter().map(|piece| piece.letter).collect()
    }

    #[test]
    fn a_word_of_mixed_alphabets_is_read_as_latin() {
        assert_eq!(folded("free mоney"), "free money");
        assert_eq!(folded("іdіоt"), "idiot");
        assert_eq!(folded("ѕtυpid"), "stupid");
    }

    #[test]
    fn a_word_of_nothing_but_look_alikes_is_read_as_latin_in_a_latin_text() {
        assert_eq!(folded("what a сора that is"), "what a copa that is");
    }

    #[test]
    fn real_words_of_other_scripts_stay() {
        for text in [
            "Это хорошая программа для детей, нам очень нужно",
            "сор он нос рот",
            "Πολύ καλή ιδέα για τα παιδιά",
            "मेंटरिंग बहुत अच्छा है",
            "scheme बहुत अच्छी है",
            "வழிகாட்டுதல் நல்லது",
            "café naïve Łódź",
        ] {
            assert_eq!(folded(text), text);
        }
    }
}
