//! Which words are ordinary English, dialect and text-speak among them.

use std::collections::HashSet;
use std::sync::LazyLock;

static ENGLISH: LazyLock<HashSet<&'static str>> =
    LazyLock::new(|| include_str!("words/english.txt").split_whitespace().collect());

/// Whether a word is English, as it stands or without its ending.
pub(super) fn is_english(word: &str) -> bool {
    if ENGLISH.contains(word) {
        return true;
    }
    let known = |stem: &str| stem.len() >= 3 && ENGLISH.contains(stem);
    for ending in ["'s", "s", "es", "ed", "d", "ing", "er", "ers", "ly", "y", "n't", "'ll", "'d", "in", "in'"] {
        if let Some(stem) = word.strip_suffix(ending) {
            let mut doubled = stem.to_owned();
            let undoubled = stem.len() > 3 && {
                doubled.pop();
                stem.ends_with(|c| doubled.ends_with(c))
            };
            if known(stem) || undoubled && known(&doubled) {
                return true;
            }
            if matches!(ending, "ing" | "ers" | "er") && known(&format!("{stem}e")) {
                return true;
            }
        }
    }
    word.strip_suffix("ies").is_some_and(|stem| known(&format!("{stem}y")))
        || word.split_once('-').is_some_and(|(a, b)| ENGLISH.contains(a) && ENGLISH.contains(b))
}

/// Endings that names hardly have.
pub(super) fn looks_ordinary(word: &str) -> bool {
    const ENDINGS: &[&str] = &[
        "tion", "tions", "ment", "ments", "ness", "ity", "ities", "ship", "ships", "ology", "ance", "ence", "able",
        "ible", "ful", "less", "ing", "ings", "ical", "ically", "ator", "ators", "ive", "ives", "ised", "ized", "ise",
        "ism", "ists", "ology", "ously", "ious", "eous", "ally", "ately", "ical", "logy", "graphy", "ated", "ates",
        "sion", "sions", "ware", "phone", "ed", "ly", "ers",
    ];
    ENDINGS.iter().any(|ending| word.len() >= ending.len() + 3 && word.ends_with(ending))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_english_under_their_endings() {
        for word in ["mentor", "mentors", "mentored", "stopping", "caring", "stories", "bostin", "innit", "well-being"]
        {
            assert!(is_english(word) || looks_ordinary(word), "{word}");
        }
        for word in ["khan", "zorblatt", "bahut", "schule", "alder"] {
            assert!(!is_english(word) && !looks_ordinary(word), "{word}");
        }
    }
}
