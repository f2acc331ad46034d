//! Emoji as English words, so that the encoder can read them.

/// Characters that one emoji may take: the longest family sequences have ten.
const LONGEST: usize = 12;

/// An emoji at the start of a stretch of characters.
pub(super) struct Found {
    /// Characters it takes.
    pub length: usize,
    /// Its English name, without skin tone.
    pub name: String,
}

/// The emoji that starts `letters`, if one does.
pub(super) fn at_start(letters: &[char]) -> Option<Found> {
    let first = *letters.first()?;
    let styled = matches!(letters.get(1), Some('\u{fe0f}' | '\u{20e3}'));
    if !may_start(first) && !styled {
        return None;
    }
    let reach = sequence_length(letters);
    for length in (1..=reach).rev() {
        if length == 1 && first.is_ascii() {
            return None;
        }
        let text: String = letters[..length].iter().collect();
        if let Some(emoji) = emojis::get(&text) {
            // A selector left over belongs to the emoji before it.
            let trailing = letters[length..].iter().take_while(|c| matches!(c, '\u{fe0f}' | '\u{fe0e}')).count();
            return Some(Found { length: length + trailing, name: spoken(emoji.name()) });
        }
    }
    None
}

/// Whether a character is drawn as a picture by itself.
pub(super) fn may_start(c: char) -> bool {
    matches!(c,
        '\u{1f000}'..='\u{1faff}' | '\u{2600}'..='\u{27bf}' | '\u{2b00}'..='\u{2bff}'
        | '\u{2300}'..='\u{23ff}' | '\u{203c}' | '\u{2049}' | '\u{25aa}'..='\u{25fe}'
        | '\u{3030}' | '\u{303d}' | '\u{3297}' | '\u{3299}')
}

/// How many characters could belong to one emoji that starts here.
fn sequence_length(letters: &[char]) -> usize {
    let regional = |c: &char| ('\u{1f1e6}'..='\u{1f1ff}').contains(c);
    if letters.first().is_some_and(regional) {
        return if letters.get(1).is_some_and(regional) { 2 } else { 1 };
    }
    let mut length = 1;
    while length < LONGEST.min(letters.len()) {
        match letters[length] {
            '\u{fe0f}' | '\u{20e3}' | '\u{1f3fb}'..='\u{1f3ff}' | '\u{e0020}'..='\u{e007f}' => {
                length += 1;
            }
            '\u{200d}' if letters.get(length + 1).is_some_and(|c| may_start(*c)) => length += 2,
            _ => break,
        }
    }
    length.min(letters.len())
}

/// `thumbs up: medium skin tone` as `thumbs up`.
fn spoken(name: &str) -> String {
    let (head, tail) = name.split_once(": ").unwrap_or((name, ""));
    let rest: Vec<&str> = tail.split(", ").filter(|part| !part.is_empty() && !part.ends_with("skin tone")).collect();
    let mut spoken = head.to_owned();
    for part in rest {
        spoken.push(' ');
        spoken.push_str(part);
    }
    spoken
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Option<(usize, &str)>) {
        let letters: Vec<char> = text.chars().collect();
        let found = at_start(&letters);
        assert_eq!(found.as_ref().map(|one| (one.length, one.name.as_str())), expected, "{text}");
    }

    #[test]
    fn an_emoji_is_read_whole_and_without_skin_tone() {
        check("👍 ok", Some((1, "thumbs up")));
        check("👍🏾", Some((2, "thumbs up")));
        check("❤️!", Some((2, "red heart")));
        check("🇵🇰", Some((2, "flag Pakistan")));
        check("👨\u{200d}👩\u{200d}👧", Some((5, "family man woman girl")));
        check("1\u{fe0f}\u{20e3}", Some((3, "keycap 1")));
    }

    #[test]
    fn letters_digits_and_signs_are_no_emoji() {
        for text in ["a", "1", "#1", "*", "©", "é", "→", "ह", ""] {
            check(text, None);
        }
    }
}
