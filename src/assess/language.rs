//! Language of a text, told without ever calling plain or dialect English foreign.
//!
//! The costs are not even: an English comment called foreign is not judged at
//! all, while a foreign one called English is at worst held by a person's rule.
//! So the consultation's language is the answer until other-language evidence
//! clearly outweighs it. Script decides first; Latin letters are told by common
//! words of each language, with a character model only as a second opinion.

use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

use whichlang::Lang;

use crate::domain::reading::Language;

use super::read::ReadHints;
use super::scripts;
use super::vocabulary::is_english;

/// A language shows long before this many words.
const WORDS_READ: usize = 2_000;

/// Below this many words only unmistakable ones name a language.
const SHORT: usize = 4;

/// Languages in the order of the file, and which of them know a word.
struct Profiles {
    codes: Vec<&'static str>,
    known_by: HashMap<&'static str, Vec<usize>>,
}

static PROFILES: LazyLock<Profiles> = LazyLock::new(|| {
    let mut profiles = Profiles { codes: Vec::new(), known_by: HashMap::new() };
    for line in include_str!("words/languages.txt").lines() {
        let Some((code, words)) = line.split_once(": ") else {
            continue;
        };
        if code.starts_with('#') {
            continue;
        }
        let index = profiles.codes.len();
        profiles.codes.push(code);
        for word in words.split_whitespace().collect::<HashSet<_>>() {
            profiles.known_by.entry(word).or_default().push(index);
        }
    }
    profiles
});

/// Letters that English words do not have, and the languages that use them.
const TELLING_LETTERS: &[(&str, &str)] = &[
    ("ß", "de"),
    ("äöü", "de sv fi hu tr sk"),
    ("łąęśćżźń", "pl"),
    ("ățșţ", "ro"),
    ("ñ¿¡", "es"),
    ("ãõ", "pt"),
    ("ğışİ", "tr"),
    ("őű", "hu"),
    ("ėįųū", "lt"),
    ("āēīļņģķ", "lv"),
    ("řěů", "cs"),
    ("ľĺŕ", "sk"),
    ("čšž", "cs sk hr lt lv"),
    ("ŵŷ", "cy"),
    ("ëç", "sq fr"),
    ("èêàùâîôœç", "fr it"),
    ("åøæ", "da sv"),
    ("đươạếệộứảấầậốồờợ", "vi"),
    ("êîûç", "ku"),
    ("é", "fr es pt hu cs sk"),
];

/// Endings of long words that English words do not have.
const TELLING_ENDINGS: &[(&str, &str)] = &[
    ("ung", "de"),
    ("ungen", "de"),
    ("keit", "de"),
    ("keiten", "de"),
    ("lich", "de"),
    ("lichen", "de"),
    ("liche", "de"),
    ("schaft", "de"),
    ("schaften", "de"),
    ("ieren", "de"),
    ("ischen", "de"),
    ("ische", "de"),
    ("igen", "de"),
    ("tzen", "de"),
    ("chten", "de"),
    ("tigen", "de"),
    ("anlagen", "de"),
    ("gesetz", "de"),
    ("kraft", "de"),
    ("energie", "de fr nl"),
    ("zione", "it"),
    ("mento", "it pt"),
    ("ción", "es"),
    ("amiento", "es"),
    ("ção", "pt"),
    ("ements", "fr"),
    ("uje", "pl cs sk"),
    ("owanie", "pl"),
    ("ości", "pl"),
    ("heid", "nl"),
    ("lijk", "nl"),
    ("ulation", "fr de"),
];

/// The language of `written` (words that the author wrote, no links or emoji).
pub fn detect(written: &str, hint: ReadHints<'_>) -> Language {
    match scripts::of(written) {
        scripts::Found::NoLetters => Language::new(Language::UNDETERMINED),
        scripts::Found::Tells(code) => Language::new(code),
        scripts::Found::Latin => Language::new(of_latin(written, hint)),
    }
}

/// Evidence for English and against it.
struct Evidence {
    words: usize,
    english: f32,
    /// The best other language and its evidence.
    other: Option<(&'static str, f32)>,
    /// Of the evidence for the other language, what English does not share.
    own: f32,
    /// Long words, in small letters among others.
    sentence_like: bool,
}

fn of_latin<'a>(written: &str, hint: ReadHints<'a>) -> &'a str {
    let words = words_of(written);
    // Mashed keys have no vowels to speak of, and names have capitals.
    let spoken = words.iter().filter(|word| word.contains(|c| "aeiouyäöüéèáíóúàåæø".contains(c))).count();
    let sentence_like = spoken == words.len()
        && words.iter().map(|word| word.chars().count()).sum::<usize>() >= 5 * words.len()
        && written
            .split_whitespace()
            .filter(|word| word.chars().count() > 2 && word.chars().all(char::is_lowercase))
            .count()
            >= 2;
    let second = second_opinion(&words);
    let evidence = Evidence { sentence_like, ..weigh(&words, second, hint.language) };
    if hint.default_language != "en" && evidence.english < 1.0 && evidence.other.is_none() {
        return hint.default_language;
    }
    let Some((code, other)) = evidence.other else {
        return default_or(hint, &evidence, second);
    };
    let Evidence { words: count, english, own, .. } = evidence;
    let total = count as f32;
    let foreign = if count < SHORT {
        count >= 2 && english == 0.0 && own >= 2.0 && own >= total
    } else {
        own >= 2.0 && other > 1.2 * english && other >= 0.15 * total
            || own >= 1.0 && second == Some(code) && other > english && other >= 0.1 * total
    };
    // A substantial English part can be judged as English.
    let mixed = english >= 4.0 && english >= 0.65 * other;
    if foreign && !mixed { code } else { default_or(hint, &evidence, second) }
}

/// The answer where no list of words is sure: the default, or the second
/// opinion for a text in which nothing at all looks English.
fn default_or<'a>(hint: ReadHints<'a>, evidence: &Evidence, second: Option<&'static str>) -> &'a str {
    let nothing_english = evidence.words >= SHORT && evidence.english == 0.0;
    match second {
        // Names and mashed keys are written without a common word as well.
        Some(code) if nothing_english && (evidence.own >= 0.6 || evidence.sentence_like) => code,
        Some(code) if nothing_english && hint.language == Some(code) => code,
        _ if evidence.english >= 2.0 => "en",
        _ => hint.default_language,
    }
}

/// Different lower-case words; no handles, tags or figures. A laugh repeated
/// twenty times says no more than once.
fn words_of(written: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut seen = HashSet::new();
    for token in written.split_whitespace() {
        if token.starts_with(['@', '#']) || token.contains('@') {
            continue;
        }
        for part in token.split(|c: char| !(c.is_alphanumeric() || c == '\'' || c == '-')) {
            let part = part.trim_matches(|c: char| !c.is_alphabetic());
            if part.is_empty() || part.contains(|c: char| c.is_numeric()) {
                continue;
            }
            let word = part.to_lowercase();
            if seen.insert(word.clone()) {
                words.push(word);
            }
            if words.len() >= WORDS_READ {
                return words;
            }
        }
    }
    words
}

fn weigh(words: &[String], second: Option<&'static str>, declared: Option<&str>) -> Evidence {
    let profiles = &*PROFILES;
    let mut scores = vec![0.0_f32; profiles.codes.len()];
    let mut own = vec![0.0_f32; profiles.codes.len()];
    let mut english = 0.0_f32;
    for word in words {
        let known_by = profiles.known_by.get(word.as_str());
        let is_english = is_english(word);
        match (is_english, known_by) {
            (true, None) => english += 1.0,
            (true, Some(languages)) => {
                english += 0.5;
                for index in languages {
                    scores[*index] += 0.5;
                }
            }
            (false, Some(languages)) => {
                for index in languages {
                    scores[*index] += 1.0;
                    own[*index] += 1.0;
                }
            }
            (false, None) => {
                for index in languages_of_shape(word) {
                    scores[index] += 0.6;
                    own[index] += 0.6;
                }
            }
        }
    }
    // Declared and modelled languages only break ties between languages.
    let rank = |index: usize| {
        let code = profiles.codes[index];
        scores[index]
            + 0.3 * own[index]
            + if second == Some(code) { 0.4 } else { 0.0 }
            + if declared == Some(code) { 0.3 } else { 0.0 }
    };
    let best = (0..profiles.codes.len())
        .filter(|index| own[*index] > 0.0)
        .max_by(|a, b| rank(*a).total_cmp(&rank(*b)).then(b.cmp(a)));
    Evidence {
        words: words.len(),
        english,
        other: best.map(|index| (profiles.codes[index], scores[index])),
        own: best.map_or(0.0, |index| own[index]),
        sentence_like: false,
    }
}

/// Languages that an unknown word looks like, by its letters and its ending.
fn languages_of_shape(word: &str) -> Vec<usize> {
    let letters =
        TELLING_LETTERS.iter().filter(|(letters, _)| !word.is_ascii() && word.contains(|c| letters.contains(c)));
    let endings = TELLING_ENDINGS.iter().filter(|(ending, _)| word.len() >= ending.len() + 3 && word.ends_with(ending));
    let mut found: Vec<usize> = letters
        .chain(endings)
        .flat_map(|(_, codes)| codes.split(' '))
        .filter_map(|code| PROFILES.codes.iter().position(|known| *known == code))
        .collect();
    found.sort_unstable();
    found.dedup();
    found
}

/// What a model of letter sequences says; `None` for English.
fn second_opinion(words: &[String]) -> Option<&'static str> {
    let text = words.join(" ");
    match whichlang::detect_language(&text) {
        Lang::Deu => Some("de"),
        Lang::Fra => Some("fr"),
        Lang::Spa => Some("es"),
        Lang::Por => Some("pt"),
        Lang::Ita => Some("it"),
        Lang::Nld => Some("nl"),
        Lang::Swe => Some("sv"),
        Lang::Tur => Some("tr"),
        Lang::Vie => Some("vi"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let found = detect(text, ReadHints::default());
        assert_eq!(found.code(), expected, "{text}");
    }

    #[test]
    fn short_dialect_and_misspelt_english_is_never_foreign() {
        for text in [
            "good",
            "ok thanks",
            "I would mentor again, great scheme",
            "YES!!!",
            "Kowalski Nowak",
            "Ahmed and Fatima",
            "asdfgh jkl qwerty",
            "yow ay gunna change nowt bab",
            "it day do me no good, I cor see the point ay it",
            "dem man deh fi get mentor innit, wah gwan",
            "dis ting is peak still, mandem need dat",
            "cuz ur not gna lisn 2 us r u",
            "mi nuh know weh dem a chat bout",
            "finna tell em we aint goin no more fr",
            "he bin good to our kid, ta duck",
            "menter scemes r reely gud for kidz",
            "wee man loves it, didnae think he would",
            "hahaha lol",
            "Die hard fans of the old youth club",
            "Sian Llewellyn-Jones, Ysgol Glan",
            "qwertyuiop asdfghjkl zxcvbnm lkjhg",
            "Dem likkle yute deh need smaddy fi guide dem",
            "aye the wee yin wis fair chuffed wi it",
            "wot a wayste ov tyme n munny",
            "deffo worked 4 me tbh n my m8s 2",
            "Deja vu all over again with this council",
        ] {
            check(text, "en");
        }
    }

    #[test]
    fn clear_sentences_of_other_languages_are_found() {
        check("Mentoring hat meinem Sohn sehr geholfen", "de");
        check("Le programme a beaucoup aidé mon fils", "fr");
        check("El programa ayudó mucho a mi hijo", "es");
        check("Program bardzo pomógł mojemu synowi w szkole", "pl");
        check("Programul a ajutat foarte mult copilul meu", "ro");
        check("Barnaamijkan wuxuu caawiyay wiilkayga", "so");
        check("yeh scheme bahut achhi hai sir", "ur");
        check("mere bete ko bohat madad mili hai", "ur");
        check("eh program bahut vadiya hai saade bacheyan lai", "pa");
        check("amar chele onek bhalo korse ei programe", "bn");
        check("Il programma ha aiutato molto mio figlio", "it");
        check("O programa ajudou muito o meu filho na escola", "pt");
        check("Bu program çocuklar için çok iyi", "tr");
        check("Programi ka ndihmuar shumë fëmijët në shkollë", "sq");
        check("A program nagyon sokat segített a gyerekeknek", "hu");
        check("Programa labai padėjo mano vaikams mokykloje", "lt");
        check("Mae'r cynllun yn dda iawn i blant ifanc", "cy");
        check("hamare bachon ko is ki bohat zaroorat hai", "ur");
        check("To bardzo dobry pomysl, moj syn ma lepsze oceny", "pl");
        check("aad ayaan u jeclahay barnaamijka", "so");
        check("amrar fua ar furir lagi khub bala oise", "bn");
        check("Kjo eshte nje ide shume e mire per femijet", "sq");
        check("Mans dēls tagad labprāt iet uz skolu", "lv");
        check("Můj syn teď chodí rád do školy", "cs");
        check("Het programma heeft mijn zoon heel goed geholpen", "nl");
    }

    #[test]
    fn a_substantial_english_part_makes_a_mixed_text_english() {
        check("My son loves his mentor and he goes every week, bahut acha hai", "en");
        check("bahut acha scheme hai lekin bachon ke liye aur time chahiye please", "ur");
        check("Jazakallah for this, the kids really love it", "en");
    }

    #[test]
    fn no_letters_leave_the_language_open() {
        check("10/10 !!! 100%", "und");
        check("", "und");
    }

    #[test]
    fn a_declared_language_only_breaks_ties() {
        let hint = ReadHints { language: Some("pl"), default_language: "en" };
        assert_eq!(detect("this is plain English for all to read", hint).code(), "en");
        assert_eq!(detect("ok", hint).code(), "en");
    }
}
