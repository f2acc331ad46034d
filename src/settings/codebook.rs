//! `codebook.toml` to a [`Codebook`].

use super::keys::{Keys, Problems, parse};
use super::policy::OperatingPoints;
use crate::domain::codebook::{Codebook, StancePair, Theme, ThemeId};
use crate::domain::score::Probability;

/// Reads a codebook; what is wrong with it is added to `problems`.
pub fn read(file: &str, text: &str, points: OperatingPoints<'_>, problems: &mut Problems) -> Option<Codebook> {
    let table = parse(file, text, problems);
    let mut keys = Keys::new(&table, file, "", problems);
    let id = keys.required_text("id");
    let version = keys.required_text("version");
    let stance = keys.table("stance");
    // What it holds is read by `examples`, which needs the files around it.
    let _ = keys.table("training");
    let entries = keys.tables("theme");
    if entries.is_empty() {
        keys.wrong("theme", "is missing: a codebook has at least one [[theme]]");
    }
    keys.finish();
    let mut themes: Vec<Theme> = Vec::new();
    for (entry, prefix) in entries {
        if let Some(theme) = read_theme(file, entry, &prefix, points, problems) {
            if themes.iter().any(|known| known.id == theme.id) {
                problems.add(file, format!("{prefix}.id"), format!("`{}` is used twice", theme.id));
            }
            themes.push(theme);
        }
    }
    check_parents(file, &themes, problems);
    let stance = stance.and_then(|(pair, prefix)| {
        let mut keys = Keys::new(pair, file, &prefix, problems);
        let mut side = |name: &str| {
            let id = ThemeId::new(keys.required_text(name)?)?;
            if !themes.iter().any(|theme| theme.id == id) {
                keys.wrong(name, format!("is `{id}`, which is no theme of this codebook"));
            }
            Some(id)
        };
        let (structured, organic) = (side("structured"), side("organic"));
        keys.finish();
        Some(StancePair { structured: structured?, organic: organic? })
    });
    Some(Codebook { id: id?, version: version?, themes, stance })
}

fn read_theme(
    file: &str,
    entry: &toml::Table,
    prefix: &str,
    points: OperatingPoints<'_>,
    problems: &mut Problems,
) -> Option<Theme> {
    let mut keys = Keys::new(entry, file, prefix, problems);
    let id = keys.required_text("id").and_then(ThemeId::new);
    if let Some(id) = &id
        && !id.as_str().chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
    {
        keys.wrong("id", format!("is `{id}`: use lower-case letters, digits and `_`, because it names a column"));
    }
    let definition = keys.required_text("definition");
    let label = keys.text("label");
    let headline = keys.flag("headline").unwrap_or(true);
    let parent = keys.text("parent").and_then(ThemeId::new);
    let (includes, excludes, examples) = (keys.texts("includes"), keys.texts("excludes"), keys.texts("examples"));
    let tag_from = if keys.has("tag_from") {
        if keys.has("at") {
            let _ = keys.text("at");
            keys.wrong("tag_from", "stands beside `at`: keep one of them");
        }
        keys.probability("tag_from")
    } else {
        let name = keys.text("at").unwrap_or_else(|| "tag".to_owned());
        let number = id.as_ref().and_then(|id| points(id.as_str(), &name)).and_then(Probability::new);
        if let (None, Some(id)) = (number, &id) {
            keys.wrong("at", format!(
                "is `{name}`, and no heads were trained for `{id}`: run `moothall codebook train` on the consultation's folder"
            ));
        }
        number
    };
    keys.finish();
    let id = id?;
    Some(Theme {
        label: label.filter(|text| !text.is_empty()).unwrap_or_else(|| id.to_string()),
        id,
        headline,
        parent,
        definition: definition?,
        includes,
        excludes,
        examples,
        tag_from: tag_from?,
    })
}

/// Every parent exists, and no theme is above itself.
fn check_parents(file: &str, themes: &[Theme], problems: &mut Problems) {
    for theme in themes {
        let mut above = theme.parent.as_ref();
        for _ in 0..=themes.len() {
            let Some(id) = above else { break };
            let Some(parent) = themes.iter().find(|other| other.id == *id) else {
                problems.add(
                    file,
                    format!("theme `{}`.parent", theme.id),
                    format!("is `{id}`, which is no theme of this codebook"),
                );
                break;
            };
            if parent.id == theme.id {
                problems.add(file, format!("theme `{}`.parent", theme.id), "leads back to the theme itself");
                break;
            }
            above = parent.parent.as_ref();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> (Option<Codebook>, String) {
        let mut problems = Problems::default();
        let codebook = read("codebook.toml", text, &|_, _| None, &mut problems);
        (codebook, problems.to_string())
    }

    #[test]
    fn a_theme_needs_a_definition_and_a_unique_key() {
        let (_, problems) = check(
            "id = \"c\"\nversion = \"1\"\n[[theme]]\nid = \"a\"\ndefinition = \"A\"\ntag_from = 0.5\n\
             [[theme]]\nid = \"a\"\ndefinition = \"B\"\ntag_from = 0.5\n[[theme]]\nid = \"Opening Hours\"\ntag_from = 2\n",
        );
        for expected in
            ["`a` is used twice", "`theme[3].definition` is missing", "lower-case letters", "`theme[3].tag_from` is 2"]
        {
            assert!(problems.contains(expected), "{expected} is not in\n{problems}");
        }
    }

    #[test]
    fn parents_exist_and_do_not_go_in_circles() {
        let theme = |id: &str, parent: &str| {
            format!("[[theme]]\nid = \"{id}\"\nparent = \"{parent}\"\ndefinition = \"x\"\ntag_from = 0.5\n")
        };
        let (_, problems) = check(&format!(
            "id = \"c\"\nversion = \"1\"\n{}{}{}",
            theme("a", "b"),
            theme("b", "a"),
            theme("c", "nowhere")
        ));
        assert!(problems.contains("theme `a`.parent` leads back"), "{problems}");
        assert!(problems.contains("is `nowhere`, which is no theme"), "{problems}");
    }

    #[test]
    fn stance_names_two_themes_of_the_codebook() {
        let (codebook, problems) = check(
            "id = \"c\"\nversion = \"1\"\n[stance]\nstructured = \"a\"\norganic = \"z\"\n[[theme]]\nid = \"a\"\ndefinition = \"A\"\ntag_from = 0.5\n",
        );
        assert!(problems.contains("`stance.organic` is `z`"), "{problems}");
        assert!(codebook.is_some());
    }
}
