//! The two ways to be asked to stop.

use tokio_util::sync::CancellationToken;

/// Two tokens: finish what you have, then let go of it.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    /// Take no new work; finish what is in hand.
    pub stop_intake: CancellationToken,
    /// Leave the rest unsettled for redelivery, now.
    pub abandon: CancellationToken,
}

impl Shutdown {
    /// Neither is asked for yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sleeps, but not past a request to stop.
    pub async fn sleep(&self, duration: std::time::Duration) {
        tokio::select! {
            () = self.stop_intake.cancelled() => {}
            () = tokio::time::sleep(duration) => {}
        }
    }
}
