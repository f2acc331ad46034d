//! The `[store]` section: what is typed, checked. Secrets are named by file here and read by `app`.

use std::path::PathBuf;

use toml::Table;

use super::keys::{Keys, Problems};
use super::secret::Secret;

/// The store as an operator sets it. Empty texts are absent.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is explained where it is set, in config/default.toml")]
pub struct StoreSettings {
    pub path: Option<PathBuf>,
    pub url: Option<Secret>,
    pub url_file: Option<PathBuf>,
    pub ca_file: Option<PathBuf>,
    pub client_cert_file: Option<PathBuf>,
    pub client_key_file: Option<PathBuf>,
    pub connections: u32,
    pub timeout_ms: u64,
    pub step_ms: u64,
}

impl StoreSettings {
    /// Reads the section; every problem is noted.
    pub(super) fn read(table: &Table, file: &str, problems: &mut Problems) -> Option<Self> {
        let mut keys = Keys::new(table, file, "store", problems);
        let url = keys.optional_text("url").map(Secret);
        let [path, url_file, ca_file, client_cert_file, client_key_file] =
            ["path", "url_file", "ca_file", "client_cert_file", "client_key_file"]
                .map(|name| keys.optional_text(name).map(PathBuf::from));
        if path.is_some() && (url.is_some() || url_file.is_some()) {
            keys.wrong("path", "and store.url (or url_file) name two stores: set one of them");
        }
        if client_cert_file.is_some() != client_key_file.is_some() {
            keys.wrong("client_cert_file", "and client_key_file must be set together");
        }
        let connections = keys.whole("connections", 2);
        let timeout_ms = keys.whole("timeout_ms", 100);
        let step_ms = keys.whole("step_ms", 1_000);
        keys.finish();
        Some(Self {
            path,
            url,
            url_file,
            ca_file,
            client_cert_file,
            client_key_file,
            connections: u32::try_from(connections?).unwrap_or(u32::MAX),
            timeout_ms: timeout_ms? as u64,
            step_ms: step_ms? as u64,
        })
    }
}

#[cfg(test)]
mod tests {
    use crate::settings::Settings;

    fn check(file: &str, env: (&str, &str)) -> Result<Settings, String> {
        let env = |name: &str| (name == env.0).then(|| env.1.to_owned());
        Settings::load(Some(("moothall.toml", file)), &env).map_err(|problems| problems.to_string())
    }

    #[test]
    fn an_address_is_a_secret_and_stands_alone() {
        let env = ("MOOTHALL_STORE_URL", "postgres://app:s3cret@db.example/m");
        let settings = check("", env).unwrap();
        assert!(settings.store.url.is_some() && !format!("{settings:?}").contains("s3cret"));
        let problem = check("[store]\npath = \"a.db\"\n", env).unwrap_err();
        assert!(problem.contains("two stores") && !problem.contains("s3cret"), "{problem}");
        let problem = check("[store]\nclient_key_file = \"key.pem\"\nconnections = 1\n", ("", "")).unwrap_err();
        assert!(problem.contains("client_key_file must be set together") && problem.contains("`store.connections`"));
    }
}
