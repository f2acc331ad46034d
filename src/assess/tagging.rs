//! From theme scores and the codebook to theme tags.

use crate::domain::codebook::{Codebook, ThemeTag};
use crate::domain::score::Signals;

/// The themes whose probability reaches the codebook's mark, in codebook order.
pub fn tag(signals: &Signals, codebook: &Codebook) -> Vec<ThemeTag> {
    codebook
        .themes
        .iter()
        .filter_map(|theme| {
            let scored = signals.themes.iter().find(|scored| scored.theme == theme.id)?;
            (scored.score.probability >= theme.tag_from).then(|| ThemeTag {
                theme: theme.id.clone(),
                score: scored.score,
                position: scored.attitude.as_ref().map(crate::domain::score::Distribution::top),
            })
        })
        .collect()
}
