//! How near two texts are: by their letters, and by their vectors.

/// Cosine of two vectors; 0 where one is empty.
pub fn cosine(left: &[f32], right: &[f32]) -> f32 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    let lengths = (dot(left, left) * dot(right, right)).sqrt();
    if lengths > 0.0 { dot(left, right) / lengths } else { 0.0 }
}

/// Mean of vectors.
pub fn mean<'v>(vectors: impl Iterator<Item = &'v Vec<f32>>) -> Vec<f32> {
    let (mut sum, mut count) = (Vec::new(), 0_u32);
    for vector in vectors {
        sum.resize(vector.len(), 0.0);
        sum.iter_mut().zip(vector).for_each(|(sum, value)| *sum += value);
        count += 1;
    }
    for value in &mut sum {
        *value /= count as f32;
    }
    sum
}

/// Edits from one text to the other (Levenshtein) over the longer length, small letters
/// and letters only: 0 the same, 1 nothing in common.
pub fn edits(left: &str, right: &str) -> f32 {
    let letters = |text: &str| -> Vec<char> { text.to_lowercase().chars().filter(|c| c.is_alphanumeric()).collect() };
    let (left, right) = (letters(left), letters(right));
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.iter().enumerate() {
        let mut corner = row[0];
        row[0] = i + 1;
        for (j, b) in right.iter().enumerate() {
            let change = corner + usize::from(a != b);
            corner = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(corner + 1);
        }
    }
    row[right.len()] as f32 / left.len().max(right.len()).max(1) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_that_differ_by_a_letter_are_near() {
        assert!(edits("Access and funding", "Acces & Funding") < 0.3);
        assert!(edits("Stigma", "Outcomes") > 0.6);
        assert!(edits("Peer schemes", "peer  SCHEMES!") < 1e-6);
    }

    #[test]
    fn the_cosine_looks_at_direction_only() {
        assert!((cosine(&[1.0, 2.0], &[2.0, 4.0]) - 1.0).abs() < 1e-6);
        assert!(cosine(&[1.0, 0.0], &[0.0, 3.0]).abs() < 1e-6);
        assert!(cosine(&[], &[]).abs() < 1e-6);
    }
}
