//! Numbers read off the surface of a text, for the spam head.
//!
//! Counts are logarithms and everything else is a share between 0 and 1, so
//! that no single text can shout. Nothing here decides: a link to a charity is
//! counted apart so that the head can learn that it is no advertisement.

use std::collections::HashSet;
use std::sync::LazyLock;

use regex::Regex;
use unicode_segmentation::UnicodeSegmentation;

use crate::domain::reading::{Pii, PiiKind, SurfaceFeatures};

use super::links::Link;
use super::normalise::Normalised;

/// Phrases are looked for in this many bytes of the judged text at most; an
/// advertisement does not hide behind a book.
const BYTES_READ: usize = 50_000;

/// What the reading has found so far.
pub(super) struct Found<'a> {
    /// The original.
    pub text: &'a str,
    /// Its links.
    pub links: &'a [Link],
    /// Its judged form.
    pub normalised: &'a Normalised,
    /// Its personal data.
    pub pii: &'a [Pii],
}

/// The features of one text, in the order of [`SurfaceFeatures::NAMES`].
pub(super) fn of(found: &Found<'_>) -> SurfaceFeatures {
    let judged = head(&found.normalised.judged.text);
    let original = head(found.text);
    let signs = Signs::of(found.text);
    let words = Words::of(judged);
    let hosts: HashSet<&str> = found.links.iter().map(|link| link.host.as_str()).collect();
    let good = found.links.iter().filter(|link| link.is_public_good()).count();
    let suspect = found.links.iter().filter(|link| link.is_suspect()).count();
    let of_kind = |kind| found.pii.iter().filter(|one| one.kind == kind).count();
    let phrases = |pattern: &Regex| log(pattern.find_iter(judged).count());
    let values = vec![
        log(found.links.len()),
        log(hosts.len()),
        log(good),
        log(suspect),
        log(HIDDEN_LINK.find_iter(original).count()),
        log(of_kind(PiiKind::Email)),
        log(of_kind(PiiKind::Phone)),
        log(of_kind(PiiKind::Handle)),
        phrases(&CHAT_APP),
        phrases(&CONTACT_ME),
        phrases(&MONEY),
        phrases(&PER_CENT),
        phrases(&URGENCY),
        phrases(&PROMOTION),
        phrases(&SITE_PRAISE),
        share(signs.capitals, signs.letters),
        share(signs.shouts, signs.all),
        share(signs.digits, signs.all),
        share(found.normalised.emoji, words.count + found.normalised.emoji),
        words.repeated,
        repeated_lines(original),
        log(signs.longest_run),
        share(signs.not_latin, signs.letters),
        log(found.normalised.mixed_words),
        log(found.normalised.invisible),
        log(found.normalised.tags),
        log(found.normalised.unmasked),
        log(signs.all),
        log(words.count),
        words.first_person,
        words.second_person,
        words.subject,
    ];
    debug_assert_eq!(values.len(), SurfaceFeatures::NAMES.len());
    SurfaceFeatures(values)
}

fn log(count: usize) -> f32 {
    (count as f32).ln_1p()
}

fn share(part: usize, whole: usize) -> f32 {
    if whole == 0 { 0.0 } else { (part as f32 / whole as f32).min(1.0) }
}

/// The first bytes of a text, cut between characters.
fn head(text: &str) -> &str {
    &text[..text.floor_char_boundary(BYTES_READ)]
}

/// Counts of characters.
#[derive(Default)]
struct Signs {
    all: usize,
    letters: usize,
    capitals: usize,
    not_latin: usize,
    digits: usize,
    shouts: usize,
    longest_run: usize,
}

impl Signs {
    fn of(text: &str) -> Self {
        let mut counts = Self::default();
        let (mut before, mut run) = (None, 0);
        for c in text.chars() {
            counts.all += 1;
            counts.letters += usize::from(c.is_alphabetic());
            counts.capitals += usize::from(c.is_uppercase());
            counts.not_latin += usize::from(c.is_alphabetic() && c > '\u{24f}');
            counts.digits += usize::from(c.is_numeric());
            counts.shouts += usize::from(c == '!');
            run = if before == Some(c) && !c.is_whitespace() { run + 1 } else { 1 };
            counts.longest_run = counts.longest_run.max(run);
            before = Some(c);
        }
        counts
    }
}

/// Counts of words.
#[derive(Default)]
struct Words {
    count: usize,
    repeated: f32,
    first_person: f32,
    second_person: f32,
    subject: f32,
}

impl Words {
    fn of(judged: &str) -> Self {
        let (mut first, mut second, mut subject, mut count) = (0, 0, 0, 0);
        let mut seen = HashSet::new();
        for word in judged.unicode_words() {
            let word = word.to_lowercase();
            count += 1;
            match word.as_str() {
                "i" | "i'm" | "im" | "me" | "my" | "mine" | "we" | "us" | "our" | "i've" | "i'd" => first += 1,
                "you" | "your" | "u" | "ur" | "yours" | "you're" | "you'll" => second += 1,
                _ => {}
            }
            let begins = |stems: &[&str]| stems.iter().any(|stem| word.starts_with(stem));
            subject += usize::from(begins(SUBJECT_STEMS) || SUBJECT_WORDS.contains(&word.as_str()));
            seen.insert(word);
        }
        Self {
            count,
            repeated: share(count - seen.len(), count),
            first_person: share(first, count),
            second_person: share(second, count),
            subject: share(subject, count),
        }
    }
}

/// The consultation's own vocabulary, by the beginnings of its words.
const SUBJECT_STEMS: &[&str] = &[
    "mentor",
    "school",
    "child",
    "teen",
    "pupil",
    "student",
    "teacher",
    "council",
    "parent",
    "volunteer",
    "exclu",
    "behavio",
    "coach",
    "communit",
    "youth",
    "headteacher",
    "safeguard",
];

const SUBJECT_WORDS: &[&str] = &[
    "young",
    "kid",
    "kids",
    "club",
    "clubs",
    "buddy",
    "buddies",
    "peer",
    "peers",
    "scheme",
    "schemes",
    "programme",
    "programmes",
    "support",
    "class",
    "son",
    "daughter",
    "lad",
    "lads",
    "stigma",
    "scouts",
    "cadets",
    "nan",
    "mum",
    "dad",
    "mom",
    "family",
    "families",
    "tutor",
    "tutors",
    "consultation",
];

/// The share of lines that stood there before.
fn repeated_lines(text: &str) -> f32 {
    let (mut count, mut seen) = (0, HashSet::new());
    for line in text.lines().map(str::trim).filter(|line| line.len() > 3) {
        count += 1;
        seen.insert(line);
    }
    share(count - seen.len(), count)
}

fn pattern(source: &str) -> Regex {
    Regex::new(source).expect("these patterns are tested")
}

static HIDDEN_LINK: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r"(?i)[a-z0-9]\s?(?:\[\.\]|\(\.\)|\{\.\}|\[dot\]|\(dot\)|\sdot\s|\s\.\s?)\s?(?:com|co|net|org|info|ru|xyz|uk|shop|online)\b|\bhxxps?:",
    )
});

static CHAT_APP: LazyLock<Regex> = LazyLock::new(|| {
    pattern(r"(?i)\bwhats\s?app\b|\btelegram\b|\bt\.me\b|\bwa\.me\b|\bviber\b|\bwechat\b|\blink (?:t|wa) me\b")
});

static CONTACT_ME: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r"(?i)\b(?:contact|e-?mail|text|call|message|whats\s?app|dm|pm|inbox|reach|ring|write to|add|follow|hmu)\s(?:me|us|him|her|them|now|on|at|via|dr|doctor|this number)\b|\bhit me up\b|\breach out to\b|\bsend (?:me|us|a) (?:an? )?(?:message|mail|email|text|dm)\b|\bget in touch\b",
    )
});

static MONEY: LazyLock<Regex> = LazyLock::new(|| {
    pattern(r"(?i)[£$€₹₦]\s?\d|\d\s?(?:usd|gbp|eur|dollars?|pounds?|euros?|bucks|btc|eth|quid|usdt)\b|\bmoney back\b")
});

static PER_CENT: LazyLock<Regex> = LazyLock::new(|| pattern(r"(?i)\d\s?%|\bper\s?cent\b"));

static URGENCY: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r"(?i)\bguarante\w+|\b100% (?:free|legit|safe|real|genuine|working|sure)\b|\blimited (?:time|offer|places|period|stock)\b|\bact (?:now|fast)\b|\bhurry\b|\bdon'?t miss\b|\blast chance\b|\btoday only\b|\binstant(?:ly)?\b|\brisk[- ]free\b|\bno risk\b|\bonce in a lifetime\b|\bwinners?\b|\byou (?:have|'ve) (?:been|won)\b|\burgent\b|\bcongratulations\b|\bclaim (?:your|now)\b|\bbest (?:ever|in the)\b|\bbefore it'?s too late\b|\bcash ?back\b|\bexclusive\b",
    )
});

static PROMOTION: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r"(?i)\bclick (?:here|the|below|on|this|my)\b|\bvisit (?:my|our|this|the|us|here|link)\b|\bcheck (?:out )?(?:my|our|this (?:site|link|out)|link)\b|\bmy (?:site|website|blog|channel|page|profile|store|shop|video|videos|youtube)\b|\blink in (?:my )?bio\b|\bsubscrib\w+|\bsign ?up (?:now|here|today|for free|at|using|with)\b|\b(?:buy|order|shop|join|apply|book|register) now\b|\bfor sale\b|\bdiscounts?\b|\bpromo(?:tion)?s?\b|\bcoupons?\b|\bfree (?:trial|gift|entry|iphone|money|cash|download|quote|shipping|delivery)\b|\bgive ?away\b|\breferral (?:code|link)\b|\buse (?:my )?code\b|\baffiliate\b|\bseo\b|\bback ?links?\b|\bfollowers\b|\bcheap(?:est)? (?:price|flights|rate|deal)\w*|\bbest (?:price|deal|rate)s?\b|\bcasinos?\b|\bbetting\b|\bforex\b|\bbit ?coins?\b|\bcrypto\w*|\binvest(?:or|ment|ing) (?:plan|platform|company|opportunit\w+)|\btrading (?:platform|account|signals?)\b|\bloans?\b|\bviagra\b|\bcialis\b|\bescorts?\b|\bessay (?:writing|help|service)\b|\breplica\b|\bweight loss\b|\bwork (?:from|at) home\b|\bearn(?:ed|ing)? (?:money|cash|from|up to|over)\b|\bmake money\b|\bmaking money\b|\bpassive income\b|\bspell ?caster\b|\blottery\b|\bwhole ?sale\b|\bour (?:services|products|company|experts|clients)\b|\bfast delivery\b|\bhack(?:er|ing) service\b",
    )
});

static SITE_PRAISE: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r"(?i)\b(?:great|nice|good|awesome|amazing|excellent|fantastic|wonderful|superb|informative|interesting|brilliant|lovely|valuable|useful|helpful) (?:post|blog|article|site|website|web site|page|write ?-?up|content|info|information|read|piece|share|sharing|weblog)\b|\bkeep (?:sharing|posting|writing|up the (?:good|great) (?:work|writing|posts?))\b|\bthanks?(?: you)?(?: so much| a lot)? for (?:sharing|posting|this (?:post|article|blog|info|great|wonderful|nice)|the (?:post|article|info|auspicious))\b|\byour (?:blog|site|website|web ?site|article|articles|posts?|writing|weblog|content)\b|\bbook ?mark(?:ed|ing)?\b|\bstumbled (?:up)?on\b|\bvery informative\b|\bthis (?:blog|web ?site|weblog|site)\b|\bwell written\b|\blooking forward to (?:reading|your next)\b",
    )
});

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assess::read::{ReadHints, read};

    fn feature(text: &str, name: &str) -> f32 {
        let index = SurfaceFeatures::NAMES.iter().position(|known| *known == name).unwrap();
        read(text, ReadHints::default()).features.0[index]
    }

    fn counts(text: &str, name: &str, expected: u8) {
        let found = feature(text, name).exp() - 1.0;
        assert!((found - f32::from(expected)).abs() < 0.01, "{name}: {found}");
    }

    #[test]
    fn every_feature_has_a_name_of_its_own() {
        let names: HashSet<_> = SurfaceFeatures::NAMES.iter().collect();
        assert_eq!(names.len(), SurfaceFeatures::NAMES.len());
        let values = read("", ReadHints::default()).features.0;
        assert_eq!(values.len(), SurfaceFeatures::NAMES.len());
        assert!(values.iter().all(|value| value.abs() < f32::EPSILON));
    }

    #[test]
    fn links_are_counted_by_kind() {
        let text = "see https://www.dudley.gov.uk and bit.ly/x and bit.ly/y";
        counts(text, "links", 3);
        counts(text, "link_hosts", 2);
        counts(text, "public_good_links", 1);
        counts(text, "suspect_links", 2);
        assert!(feature("go to pills[.]com or pills dot com", "hidden_links") > 1.0);
    }

    #[test]
    fn an_advertisement_looks_like_one() {
        let text = "Great post! Keep sharing. Click here, guaranteed $500 a day, WhatsApp me on 07700 900123";
        for name in ["site_praise", "promotion", "urgency", "money", "chat_apps", "phones"] {
            assert!(feature(text, name) > 0.0, "{name}");
        }
    }

    #[test]
    fn a_comment_on_the_subject_does_not() {
        let text = "My mentor at school helped me stay in class and my mum noticed";
        for name in ["site_praise", "promotion", "urgency", "money", "chat_apps", "links", "contact_me"] {
            counts(text, name, 0);
        }
        assert!(feature(text, "subject_words") > 0.3);
    }

    #[test]
    fn repeats_are_seen() {
        assert!(feature("buy buy buy buy", "repeated_words") > 0.7);
        assert!(feature("one line here\none line here", "repeated_lines") > 0.4);
    }
}
