//! Bytes of a file: counted, unpacked, recognised and decoded to UTF-8.
//!
//! Nothing here knows rows. What comes out is a stream of UTF-8 bytes, except
//! that a file which is UTF-8 as a whole keeps its few broken places: the row
//! that holds one fails by itself.

use std::io::{self, Cursor, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use encoding_rs::{CoderResult, Decoder, Encoding, UTF_16BE, UTF_16LE, WINDOWS_1252};
use flate2::read::MultiGzDecoder;

use super::error::SourceError;
use super::notice::{Remark, Remarks};

/// How much of the unpacked content decides on format and encoding.
const SAMPLE_BYTES: usize = 1024 * 1024;
const CHUNK_BYTES: usize = 64 * 1024;

pub(super) type Bytes = Box<dyn Read + Send>;

/// A decoded stream with what its first mebibyte says.
pub(super) struct Input {
    /// UTF-8, but for broken places in a file that is otherwise UTF-8.
    pub(super) bytes: Bytes,
    /// The first bytes of it, for telling the format.
    pub(super) sample: Vec<u8>,
    /// Bytes taken from the file so far, before unpacking.
    pub(super) read: Arc<AtomicU64>,
    /// Places that no character could be decoded from.
    pub(super) replaced: Arc<AtomicU64>,
}

/// Unpacks, recognises and decodes a stream.
pub(super) fn prepare(
    file: &str,
    raw: impl Read + Send + 'static,
    remarks: &mut Remarks,
) -> Result<Input, SourceError> {
    let read = Arc::new(AtomicU64::new(0));
    let counted = Counted { inner: raw, count: Arc::clone(&read) };
    let (magic, packed) = peek(file, Box::new(counted), 2)?;
    let unpacked: Bytes = if magic == [0x1f, 0x8b] { Box::new(MultiGzDecoder::new(packed)) } else { packed };
    let (sample, bytes) = peek(file, unpacked, SAMPLE_BYTES)?;
    if sample.is_empty() {
        return Err(SourceError::Empty { file: file.to_owned() });
    }
    let replaced = Arc::new(AtomicU64::new(0));
    let (bytes, sample): (Bytes, Vec<u8>) = match encoding(&sample, remarks) {
        Some(encoding) => {
            let sample = encoding.decode(&sample).0.into_owned().into_bytes();
            let decoded = Decoded {
                inner: bytes,
                decoder: encoding.new_decoder_with_bom_removal(),
                pending: Vec::new(),
                unread: Vec::new(),
                taken: 0,
                last: false,
                done: false,
                replaced: Arc::clone(&replaced),
            };
            (Box::new(decoded), sample)
        }
        None if sample.starts_with(BOM) => {
            let mut bytes = bytes;
            let mut mark = [0_u8; 3];
            bytes.read_exact(&mut mark).map_err(|source| SourceError::Read { file: file.to_owned(), source })?;
            (bytes, sample[BOM.len()..].to_vec())
        }
        None => (bytes, sample),
    };
    if sample.iter().all(u8::is_ascii_whitespace) && sample.len() < SAMPLE_BYTES {
        return Err(SourceError::Empty { file: file.to_owned() });
    }
    if let Some((what, hint)) = foreign(&sample) {
        return Err(SourceError::NotText { file: file.to_owned(), what, hint });
    }
    Ok(Input { bytes, sample, read, replaced })
}

const BOM: &[u8] = b"\xef\xbb\xbf";

/// The first bytes, and a stream that still begins with them. An error after the
/// first byte waits in the stream: what came before it is worth reading.
fn peek(file: &str, mut bytes: Bytes, most: usize) -> Result<(Vec<u8>, Bytes), SourceError> {
    let mut sample = Vec::new();
    let outcome = bytes.by_ref().take(most as u64).read_to_end(&mut sample);
    let first = Cursor::new(sample.clone());
    match outcome {
        Ok(_) => Ok((sample, Box::new(first.chain(bytes)))),
        Err(source) if sample.is_empty() => Err(SourceError::Read { file: file.to_owned(), source }),
        Err(source) => Ok((sample, Box::new(first.chain(Broken(Some(source)))))),
    }
}

/// Which encoding to decode from; `None` for UTF-8, which needs no decoding.
///
/// Windows-1252 text almost never forms valid multi-byte UTF-8, so the more
/// frequent of the two kinds decides; a UTF-8 file with one damaged letter stays UTF-8.
fn encoding(sample: &[u8], remarks: &mut Remarks) -> Option<&'static Encoding> {
    if sample.starts_with(BOM) {
        remarks.count(Remark::ByteOrderMark, 0);
        return None;
    }
    if sample.starts_with(b"\xff\xfe") {
        remarks.set(Remark::Utf16, 1, "UTF-16 (little-endian)".to_owned());
        return Some(UTF_16LE);
    }
    if sample.starts_with(b"\xfe\xff") {
        remarks.set(Remark::Utf16, 1, "UTF-16 (big-endian)".to_owned());
        return Some(UTF_16BE);
    }
    let (mut wide, mut broken) = (0_usize, 0_usize);
    let mut chunks = sample.utf8_chunks().peekable();
    while let Some(chunk) = chunks.next() {
        wide += chunk.valid().chars().filter(|c| !c.is_ascii()).count();
        // A character cut by the end of the sample is not broken.
        let cut = chunks.peek().is_none() && sample.len() == SAMPLE_BYTES;
        broken += usize::from(!chunk.invalid().is_empty() && !cut);
    }
    if broken > wide && foreign(sample).is_none() {
        remarks.count(Remark::Windows1252, 0);
        return Some(WINDOWS_1252);
    }
    None
}

/// What a file that holds no rows of text is, and what to do with it.
fn foreign(sample: &[u8]) -> Option<(&'static str, &'static str)> {
    const SAVE: &str = "open it and save the sheet as CSV UTF-8";
    const UNPACK: &str = "unpack it and name the CSV or JSON Lines file inside";
    let holds = |what: &[u8]| sample.windows(what.len()).any(|part| part == what);
    let starts = |what: &[u8]| sample.starts_with(what);
    if starts(b"PK\x03\x04") {
        return Some(if holds(b"xl/") {
            ("an Excel workbook (XLSX)", SAVE)
        } else if holds(b"opendocument.spreadsheet") {
            ("an OpenDocument spreadsheet (ODS)", SAVE)
        } else if holds(b"word/") {
            ("a Word document", "put the comments into a CSV file, one row each")
        } else {
            ("a zip archive", UNPACK)
        });
    }
    let known: [(&[u8], &str, &str); 11] = [
        (b"\xd0\xcf\x11\xe0", "an old Excel or Word file", SAVE),
        (b"%PDF", "a PDF", "put the comments into a CSV file, one row each"),
        (b"{\\rtf", "a rich-text document", "put the comments into a CSV file, one row each"),
        (b"SQLite format 3\0", "a SQLite database", "export the table with the comments as CSV"),
        (b"PAR1", "a Parquet file", "export it as CSV or JSON Lines"),
        (b"\x1f\x8b", "packed with gzip twice", "unpack it once"),
        (b"BZh", "packed with bzip2", "unpack it, or pack it with gzip"),
        (b"\xfd7zXZ\0", "packed with xz", "unpack it, or pack it with gzip"),
        (b"\x28\xb5\x2f\xfd", "packed with zstd", "unpack it, or pack it with gzip"),
        (b"7z\xbc\xaf", "a 7z archive", UNPACK),
        (b"\x89PNG", "a picture", "put the comments into a CSV file, one row each"),
    ];
    if let Some((_, what, hint)) = known.iter().find(|(magic, ..)| starts(magic)) {
        return Some((what, hint));
    }
    if sample.get(257..262) == Some(b"ustar") {
        return Some(("a tar archive", UNPACK));
    }
    let head: Vec<u8> = sample
        .iter()
        .copied()
        .skip_while(u8::is_ascii_whitespace)
        .take(14)
        .map(|byte| byte.to_ascii_lowercase())
        .collect();
    if head.starts_with(b"<!doctype html") || head.starts_with(b"<html") {
        return Some(("a web page", "download the data itself; a login page may have been saved instead"));
    }
    if head.starts_with(b"<?xml") {
        return Some(("an XML file", "export the comments as CSV or JSON Lines"));
    }
    nul_heavy(sample)
}

/// Text has no NULs, or a few by accident; more than a tenth is something else.
fn nul_heavy(sample: &[u8]) -> Option<(&'static str, &'static str)> {
    let at = |odd: usize| sample.iter().skip(odd).step_by(2).filter(|byte| **byte == 0).count();
    let (even, odd) = (at(0), at(1));
    if even + odd < 8 || (even + odd) * 10 < sample.len() {
        return None;
    }
    // Latin text in UTF-16 has a NUL in every other place, and nowhere else.
    if even.min(odd) == 0 && (even + odd) * 3 > sample.len() {
        return Some(("UTF-16 without a byte-order mark", "save it as UTF-8, or with a byte-order mark"));
    }
    Some(("a binary file", "give a CSV or JSON Lines file, packed with gzip or not"))
}

struct Counted<R> {
    inner: R,
    count: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.count.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

/// Gives an error that came early, once, where it belongs.
struct Broken(Option<io::Error>);

impl Read for Broken {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        self.0.take().map_or(Ok(0), Err)
    }
}

/// Decodes to UTF-8 while it is read.
struct Decoded {
    inner: Bytes,
    decoder: Decoder,
    /// Taken from `inner` and not yet decoded.
    pending: Vec<u8>,
    /// Decoded, and from `taken` on not yet handed out.
    unread: Vec<u8>,
    taken: usize,
    last: bool,
    done: bool,
    replaced: Arc<AtomicU64>,
}

impl Read for Decoded {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.taken == self.unread.len() && !self.done {
            if self.pending.is_empty() && !self.last {
                self.pending.resize(CHUNK_BYTES, 0);
                let read = self.inner.read(&mut self.pending);
                self.pending.truncate(*read.as_ref().unwrap_or(&0));
                self.last = read? == 0;
            }
            // Three bytes of UTF-8 for each byte is more than any of these encodings needs.
            self.unread.resize(CHUNK_BYTES * 3 + 16, 0);
            let (result, read, written, replaced) =
                self.decoder.decode_to_utf8(&self.pending, &mut self.unread, self.last);
            self.replaced.fetch_add(u64::from(replaced), Ordering::Relaxed);
            self.pending.drain(..read);
            self.unread.truncate(written);
            self.taken = 0;
            self.done = self.last && result == CoderResult::InputEmpty;
        }
        let ready = &self.unread[self.taken..];
        let given = ready.len().min(buffer.len());
        buffer[..given].copy_from_slice(&ready[..given]);
        self.taken += given;
        Ok(given)
    }
}
