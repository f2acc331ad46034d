//! `[webhooks]` and each `[[webhook]]`: what is typed, checked. Secrets are read by `app`.

use std::path::PathBuf;

use toml::Table;

use super::keys::{Keys, Problems};
use super::rabbitmq::retry_tiers;
use super::secret::Secret;
use crate::wire::event::{ALERT_SAFEGUARDING, COMMENT_ASSESSED};

/// Kinds of messages that a webhook may take.
const KINDS: [&str; 2] = [COMMENT_ASSESSED, ALERT_SAFEGUARDING];
/// Longest name: it stands in every row, metric and line about it.
const LONGEST_NAME: usize = 40;
const TIMEOUT_MS: i64 = 10_000;

/// Webhooks as an operator sets them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WebhookSettings {
    /// Pauses before another try, growing, in milliseconds.
    pub retry_ms: Vec<u64>,
    /// Calls to one target, of one kind, that are on their way at once.
    pub concurrency: u32,
    /// Who is told.
    pub targets: Vec<WebhookTarget>,
}

/// One `[[webhook]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookTarget {
    /// What it is called, here and in the store.
    pub name: String,
    /// Where it is.
    pub url: Secret,
    /// The kinds of messages that it takes.
    pub kinds: Vec<&'static str>,
    /// From the environment.
    pub secret: Option<Secret>,
    /// The file that holds it; used where the environment has none.
    pub secret_file: Option<PathBuf>,
    /// An authority to trust beside the system's, as a PEM file.
    pub ca_file: Option<PathBuf>,
    /// The most that one try takes, in milliseconds.
    pub timeout_ms: u64,
    /// Whether `http://` to this machine is meant.
    pub allow_http: bool,
}

impl WebhookTarget {
    /// The variable that holds a target's secret: `MOOTHALL_WEBHOOK_NAME_SECRET`, with the
    /// target's name in capitals and `_` for `-`.
    pub fn variable(name: &str) -> String {
        format!("MOOTHALL_WEBHOOK_{}_SECRET", name.to_uppercase().replace('-', "_"))
    }
}

impl WebhookSettings {
    /// Reads both; every problem is noted.
    pub(super) fn read(
        layers: &Table,
        file: &str,
        env: &dyn Fn(&str) -> Option<String>,
        problems: &mut Problems,
    ) -> Option<Self> {
        let shared = layers.get("webhooks").and_then(toml::Value::as_table).cloned().unwrap_or_default();
        let mut keys = Keys::new(&shared, file, "webhooks", problems);
        let retry_ms = retry_tiers(&mut keys);
        let concurrency = keys.whole("concurrency", 1);
        keys.finish();
        let mut keys = Keys::new(layers, file, "", problems);
        let mut targets: Vec<WebhookTarget> = Vec::new();
        for (table, prefix) in keys.tables("webhook") {
            let Some(target) = target(table, file, &prefix, env, keys.problems) else { continue };
            if targets.iter().any(|other| WebhookTarget::variable(&other.name) == WebhookTarget::variable(&target.name))
            {
                keys.problems.add(file, format!("{prefix}.name"), format!("`{}` stands twice", target.name));
            }
            targets.push(target);
        }
        Some(Self { retry_ms: retry_ms?, concurrency: concurrency?.min(64) as u32, targets })
    }
}

fn target(
    table: &Table,
    file: &str,
    prefix: &str,
    env: &dyn Fn(&str) -> Option<String>,
    problems: &mut Problems,
) -> Option<WebhookTarget> {
    let mut keys = Keys::new(table, file, prefix, problems);
    let name = keys.required_text("name").filter(|name| {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let good = name.len() <= LONGEST_NAME && name.chars().all(plain);
        if !good {
            keys.wrong("name", format!("must have 1 to {LONGEST_NAME} of a to z, 0 to 9 and `-`"));
        }
        good
    });
    let url = keys.required_text("url").map(Secret);
    let mut kinds = Vec::new();
    let given = keys.texts("kinds");
    if given.is_empty() {
        keys.wrong("kinds", format!("must name one or more of {}", KINDS.join(", ")));
    }
    for kind in given {
        match KINDS.into_iter().find(|known| *known == kind) {
            Some(known) if !kinds.contains(&known) => kinds.push(known),
            Some(_) => {}
            None => keys.wrong("kinds", format!("holds `{kind}`, must be of {}", KINDS.join(", "))),
        }
    }
    let secret_file = keys.optional_text("secret_file").map(PathBuf::from);
    let ca_file = keys.optional_text("ca_file").map(PathBuf::from);
    let secret = name.as_deref().and_then(|name| env(&WebhookTarget::variable(name))).map(Secret);
    if let Some(name) = &name
        && secret.is_none()
        && secret_file.is_none()
    {
        let variable = WebhookTarget::variable(name);
        keys.wrong("secret_file", format!("is missing, and so is {variable}: calls are signed"));
    }
    let timeout_ms = if keys.has("timeout_ms") { keys.whole("timeout_ms", 100) } else { Some(TIMEOUT_MS) };
    let allow_http = keys.flag("allow_http").unwrap_or(false);
    keys.finish();
    Some(WebhookTarget {
        name: name?,
        url: url?,
        kinds,
        secret,
        secret_file,
        ca_file,
        timeout_ms: timeout_ms?.min(120_000) as u64,
        allow_http,
    })
}

#[cfg(test)]
mod tests {
    use crate::settings::Settings;

    fn load(file: &str, secret: Option<&str>) -> Result<Settings, String> {
        let env = |name: &str| secret.filter(|_| name == "MOOTHALL_WEBHOOK_SITE_B_SECRET").map(str::to_owned);
        Settings::load(Some(("moothall.toml", file)), &env).map_err(|problems| problems.to_string())
    }

    const GOOD: &str = "[[webhook]]\nname = \"site-b\"\nurl = \"https://hooks.example/token\"\n\
                        kinds = [\"comment.assessed.v1\"]\n";

    #[test]
    fn a_webhook_has_its_secret_from_the_environment_or_a_file() {
        let settings = load(GOOD, Some("whsec_x")).unwrap();
        assert_eq!((settings.webhooks.targets.len(), settings.webhooks.concurrency), (1, 4));
        assert!(!format!("{settings:?}").contains("whsec_x") && !format!("{settings:?}").contains("token"));
        load(&format!("{GOOD}secret_file = \"hook.key\"\n"), None).unwrap();
        let problem = load(GOOD, None).unwrap_err();
        assert!(
            problem.contains("`webhook[1].secret_file` is missing, and so is MOOTHALL_WEBHOOK_SITE_B_SECRET"),
            "{problem}"
        );
    }

    #[test]
    fn what_is_wrong_with_a_webhook_is_named() {
        let wrong = "[[webhook]]\nname = \"Site B\"\nurl = \"\"\nkinds = [\"comment.judged\"]\nsecret = \"whsec_y\"\n";
        let problem = load(wrong, None).unwrap_err();
        for expected in [
            "webhook[1].name` must have",
            "webhook[1].url` is empty",
            "holds `comment.judged`",
            "webhook[1].secret` is not a key",
        ] {
            assert!(problem.contains(expected), "{expected} is not in {problem}");
        }
        let twice = load(&format!("{GOOD}{GOOD}"), Some("whsec_x")).unwrap_err();
        assert!(twice.contains("`webhook[2].name` `site-b` stands twice"), "{twice}");
        assert!(load("[webhook]\nname = \"x\"\n", None).unwrap_err().contains("must be written as [[webhook]]"));
    }
}
