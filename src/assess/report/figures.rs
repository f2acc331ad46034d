//! The words of a report: counts that reconcile.

use std::collections::BTreeMap;

use jiff::civil::Date;

use super::groups::GroupTable;
use super::place::Exclusion;
use super::quotes::Quote;
use crate::domain::codebook::ThemeId;
use crate::domain::decision::ReasonKey;
use crate::domain::opinion::{Attitude, Polarity, Stance, Tone};
use crate::pipeline::ports::Funnel;

/// Counts by position, in the fixed order of every chart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Split {
    /// For.
    pub supporting: u64,
    /// Real weight on both sides.
    pub mixed: u64,
    /// No attitude shows.
    pub unclear: u64,
    /// Against.
    pub against: u64,
    /// No model judged it.
    pub not_judged: u64,
}

impl Split {
    /// Counts one.
    pub fn add(&mut self, attitude: Option<Attitude>) {
        *match attitude {
            Some(Attitude::Positive) => &mut self.supporting,
            Some(Attitude::Mixed) => &mut self.mixed,
            Some(Attitude::Neutral) => &mut self.unclear,
            Some(Attitude::Negative) => &mut self.against,
            None => &mut self.not_judged,
        } += 1;
    }

    /// All of them.
    pub fn total(&self) -> u64 {
        self.supporting + self.mixed + self.unclear + self.against + self.not_judged
    }

    /// For, mixed, unclear, against.
    pub fn in_order(&self) -> [u64; 4] {
        [self.supporting, self.mixed, self.unclear, self.against]
    }

    /// The position that most take; the first in order of equals, `None` when none was judged.
    pub fn most_frequent(&self) -> Option<Attitude> {
        const ORDER: [Attitude; 4] = [Attitude::Positive, Attitude::Mixed, Attitude::Neutral, Attitude::Negative];
        let counts = self.in_order();
        let most = *counts.iter().max()?;
        (most > 0).then(|| ORDER[counts.iter().position(|count| *count == most).unwrap_or(0)])
    }
}

/// One figure, counted three ways.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ThreeWays {
    /// Every included comment.
    pub all: u64,
    /// Each different text once.
    pub distinct: u64,
    /// Without comments that belong to a campaign.
    pub without_campaigns: u64,
}

/// One theme's figures, over included comments.
#[derive(Clone, Debug, PartialEq)]
pub struct ThemeFigures {
    /// Stable key.
    pub id: ThemeId,
    /// What readers see.
    pub label: String,
    /// What it means.
    pub definition: String,
    /// Key of the theme above it.
    pub parent: Option<ThemeId>,
    /// Whether it is one of the headline themes.
    pub headline: bool,
    /// Comments that raise it.
    pub ways: ThreeWays,
    /// Different respondents who raise it; a comment without a known respondent counts as one.
    pub respondents: u64,
    /// Positions of the parts that carry it.
    pub split: Split,
    /// Tags under [`super::CHECK_BELOW`].
    pub to_check: u64,
    /// Chosen words.
    pub quotes: Vec<Quote>,
}

/// Possible disclosures of harm. Counts and nothing else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Disclosures {
    /// Waiting or looked at.
    pub escalated: u64,
    /// Of these and of the withdrawn ones, nobody has acknowledged them yet.
    pub unacknowledged: u64,
    /// Withdrawn by their authors afterwards; they still need to be read.
    pub withdrawn: u64,
}

/// Comments from different respondents that share organised text.
#[derive(Clone, Debug, PartialEq)]
pub struct Campaign {
    /// `C1`, `C2`, ...
    pub id: String,
    /// `exact` or `near`.
    pub sharing: super::super::repeats::Sharing,
    /// Included comments.
    pub comments: u64,
    /// Different respondents.
    pub respondents: u64,
    /// Comments that add at least eight words of their own.
    pub with_additions: u64,
    /// Sequence of the comment that stands for the wording.
    pub template: i64,
    /// Day of the first comment that has a date.
    pub first_seen: Option<Date>,
    /// Day of the last.
    pub last_seen: Option<Date>,
    /// Positions that its comments take.
    pub split: Split,
    /// Comments that raise each theme, in the order of the codebook.
    pub themes: Vec<u64>,
}

/// Everything a report says. Built by [`super::SummaryBuilder`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Summary {
    /// Where every comment is, by verdict.
    pub funnel: Funnel,
    /// Comments that count in figures.
    pub included: u64,
    /// Comments by the rulebook whose judgement they carry now, withdrawn ones not counted.
    pub judged_by: BTreeMap<String, u64>,
    /// Comments that do not, by reason.
    pub excluded: BTreeMap<Exclusion, u64>,
    /// Held comments by first reason.
    pub held_by_reason: BTreeMap<ReasonKey, u64>,
    /// Rows that could not become comments, by reason.
    pub failed_by_reason: BTreeMap<String, u64>,
    /// Included comments about something else; shown, not removed.
    pub off_topic: u64,
    /// Possible disclosures of harm.
    pub disclosures: Disclosures,
    /// Different known respondents of included comments.
    pub respondents: u64,
    /// Included comments without a known respondent.
    pub unknown_respondents: u64,
    /// By the codebook's order.
    pub themes: Vec<ThemeFigures>,
    /// Included, substantive, no theme fits.
    pub other: ThreeWays,
    /// Included, too short to code.
    pub none: ThreeWays,
    /// Included, in a language whose themes were not judged.
    pub themes_not_judged: ThreeWays,
    /// All included comments.
    pub ways: ThreeWays,
    /// Their positions, all.
    pub positions: Split,
    /// Their positions, each different text once.
    pub positions_distinct: Split,
    /// Their positions, without campaigns.
    pub positions_without_campaigns: Split,
    /// Stance over the codebook's pair.
    pub stances: BTreeMap<Stance, u64>,
    /// General mood, where there is no subject.
    pub polarities: BTreeMap<Polarity, u64>,
    /// How it is said.
    pub tones: BTreeMap<Tone, u64>,
    /// Included comments by language.
    pub languages: BTreeMap<String, u64>,
    /// Themes by declared group.
    pub groups: Vec<GroupTable>,
    /// Names of every declared group.
    pub group_names: Vec<String>,
    /// Included comments by day, in the consultation's time zone.
    pub days: BTreeMap<Date, u64>,
    /// Included comments without a date.
    pub undated: u64,
    /// Largest first.
    pub campaigns: Vec<Campaign>,
    /// Included comments with a tag under [`super::CHECK_BELOW`].
    pub low_confidence: u64,
    /// Included comments with personal data.
    pub with_personal_data: u64,
    /// Of these, with some that only a person can tell.
    pub personal_data_to_check: u64,
}

impl Summary {
    /// Everything that came in.
    pub fn received(&self) -> u64 {
        self.funnel.received()
    }

    /// Excluded comments, all reasons.
    pub fn excluded_total(&self) -> u64 {
        self.excluded.values().sum()
    }

    /// Included comments that belong to a campaign.
    pub fn in_campaigns(&self) -> u64 {
        self.campaigns.iter().map(|campaign| campaign.comments).sum()
    }

    /// Whether both ways of counting give the number received.
    pub fn reconciles(&self) -> bool {
        let funnel = &self.funnel;
        let by_place = self.included
            + self.excluded_total()
            + funnel.held
            + funnel.escalated
            + funnel.failed
            + funnel.waiting
            + funnel.parked;
        by_place == self.received()
            && self.failed_by_reason.values().sum::<u64>() == funnel.failed
            && self.held_by_reason.values().sum::<u64>() == funnel.held
            && self.positions.total() == self.included
            && self.themes.iter().all(|theme| theme.split.total() == theme.ways.all)
            && self.days.values().sum::<u64>() + self.undated == self.included
    }
}
