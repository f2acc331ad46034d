//! Removing what was given up on: kept in a file of its owner's first, then accounted for, then removed.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use async_trait::async_trait;
use jiff::Timestamp;
use serde_json::json;

use super::Failure;
use super::queue::parked_json;
use super::webhook::confirmed;
use crate::app;
use crate::domain::comment::ConsultationId;
use crate::pipeline::identity::hash_of;
use crate::pipeline::ports::{FailedRow, FailedRows, Keep, ParkedWhole, Queue};

/// What a failed row keeps, as [`FailedRow::raw`] says.
const RAW_BYTES: usize = 64 * 1024;

/// What was asked for.
pub struct Purge<'a> {
    /// The file, if it was named.
    pub to: Option<&'a Path>,
    /// Whether nobody is asked.
    pub yes: bool,
    /// Where the store is or would be.
    pub store: &'a Path,
}

impl Purge<'_> {
    /// Asks, keeps, removes.
    pub async fn run(
        &self,
        queue: &Arc<dyn Queue>,
        store: Option<Arc<dyn FailedRows>>,
        only: Option<&ConsultationId>,
    ) -> Result<ExitCode, Failure> {
        let parked = queue.depth(None).await?.parked;
        if parked == 0 {
            println!("nothing is parked, nothing is removed");
            return Ok(ExitCode::SUCCESS);
        }
        let path = self.path()?;
        let of = only.map_or_else(String::new, |consultation| format!(", of them what is of `{consultation}`"));
        let question = format!("{parked} parked{of}: write them to {} and remove them?", path.display());
        if !self.yes && !confirmed(&question)? {
            println!("nothing is removed");
            return Ok(ExitCode::FAILURE);
        }
        let mut keeper = Keeper { file: open(&path)?, store, kept: 0 };
        let purged = queue.purge_parked(only, &mut keeper).await;
        let kept = keeper.kept;
        if kept == 0 {
            // Nothing was written: an empty file would only be in the way of the next try.
            drop(keeper);
            std::fs::remove_file(&path).with_context(|| path.display().to_string())?;
        }
        let purged = purged?;
        println!("{purged} removed, kept in {}", path.display());
        println!("It holds what people wrote, and nothing else does: keep it as you keep the store.");
        Ok(ExitCode::SUCCESS)
    }

    /// The file, in a folder that is its owner's alone where it is not named.
    fn path(&self) -> Result<PathBuf, Failure> {
        if let Some(to) = self.to {
            return Ok(to.to_owned());
        }
        let folder = self.store.parent().unwrap_or_else(|| Path::new("."));
        app::private_folder(folder)?;
        let now = Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string();
        Ok(folder.join(format!("purged-{now}.jsonl")))
    }
}

fn open(path: &Path) -> anyhow::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file = options.open(path).with_context(|| path.display().to_string())?;
    // The name as well as the bytes must survive: that is the folder's to say.
    #[cfg(unix)]
    {
        let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
        File::open(folder).and_then(|folder| folder.sync_all()).with_context(|| folder.display().to_string())?;
    }
    Ok(file)
}

/// Where removed arrivals are kept.
struct Keeper {
    file: File,
    store: Option<Arc<dyn FailedRows>>,
    kept: u64,
}

#[async_trait]
impl Keep for Keeper {
    async fn keep(&mut self, parked: &[ParkedWhole]) -> Result<(), String> {
        let mut lines = Vec::new();
        for one in parked {
            lines.extend(line(one).into_bytes());
            lines.push(b'\n');
        }
        self.file.write_all(&lines).and_then(|()| self.file.sync_all()).map_err(|error| error.to_string())?;
        self.kept += parked.len() as u64;
        if let Some(store) = &self.store {
            let rows: Vec<FailedRow> = parked.iter().filter_map(row).collect();
            store.fail(&rows).await.map_err(|error| error.to_string())?;
        }
        Ok(())
    }
}

/// One arrival with all that came: bytes that are no text are written as hex.
fn line(one: &ParkedWhole) -> String {
    let mut value = parked_json(&one.arrival);
    value["lane"] = json!(one.lane.key());
    match std::str::from_utf8(&one.body) {
        Ok(text) => value["body"] = json!(text),
        Err(_) => value["body_hex"] = json!(hex::encode(&one.body)),
    }
    value.to_string()
}

/// As the store accounts for it; `None` where nothing tells whose it is.
fn row(one: &ParkedWhole) -> Option<FailedRow> {
    let key = one.arrival.key.as_ref()?;
    let whole = String::from_utf8_lossy(&one.body);
    Some(FailedRow {
        consultation: key.consultation.clone(),
        source: key.source.to_string(),
        id: Some(key.id.to_string()),
        row: 0,
        reason: "purged".to_owned(),
        detail: format!("parked and then removed by a person: {}", one.arrival.reason),
        raw: whole[..whole.floor_char_boundary(RAW_BYTES)].to_owned(),
        fingerprint: hash_of(&["purged", &one.arrival.sequence.to_string(), &whole]),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::ports::{Lane, ParkedArrival};

    #[test]
    fn bytes_that_are_no_text_are_kept_whole() {
        let arrival = ParkedArrival { key: None, sequence: 0, attempts: 1, reason: "not JSON".to_owned() };
        let one =
            |body: &[u8]| line(&ParkedWhole { arrival: arrival.clone(), lane: Lane::Work, body: body.to_owned() });
        assert!(one(b"{\"id\"").contains(r#""body":"{\"id\"""#));
        assert!(one(b"\xff\n").contains(r#""body_hex":"ff0a""#));
        assert!(!one(b"a\nb").contains('\n'), "one line each");
    }
}
