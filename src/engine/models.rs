//! Everything that stands in the models folder, checked and in memory.

use std::path::Path;
use std::sync::Arc;

use safetensors::SafeTensors;
use tokenizers::Tokenizer;

use super::encoder::{EncoderConfig, Weights};
use super::encoding::Encoder;
use super::heads::LinearHead;
use super::kernels;
use super::manifest::{HeadKind, ManifestFile};
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
}

impl Models {
    /// Reads and checks the models in `folder`, with the heads of `codebook` where one is given.
    pub fn load(folder: &Path, codebook: Option<&str>) -> Result<Arc<Self>, EngineError> {
        Self::load_with(folder, codebook, kernels::Path::fastest())
    }

    /// As [`Models::load`], on a chosen instruction path.
    pub fn load_with(folder: &Path, codebook: Option<&str>, path: kernels::Path) -> Result<Arc<Self>, EngineError> {
        let manifest = ManifestFile::read(folder)?;
        let files = manifest.manifest.encoder.clone();
        let name = |file: &str| folder.join(file).display().to_string();
        let bad = |file: &str, problem: String| EngineError::Models { path: name(file), problem };

        let config: EncoderConfig = serde_json::from_slice(&manifest.load(&files.config, &files.config_sha256)?)
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
        let encoder: Arc<dyn Encoder> = Arc::new(Weights::read(&weights, &name(&files.weights), config, path)?);
        drop(weights);

        let head_files = manifest.manifest.heads.clone();
        let bytes = manifest.load(&head_files.weights, &head_files.weights_sha256)?;
        let tensors = SafeTensors::deserialize(&bytes)
            .map_err(|error| bad(&head_files.weights, format!("not a safetensors file: {error}")))?;
        let optional =
            |head: &str, kind: HeadKind, codebook: Option<&str>| -> Result<Option<LinearHead>, EngineError> {
                let Some(entry) = manifest.head(head).filter(|entry| entry.codebook.as_deref() == codebook) else {
                    return Ok(None);
                };
                if entry.kind != kind {
                    return Err(bad("manifest.toml", format!("head `{head}` should be {kind:?}").to_lowercase()));
                }
                LinearHead::read(&tensors, &name(&head_files.weights), entry, encoder.width()).map(Some)
            };
        let required = |head: &str, kind: HeadKind, codebook: Option<&str>| {
            optional(head, kind, codebook)?.ok_or_else(|| {
                let whose = codebook.map(|id| format!(" of codebook `{id}`")).unwrap_or_default();
                bad("manifest.toml", format!("head `{head}`{whose} is missing"))
            })
        };
        let general = GeneralHeads {
            abuse: required("abuse", HeadKind::Multilabel, None)?,
            spam: required("spam", HeadKind::Multilabel, None)?,
            safeguarding: required("safeguarding", HeadKind::Multilabel, None)?,
            polarity: required("polarity", HeadKind::Multiclass, None)?,
        };
        let codebook = match codebook {
            None => None,
            Some(_) => Some(CodebookHeads {
                themes: required("themes", HeadKind::Multilabel, codebook)?,
                stance: optional("stance", HeadKind::Multiclass, codebook)?,
                attitude: optional("attitude", HeadKind::Multiclass, codebook)?,
                tone: optional("tone", HeadKind::Multiclass, codebook)?,
                off_topic: optional("off_topic", HeadKind::Multilabel, codebook)?,
            }),
        };
        Ok(Arc::new(Self { manifest, encoder, tokenizer, special, general, codebook }))
    }
}
