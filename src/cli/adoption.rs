//! The store names the rulebook that judges; a process that carries another refuses to start.

use clap::Args;
use jiff::Timestamp;

use super::Failure;
use crate::domain::rulebook::{PipelineVersion, RulebookParts, RulebookSnapshot};
use crate::pipeline::ports::{KnownRulebook, Store};

/// Options of every command that judges into a store.
#[derive(Clone, Copy, Debug, Args)]
pub struct AdoptArgs {
    /// Judge by these files and models from now on, when the store was judged by others
    #[arg(long, alias = "adopt")]
    adopt_rulebook: bool,
}

/// Makes sure that the carried rulebook is the store's active one: an empty store takes it,
/// another store needs to be told. Returns what changed, as a sentence for a person.
///
/// # Errors
/// [`Failure::Usage`] naming both versions, what differs and what to do.
pub async fn settle(
    store: &dyn Store,
    carried: &RulebookSnapshot,
    arguments: AdoptArgs,
) -> Result<Option<String>, Failure> {
    loop {
        let active = store.active_version(&carried.consultation).await?;
        match &active {
            Some(active) if *active == carried.version => {
                // A store of an earlier Moothall knows the version and not its files.
                if store.rulebook(&carried.consultation, active).await?.is_none() {
                    store.adopt_rulebook(carried, Some(active)).await?;
                }
                return Ok(None);
            }
            Some(active) if !arguments.adopt_rulebook => {
                let known = store.rulebooks(&carried.consultation).await?;
                return Err(Failure::Usage(anyhow::anyhow!("{}", refusal(active, carried, &known))));
            }
            _ => {}
        }
        if store.adopt_rulebook(carried, active.as_ref()).await? {
            return Ok(match active {
                None => None,
                Some(before) => Some(adopted(store, carried, &before).await?),
            });
        }
        // Another process was faster: look again.
    }
}

/// What an adoption means for what is stored.
pub async fn adopted(
    store: &dyn Store,
    carried: &RulebookSnapshot,
    before: &PipelineVersion,
) -> Result<String, Failure> {
    let known = store.rulebooks(&carried.consultation).await?;
    let other: u64 = known.iter().filter(|one| !one.active).map(|one| one.comments).sum();
    let stored = match other {
        0 => String::new(),
        1 => "; one stored comment keeps its judgement by another: `moothall codebook retag` shows what would change"
            .to_owned(),
        _ => format!(
            "; {other} stored comments keep their judgements by others: `moothall codebook retag` shows what would change"
        ),
    };
    Ok(format!("rulebook {} is the active one now, in place of {before}{stored}", carried.version))
}

fn refusal(active: &PipelineVersion, carried: &RulebookSnapshot, known: &[KnownRulebook]) -> String {
    let found = known.iter().find(|one| one.version == *active);
    let since =
        found.and_then(|one| one.adopted_at_ms.last()).map_or_else(String::new, |ms| format!(" since {}", time(*ms)));
    let parts = found.and_then(|one| one.parts.as_ref());
    let back = if parts.is_some() {
        format!("`moothall rulebook rollback {active}` writes its files back")
    } else {
        "restore the earlier files".to_owned()
    };
    format!(
        "the store's active rulebook for `{}` is {active}{since}, and these files and models make {}: {}\n  \
         to judge by yours from now on: --adopt-rulebook (what is stored keeps its judgements until `moothall codebook retag`)\n  \
         to stay with the active one: {back}",
        carried.consultation,
        carried.version,
        differing(parts, &carried.parts),
    )
}

/// What differs, as words.
pub fn differing(active: Option<&RulebookParts>, carried: &RulebookParts) -> String {
    let Some(active) = active else { return "which parts differ was not kept".to_owned() };
    let parts = active.differences(carried);
    match parts.as_slice() {
        [] => "no part that is known differs".to_owned(),
        [one] => format!("another {one}"),
        [most @ .., last] => format!("another {} and {last}", most.join(", ")),
    }
}

/// A time for a person; milliseconds in.
pub fn time(ms: i64) -> String {
    Timestamp::from_millisecond(ms).map_or_else(|_| "an unknown time".to_owned(), |time| format!("{time:.0}"))
}
