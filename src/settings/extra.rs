//! `[[extra_scorer]]` of `policy.toml` to [`ExtraScorer`]s.

use std::path::Path;

use super::keys::{Keys, Problems};
use crate::domain::policy::ExtraScorer;
use crate::domain::score::{Attribute, is_extra_name};
use crate::engine::choice::{HAS_RUST_BERT, WITHOUT_RUST_BERT};
use crate::engine::extra::ExtraFolder;

/// Reads the scorers that stand in `file`; what is wrong with them is added to `problems`.
/// A relative path starts in the folder of `file`.
pub fn read(file: &str, entries: Vec<(&toml::Table, String)>, problems: &mut Problems) -> Vec<ExtraScorer> {
    let mut scorers: Vec<ExtraScorer> = Vec::new();
    for (entry, prefix) in entries {
        let Some(scorer) = read_scorer(file, entry, &prefix, problems) else { continue };
        if scorers.iter().any(|known| known.name == scorer.name) {
            problems.add(file, format!("{prefix}.name"), format!("`{}` is used twice", scorer.name));
        }
        scorers.push(scorer);
    }
    scorers
}

fn read_scorer(file: &str, entry: &toml::Table, prefix: &str, problems: &mut Problems) -> Option<ExtraScorer> {
    if !HAS_RUST_BERT {
        problems.add(file, prefix, format!("cannot be run: {WITHOUT_RUST_BERT}"));
        return None;
    }
    let mut keys = Keys::new(entry, file, prefix, problems);
    let name = keys.required_text("name").filter(|name| {
        let allowed = is_extra_name(name);
        if !allowed {
            keys.wrong("name", format!("is `{name}`, must be lower-case letters, digits, `_` and `-`"));
        }
        allowed
    });
    let path = keys.required_text("path");
    let given_names = keys.table("labels").map(|(table, _)| table.clone()).unwrap_or_default();
    keys.finish();
    let (name, path) = (name?, path?);
    let folder = Path::new(file).parent().unwrap_or(Path::new("")).join(path);
    let read = ExtraFolder::read(&folder).and_then(|found| Ok((found.sha256()?, found)));
    let (sha256, found) = match read {
        Ok(both) => both,
        Err(error) => {
            problems.add(file, format!("{prefix}.path"), format!("names no model that can be run: {error}"));
            return None;
        }
    };
    let mut attributes = Vec::new();
    for label in &found.labels {
        // Without `labels` every output is kept, under its own name as far as a key allows.
        let shown = if given_names.is_empty() {
            Some(as_key(label))
        } else {
            given_names.get(label).map(|name| name.as_str().unwrap_or_default().to_owned())
        };
        let attribute = shown.as_ref().and_then(|shown| Attribute::from_key(&format!("extra.{name}.{shown}")));
        if shown.is_some() && (attribute.is_none() || attributes.contains(&attribute)) {
            let shown = shown.unwrap_or_default();
            let key = format!("{prefix}.labels");
            problems.add(
                file,
                key,
                format!(
                    "give `{label}` the name `{shown}`, which is no key of its own: \
                     each must be another word of lower-case letters, digits, `_` and `-`"
                ),
            );
        }
        attributes.push(attribute);
    }
    for label in given_names.keys().filter(|label| !found.labels.contains(label)) {
        let known = found.labels.join(", ");
        problems.add(file, format!("{prefix}.labels"), format!("name `{label}`, and the model's labels are {known}"));
    }
    Some(ExtraScorer { name, folder, attributes, sha256 })
}

/// `Hate Speech` as `hate_speech`.
fn as_key(label: &str) -> String {
    label
        .chars()
        .map(|letter| letter.to_ascii_lowercase())
        .map(|letter| if letter.is_ascii_alphanumeric() || letter == '-' { letter } else { '_' })
        .collect()
}
