//! `moothall rulebook list|adopt|rollback`: which standard judges, which have judged, and the way back.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Subcommand};
use serde_json::json;

use super::adoption::{self, time};
use super::output::Place;
use super::{Carried, Common, Failure, usage};
use crate::app::{self, open_store};
use crate::domain::comment::ConsultationId;
use crate::domain::rulebook::{PipelineVersion, RulebookParts, RulebookSnapshot};
use crate::engine::manifest::ManifestFile;
use crate::pipeline::ports::{KnownRulebook, Store};
use crate::settings::{RulebookFiles, Settings};

/// Shapes no judgement, but says who is called: it is written back only where none is.
const CONSULTATION: &str = "consultation.toml";

/// Options of `rulebook`.
#[derive(Debug, Args)]
#[command(
    after_help = "A rulebook is policy, codebook, heads and models under one version. The store names the active\n\
    one, and whoever carries another refuses to judge into it until told.\n\n  \
    moothall rulebook list --out out\n  \
    moothall rulebook adopt --out out              what the config folder and models make, from now on\n  \
    moothall rulebook adopt --from next/mentoring  take that folder's files, and judge by them\n  \
    moothall rulebook rollback --out out           the one before, files and all"
)]
pub struct Arguments {
    #[command(flatten)]
    place: Place,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Every rulebook of this store: since when, and how many comments it has judged
    List {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Name the rulebook that this binary, config and models carry as the active one
    Adopt {
        /// Take the files of this consultation folder into the config folder first
        #[arg(long, value_name = "DIR")]
        from: Option<PathBuf>,
    },
    /// Write an earlier rulebook's files back and name it the active one
    Rollback {
        /// Its version or the first letters of it, as `list` prints it [default: the one that was active before]
        version: Option<String>,
        /// Write the files into this folder instead of the consultation's own
        #[arg(long, value_name = "DIR")]
        to: Option<PathBuf>,
    },
}

/// Runs the chosen action on the store of one consultation.
pub fn run(common: &Common, arguments: &Arguments) -> Result<ExitCode, Failure> {
    let settings = common.settings()?;
    super::start_logging(&settings, "warn");
    let place = arguments.place.store(&settings)?;
    super::existing(&place)?;
    let consultation = ConsultationId::new(&common.consultation).ok_or_else(|| usage("--consultation is empty"))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let store = open_store(&place).await?;
        let store = store.as_ref();
        match &arguments.action {
            Action::List { json } => list(store, &consultation, *json).await?,
            Action::Adopt { from } => adopt(common, &settings, store, from.as_deref()).await?,
            Action::Rollback { version, to } => {
                rollback(common, &settings, store, &consultation, version.as_deref(), to.as_deref()).await?;
            }
        }
        Ok(ExitCode::SUCCESS)
    })
}

async fn list(store: &dyn Store, consultation: &ConsultationId, as_json: bool) -> Result<(), Failure> {
    let known = store.rulebooks(consultation).await?;
    if as_json {
        let list: Vec<_> = known.iter().map(to_json).collect();
        println!("{:#}", json!({"consultation": consultation.as_str(), "rulebooks": list}));
        return Ok(());
    }
    if known.is_empty() {
        println!("No rulebook has judged `{consultation}` yet.");
        return Ok(());
    }
    println!("{:<2}{:<18}{:<22}{:>9}  made of", "", "version", "active since", "comments");
    for one in &known {
        let since = one.adopted_at_ms.last().map_or_else(|| "never".to_owned(), |ms| time(*ms));
        println!(
            "{:<2}{:<18}{since:<22}{:>9}  {}",
            if one.active { "*" } else { "" },
            one.version.0,
            one.comments,
            one.parts.as_ref().map_or_else(|| "its files were not kept".to_owned(), made_of),
        );
    }
    println!("\n* judges new comments. Comments: those whose current judgement it made.");
    Ok(())
}

fn made_of(parts: &RulebookParts) -> String {
    let short = |hash: &str| hash.chars().take(8).collect::<String>();
    let own =
        |name: &str, hash: Option<&String>| hash.map_or_else(String::new, |hash| format!(", {name} {}", short(hash)));
    format!(
        "models {} ({}), policy {}{}{}",
        parts.model_version,
        short(&parts.models),
        short(&parts.policy),
        own("codebook", parts.codebook.as_ref()),
        own("heads", parts.heads.as_ref()),
    )
}

fn to_json(one: &KnownRulebook) -> serde_json::Value {
    json!({
        "version": one.version.0,
        "active": one.active,
        "adopted_at": one.adopted_at_ms.iter().map(|ms| time(*ms)).collect::<Vec<_>>(),
        "comments": one.comments,
        "parts": one.parts.as_ref().map(|parts| json!({
            "model_version": parts.model_version,
            "models": parts.models,
            "encoder": parts.encoder,
            "heads": parts.heads,
            "policy": parts.policy,
            "codebook": parts.codebook,
            "judging_code": parts.judging_code,
        })),
    })
}

async fn adopt(common: &Common, settings: &Settings, store: &dyn Store, from: Option<&Path>) -> Result<(), Failure> {
    if let Some(from) = from {
        let next = Carried::load(&RulebookFiles::at(from)?, &common.models_folder(settings))?;
        if next.rulebook.consultation.id.as_str() != common.consultation {
            return Err(usage(&format!(
                "{} is for consultation `{}`, not `{}`: name it with --consultation",
                from.display(),
                next.rulebook.consultation.id,
                common.consultation
            )));
        }
        let target = own_folder(common, settings)?;
        install(common, settings, store, &next.snapshot, &next.manifest, &target).await?;
    }
    let carried = common.carried(settings)?;
    // What cannot judge is not adopted.
    carried.check_models()?;
    name(store, &carried.snapshot).await
}

/// Names the rulebook as the active one and says what that means.
async fn name(store: &dyn Store, snapshot: &RulebookSnapshot) -> Result<(), Failure> {
    let active = store.active_version(&snapshot.consultation).await?;
    if active.as_ref() == Some(&snapshot.version) {
        store.keep_rulebook(snapshot).await?;
        println!("rulebook {} is the active one already", snapshot.version);
        return Ok(());
    }
    if !store.adopt_rulebook(snapshot, active.as_ref()).await? {
        return Err(Failure::Failed(anyhow::anyhow!(
            "another process adopted a rulebook at the same time: look again"
        )));
    }
    match active {
        Some(before) => println!("{}", adoption::adopted(store, snapshot, &before).await?),
        None => println!("rulebook {} is the active one now", snapshot.version),
    }
    println!("Services that run with other files wait until they are started again with these.");
    Ok(())
}

async fn rollback(
    common: &Common,
    settings: &Settings,
    store: &dyn Store,
    consultation: &ConsultationId,
    version: Option<&str>,
    to: Option<&Path>,
) -> Result<(), Failure> {
    let known = store.rulebooks(consultation).await?;
    let version = choose(&known, version)?;
    let snapshot = store.rulebook(consultation, &version).await?.ok_or_else(|| {
        usage(&format!("the files of rulebook {version} were never kept in this store: restore them from a backup"))
    })?;
    let configured = common.models_folder(settings);
    let manifest = find_models(&configured, &snapshot.parts).ok_or_else(|| {
        let parts = &snapshot.parts;
        usage(&format!(
            "rulebook {version} needs the models {} (manifest {}, encoder {}), which are not in {} nor in a folder in or \
             beside it: put that version's folder there",
            parts.model_version,
            parts.models,
            parts.encoder,
            configured.display()
        ))
    })?;
    let target = match to {
        Some(folder) => folder.to_owned(),
        None => own_folder(common, settings)?,
    };
    install(common, settings, store, &snapshot, &manifest, &target).await?;
    let carried = Carried::load(&RulebookFiles::at(&target)?, &manifest.folder)?;
    if carried.snapshot.version != version {
        return Err(Failure::Failed(anyhow::anyhow!(
            "{} makes {} with a file that rulebook {version} does not have: move it away and run this again",
            target.display(),
            carried.snapshot.version
        )));
    }
    carried.check_models()?;
    println!("wrote {} files of rulebook {version} to {}", snapshot.files.len(), target.display());
    if manifest.folder != configured {
        println!(
            "It judges with the models in {}: say --models, MOOTHALL_MODELS or models.folder",
            manifest.folder.display()
        );
    }
    name(store, &carried.snapshot).await
}

/// The rulebook that is meant: by the letters that it begins with, else the one before the active one.
fn choose(known: &[KnownRulebook], asked: Option<&str>) -> Result<PipelineVersion, Failure> {
    if let Some(asked) = asked {
        let found: Vec<_> = known.iter().filter(|one| one.version.0.starts_with(asked)).collect();
        return match found.as_slice() {
            [one] => Ok(one.version.clone()),
            [] => Err(usage(&format!("no rulebook `{asked}` is known here: `moothall rulebook list` names them"))),
            _ => Err(usage(&format!("`{asked}` begins several versions: give more letters"))),
        };
    }
    let before = known.iter().filter(|one| !one.active).max_by_key(|one| one.adopted_at_ms.last());
    match before {
        Some(one) if !one.adopted_at_ms.is_empty() => Ok(one.version.clone()),
        _ => Err(usage("no other rulebook was ever active here: `moothall rulebook list` names what is known")),
    }
}

/// The folder that the consultation's files come from.
fn own_folder(common: &Common, settings: &Settings) -> Result<PathBuf, Failure> {
    common.rulebook_files(settings)?.folder.ok_or_else(|| {
        usage(&format!(
            "the files of `{}` are compiled in: make a folder for them, such as config/{0}, by `rulebook rollback --to`",
            common.consultation
        ))
    })
}

/// The models that a rulebook was made with: the configured folder, one in it, or one beside it.
fn find_models(configured: &Path, parts: &RulebookParts) -> Option<ManifestFile> {
    let inside = |folder: &Path| -> Vec<PathBuf> {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let mut folders: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
        folders.sort();
        folders
    };
    let beside = std::path::absolute(configured).ok().and_then(|path| path.parent().map(inside)).unwrap_or_default();
    std::iter::once(configured.to_owned())
        .chain(inside(configured))
        .chain(beside)
        .filter(|folder| folder.join("manifest.toml").is_file())
        .filter_map(|folder| ManifestFile::read(&folder).ok())
        .find(|manifest| manifest.sha256 == parts.models)
}

/// Writes a rulebook's files into a folder, after it was seen that they make its version.
/// What stands there is kept: in the store if it is a rulebook, else beside itself.
async fn install(
    common: &Common,
    settings: &Settings,
    store: &dyn Store,
    snapshot: &RulebookSnapshot,
    manifest: &ManifestFile,
    target: &Path,
) -> Result<(), Failure> {
    try_out(snapshot, manifest, target)?;
    let present = RulebookFiles::at(target).map_err(anyhow::Error::from);
    let present = present.and_then(|files| Carried::load(&files, &common.models_folder(settings)));
    let kept = match &present {
        Ok(present) if present.snapshot.consultation != snapshot.consultation => {
            return Err(usage(&format!(
                "{} holds the files of consultation `{}`, not `{}`",
                target.display(),
                present.snapshot.consultation,
                snapshot.consultation
            )));
        }
        Ok(present) => {
            store.keep_rulebook(&present.snapshot).await?;
            present.snapshot.files.clone()
        }
        Err(_) => BTreeMap::new(),
    };
    for (path, content) in &snapshot.files {
        let file = target.join(path);
        match std::fs::read(&file) {
            Ok(now) if now == *content => continue,
            // A contact that was set since must not be lost.
            Ok(_) if path == CONSULTATION => continue,
            Ok(now) if kept.get(path) != Some(&now) => {
                let aside = file.with_file_name(format!("{}.replaced", name_of(&file)));
                std::fs::rename(&file, &aside).with_context(|| format!("move {} aside", file.display()))?;
                eprintln!("what stood in {} is in {} now", file.display(), aside.display());
            }
            _ => {}
        }
        write(&file, content)?;
    }
    Ok(())
}

/// Reads the snapshot from a folder of its own and looks whether it makes its version.
fn try_out(snapshot: &RulebookSnapshot, manifest: &ManifestFile, target: &Path) -> Result<(), Failure> {
    let beside = target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let folder = beside.join(format!(".{}.{}", name_of(target), app::random_name()?));
    let tried = (|| {
        for (path, content) in &snapshot.files {
            write(&folder.join(path), content)?;
        }
        let carried = Carried::load(&RulebookFiles::at(&folder)?, &manifest.folder)?;
        carried.check_models()?;
        Ok::<_, anyhow::Error>(carried.snapshot)
    })();
    std::fs::remove_dir_all(&folder).with_context(|| format!("remove {}", folder.display()))?;
    let found = tried?;
    if found.version == snapshot.version {
        return Ok(());
    }
    let differing = adoption::differing(Some(&snapshot.parts), &found.parts);
    Err(usage(&format!(
        "the files of rulebook {} make {} here, with {differing}: use the moothall and the models that it was made with",
        snapshot.version, found.version
    )))
}

fn name_of(path: &Path) -> String {
    path.file_name().map_or_else(|| "rulebook".to_owned(), |name| name.to_string_lossy().into_owned())
}

/// Writes a file whole or not at all, with the folders that it stands in.
fn write(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    let folder = path.parent().unwrap_or_else(|| Path::new("."));
    std::fs::create_dir_all(folder).with_context(|| format!("folder {}", folder.display()))?;
    let unfinished = path.with_file_name(format!(".{}.{}", name_of(path), app::random_name()?));
    std::fs::write(&unfinished, content).with_context(|| format!("write {}", unfinished.display()))?;
    std::fs::rename(&unfinished, path).with_context(|| format!("write {}", path.display()))
}
