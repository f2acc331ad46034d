//! A bare client of the broker, as another program would be.

use anyhow::bail;
use lapin::options::{BasicAckOptions, BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};

/// A connection with confirms.
pub struct Client {
    _connection: Connection,
    pub channel: Channel,
}

impl Client {
    pub async fn new(url: &str) -> anyhow::Result<Self> {
        let connection = Connection::connect(url, ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        Ok(Self { _connection: connection, channel })
    }

    /// Publishes and waits for the confirm.
    pub async fn publish(
        &self,
        exchange: &str,
        key: &str,
        body: &[u8],
        properties: BasicProperties,
    ) -> anyhow::Result<()> {
        let options = BasicPublishOptions::default();
        let confirm = self.channel.basic_publish(exchange.into(), key.into(), options, body, properties).await?;
        if !confirm.await?.is_ack() {
            bail!("a message to {exchange} was refused");
        }
        Ok(())
    }

    /// Publishes to the work lane.
    pub async fn send(&self, body: &[u8]) -> anyhow::Result<()> {
        self.publish("moothall.in", "comment.created.mentoring", body, BasicProperties::default()).await
    }

    /// Takes one message off a queue.
    pub async fn take(&self, queue: &str) -> anyhow::Result<Option<Vec<u8>>> {
        let Some(message) = self.channel.basic_get(queue.into(), BasicGetOptions::default()).await? else {
            return Ok(None);
        };
        message.acker.ack(BasicAckOptions::default()).await?;
        Ok(Some(message.data.clone()))
    }
}
