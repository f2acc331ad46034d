//! The one place that names concrete adapters and puts them together.

mod storage;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use async_trait::async_trait;

use crate::assess;
use crate::assess::read::{ReadHints, read};
use crate::broker::rabbitmq::{BrokerUrl, Mode, Names, RabbitConfig, Tls};
use crate::domain::assessment::Assessment;
use crate::domain::comment::{Comment, ConsultationId};
use crate::domain::rulebook::{PipelineVersion, Rulebook};
use crate::domain::score::Signals;
use crate::engine::choice::EngineChoice;
use crate::engine::{EnginePool, Models};
use crate::pipeline::intake::IntakeLimits;
use crate::pipeline::ports::{Engine, EngineError, Judge};
use crate::settings::Settings;
use crate::wire::incoming::Defaults;

pub use self::storage::{Storage, StorePlace, open_store};

/// Reads, scores and assesses: the whole judgement, with one rulebook and one engine.
pub struct LineJudge {
    engine: EnginePool,
    rulebook: Arc<Rulebook>,
}

impl LineJudge {
    /// Loads the models of `rulebook` from `folder` and starts `threads` encoder threads of the
    /// chosen engine.
    pub fn start(
        folder: &Path,
        rulebook: Arc<Rulebook>,
        engine: EngineChoice,
        threads: usize,
    ) -> Result<Self, EngineError> {
        let models = Models::load(folder, &rulebook, engine)?;
        let engine = EnginePool::start(&models, threads)
            .map_err(|error| EngineError::Stopped(format!("threads cannot be started: {error}")))?;
        Ok(Self { engine, rulebook })
    }

    /// Judges texts, in order. `language` is what the source declares of each.
    pub async fn judge_texts(&self, texts: &[(&str, Option<&str>)]) -> Result<Vec<Assessment>, EngineError> {
        Ok(self.judge_with_signals(texts).await?.into_iter().map(|(assessment, _)| assessment).collect())
    }

    /// Judges texts and gives what each judgement rests on, also where it came to nothing.
    pub async fn judge_with_signals(
        &self,
        texts: &[(&str, Option<&str>)],
    ) -> Result<Vec<(Assessment, Signals)>, EngineError> {
        let default_language = self.rulebook.languages.first().map_or("en", String::as_str);
        let readings = texts
            .iter()
            .map(|(text, language)| read(text, ReadHints { language: *language, default_language }))
            .collect();
        let scored = self.engine.score(readings).await?;
        let judged = |(reading, signals)| (assess::assess(&reading, &signals, &self.rulebook), signals);
        Ok(scored.into_iter().map(judged).collect())
    }
}

#[async_trait]
impl Judge for LineJudge {
    fn version(&self, consultation: &ConsultationId) -> Option<PipelineVersion> {
        (*consultation == self.rulebook.consultation.id).then(|| self.rulebook.version.clone())
    }

    async fn judge(&self, comments: &[Comment]) -> Result<Vec<Assessment>, EngineError> {
        self.judge_texts(&texts(comments)).await
    }

    async fn judge_closely(&self, comments: &[Comment]) -> Result<Vec<(Assessment, Signals)>, EngineError> {
        self.judge_with_signals(&texts(comments)).await
    }
}

fn texts(comments: &[Comment]) -> Vec<(&str, Option<&str>)> {
    comments.iter().map(|comment| (comment.text.as_str(), comment.language.as_deref())).collect()
}

/// What a comment may be, as set.
pub fn intake_limits(settings: &Settings) -> IntakeLimits {
    IntakeLimits { text_bytes: settings.max_text_bytes, ..IntakeLimits::default() }
}

/// Whether the settings or the command line name a broker.
pub fn names_a_broker(settings: &Settings, amqp: Option<&str>) -> bool {
    amqp.is_some() || settings.rabbitmq.url.is_some() || settings.rabbitmq.url_file.is_some()
}

/// Everything about the broker. `amqp` is what the command line says: an address, or
/// nothing but the wish; then the settings have the address.
pub fn rabbit_config(settings: &Settings, amqp: Option<&str>, defaults: Defaults) -> anyhow::Result<RabbitConfig> {
    let set = &settings.rabbitmq;
    let (text, from) = if let Some(url) = amqp.filter(|url| !url.is_empty()) {
        (url.to_owned(), "--amqp".to_owned())
    } else if let Some(url) = &set.url {
        (url.0.clone(), "rabbitmq.url (MOOTHALL_RABBITMQ_URL)".to_owned())
    } else if let Some(path) = &set.url_file {
        (read_text(path, "rabbitmq.url_file")?, format!("{}", path.display()))
    } else {
        anyhow::bail!(
            "no broker is named: give --amqp amqp://HOST/VHOST, or set MOOTHALL_RABBITMQ_URL or rabbitmq.url_file"
        );
    };
    let mut url = BrokerUrl::parse(&text).map_err(|why| anyhow::anyhow!("{from}: {why}"))?;
    if from == "--amqp" && url.has_password() {
        tracing::warn!(
            "everybody on this machine can read the password in --amqp: set MOOTHALL_RABBITMQ_URL or rabbitmq.url_file"
        );
    }
    if let Some(vhost) = &set.vhost {
        url = url.with_vhost(vhost);
    }
    let mut names = Names::with_prefix(&set.prefix);
    for (key, name) in names.entries() {
        if let Some((_, given)) = set.names.iter().find(|(set, _)| *set == key) {
            name.clone_from(given);
        }
    }
    names.check().map_err(|why| anyhow::anyhow!("rabbitmq.{why}"))?;
    let pem = |path: &Option<PathBuf>, key: &str| path.as_deref().map(|path| read_text(path, key)).transpose();
    let identity = pem(&set.client_cert_file, "rabbitmq.client_cert_file")?
        .zip(pem(&set.client_key_file, "rabbitmq.client_key_file")?)
        .map(|(certificate, key)| (certificate.into_bytes(), key.into_bytes()));
    let prefetch = if set.prefetch > 0 { set.prefetch } else { u16::try_from(settings.batch * 4).unwrap_or(u16::MAX) };
    Ok(RabbitConfig {
        url,
        tls: Tls { ca: pem(&set.ca_file, "rabbitmq.ca_file")?, identity },
        names,
        mode: if set.declare { Mode::Declare } else { Mode::Check },
        prefetch,
        heartbeat_s: set.heartbeat_s,
        timeout: Duration::from_millis(set.timeout_ms),
        retry: set.retry_ms.iter().copied().map(Duration::from_millis).collect(),
        max_message_bytes: set.max_message_bytes,
        stall: Duration::from_millis(set.stall_ms),
        delivery_budget: settings.max_attempts,
        delivery_limit: set.delivery_limit,
        defaults,
        origin: set.origin.clone(),
    })
}

fn read_text(path: &Path, key: &str) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("{key}: {}", path.display()))
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
pub fn random_name() -> anyhow::Result<String> {
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
