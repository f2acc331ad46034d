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
use crate::domain::reading::Reading;
use crate::domain::rulebook::{PipelineVersion, Rulebook};
use crate::domain::score::Signals;
use crate::engine::choice::EngineChoice;
use crate::engine::first_stage::FirstStage;
use crate::engine::{EnginePool, Models};
use crate::pipeline::clock::Clock;
use crate::pipeline::intake::IntakeLimits;
use crate::pipeline::ports::{Engine, EngineError, Judge};
use crate::settings::Settings;
use crate::settings::webhooks::WebhookTarget;
use crate::webhook::{HttpCaller, Secrets, Target};
use crate::wire::incoming::Defaults;

pub use self::storage::{Storage, StorePlace, open_store};

/// Reads, scores and assesses: the whole judgement, with one rulebook and one engine.
pub struct LineJudge {
    engine: EnginePool,
    first_stage: Option<FirstStage>,
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
        let first_stage = if rulebook.first_stage { FirstStage::read(&models.manifest)? } else { None };
        let engine = EnginePool::start(&models, threads)
            .map_err(|error| EngineError::Stopped(format!("threads cannot be started: {error}")))?;
        Ok(Self { engine, first_stage, rulebook })
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
        let mut settled = Vec::with_capacity(texts.len());
        let mut open = Vec::with_capacity(texts.len());
        for (text, language) in texts {
            let reading = read(text, ReadHints { language: *language, default_language });
            let plain = self.plain_spam(&reading);
            if plain.is_none() {
                open.push(reading);
            }
            settled.push(plain);
        }
        let scored = if open.is_empty() { Vec::new() } else { self.engine.score(open).await? };
        let mut judged =
            scored.into_iter().map(|(reading, signals)| (assess::assess(&reading, &signals, &self.rulebook), signals));
        let short = || EngineError::Stopped("gave fewer answers than comments".to_owned());
        settled
            .into_iter()
            .map(|plain| match plain {
                Some(assessment) => Ok((assessment, Signals::default())),
                None => judged.next().ok_or_else(short),
            })
            .collect()
    }

    /// The judgement of a text that the first stage settles.
    fn plain_spam(&self, reading: &Reading) -> Option<Assessment> {
        let probability = self.first_stage.as_ref()?.settles(reading)?;
        assess::plain_spam(reading, probability, &self.rulebook)
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
    let pem = |path: &Option<PathBuf>, key: &str, holds: &str| {
        path.as_deref().map(|path| read_pem(path, key, holds)).transpose()
    };
    let identity = pem(&set.client_cert_file, "rabbitmq.client_cert_file", "CERTIFICATE")?
        .zip(pem(&set.client_key_file, "rabbitmq.client_key_file", "PRIVATE KEY")?)
        .map(|(certificate, key)| (certificate.into_bytes(), key.into_bytes()));
    let prefetch = if set.prefetch > 0 { set.prefetch } else { u16::try_from(settings.batch * 4).unwrap_or(u16::MAX) };
    Ok(RabbitConfig {
        url,
        tls: Tls { ca: pem(&set.ca_file, "rabbitmq.ca_file", "CERTIFICATE")?, identity },
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

/// Whom the settings name, with the kinds that each takes. Secrets are read here.
pub fn webhooks(settings: &Settings) -> anyhow::Result<Vec<(Target, Vec<&'static str>)>> {
    let one = |set: &WebhookTarget| {
        let (text, from) = if let Some(secret) = &set.secret {
            (secret.0.clone(), WebhookTarget::variable(&set.name))
        } else if let Some(path) = &set.secret_file {
            (read_text(path, "secret_file")?, path.display().to_string())
        } else {
            anyhow::bail!("no secret is named");
        };
        let target = Target {
            name: set.name.clone(),
            url: Target::address(&set.url.0, set.allow_http).map_err(|why| anyhow::anyhow!("url {why}"))?,
            secrets: Secrets::parse(&text).map_err(|why| anyhow::anyhow!("{from} {why}"))?,
            timeout: Duration::from_millis(set.timeout_ms),
            ca: set.ca_file.as_deref().map(|path| read_text(path, "ca_file")).transpose()?,
            origin: settings.rabbitmq.origin.clone(),
        };
        Ok((target, set.kinds.clone()))
    };
    let named = |set: &WebhookTarget| one(set).with_context(|| format!("webhook `{}`", set.name));
    settings.webhooks.targets.iter().map(named).collect()
}

/// A caller with connections of its own.
pub fn webhook_caller(target: &Target, clock: &Clock) -> anyhow::Result<HttpCaller> {
    HttpCaller::new(target.clone(), clock.clone())
        .map_err(|why| anyhow::anyhow!("{why}"))
        .with_context(|| format!("webhook `{}`", target.name))
}

fn read_text(path: &Path, key: &str) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("{key}: {}", path.display()))
}

/// A file without what it should hold would be taken without a word, and the broker blamed later.
fn read_pem(path: &Path, key: &str, holds: &str) -> anyhow::Result<String> {
    let text = read_text(path, key)?;
    let begins = |line: &str| line.starts_with("-----BEGIN ") && line.trim_end().ends_with(&format!("{holds}-----"));
    anyhow::ensure!(text.lines().any(begins), "{key}: {} holds no {} as PEM", path.display(), holds.to_lowercase());
    Ok(text)
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
