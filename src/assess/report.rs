//! The figures of a report, from one pass over stored comments.
//!
//! [`SummaryBuilder`] takes comments one by one and keeps hashes, counters and a
//! bounded number of possible quotes, so that half a million comments fit in
//! memory. Every figure reconciles ([`Summary::reconciles`]); a possible
//! disclosure of harm is counted and never looked at further.

mod figures;
pub mod groups;
pub mod place;
pub mod quotes;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, HashSet};

use jiff::tz::TimeZone;
use jiff::{Timestamp, civil::Date};

pub use self::figures::{Campaign, Disclosures, Split, Summary, ThemeFigures, ThreeWays};
use self::groups::GroupCounts;
use self::place::{Exclusion, Place, place};
use self::quotes::QuoteSearch;
use super::repeats::{Added, Found, Search, stable_hash};
use crate::domain::assessment::Sentiment;
use crate::domain::codebook::{Theme, ThemeTag};
use crate::domain::decision::{ReasonKey, Verdict};
use crate::domain::opinion::Attitude;
use crate::domain::rulebook::Rulebook;
use crate::pipeline::ports::{FailedRow, Funnel, StoredComment};

/// Tags under this probability are for a person to check.
pub const CHECK_BELOW: f32 = 0.6;
/// Tags from this probability are shown as high confidence.
pub const HIGH_FROM: f32 = 0.8;
/// A comment of fewer words that raises no theme is too short to code (`NONE`);
/// from here on it is `OTHER`.
pub const SUBSTANTIVE_WORDS: usize = 4;

/// Characters that show nothing, reorder what is around them or drive a terminal.
/// Joiners are left to writing systems and emoji that need them.
pub fn hidden(letter: char) -> bool {
    letter.is_control()
        || matches!(letter, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{feff}'
            | '\u{202a}'..='\u{202e}' | '\u{2028}' | '\u{2029}' | '\u{2060}'..='\u{206f}'
            | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// What the second pass needs to know about comments that would count.
#[derive(Debug, Default)]
pub struct Placements {
    /// Sequences of comments excluded as repeats.
    repeats: HashSet<i64>,
    /// Shared texts.
    pub found: Found,
}

impl Placements {
    /// Where a comment counts, repeats known.
    pub fn place(&self, stored: &StoredComment, closes_at: Option<Timestamp>) -> Place {
        let place = place(stored, closes_at);
        if place == Place::Included && self.repeats.contains(&stored.sequence) {
            return Place::Excluded(Exclusion::Repeat);
        }
        place
    }
}

/// An included comment as the summary remembers it: 40 bytes.
struct Record {
    sequence: i64,
    respondent: u64,
    /// One bit per theme of the codebook.
    themes: u128,
    position: Option<Attitude>,
    coded: Coded,
    first_of_text: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Coded {
    Themes,
    Other,
    None,
    NotJudged,
}

/// Builds a [`Summary`] comment by comment, in order of sequence.
pub struct SummaryBuilder {
    summary: Summary,
    themes: HashMap<String, usize>,
    has_codebook: bool,
    zone: TimeZone,
    closes_at: Option<Timestamp>,
    search: Search,
    groups: GroupCounts,
    quotes: QuoteSearch,
    records: Vec<Record>,
    repeats: HashSet<i64>,
    known: HashSet<u64>,
    dates: HashMap<i64, Date>,
}

impl SummaryBuilder {
    /// For one consultation; days are days in `zone`.
    pub fn new(rulebook: &Rulebook, zone: TimeZone) -> Self {
        // A bit each in a record; a codebook has at most 70.
        let codebook: &[Theme] =
            rulebook.codebook.as_ref().map_or(&[], |book| &book.themes[..book.themes.len().min(128)]);
        let figures = codebook.iter().map(|theme| ThemeFigures {
            id: theme.id.clone(),
            label: theme.label.clone(),
            definition: theme.definition.clone(),
            parent: theme.parent.clone(),
            headline: theme.headline,
            ways: ThreeWays::default(),
            respondents: 0,
            split: Split::default(),
            to_check: 0,
            quotes: Vec::new(),
        });
        Self {
            summary: Summary { themes: figures.collect(), ..Summary::default() },
            themes: codebook.iter().enumerate().map(|(at, theme)| (theme.id.to_string(), at)).collect(),
            has_codebook: rulebook.codebook.is_some(),
            zone,
            closes_at: rulebook.consultation.closes_at,
            search: Search::default(),
            groups: GroupCounts::default(),
            quotes: QuoteSearch::new(codebook.len()),
            records: Vec::new(),
            repeats: HashSet::new(),
            known: HashSet::new(),
            dates: HashMap::new(),
        }
    }

    /// Counts a row that could not become a comment.
    pub fn fail(&mut self, row: &FailedRow) {
        self.summary.funnel.failed += 1;
        *self.summary.failed_by_reason.entry(row.reason.clone()).or_default() += 1;
    }

    /// Counts one stored comment.
    pub fn push(&mut self, stored: &StoredComment) {
        let summary = &mut self.summary;
        let verdict = stored.verdict();
        if stored.withdrawn && verdict == Verdict::Escalate {
            summary.disclosures.withdrawn += 1;
            summary.disclosures.unacknowledged += u64::from(stored.acknowledged_at_ms.is_none());
        }
        *match (stored.withdrawn, verdict) {
            (true, _) => &mut summary.funnel.withdrawn,
            (_, Verdict::Accept) => &mut summary.funnel.accepted,
            (_, Verdict::Hold) => &mut summary.funnel.held,
            (_, Verdict::Reject) => &mut summary.funnel.rejected,
            (_, Verdict::Escalate) => &mut summary.funnel.escalated,
        } += 1;
        if !stored.withdrawn {
            *summary.judged_by.entry(stored.assessment.pipeline_version.0.clone()).or_default() += 1;
        }
        match place(stored, self.closes_at) {
            Place::Escalated => {
                summary.disclosures.escalated += 1;
                summary.disclosures.unacknowledged += u64::from(stored.acknowledged_at_ms.is_none());
            }
            Place::Held => {
                let reason = stored.assessment.reasons.first().map_or(ReasonKey::LOW_CONFIDENCE, |reason| reason.key);
                *summary.held_by_reason.entry(reason).or_default() += 1;
            }
            Place::Excluded(reason) => *summary.excluded.entry(reason).or_default() += 1,
            Place::Included => self.include(stored),
        }
    }

    fn include(&mut self, stored: &StoredComment) {
        let respondent = stored.comment.author.respondent_key().map(|key| stable_hash(&["respondent", &key]));
        let added = self.search.add(stored.sequence, respondent, &stored.comment.text);
        if added == Added::Repeat {
            self.repeats.insert(stored.sequence);
            *self.summary.excluded.entry(Exclusion::Repeat).or_default() += 1;
            return;
        }
        let assessment = &stored.assessment;
        let tags = self.tags(assessment.themes.as_deref().unwrap_or_default());
        let summary = &mut self.summary;
        summary.included += 1;
        summary.off_topic += u64::from(assessment.is_off_topic());
        match respondent {
            Some(who) => summary.respondents += u64::from(self.known.insert(who)),
            None => summary.unknown_respondents += 1,
        }
        let mut position = None;
        match &assessment.sentiment {
            Some(Sentiment::Attitude(attitude)) => position = Some(attitude.top().0),
            Some(Sentiment::Polarity(polarity)) => *summary.polarities.entry(polarity.top().0).or_default() += 1,
            None => {}
        }
        summary.positions.add(position);
        if let Some((stance, _)) = assessment.stance {
            *summary.stances.entry(stance).or_default() += 1;
        }
        if let Some((tone, _)) = assessment.tone {
            *summary.tones.entry(tone).or_default() += 1;
        }
        *summary.languages.entry(assessment.language.code().to_owned()).or_default() += 1;
        match stored.comment.posted_at {
            Some(posted) => {
                let day = self.zone.to_datetime(posted).date();
                *summary.days.entry(day).or_default() += 1;
                self.dates.insert(stored.sequence, day);
            }
            None => summary.undated += 1,
        }
        if !assessment.pii.is_empty() {
            summary.with_personal_data += 1;
            summary.personal_data_to_check += u64::from(assessment.pii.iter().any(|pii| !pii.certain));
        }
        for (theme, tag) in &tags {
            let figures = &mut summary.themes[*theme];
            figures.split.add(tag.position.map(|(attitude, _)| attitude));
            figures.to_check += u64::from(tag.score.probability.get() < CHECK_BELOW);
        }
        summary.low_confidence += u64::from(tags.iter().any(|(_, tag)| tag.score.probability.get() < CHECK_BELOW));
        let indices: Vec<usize> = tags.iter().map(|(theme, _)| *theme).collect();
        self.groups.add(&stored.comment.groups, &indices, summary.themes.len());
        self.quotes.add(stored, respondent, &tags);
        let coded = match &assessment.themes {
            _ if !tags.is_empty() => Coded::Themes,
            None => Coded::NotJudged,
            Some(_) if assessment.word_count < SUBSTANTIVE_WORDS => Coded::None,
            Some(_) => Coded::Other,
        };
        self.records.push(Record {
            sequence: stored.sequence,
            respondent: respondent.unwrap_or_else(|| stable_hash(&["comment", &stored.sequence.to_string()])),
            themes: indices.iter().fold(0, |bits, theme| bits | 1 << theme),
            position,
            coded,
            first_of_text: added == Added::FirstOfText,
        });
    }

    /// Tags of themes that the codebook knows, each theme once.
    fn tags<'a>(&self, tags: &'a [ThemeTag]) -> Vec<(usize, &'a ThemeTag)> {
        let mut known: Vec<(usize, &ThemeTag)> =
            tags.iter().filter_map(|tag| Some((*self.themes.get(tag.theme.as_str())?, tag))).collect();
        known.sort_by_key(|(theme, _)| *theme);
        known.dedup_by_key(|(theme, _)| *theme);
        known
    }

    /// The figures, and what a second pass over the same comments needs.
    /// `in_queue` gives `waiting` and `parked`; its other counts are not looked at.
    pub fn finish(self, in_queue: Funnel) -> (Summary, Placements) {
        let Self { mut summary, search, groups, quotes, records, repeats, dates, has_codebook, .. } = self;
        summary.funnel.waiting = in_queue.waiting;
        summary.funnel.parked = in_queue.parked;
        let found = search.finish();
        count_ways(&mut summary, &records, &found, has_codebook);
        for (at, figures) in summary.themes.iter_mut().enumerate() {
            let who: HashSet<u64> =
                records.iter().filter(|record| record.themes >> at & 1 == 1).map(|record| record.respondent).collect();
            figures.respondents = who.len() as u64;
        }
        summary.campaigns = campaigns(&records, &found, &dates, summary.themes.len());
        summary.group_names = groups.names();
        let totals: Vec<u64> = summary.themes.iter().map(|theme| theme.ways.all).collect();
        summary.groups = groups.finish(summary.included, &totals);
        let splits: Vec<Split> = summary.themes.iter().map(|theme| theme.split).collect();
        for (figures, quotes) in summary.themes.iter_mut().zip(quotes.finish(&splits, &found)) {
            figures.quotes = quotes;
        }
        (summary, Placements { repeats, found })
    }
}

fn count_ways(summary: &mut Summary, records: &[Record], found: &Found, has_codebook: bool) {
    for record in records {
        let outside = !found.in_campaign(record.sequence);
        let count = |ways: &mut ThreeWays| {
            ways.all += 1;
            ways.distinct += u64::from(record.first_of_text);
            ways.without_campaigns += u64::from(outside);
        };
        count(&mut summary.ways);
        if record.first_of_text {
            summary.positions_distinct.add(record.position);
        }
        if outside {
            summary.positions_without_campaigns.add(record.position);
        }
        for (at, figures) in summary.themes.iter_mut().enumerate() {
            if record.themes >> at & 1 == 1 {
                count(&mut figures.ways);
            }
        }
        match record.coded {
            _ if !has_codebook => {}
            Coded::Themes => {}
            Coded::Other => count(&mut summary.other),
            Coded::None => count(&mut summary.none),
            Coded::NotJudged => count(&mut summary.themes_not_judged),
        }
    }
}

fn campaigns(records: &[Record], found: &Found, dates: &HashMap<i64, Date>, themes: usize) -> Vec<Campaign> {
    let mut campaigns: BTreeMap<u32, Campaign> = BTreeMap::new();
    for record in records {
        let Some(at) = found.group_of.get(&record.sequence) else { continue };
        let group = &found.groups[*at as usize];
        if !group.campaign {
            continue;
        }
        let campaign = campaigns.entry(*at).or_insert_with(|| Campaign {
            id: group.id.clone(),
            sharing: group.sharing,
            comments: 0,
            respondents: group.respondents,
            with_additions: group.with_additions,
            template: group.template,
            first_seen: None,
            last_seen: None,
            split: Split::default(),
            themes: vec![0; themes],
        });
        campaign.comments += 1;
        campaign.split.add(record.position);
        for (theme, count) in campaign.themes.iter_mut().enumerate() {
            *count += (record.themes >> theme & 1) as u64;
        }
        if let Some(day) = dates.get(&record.sequence) {
            campaign.first_seen = Some(campaign.first_seen.map_or(*day, |first| first.min(*day)));
            campaign.last_seen = campaign.last_seen.max(Some(*day));
        }
    }
    let mut campaigns: Vec<Campaign> = campaigns.into_values().collect();
    campaigns.sort_by_key(|campaign| std::cmp::Reverse(campaign.comments));
    campaigns
}
