//! Language of a text, told without ever calling plain or dialect English foreign.

use crate::domain::reading::Language;

use super::read::ReadHints;

/// The language of `plain` (written words only).
pub fn detect(plain: &str, hint: ReadHints<'_>) -> Language {
    if plain.chars().any(char::is_alphabetic) {
        Language::new(hint.default_language)
    } else {
        Language::new(Language::UNDETERMINED)
    }
}
