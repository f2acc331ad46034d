//! Spellings that hide a word: spaced out, masked with signs, drawn out.
//!
//! Signs are undone only where the outcome is one of the words that people
//! mask (`words/masked.txt`); the list judges nothing, it only says what a
//! mask can plausibly hide. "4pm", "KS3" and "B&Q" stay as they are.

use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

use super::normalise::Piece;

/// No masked word is longer.
const LONGEST_WORD: usize = 24;

/// Single letters that text-speak uses as words ("u r a", "i c u").
const LETTER_WORDS: &str = "aiuryoncbkmx";

/// Endings under which a masked word is known as well.
const ENDINGS: &[&str] = &["", "s", "es", "ed", "er", "ers", "ing", "in", "y", "head", "heads"];

static MASKED: LazyLock<Vec<String>> = LazyLock::new(|| {
    let words: Vec<&str> = include_str!("words/masked.txt").lines().collect();
    let mut seen = HashSet::new();
    ENDINGS
        .iter()
        .flat_map(|ending| words.iter().map(move |word| format!("{word}{ending}")))
        .chain(["fucking", "shitting", "shitty", "cunting", "idiotic"].map(str::to_owned))
        .filter(|word| seen.insert(word.clone()))
        .collect()
});

static KNOWN: LazyLock<HashSet<&'static str>> = LazyLock::new(|| MASKED.iter().map(String::as_str).collect());

/// Words by their number of letters, the likelier first.
static BY_LENGTH: LazyLock<HashMap<usize, Vec<Vec<char>>>> = LazyLock::new(|| {
    let mut by_length: HashMap<usize, Vec<Vec<char>>> = HashMap::new();
    for word in MASKED.iter() {
        let letters: Vec<char> = word.chars().collect();
        by_length.entry(letters.len()).or_default().push(letters);
    }
    by_length
});

/// Joins words spelt letter by letter ("i d i o t", "f.u.c.k"); how many.
pub(super) fn join_spaced(pieces: &[Piece]) -> (Vec<Piece>, usize) {
    let mut out: Vec<Piece> = Vec::with_capacity(pieces.len());
    let mut joined = 0;
    let mut at = 0;
    while at < pieces.len() {
        let begins = at == 0 || !pieces[at - 1].letter.is_alphanumeric();
        let run = if begins && pieces[at].written && pieces[at].letter.is_alphabetic() {
            spaced_run(&pieces[at..])
        } else {
            Vec::new()
        };
        let Some(from) = joinable(pieces, at, &run) else {
            // A run that stays is not looked at again letter by letter.
            let keep = run.last().map_or(1, |last| last + 1);
            out.extend_from_slice(&pieces[at..at + keep]);
            at += keep;
            continue;
        };
        out.extend_from_slice(&pieces[at..at + run[from]]);
        let word = &run[from..];
        for (index, offset) in word.iter().enumerate() {
            let mut piece = pieces[at + offset];
            if let Some(next) = word.get(index + 1) {
                piece.origin.end = piece.origin.end.max(pieces[at + next].origin.start);
            }
            out.push(piece);
        }
        joined += 1;
        at += run.last().map_or(1, |last| last + 1);
    }
    (out, joined)
}

/// Offsets of single letters that stand one separator apart; at least three.
fn spaced_run(pieces: &[Piece]) -> Vec<usize> {
    let Some(separator) = pieces.get(1).map(|piece| piece.letter) else {
        return Vec::new();
    };
    if !matches!(separator, ' ' | '.' | '-' | '_' | '*' | '~' | '+' | '|' | ',' | '/') {
        return Vec::new();
    }
    let mut run = vec![0];
    let mut at = 0;
    while let (Some(gap), Some(next)) = (pieces.get(at + 1), pieces.get(at + 2)) {
        // A wide gap is the space between two words spelt this way.
        let wide = gap.letter == ' ' && gap.origin.end > gap.origin.start + 1;
        if gap.letter != separator || wide || !next.letter.is_alphabetic() || !next.written {
            break;
        }
        run.push(at + 2);
        at += 2;
    }
    if pieces.get(at + 1).is_some_and(|after| after.letter.is_alphanumeric() || after.letter == '\'') {
        // The last letter begins a longer word.
        run.pop();
    }
    if run.len() < 3 { Vec::new() } else { run }
}

/// From which letter of `run` on the word is to be joined; `None` leaves it.
fn joinable(pieces: &[Piece], at: usize, run: &[usize]) -> Option<usize> {
    if run.len() < 3 {
        return None;
    }
    let separator = pieces[at + 1].letter;
    let letters: Vec<char> = run.iter().map(|offset| pieces[at + offset].letter).collect();
    let lower: String = letters.iter().flat_map(|c| c.to_lowercase()).collect();
    // Only as far back as the longest known word reaches.
    let reach = letters.len().saturating_sub(LONGEST_WORD);
    if lower.is_ascii() {
        let known = (reach..=letters.len() - 3).find(|from| KNOWN.contains(&lower[*from..]));
        if known.is_some() {
            return known;
        }
    }
    let capitals = letters.iter().all(|c| c.is_uppercase());
    let text_speak = letters.len() < 5 && lower.chars().all(|c| LETTER_WORDS.contains(c));
    let plain = match separator {
        ' ' => !(text_speak || capitals && letters.len() < 4),
        '.' | '-' | '_' | '*' | '~' => !capitals && !text_speak,
        _ => false,
    };
    plain.then_some(0)
}

/// Cuts letters repeated three times or more to two ("soooo") and other signs
/// to three; figures stay.
pub(super) fn shorten_runs(pieces: &[Piece]) -> Vec<Piece> {
    let mut out: Vec<Piece> = Vec::with_capacity(pieces.len());
    let mut at = 0;
    while at < pieces.len() {
        let letter = pieces[at].letter;
        let same = |piece: &&Piece| {
            piece.letter == letter || letter.is_alphabetic() && piece.letter.to_lowercase().eq(letter.to_lowercase())
        };
        let length = pieces[at..].iter().take_while(same).count();
        let run = &pieces[at..at + length];
        let keep = if letter.is_alphabetic() {
            // Kisses, addresses and the third of a name are spelt so.
            let beside = |piece: Option<&Piece>| piece.is_some_and(|p| p.letter.is_alphanumeric());
            let before = at.checked_sub(1).and_then(|before| pieces.get(before));
            let stands_alone = !beside(before) && !beside(pieces.get(at + length));
            let meant = stands_alone && length == 3 && "iIwWxX".contains(letter);
            if meant { 3 } else { 2 }
        } else if letter.is_numeric() {
            length
        } else {
            3
        };
        out.extend(run.iter().take(keep));
        if let (Some(last_kept), Some(last)) = (out.last_mut(), run.last()) {
            last_kept.origin.end = last_kept.origin.end.max(last.origin.end);
        }
        at += length;
    }
    out
}

/// Undoes signs that stand for letters, in place; how many words.
pub(super) fn unmask(pieces: &mut [Piece]) -> usize {
    let mut unmasked = 0;
    for word in pieces.split_mut(|piece| piece.letter.is_whitespace()) {
        let signs = word.iter().any(|piece| stands_for_something(piece.letter));
        let letters = word.iter().filter(|piece| piece.letter.is_alphabetic());
        if word.len() > LONGEST_WORD || !signs || letters.count() == 0 || !word[0].written {
            continue;
        }
        let ends = word
            .iter()
            .rposition(|piece| !matches!(piece.letter, '.' | ',' | ';' | ':' | '?' | ')' | '"' | '\''))
            .map_or(0, |last| last + 1);
        let starts =
            word.iter().take(ends).position(|piece| !matches!(piece.letter, '(' | '"' | '\'' | '.')).unwrap_or(0);
        let without_shouts =
            word[starts..ends].iter().rposition(|piece| piece.letter != '!').map_or(starts, |last| starts + last + 1);
        for end in [ends, without_shouts] {
            let core = &mut word[starts..end];
            if let Some(hidden) = hidden_word(core) {
                let capitals = core.iter().filter(|p| p.letter.is_uppercase()).count() > 1;
                for (piece, letter) in core.iter_mut().zip(hidden) {
                    if !piece.letter.is_alphabetic() {
                        piece.letter = if capitals { letter.to_ascii_uppercase() } else { *letter };
                    }
                }
                unmasked += 1;
                break;
            }
        }
    }
    unmasked
}

/// The word that a masked one hides.
fn hidden_word(core: &[Piece]) -> Option<&'static [char]> {
    let shown: Vec<char> = core.iter().flat_map(|piece| piece.letter.to_lowercase()).collect();
    let letters = shown.iter().filter(|c| c.is_alphabetic()).count();
    let wild = shown.iter().filter(|c| is_wild(**c)).count();
    if shown.len() != core.len() || letters + wild < 2 || letters == shown.len() {
        return None;
    }
    // "f***" can only be one word; "as*" is a footnote.
    if shown.len() <= 3 && shown.last().copied().is_some_and(is_wild) && wild == 1 {
        return None;
    }
    if wild > 0 && !shown.first().is_some_and(|c| c.is_alphabetic()) {
        return None;
    }
    // "idiot*" points to a footnote and "die-" breaks off: nothing is hidden.
    let tail = shown.iter().rev().take_while(|c| is_wild(**c)).count();
    let open: String = shown[..shown.len() - tail].iter().collect();
    if tail > 0 && KNOWN.contains(open.as_str()) {
        return None;
    }
    // "b--" and "a_" say too little; a star says that something is masked.
    if letters < 2 && !shown.contains(&'*') {
        return None;
    }
    BY_LENGTH
        .get(&shown.len())?
        .iter()
        .find(|word| {
            shown
                .iter()
                .zip(word.iter())
                .all(|(shown, meant)| shown == meant || is_wild(*shown) || stand_ins(*shown).contains(*meant))
        })
        .map(Vec::as_slice)
}

fn stands_for_something(c: char) -> bool {
    is_wild(c) || !stand_ins(c).is_empty()
}

/// Signs that hide any letter.
fn is_wild(c: char) -> bool {
    matches!(c, '*' | '#' | '%' | '_' | '-' | '•' | '∗')
}

/// Letters that a sign is drawn for.
fn stand_ins(c: char) -> &'static str {
    match c {
        '0' => "o",
        '1' | '!' | '|' => "il",
        '3' | '€' => "e",
        '4' => "a",
        '@' => "ao",
        '5' | '$' => "s",
        '6' | '9' => "g",
        '7' | '+' => "t",
        '8' => "b",
        '¡' => "i",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(text: &str) -> String {
        let (mut pieces, _) = join_spaced(&Piece::plain(text));
        unmask(&mut pieces);
        shorten_runs(&pieces).iter().map(|piece| piece.letter).collect()
    }

    fn check(text: &str, expected: &str) {
        assert_eq!(judged(text), expected, "{text}");
    }

    #[test]
    fn words_spelt_letter_by_letter_are_joined() {
        check("such a i d i o t really", "such a idiot really");
        check("f.u.c.k off", "fuck off");
        check("s-t-u-p-i-d idea", "stupid idea");
        check("F U C K this", "FUCK this");
        check("you l o v e l y lot", "you lovely lot");
    }

    #[test]
    fn abbreviations_and_text_speak_stay_apart() {
        for text in ["N.H.S.", "e.g. this", "u r a legend", "i c u", "class A B C", "a/b/c", "I a"] {
            check(text, text);
        }
    }

    #[test]
    fn masked_words_are_read() {
        check("1d10t", "idiot");
        check("sh!t", "shit");
        check("what an @ss", "what an ass");
        check("f*ck, f**k and F***", "fuck, fuck and Fuck");
        check("f*cking $tupid", "fucking stupid");
        check("you sh1t!!", "you shit!!");
        check("C*NT", "CUNT");
        check("fr33 m0ney", "free money");
        check("(b*****d)", "(bastard)");
    }

    #[test]
    fn ordinary_tokens_with_figures_and_signs_stay() {
        for text in [
            "4pm",
            "Year 7s",
            "KS3",
            "G8",
            "M6",
            "50/50",
            "3rd",
            "£5",
            "100%",
            "A&E",
            "B&Q",
            "A55",
            "1st",
            "16-18",
            "11+",
            "2nd",
            "Y7",
            "h8",
            "gr8",
            "b4",
            "m8",
            "s/he",
            "and/or",
            "C#",
            "someone@example.com",
            "*note*",
            "as*",
            "#mentoring",
            "@user",
            "B17 9TS",
            "DY1",
            "7/10",
            "x-ray",
            "co-op",
            "t-shirt",
            "a-level",
            "A*",
            "A*-C",
            "5*",
            "1:1",
            "P.E.",
            "24/7",
        ] {
            check(text, text);
        }
    }

    #[test]
    fn drawn_out_words_are_cut() {
        check("soooooo goooood!!!!!!", "soo good!!!");
        check("YESSSS www xxx III 1000000", "YESS www xxx III 1000000");
    }

    #[test]
    fn a_joined_letter_keeps_the_separator_behind_it() {
        let (pieces, joined) = join_spaced(&Piece::plain("f.u.c.k"));
        assert_eq!(joined, 1);
        assert_eq!(pieces[0].origin.end, 2);
        assert_eq!(pieces[3].origin.end, 7);
    }
}
