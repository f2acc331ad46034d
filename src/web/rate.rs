//! How often comments may be sent: by one client, and by all together.
//!
//! Each has a bucket that holds a minute's worth of requests and fills evenly. It is
//! asked before anything of a body is read. What is remembered is bounded, whoever asks.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::{ConnectInfo, Request, State};
use axum::http::HeaderName;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::error::ApiError;
use super::router::Web;

/// Clients that are remembered. Each takes some 50 bytes.
const CLIENTS: usize = 20_000;
const MINUTE_MS: f64 = 60_000.0;

/// How many requests a minute. 0 is no limit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RateLimits {
    /// Of one client address.
    pub client_per_minute: u32,
    /// Of all clients together.
    pub per_minute: u32,
    /// The header in which a proxy in front names the client; the last address in it counts.
    /// Without one it is the address of the connection.
    pub client_header: Option<HeaderName>,
}

/// Tokens that are left, at a time.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    tokens: f64,
    at_ms: i64,
}

impl Bucket {
    fn full(per_minute: u32, now_ms: i64) -> Self {
        Self { tokens: f64::from(per_minute), at_ms: now_ms }
    }

    /// As it is now. A clock that went back fills nothing.
    fn filled(self, per_minute: u32, now_ms: i64) -> Self {
        let passed_ms = (now_ms - self.at_ms).max(0) as f64;
        let tokens = self.tokens + passed_ms * f64::from(per_minute) / MINUTE_MS;
        Self { tokens: tokens.min(f64::from(per_minute)), at_ms: now_ms }
    }

    /// Seconds until a whole token is there; 0 when one is.
    fn wait_s(self, per_minute: u32) -> u64 {
        let missing = (1.0 - self.tokens).max(0.0);
        (missing * MINUTE_MS / f64::from(per_minute) / 1_000.0).ceil() as u64
    }
}

#[derive(Debug, Default)]
struct Buckets {
    all: Option<Bucket>,
    clients: HashMap<Option<IpAddr>, Bucket>,
}

/// Counts requests.
#[derive(Clone, Debug)]
pub(super) struct Rate {
    limits: RateLimits,
    buckets: Arc<Mutex<Buckets>>,
}

impl Rate {
    pub fn new(limits: RateLimits) -> Self {
        Self { limits, buckets: Arc::default() }
    }

    /// Takes one request of a client; else the seconds after which it may come again.
    fn take(&self, client: Option<IpAddr>, now_ms: i64) -> Result<(), u64> {
        let RateLimits { client_per_minute, per_minute, .. } = self.limits;
        // A panic between two steps leaves numbers, and numbers are always whole.
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let mut wait_s = 0;
        if per_minute > 0 {
            let bucket = buckets.all.unwrap_or(Bucket::full(per_minute, now_ms)).filled(per_minute, now_ms);
            wait_s = bucket.wait_s(per_minute);
            buckets.all = Some(bucket);
        }
        // Those who cannot be remembered share one bucket.
        let mut client = client;
        if client_per_minute > 0 {
            if !buckets.clients.contains_key(&client) && buckets.clients.len() >= CLIENTS {
                let full = f64::from(client_per_minute);
                buckets.clients.retain(|_, bucket| bucket.filled(client_per_minute, now_ms).tokens < full);
                if buckets.clients.len() >= CLIENTS {
                    client = None;
                }
            }
            let before = buckets.clients.get(&client).copied();
            let bucket = before.unwrap_or(Bucket::full(client_per_minute, now_ms)).filled(client_per_minute, now_ms);
            wait_s = wait_s.max(bucket.wait_s(client_per_minute));
            buckets.clients.insert(client, bucket);
        }
        if wait_s > 0 {
            return Err(wait_s);
        }
        // A refusal costs no token: who waits as told is served.
        if let Some(bucket) = &mut buckets.all {
            bucket.tokens -= 1.0;
        }
        if let Some(bucket) = buckets.clients.get_mut(&client) {
            bucket.tokens -= 1.0;
        }
        Ok(())
    }

    fn client(&self, request: &Request) -> Option<IpAddr> {
        let address = match &self.limits.client_header {
            // Only the last was written by the proxy itself; those before it anybody can make up.
            Some(name) => {
                let named = request.headers().get_all(name).iter().next_back()?.to_str().ok()?;
                named.rsplit(',').next()?.trim().parse().ok()?
            }
            None => request.extensions().get::<ConnectInfo<SocketAddr>>()?.0.ip(),
        };
        Some(subscriber(address))
    }
}

/// Whom an address stands for: one household or server has 2^64 addresses of IPv6.
fn subscriber(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
        address @ IpAddr::V4(_) => address,
    }
}

/// Lets a request through, or says when it may come again.
pub(super) async fn limit(State(web): State<Web>, request: Request, next: Next) -> Response {
    let client = web.rate.client(&request);
    match web.rate.take(client, web.deps.clock.now_ms()) {
        Ok(()) => next.run(request).await,
        Err(after_s) => ApiError::TooMany { after_s }.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(client_per_minute: u32, per_minute: u32) -> Rate {
        Rate::new(RateLimits { client_per_minute, per_minute, client_header: None })
    }

    fn ip(n: u32) -> IpAddr {
        IpAddr::from(n.to_be_bytes())
    }

    #[test]
    fn a_client_has_a_minutes_worth_and_then_waits_as_long_as_it_is_told() {
        let rate = rate(6, 0);
        for _ in 0..6 {
            assert_eq!(rate.take(Some(ip(1)), 0), Ok(()));
        }
        assert_eq!(rate.take(Some(ip(1)), 0), Err(10));
        assert_eq!(rate.take(Some(ip(2)), 0), Ok(()), "another is not concerned");
        assert_eq!(rate.take(Some(ip(1)), 9_000), Err(1));
        assert_eq!(rate.take(Some(ip(1)), 10_000), Ok(()));
        // A clock that goes back gives nothing and takes nothing.
        assert_eq!(rate.take(Some(ip(1)), 0), Err(10));
    }

    #[test]
    fn all_together_have_a_limit_of_their_own_and_a_refusal_costs_nothing() {
        let rate = rate(100, 60);
        for n in 0..60 {
            assert_eq!(rate.take(Some(ip(n)), 0), Ok(()));
        }
        for _ in 0..500 {
            assert_eq!(rate.take(Some(ip(99)), 0), Err(1));
        }
        assert_eq!(rate.take(Some(ip(99)), 1_000), Ok(()));
        assert_eq!(rate.take(Some(ip(99)), 1_000), Err(1));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let rate = rate(1, 0);
        for n in 0..CLIENTS as u32 * 2 {
            let _ = rate.take(Some(ip(n)), 0);
        }
        assert!(rate.buckets.lock().unwrap().clients.len() <= CLIENTS + 1);
        // Later those who are as good as new are forgotten.
        assert_eq!(rate.take(Some(ip(u32::MAX)), 60_000), Ok(()));
        assert_eq!(rate.buckets.lock().unwrap().clients.len(), 1);
    }

    #[test]
    fn addresses_of_one_subscriber_are_one_client() {
        let at = |text: &str| subscriber(text.parse().unwrap());
        assert_eq!(at("2001:db8::1"), at("2001:db8::ffff:1"));
        assert_ne!(at("2001:db8::1"), at("2001:db8:0:1::1"));
        assert_eq!(at("::ffff:10.0.0.1"), at("10.0.0.1"));
    }
}
