//! Which texts are in a sample: the same ones every time, whatever keeps them.

use crate::domain::score::Probability;

/// The first hash that is not in the sample. Hashes of texts are spread evenly, so the
/// share below a bound is the bound's share of the range.
pub fn sample_end(sample: Probability) -> String {
    // `g` is above every hex digit.
    let bound = (f64::from(sample.get()) * 65_536.0).round();
    if bound >= 65_536.0 { "g".to_owned() } else { format!("{:04x}", bound as u32) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_its_share_of_all_hashes() {
        let end = |share| sample_end(Probability::new(share).unwrap());
        assert_eq!((end(0.0).as_str(), end(0.5).as_str(), end(1.0).as_str()), ("0000", "8000", "g"));
        assert!("ffff".repeat(16) < end(1.0) && "0000".repeat(16) > end(0.0));
    }
}
