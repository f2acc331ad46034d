//! Webhooks: can each target be signed for and reached. What waits for them is asked of the store.

use super::Checks;
use crate::app;
use crate::pipeline::clock::Clock;
use crate::settings::Settings;

/// What to do about a target that cannot even be called.
const MEND: &str = "mend what is named (docs/webhooks.md)";

/// Looks at each target of the settings, one after the other.
pub async fn look(settings: &Settings, checks: &mut Checks) {
    let targets = match app::webhooks(settings) {
        Ok(targets) => targets,
        Err(error) => {
            checks.fail("webhook", format!("{error:#}"), MEND);
            return;
        }
    };
    for (target, kinds) in targets {
        let (name, place) = (target.name.clone(), target.place());
        let caller = match app::webhook_caller(&target, &Clock::system()) {
            Ok(caller) => caller,
            Err(error) => {
                checks.fail("webhook", format!("{error:#}"), MEND);
                continue;
            }
        };
        match caller.reach().await {
            Ok(()) => checks.ok("webhook", format!("{name}: {place} answers, told of {}", kinds.join(", "))),
            Err(error) => checks.fail(
                "webhook",
                format!("{name}: {place}: {error}"),
                format!("see that it runs and its certificate is trusted, then `moothall webhook ping {name}`"),
            ),
        }
    }
}
