//! Tells a disclosure that speaks of suicide or self-harm from other disclosures.
//!
//! It never escalates by itself: the model decides that a person must look, this
//! only tells that person what to expect first.

use std::sync::LazyLock;

use regex::Regex;

static SPEAKS_OF_IT: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(
        r"(?ix)
        \b(
            suicid\w* | self[\s-]?harm\w* | overdos\w*
          | (kill|killing|hurt|hurting|harm|harming|cut|cutting)\s+(my|her|him|them|your)sel(f|ves)
          | (end|ending|ended)\s+(it\s+all|my\s+life|his\s+life|her\s+life|their\s+life)
          | take\s+(my|his|her|their)\s+(own\s+)?life
          | (do|does|did)(n'?t|\s+not)\s+(want|wanna)\s+(to\s+)?(be\s+(here|alive|around)|live|wake\s+up)(\s+any\s?more)?
          | dont\s+(want|wanna)\s+(to\s+)?(be\s+(here|alive|around)|live|wake\s+up)
          | (want|wanna|wants|wanted)\s+to\s+(die|disappear\s+for\s+good)
          | wanna\s+die
          | better\s+off\s+(dead|without\s+me)
          | no\s+(point|reason)\s+(in\s+)?(living|being\s+alive|going\s+on)
        )\b",
    )
    .ok()
});

/// Whether the words of suicide or self-harm stand in the text.
pub fn speaks_of_it(text: &str) -> bool {
    SPEAKS_OF_IT.as_ref().is_some_and(|pattern| pattern.is_match(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_self_harm_are_known_in_many_spellings() {
        for text in [
            "i wanna die",
            "She has been cutting herself",
            "I don't want to be here anymore",
            "thinking of ending it all",
        ] {
            assert!(speaks_of_it(text), "{text}");
        }
        for text in ["He hits me", "I don't want to be in that class", "This council is killing the youth club"] {
            assert!(!speaks_of_it(text), "{text}");
        }
    }
}
