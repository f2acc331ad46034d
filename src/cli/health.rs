//! `moothall health`: asks the service on this machine how it is, for container health checks.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::{Common, Failure};

/// Options of `health`.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Ask whether it is ready for work, not only whether it is alive
    #[arg(long)]
    ready: bool,
}

/// Exits 0 when the service answers well.
pub fn run(common: &Common, arguments: &Arguments) -> Result<ExitCode, Failure> {
    let settings = common.settings()?;
    // A second call finds the provider in place, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let host = if settings.listen.ip().is_unspecified() { "127.0.0.1".to_owned() } else { host(&settings) };
    let page = if arguments.ready { "readyz" } else { "healthz" };
    let url = format!("http://{host}:{}/{page}", settings.listen.port());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(5)).build()?;
        let answer = client.get(&url).send().await?;
        let status = answer.status();
        println!("{} {}", status.as_u16(), answer.text().await?);
        Ok(if status.is_success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    })
}

fn host(settings: &crate::settings::Settings) -> String {
    match settings.listen.ip() {
        std::net::IpAddr::V4(address) => address.to_string(),
        std::net::IpAddr::V6(address) => format!("[{address}]"),
    }
}
