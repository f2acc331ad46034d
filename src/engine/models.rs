//! Everything that stands in the models folder, checked and in memory.

use std::path::Path;
use std::sync::Arc;

use safetensors::SafeTensors;
use tokenizers::Tokenizer;

#[cfg(not(feature = "rust-bert"))]
use super::choice::WITHOUT_RUST_BERT;
use super::choice::{Device, EngineChoice};
use super::encoder::{EncoderConfig, Weights};
use super::encoding::Encoder;
use super::extra::ExtraModel;
use super::heads::LinearHead;
use super::kernels;
use super::lexicon::Lexicon;
use super::manifest::{HeadKind, ManifestFile};
use super::spans::SpanHead;
use crate::domain::heads::TrainedHeads;
use crate::domain::policy::ExtraScorer;
use crate::domain::rulebook::Rulebook;
use crate::pipeline::ports::EngineError;

/// Heads that every consultation uses.
pub struct GeneralHeads {
    /// The abuse attributes.
    pub abuse: LinearHead,
    /// Spam.
    pub spam: LinearHead,
    /// Possible disclosures.
    pub safeguarding: LinearHead,
    /// General mood.
    pub polarity: LinearHead,
    /// The words that carry abuse.
    pub spans: Option<SpanHead>,
}

/// Heads of one codebook.
pub struct CodebookHeads {
    /// Themes.
    pub themes: LinearHead,
    /// Stance over the codebook's pair.
    pub stance: Option<LinearHead>,
    /// Attitude to the subject.
    pub attitude: Option<LinearHead>,
    /// Tone.
    pub tone: Option<LinearHead>,
    /// Off topic.
    pub off_topic: Option<LinearHead>,
    /// What the words add to each of them.
    pub lexicon: Lexicon,
}

impl CodebookHeads {
    fn new(heads: &TrainedHeads, encoder_sha256: &str, width: usize) -> Result<Self, EngineError> {
        let bad = |problem: String| EngineError::Models {
            path: format!("heads {} of codebook `{}`", heads.version, heads.codebook),
            problem,
        };
        if !heads.encoder_sha256.eq_ignore_ascii_case(encoder_sha256) {
            return Err(bad(format!(
                "were trained on the encoder {} and this one is {}: run `moothall codebook train` on the \
                 consultation's folder, or restore the models that belong to the heads",
                short(&heads.encoder_sha256),
                short(encoder_sha256)
            )));
        }
        let head = |name: &str| heads.head(name).map(LinearHead::trained);
        if heads.heads.iter().any(|head| head.dense.len() != head.labels.len() * width) {
            return Err(bad(format!("do not read vectors of {width} numbers")));
        }
        Ok(Self {
            themes: head("themes").ok_or_else(|| bad("hold no themes".to_owned()))?,
            stance: head("stance"),
            attitude: head("attitude"),
            tone: head("tone"),
            off_topic: head("off_topic"),
            lexicon: Lexicon::new(heads),
        })
    }
}

/// The start of a checksum, for people.
fn short(sha256: &str) -> &str {
    sha256.get(..12).unwrap_or(sha256)
}

/// Encoder, tokeniser and heads, shared by every worker thread.
pub struct Models {
    /// The manifest that they were checked against.
    pub manifest: ManifestFile,
    /// Encoder weights.
    pub encoder: Arc<dyn Encoder>,
    /// Word pieces.
    pub tokenizer: Tokenizer,
    /// Ids of `[CLS]` and `[SEP]`.
    pub special: (u32, u32),
    /// For every consultation.
    pub general: GeneralHeads,
    /// For the rulebook's codebook, if it has one.
    pub codebook: Option<CodebookHeads>,
    /// Models of the operator's own, as the policy names them.
    pub extras: Vec<Arc<dyn ExtraModel>>,
}

impl Models {
    /// Reads and checks the models in `folder` with the heads of the rulebook's codebook, and
    /// the extra scorers of its policy, for the chosen engine.
    ///
    /// # Errors
    /// A file that is missing or has another checksum, and heads that were trained on another encoder.
    pub fn load(folder: &Path, rulebook: &Rulebook, engine: EngineChoice) -> Result<Arc<Self>, EngineError> {
        let heads = rulebook.heads.as_deref();
        let mut models = match engine {
            EngineChoice::BuiltIn => Self::read(folder, heads, |weights, name, config| {
                built_in(weights, name, config, kernels::Path::fastest())
            }),
            EngineChoice::RustBert(device) => {
                Self::read(folder, heads, |weights, name, config| on_libtorch(weights, name, config, device))
            }
        }?;
        let scorers = &rulebook.policy.extra_scorers;
        models.extras = scorers.iter().map(|scorer| extra(scorer, engine.device())).collect::<Result<_, _>>()?;
        Ok(Arc::new(models))
    }

    /// The encoder and the heads that belong to no codebook, on the built-in engine: what new heads are trained with.
    pub fn load_general(folder: &Path) -> Result<Arc<Self>, EngineError> {
        Self::load_with(folder, None, kernels::Path::fastest())
    }

    /// As [`Models::load`] with the built-in engine on a chosen instruction path and no extra scorers.
    pub fn load_with(
        folder: &Path,
        heads: Option<&TrainedHeads>,
        path: kernels::Path,
    ) -> Result<Arc<Self>, EngineError> {
        Self::read(folder, heads, |weights, name, config| built_in(weights, name, config, path)).map(Arc::new)
    }

    /// Reads and checks everything; `encoder` makes one of the bytes of its weights, their
    /// name for errors and the bytes of its configuration.
    fn read(
        folder: &Path,
        heads: Option<&TrainedHeads>,
        encoder: impl FnOnce(&[u8], &str, &EncoderFile<'_>) -> Result<Arc<dyn Encoder>, EngineError>,
    ) -> Result<Self, EngineError> {
        let manifest = ManifestFile::read(folder)?;
        let files = manifest.manifest.encoder.clone();
        let name = |file: &str| folder.join(file).display().to_string();
        let bad = |file: &str, problem: String| EngineError::Models { path: name(file), problem };

        let config_bytes = manifest.load(&files.config, &files.config_sha256)?;
        let config: EncoderConfig = serde_json::from_slice(&config_bytes)
            .map_err(|error| bad(&files.config, format!("is not an encoder configuration: {error}")))?;
        if files.max_tokens > config.max_position_embeddings {
            return Err(bad(
                "manifest.toml",
                format!(
                    "encoder.max_tokens {} is more than the encoder's {}",
                    files.max_tokens, config.max_position_embeddings
                ),
            ));
        }
        let tokenizer = Tokenizer::from_bytes(manifest.load(&files.tokenizer, &files.tokenizer_sha256)?)
            .map_err(|error| bad(&files.tokenizer, format!("is not a tokenizer: {error}")))?;
        let special = |token: &str| {
            tokenizer.token_to_id(token).ok_or_else(|| bad(&files.tokenizer, format!("has no `{token}` token")))
        };
        let special = (special("[CLS]")?, special("[SEP]")?);
        if tokenizer.get_vocab_size(true) > config.vocab_size {
            return Err(bad(&files.tokenizer, "has more word pieces than the encoder".to_owned()));
        }
        let weights = manifest.load(&files.weights, &files.weights_sha256)?;
        let encoder = encoder(&weights, &name(&files.weights), &EncoderFile { config, bytes: &config_bytes })?;
        drop(weights);

        let head_files = manifest.manifest.heads.clone();
        let bytes = manifest.load(&head_files.weights, &head_files.weights_sha256)?;
        let tensors = SafeTensors::deserialize(&bytes)
            .map_err(|error| bad(&head_files.weights, format!("not a safetensors file: {error}")))?;
        let required = |head: &str, kind: HeadKind| {
            let entry = manifest.head(head).ok_or_else(|| bad("manifest.toml", format!("head `{head}` is missing")))?;
            if entry.kind != kind {
                return Err(bad("manifest.toml", format!("head `{head}` should be {kind:?}").to_lowercase()));
            }
            LinearHead::read(&tensors, &name(&head_files.weights), entry, encoder.width())
        };
        let general = GeneralHeads {
            abuse: required("abuse", HeadKind::Multilabel)?,
            spam: required("spam", HeadKind::Multilabel)?,
            safeguarding: required("safeguarding", HeadKind::Multilabel)?,
            polarity: required("polarity", HeadKind::Multiclass)?,
            spans: SpanHead::read(&manifest, encoder.width())?,
        };
        let codebook =
            heads.map(|heads| CodebookHeads::new(heads, &files.weights_sha256, encoder.width())).transpose()?;
        Ok(Self { manifest, encoder, tokenizer, special, general, codebook, extras: Vec::new() })
    }
}

/// `config.json`: what we read of it, and all of it.
struct EncoderFile<'a> {
    config: EncoderConfig,
    #[cfg_attr(not(feature = "rust-bert"), expect(dead_code, reason = "only rust-bert reads more of it"))]
    bytes: &'a [u8],
}

fn built_in(
    weights: &[u8],
    name: &str,
    file: &EncoderFile<'_>,
    path: kernels::Path,
) -> Result<Arc<dyn Encoder>, EngineError> {
    let weights = Weights::read(weights, file.config.clone(), path)
        .map_err(|error| EngineError::Models { path: name.to_owned(), problem: error.to_string() })?;
    Ok(Arc::new(weights))
}

#[cfg(feature = "rust-bert")]
fn on_libtorch(
    weights: &[u8],
    name: &str,
    file: &EncoderFile<'_>,
    device: Device,
) -> Result<Arc<dyn Encoder>, EngineError> {
    Ok(Arc::new(super::rust_bert::TorchEncoder::read(weights, name, &file.config, file.bytes, device)?))
}

#[cfg(feature = "rust-bert")]
fn extra(scorer: &ExtraScorer, device: Device) -> Result<Arc<dyn ExtraModel>, EngineError> {
    Ok(Arc::new(super::rust_bert::classifier::Classifier::read(scorer, device)?))
}

// The settings refuse both before it comes to this.
#[cfg(not(feature = "rust-bert"))]
fn on_libtorch(
    _weights: &[u8],
    name: &str,
    _file: &EncoderFile<'_>,
    _device: Device,
) -> Result<Arc<dyn Encoder>, EngineError> {
    Err(EngineError::Models { path: name.to_owned(), problem: WITHOUT_RUST_BERT.to_owned() })
}

#[cfg(not(feature = "rust-bert"))]
fn extra(scorer: &ExtraScorer, _device: Device) -> Result<Arc<dyn ExtraModel>, EngineError> {
    Err(EngineError::Models { path: scorer.folder.display().to_string(), problem: WITHOUT_RUST_BERT.to_owned() })
}
