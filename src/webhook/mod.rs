//! Webhook calls over HTTP: one signed POST, answered in bounded time.
//!
//! Redirects are not followed: what was meant for one address is not told to another.
//! An answer is its status; of its body nothing is kept. What a call says is what the
//! broker's consumers read, byte for byte.

mod signature;

use std::time::Duration;

use async_trait::async_trait;
use reqwest::header::{CONTENT_TYPE, RETRY_AFTER, USER_AGENT};
use reqwest::{Certificate, Client, Response, StatusCode, Url, redirect};

use crate::pipeline::clock::Clock;
use crate::pipeline::ports::OutboxRow;
use crate::pipeline::webhooks::{CallError, Caller};
use crate::wire::event::{CONTENT_TYPE as EVENT, outbox_event};

pub use self::signature::Secrets;

/// Kind of the event that `moothall webhook ping` sends.
pub const PING: &str = "webhook.ping.v1";
/// Of an answer's body so much is read, so that the connection can serve again.
const DRAINED: usize = 64 * 1024;
const DRAIN: Duration = Duration::from_millis(500);
/// Connections that are kept open and idle.
const IDLE: usize = 8;

/// An address that an operator named, and how it is told.
#[derive(Clone, Debug)]
pub struct Target {
    /// What it is called.
    pub name: String,
    /// Where it is. It may hold a token, so it is never printed whole.
    pub url: Url,
    /// What calls are signed with.
    pub secrets: Secrets,
    /// The most that one try takes.
    pub timeout: Duration,
    /// An authority to trust beside the system's, as PEM.
    pub ca: Option<String>,
    /// How events name their origin (CloudEvents `source`).
    pub origin: String,
}

impl Target {
    /// Reads an address: `https`, or `http` on this machine where that is allowed.
    ///
    /// # Errors
    /// A sentence that says what is wrong and does not quote it: an address may hold a token.
    pub fn address(text: &str, allow_http: bool) -> Result<Url, String> {
        let url = Url::parse(text).map_err(|error| format!("is no address: {error}"))?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err("must hold no user and password: calls are signed".to_owned());
        }
        let loopback = is_loopback(&url);
        match url.scheme() {
            "https" => Ok(url),
            "http" if allow_http && loopback => Ok(url),
            "http" if loopback => Err("is http:// on this machine: say so with allow_http = true".to_owned()),
            _ => Err("must begin with https://; http:// is for this machine only (allow_http = true)".to_owned()),
        }
    }

    /// Where it is, without anything that may be secret.
    pub fn place(&self) -> String {
        let host = self.url.host_str().unwrap_or("?");
        self.url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host_str() {
        Some("localhost" | "[::1]") => true,
        Some(host) => host.parse::<std::net::Ipv4Addr>().is_ok_and(|address| address.is_loopback()),
        None => false,
    }
}

/// Calls one target.
pub struct HttpCaller {
    target: Target,
    client: Client,
    clock: Clock,
}

impl HttpCaller {
    /// A caller with connections of its own.
    ///
    /// # Errors
    /// A sentence: the certificate cannot be read, or TLS cannot be set up.
    pub fn new(target: Target, clock: Clock) -> Result<Self, String> {
        // A second call finds the provider in place, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder =
            Client::builder().redirect(redirect::Policy::none()).timeout(target.timeout).pool_max_idle_per_host(IDLE);
        if is_loopback(&target.url) {
            builder = builder.no_proxy();
        }
        if let Some(pem) = &target.ca {
            let certificates =
                Certificate::from_pem_bundle(pem.as_bytes()).map_err(|error| format!("ca_file: {error}"))?;
            builder = builder.tls_certs_merge(certificates);
        }
        let client = builder.build().map_err(|error| format!("cannot be set up: {error}"))?;
        Ok(Self { target, client, clock })
    }

    /// Whom it calls.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Asks whether the target is there: any answer will do, since many know no HEAD. Tells it nothing.
    ///
    /// # Errors
    /// What stood in the way, without the address.
    pub async fn reach(&self) -> Result<(), CallError> {
        let asked = self.client.head(self.target.url.clone()).send();
        asked.await.map(|_| ()).map_err(|error| failed(&trouble(&error), None))
    }

    async fn post(&self, message: &OutboxRow) -> Result<Response, CallError> {
        let Target { url, secrets, origin, .. } = &self.target;
        // It cannot have been written by us, and harms no other.
        let body = outbox_event(message, origin).map_err(|_| failed("the message is no JSON", None))?;
        let timestamp_s = self.clock.now_ms().div_euclid(1_000);
        let signature = secrets.signature(&message.event_id, timestamp_s, &body);
        let mut request = self
            .client
            .post(url.clone())
            .header(USER_AGENT, concat!("moothall/", env!("CARGO_PKG_VERSION")))
            .header(CONTENT_TYPE, EVENT)
            .header("webhook-id", &message.event_id)
            .header("webhook-timestamp", timestamp_s.to_string())
            .header("webhook-signature", signature)
            .body(body);
        if let Some(trace) = &message.trace {
            request = request.header("traceparent", trace.parent());
            if let Some(state) = trace.state() {
                request = request.header("tracestate", state);
            }
        }
        request.send().await.map_err(|error| failed(&trouble(&error), None))
    }
}

#[async_trait]
impl Caller for HttpCaller {
    async fn call(&self, message: &OutboxRow) -> Result<(), CallError> {
        let limit = self.target.timeout;
        let response = tokio::time::timeout(limit, self.post(message))
            .await
            .map_err(|_| failed(&format!("no answer within {} s", limit.as_secs_f32()), None))??;
        let answer = judge(&response);
        // The status has said all; a body that comes by drops is not waited for.
        let _ = tokio::time::timeout(DRAIN, drain(response)).await;
        answer
    }
}

fn failed(why: &str, after_ms: Option<i64>) -> CallError {
    CallError::Failed { why: why.to_owned(), after_ms }
}

/// What went wrong before there was an answer, without the address.
fn trouble(error: &reqwest::Error) -> String {
    let what = if error.is_timeout() {
        "no answer in time"
    } else if error.is_connect() {
        "cannot be reached"
    } else {
        "the connection broke"
    };
    let mut cause = std::error::Error::source(error);
    let mut last = None;
    while let Some(inner) = cause {
        last = Some(inner.to_string());
        cause = inner.source();
    }
    last.map_or_else(|| what.to_owned(), |last| format!("{what}: {last}"))
}

fn judge(response: &Response) -> Result<(), CallError> {
    let status = response.status();
    if status.is_success() {
        return Ok(());
    }
    if status == StatusCode::GONE {
        return Err(CallError::Gone);
    }
    let why = if status.is_redirection() {
        format!("answered {}: redirects are not followed, name the new address", status.as_u16())
    } else {
        format!("answered {}", status.as_u16())
    };
    let asked_s = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse::<i64>().ok());
    Err(failed(&why, asked_s.map(|seconds| seconds.saturating_mul(1_000))))
}

/// Reads what is left of a short answer. How that goes does not matter any more.
async fn drain(mut response: Response) {
    let mut read = 0;
    while read < DRAINED
        && let Ok(Some(chunk)) = response.chunk().await
    {
        read += chunk.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_safe_or_says_why_not() {
        let check = |text: &str, allow_http| Target::address(text, allow_http).map(|_| ());
        assert_eq!(check("https://hooks.example/a?token=x", false), Ok(()));
        assert_eq!(check("http://127.0.0.1:9/a", true), Ok(()));
        assert_eq!(check("http://[::1]:9/", true), Ok(()));
        assert!(check("http://localhost/", false).unwrap_err().contains("allow_http"));
        // Allowed or not: what leaves this machine is encrypted.
        assert!(check("http://hooks.example/", true).unwrap_err().contains("https://"));
        assert!(check("ftp://hooks.example/", true).unwrap_err().contains("https://"));
        assert!(check("https://user:secret@hooks.example/", false).unwrap_err().contains("no user"));
        assert!(check("hooks", false).unwrap_err().contains("no address"));
    }
}
