//! `moothall check-config`: settings, policy, codebook and models without starting anything.

use std::process::ExitCode;

use super::{Common, Failure};
use crate::engine::Models;

/// Loads everything, says what it found, and fails with every problem at once.
pub fn run(common: &Common) -> Result<ExitCode, Failure> {
    let settings = common.settings()?;
    let (manifest, rulebook) = common.rulebook(&settings)?;
    let codebook = rulebook.codebook.as_ref();
    let models = Models::load(&manifest.folder, rulebook.heads.as_deref())?;
    println!("settings        fine");
    println!(
        "models          {} {} in {}",
        models.manifest.manifest.name,
        rulebook.model_version,
        manifest.folder.display()
    );
    println!("consultation    {} ({})", rulebook.consultation.id, rulebook.consultation.title);
    println!("policy          {} rules", rulebook.policy.rules.len());
    match codebook {
        Some(codebook) => {
            println!("codebook        {} version {}, {} themes", codebook.id, codebook.version, codebook.themes.len());
        }
        None => println!("codebook        none: bare texts"),
    }
    println!("pipeline        {}", rulebook.version);
    if rulebook.consultation.safeguarding_contact.is_none() {
        println!(
            "\nWARNING  no safeguarding_contact is set for `{}`: nobody is named to read disclosures of harm",
            rulebook.consultation.id
        );
    }
    Ok(ExitCode::SUCCESS)
}
