//! The first stage: a linear model over hashed n-grams that settles plain spam without the encoder.
//!
//! It was taught by the whole engine (`models/training`, stage `firststage`): one column says how
//! surely the engine rejects a text as spam, a second how likely it sees anything of abuse or
//! disclosure in it. A text is settled where the first is beyond doubt and the second is as good
//! as nothing; everything else goes on to the encoder. Whether a settled text is rejected is for
//! judgement to say ([`crate::assess::plain_spam`]).

use safetensors::{Dtype, SafeTensors};

use super::manifest::{FirstStageFiles, ManifestFile};
use crate::domain::reading::{Reading, SurfaceFeatures};
use crate::domain::score::Probability;
use crate::pipeline::ports::EngineError;

/// Buckets of the n-grams.
pub const BUCKETS: usize = 1 << 15;

/// Longer texts, in characters, are never settled: much can stand beside an advertisement.
const LONGEST: usize = 2_000;

/// Letters and signs of a character n-gram.
const CHARACTERS: usize = 4;

/// The buckets of a text's n-grams (words, pairs of words, runs of four characters of the
/// lower-cased judged text), in order and without repeats.
pub fn grams(judged: &str) -> Vec<u16> {
    let text = judged.to_lowercase();
    let mut buckets = Vec::with_capacity(text.len() * 2);
    let words: Vec<&str> = text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).collect();
    for (at, word) in words.iter().enumerate() {
        buckets.push(bucket(b"w", &[word]));
        if let Some(next) = words.get(at + 1) {
            buckets.push(bucket(b"p", &[word, next]));
        }
    }
    let starts: Vec<usize> = text.char_indices().map(|(byte, _)| byte).chain([text.len()]).collect();
    for run in starts.windows(CHARACTERS + 1) {
        buckets.push(bucket(b"c", &[&text[run[0]..run[CHARACTERS]]]));
    }
    buckets.sort_unstable();
    buckets.dedup();
    buckets
}

/// CRC-32 spreads well enough, and every language has it.
fn bucket(kind: &[u8], parts: &[&str]) -> u16 {
    let mut crc = flate2::Crc::new();
    crc.update(kind);
    for part in parts {
        crc.update(part.as_bytes());
        crc.update(b" ");
    }
    (crc.sum() % BUCKETS as u32) as u16
}

/// One linear model: a weight for every bucket and for every surface feature.
struct Column {
    grams: Vec<i8>,
    scale: f32,
    bias: f32,
    features: Vec<f32>,
}

/// The stage as it stands in the models folder.
pub struct FirstStage {
    spam: Column,
    harm: Column,
    /// Index of each surface feature, its mean and its standard deviation.
    features: Vec<(usize, f32, f32)>,
    /// From the spam column to a probability.
    calibration: (f32, f32),
    settle_from: f32,
    harm_below: f32,
}

impl FirstStage {
    /// Reads the stage, if the manifest names one.
    ///
    /// # Errors
    /// A file that is missing or has another checksum, and one that was taught by other heads.
    pub fn read(manifest: &ManifestFile) -> Result<Option<Self>, EngineError> {
        let Some(files) = &manifest.manifest.first_stage else { return Ok(None) };
        let bad = |problem: String| EngineError::Models {
            path: manifest.folder.join(&files.weights).display().to_string(),
            problem,
        };
        if !files.heads_sha256.eq_ignore_ascii_case(&manifest.manifest.heads.weights_sha256) {
            return Err(bad(
                "was taught by other heads than these: run `python models/training/train.py firststage`".to_owned()
            ));
        }
        let bytes = manifest.load(&files.weights, &files.weights_sha256)?;
        let tensors =
            SafeTensors::deserialize(&bytes).map_err(|error| bad(format!("not a safetensors file: {error}")))?;
        Self::from_tensors(&tensors, files).map(Some).map_err(bad)
    }

    fn from_tensors(tensors: &SafeTensors<'_>, files: &FirstStageFiles) -> Result<Self, String> {
        let count = files.features.len();
        let bytes = |name: &str, dtype: Dtype, length: usize| {
            let tensor = tensors.tensor(name).map_err(|_| format!("tensor `{name}` is missing"))?;
            if tensor.shape() != [length] || tensor.dtype() != dtype {
                return Err(format!(
                    "tensor `{name}` is {:?} of shape {:?}, not {dtype:?} of [{length}]",
                    tensor.dtype(),
                    tensor.shape()
                ));
            }
            Ok(tensor.data().to_vec())
        };
        let floats = |name: &str, length: usize| {
            let found: Vec<f32> = bytes(name, Dtype::F32, length)?
                .as_chunks::<4>()
                .0
                .iter()
                .map(|one| f32::from_le_bytes(*one))
                .collect();
            if found.iter().all(|number| number.is_finite()) {
                return Ok(found);
            }
            Err(format!("tensor `{name}` holds a number that is not finite"))
        };
        let column = |name: &str| {
            let scale_and_bias = floats(&format!("{name}.scale_and_bias"), 2)?;
            Ok::<_, String>(Column {
                grams: bytes(&format!("{name}.grams"), Dtype::I8, BUCKETS)?.into_iter().map(u8::cast_signed).collect(),
                scale: scale_and_bias[0],
                bias: scale_and_bias[1],
                features: floats(&format!("{name}.features"), count)?,
            })
        };
        let (mean, deviation) = (floats("feature_mean", count)?, floats("feature_std", count)?);
        let features = files.features.iter().enumerate().map(|(at, name)| {
            let index =
                SurfaceFeatures::index(name).ok_or_else(|| format!("needs the unknown surface feature `{name}`"))?;
            Ok((index, mean[at], deviation[at].max(1e-6)))
        });
        let calibration = floats("calibration", 2)?;
        Ok(Self {
            spam: column("spam")?,
            harm: column("harm")?,
            features: features.collect::<Result<_, String>>()?,
            calibration: (calibration[0], calibration[1]),
            settle_from: files.settle_from,
            harm_below: files.harm_below,
        })
    }

    /// How likely the text is spam, where that is beyond doubt and nothing else is in it; `None`
    /// leaves the text to the encoder.
    pub fn settles(&self, reading: &Reading) -> Option<Probability> {
        if reading.blank || reading.char_count > LONGEST {
            return None;
        }
        let (spam, harm) = self.logits(reading);
        if spam < self.settle_from || harm >= self.harm_below {
            return None;
        }
        Probability::from_logit(self.calibration.0 * spam + self.calibration.1)
    }

    /// Both columns' logits.
    fn logits(&self, reading: &Reading) -> (f32, f32) {
        let grams = grams(&reading.judged.text);
        let features: Vec<f32> = self
            .features
            .iter()
            .map(|(index, mean, deviation)| {
                let value = reading.features.0.get(*index).copied().unwrap_or(0.0);
                ((value - mean) / deviation).clamp(-8.0, 8.0)
            })
            .collect();
        let logit = |column: &Column| {
            let sum: i32 = grams.iter().map(|bucket| i32::from(column.grams[usize::from(*bucket)])).sum();
            let grams = sum as f32 * column.scale / (grams.len().max(1) as f32).sqrt();
            let features: f32 = column.features.iter().zip(&features).map(|(weight, value)| weight * value).sum();
            column.bias + grams + features
        };
        (logit(&self.spam), logit(&self.harm))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::assess::read::{ReadHints, read};

    fn settles(text: &str) -> bool {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
        let manifest = ManifestFile::read(&folder).unwrap();
        let stage = FirstStage::read(&manifest).unwrap().unwrap();
        stage.settles(&read(text, ReadHints::default())).is_some()
    }

    #[test]
    fn grams_are_those_that_the_training_saw() {
        // CRC-32 of "wbuy " is what Python's zlib.crc32 gives for it.
        assert_eq!(bucket(b"w", &["buy"]), (0x8B56_BC86_u32 % BUCKETS as u32) as u16);
        let found = grams("Buy now now");
        assert!(found.contains(&bucket(b"w", &["buy"])) && found.contains(&bucket(b"p", &["now", "now"])));
        assert!(found.contains(&bucket(b"c", &["uy n"])));
        assert!(found.is_sorted() && grams("") == Vec::<u16>::new());
    }

    #[test]
    fn plain_spam_is_settled() {
        assert!(settles(
            "BUY replica watches now!!! 100% guaranteed, earn $900 a day, click http://9.best-9.example/win \
             WhatsApp +44 7700 900123"
        ));
    }

    #[test]
    fn opinions_anger_links_and_disclosures_go_on_to_the_encoder() {
        for text in [
            "My mentor listened to me every week.",
            "Absolute joke. You shut our youth club and now you want to know what WE think?!",
            "More about it at https://www.dudley.gov.uk/consultations and ring 01384 000000 to have your say.",
            "he says if i tell anyone what happens after football he will make sure mum loses the house",
            "BUY cheap pills now!!! http://pills.example I want to die and nobody would notice",
            "You are scum and you make everyone sick.",
            "",
        ] {
            assert!(!settles(text), "{text}");
        }
    }

    #[test]
    fn a_long_text_is_never_settled() {
        let spam = "BUY replica watches now!!! earn $900 a day, click http://9.best-9.example/win ";
        assert!(!settles(&spam.repeat(40)));
    }
}
