//! The one place that names concrete adapters and puts them together.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use async_trait::async_trait;

use crate::assess;
use crate::assess::read::{ReadHints, read};
use crate::broker::embedded::{EmbeddedLimits, EmbeddedQueue};
use crate::domain::assessment::Assessment;
use crate::domain::comment::{Comment, ConsultationId};
use crate::domain::rulebook::{PipelineVersion, Rulebook};
use crate::engine::{EnginePool, Models};
use crate::pipeline::clock::Clock;
use crate::pipeline::ports::{Engine, EngineError, Judge, Queue, Store};
use crate::pipeline::pulse::Pulse;
use crate::pipeline::worker::{WorkerDeps, WorkerSettings};
use crate::settings::Settings;
use crate::sqlite::Database;
use crate::store::sqlite::SqliteStore;

/// Reads, scores and assesses: the whole judgement, with one rulebook and one engine.
pub struct LineJudge {
    engine: EnginePool,
    rulebook: Arc<Rulebook>,
}

impl LineJudge {
    /// Loads the models of `rulebook` from `folder` and starts `threads` encoder threads.
    pub fn start(folder: &Path, rulebook: Arc<Rulebook>, threads: usize) -> Result<Self, EngineError> {
        let models = Models::load(folder, rulebook.codebook.as_ref().map(|codebook| codebook.id.as_str()))?;
        let engine = EnginePool::start(&models, threads)
            .map_err(|error| EngineError::Stopped(format!("threads cannot be started: {error}")))?;
        Ok(Self { engine, rulebook })
    }

    /// Judges texts, in order. `language` is what the source declares of each.
    pub async fn judge_texts(&self, texts: &[(&str, Option<&str>)]) -> Result<Vec<Assessment>, EngineError> {
        let default_language = self.rulebook.languages.first().map_or("en", String::as_str);
        let readings = texts
            .iter()
            .map(|(text, language)| read(text, ReadHints { language: *language, default_language }))
            .collect();
        let scored = self.engine.score(readings).await?;
        Ok(scored.iter().map(|(reading, signals)| assess::assess(reading, signals, &self.rulebook)).collect())
    }
}

#[async_trait]
impl Judge for LineJudge {
    fn version(&self, consultation: &ConsultationId) -> Option<PipelineVersion> {
        (*consultation == self.rulebook.consultation.id).then(|| self.rulebook.version.clone())
    }

    async fn judge(&self, comments: &[Comment]) -> Result<Vec<Assessment>, EngineError> {
        let texts: Vec<(&str, Option<&str>)> =
            comments.iter().map(|comment| (comment.text.as_str(), comment.language.as_deref())).collect();
        self.judge_texts(&texts).await
    }
}

/// The embedded shape: queue and store in one SQLite file.
pub struct Embedded {
    /// The durable queue.
    pub queue: Arc<dyn Queue>,
    /// Comments and judgements.
    pub store: Arc<dyn Store>,
    /// What time it is.
    pub clock: Clock,
}

impl Embedded {
    /// Opens (or makes) the file. `only` keeps this process to one consultation's queue.
    pub async fn open(path: &Path, settings: &Settings, only: Option<&ConsultationId>) -> anyhow::Result<Self> {
        let clock = Clock::system();
        let database = Database::open(path).await.with_context(|| format!("store {}", path.display()))?;
        let limits = EmbeddedLimits {
            lease_ms: i64::try_from(settings.lease_ms).unwrap_or(i64::MAX),
            delivery_budget: settings.max_attempts,
        };
        let queue =
            EmbeddedQueue::open(database.clone(), clock.clone(), &random_name()?, limits).await?.only(only.cloned());
        let store = SqliteStore::new(database, clock.clone());
        Ok(Self { queue: Arc::new(queue), store: Arc::new(store), clock })
    }

    /// What a worker needs, with a fresh pulse.
    pub fn worker(&self, judge: Arc<dyn Judge>, settings: &Settings) -> WorkerDeps {
        WorkerDeps {
            queue: Arc::clone(&self.queue),
            store: Arc::clone(&self.store),
            judge,
            pulse: Pulse::default(),
            clock: self.clock.clone(),
            settings: WorkerSettings {
                batch: settings.batch,
                renew_ms: (settings.lease_ms / 3).max(1),
                ..WorkerSettings::default()
            },
        }
    }
}

/// Where the store is: as set, else in the output folder's restricted part.
pub fn store_path(given: Option<&Path>, settings: &Settings, out: &Path) -> PathBuf {
    given
        .map(Path::to_owned)
        .or_else(|| settings.store_path.clone())
        .unwrap_or_else(|| out.join("restricted").join("moothall.db"))
}

/// The key behind pseudonyms: from the environment (hex, or a file that holds
/// it), else from `pseudonym.key` in the restricted folder, made on first use.
pub fn pseudonym_key(restricted: &Path, env: &dyn Fn(&str) -> Option<String>) -> anyhow::Result<[u8; 32]> {
    if let Some(text) = env("MOOTHALL_PSEUDONYM_KEY") {
        return parse_key(&text).context("MOOTHALL_PSEUDONYM_KEY");
    }
    if let Some(path) = env("MOOTHALL_PSEUDONYM_KEY_FILE") {
        let text = std::fs::read_to_string(&path).with_context(|| format!("pseudonym key {path}"))?;
        return parse_key(&text).with_context(|| format!("pseudonym key {path}"));
    }
    let path = restricted.join("pseudonym.key");
    match std::fs::read_to_string(&path) {
        Ok(text) => parse_key(&text).with_context(|| format!("pseudonym key {}", path.display())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let mut key = [0; 32];
            getrandom::fill(&mut key).map_err(|error| anyhow::anyhow!("no random numbers: {error}"))?;
            private_folder(restricted)?;
            write_private(&path, &format!("{}\n", hex::encode(key)))
                .with_context(|| format!("pseudonym key {}", path.display()))?;
            Ok(key)
        }
        Err(error) => Err(error).with_context(|| format!("pseudonym key {}", path.display())),
    }
}

fn parse_key(text: &str) -> anyhow::Result<[u8; 32]> {
    let bytes = hex::decode(text.trim()).ok().and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
    bytes.context("must be 64 hex digits (32 bytes), such as `openssl rand -hex 32` prints")
}

/// Makes the folder, readable by its owner only.
pub fn private_folder(path: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(path).with_context(|| format!("folder {}", path.display()))?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700))
            .with_context(|| format!("folder {}", path.display()))?;
    }
    Ok(())
}

fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    use std::io::Write;
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// This process's own name among workers.
fn random_name() -> anyhow::Result<String> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(|error| anyhow::anyhow!("no random numbers: {error}"))?;
    Ok(hex::encode(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pseudonym_key_is_made_once_and_kept_private() {
        let folder = tempfile::tempdir().unwrap();
        let restricted = folder.path().join("restricted");
        let first = pseudonym_key(&restricted, &|_| None).unwrap();
        assert_eq!(pseudonym_key(&restricted, &|_| None).unwrap(), first);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
            assert_eq!((mode(&restricted), mode(&restricted.join("pseudonym.key"))), (0o700, 0o600));
        }
    }

    #[test]
    fn a_wrong_pseudonym_key_says_what_a_right_one_is() {
        let env = |name: &str| (name == "MOOTHALL_PSEUDONYM_KEY").then(|| "secret".to_owned());
        let error = format!("{:#}", pseudonym_key(Path::new("nowhere"), &env).unwrap_err());
        assert!(error.contains("64 hex digits") && !error.contains("secret"), "{error}");
    }
}
