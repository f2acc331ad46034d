//! Rows as both databases give them, and what they are to readers.

use crate::domain::assessment::Assessment;
use crate::domain::comment::{CommentId, CommentKey, ConsultationId, SourceName};
use crate::domain::decision::Decided;
use crate::domain::rulebook::PipelineVersion;
use crate::pipeline::ports::{Disagreement, Disclosure, FailedRow, Funnel, KnownRulebook, StoreError, StoredComment};
use crate::sql::from_row;
use crate::store::parts::parts_from_row;
use crate::store::record::{assessment_from_row, comment_from_row};
use crate::store::standing::verdict;

/// A comment with its current judgement.
#[derive(Debug)]
#[expect(missing_docs, reason = "the columns of a StoredComment")]
pub struct StoredRow {
    pub sequence: i64,
    pub comment: String,
    pub assessment: String,
    pub acknowledged_at_ms: Option<i64>,
    pub withdrawn_at_ms: Option<i64>,
    pub escalated: bool,
    pub decided: Option<String>,
    pub decided_by: Option<String>,
    pub decided_at_ms: Option<i64>,
}

from_row!(StoredRow {
    sequence,
    comment,
    assessment,
    acknowledged_at_ms,
    withdrawn_at_ms,
    escalated,
    decided,
    decided_by,
    decided_at_ms
});

impl StoredRow {
    /// Its columns. Others may follow, then [`Self::FROM`] and a condition.
    pub const SELECT: &str = "SELECT c.sequence, r.comment, a.assessment, d.acknowledged_at_ms, c.withdrawn_at_ms, \
        COALESCE(d.text_hash = c.text_hash, FALSE) AS escalated, \
        p.verdict AS decided, p.decided_by, p.decided_at_ms";
    /// Where they come from.
    pub const FROM: &str = " FROM comments c JOIN revisions r ON r.no = c.current_revision \
        JOIN assessments a ON a.no = c.current_assessment \
        LEFT JOIN disclosures d ON d.comment_no = c.no \
        LEFT JOIN decisions p ON p.no = (SELECT MAX(q.no) FROM decisions q \
            WHERE q.comment_no = c.no AND q.text_hash = c.text_hash)";

    /// As reports read it.
    pub fn stored(self) -> Result<StoredComment, StoreError> {
        let decided = match (self.decided, self.decided_by, self.decided_at_ms) {
            (Some(key), Some(by), Some(at_ms)) => Some(Decided { verdict: verdict(&key)?, by, at_ms }),
            _ => None,
        };
        Ok(StoredComment {
            comment: comment_from_row(&self.comment)?,
            sequence: self.sequence,
            assessment: assessment_from_row(&self.assessment)?,
            acknowledged_at_ms: self.acknowledged_at_ms,
            withdrawn: self.withdrawn_at_ms.is_some(),
            escalated: self.escalated,
            decided,
        })
    }
}

/// A stored comment with the judgement of a rulebook that only looks on.
#[derive(Debug)]
#[expect(missing_docs, reason = "said above")]
pub struct ShadowedRow {
    pub stored: StoredRow,
    pub shadow: String,
}

from_row!(ShadowedRow { shadow, ..stored });

impl ShadowedRow {
    /// As the shadow's report reads it.
    pub fn shadowed(self) -> Result<(StoredComment, Assessment), StoreError> {
        Ok((self.stored.stored()?, assessment_from_row(&self.shadow)?))
    }
}

/// A disclosure.
#[derive(Debug)]
#[expect(missing_docs, reason = "the columns of a Disclosure")]
pub struct DisclosureRow {
    pub comment: String,
    pub assessment: String,
    pub escalated_at_ms: i64,
    pub acknowledged_at_ms: Option<i64>,
    pub acknowledged_by: Option<String>,
}

from_row!(DisclosureRow { comment, assessment, escalated_at_ms, acknowledged_at_ms, acknowledged_by });

impl DisclosureRow {
    /// As the safeguarding lead reads it.
    pub fn disclosure(self) -> Result<Disclosure, StoreError> {
        Ok(Disclosure {
            comment: comment_from_row(&self.comment)?,
            assessment: assessment_from_row(&self.assessment)?,
            escalated_at_ms: self.escalated_at_ms,
            acknowledged: self.acknowledged_at_ms.zip(self.acknowledged_by),
        })
    }
}

/// A row that could not become a comment.
#[derive(Debug)]
#[expect(missing_docs, reason = "the columns of a FailedRow")]
pub struct FailureRow {
    pub source: String,
    pub id: Option<String>,
    pub row_number: i64,
    pub reason: String,
    pub detail: String,
    pub raw: String,
    pub fingerprint: String,
}

from_row!(FailureRow { source, id, row_number, reason, detail, raw, fingerprint });

impl FailureRow {
    /// As it was kept.
    pub fn failed(self, consultation: &ConsultationId) -> FailedRow {
        FailedRow {
            consultation: consultation.clone(),
            source: self.source,
            id: self.id,
            row: self.row_number as u64,
            reason: self.reason,
            detail: self.detail,
            raw: self.raw,
            fingerprint: self.fingerprint,
        }
    }
}

/// A judgement that differs from a person's decision.
#[derive(Debug)]
#[expect(missing_docs, reason = "the columns of a Disagreement")]
pub struct DisagreementRow {
    pub source: String,
    pub id: String,
    pub decided: String,
    pub decided_by: String,
    pub decided_at_ms: i64,
    pub verdict: String,
    pub pipeline_version: String,
}

from_row!(DisagreementRow { source, id, decided, decided_by, decided_at_ms, verdict, pipeline_version });

impl DisagreementRow {
    /// Of the consultation `$1`, in the order of the decisions.
    pub const SELECT: &str = "SELECT c.source, c.id, p.verdict AS decided, p.decided_by, p.decided_at_ms, a.verdict, a.pipeline_version \
         FROM decisions p JOIN comments c ON c.no = p.comment_no AND c.text_hash = p.text_hash \
         JOIN assessments a ON a.no = c.current_assessment \
         WHERE c.consultation = $1 AND a.verdict <> p.verdict AND NOT EXISTS (SELECT 1 FROM decisions q \
             WHERE q.comment_no = p.comment_no AND q.text_hash = p.text_hash AND q.no > p.no) ORDER BY p.no";

    /// As it is shown.
    pub fn disagreement(self, consultation: &ConsultationId) -> Result<Disagreement, StoreError> {
        let (Some(source), Some(id)) = (SourceName::new(self.source), CommentId::new(self.id)) else {
            return Err(StoreError::Damaged("a comment without source or id".to_owned()));
        };
        Ok(Disagreement {
            key: CommentKey { consultation: consultation.clone(), source, id },
            decided: Decided { verdict: verdict(&self.decided)?, by: self.decided_by, at_ms: self.decided_at_ms },
            machine: verdict(&self.verdict)?,
            version: PipelineVersion(self.pipeline_version),
        })
    }
}

/// The funnel of counts by place.
pub fn funnel(rows: Vec<(String, i64)>) -> Result<Funnel, StoreError> {
    let mut funnel = Funnel::default();
    for (place, count) in rows {
        let field = match place.as_str() {
            "withdrawn" => &mut funnel.withdrawn,
            "failed" => &mut funnel.failed,
            "accept" => &mut funnel.accepted,
            "hold" => &mut funnel.held,
            "reject" => &mut funnel.rejected,
            "escalate" => &mut funnel.escalated,
            other => return Err(StoreError::Damaged(format!("unknown verdict `{other}`"))),
        };
        *field += count as u64;
    }
    Ok(funnel)
}

/// Consultations by their names.
pub fn consultations(ids: &[String]) -> Result<Vec<ConsultationId>, StoreError> {
    ids.iter()
        .map(|id| {
            ConsultationId::new(id).ok_or_else(|| StoreError::Damaged("a consultation without a name".to_owned()))
        })
        .collect()
}

/// What a store knows of a consultation's rulebooks.
#[derive(Debug, Default)]
pub struct RulebookRows {
    /// Which judges now.
    pub active: Option<PipelineVersion>,
    /// Version and parts, in the order in which they were kept.
    pub kept: Vec<(String, String)>,
    /// Version and time, in the order of the adoptions.
    pub adoptions: Vec<(String, i64)>,
    /// Version and number of current judgements, oldest first.
    pub judged: Vec<(String, i64)>,
}

impl RulebookRows {
    /// Every rulebook once, in the order in which they came.
    pub fn known(&self) -> Result<Vec<KnownRulebook>, StoreError> {
        let Self { active, kept, adoptions, judged } = self;
        // What has judged but was never kept is older than what was.
        let mut known: Vec<KnownRulebook> = Vec::new();
        let unkept = judged.iter().map(|(version, _)| version).chain(active.as_ref().map(|version| &version.0));
        for version in unkept.filter(|version| kept.iter().all(|(other, _)| other != *version)) {
            if known.iter().all(|one| one.version.0 != *version) {
                known.push(blank(version));
            }
        }
        for (version, parts) in kept {
            known.push(KnownRulebook { parts: Some(parts_from_row(parts)?), ..blank(version) });
        }
        for one in &mut known {
            let version = &one.version.0;
            one.active = active.as_ref() == Some(&one.version);
            one.adopted_at_ms = adoptions.iter().filter(|(other, _)| other == version).map(|(_, at)| *at).collect();
            one.comments = judged.iter().find(|(other, _)| other == version).map_or(0, |(_, count)| *count as u64);
        }
        Ok(known)
    }
}

fn blank(version: &str) -> KnownRulebook {
    KnownRulebook {
        version: PipelineVersion(version.to_owned()),
        parts: None,
        active: false,
        adopted_at_ms: Vec::new(),
        comments: 0,
    }
}
