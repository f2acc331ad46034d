//! The output folder: written aside, moved into place file by file.
//!
//! `run.json` goes first when files are replaced and comes last, so a folder that
//! has one is whole. Files that somebody else put there are left alone.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::ExportError;

const PARTIAL: &str = ".moothall-partial";
/// Marks a folder as whole.
pub const RUN_FILE: &str = "run.json";
/// Holds what only people with a named right may open.
pub const RESTRICTED: &str = "restricted";
/// Written only when there is something to say; an old one must not outlive its reason.
const OPTIONAL: [&str; 2] = ["campaigns.csv", "crosstab.csv"];

/// A finished file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// Path inside the folder, with `/`.
    pub name: String,
    /// Size.
    pub size_bytes: u64,
    /// SHA-256 as hex.
    pub sha256: String,
}

/// The folder being written.
pub struct Folder {
    out: PathBuf,
    partial: PathBuf,
    written: Vec<Written>,
}

fn at<T>(path: &Path, done: io::Result<T>) -> Result<T, ExportError> {
    done.map_err(|source| ExportError::Io { path: path.to_owned(), source })
}

impl Folder {
    /// Makes room beside what is there; an unfinished attempt is cleared away.
    pub fn open(out: &Path) -> Result<Self, ExportError> {
        at(out, fs::create_dir_all(out))?;
        let partial = out.join(PARTIAL);
        if partial.exists() {
            at(&partial, fs::remove_dir_all(&partial))?;
        }
        at(&partial, private_folder(&partial))?;
        Ok(Self { out: out.to_owned(), partial, written: Vec::new() })
    }

    /// Starts a file that may be shared.
    pub fn file(&self, name: &str) -> Result<Sink, ExportError> {
        self.sink(name, 0o644)
    }

    /// Starts a file in `restricted/`, readable by its owner only.
    pub fn restricted(&self, name: &str) -> Result<Sink, ExportError> {
        let folder = self.partial.join(RESTRICTED);
        if !folder.exists() {
            at(&folder, private_folder(&folder))?;
        }
        self.sink(&format!("{RESTRICTED}/{name}"), 0o600)
    }

    fn sink(&self, name: &str, mode: u32) -> Result<Sink, ExportError> {
        let path = self.partial.join(name);
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, mode);
        #[cfg(not(unix))]
        let _ = mode;
        let file = at(&path, options.open(&path))?;
        Ok(Sink { name: name.to_owned(), path, file: BufWriter::new(file), hasher: Sha256::new(), size_bytes: 0 })
    }

    /// Ends a file: its bytes are on disk when this returns.
    pub fn finish(&mut self, sink: Sink) -> Result<(), ExportError> {
        let Sink { name, path, file, hasher, size_bytes } = sink;
        let file =
            file.into_inner().map_err(|error| ExportError::Io { path: path.clone(), source: error.into_error() })?;
        at(&path, file.sync_all())?;
        self.written.push(Written { name, size_bytes, sha256: hex::encode(hasher.finalize()) });
        Ok(())
    }

    /// A whole file at once.
    pub fn write(&mut self, name: &str, content: &str) -> Result<(), ExportError> {
        let mut sink = self.file(name)?;
        let path = sink.path.clone();
        at(&path, sink.write_all(content.as_bytes()))?;
        self.finish(sink)
    }

    /// What is finished so far, by name.
    pub fn written(&self) -> Vec<Written> {
        let mut written = self.written.clone();
        written.sort_by(|one, other| one.name.cmp(&other.name));
        written
    }

    /// Moves everything into place; [`RUN_FILE`] last.
    pub fn commit(mut self) -> Result<Vec<PathBuf>, ExportError> {
        for stale in [RUN_FILE].iter().chain(&OPTIONAL) {
            let path = self.out.join(stale);
            if path.exists() {
                at(&path, fs::remove_file(&path))?;
            }
        }
        if self.partial.join(RESTRICTED).exists() {
            let folder = self.out.join(RESTRICTED);
            if !folder.exists() {
                at(&folder, private_folder(&folder))?;
            }
            at(&folder, owner_only(&folder))?;
        }
        self.written.sort_by_key(|file| (file.name == RUN_FILE, file.name.clone()));
        let mut paths = Vec::with_capacity(self.written.len());
        for file in &self.written {
            let target = self.out.join(&file.name);
            at(&target, fs::rename(self.partial.join(&file.name), &target))?;
            paths.push(target);
        }
        Ok(paths)
    }
}

impl Drop for Folder {
    /// What was not moved into place goes: it may hold restricted text.
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.partial) {
            tracing::warn!(path = %self.partial.display(), %error, "cannot remove the unfinished export");
        }
    }
}

#[cfg(unix)]
fn private_folder(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().mode(0o700).create(path)
}

#[cfg(unix)]
fn owner_only(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o700))
}

#[cfg(not(unix))]
fn private_folder(path: &Path) -> io::Result<()> {
    fs::create_dir(path)
}

#[cfg(not(unix))]
fn owner_only(_path: &Path) -> io::Result<()> {
    Ok(())
}

/// A file being written; hashes what passes.
pub struct Sink {
    name: String,
    path: PathBuf,
    file: BufWriter<File>,
    hasher: Sha256,
    size_bytes: u64,
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = self.file.write(bytes)?;
        self.hasher.update(&bytes[..taken]);
        self.size_bytes += taken as u64;
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// A CSV file by the rules of the product: byte-order mark, header, RFC 4180, CRLF.
pub struct Table {
    csv: csv::Writer<Sink>,
}

impl Table {
    /// Starts the file with its header.
    pub fn new(mut sink: Sink, header: impl IntoIterator<Item = impl AsRef<[u8]>>) -> Result<Self, ExportError> {
        let path = sink.path.clone();
        at(&path, sink.write_all("\u{feff}".as_bytes()))?;
        let mut csv = csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).from_writer(sink);
        csv.write_record(header)?;
        Ok(Self { csv })
    }

    /// Adds a row.
    pub fn row(&mut self, values: &[super::cells::Value]) -> Result<(), ExportError> {
        Ok(self.csv.write_record(values.iter().map(super::cells::Value::cell))?)
    }

    /// Ends the file.
    pub fn finish(self, folder: &mut Folder) -> Result<(), ExportError> {
        let sink = self.csv.into_inner().map_err(|error| ExportError::Csv(error.into_error().into()))?;
        folder.finish(sink)
    }
}
