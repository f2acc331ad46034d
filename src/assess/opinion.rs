//! Stance, sentiment and tone from their scores.

use crate::domain::assessment::Sentiment;
use crate::domain::codebook::{Codebook, ThemeTag};
use crate::domain::opinion::Stance;
use crate::domain::score::{Probability, Signals};

/// Stance over the codebook's pair. By the codebook's rule a stance other than
/// `none` needs one of the two themes; without either the stance is `none`, as
/// likely as no other label is.
pub fn stance(signals: &Signals, codebook: &Codebook, tags: &[ThemeTag]) -> Option<(Stance, Probability)> {
    let pair = codebook.stance.as_ref()?;
    let distribution = signals.stance.as_ref()?;
    let raised = tags.iter().any(|tag| tag.theme == pair.structured || tag.theme == pair.organic);
    if raised { Some(distribution.top()) } else { Some((Stance::Neither, distribution.of(Stance::Neither))) }
}

/// Attitude where the codebook gives a subject, polarity where there is no codebook.
pub fn sentiment(signals: &Signals, codebook: Option<&Codebook>) -> Option<Sentiment> {
    match codebook {
        Some(_) => signals.attitude.clone().map(Sentiment::Attitude),
        None => signals.polarity.clone().map(Sentiment::Polarity),
    }
}
