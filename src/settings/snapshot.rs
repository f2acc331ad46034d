//! A consultation's files as a store keeps them, and what each part of the rulebook is.

use std::collections::BTreeMap;
use std::path::Path;

use sha2::{Digest, Sha256};

use super::keys::Problems;
use super::rulebook::{HeadFiles, RulebookFiles, judging_code};
use crate::domain::rulebook::{Rulebook, RulebookParts, RulebookSnapshot};
use crate::engine::manifest::ManifestFile;
use crate::engine::trained;

fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// The files behind `rulebook`, with the hash of each part.
pub fn snapshot(
    files: &RulebookFiles,
    manifest: &ManifestFile,
    rulebook: &Rulebook,
) -> Result<RulebookSnapshot, Problems> {
    let mut kept = BTreeMap::new();
    let mut keep = |name: &str, text: &str| {
        kept.insert(name.to_owned(), text.as_bytes().to_vec());
        sha256(text.as_bytes())
    };
    keep("consultation.toml", &files.consultation);
    let policy = keep("policy.toml", &files.policy);
    let codebook = files.codebook.as_ref().map(|text| keep("codebook.toml", text));
    let heads = match (&files.folder, &files.heads) {
        (Some(folder), _) => heads(folder)?,
        (None, HeadFiles::BuiltIn(description, weights)) => built_in(rulebook, description, weights),
        (None, _) => BTreeMap::new(),
    };
    let parts = RulebookParts {
        judging_code: judging_code(rulebook.first_stage),
        policy,
        codebook,
        // Of the active version alone: others may lie beside it.
        heads: rulebook.heads.as_ref().map(|heads| heads.sha256.clone()),
        encoder: manifest.manifest.encoder.weights_sha256.to_lowercase(),
        models: manifest.sha256.clone(),
        model_version: manifest.manifest.version.clone(),
    };
    kept.extend(heads);
    Ok(RulebookSnapshot {
        consultation: rulebook.consultation.id.clone(),
        version: rulebook.version.clone(),
        parts,
        files: kept,
    })
}

/// Compiled-in heads as they would lie in a folder.
fn built_in(rulebook: &Rulebook, description: &[u8], weights: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let Some(heads) = &rulebook.heads else { return BTreeMap::new() };
    let version = &heads.version;
    BTreeMap::from([
        (format!("heads/{}", trained::ACTIVE), format!("version = \"{version}\"\n").into_bytes()),
        (format!("heads/{version}/heads.toml"), description.to_vec()),
        (format!("heads/{version}/heads.safetensors"), weights.to_vec()),
    ])
}

/// Every file under the consultation's `heads`, by its path in the consultation's folder.
fn heads(consultation: &Path) -> Result<BTreeMap<String, Vec<u8>>, Problems> {
    let (mut found, mut problems) = (BTreeMap::new(), Problems::default());
    let mut folders = vec!["heads".to_owned()];
    while let Some(folder) = folders.pop() {
        let path = consultation.join(&folder);
        let entries = match std::fs::read_dir(&path) {
            Ok(entries) => entries,
            // A codebook without heads of its own is served by the models.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => {
                problems.add(&path.display().to_string(), "", format!("cannot be read: {error}"));
                continue;
            }
        };
        for entry in entries.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            // What an editor or a half-written file leaves behind is nobody's.
            if name.starts_with('.') {
                continue;
            }
            let (inner, path) = (format!("{folder}/{name}"), entry.path());
            if path.is_dir() {
                folders.push(inner);
                continue;
            }
            match std::fs::read(&path) {
                Ok(content) => _ = found.insert(inner, content),
                Err(error) => problems.add(&path.display().to_string(), "", format!("cannot be read: {error}")),
            }
        }
    }
    problems.or(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_version_of_heads_is_kept_by_its_path_and_nothing_unfinished_is() {
        let folder = tempfile::tempdir().unwrap();
        assert!(heads(folder.path()).unwrap().is_empty());
        for (version, content) in [("1", "a"), ("2", "b")] {
            let inner = folder.path().join("heads").join(version);
            std::fs::create_dir_all(&inner).unwrap();
            std::fs::write(inner.join("heads.bin"), content).unwrap();
            std::fs::write(inner.join(".unfinished"), content).unwrap();
        }
        let found = heads(folder.path()).unwrap();
        assert_eq!(found.keys().collect::<Vec<_>>(), ["heads/1/heads.bin", "heads/2/heads.bin"]);
        assert_eq!(found["heads/2/heads.bin"], b"b");
    }
}
