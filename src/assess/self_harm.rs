//! The words of suicide and self-harm.
//!
//! [`speaks_of_it`] only tells a disclosure of this kind from others. What a
//! writer says of themselves in plain words ([`says_so`]) goes to a person
//! whatever the model thinks of it: a small model misses some, and this is the
//! mistake that cannot be made good.

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

static SAYS_SO: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(
        r"(?ix)
        \b(
            (kill|killing|killed|hurt|hurting|harm|harming|cut|cutting|starve|starving)\s+myself
          | (end|ending|take|taking)\s+my\s+(own\s+)?life
          | (i'?m|i\s+am|im|feel|feeling|been|felt)\s+(\w+\s+)?suicidal
          | i\s+(\w+\s+)?(do\s+not|don'?t|didn'?t|dont)\s+(\w+\s+)?(want|wanna)\s+(to\s+)?
            (be\s+(alive|around\s+any\s?more|here\s+any\s?more)|live\s+any\s?more|wake\s+up)\b
          | (want|wanted|wanna|wish)\s+(to\s+die|die|i\s+(was|were)\s+dead)
          | (took|taken|swallowed)\s+(a\s+load\s+of|loads\s+of|too\s+many|all\s+(the|my|her|his)|an?\s+overdose)
            (\s+of)?(\s+\w+)?\s*(tablets|pills|paracetamol|meds|medication)?
          | (took|taken)\s+an?\s+overdose
          | better\s+off\s+(dead|without\s+me)
          | (no\s*-?one|nobody)\s+would\s+(even\s+)?(miss\s+me|notice\s+if\s+i\s+(was|were)\s+gone)
          | (pills|tablets)\s+ready
        )\b",
    )
    .ok()
});

/// Whether the writer says in plain words that they harm themselves or want to die.
/// Laughter and other figures of speech are left to the model.
pub fn says_so(text: &str) -> bool {
    SAYS_SO.as_ref().is_some_and(|pattern| {
        pattern.find(text).is_some_and(|found| {
            let words = found.as_str().to_lowercase();
            let after = text[found.end()..].trim_start().to_lowercase();
            // "took all the" needs something that can be swallowed.
            let swallowed = !words.contains("all ") && !words.contains("load") && !words.contains("too many")
                || ["tablet", "pill", "paracetamol", "med"].iter().any(|what| words.contains(what));
            swallowed && !after.starts_with("laughing") && !after.starts_with("with laugh")
        })
    })
}

/// Whether the words of suicide or self-harm stand in the text.
pub fn speaks_of_it(text: &str) -> bool {
    SPEAKS_OF_IT.as_ref().is_some_and(|pattern| pattern.is_match(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_writer_says_of_themselves_in_plain_words_is_heard() {
        for text in [
            "I don't want to be alive any more, I took a load of tablets last night.",
            "honestly i just wanna die",
            "i wish i was dead",
            "no one would miss me if i was gone. i have the pills ready",
            "ive started cutting myself again",
            "I have been feeling suicidal since March",
        ] {
            assert!(says_so(text), "{text}");
        }
        for text in [
            "I nearly killed myself laughing at the form",
            "They took all the funding and all the chairs",
            "I don't want to live next to a building site",
            "The session on suicide prevention was full",
        ] {
            assert!(!says_so(text), "{text}");
        }
    }

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
