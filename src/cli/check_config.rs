//! `moothall check-config`: settings, policy, codebook and models without starting anything.

use std::process::ExitCode;

use super::{Common, Failure};
use crate::codebook::taught;
use crate::domain::rulebook::Rulebook;
use crate::engine::Models;
use crate::engine::first_stage::FirstStage;

/// Loads everything, says what it found, and fails with every problem at once.
pub fn run(common: &Common) -> Result<ExitCode, Failure> {
    let settings = common.settings()?;
    let (manifest, rulebook) = common.rulebook(&settings)?;
    let codebook = rulebook.codebook.as_ref();
    let models = Models::load(&manifest.folder, &rulebook, settings.engine)?;
    println!("settings        fine");
    println!(
        "models          {} {} in {}",
        models.manifest.manifest.name,
        rulebook.model_version,
        manifest.folder.display()
    );
    println!("engine          {}", settings.engine);
    FirstStage::read(&manifest)?;
    println!(
        "first stage     {}",
        match (&manifest.manifest.first_stage, rulebook.first_stage) {
            (None, _) => "none: these models have none",
            (_, true) => "settles plain spam without the encoder",
            _ => "off",
        }
    );
    for extra in &rulebook.policy.extra_scorers {
        let gives: Vec<&str> = extra.attributes.iter().flatten().map(|attribute| attribute.key()).collect();
        println!("extra scorer    {} gives {}", extra.name, gives.join(", "));
    }
    println!("consultation    {} ({})", rulebook.consultation.id, rulebook.consultation.title);
    println!("policy          {} rules", rulebook.policy.rules.len());
    match codebook {
        Some(codebook) => {
            println!("codebook        {} version {}, {} themes", codebook.id, codebook.version, codebook.themes.len());
        }
        None => println!("codebook        none: bare texts"),
    }
    if let Some(heads) = &rulebook.heads {
        println!("heads           {} with {} of them", heads.version, heads.heads.len());
    }
    println!("pipeline        {}", rulebook.version);
    if let Some(stale) = stale_heads(&rulebook) {
        println!("\nWARNING  {stale}");
    }
    if rulebook.consultation.safeguarding_contact.is_none() {
        println!(
            "\nWARNING  no safeguarding_contact is set for `{}`: nobody is named to read disclosures of harm",
            rulebook.consultation.id
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// What to say where the codebook was edited after its heads were trained.
pub fn stale_heads(rulebook: &Rulebook) -> Option<String> {
    let (codebook, heads) = (rulebook.codebook.as_ref()?, rulebook.heads.as_ref()?);
    (taught(codebook) != heads.codebook_sha256).then(|| {
        format!(
            "definitions or examples of codebook `{}` have changed since its heads {} were trained: run \
             `moothall codebook train`",
            codebook.id, heads.version
        )
    })
}
