//! A consultation's folder and the models' manifest to one [`Rulebook`].

use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::keys::Problems;
use super::policy::OperatingPoints;
use super::{codebook, consultation, policy};
use crate::domain::codebook::Codebook;
use crate::domain::heads::TrainedHeads;
use crate::domain::policy::ExtraScorer;
use crate::domain::rulebook::{Consultation, PipelineVersion, Rulebook};
use crate::domain::score::Probability;
use crate::engine::manifest::ManifestFile;
use crate::engine::trained;
use crate::pipeline::ports::EngineError;

/// Changes whenever the judging code gives another answer to the same text,
/// models and settings, so that cached judgements are not mixed.
const JUDGING_CODE: &str = "3";

/// The judging code's version as a rulebook names it.
pub(super) fn judging_code(first_stage: bool) -> String {
    if first_stage { format!("{JUDGING_CODE}, first stage") } else { JUDGING_CODE.to_owned() }
}

/// The texts of a consultation's files.
#[derive(Clone, Debug)]
pub struct RulebookFiles {
    /// Where they came from, for errors: a folder, or `built-in`.
    pub origin: String,
    /// That folder; none where they are compiled in.
    pub folder: Option<PathBuf>,
    /// `consultation.toml`.
    pub consultation: String,
    /// `policy.toml`.
    pub policy: String,
    /// `codebook.toml`, unless bare texts are judged.
    pub codebook: Option<String>,
    /// Where the codebook's trained heads are.
    pub heads: HeadFiles,
}

/// Where trained heads are.
#[derive(Clone, Debug)]
pub enum HeadFiles {
    /// There is no codebook.
    None,
    /// `heads` beside the codebook, with all versions.
    Folder(PathBuf),
    /// Compiled in: description and weights.
    BuiltIn(&'static [u8], &'static [u8]),
}

impl RulebookFiles {
    /// The files of consultation `id`: from `folder/id`, or compiled in.
    pub fn find(id: &str, folder: Option<&Path>) -> Result<Self, Problems> {
        let mut problems = Problems::default();
        if id.is_empty() || !id.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_') {
            problems.add("--consultation", "", format!("`{id}` is no consultation key: letters, digits, `-` and `_`"));
            return Err(problems);
        }
        let base = folder.map_or_else(|| PathBuf::from("config"), Path::to_owned);
        let own = base.join(id);
        if own.join("consultation.toml").is_file() {
            return Self::at(&own);
        }
        match id {
            "mentoring" if folder.is_none() => Ok(Self {
                origin: "built-in/mentoring".to_owned(),
                folder: None,
                consultation: include_str!("../../config/mentoring/consultation.toml").to_owned(),
                policy: include_str!("../../config/mentoring/policy.toml").to_owned(),
                codebook: Some(include_str!("../../config/mentoring/codebook.toml").to_owned()),
                // The version that `heads/active.toml` names; build.rs puts it into the path.
                heads: HeadFiles::BuiltIn(
                    include_bytes!(concat!(env!("MOOTHALL_MENTORING_HEADS"), "/heads.toml")),
                    include_bytes!(concat!(env!("MOOTHALL_MENTORING_HEADS"), "/heads.safetensors")),
                ),
            }),
            "none" => Ok(Self {
                origin: "built-in/none".to_owned(),
                folder: None,
                consultation: include_str!("../../config/none/consultation.toml").to_owned(),
                policy: include_str!("../../config/none/policy.toml").to_owned(),
                codebook: None,
                heads: HeadFiles::None,
            }),
            _ => {
                problems.add(
                    &own.display().to_string(),
                    "",
                    "has no consultation.toml: make the folder, or name another consultation with --consultation",
                );
                Err(problems)
            }
        }
    }

    /// The files of the consultation in this folder.
    pub fn at(folder: &Path) -> Result<Self, Problems> {
        let mut problems = Problems::default();
        let mut text = |name: &str, needed: bool| {
            let path = folder.join(name);
            match std::fs::read_to_string(&path) {
                Ok(text) => Some(text),
                Err(error) if !needed && error.kind() == std::io::ErrorKind::NotFound => None,
                Err(error) => {
                    problems.add(&path.display().to_string(), "", format!("cannot be read: {error}"));
                    None
                }
            }
        };
        let (consultation, policy, codebook) =
            (text("consultation.toml", true), text("policy.toml", true), text("codebook.toml", false));
        problems.or(())?;
        Ok(Self {
            origin: folder.display().to_string(),
            folder: Some(folder.to_owned()),
            consultation: consultation.unwrap_or_default(),
            policy: policy.unwrap_or_default(),
            heads: if codebook.is_some() { HeadFiles::Folder(folder.join("heads")) } else { HeadFiles::None },
            codebook,
        })
    }

    /// The heads in force. What is wrong with them is added to `problems`.
    fn heads(&self, problems: &mut Problems) -> Option<TrainedHeads> {
        let found = match &self.heads {
            HeadFiles::None => return None,
            HeadFiles::BuiltIn(description, weights) => {
                trained::parse(&format!("{}/heads", self.origin), description, weights)
            }
            HeadFiles::Folder(folder) => match trained::active(folder) {
                Ok(Some(version)) => trained::read(&folder.join(version)),
                Ok(None) => {
                    problems.add(
                        &folder.join(trained::ACTIVE).display().to_string(),
                        "",
                        format!(
                            "is missing, as nothing was trained for this codebook: run `moothall codebook train {}`",
                            self.origin
                        ),
                    );
                    return None;
                }
                Err(error) => Err(error),
            },
        };
        match found {
            Ok(heads) => Some(heads),
            Err(EngineError::Models { path, problem }) => {
                problems.add(&path, "", problem);
                None
            }
            Err(error) => {
                problems.add(&self.origin, "heads", error.to_string());
                None
            }
        }
    }
}

/// The consultation alone, for those who judge nothing and need no models.
pub fn load_consultation(files: &RulebookFiles) -> Result<Consultation, Problems> {
    let mut problems = Problems::default();
    let name = format!("{}/consultation.toml", files.origin);
    match consultation::read(&name, &files.consultation, &mut problems) {
        Some(consultation) => problems.or(consultation),
        None => Err(problems),
    }
}

/// Checks a consultation's files against the models and makes one rulebook of them.
/// `first_stage` says whether it may settle plain spam, where the models have it.
pub fn load_rulebook(files: &RulebookFiles, manifest: &ManifestFile, first_stage: bool) -> Result<Rulebook, Problems> {
    let mut problems = Problems::default();
    let name = |file: &str| format!("{}/{file}", files.origin);
    let heads = files.heads(&mut problems);
    let points = |label: &str, point: &str| {
        let trained = heads.as_ref().filter(|_| point == "tag").and_then(|heads| heads.points.get(label).copied());
        trained.or_else(|| manifest.operating_point(label, point))
    };
    let consultation = consultation::read(&name("consultation.toml"), &files.consultation, &mut problems);
    let policy = policy::read(&name("policy.toml"), &files.policy, &points, &mut problems);
    // Without heads every theme would only say once more that there are none.
    let codebook = files.codebook.as_ref().and_then(|text| {
        let any = |_: &str, _: &str| Some(0.5);
        let points: OperatingPoints<'_> = if heads.is_some() { &points } else { &any };
        codebook::read(&name("codebook.toml"), text, points, &mut problems)
    });
    if let (Some(codebook), Some(heads)) = (&codebook, &heads) {
        check_heads(&name("codebook.toml"), &files.origin, codebook, heads, &mut problems);
    }
    let off_topic_from = heads.as_ref().and_then(|heads| Probability::new(*heads.points.get("off_topic")?));
    let problems = problems;
    let Some(consultation) = consultation else { return Err(problems) };
    // What a model of the operator's own says of a comment must not go unheard.
    let first_stage = first_stage && manifest.manifest.first_stage.is_some() && policy.extra_scorers.is_empty();
    let version = version(files, manifest, heads.as_ref(), &policy.extra_scorers, first_stage);
    let rulebook = Rulebook {
        policy,
        languages: manifest.manifest.encoder.languages.clone(),
        model_version: manifest.manifest.version.clone(),
        off_topic_from,
        first_stage,
        version,
        codebook,
        heads: heads.map(Arc::new),
        consultation,
    };
    problems.or(rulebook)
}

/// The heads serve this codebook, and every theme has one.
fn check_heads(file: &str, origin: &str, codebook: &Codebook, heads: &TrainedHeads, problems: &mut Problems) {
    let again = format!("run `moothall codebook train {origin}`");
    if heads.codebook != codebook.id {
        let message =
            format!("is `{}`, and its heads {} are those of `{}`: {again}", codebook.id, heads.version, heads.codebook);
        problems.add(file, "id", message);
        return;
    }
    let labels = heads.head("themes").map(|head| head.labels.as_slice()).unwrap_or_default();
    for theme in &codebook.themes {
        if !labels.iter().any(|label| label == theme.id.as_str()) {
            let message = format!("has no head in version {}: {again}", heads.version);
            problems.add(file, format!("theme `{}`", theme.id), message);
        }
    }
    for label in labels.iter().filter(|label| !codebook.themes.iter().any(|theme| theme.id.as_str() == *label)) {
        let message = format!("no longer has `{label}`, for which the heads {} were trained: {again}", heads.version);
        problems.add(file, "theme", message);
    }
}

/// SHA-256 over everything that shapes a judgement, shortened to 16 hex digits.
/// Titles and contacts do not shape one; they stay out. Nor does the choice of engine:
/// all of them give the same answers from the same files.
fn version(
    files: &RulebookFiles,
    manifest: &ManifestFile,
    heads: Option<&TrainedHeads>,
    extras: &[ExtraScorer],
    first_stage: bool,
) -> PipelineVersion {
    let mut hash = Sha256::new();
    let heads = heads.map_or("", |heads| heads.sha256.as_str());
    let code = judging_code(first_stage);
    let parts = [code.as_str(), &manifest.sha256, &files.policy, files.codebook.as_deref().unwrap_or(""), heads];
    for part in parts.into_iter().chain(extras.iter().map(|extra| extra.sha256.as_str())) {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part.as_bytes());
    }
    PipelineVersion(hex::encode(&hash.finalize()[..8]))
}
