//! The signature of a webhook call.
//!
//! Source: Standard Webhooks 1.0 (standardwebhooks.com, "Signature scheme"): HMAC-SHA256
//! over `ID.TIMESTAMP.BODY`, in base64 behind `v1,`; several signatures are separated by
//! a space, so that a secret can be changed while both are known.

use std::fmt;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// What a secret's text begins with.
const PREFIX: &str = "whsec_";
/// Bytes of a secret, as Standard Webhooks asks.
const BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// The secrets of one target; the first is the current one. Never printed.
#[derive(Clone)]
pub struct Secrets(Vec<Vec<u8>>);

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secrets({})", self.0.len())
    }
}

impl Secrets {
    /// Reads one secret a line, each `whsec_` and 24 to 64 bytes in base64.
    ///
    /// # Errors
    /// A sentence that says what a right one is, and quotes nothing.
    pub fn parse(text: &str) -> Result<Self, String> {
        let secrets = text
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty())
            .map(|line| {
                let bytes = BASE64_STANDARD.decode(line.strip_prefix(PREFIX)?).ok()?;
                BYTES.contains(&bytes.len()).then_some(bytes)
            })
            .collect::<Option<Vec<_>>>();
        match secrets {
            Some(secrets) if !secrets.is_empty() => Ok(Self(secrets)),
            _ => Err("must hold a secret a line, each `whsec_` and 24 to 64 bytes in base64: \
                      echo \"whsec_$(openssl rand -base64 32)\""
                .to_owned()),
        }
    }

    /// The value of `webhook-signature`. `timestamp_s` is in seconds since 1970.
    pub fn signature(&self, id: &str, timestamp_s: i64, body: &[u8]) -> String {
        let each = self.0.iter().map(|secret| one(secret, id, timestamp_s, body));
        each.collect::<Vec<_>>().join(" ")
    }
}

fn one(secret: &[u8], id: &str, timestamp_s: i64, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("an HMAC takes a key of any length");
    mac.update(format!("{id}.{timestamp_s}.").as_bytes());
    mac.update(body);
    format!("v1,{}", BASE64_STANDARD.encode(mac.finalize().into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification.
    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

    #[test]
    fn the_specifications_example_is_signed_as_it_says() {
        let secrets = Secrets::parse(SECRET).unwrap();
        let made = secrets.signature("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, b"{\"test\": 2432232314}");
        assert_eq!(made, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn each_secret_signs_while_one_replaces_the_other() {
        let other = format!("whsec_{}", BASE64_STANDARD.encode([7; 32]));
        let both = Secrets::parse(&format!("{other}\n\n{SECRET}\n")).unwrap().signature("a", 1, b"x");
        let alone = Secrets::parse(SECRET).unwrap().signature("a", 1, b"x");
        assert_eq!(both.split(' ').count(), 2);
        assert!(both.ends_with(&alone));
    }

    #[test]
    fn a_wrong_secret_is_refused_and_not_quoted() {
        for wrong in ["", "secret", "whsec_", "whsec_c2hvcnQ=", "whsec_***"] {
            let why = Secrets::parse(wrong).unwrap_err();
            assert!(why.contains("openssl") && !why.contains("c2hv"), "{why}");
        }
        assert_eq!(format!("{:?}", Secrets::parse(SECRET).unwrap()), "Secrets(1)");
    }
}
