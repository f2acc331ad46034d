//! What must not be read by whoever reads a terminal, a log or an error: planted, then looked for.

use std::path::Path;
use std::process::{Command, Stdio};

use moothall::app::rabbit_config;
use moothall::domain::comment::{ConsultationId, SourceName};
use moothall::settings::Settings;
use moothall::wire::incoming::{Defaults, FieldMap};
use rcgen::{CertificateParams, KeyPair};

const PASSWORD: &str = "pl4nted-passw0rd";
/// 64 hex digits.
const PSEUDONYMS: &str = "5ec4e75ec4e75ec4e75ec4e75ec4e75ec4e75ec4e75ec4e75ec4e75ec4e7abcd";

/// A secret for each place that may hold one, and some lines of the private key.
struct Planted {
    folder: tempfile::TempDir,
    url: String,
    secrets: Vec<String>,
}

impl Planted {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec!["moothall".to_owned()]).unwrap().self_signed(&key).unwrap();
        let key = key.serialize_pem();
        // Nobody listens there.
        let url = format!("amqps://worker:{PASSWORD}@127.0.0.1:1/%2f");
        for (name, text) in [
            ("url", url.as_str()),
            ("client.pem", &certificate.pem()),
            ("client.key", &key),
            ("pseudonyms", PSEUDONYMS),
            ("set.toml", &format!("[rabbitmq]\nurl = \"{url}\"\n")),
            // Errors about them must not quote the line that they are about.
            ("no-toml.toml", &format!("[rabbitmq]\nurl = \"{url}\n")),
            ("wrong-key.toml", &format!("[rabbitmq]\nurll = \"{url}\"\n")),
            ("wrong-type.toml", &format!("[rabbitmq]\nurl = [\"{url}\"]\n")),
            ("wrong-place.toml", &format!("rabbitmq = \"{url}\"\n")),
            ("no-url.toml", &format!("[rabbitmq]\nurl = \"amqp//worker:{PASSWORD}@127.0.0.1:1\"\n")),
            ("bad-number.toml", &format!("[rabbitmq]\nprefetch = \"{url}\"\n")),
        ] {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        let mut secrets = vec![PASSWORD.to_owned(), PSEUDONYMS.to_owned()];
        secrets.extend(key.lines().filter(|line| !line.starts_with("-----")).map(str::to_owned));
        Self { folder, url, secrets }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    fn clean(&self, what: &str, said: &str) {
        for secret in &self.secrets {
            assert!(!said.contains(secret), "{what} prints a secret:\n{said}");
        }
    }

    /// Everything that a command prints, on the most talkative level.
    fn run(&self, arguments: &[&str], environment: &[(&str, &str)]) -> String {
        let output = Command::new(env!("CARGO_BIN_EXE_moothall"))
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .args(arguments)
            .envs(environment.iter().copied())
            .env("MOOTHALL_LOG_LEVEL", "trace")
            .env("MOOTHALL_PSEUDONYM_KEY_FILE", self.path("pseudonyms"))
            .env("RUST_BACKTRACE", "1")
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
        assert!(!said.is_empty(), "{arguments:?} prints nothing that could be looked at");
        said
    }
}

#[test]
fn no_command_prints_a_secret_wherever_it_was_given() {
    let planted = Planted::new();
    let (client, key) = (planted.path("client.pem"), planted.path("client.key"));
    let certificates =
        [("MOOTHALL_RABBITMQ_CLIENT_CERT_FILE", client.as_str()), ("MOOTHALL_RABBITMQ_CLIENT_KEY_FILE", &key)];
    let file = planted.path("url");
    let set = planted.path("set.toml");
    let out = planted.path("out");
    let short = ("MOOTHALL_RABBITMQ_TIMEOUT_MS", "1000");
    for (how, environment) in [
        ("by the environment", vec![("MOOTHALL_RABBITMQ_URL", planted.url.as_str()), short]),
        ("by a file", vec![("MOOTHALL_RABBITMQ_URL_FILE", file.as_str()), short]),
        ("by the settings", vec![("MOOTHALL_CONFIG", set.as_str()), short]),
    ] {
        let environment: Vec<_> = environment.into_iter().chain(certificates).collect();
        for arguments in [
            &["check-config"][..],
            &["doctor", "--amqp", "--out", &out],
            &["doctor", "--amqp", "--json", "--out", &out],
            &["queue", "status", "--amqp"],
            &["queue", "parked", "--amqp"],
            &["publish", "examples/mentoring.csv", "--amqp", "--wait", "1"],
            &["process", "examples/mentoring.csv", "--out", "/dev/null/nowhere"],
        ] {
            planted.clean(&format!("{} {how}", arguments.join(" ")), &planted.run(arguments, &environment));
        }
    }
}

#[test]
fn an_error_about_a_setting_does_not_quote_what_was_set() {
    let planted = Planted::new();
    for name in
        ["no-toml.toml", "wrong-key.toml", "wrong-type.toml", "wrong-place.toml", "no-url.toml", "bad-number.toml"]
    {
        let path = planted.path(name);
        let said = planted.run(&["doctor", "--amqp"], &[("MOOTHALL_CONFIG", &path)]);
        planted.clean(name, &said);
    }
    for (name, value) in [
        ("MOOTHALL_RABBITMQ_URL", format!("amqp://worker:{PASSWORD}@[::1]")),
        ("MOOTHALL_RABBITMQ_URL", format!("worker:{PASSWORD}")),
        ("MOOTHALL_PSEUDONYM_KEY", PASSWORD.to_owned()),
    ] {
        let said = planted.run(&["doctor", "--amqp"], &[(name, &value)]);
        planted.clean(&format!("{name}={value}"), &said);
    }
}

#[test]
fn what_a_debugger_prints_holds_no_secret() {
    let planted = Planted::new();
    let (client, key) = (planted.path("client.pem"), planted.path("client.key"));
    let env = |name: &str| match name {
        "MOOTHALL_RABBITMQ_URL" => Some(planted.url.clone()),
        "MOOTHALL_RABBITMQ_CLIENT_CERT_FILE" => Some(client.clone()),
        "MOOTHALL_RABBITMQ_CLIENT_KEY_FILE" => Some(key.clone()),
        _ => None,
    };
    let settings = Settings::load(None, &env).unwrap();
    planted.clean("Settings", &format!("{settings:?}\n{settings:#?}"));
    let defaults = Defaults {
        consultation: ConsultationId::new("mentoring").unwrap(),
        source: SourceName::new("amqp").unwrap(),
        fields: FieldMap::default(),
    };
    let config = rabbit_config(&settings, None, defaults).unwrap();
    planted.clean("RabbitConfig", &format!("{config:?}\n{config:#?}\n{}", config.url));
    // The file is read into it, so there is something that could have been printed.
    assert!(config.tls.identity.is_some() && Path::new(&key).exists());
}
