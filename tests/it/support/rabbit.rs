//! A RabbitMQ queue for tests: an own vhost, short pauses, and a hand on the wire.

use std::sync::Arc;
use std::time::Duration;

use moothall::broker::rabbitmq::{BrokerUrl, Mode, Names, RabbitConfig, RabbitQueue, Tls};
use moothall::domain::comment::SourceName;
use moothall::pipeline::clock::Clock;
use moothall::pipeline::pulse::Pulse;
use moothall::wire::incoming::{Defaults, FieldMap};

use super::mentoring;

/// Everything small and quick.
pub fn config(url: &str) -> RabbitConfig {
    RabbitConfig {
        url: BrokerUrl::parse(url).unwrap(),
        tls: Tls::default(),
        names: Names::with_prefix("moothall"),
        mode: Mode::Declare,
        prefetch: 64,
        heartbeat_s: 5,
        timeout: Duration::from_secs(10),
        retry: [200, 2_000].map(Duration::from_millis).into(),
        max_message_bytes: 100_000,
        stall: Duration::from_secs(2),
        delivery_budget: 5,
        delivery_limit: 4,
        defaults: Defaults {
            consultation: mentoring(),
            source: SourceName::new("amqp").unwrap(),
            fields: FieldMap::default(),
        },
        origin: "moothall-test".to_owned(),
    }
}

/// A process of its own, as the broker sees it.
pub async fn process(config: RabbitConfig, pulse: &Pulse) -> RabbitQueue {
    RabbitQueue::subscribe(Arc::new(config), Clock::system(), pulse.clone()).await.unwrap()
}
