//! Judging stored comments anew, page by page.
//!
//! The loop of a dry run and of the real one is the same: what the one shows, the other
//! stores. Each page is a step that may be repeated: what was judged anew is known under its
//! version and is passed over, so a run that was stopped goes on by being run again.

use std::collections::HashMap;

use super::identity::judged_hash;
use super::ports::{EngineError, Judge, Judged, Recorded, Store, StoreError, StoredComment};
use super::shutdown::Shutdown;
use crate::assess::compare::{Compared, Pair, Totals, compare};
use crate::domain::assessment::Assessment;
use crate::domain::comment::Comment;
use crate::domain::decision::{Verdict, standing_verdict};
use crate::domain::rulebook::Rulebook;
use crate::domain::score::Signals;

/// Comments of one page: enough for every thread, few enough to lose little by a stop.
const PAGE: u32 = 128;

/// What judges anew, and where.
#[derive(Clone, Copy)]
pub struct RetagDeps<'a> {
    /// What is stored.
    pub store: &'a dyn Store,
    /// Who judges; it must carry `rulebook`.
    pub judge: &'a dyn Judge,
    /// By what.
    pub rulebook: &'a Rulebook,
}

/// What to do with what was judged anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retag {
    /// Only show it.
    DryRun,
    /// Store it.
    Apply {
        /// Send a result for each comment in which a reader would see a difference.
        publish: bool,
    },
}

/// Why retagging stopped. What was stored until then stays; running it again goes on.
#[derive(Debug, thiserror::Error)]
pub enum RetagError {
    /// The store refused.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The models gave no judgement.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// What was found could not be written down.
    #[error("cannot write the list of changes: {0}")]
    List(#[from] std::io::Error),
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Retagged {
    /// What differs.
    pub totals: Totals,
    /// Comments that were looked at.
    pub seen: u64,
    /// Comments that carried a judgement of this rulebook already.
    pub already: u64,
    /// Judgements that became current.
    pub recorded: u64,
    /// Whether it was asked to stop before the end.
    pub stopped: bool,
}

/// Judges every stored comment of the rulebook's consultation that carries another
/// rulebook's judgement. `each` is told of every comment in which a reader would see a
/// difference, `progress` how many were looked at.
///
/// # Errors
/// [`RetagError`]; the pages before are stored.
pub async fn retag(
    deps: RetagDeps<'_>,
    what: Retag,
    shutdown: &Shutdown,
    mut each: impl FnMut(&StoredComment, &Compared) -> std::io::Result<()>,
    progress: impl Fn(u64),
) -> Result<Retagged, RetagError> {
    let consultation = &deps.rulebook.consultation.id;
    let (mut done, mut after) = (Retagged::default(), i64::MIN);
    loop {
        if shutdown.stop_intake.is_cancelled() {
            done.stopped = true;
            return Ok(done);
        }
        let page = deps.store.page(consultation, after, PAGE).await?;
        let Some(last) = page.last() else { return Ok(done) };
        after = last.sequence;
        done.seen += page.len() as u64;
        let (already, stale): (Vec<_>, Vec<_>) =
            page.into_iter().partition(|stored| stored.assessment.pipeline_version == deps.rulebook.version);
        done.already += already.len() as u64;
        let mut judged = Vec::with_capacity(stale.len());
        let mut tell = Vec::with_capacity(stale.len());
        for (stored, (assessment, signals)) in stale.iter().zip(judge_anew(deps, &stale).await?) {
            let compared = compare_stored(stored, &assessment, &signals, deps.rulebook);
            done.totals.add(&compared);
            if compared.differs() {
                each(stored, &compared)?;
            }
            tell.push(what == Retag::Apply { publish: true } && compared.differs());
            judged.push(Judged { comment: stored.comment.clone(), sequence: stored.sequence, assessment, trace: None });
        }
        if matches!(what, Retag::Apply { .. }) && !judged.is_empty() {
            let recorded = deps.store.retag(&judged, &tell).await?;
            done.recorded += recorded.iter().filter(|one| **one == Recorded::New).count() as u64;
        }
        progress(done.seen);
    }
}

/// What a judgement made anew would change of a stored comment.
fn compare_stored(stored: &StoredComment, assessment: &Assessment, signals: &Signals, rulebook: &Rulebook) -> Compared {
    let escalated = stored.escalated || assessment.verdict == Verdict::Escalate;
    let person = stored.decided.as_ref().map(|decided| decided.verdict);
    let stands = standing_verdict(person, escalated, assessment.verdict);
    compare(Pair { before: &stored.assessment, after: assessment, stood: stored.verdict(), stands, signals }, rulebook)
}

/// Judgements under the rulebook, in order. Equal texts are judged once, and a text that
/// was judged under this version before is not judged again.
pub(super) async fn judge_anew(
    deps: RetagDeps<'_>,
    stored: &[StoredComment],
) -> Result<Vec<(Assessment, Signals)>, RetagError> {
    let hashes: Vec<String> = stored.iter().map(|one| judged_hash(&one.comment)).collect();
    let cached = match deps.store.cached(&deps.rulebook.version, &hashes).await {
        Ok(found) => found,
        // A judgement that cannot be read is made again.
        Err(StoreError::Damaged(_)) => vec![None; hashes.len()],
        Err(error) => return Err(error.into()),
    };
    let mut known: HashMap<&str, (Assessment, Signals)> = hashes
        .iter()
        .zip(cached)
        .filter_map(|(hash, found)| Some((hash.as_str(), (found?, Signals::default()))))
        .collect();
    let mut missing: Vec<(&str, Comment)> = Vec::new();
    for (hash, one) in hashes.iter().zip(stored) {
        if !known.contains_key(hash.as_str()) && missing.iter().all(|(other, _)| other != hash) {
            missing.push((hash, one.comment.clone()));
        }
    }
    if !missing.is_empty() {
        let (hashes, comments): (Vec<&str>, Vec<Comment>) = missing.into_iter().unzip();
        let made = deps.judge.judge_closely(&comments).await?;
        if made.len() != comments.len() {
            let why = format!("gave {} assessments for {} comments", made.len(), comments.len());
            return Err(EngineError::Stopped(why).into());
        }
        known.extend(hashes.into_iter().zip(made));
    }
    Ok(hashes
        .iter()
        .map(|hash| known.get(hash.as_str()).cloned().expect("every text was found or judged above"))
        .collect())
}
