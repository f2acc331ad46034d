//! Repeats and organised responses, found by shared words and never by meaning.
//!
//! Two people who agree are not a campaign; two people who send the same words
//! are. Texts are compared by runs of five words, so this joins copying and
//! leaves agreement alone. Only hashes are kept: a text can be forgotten as soon
//! as it has been added, and half a million comments fit in about 100 MB.
//!
//! - Same respondent, same text: the first is kept, the others are repeats.
//! - Different respondents, three or more, same or nearly the same text of at
//!   least [`CAMPAIGN_WORDS`] words: a campaign. Shown, never removed. Shorter
//!   texts ("I agree with this") coincide by themselves.

use std::collections::{BTreeMap, HashMap, HashSet};

use sha2::{Digest, Sha256};
use unicode_normalization::UnicodeNormalization;

/// Words that a text needs before its copies count as organised.
pub const CAMPAIGN_WORDS: usize = 8;
/// Different respondents that make a campaign.
pub const CAMPAIGN_RESPONDENTS: usize = 3;
/// Share of five-word runs that two near copies have in common (Jaccard).
pub const NEAR: f64 = 0.6;
/// Share of the shorter text's runs that stand in the longer one, where a template
/// was kept and own words were added.
pub const CONTAINED: f64 = 0.8;
/// Below this likeness the estimate of what is contained is too rough to use.
const PARTLY: f64 = 0.3;

const RUN: usize = 5;
const BANDS: usize = 21;
const ROWS: usize = 3;
/// 21 bands of 3: two texts that share 60 % of their runs meet in at least one
/// band with probability 1 - (1 - 0.6^3)^21 = 0.994; at 20 % it is 0.16 and the
/// estimate below turns them away.
const HASHES: usize = BANDS * ROWS;
/// Members of a band's bucket that a newcomer is compared with.
const LEADERS: usize = 8;

/// The first 16 bits of each minimum: 126 bytes for a text, and two different
/// minima agree by chance once in 65,536.
type Signature = [u16; HASHES];

/// A 64-bit name for a text that never depends on the build or the machine.
pub fn stable_hash(parts: &[&str]) -> u64 {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update((part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    let digest = hasher.finalize();
    digest.iter().take(8).fold(0, |value, byte| value << 8 | u64::from(*byte))
}

/// Letters and figures only, lower case, one space between words: what is left
/// of a text when layout and punctuation do not count. A text without any
/// (emoji, say) stands for itself.
pub fn normalised(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.nfkc().flat_map(char::to_lowercase) {
        if letter.is_alphanumeric() {
            out.push(letter);
        } else if matches!(letter, '\'' | '\u{2019}') {
            // "don't" and "dont" are one word.
        } else if !out.is_empty() && !out.ends_with(' ') {
            out.push(' ');
        }
    }
    let end = out.trim_end().len();
    out.truncate(end);
    if out.is_empty() { text.trim().to_owned() } else { out }
}

fn mix(mut value: u64) -> u64 {
    value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

fn word_hash(word: &str) -> u64 {
    word.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

fn signature(words: &[u64]) -> Option<Signature> {
    if words.len() < CAMPAIGN_WORDS {
        return None;
    }
    let mut minima = [u64::MAX; HASHES];
    for run in words.windows(RUN) {
        let shingle = run.iter().fold(0, |hash, word| mix(hash ^ word));
        for (seed, minimum) in minima.iter_mut().enumerate() {
            *minimum = (*minimum).min(mix(shingle ^ (seed as u64).wrapping_mul(0xd6e8_feb8_6659_fd93)));
        }
    }
    Some(minima.map(|minimum| (minimum >> 48) as u16))
}

fn likeness(one: &Signature, other: &Signature) -> f64 {
    let same = one.iter().zip(other).filter(|(a, b)| a == b).count();
    same as f64 / HASHES as f64
}

/// One comment as the search keeps it.
#[derive(Clone, Copy, Debug)]
struct Copy {
    sequence: i64,
    text: u32,
    respondent: u64,
    repeat: bool,
}

struct Distinct {
    signature: Option<Signature>,
    words: u32,
}

/// What adding a comment told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Added {
    /// Nobody has sent this text before.
    FirstOfText,
    /// Somebody else has.
    SameText,
    /// The same respondent has: a repeat.
    Repeat,
}

/// How a group of comments shares its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sharing {
    /// Word for word.
    Exact,
    /// With small edits.
    Near,
}

impl Sharing {
    /// The stable key used in files.
    pub fn key(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Near => "near",
        }
    }
}

/// Comments from different respondents that share their text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// `C1`, `C2`, ... for campaigns, `D1`, `D2`, ... for the rest; by first arrival.
    pub id: String,
    /// Whether it is large and long enough to be an organised response.
    pub campaign: bool,
    /// Word for word, or with edits.
    pub sharing: Sharing,
    /// Sequence of the first comment that carries the most frequent wording.
    pub template: i64,
    /// Members in order of arrival, repeats left out.
    pub members: Vec<i64>,
    /// Different respondents.
    pub respondents: u64,
    /// Members at least eight words longer than the template.
    pub with_additions: u64,
}

/// What the search found.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// By first arrival.
    pub groups: Vec<Group>,
    /// For comments in a group: its position in `groups`.
    pub group_of: HashMap<i64, u32>,
    /// Different texts among the comments that are no repeats.
    pub distinct_texts: u64,
}

impl Found {
    /// The group that a comment belongs to.
    pub fn group(&self, sequence: i64) -> Option<&Group> {
        self.group_of.get(&sequence).and_then(|at| self.groups.get(*at as usize))
    }

    /// Whether a comment belongs to a campaign.
    pub fn in_campaign(&self, sequence: i64) -> bool {
        self.group(sequence).is_some_and(|group| group.campaign)
    }
}

/// Collects comments one by one; [`Search::finish`] groups them.
#[derive(Default)]
pub struct Search {
    texts: HashMap<u64, u32>,
    distinct: Vec<Distinct>,
    sent: HashSet<(u64, u32)>,
    copies: Vec<Copy>,
}

impl Search {
    /// Adds one comment. `respondent` is `None` where the source does not say who
    /// wrote it; such a comment counts as a respondent of its own.
    pub fn add(&mut self, sequence: i64, respondent: Option<u64>, text: &str) -> Added {
        let plain = normalised(text);
        let fresh = self.distinct.len() as u32;
        let index = *self.texts.entry(stable_hash(&[&plain])).or_insert(fresh);
        let first = index == fresh;
        if first {
            let words: Vec<u64> = plain.split(' ').map(word_hash).collect();
            self.distinct.push(Distinct { signature: signature(&words), words: words.len() as u32 });
        }
        let repeat = respondent.is_some_and(|who| !self.sent.insert((who, index)));
        let respondent = respondent.unwrap_or_else(|| mix(sequence as u64 ^ 0x5bd1_e995_0000_0001));
        self.copies.push(Copy { sequence, text: index, respondent, repeat });
        match (repeat, first) {
            (true, _) => Added::Repeat,
            (false, true) => Added::FirstOfText,
            (false, false) => Added::SameText,
        }
    }

    /// Groups what was added. The same comments in the same order give the same groups.
    pub fn finish(self) -> Found {
        let mut roots = self.join_near();
        let mut clusters: BTreeMap<u32, Vec<Copy>> = BTreeMap::new();
        for copy in self.copies.iter().filter(|copy| !copy.repeat) {
            clusters.entry(find(&mut roots, copy.text)).or_default().push(*copy);
        }
        let mut groups: Vec<Group> =
            clusters.into_values().filter(|members| members.len() > 1).filter_map(|m| self.group(&m)).collect();
        groups.sort_by_key(|group| group.members[0]);
        let (mut campaigns, mut others) = (0, 0);
        let mut group_of = HashMap::new();
        for (at, group) in groups.iter_mut().enumerate() {
            let (letter, number) = if group.campaign { ('C', &mut campaigns) } else { ('D', &mut others) };
            *number += 1;
            group.id = format!("{letter}{number}");
            group_of.extend(group.members.iter().map(|sequence| (*sequence, at as u32)));
        }
        Found { groups, group_of, distinct_texts: self.distinct.len() as u64 }
    }

    fn group(&self, members: &[Copy]) -> Option<Group> {
        let mut wordings: BTreeMap<u32, usize> = BTreeMap::new();
        for member in members {
            *wordings.entry(member.text).or_default() += 1;
        }
        // The earliest wording wins among equals: indices are in order of arrival.
        let (&template, _) = wordings.iter().max_by_key(|(text, count)| (**count, u32::MAX - **text))?;
        let words_of = |text: u32| self.distinct[text as usize].words;
        let respondents: HashSet<u64> = members.iter().map(|member| member.respondent).collect();
        let long_enough = words_of(template) as usize >= CAMPAIGN_WORDS;
        Some(Group {
            id: String::new(),
            campaign: long_enough && respondents.len() >= CAMPAIGN_RESPONDENTS,
            sharing: if wordings.len() == 1 { Sharing::Exact } else { Sharing::Near },
            template: members.iter().find(|member| member.text == template)?.sequence,
            members: members.iter().map(|member| member.sequence).collect(),
            respondents: respondents.len() as u64,
            with_additions: members.iter().filter(|member| words_of(member.text) >= words_of(template) + 8).count()
                as u64,
        })
    }

    /// Texts that are near copies, as a forest over `distinct`.
    fn join_near(&self) -> Vec<u32> {
        let mut roots: Vec<u32> = (0..self.distinct.len() as u32).collect();
        let signed: Vec<(u32, &Signature)> = self
            .distinct
            .iter()
            .enumerate()
            .filter_map(|(index, text)| Some((index as u32, text.signature.as_ref()?)))
            .collect();
        for band in 0..BANDS {
            let rows = band * ROWS..(band + 1) * ROWS;
            let mut keyed: Vec<(&[u16], u32)> =
                signed.iter().map(|(index, signature)| (&signature[rows.clone()], *index)).collect();
            keyed.sort_unstable();
            for bucket in keyed.chunk_by(|one, other| one.0 == other.0).filter(|bucket| bucket.len() > 1) {
                self.join_bucket(bucket, &mut roots);
            }
        }
        roots
    }

    fn join_bucket(&self, bucket: &[(&[u16], u32)], roots: &mut [u32]) {
        let mut leaders: Vec<u32> = Vec::with_capacity(LEADERS);
        for (_, index) in bucket {
            let like = leaders.iter().copied().find(|leader| self.alike(*leader, *index));
            match like {
                Some(leader) => {
                    let (one, other) = (find(roots, leader), find(roots, *index));
                    // The earlier text stays the root, so the forest does not depend on the band.
                    roots[one.max(other) as usize] = one.min(other);
                }
                None if leaders.len() < LEADERS => leaders.push(*index),
                None => {}
            }
        }
    }

    /// Near copies, or one of them mostly contained in the other: a template with
    /// somebody's own words added.
    fn alike(&self, one: u32, other: u32) -> bool {
        let (one, other) = (&self.distinct[one as usize], &self.distinct[other as usize]);
        let (Some(first), Some(second)) = (&one.signature, &other.signature) else { return false };
        let likeness = likeness(first, second);
        // |A n B| = J (|A| + |B|) / (1 + J), from J = |A n B| / |A u B|.
        let runs = |text: &Distinct| f64::from(text.words) - (RUN - 1) as f64;
        let shared = likeness * (runs(one) + runs(other)) / (1.0 + likeness);
        let contained = shared / runs(one).min(runs(other));
        likeness >= NEAR || (likeness >= PARTLY && contained >= CONTAINED)
    }
}

fn find(roots: &mut [u32], mut index: u32) -> u32 {
    while roots[index as usize] != index {
        roots[index as usize] = roots[roots[index as usize] as usize];
        index = roots[index as usize];
    }
    index
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEMPLATE: &str = "I ask the council to keep the youth mentoring scheme open because it gives every \
        child in our borough somebody to turn to after school and it costs less than doing nothing";

    fn search(comments: &[(Option<u64>, &str)]) -> (Vec<Added>, Found) {
        let mut search = Search::default();
        let added = comments.iter().zip(1..).map(|((who, text), sequence)| search.add(sequence, *who, text)).collect();
        (added, search.finish())
    }

    #[test]
    fn layout_and_punctuation_do_not_make_a_text_different() {
        assert_eq!(normalised("  Don’t  CLOSE it!!\n"), normalised("dont close it"));
        assert_eq!(normalised("👍👍"), "👍👍");
    }

    #[test]
    fn the_same_respondent_repeating_is_a_repeat_and_another_one_is_not() {
        let (added, found) =
            search(&[(Some(1), "Keep it."), (Some(1), "keep it"), (Some(2), "Keep it!"), (None, "Something else")]);
        assert_eq!(added, [Added::FirstOfText, Added::Repeat, Added::SameText, Added::FirstOfText]);
        assert_eq!(found.distinct_texts, 2);
        assert_eq!(found.groups.len(), 1);
        assert!(!found.groups[0].campaign, "two people, and two words");
        assert_eq!((found.groups[0].id.as_str(), found.groups[0].sharing), ("D1", Sharing::Exact));
    }

    #[test]
    fn three_people_with_one_text_are_a_campaign_and_small_edits_do_not_hide_it() {
        let edited = TEMPLATE.replace("borough", "town");
        let longer = format!(
            "{TEMPLATE}. My own son had a mentor for two years and went on to college, which nobody on our street \
             would have believed when he was thirteen and would not leave his room."
        );
        let (_, found) = search(&[
            (Some(1), TEMPLATE),
            (Some(2), &edited),
            (Some(3), TEMPLATE),
            (None, &longer),
            (Some(5), "Mentoring should grow by itself and the council should stay well out of it, I think."),
        ]);
        assert_eq!(found.groups.len(), 1);
        let campaign = &found.groups[0];
        assert!(campaign.campaign);
        assert_eq!(campaign.members, [1, 2, 3, 4]);
        assert_eq!((campaign.respondents, campaign.with_additions, campaign.template), (4, 1, 1));
        assert!(found.in_campaign(4) && !found.in_campaign(5));
    }

    #[test]
    fn short_texts_that_coincide_are_no_campaign() {
        let (_, found) = search(&[(Some(1), "I agree"), (Some(2), "I agree"), (Some(3), "I agree")]);
        assert!(!found.groups[0].campaign);
    }

    #[test]
    fn people_who_merely_agree_are_left_apart() {
        let (_, found) = search(&[
            (Some(1), "The mentoring scheme at our school helped my daughter settle in and make friends."),
            (Some(2), "My daughter settled in and made friends thanks to the school mentoring scheme, it helped."),
            (Some(3), "Thanks to the scheme my daughter has friends now, the mentoring at school really helped."),
        ]);
        assert!(found.groups.is_empty());
    }

    #[test]
    fn a_flood_of_near_copies_is_one_group() {
        let mut search = Search::default();
        for sequence in 0..400 {
            search.add(sequence, Some(sequence as u64), &format!("{TEMPLATE}, says number {sequence}"));
        }
        let found = search.finish();
        assert_eq!(found.groups.len(), 1);
        assert_eq!(found.groups[0].members.len(), 400);
    }
}
