//! Judgements of the texts that a filter has seen lately, so that a flood of repeats is cheap.

use std::collections::HashMap;

use crate::domain::assessment::Assessment;

/// Texts of one generation; two are kept. A flood is one text, or a few.
const GENERATION: usize = 512;

/// What was judged lately, by the key of a text. An old entry goes when two generations of others
/// have come after its last use.
#[derive(Default)]
pub struct Known {
    young: HashMap<String, Assessment>,
    old: HashMap<String, Assessment>,
}

impl Known {
    /// The judgement of the text with this key.
    pub fn get(&mut self, key: &str) -> Option<&Assessment> {
        if let Some(used) = self.old.remove(key) {
            self.put(key.to_owned(), used);
        }
        self.young.get(key)
    }

    /// Keeps a judgement.
    pub fn put(&mut self, key: String, assessment: Assessment) {
        if self.young.len() >= GENERATION {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, assessment);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::decision::Verdict;
    use crate::domain::reading::Language;
    use crate::domain::rulebook::PipelineVersion;

    fn assessment(words: usize) -> Assessment {
        Assessment {
            verdict: Verdict::Accept,
            reasons: Vec::new(),
            attributes: std::collections::BTreeMap::new(),
            themes: None,
            stance: None,
            sentiment: None,
            tone: None,
            language: Language::new("en"),
            pii: Vec::new(),
            word_count: words,
            pipeline_version: PipelineVersion("1".to_owned()),
        }
    }

    #[test]
    fn what_is_used_stays_and_what_is_not_goes() {
        let mut known = Known::default();
        for words in 0..GENERATION * 5 {
            known.put(words.to_string(), assessment(words));
            assert_eq!(known.get("0").map(|found| found.word_count), Some(0));
        }
        assert!(known.get("1").is_none());
        assert!(known.young.len() + known.old.len() <= 2 * GENERATION);
    }
}
