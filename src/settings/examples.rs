//! The examples of a codebook: those in its file, the files that it names, and
//! reviewed corrections. Every row that cannot be used is named by file and line.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::keys::{Keys, Problems, parse};
use crate::codebook::example::{Example, Origin, Part, part_of, split_key};
use crate::domain::codebook::{Codebook, Theme};
use crate::domain::opinion::{Attitude, Stance, Tone};

/// `[training]` of a codebook.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Training {
    /// Files of examples, from the codebook's folder; `*` stands for any letters of a name.
    pub examples: Vec<String>,
    /// Of these, the ones whose labels the encoder was trained on.
    pub encoder_saw: Vec<String>,
}

/// One file of examples.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExampleFile {
    /// As the codebook names it.
    pub name: String,
    /// SHA-256 (hex) of its bytes.
    pub sha256: String,
    /// Rows with a text.
    pub rows: usize,
    /// Of these, learnt from.
    pub trained: usize,
    /// Of these, held out.
    pub held_out: usize,
}

/// Everything that a codebook offers to learn from.
#[derive(Clone, Debug, Default)]
pub struct Examples {
    /// Those in the codebook first.
    pub examples: Vec<Example>,
    /// The files behind the others.
    pub files: Vec<ExampleFile>,
    /// Corrections that people made in review.
    pub corrections: usize,
    /// Blind codes of the check sample, left out: learnt from, they could measure nothing any more.
    pub blind: usize,
}

/// Reads `[training]`; what is wrong with it is added to `problems`.
pub fn read_training(file: &str, text: &str, problems: &mut Problems) -> Training {
    // What is no TOML has been said by whoever read the codebook.
    let table = parse(file, text, &mut Problems::default());
    let mut outer = Keys::new(&table, file, "", problems);
    let Some((training, prefix)) = outer.table("training") else { return Training::default() };
    let mut keys = Keys::new(training, file, &prefix, problems);
    let training = Training { examples: keys.texts("examples"), encoder_saw: keys.texts("encoder_saw") };
    keys.finish();
    training
}

/// The examples in the codebook's own file, each with its key.
pub fn listed(codebook: &Codebook, file: &str) -> Vec<Example> {
    let count = codebook.themes.len();
    let mut examples: Vec<Example> = Vec::new();
    for (at, theme) in codebook.themes.iter().enumerate() {
        let mut add = |text: &str, key: &str, origin: Origin, says: bool| {
            let group = split_key(text);
            // A text that stands under two themes raises both.
            if origin == Origin::Listed
                && let Some(known) =
                    examples.iter_mut().find(|known| known.origin == Origin::Listed && known.group == group)
            {
                known.themes[at] = Some(says);
                return;
            }
            let mut themes = vec![None; count];
            themes[at] = Some(says);
            examples.push(Example {
                text: text.to_owned(),
                place: format!("{file}: theme `{}`.{key}", theme.id),
                group,
                origin,
                part: Part::Train,
                seen: false,
                themes,
                off_topic: None,
                stance: None,
                attitude: None,
                tone: None,
            });
        };
        for (line, text) in theme.examples.iter().enumerate() {
            add(text, &format!("examples[{}]", line + 1), Origin::Listed, true);
        }
        for (text, key, says) in described(theme) {
            add(text, &key, Origin::Described, says);
        }
    }
    examples.retain(|example| !example.text.trim().is_empty());
    examples
}

/// Label, definition, includes and excludes of a theme, with their keys.
fn described(theme: &Theme) -> Vec<(&str, String, bool)> {
    let mut lines = vec![(theme.label.as_str(), "label".to_owned(), true)];
    lines.push((theme.definition.as_str(), "definition".to_owned(), true));
    let numbered = |key: &str, line: usize| format!("{key}[{}]", line + 1);
    lines.extend(
        theme.includes.iter().enumerate().map(|(line, text)| (text.as_str(), numbered("includes", line), true)),
    );
    lines.extend(
        theme.excludes.iter().enumerate().map(|(line, text)| (text.as_str(), numbered("excludes", line), false)),
    );
    lines
}

/// All examples of the codebook `text` that stands in `folder`. With `hold_out`, 12 % of the
/// files' rows (by hash of the text) are held out; rows of files named `*heldout*` always are.
pub fn load(
    codebook: &Codebook,
    training: &Training,
    folder: &Path,
    corrections: Option<&Path>,
    hold_out: bool,
    problems: &mut Problems,
) -> Examples {
    let file = folder.join("codebook.toml").display().to_string();
    let mut all = Examples { examples: listed(codebook, &file), ..Examples::default() };
    let saw: BTreeSet<PathBuf> = training.encoder_saw.iter().flat_map(|pattern| matching(folder, pattern)).collect();
    let mut read: BTreeSet<PathBuf> = BTreeSet::new();
    for (at, pattern) in training.examples.iter().enumerate() {
        let paths = matching(folder, pattern);
        if paths.is_empty() {
            problems.add(&file, format!("training.examples[{}]", at + 1), format!("`{pattern}` matches no file"));
        }
        // Files of one line were coded together: a theme that occurs in none of them was not looked for there.
        let mut rows: Vec<(usize, Row)> = Vec::new();
        for path in paths.into_iter().filter(|path| read.insert(path.clone())) {
            let Some(bytes) = open(&path, problems) else { continue };
            let name = shown(pattern, &path);
            let found = rows_of(codebook, &path, &bytes, problems);
            let seen = saw.contains(&path);
            let never = name.contains("heldout");
            let number = all.files.len();
            all.files.push(ExampleFile {
                name,
                sha256: hex::encode(Sha256::digest(&bytes)),
                rows: found.len(),
                trained: 0,
                held_out: 0,
            });
            for mut row in found {
                let part = part_of(&row.split);
                row.example.part = if never { Part::HeldOut } else { part };
                row.example.seen = seen && row.example.part == Part::Train;
                if !never && !hold_out && part == Part::HeldOut {
                    row.example.part = Part::Calibration;
                }
                match row.example.part {
                    Part::HeldOut => all.files[number].held_out += 1,
                    _ => all.files[number].trained += 1,
                }
                rows.push((number, row));
            }
        }
        let coded_for: Vec<bool> = (0..codebook.themes.len())
            .map(|theme| rows.iter().any(|(_, row)| row.example.themes[theme] == Some(true)))
            .collect();
        for (_, row) in rows {
            match row.origin.as_deref() {
                Some("check_sample") => all.blind += 1,
                _ => all.examples.push(narrowed(row.example, &coded_for)),
            }
        }
    }
    if let Some(path) = corrections
        && let Some(bytes) = open(path, problems)
    {
        for row in rows_of(codebook, path, &bytes, problems) {
            match row.origin.as_deref() {
                Some("check_sample") => all.blind += 1,
                Some("review") => {
                    all.corrections += 1;
                    // The text may stand in a file as well; what was held out stays so.
                    let part = if hold_out { part_of(&row.split) } else { Part::Train };
                    all.examples.push(Example { origin: Origin::Reviewed, part, ..row.example });
                }
                _ => problems.add(
                    &path.display().to_string(),
                    format!("line {}", row.line),
                    "says not where it comes from: `origin` must be `review` or `check_sample`",
                ),
            }
        }
    }
    settle(&mut all.examples);
    all
}

/// A text that is held out anywhere is held out everywhere: its copies must not be learnt from.
fn settle(examples: &mut Vec<Example>) {
    let held: BTreeSet<String> = examples
        .iter()
        .filter(|example| example.part == Part::HeldOut)
        .flat_map(|example| [example.group.clone(), split_key(&example.text)])
        .collect();
    for example in examples.iter_mut().filter(|example| !matches!(example.origin, Origin::Listed | Origin::Described)) {
        if held.contains(&example.group) || held.contains(&split_key(&example.text)) {
            example.part = Part::HeldOut;
            example.seen = false;
        }
    }
    // What the codebook's own file says is learnt from in any case, so its copy measures nothing.
    let listed: BTreeSet<String> = examples
        .iter()
        .filter(|example| example.origin == Origin::Listed)
        .map(|example| example.group.clone())
        .collect();
    examples.retain(|example| example.part != Part::HeldOut || !listed.contains(&split_key(&example.text)));
}

/// A "no" for a theme that nobody looked for is unknown.
fn narrowed(mut example: Example, coded_for: &[bool]) -> Example {
    for (known, coded) in example.themes.iter_mut().zip(coded_for) {
        *known = known.filter(|_| *coded);
    }
    example
}

fn open(path: &Path, problems: &mut Problems) -> Option<Vec<u8>> {
    match std::fs::read(path) {
        Ok(bytes) => Some(bytes),
        Err(error) => {
            problems.add(&path.display().to_string(), "", format!("cannot be read: {error}"));
            None
        }
    }
}

/// Files that a pattern names, sorted. `*` is understood in the last part.
fn matching(folder: &Path, pattern: &str) -> Vec<PathBuf> {
    let path = folder.join(pattern);
    let (Some(parent), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else {
        return Vec::new();
    };
    if !name.contains('*') {
        return if path.is_file() { vec![path] } else { Vec::new() };
    }
    let entries = std::fs::read_dir(parent).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = entries
        .map(|entry| entry.path())
        .filter(|path| {
            path.is_file() && path.file_name().and_then(|found| found.to_str()).is_some_and(|found| fits(name, found))
        })
        .collect();
    found.sort();
    found
}

/// Whether `name` fits a pattern with `*`.
fn fits(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| name.strip_prefix(first)) else { return false };
    let mut parts = parts.peekable();
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.is_empty()
}

/// The pattern with its last part replaced by the file's name: the same on every machine.
fn shown(pattern: &str, path: &Path) -> String {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    match pattern.rsplit_once('/') {
        Some((folder, _)) => format!("{folder}/{name}"),
        None => name.to_owned(),
    }
}

struct Row {
    line: usize,
    split: String,
    origin: Option<String>,
    example: Example,
}

/// The line of a row, and what stands there or why it cannot be read.
type Object = (usize, Result<Map<String, Value>, String>);

/// Rows of JSON Lines or CSV, told by the file's name.
fn rows_of(codebook: &Codebook, path: &Path, bytes: &[u8], problems: &mut Problems) -> Vec<Row> {
    let file = path.display().to_string();
    let Ok(text) = std::str::from_utf8(bytes) else {
        problems.add(&file, "", "is not UTF-8");
        return Vec::new();
    };
    let text = text.trim_start_matches('\u{feff}');
    let is_table = path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("csv"));
    let objects: Vec<Object> = if is_table { table(text) } else { lines(text) };
    let mut rows = Vec::new();
    for (line, object) in objects {
        let mut wrong = |message: String| problems.add(&file, format!("line {line}"), message);
        match object {
            Ok(object) => rows.extend(row(codebook, &file, line, &object, &mut wrong)),
            Err(message) => wrong(message),
        }
    }
    rows
}

fn lines(text: &str) -> Vec<Object> {
    text.lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty())
        .map(|(at, line)| (at + 1, serde_json::from_str(line).map_err(|error| format!("is no JSON object: {error}"))))
        .collect()
}

/// A row for each record. An empty cell is unknown; themes are separated by `;` or `|`.
fn table(text: &str) -> Vec<Object> {
    let mut reader = csv::ReaderBuilder::new().from_reader(text.as_bytes());
    let names = match reader.headers() {
        Ok(names) => names.clone(),
        Err(error) => return vec![(1, Err(format!("has no header: {error}")))],
    };
    if !names.iter().any(|name| name == "text") {
        return vec![(1, Err("has no column `text`".to_owned()))];
    }
    reader
        .into_records()
        .enumerate()
        .map(|(at, record)| {
            let record = record.map_err(|error| format!("is no row of this table: {error}"));
            let line = record.as_ref().ok().and_then(csv::StringRecord::position).map_or(at + 2, |p| p.line() as usize);
            let object = record.map(|record| {
                let cells = names.iter().zip(&record).filter(|(_, cell)| !cell.trim().is_empty());
                cells
                    .map(|(name, cell)| {
                        let list = || cell.split([';', '|']).map(|one| Value::from(one.trim())).collect::<Vec<_>>();
                        (name.to_owned(), if name == "themes" { Value::from(list()) } else { Value::from(cell) })
                    })
                    .collect()
            });
            (line, object)
        })
        .collect()
}

fn row(
    codebook: &Codebook,
    file: &str,
    line: usize,
    object: &Map<String, Value>,
    wrong: &mut dyn FnMut(String),
) -> Option<Row> {
    let Some(Value::String(text)) = object.get("text") else {
        wrong("has no `text`".to_owned());
        return None;
    };
    let text = text.clone();
    if text.trim().is_empty() {
        return None;
    }
    let word = |name: &str| object.get(name).and_then(Value::as_str).map(str::trim).filter(|word| !word.is_empty());
    let mut themes = vec![None; codebook.themes.len()];
    match object.get("themes") {
        None | Some(Value::Null) => {}
        Some(Value::Array(list)) => {
            themes.fill(Some(false));
            for one in list {
                let key = one.as_str().unwrap_or_default();
                match codebook.themes.iter().position(|theme| theme.id.as_str() == key) {
                    Some(at) => themes[at] = Some(true),
                    None if key == "none" || key.is_empty() => {}
                    None => wrong(format!("names theme `{key}`, which the codebook does not have")),
                }
            }
        }
        Some(_) => wrong("`themes` must be a list of theme keys".to_owned()),
    }
    let moderation = word("moderation");
    // What advertising thinks is nobody's opinion.
    let has_opinion = moderation != Some("spam");
    let mut one_of = |names: &[&str], known: &[&str]| -> Option<usize> {
        let (name, key) = names.iter().find_map(|name| Some((*name, word(name)?)))?;
        let at = known.iter().position(|one| *one == key);
        if at.is_none() {
            wrong(format!("`{name}` is `{key}`, must be one of {}", known.join(", ")));
        }
        at.filter(|_| has_opinion)
    };
    let stances: Vec<&str> = Stance::ALL.iter().map(|one| one.key()).collect();
    let attitudes: Vec<&str> = Attitude::ALL.iter().map(|one| one.key()).collect();
    let tones: Vec<&str> = Tone::ALL.iter().map(|one| one.key()).collect();
    let stance = one_of(&["stance"], &stances).map(|at| Stance::ALL[at]);
    let attitude = one_of(&["attitude", "sentiment"], &attitudes).map(|at| Attitude::ALL[at]);
    let tone = one_of(&["tone"], &tones).map(|at| Tone::ALL[at]);
    let off_topic = match object.get("off_topic") {
        Some(Value::Bool(flag)) => Some(*flag),
        Some(Value::String(flag)) => Some(matches!(flag.as_str(), "true" | "1" | "yes")),
        _ => moderation.map(|key| key == "off_topic"),
    };
    let split = split_key(&word("pair").map_or_else(|| text.clone(), |pair| format!("pair:{pair}")));
    let example = Example {
        place: format!("{file}: line {line}"),
        group: split.clone(),
        origin: Origin::Coded,
        part: Part::Train,
        seen: false,
        themes,
        off_topic,
        stance,
        attitude,
        tone,
        text,
    };
    Some(Row { line, split, origin: word("origin").map(str::to_owned), example })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::codebook;

    /// Buses, parks and trams, with one example each but for trams.
    fn typed(training: &str) -> (Codebook, Training) {
        let text = format!(
            "id = \"town\"\nversion = \"1\"\n{training}\
             [[theme]]\nid = \"buses\"\ndefinition = \"Buses\"\nexamples = [\"Late again.\", \"Cut both.\"]\n\
             [[theme]]\nid = \"parks\"\ndefinition = \"Parks\"\nexamples = [\"Cut both.\"]\n\
             [[theme]]\nid = \"trams\"\ndefinition = \"Trams\"\n"
        );
        let mut problems = Problems::default();
        let codebook = codebook::read("codebook.toml", &text, &|_, _| Some(0.5), &mut problems).unwrap();
        let training = read_training("codebook.toml", &text, &mut problems);
        assert_eq!(problems, Problems::default());
        (codebook, training)
    }

    fn loaded(files: &[(&str, &str)], training: &str, hold_out: bool) -> Examples {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        let (codebook, training) = typed(training);
        let mut problems = Problems::default();
        let found = load(&codebook, &training, folder.path(), None, hold_out, &mut problems);
        assert_eq!(problems, Problems::default());
        found
    }

    fn coded(examples: &Examples) -> Vec<&Example> {
        examples.examples.iter().filter(|example| example.origin == Origin::Coded).collect()
    }

    #[test]
    fn an_example_under_two_themes_raises_both() {
        let found = loaded(&[], "", true);
        let listed: Vec<&Example> = found.examples.iter().filter(|one| one.origin == Origin::Listed).collect();
        assert_eq!(listed.len(), 2);
        assert_eq!(listed[1].themes, [Some(true), Some(true), None]);
    }

    #[test]
    fn what_nobody_coded_is_unknown() {
        let rows = "{\"text\": \"a\", \"themes\": [\"buses\"]}\n{\"text\": \"b\"}\n{\"text\": \"c\", \"themes\": []}\n";
        let found = loaded(&[("rows.jsonl", rows)], "[training]\nexamples = [\"*.jsonl\"]\n", false);
        let themes: Vec<_> = coded(&found).iter().map(|one| one.themes.clone()).collect();
        // Parks and trams occur in no row of the pattern: nobody looked for them.
        assert_eq!(themes, [[Some(true), None, None], [None, None, None], [Some(false), None, None]]);
    }

    #[test]
    fn an_empty_cell_is_unknown_and_none_is_none() {
        let rows = "text,themes,tone\na,buses;parks,warm\nb,,\nc,none,angry\n";
        let found = loaded(&[("rows.csv", rows)], "[training]\nexamples = [\"rows.csv\"]\n", false);
        let coded = coded(&found);
        assert_eq!(coded[0].themes, [Some(true), Some(true), None]);
        assert_eq!((coded[1].themes[0], coded[1].tone), (None, None));
        assert_eq!((coded[2].themes[0], coded[2].tone), (Some(false), Some(Tone::Angry)));
    }

    #[test]
    fn a_copy_of_a_held_out_text_is_held_out_and_pairs_stay_together() {
        let held = "{\"text\": \"The same words\", \"themes\": [\"buses\"]}\n";
        let rows = "{\"text\": \"the  SAME words\", \"themes\": [\"parks\"]}\n\
                    {\"text\": \"one half\", \"themes\": [], \"pair\": \"p1\"}\n{\"text\": \"other half\", \"themes\": [], \"pair\": \"p1\"}\n";
        let found =
            loaded(&[("a-heldout.jsonl", held), ("b.jsonl", rows)], "[training]\nexamples = [\"*.jsonl\"]\n", true);
        let coded = coded(&found);
        assert_eq!((coded[0].part, coded[1].part), (Part::HeldOut, Part::HeldOut));
        assert_eq!((coded[2].group == coded[3].group, coded[2].part), (true, coded[3].part));
    }

    #[test]
    fn only_training_rows_of_files_that_the_encoder_saw_count_as_seen() {
        let row = |text: &str| format!("{{\"text\": \"{text}\", \"themes\": [\"buses\"]}}\n");
        let texts: Vec<String> = (0..60).map(|at| format!("comment {at}")).collect();
        let rows: String = texts.iter().map(|text| row(text)).collect();
        let training = "[training]\nexamples = [\"rows.jsonl\"]\nencoder_saw = [\"rows.jsonl\"]\n";
        let found = loaded(&[("rows.jsonl", &rows)], training, true);
        for one in coded(&found) {
            assert_eq!(one.seen, one.part == Part::Train, "{}", one.text);
        }
        assert!(
            [Part::Train, Part::Calibration, Part::HeldOut]
                .iter()
                .all(|part| coded(&found).iter().any(|one| one.part == *part))
        );
    }

    #[test]
    fn a_star_stands_for_any_letters_of_a_name() {
        for (pattern, name, expected) in [
            ("*.jsonl", "a.jsonl", true),
            ("*.jsonl", "a.csv", false),
            ("coded-*-x.csv", "coded-march-x.csv", true),
            ("coded-*-x.csv", "coded-x.csv", false),
            ("a*a", "a", false),
            ("*", "anything", true),
        ] {
            assert_eq!(fits(pattern, name), expected, "{pattern} {name}");
        }
    }
}
