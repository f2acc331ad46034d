//! Certificates, and what it means when one side does not accept the other's.
//!
//! A library says `UnknownIssuer`, or that an alert was received. Here that becomes
//! a sentence about whose certificate is wrong and what a person does about it.

use std::fmt;
use std::io;

use rustls::{AlertDescription, CertificateError, Error};

/// PEM texts for TLS; empty ones are the system's.
#[derive(Clone, Default)]
pub struct Tls {
    /// Certificates of the authority to trust beside the system's.
    pub ca: Option<String>,
    /// The client's certificate and its private key (PKCS #8).
    pub identity: Option<(Vec<u8>, Vec<u8>)>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("ca", &self.ca.is_some()).field("identity", &self.identity.is_some()).finish()
    }
}

/// Why the two sides do not trust each other.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TlsFault {
    /// Nobody whom we trust has signed the broker's certificate.
    #[error("its certificate was signed by an authority that is not trusted here")]
    UnknownAuthority,
    /// The certificate is good, for another host.
    #[error("its certificate is not for the name in the address{0}")]
    WrongName(String),
    /// Its time is over.
    #[error("its certificate has expired")]
    Expired,
    /// Its time has not begun.
    #[error("its certificate is not valid yet")]
    NotYetValid,
    /// The broker wants to know who we are.
    #[error("it asks for a client certificate, and none is set")]
    ClientCertificateMissing,
    /// The broker does not like who we say that we are.
    #[error("it does not accept our client certificate: {0}")]
    ClientCertificateRefused(String),
    /// It hung up before it had said why: an alert that is followed by the end of the
    /// connection can be lost on its way.
    #[error(
        "it closed the connection in the handshake, as a broker does that does not like our certificate or lack of one"
    )]
    Closed,
    /// Something else answers on that port.
    #[error("it answers, and not with TLS")]
    NotTls,
    /// Anything else, in the library's words.
    #[error("{0}")]
    Other(String),
}

impl TlsFault {
    /// What an error means; `None` where it does not speak of TLS. `identified` says whether
    /// we have shown a certificate of our own.
    pub(super) fn of(error: &io::Error, identified: bool) -> Option<Self> {
        let Some(inner) = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) else {
            use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, InvalidData, UnexpectedEof};
            return match error.kind() {
                // What is no certificate or no key at all is told by this kind.
                InvalidData => Some(Self::Other(error.to_string())),
                ConnectionReset | ConnectionAborted | BrokenPipe | UnexpectedEof => Some(Self::Closed),
                _ => None,
            };
        };
        Some(match inner {
            Error::InvalidCertificate(why) => match why {
                CertificateError::UnknownIssuer | CertificateError::BadSignature => Self::UnknownAuthority,
                CertificateError::NotValidForName => Self::WrongName(String::new()),
                CertificateError::NotValidForNameContext { presented, .. } => Self::WrongName(names(presented)),
                CertificateError::Expired | CertificateError::ExpiredContext { .. } => Self::Expired,
                CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => Self::NotYetValid,
                other => Self::Other(format!("its certificate is not accepted: {other}")),
            },
            // Alerts are about what we sent, which is our certificate or the lack of one.
            Error::AlertReceived(AlertDescription::CertificateRequired) if !identified => {
                Self::ClientCertificateMissing
            }
            // Before TLS 1.3 there was no alert of its own for that.
            Error::AlertReceived(AlertDescription::HandshakeFailure) if !identified => Self::ClientCertificateMissing,
            Error::AlertReceived(alert) if identified => Self::ClientCertificateRefused(format!("{alert:?}")),
            Error::InvalidMessage(_) => Self::NotTls,
            other => Self::Other(other.to_string()),
        })
    }

    /// What to do about it, for a person.
    pub fn advice(&self) -> &'static str {
        match self {
            Self::UnknownAuthority => {
                "set rabbitmq.ca_file to the PEM file of the authority that signed the broker's certificate"
            }
            Self::WrongName(_) => {
                "put the name that the certificate is for into the address, or have one made with this name (subjectAltName)"
            }
            Self::Expired => "have the broker's certificate renewed; if it is in its time, set this machine's clock",
            Self::NotYetValid => "set this machine's clock, or wait until the broker's certificate is valid",
            Self::ClientCertificateMissing => "set rabbitmq.client_cert_file and rabbitmq.client_key_file",
            Self::ClientCertificateRefused(_) => {
                "renew the certificate in rabbitmq.client_cert_file, signed by an authority in the broker's own cacertfile"
            }
            Self::Closed => {
                "set rabbitmq.client_cert_file and client_key_file if the broker asks for them; its log says why it closed"
            }
            Self::NotTls => "use the broker's TLS port (usually 5671) with amqps://, the other (5672) with amqp://",
            Self::Other(_) => {
                "check the files of rabbitmq.ca_file, client_cert_file and client_key_file; the broker's log has its side"
            }
        }
    }
}

fn names(presented: &[String]) -> String {
    // The library writes them as it has them: `DnsName("broker.example")`.
    let bare = |name: &String| match name.split_once('(') {
        Some((_, rest)) => rest.trim_matches([')', '"']).to_owned(),
        None => name.clone(),
    };
    let names: Vec<String> = presented.iter().map(bare).collect();
    if names.is_empty() { String::new() } else { format!("; it is for {}", names.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(error: Error, identified: bool) -> Option<TlsFault> {
        TlsFault::of(&io::Error::new(io::ErrorKind::InvalidData, error), identified)
    }

    #[test]
    fn an_alert_is_about_our_own_certificate() {
        let required = || Error::AlertReceived(AlertDescription::CertificateRequired);
        assert_eq!(fault(required(), false), Some(TlsFault::ClientCertificateMissing));
        let expired = Error::AlertReceived(AlertDescription::CertificateExpired);
        assert_eq!(fault(expired, true), Some(TlsFault::ClientCertificateRefused("CertificateExpired".to_owned())));
    }

    #[test]
    fn the_names_of_a_certificate_are_written_as_in_an_address() {
        let presented = ["DnsName(\"broker.example\")", "IpAddress(127.0.0.1)"].map(str::to_owned);
        assert_eq!(names(&presented), "; it is for broker.example, 127.0.0.1");
    }

    #[test]
    fn an_error_of_the_network_is_none_of_tls() {
        assert_eq!(TlsFault::of(&io::Error::from(io::ErrorKind::ConnectionRefused), true), None);
    }
}
