//! `moothall backup`: a copy of the SQLite store at one moment, while services go on working.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::Args;

use super::broker::block_on;
use super::output::{Place, quoted};
use super::{Common, Failure, existing, usage};
use crate::app::StorePlace;
use crate::sqlite::Database;
use crate::store::copying::tally_of_file;

/// Options of `backup`.
#[derive(Debug, Args)]
#[command(
    after_help = "The copy is whole and can be used as it is: queue, comments, judgements, decisions, alerts. It holds\n\
    what people wrote: keep it as carefully as the store itself. To restore, stop every service and put it in\n\
    the place of the store's file (remove the -wal and -shm files beside that one first).\n\n  \
    moothall backup --out out --to /var/backups/moothall-$(date +%F).db"
)]
pub struct Arguments {
    #[command(flatten)]
    place: Place,
    /// The new file; it must not be there yet
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
}

/// Copies the file and reads the copy.
pub fn run(common: &Common, arguments: &Arguments) -> Result<ExitCode, Failure> {
    let settings = common.settings()?;
    super::start_logging(&settings, "warn");
    let place = arguments.place.store(&settings)?;
    let path = match &place {
        StorePlace::File(path) => path.clone(),
        StorePlace::Server { config, .. } => {
            return Err(usage(&format!(
                "the store is at {}: back it up with `pg_dump --format=custom` (docs/postgresql.md)",
                config.url
            )));
        }
    };
    existing(&place)?;
    if arguments.to.exists() {
        return Err(usage(&format!("{} is there already: name a new file", arguments.to.display())));
    }
    block_on(async {
        // Under another name until it is whole, so that a copy that was cut off is never taken for one.
        let part = part(&arguments.to);
        let database = Database::open(&path).await?;
        database.copy_to(&part).await.with_context(|| format!("backup {}", part.display()))?;
        database.close().await;
        let copy = Database::open(&part).await.with_context(|| format!("backup {}", part.display()))?;
        let whole = copy.is_whole().await?;
        let rows: u64 = tally_of_file(&copy).await?.iter().map(|(_, tallied)| tallied.rows).sum();
        copy.close().await;
        if !whole {
            return Err(Failure::Failed(anyhow::anyhow!(
                "{} is damaged: look at the disk, and at the store itself (`moothall doctor`)",
                part.display()
            )));
        }
        std::fs::File::open(&part)?.sync_all()?;
        std::fs::rename(&part, &arguments.to).with_context(|| format!("backup {}", arguments.to.display()))?;
        println!("{} holds all {rows} rows of {}", quoted(&arguments.to), quoted(&path));
        Ok(ExitCode::SUCCESS)
    })
}

fn part(to: &Path) -> PathBuf {
    let mut name = to.as_os_str().to_owned();
    name.push(".part");
    name.into()
}
