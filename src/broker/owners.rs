//! Which processes on this machine are alive, told by locks on files.
//!
//! Each process holds a lock on a file of its own beside the database for as
//! long as it runs. The kernel drops the lock however the process ends, so a
//! file that can be locked belonged to a process that is gone. Where that
//! cannot be told (another machine, a file removed by hand) the lease's time
//! limit decides.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

/// This process's lock; held while the value lives.
#[derive(Debug)]
pub struct OwnerLock {
    _file: File,
    path: PathBuf,
}

impl Drop for OwnerLock {
    fn drop(&mut self) {
        // Left behind it would only be found dead and removed by the next start.
        let _ = fs::remove_file(&self.path);
    }
}

/// The folder of the locks of one database file.
fn folder(database: &Path) -> PathBuf {
    let mut name = database.file_name().unwrap_or_default().to_os_string();
    name.push(".owners");
    database.with_file_name(name)
}

/// Takes this process's lock and names the owners that are gone.
pub fn take(database: &Path, owner: &str) -> io::Result<(OwnerLock, Vec<String>)> {
    let folder = folder(database);
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(&folder)?;

    let path = folder.join(owner);
    let file = File::create(&path)?;
    file.lock()?;

    let mut dead = Vec::new();
    for entry in fs::read_dir(&folder)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        if name == owner {
            continue;
        }
        // A file that vanishes meanwhile was removed by its owner or by another start.
        let Ok(other) = File::open(entry.path()) else {
            continue;
        };
        match other.try_lock() {
            Ok(()) => {
                dead.push(name);
                let _ = fs::remove_file(entry.path());
            }
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
    Ok((OwnerLock { _file: file, path }, dead))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_owners_that_are_gone_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let database = folder.path().join("moothall.db");
        let (_alive, dead) = take(&database, "alive").unwrap();
        assert!(dead.is_empty());
        // A killed process leaves its file and loses its lock.
        fs::write(super::folder(&database).join("killed"), "").unwrap();
        let (_second, dead) = take(&database, "second").unwrap();
        assert_eq!(dead, ["killed"]);
        let (_third, dead) = take(&database, "third").unwrap();
        assert!(dead.is_empty());
    }
}
