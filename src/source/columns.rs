//! Which column holds which field: by name, by other usual names, or as told.

use std::collections::{BTreeMap, BTreeSet};

use super::FileOptions;
use super::error::SourceError;

/// What a row can say about a comment, groups apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Field {
    Id,
    Text,
    Author,
    Email,
    AuthorId,
    PostedAt,
    EditedAt,
    Revision,
    Url,
    ParentId,
    Language,
    Consultation,
    Source,
}

impl Field {
    pub(super) const ALL: [Self; 13] = [
        Self::Id,
        Self::Text,
        Self::Author,
        Self::Email,
        Self::AuthorId,
        Self::PostedAt,
        Self::EditedAt,
        Self::Revision,
        Self::Url,
        Self::ParentId,
        Self::Language,
        Self::Consultation,
        Self::Source,
    ];

    /// Its own name first, then the other names that files use for it.
    fn names(self) -> &'static [&'static str] {
        match self {
            Self::Id => &["id", "comment_id", "response_id", "ref", "reference"],
            Self::Text => &[
                "text",
                "comment",
                "response",
                "comment_content",
                "comment_text",
                "response_text",
                "content",
                "body",
                "message",
                "feedback",
                "answer",
            ],
            Self::Author => &["author", "name", "author_name", "comment_author", "display_name"],
            Self::Email => &["email", "e_mail", "email_address", "author_email", "comment_author_email"],
            Self::AuthorId => &["author_id", "user_id", "respondent_id"],
            Self::PostedAt => &[
                "posted_at",
                "date",
                "created",
                "created_at",
                "comment_date_gmt",
                "submitted",
                "submitted_at",
                "timestamp",
                "received_at",
            ],
            Self::EditedAt => &["edited_at", "edited"],
            Self::Revision => &["revision"],
            Self::Url => &["url", "permalink", "link"],
            Self::ParentId => &["parent_id", "comment_parent", "parent"],
            Self::Language => &["language", "lang"],
            Self::Consultation => &["consultation", "consultation_id"],
            Self::Source => &["source"],
        }
    }

    pub(super) fn key(self) -> &'static str {
        self.names()[0]
    }

    fn parse(name: &str) -> Option<Self> {
        let name = normal(name);
        Self::ALL.into_iter().find(|field| field.key() == name)
    }
}

const GROUPS: [&str; 3] = ["respondent_type", "age_band", "ward"];

/// What one row says, as text.
#[derive(Clone, Debug, Default)]
pub(super) struct Fields {
    values: [Option<String>; Field::ALL.len()],
    pub(super) groups: BTreeMap<String, String>,
    /// The date in `posted_at`, `edited_at` is in UTC whatever the consultation's zone.
    pub(super) utc: [bool; 2],
}

impl Fields {
    pub(super) fn set(&mut self, field: Field, value: String) {
        self.values[field as usize] = Some(value);
    }

    /// Notes that a date of this row is in UTC, by the name of its column.
    pub(super) fn mark_utc(&mut self, field: Field, utc: bool) {
        match field {
            Field::PostedAt => self.utc[0] = utc,
            Field::EditedAt => self.utc[1] = utc,
            _ => {}
        }
    }

    /// The value, unless it is absent or blank.
    pub(super) fn get(&self, field: Field) -> Option<&str> {
        self.values[field as usize].as_deref().filter(|value| !value.trim().is_empty())
    }

    pub(super) fn has(&self, field: Field) -> bool {
        self.values[field as usize].is_some()
    }

    pub(super) fn take(&mut self, field: Field) -> Option<String> {
        self.values[field as usize].take()
    }

    /// Removes NUL characters; says whether there were any.
    pub(super) fn remove_nuls(&mut self) -> bool {
        let mut any = false;
        for value in self.values.iter_mut().flatten().chain(self.groups.values_mut()) {
            if value.contains('\0') {
                value.retain(|c| c != '\0');
                any = true;
            }
        }
        any
    }
}

/// Where a column goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Field { field: Field, utc: bool },
    Group(String),
    Ignored,
}

/// Column names differ in case, spaces and dashes only by accident.
pub(super) fn normal(name: &str) -> String {
    let words = name
        .trim_matches(|c: char| c.is_whitespace() || c == '\u{feff}' || c == '"')
        .split(|c: char| c.is_whitespace() || c == '_' || c == '-')
        .filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join("_").to_lowercase()
}

/// The name under which a group is kept: exports put `group_` before it again.
fn group_name(column: &str) -> String {
    let name = normal(column);
    name.strip_prefix("group_").map_or(name.clone(), str::to_owned)
}

fn is_group(name: &str, extra: &BTreeSet<String>) -> bool {
    GROUPS.contains(&name) || extra.contains(name) || name.strip_prefix("group_").is_some_and(|rest| !rest.is_empty())
}

fn is_utc(name: &str) -> bool {
    name.ends_with("_gmt") || name.ends_with("_utc")
}

/// `--map` as fields or groups, in the order given.
fn mapping(options: &FileOptions) -> Result<Vec<(Target, &str)>, SourceError> {
    options
        .map
        .iter()
        .map(|(field, column)| {
            let target = if let Some(field) = Field::parse(field) {
                let utc = is_utc(&normal(column));
                Target::Field { field, utc }
            } else if is_group(&normal(field), &BTreeSet::new()) {
                Target::Group(group_name(field))
            } else {
                let keys = Field::ALL.into_iter().map(Field::key).chain(GROUPS);
                return Err(SourceError::UnknownField {
                    field: field.clone(),
                    column: column.clone(),
                    known: keys.collect::<Vec<_>>().join(", "),
                });
            };
            Ok((target, column.as_str()))
        })
        .collect()
}

/// Names as a person reads them in a message: quoted, short, not too many.
pub(super) fn listed<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    const MOST: usize = 30;
    let mut quoted: Vec<String> = Vec::new();
    for (at, name) in names.into_iter().enumerate() {
        if at == MOST {
            quoted.push("...".to_owned());
            break;
        }
        let cut: String = name.trim().chars().take(40).collect();
        quoted.push(format!("`{}`", cut.escape_debug()));
    }
    quoted.join(", ")
}

/// Gives every column of a header its place.
pub(super) fn plan(file: &str, header: &[String], options: &FileOptions) -> Result<Vec<Target>, SourceError> {
    let all = || listed(header.iter().map(String::as_str));
    let normals: Vec<String> = header.iter().map(|name| normal(name)).collect();
    let find =
        |column: &str, option: String| {
            let exact = header.iter().position(|name| name.trim() == column.trim());
            exact.or_else(|| normals.iter().position(|name| *name == normal(column))).ok_or_else(|| {
                SourceError::NoColumn { file: file.to_owned(), column: column.to_owned(), option, columns: all() }
            })
        };
    let mut plan = vec![Target::Ignored; header.len()];
    let mut mapped = BTreeSet::new();
    for (target, column) in mapping(options)? {
        let option = match &target {
            Target::Field { field, .. } => format!("--map {}={column}", field.key()),
            _ => format!("--map {column}"),
        };
        let at = find(column, option)?;
        if let Target::Field { field, .. } = target {
            mapped.insert(field);
        }
        plan[at] = target;
    }
    for column in &options.groups {
        let at = find(column, format!("--group {column}"))?;
        plan[at] = Target::Group(group_name(column));
    }
    for field in Field::ALL {
        if mapped.contains(&field) {
            continue;
        }
        let free = |at: &usize| plan[*at] == Target::Ignored;
        let named = |names: &[&str]| -> Vec<usize> {
            let fits = |at: &usize| names.contains(&normals[*at].as_str());
            (0..header.len()).filter(free).filter(fits).collect()
        };
        let mut found = named(&field.names()[..1]);
        if found.is_empty() {
            found = named(field.names());
        }
        match found.as_slice() {
            [] => {}
            [at] => {
                let utc = is_utc(&normals[*at]);
                plan[*at] = Target::Field { field, utc };
            }
            several => {
                return Err(SourceError::Ambiguous {
                    file: file.to_owned(),
                    field: field.key(),
                    columns: listed(several.iter().map(|at| header[*at].as_str())),
                });
            }
        }
    }
    for (at, name) in normals.iter().enumerate() {
        if plan[at] == Target::Ignored && is_group(name, &BTreeSet::new()) {
            plan[at] = Target::Group(group_name(name));
        }
    }
    let text = |target: &Target| matches!(target, Target::Field { field: Field::Text, .. });
    if plan.iter().any(text) { Ok(plan) } else { Err(SourceError::NoText { file: file.to_owned(), columns: all() }) }
}

/// Names of keys in JSON Lines, where every line has its own header.
pub(super) struct JsonNames {
    /// Exact keys that `--map` names.
    mapped: BTreeMap<String, Target>,
    /// Fields that `--map` took, so that no other key gives them.
    taken: BTreeSet<Field>,
    groups: BTreeSet<String>,
    ignored: BTreeSet<String>,
}

impl JsonNames {
    pub(super) fn new(options: &FileOptions) -> Result<Self, SourceError> {
        let mut mapped = BTreeMap::new();
        let mut taken = BTreeSet::new();
        for (target, key) in mapping(options)? {
            if let Target::Field { field, .. } = target {
                taken.insert(field);
            }
            mapped.insert(normal(key), target);
        }
        let groups = options.groups.iter().map(|name| normal(name)).collect();
        Ok(Self { mapped, taken, groups, ignored: BTreeSet::new() })
    }

    /// Where a key goes, and how far down the list of a field's names it stands.
    pub(super) fn target(&self, key: &str) -> Option<(Target, usize)> {
        let name = normal(key);
        if let Some(target) = self.mapped.get(&name) {
            return Some((target.clone(), 0));
        }
        if self.groups.contains(&name) {
            return Some((Target::Group(group_name(&name)), 0));
        }
        for field in Field::ALL {
            let rank = field.names().iter().position(|known| *known == name);
            if let (Some(rank), false) = (rank, self.taken.contains(&field)) {
                let utc = is_utc(&name);
                return Some((Target::Field { field, utc }, rank));
            }
        }
        is_group(&name, &self.groups).then(|| (Target::Group(group_name(&name)), 0))
    }

    /// Remembers a key that is not used; the first few are enough to say.
    pub(super) fn ignore(&mut self, key: &str) {
        if self.ignored.len() < 1000 {
            self.ignored.insert(key.chars().take(40).collect());
        }
    }

    pub(super) fn ignored(&self) -> &BTreeSet<String> {
        &self.ignored
    }
}
