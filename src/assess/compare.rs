//! Two judgements of one text side by side: what differs, and what crossed which point.
//!
//! Serves retagging (an earlier judgement and one made anew) and shadow mode (the active
//! rulebook's and another's). Nothing here holds the text.

use std::collections::BTreeMap;

use crate::domain::assessment::{Assessment, Sentiment};
use crate::domain::codebook::{ThemeId, ThemeTag};
use crate::domain::decision::{Reason, Verdict};
use crate::domain::rulebook::Rulebook;
use crate::domain::score::{Probability, Signals};

/// The judgements that have one label each, by the names that files use.
pub const LABELS: [&str; 4] = ["stance", "sentiment", "tone", "off_topic"];

/// One label before and after; `None` where the judgement has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shift {
    /// As it was.
    pub before: Option<&'static str>,
    /// As it is.
    pub after: Option<&'static str>,
}

impl Shift {
    /// Whether they differ.
    pub fn moved(self) -> bool {
        self.before != self.after
    }
}

/// One text's two judgements.
#[derive(Clone, Copy)]
pub struct Pair<'a> {
    /// The earlier judgement, or the active rulebook's.
    pub before: &'a Assessment,
    /// The judgement made anew, or the other rulebook's.
    pub after: &'a Assessment,
    /// The verdict that stood before.
    pub stood: Verdict,
    /// The verdict that stands after.
    pub stands: Verdict,
    /// The scores behind `after`, for what stayed below a mark; may be empty.
    pub signals: &'a Signals,
}

/// What two judgements of one text differ in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compared {
    /// The verdicts that stood and stand.
    pub verdict: (Verdict, Verdict),
    /// The machine's verdicts.
    pub machine: (Verdict, Verdict),
    /// Themes that only the later judgement tags.
    pub gained: Vec<ThemeId>,
    /// Themes that only the earlier one tags.
    pub lost: Vec<ThemeId>,
    /// Themes that both tag.
    pub kept: Vec<ThemeId>,
    /// In the order of [`LABELS`].
    pub labels: [Shift; 4],
    /// What crossed which point, a sentence each; empty where nothing differs.
    pub why: Vec<String>,
}

impl Compared {
    /// Whether a reader would see any difference.
    pub fn differs(&self) -> bool {
        self.verdict.0 != self.verdict.1
            || self.machine.0 != self.machine.1
            || !self.gained.is_empty()
            || !self.lost.is_empty()
            || self.labels.iter().any(|label| label.moved())
    }

    /// Whether the later judgement sees a possible disclosure that the earlier one did not.
    pub fn escalates(&self) -> bool {
        self.machine.1 == Verdict::Escalate && self.machine.0 != Verdict::Escalate
    }
}

/// Compares two judgements; `rulebook` is what the later one was made under.
pub fn compare(pair: Pair<'_>, rulebook: &Rulebook) -> Compared {
    let Pair { before, after, .. } = pair;
    let ids =
        |assessment: &Assessment| -> Vec<ThemeId> { tags(assessment).iter().map(|tag| tag.theme.clone()).collect() };
    let (earlier, later) = (ids(before), ids(after));
    let (kept, gained): (Vec<_>, Vec<_>) = later.into_iter().partition(|theme| earlier.contains(theme));
    let lost: Vec<_> = earlier.into_iter().filter(|theme| !kept.contains(theme)).collect();
    let (were, are) = (labels(before), labels(after));
    let labels = std::array::from_fn(|at| Shift { before: were[at].0, after: are[at].0 });
    let mut compared = Compared {
        verdict: (pair.stood, pair.stands),
        machine: (before.verdict, after.verdict),
        gained,
        lost,
        kept,
        labels,
        why: Vec::new(),
    };
    if compared.differs() {
        let mut why = verdict_why(pair, rulebook);
        why.extend(theme_why(pair, &compared, rulebook));
        for (at, name) in LABELS.iter().enumerate().filter(|(at, _)| compared.labels[*at].moved()) {
            why.push(format!("{name} is {} (was {})", told(are[at]), told(were[at])));
        }
        if pair.stands != after.verdict {
            let by = if pair.stands == Verdict::Escalate {
                "a text that was escalated stays so until a person releases it"
            } else {
                "a person decided so"
            };
            why.push(format!("`{}` stands: {by}", pair.stands.key()));
        }
        compared.why = why;
    }
    compared
}

fn tags(assessment: &Assessment) -> &[ThemeTag] {
    assessment.themes.as_deref().unwrap_or_default()
}

type Label = (Option<&'static str>, Option<Probability>);

fn labels(assessment: &Assessment) -> [Label; 4] {
    let sentiment = match &assessment.sentiment {
        Some(Sentiment::Attitude(all)) => Some((all.top().0.key(), all.top().1)),
        Some(Sentiment::Polarity(all)) => Some((all.top().0.key(), all.top().1)),
        None => None,
    };
    let off_topic = if assessment.is_off_topic() { "yes" } else { "no" };
    [
        assessment.stance.map(|(stance, p)| (stance.key(), p)),
        sentiment,
        assessment.tone.map(|(tone, p)| (tone.key(), p)),
        Some((off_topic, Probability::ZERO)),
    ]
    .map(|label| label.map_or((None, None), |(key, p)| (Some(key), Some(p).filter(|p| *p != Probability::ZERO))))
}

fn told((label, probability): Label) -> String {
    match (label, probability) {
        (None, _) => "not judged".to_owned(),
        (Some(label), None) => format!("`{label}`"),
        (Some(label), Some(p)) => format!("`{label}` at {:.3}", p.get()),
    }
}

/// Rules that fire on one side only, and what their attribute's probability did.
fn verdict_why(pair: Pair<'_>, rulebook: &Rulebook) -> Vec<String> {
    let Pair { before, after, .. } = pair;
    let acts = |reason: &&Reason| reason.verdict > Verdict::Accept;
    let same = |a: &Reason, b: &Reason| a.rule == b.rule && a.key == b.key && a.verdict == b.verdict;
    let rule = |id: &str| rulebook.policy.rules.iter().find(|rule| rule.id == id);
    let was = |reason: &Reason| {
        let found = reason.attribute.and_then(|attribute| before.attributes.get(&attribute));
        found.map_or_else(String::new, |p| format!(" (was {:.3})", p.get()))
    };
    let mut why = Vec::new();
    for reason in after.reasons.iter().filter(acts) {
        if before.reasons.iter().any(|other| same(reason, other)) {
            continue;
        }
        why.push(match (reason.attribute, reason.probability, rule(&reason.rule)) {
            (Some(attribute), Some(p), Some(rule)) => format!(
                "rule `{}` asks for {}: {} {:.3} reaches {:.3}{}",
                rule.id,
                reason.verdict.key(),
                attribute.key(),
                p.get(),
                rule.from.get(),
                was(reason)
            ),
            _ => format!("`{}` asks for {}", reason.key, reason.verdict.key()),
        });
    }
    for reason in before.reasons.iter().filter(acts) {
        if after.reasons.iter().any(|other| same(reason, other)) {
            continue;
        }
        let now = reason.attribute.and_then(|attribute| after.attributes.get(&attribute));
        match (rule(&reason.rule), reason.attribute, now) {
            (Some(rule), Some(attribute), Some(p)) if *p < rule.from => why.push(format!(
                "rule `{}` asks for {} no more: {} {:.3} is below {:.3}{}",
                rule.id,
                reason.verdict.key(),
                attribute.key(),
                p.get(),
                rule.from.get(),
                was(reason)
            )),
            // It reaches its point all the same: another rule of the same reason stands in for it.
            (Some(_), Some(_), Some(_)) => {}
            (None, Some(_), _) => {
                why.push(format!("rule `{}` is gone: it asked for {}", reason.rule, reason.verdict.key()));
            }
            _ => why.push(format!("`{}` asks for {} no more", reason.key, reason.verdict.key())),
        }
    }
    why
}

fn theme_why(pair: Pair<'_>, compared: &Compared, rulebook: &Rulebook) -> Vec<String> {
    let probability = |assessment: &Assessment, theme: &ThemeId| {
        tags(assessment).iter().find(|tag| tag.theme == *theme).map_or(0.0, |tag| tag.score.probability.get())
    };
    let mark = |theme: &ThemeId| Some(rulebook.codebook.as_ref()?.theme(theme)?.tag_from.get());
    let gained = compared.gained.iter().map(|theme| {
        let reaches = mark(theme).map_or_else(String::new, |mark| format!(" reaches {mark:.3}"));
        format!("theme `{theme}` is tagged: {:.3}{reaches}", probability(pair.after, theme))
    });
    let lost = compared.lost.iter().map(|theme| {
        let was = probability(pair.before, theme);
        let now = pair.signals.themes.iter().find(|scored| scored.theme == *theme);
        match (mark(theme), now) {
            (None, _) => format!("theme `{theme}` is not in the codebook (was {was:.3})"),
            (Some(mark), Some(now)) => {
                let now = now.score.probability.get();
                format!("theme `{theme}` is not tagged: {now:.3} is below {mark:.3} (was {was:.3})")
            }
            (Some(mark), None) => format!("theme `{theme}` is not tagged: below {mark:.3} (was {was:.3})"),
        }
    });
    gained.chain(lost).collect()
}

/// How often a theme is tagged by which side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ThemeMoves {
    /// By both.
    pub kept: u64,
    /// By the later judgement only.
    pub gained: u64,
    /// By the earlier judgement only.
    pub lost: u64,
}

impl ThemeMoves {
    /// Cohen's kappa over `compared` comments: agreement beyond what chance gives (Cohen, 1960).
    /// `None` where both sides always say the same one thing.
    pub fn kappa(self, compared: u64) -> Option<f64> {
        let share = |count: u64| count as f64 / compared.max(1) as f64;
        let (before, after) = (share(self.kept + self.lost), share(self.kept + self.gained));
        let chance = before * after + (1.0 - before) * (1.0 - after);
        (chance < 1.0).then(|| (1.0 - share(self.gained + self.lost) - chance) / (1.0 - chance))
    }
}

/// Sums over many comparisons.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Comments that were compared.
    pub compared: u64,
    /// Those in which a reader would see a difference.
    pub changed: u64,
    /// Verdicts that stood and stand.
    pub verdicts: BTreeMap<(Verdict, Verdict), u64>,
    /// The machine's verdicts.
    pub machine: BTreeMap<(Verdict, Verdict), u64>,
    /// By theme.
    pub themes: BTreeMap<String, ThemeMoves>,
    /// Comments whose label is another one, in the order of [`LABELS`].
    pub labels: [u64; 4],
    /// Possible disclosures that only the later judgement sees.
    pub escalated: u64,
    /// Possible disclosures that only the earlier judgement sees.
    pub missed: u64,
    /// Verdicts of the machine that do not stand, because of a person or an earlier escalation.
    pub overruled: u64,
}

impl Totals {
    /// Adds one comparison.
    pub fn add(&mut self, one: &Compared) {
        self.compared += 1;
        self.changed += u64::from(one.differs());
        *self.verdicts.entry(one.verdict).or_default() += 1;
        *self.machine.entry(one.machine).or_default() += 1;
        let mut count = |themes: &[ThemeId], field: fn(&mut ThemeMoves) -> &mut u64| {
            for theme in themes {
                *field(self.themes.entry(theme.to_string()).or_default()) += 1;
            }
        };
        count(&one.kept, |moves| &mut moves.kept);
        count(&one.gained, |moves| &mut moves.gained);
        count(&one.lost, |moves| &mut moves.lost);
        for (sum, label) in self.labels.iter_mut().zip(one.labels) {
            *sum += u64::from(label.moved());
        }
        self.escalated += u64::from(one.escalates());
        self.missed += u64::from(one.machine.0 == Verdict::Escalate && one.machine.1 != Verdict::Escalate);
        self.overruled += u64::from(one.verdict.1 != one.machine.1);
    }

    /// Comments whose machine verdict is the same on both sides.
    pub fn same_verdict(&self) -> u64 {
        self.machine.iter().filter(|((before, after), _)| before == after).map(|(_, count)| count).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::decision::ReasonKey;
    use crate::domain::score::Attribute;
    use crate::export::sample::{comment, p, rulebook};

    fn insulting(probability: f32, verdict: Verdict, rule: &str) -> Assessment {
        let mut assessment = comment(1, "a").assessment;
        assessment.attributes.insert(Attribute::Insult, p(probability));
        if verdict > Verdict::Accept {
            assessment.verdict = verdict;
            assessment.reasons.push(Reason {
                key: ReasonKey::ABUSE_INSULT,
                verdict,
                attribute: Some(Attribute::Insult),
                probability: Some(p(probability)),
                span: None,
                rule: rule.to_owned(),
            });
        }
        assessment
    }

    fn with_rule(from: f32) -> Rulebook {
        let mut book = rulebook(None);
        book.policy.rules = vec![crate::domain::policy::Rule {
            id: "insult".to_owned(),
            attribute: Attribute::Insult,
            from: p(from),
            origin: crate::domain::policy::ThresholdOrigin::Person,
            verdict: Verdict::Hold,
            reason: ReasonKey::ABUSE_INSULT,
        }];
        book
    }

    fn check(before: &Assessment, after: &Assessment, stands: Verdict, book: &Rulebook) -> Compared {
        let pair = Pair { before, after, stood: before.verdict, stands, signals: &Signals::default() };
        compare(pair, book)
    }

    #[test]
    fn a_point_that_is_crossed_is_named_with_both_numbers() {
        let (mild, harsh) = (insulting(0.41, Verdict::Accept, ""), insulting(0.62, Verdict::Hold, "insult"));
        let stricter = check(&mild, &harsh, Verdict::Hold, &with_rule(0.5));
        assert_eq!(stricter.why, ["rule `insult` asks for hold: insult 0.620 reaches 0.500 (was 0.410)"]);
        let milder = check(&harsh, &insulting(0.62, Verdict::Accept, ""), Verdict::Accept, &with_rule(0.7));
        assert_eq!(milder.why, ["rule `insult` asks for hold no more: insult 0.620 is below 0.700 (was 0.620)"]);
        let gone = check(&insulting(0.62, Verdict::Hold, "old"), &mild, Verdict::Accept, &with_rule(0.5));
        assert_eq!(gone.why, ["rule `old` is gone: it asked for hold"]);
    }

    #[test]
    fn equal_judgements_differ_in_nothing() {
        let same = insulting(0.62, Verdict::Hold, "insult");
        let compared = check(&same, &same, Verdict::Hold, &with_rule(0.5));
        assert!(!compared.differs() && compared.why.is_empty(), "{compared:?}");
    }

    #[test]
    fn what_a_person_decided_stands_and_is_said() {
        let (mild, harsh) = (insulting(0.41, Verdict::Accept, ""), insulting(0.62, Verdict::Hold, "insult"));
        let compared = check(&mild, &harsh, Verdict::Accept, &with_rule(0.5));
        assert_eq!(compared.verdict, (Verdict::Accept, Verdict::Accept));
        assert_eq!(compared.why[1], "`accept` stands: a person decided so");
        let mut totals = Totals::default();
        totals.add(&compared);
        assert_eq!((totals.changed, totals.overruled, totals.same_verdict()), (1, 1, 0));
    }

    #[test]
    fn kappa_is_one_for_full_agreement_and_nought_for_chance() {
        let moves = |kept, gained, lost| ThemeMoves { kept, gained, lost };
        assert_eq!(moves(10, 0, 0).kappa(100), Some(1.0));
        assert_eq!(moves(25, 25, 25).kappa(100), Some(0.0));
        assert_eq!(moves(0, 0, 0).kappa(100), None);
    }

    #[test]
    fn themes_are_gained_kept_and_lost() {
        use crate::domain::opinion::Attitude;
        let tagged = |themes: &[&str]| {
            themes
                .iter()
                .fold(comment(1, "a b"), |one, theme| one.tagged(theme, 0.6, Attitude::Neutral, "a"))
                .assessment
        };
        let book = rulebook(Some(8));
        let ids: Vec<&str> = book.codebook.as_ref().unwrap().themes.iter().map(|theme| theme.id.as_str()).collect();
        let compared = check(&tagged(&[ids[0], ids[1], "gone"]), &tagged(&[ids[1], ids[2]]), Verdict::Accept, &book);
        let names = |themes: &[ThemeId]| themes.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(names(&compared.gained), [ids[2]]);
        assert_eq!(names(&compared.kept), [ids[1]]);
        assert_eq!(names(&compared.lost), [ids[0], "gone"]);
        assert!(compared.why[0].contains("reaches"), "{:?}", compared.why);
        assert!(
            compared.why[1].contains("below") && compared.why[2].contains("not in the codebook"),
            "{:?}",
            compared.why
        );
        let mut totals = Totals::default();
        totals.add(&compared);
        assert_eq!(totals.themes[ids[0]], ThemeMoves { lost: 1, ..ThemeMoves::default() });
    }
}
