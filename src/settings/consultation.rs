//! `consultation.toml` to a [`Consultation`].

use super::keys::{Keys, Problems, parse};
use crate::domain::comment::ConsultationId;
use crate::domain::rulebook::Consultation;

/// Reads a consultation; what is wrong with it is added to `problems`.
pub fn read(file: &str, text: &str, problems: &mut Problems) -> Option<Consultation> {
    let table = parse(file, text, problems);
    let mut keys = Keys::new(&table, file, "", problems);
    let id = keys.required_text("id").and_then(ConsultationId::new);
    let title = keys.required_text("title");
    let question = keys.text("question").unwrap_or_default();
    let organisation = keys.text("organisation").unwrap_or_default();
    let time_zone = keys.text("time_zone").unwrap_or_else(|| "Europe/London".to_owned());
    if jiff::tz::TimeZone::get(&time_zone).is_err() {
        keys.wrong("time_zone", format!("is `{time_zone}`, which is no IANA time zone such as Europe/London"));
    }
    let (opens_at, closes_at) = (keys.time("opens_at"), keys.time("closes_at"));
    if let (Some(opens), Some(closes)) = (opens_at, closes_at)
        && closes <= opens
    {
        keys.wrong("closes_at", "is not after `opens_at`");
    }
    let safeguarding_contact = keys.optional_text("safeguarding_contact");
    keys.finish();
    Some(Consultation {
        id: id?,
        title: title?,
        question,
        organisation,
        time_zone,
        opens_at,
        closes_at,
        safeguarding_contact,
    })
}
