//! The built program with its real models, where the real thing matters.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use crate::comments::some;
use crate::process::Worker;
use crate::site::{Expect, Longest, Setup, Site};
use crate::table::Outcome;

const COUNT: usize = 240;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// `moothall worker` on the row's queue and store.
fn moothall(site: &Site, name: &str, change: impl FnOnce(&mut Command)) -> anyhow::Result<Worker> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_moothall"));
    command
        .current_dir(root())
        .args(["worker", "--amqp", "--out"])
        .arg(site.folder.join("out"))
        .env("MOOTHALL_STORE_PATH", site.folder.join("store").join("moothall.db"))
        .env("MOOTHALL_RABBITMQ_URL", site.vhost()?.url())
        .env("MOOTHALL_RABBITMQ_HEARTBEAT_S", "2")
        .env("MOOTHALL_RABBITMQ_TIMEOUT_MS", "3000")
        .env("MOOTHALL_RABBITMQ_STALL_MS", "2000")
        .env("MOOTHALL_RABBITMQ_RETRY_MS", "200,1000")
        .env("MOOTHALL_WORKER_THREADS", "1")
        .env("MOOTHALL_WORKER_BATCH", "16")
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null());
    change(&mut command);
    Worker::spawn(&mut command, name, &site.folder)
}

/// The encoder is real, and the build may not be optimised.
fn patient() -> Expect {
    Expect { within: Duration::from_mins(3), ..Expect::default() }
}

fn comments() -> Vec<moothall::domain::comment::Comment> {
    some(0..COUNT)
}

pub async fn killed(setup: Setup) -> anyhow::Result<Outcome> {
    let site = Site::open(&setup).await?;
    site.publish(&comments()).await?;
    let mut worker = moothall(&site, "real0", |_| {})?;
    let (mut kills, mut recovery) = (0, Longest::default());
    while kills < 3 {
        site.grows().await?;
        site.pause(1, 60).await;
        if site.committed().await? >= COUNT as u64 {
            break;
        }
        worker.kill();
        kills += 1;
        let at = Instant::now();
        worker = moothall(&site, &format!("real{kills}"), |_| {})?;
        recovery.add(site.recovery(at).await?);
    }
    let mut outcome = site.account(patient()).await?;
    outcome.injected = kills;
    outcome.recovery = recovery.0;
    worker.stop().await?;
    Ok(outcome)
}

/// SIGTERM while it works: what it has in hand is finished and nothing of it comes again.
pub async fn terminated(setup: Setup) -> anyhow::Result<Outcome> {
    let site = Site::open(&setup).await?;
    site.publish(&comments()).await?;
    let mut stops = 0;
    let mut recovery = Longest::default();
    let mut worker = moothall(&site, "real0", |_| {})?;
    while stops < 2 && site.committed().await? < COUNT as u64 {
        site.grows().await?;
        worker.stop().await?;
        stops += 1;
        let at = Instant::now();
        worker = moothall(&site, &format!("real{stops}"), |_| {})?;
        recovery.add(site.recovery(at).await?);
    }
    let mut outcome = site.account(patient()).await?;
    outcome.injected = stops;
    outcome.recovery = recovery.0;
    outcome.promise(outcome.parked == 0, "something was parked");
    worker.stop().await?;
    Ok(outcome)
}

/// Comments wait for a program that refuses to start, says why, and is then given what it lacks.
async fn refuses(
    setup: Setup,
    words: &[&str],
    within: Duration,
    change: impl AsyncFnOnce(&Arc<Site>, &mut Vec<(String, String)>) -> anyhow::Result<()>,
) -> anyhow::Result<Outcome> {
    let site = Site::open(&setup).await?;
    site.publish(&some(0..40)).await?;
    let mut environment = Vec::new();
    change(&site, &mut environment).await?;
    let started = Instant::now();
    let mut worker = moothall(&site, "wrong", |command| {
        command.envs(environment);
    })?;
    let status = worker.end(Duration::from_secs(30)).await?;
    let took = started.elapsed();
    let log = worker.log();
    let nothing = site.committed().await? == 0;
    let at = Instant::now();
    let worker = moothall(&site, "right", |_| {})?;
    let recovery = site.recovery(at).await?;
    let mut outcome = site.account(Expect::default()).await?;
    outcome.injected = u64::from(!status.success());
    outcome.recovery = Some(recovery);
    outcome.promise(nothing, "something was judged");
    for word in words {
        outcome.promise(log.contains(word), format!("the log does not say `{word}`: {log}"));
    }
    outcome.promise(!log.contains("wrong-secret"), "a password is in the log");
    outcome.promise(took < within, format!("it took {took:.1?} to refuse, at most {within:?}"));
    outcome.note(format!("refused after {:.1} s", took.as_secs_f64()));
    worker.stop().await?;
    Ok(outcome)
}

pub async fn wrong_password(setup: Setup) -> anyhow::Result<Outcome> {
    refuses(setup, &["turns us away"], Duration::from_secs(4), async |site, environment| {
        let port = site.vhost()?.node().amqp_port();
        let url = site.vhost()?.url_for("guest", "wrong-secret", port);
        environment.push(("MOOTHALL_RABBITMQ_URL".to_owned(), url));
        Ok(())
    })
    .await
}

pub async fn wrong_vhost(setup: Setup) -> anyhow::Result<Outcome> {
    refuses(setup, &["nowhere"], Duration::from_secs(4), async |_, environment| {
        environment.push(("MOOTHALL_RABBITMQ_VHOST".to_owned(), "nowhere".to_owned()));
        Ok(())
    })
    .await
}

/// A copy of the models in which `spoil` has done something.
fn models(site: &Site, spoil: impl FnOnce(&Path) -> anyhow::Result<()>) -> anyhow::Result<String> {
    let copy = site.folder.join("models");
    copy_folder(&root().join("models"), &copy)?;
    spoil(&copy)?;
    Ok(copy.display().to_string())
}

fn copy_folder(from: &Path, to: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)?.flatten() {
        let target = to.join(entry.file_name());
        // What trains models is not what loads them.
        if entry.file_name() == "training" {
            continue;
        }
        if entry.path().is_dir() {
            copy_folder(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

/// The largest file with this ending.
fn largest(folder: &Path, ending: &str) -> anyhow::Result<PathBuf> {
    let mut found: Vec<(u64, PathBuf)> = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder)?.flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|this| this == ending) {
                found.push((entry.metadata()?.len(), path));
            }
        }
    }
    found.sort();
    Ok(found.pop().context("no such file")?.1)
}

pub async fn model_spoiled(setup: Setup) -> anyhow::Result<Outcome> {
    refuses(setup, &["safetensors", "checksum"], Duration::from_secs(20), async |site, environment| {
        let folder = models(site, |copy| {
            let path = largest(copy, "safetensors")?;
            let mut bytes = std::fs::read(&path)?;
            ensure!(bytes.len() > 10_000, "{} is too small", path.display());
            bytes[9_999] ^= 1;
            Ok(std::fs::write(path, bytes)?)
        })?;
        environment.push(("MOOTHALL_MODELS_FOLDER".to_owned(), folder));
        Ok(())
    })
    .await
}

pub async fn model_missing(setup: Setup) -> anyhow::Result<Outcome> {
    refuses(setup, &["safetensors"], Duration::from_secs(20), async |site, environment| {
        let folder = models(site, |copy| Ok(std::fs::remove_file(largest(copy, "safetensors")?)?))?;
        environment.push(("MOOTHALL_MODELS_FOLDER".to_owned(), folder));
        Ok(())
    })
    .await
}
