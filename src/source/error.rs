//! Why a file cannot be opened as comments: each message says what to do next.

/// Why no rows can be read from a file at all. What is wrong with one row alone
/// is a failed row, not an error.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The file is missing or may not be read.
    #[error("cannot open {file}")]
    Open {
        /// The file as it was named.
        file: String,
        /// The operating system's answer.
        #[source]
        source: std::io::Error,
    },
    /// The first bytes cannot be read (a damaged gzip file, a failing disk).
    #[error("cannot read {file}")]
    Read {
        /// The file as it was named.
        file: String,
        /// What the reader answered.
        #[source]
        source: std::io::Error,
    },
    /// A folder was named.
    #[error("{file} is a folder: name the files in it")]
    Folder {
        /// The folder as it was named.
        file: String,
    },
    /// The file's name is blank, so no source can be named after it.
    #[error("no source can be named after `{file}`: give one with `--source NAME`")]
    NoName {
        /// The file as it was named.
        file: String,
    },
    /// Nothing is in it.
    #[error("file is empty: {file}")]
    Empty {
        /// The file as it was named.
        file: String,
    },
    /// The content is not a table of text or JSON Lines.
    #[error("{file} is {what}: {hint}")]
    NotText {
        /// The file as it was named.
        file: String,
        /// What the content looks like.
        what: &'static str,
        /// What to do.
        hint: &'static str,
    },
    /// The first record cannot serve as a header.
    #[error("{file}: the header cannot be read: {problem}")]
    Header {
        /// The file as it was named.
        file: String,
        /// What is wrong with it.
        problem: String,
    },
    /// No column holds the comments.
    #[error(
        "{file} has no column for the text of the comments; its columns are {columns}: \
         name one with `--map text=COLUMN`"
    )]
    NoText {
        /// The file as it was named.
        file: String,
        /// The file's columns, quoted.
        columns: String,
    },
    /// `--map` names a field that does not exist.
    #[error("unknown field `{field}` in `--map {field}={column}`: the fields are {known}")]
    UnknownField {
        /// What was typed.
        field: String,
        /// The column given for it.
        column: String,
        /// All fields.
        known: String,
    },
    /// An option names a column that the file does not have.
    #[error("{file} has no column `{column}` (`{option}`); its columns are {columns}")]
    NoColumn {
        /// The file as it was named.
        file: String,
        /// The column that was asked for.
        column: String,
        /// The option that asked for it.
        option: String,
        /// The file's columns, quoted.
        columns: String,
    },
    /// More than one column could hold a field.
    #[error(
        "{file}: the columns {columns} could each be `{field}`: choose one with \
         `--map {field}=COLUMN`"
    )]
    Ambiguous {
        /// The file as it was named.
        file: String,
        /// The field.
        field: &'static str,
        /// The columns, quoted.
        columns: String,
    },
}
