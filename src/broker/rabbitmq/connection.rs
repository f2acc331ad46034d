//! How a broker is found, reached and told apart from one that cannot be reached.
//!
//! Owns the address with its secrets, and the time limit that lapin's own
//! `connection_timeout` does not keep (seen with 4.12: a silent listener hangs it).

use std::fmt;
use std::time::Duration;

use lapin::tcp::{OwnedIdentity, OwnedTLSConfig};
use lapin::uri::{AMQPScheme, AMQPUri};
use lapin::{Connection, ConnectionProperties, ErrorKind};

use super::RabbitConfig;
use super::tls::TlsFault;
use crate::wire::address::has_password;

/// Where the broker is. Prints without its password.
#[derive(Clone, PartialEq, Eq)]
pub struct BrokerUrl {
    uri: AMQPUri,
    has_password: bool,
}

impl BrokerUrl {
    /// Reads `amqp://user:password@host:port/vhost` or `amqps://...`.
    ///
    /// # Errors
    /// A sentence that says what is wrong and quotes nothing.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let form = "write it as amqp://user:password@host:5672/vhost (amqps:// for TLS; the vhost `/` is %2f)";
        let has_password = has_password(text).map_err(|why| format!("{why}; {form}"))?;
        // With one slash it would still be read, all of it as the vhost.
        let scheme = text.split_once("://").map_or("", |(scheme, _)| scheme);
        if !["amqp", "amqps"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) {
            return Err(format!("is no address of a broker: {form}"));
        }
        if text.contains("://[") || text.contains("@[") {
            // lapin reads such a host as `localhost` without a word.
            return Err("a bare IPv6 address is not understood: use a host name".to_owned());
        }
        let mut uri: AMQPUri = text.parse().map_err(|_| format!("is no address of a broker: {form}"))?;
        if uri.authority.host.is_empty() {
            return Err(format!("names no host: {form}"));
        }
        // `amqp://host/` means the vhost without a name, which nobody has and many write.
        if uri.vhost.is_empty() {
            "/".clone_into(&mut uri.vhost);
        }
        Ok(Self { uri, has_password })
    }

    /// The same broker with another vhost.
    #[must_use]
    pub fn with_vhost(mut self, vhost: &str) -> Self {
        vhost.clone_into(&mut self.uri.vhost);
        self
    }

    /// Whether a password stands in it.
    pub fn has_password(&self) -> bool {
        self.has_password
    }

    /// Whether nobody is named, so that the broker's `guest` is used.
    pub fn is_guest(&self) -> bool {
        self.uri.authority.userinfo.username == "guest"
    }

    /// Host name or address.
    pub fn host(&self) -> &str {
        &self.uri.authority.host
    }

    /// Whether it speaks TLS.
    pub fn is_tls(&self) -> bool {
        self.uri.scheme == AMQPScheme::AMQPS
    }

    /// The vhost.
    pub fn vhost(&self) -> &str {
        &self.uri.vhost
    }

    /// The user.
    pub fn user(&self) -> &str {
        &self.uri.authority.userinfo.username
    }
}

impl fmt::Display for BrokerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.uri.scheme {
            AMQPScheme::AMQP => "amqp",
            AMQPScheme::AMQPS => "amqps",
        };
        let authority = &self.uri.authority;
        let vhost = if self.uri.vhost == "/" { "%2f" } else { &self.uri.vhost };
        write!(f, "{scheme}://{}@{}:{}/{vhost}", authority.userinfo.username, authority.host, authority.port)
    }
}

impl fmt::Debug for BrokerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a broker does not do what it was asked.
#[derive(Clone, Debug, thiserror::Error)]
pub enum BrokerError {
    /// Nobody answers, or not in time.
    #[error("the broker at {url} cannot be reached: {why}")]
    Unreachable {
        /// Without its password.
        url: String,
        /// What the system says.
        why: String,
    },
    /// The two sides do not trust each other's certificates.
    #[error("TLS with the broker at {url} fails: {fault}")]
    Tls {
        /// Without its password.
        url: String,
        /// Whose certificate is wrong, and how.
        fault: TlsFault,
    },
    /// It answers and turns us away: wrong user, password or vhost.
    #[error("the broker at {url} turns us away: {why}")]
    TurnedAway {
        /// Without its password.
        url: String,
        /// What the broker says.
        why: String,
    },
    /// A right is missing.
    #[error("a permission is missing: {0}")]
    Forbidden(String),
    /// A queue or exchange is not there.
    #[error("something is missing on the broker: {0}")]
    Missing(String),
    /// Exchanges or queues are not as they must be; one line each.
    #[error("the topology differs:\n  {}", .0.join("\n  "))]
    Topology(Vec<String>),
    /// Memory or disk of the broker is short: it takes no messages for now.
    #[error("the broker blocks publishing: {0}")]
    Blocked(String),
    /// A queue has reached its limit and takes no more for now.
    #[error("the broker refuses messages to `{0}`: a queue behind it is full")]
    Full(String),
    /// Anything else, usually a connection that has just gone.
    #[error("{0}")]
    Lost(String),
}

impl BrokerError {
    /// Whether trying again is of no use before a person has changed something.
    pub fn needs_a_person(&self) -> bool {
        matches!(self, Self::Tls { .. } | Self::TurnedAway { .. } | Self::Topology(_))
    }

    /// What to do about it, for a person.
    pub fn advice(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } => {
                "check that the broker runs, its address, and what stands between (firewall, DNS)"
            }
            Self::Tls { fault, .. } => fault.advice(),
            Self::TurnedAway { .. } => "check user, password and vhost; the broker's log names the reason",
            Self::Forbidden(_) => {
                "give the user the right that is named (rabbitmqctl set_permissions); a worker needs read on its queues \
                 and write on the exchanges"
            }
            Self::Missing(_) => {
                "with topology = \"declare\" every new connection makes what is missing: start a worker, or run doctor"
            }
            Self::Topology(_) => {
                "Moothall deletes nothing: either move the named thing away (drain it first) or set another prefix"
            }
            Self::Blocked(_) => {
                "the broker is short of memory or disk: free some, or let the results be consumed; work goes on by itself"
            }
            Self::Full(_) => "let the queue be consumed, or raise the limit in its policy; nothing is lost meanwhile",
            Self::Lost(_) => "usually passes by itself; when it does not, read the broker's log",
        }
    }
}

/// AMQP 0-9-1 reply codes.
const ACCESS_REFUSED: u16 = 403;
const NOT_FOUND: u16 = 404;
const NOT_ALLOWED: u16 = 530;

/// What an error of lapin means to us.
pub(super) fn broker_error(error: &lapin::Error) -> BrokerError {
    match error.kind() {
        ErrorKind::ProtocolError(protocol) if protocol.get_id() == ACCESS_REFUSED => {
            BrokerError::Forbidden(protocol.get_message().to_string())
        }
        ErrorKind::ProtocolError(protocol) if protocol.get_id() == NOT_FOUND => {
            BrokerError::Missing(protocol.get_message().to_string())
        }
        ErrorKind::ProtocolError(protocol) => BrokerError::Lost(protocol.get_message().to_string()),
        _ => BrokerError::Lost(error.to_string()),
    }
}

/// Awaits an answer of the broker, but not for ever: a stopped broker never answers.
pub(super) async fn in_time<T>(
    limit: Duration,
    what: &str,
    call: impl Future<Output = lapin::Result<T>>,
) -> Result<T, BrokerError> {
    match tokio::time::timeout(limit, call).await {
        Ok(answer) => answer.map_err(|error| broker_error(&error)),
        Err(_) => Err(BrokerError::Lost(format!("no answer within {} s to {what}", limit.as_secs_f32()))),
    }
}

/// Connects, within the time limit. `role` is how the connection is called on the broker's pages.
pub async fn connect(config: &RabbitConfig, role: &str) -> Result<Connection, BrokerError> {
    let mut uri = config.url.uri.clone();
    uri.query.heartbeat.get_or_insert(config.heartbeat_s);
    let tls = OwnedTLSConfig {
        identity: config.tls.identity.clone().map(|(pem, key)| OwnedIdentity::PKCS8 { pem, key }),
        cert_chain: config.tls.ca.clone(),
    };
    let name = format!("moothall {role} {}", std::process::id());
    let properties = ConnectionProperties::default().with_connection_name(name.into());
    let url = config.url.to_string();
    let runtime = lapin::runtime::default_runtime().map_err(|error| broker_error(&error))?;
    let connecting = Connection::connect_uri_with_config(uri, properties, tls, runtime);
    match tokio::time::timeout(config.timeout, connecting).await {
        Ok(Ok(connection)) => Ok(connection),
        Ok(Err(error)) => Err(refusal(url, &error, config.tls.identity.is_some())),
        Err(_) => Err(BrokerError::Unreachable {
            url,
            why: format!("nothing was heard for {} s", config.timeout.as_secs_f32()),
        }),
    }
}

fn refusal(url: String, error: &lapin::Error, identified: bool) -> BrokerError {
    match error.kind() {
        ErrorKind::ProtocolError(protocol) if matches!(protocol.get_id(), ACCESS_REFUSED | NOT_ALLOWED) => {
            BrokerError::TurnedAway { url, why: protocol.get_message().to_string() }
        }
        ErrorKind::IOError(cause) => match TlsFault::of(cause, identified) {
            Some(fault) if url.starts_with("amqps:") => BrokerError::Tls { url, fault },
            _ => BrokerError::Unreachable { url, why: cause.to_string() },
        },
        _ => BrokerError::Unreachable { url, why: error.to_string() },
    }
}

/// A channel, in time.
pub(super) async fn channel(config: &RabbitConfig, connection: &Connection) -> Result<lapin::Channel, BrokerError> {
    in_time(config.timeout, "opening a channel", connection.create_channel()).await
}

/// Pauses between tries: they grow from 0.2 to 10 s, and are spread so that many
/// workers do not come back in one moment ("full jitter", AWS Architecture Blog, 2015).
#[derive(Debug, Default)]
pub(super) struct Backoff {
    tries: u32,
}

impl Backoff {
    const FIRST_MS: u64 = 200;
    const LONGEST_MS: u64 = 10_000;

    pub fn reset(&mut self) {
        self.tries = 0;
    }

    pub fn next(&mut self) -> Duration {
        let ceiling = (Self::FIRST_MS << self.tries.min(10)).min(Self::LONGEST_MS);
        self.tries = self.tries.saturating_add(1);
        let mut random = [0; 8];
        // Without random numbers the pause is just not spread.
        let spread = getrandom::fill(&mut random).map_or(ceiling, |()| u64::from_le_bytes(random) % (ceiling + 1));
        Duration::from_millis(spread.max(Self::FIRST_MS / 4))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_prints_without_its_password() {
        let url = BrokerUrl::parse("amqp://worker:s3cret@broker.example:5673/council").unwrap();
        assert!(url.has_password());
        assert_eq!(url.to_string(), "amqp://worker@broker.example:5673/council");
        assert_eq!(format!("{url:?}"), url.to_string());
    }

    #[test]
    fn an_empty_vhost_is_the_usual_one() {
        for text in ["amqp://h", "amqp://h/", "amqp://h/%2f"] {
            let url = BrokerUrl::parse(text).unwrap();
            assert_eq!((url.vhost(), url.has_password()), ("/", false), "{text}");
        }
        assert_eq!(BrokerUrl::parse("amqp://h/a").unwrap().with_vhost("b").vhost(), "b");
    }

    #[test]
    fn what_is_no_url_is_refused_without_being_quoted() {
        for text in [
            "",
            "broker",
            "http://u:s3cret@h",
            "amqp://u:s3cret@[::1]:5672",
            "amqp:/u:s3cret@h/v",
            "amqp://u/:s3cret@h/v",
            "amqp://u:?s3cret@h",
        ] {
            let why = BrokerUrl::parse(text).unwrap_err();
            assert!(!why.contains("s3cret") && !why.is_empty(), "{why}");
        }
    }

    #[test]
    fn pauses_grow_and_end() {
        let mut backoff = Backoff::default();
        let pauses: Vec<u128> = (0..200).map(|_| backoff.next().as_millis()).collect();
        assert!(pauses[0] <= 200 && pauses.iter().all(|ms| (50..=10_000).contains(ms)));
        assert!(pauses[20..].iter().max() > Some(&5_000));
    }
}
