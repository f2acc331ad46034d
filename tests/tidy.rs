//! Reads the source: who imports whom, nothing left over, every shipped file readable.
//!
//! The compiler cannot see walls inside one package, so this test does. It reads
//! code with comments, texts and test modules taken out.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use moothall::domain::comment::ConsultationId;
use moothall::domain::decision::ReasonKey;
use moothall::domain::reading::PiiKind;
use moothall::domain::score::Attribute;
use moothall::pipeline::ports::FailedRow;
use moothall::wire::event::RowFailedV1;
use regex::Regex;
use serde_json::Value;

/// A longer file usually holds two ideas.
const LONGEST_FILE: usize = 800;

/// The one file that may hold `unsafe` code.
const UNSAFE: &str = "src/numerics/kernels.rs";

/// A room, what of this crate it may name, and what it must not name at all.
struct Room {
    name: &'static str,
    may_know: &'static [&'static str],
    never: &'static [&'static str],
}

/// What judgement may never touch: anything async, any clock, any file, any network.
const IMPURE: [&str; 12] = [
    r"\btokio\b",
    r"\bsqlx\b",
    r"\baxum\b",
    r"\breqwest\b",
    r"\basync\b",
    r"\bstd::fs\b",
    r"\bstd::env\b",
    r"\bstd::net\b",
    r"\bstd::process\b",
    r"\bSystemTime\b",
    r"\bInstant\b",
    r"\bnow\s*\(",
];

const ROOMS: [Room; 14] = [
    Room { name: "domain", may_know: &["domain"], never: &IMPURE },
    // The values that a store hands over are what a report is made of; they are plain data.
    Room { name: "assess", may_know: &["domain", "assess", "pipeline::ports"], never: &IMPURE },
    // Learning is pure, as judging is; what it learns from is read in `settings`, written in `cli`.
    Room { name: "numerics", may_know: &[], never: &IMPURE },
    Room { name: "codebook", may_know: &["domain", "codebook"], never: &IMPURE },
    Room {
        name: "pipeline",
        may_know: &["domain", "assess", "pipeline", "wire", "telemetry"],
        never: &[r"\bsqlx\b", r"\baxum\b", r"\blapin\b", r"\breqwest\b", r"\btokenizers\b", r"\bsafetensors\b"],
    },
    Room {
        name: "engine",
        may_know: &["domain", "assess", "codebook::words", "pipeline", "engine", "telemetry"],
        never: &[r"\bsqlx\b", r"\baxum\b", r"\breqwest\b"],
    },
    Room {
        name: "broker",
        may_know: &["domain", "pipeline", "broker", "wire", "sqlite", "sql", "telemetry"],
        never: &[r"\baxum\b", r"\btokenizers\b"],
    },
    Room {
        name: "store",
        may_know: &["domain", "pipeline", "store", "wire", "sqlite", "sql", "telemetry"],
        never: &[r"\baxum\b", r"\breqwest\b", r"\btokenizers\b"],
    },
    Room {
        name: "webhook",
        may_know: &["pipeline", "webhook", "wire"],
        never: &[r"\bsqlx\b", r"\baxum\b", r"\blapin\b", r"\btokenizers\b"],
    },
    Room {
        name: "source",
        may_know: &["domain", "pipeline", "source", "wire", "telemetry"],
        never: &[r"\bsqlx\b", r"\baxum\b", r"\btokenizers\b"],
    },
    Room {
        name: "export",
        may_know: &["domain", "assess", "pipeline", "export", "wire", "telemetry"],
        never: &[r"\bsqlx\b", r"\baxum\b", r"\breqwest\b", r"\btokenizers\b"],
    },
    Room {
        name: "web",
        may_know: &["domain", "assess", "pipeline", "web", "wire", "telemetry", "lifecycle"],
        never: &[r"\bsqlx\b", r"\btokenizers\b"],
    },
    // Measuring is as pure as judging: the command reads, judges and writes. Its pages look like the report's.
    Room {
        name: "eval",
        may_know: &["domain", "eval", "export::cells", "export::svg", "export::words"],
        never: &IMPURE,
    },
    // It checks a policy against the operating points of the models' manifest and of a codebook's heads and
    // against the labels of extra models, a choice of engine against what this binary carries, and reads
    // the examples that a codebook is learnt from.
    Room {
        name: "settings",
        may_know: &[
            "domain",
            "codebook::example",
            "settings",
            "engine::manifest",
            "engine::choice",
            "engine::extra",
            "engine::trained",
            "pipeline::ports",
            "wire",
        ],
        never: &[r"\bsqlx\b", r"\baxum\b", r"\breqwest\b", r"\btokio\b"],
    },
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Files under `folder` with this ending, as paths from the root, sorted.
fn files(folder: &str, ending: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        for path in entries.map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|found| found == ending) {
                found.push(path.strip_prefix(root()).unwrap().to_str().unwrap().replace('\\', "/"));
            }
        }
    }
    found.sort();
    found
}

fn text(file: &str) -> String {
    std::fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// Source with comments and the contents of texts blanked out; line feeds stay.
fn code(source: &str) -> String {
    // One alternative each: line comment, block comment, raw text, text, character.
    let skipped = Regex::new(
        r##"(?s)//[^\n]*|/\*.*?\*/|\bb?r"[^"]*"|\bb?r#".*?"#|\bb?r##".*?"#{2}|"(?:\\.|[^"\\])*"|'(?:\\[^\n]{1,9}?|[^\\'\n])'"##,
    )
    .unwrap();
    skipped
        .replace_all(source, |found: &regex::Captures<'_>| {
            let lines = found[0].matches('\n').count();
            format!("\"{}\"", "\n".repeat(lines))
        })
        .into_owned()
}

/// Code without its test module, which may know more than the room does.
fn without_tests(code: &str) -> &str {
    let start = Regex::new(r"#\[cfg\(test\)\]\s*mod \w+ \{").unwrap();
    start.find(code).map_or(code, |found| &code[..found.start()])
}

/// Everything of this crate that a file names, as `room` and `room::module`.
fn names(file: &str, code: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let path = Regex::new(r"\bcrate::(\w+)(?:::(\w+))?").unwrap();
    for one in path.captures_iter(code) {
        found.insert(one[1].to_owned());
        if let Some(module) = one.get(2) {
            found.insert(format!("{}::{}", &one[1], module.as_str()));
        }
    }
    let group = Regex::new(r"\bcrate::\{").unwrap();
    assert!(!group.is_match(code), "{file}: `use crate::{{...}}` hides who knows whom; one `use` per module");
    // `super` often enough leaves the room.
    let depth = file.trim_start_matches("src/").trim_end_matches("/mod.rs").matches('/').count() + 1;
    let up = Regex::new(&format!(r"(?:^|[^:\w])(?:super::){{{depth}}}(\w+)")).unwrap();
    if let Some(found) = up.find(code) {
        panic!("{file}: `{}` leaves the room; write `crate::`", found.as_str().trim());
    }
    found
}

#[test]
fn rooms_know_only_whom_they_may() {
    let mut wrong = Vec::new();
    for room in &ROOMS {
        let mut files = files(&format!("src/{}", room.name), "rs");
        // A room's tests in files of their own are `tests.rs`.
        files.retain(|file| !file.ends_with("/tests.rs") && !file.contains("/tests/"));
        assert!(!files.is_empty(), "there is no room src/{}", room.name);
        for file in files {
            let whole = code(&text(&file));
            let code = without_tests(&whole);
            for name in names(&file, code) {
                let (top, module) =
                    name.split_once("::").map_or((name.as_str(), None), |(top, rest)| (top, Some(rest)));
                let allowed = room.may_know.iter().any(|known| match known.split_once("::") {
                    None => *known == top,
                    // The bare room goes with its module; the module itself is looked at by name.
                    Some((known_top, known_module)) => known_top == top && module.is_none_or(|m| m == known_module),
                });
                if !allowed {
                    wrong.push(format!("{file} names crate::{name}; {} may know {:?}", room.name, room.may_know));
                }
            }
            for never in room.never {
                if let Some(found) = Regex::new(never).unwrap().find(code) {
                    wrong.push(format!("{file} uses `{}`, which {} never does", found.as_str(), room.name));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "\n  {}", wrong.join("\n  "));
}

#[test]
fn the_domain_uses_the_standard_library_and_jiff_only() {
    let manifest: toml::Table = toml::from_str(&text("Cargo.toml")).unwrap();
    let mut wrong = Vec::new();
    for dependency in manifest["dependencies"].as_table().unwrap().keys().filter(|name| *name != "jiff") {
        let path = Regex::new(&format!(r"(?:^|[^:\w]){}::", dependency.replace('-', "_"))).unwrap();
        for file in files("src/domain", "rs") {
            if path.is_match(without_tests(&code(&text(&file)))) {
                wrong.push(format!("{file} uses {dependency}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[test]
fn nothing_is_left_over() {
    let never = [
        (r"#\[ignore", "an ignored test"),
        (r"\btodo!", "todo!"),
        (r"\bunimplemented!", "unimplemented!"),
        (r"\bdbg!", "dbg!"),
    ]
    .map(|(pattern, what)| (Regex::new(pattern).unwrap(), what));
    let markers = ["TODO", "FIXME", "XXX"].map(|marker| (marker, Regex::new(&format!(r"//.*\b{marker}\b")).unwrap()));
    let unsafe_code = Regex::new(r"\bunsafe\b").unwrap();
    let mut wrong = Vec::new();
    for file in files("src", "rs").into_iter().chain(files("tests", "rs")) {
        let source = text(&file);
        let lines = source.lines().count();
        if lines > LONGEST_FILE {
            wrong.push(format!("{file} has {lines} lines, at most {LONGEST_FILE} are wanted"));
        }
        let code = code(&source);
        for (pattern, what) in &never {
            if pattern.is_match(&code) {
                wrong.push(format!("{file} holds {what}"));
            }
        }
        if file != UNSAFE && unsafe_code.is_match(&code) {
            wrong.push(format!("{file} holds unsafe code; {UNSAFE} is the place for it"));
        }
        for (marker, marked) in &markers {
            let line = source.lines().find(|line| marked.is_match(line) && !line.contains('#'));
            if let Some(line) = line {
                wrong.push(format!("{file}: a {marker} names an issue: {}", line.trim()));
            }
        }
    }
    assert!(wrong.is_empty(), "\n  {}", wrong.join("\n  "));
}

#[test]
fn every_shipped_toml_file_parses() {
    let mut shipped = files("config", "toml");
    assert!(shipped.len() >= 5, "{shipped:?}");
    shipped
        .extend(["Cargo.toml", "clippy.toml", "deny.toml", "rustfmt.toml", "rust-toolchain.toml"].map(str::to_owned));
    for file in shipped {
        if let Err(error) = toml::from_str::<toml::Table>(&text(&file)) {
            panic!("{file}: {error}");
        }
    }
}

#[test]
fn every_row_of_an_example_is_as_wide_as_its_header() {
    let examples = files("examples", "csv");
    assert!(!examples.is_empty());
    for file in examples {
        let mut reader = csv::ReaderBuilder::new().flexible(false).from_path(root().join(&file)).unwrap();
        let mut rows = 0;
        for row in reader.records() {
            row.unwrap_or_else(|error| panic!("{file}: {error}"));
            rows += 1;
        }
        assert!(rows >= 1, "{file} holds no rows");
    }
}

#[test]
fn every_setting_has_its_variable_in_the_example_environment() {
    let defaults: toml::Table = toml::from_str(&text("config/default.toml")).unwrap();
    let mut settings: BTreeSet<String> = BTreeSet::new();
    for (section, table) in &defaults {
        for key in table.as_table().unwrap().keys() {
            settings.insert(format!("MOOTHALL_{}_{}", section.to_uppercase(), key.to_uppercase()));
        }
    }
    let example = text(".env.example");
    let named: BTreeSet<String> = Regex::new(r"(?m)^#?(MOOTHALL_\w+)=")
        .unwrap()
        .captures_iter(&example)
        .map(|found| found[1].to_owned())
        .collect();
    let missing: Vec<_> = settings.difference(&named).collect();
    assert!(missing.is_empty(), "missing in .env.example: {missing:?}");
    // Variables that are no settings are read where the source says so.
    let sources: String = files("src", "rs").iter().map(|file| text(file)).collect();
    let unknown: Vec<_> = named.difference(&settings).filter(|name| !sources.contains(name.as_str())).collect();
    assert!(unknown.is_empty(), "nothing reads these variables of .env.example: {unknown:?}");
}

#[test]
fn the_published_lists_are_the_lists_in_the_code() {
    let schema: Value = serde_json::from_str(&text("docs/schemas/assessed.v1.json")).unwrap();
    let listed = |pointer: &str| -> BTreeSet<String> {
        let list = schema.pointer(pointer).and_then(Value::as_array).unwrap_or_else(|| panic!("{pointer}"));
        list.iter().map(|one| one.as_str().unwrap().to_owned()).collect()
    };
    let reasons: BTreeSet<String> = ReasonKey::ALL.iter().map(|key| key.as_str().to_owned()).collect();
    assert_eq!(listed("/$defs/reason/properties/key/enum"), reasons);
    let attributes: BTreeSet<String> = Attribute::ALL.iter().map(|one| one.key().to_owned()).collect();
    assert_eq!(listed("/$defs/attribute/enum"), attributes);
    assert_eq!(listed("/$defs/attributes/required"), attributes);
    let kinds: BTreeSet<String> = PiiKind::ALL.iter().map(|kind| kind.key().to_owned()).collect();
    assert_eq!(listed("/$defs/assessed/properties/pii/items/properties/kind/enum"), kinds);
    let documented = text("docs/wire-format.md");
    let missing: Vec<_> = reasons.union(&attributes).filter(|key| !documented.contains(&format!("`{key}`"))).collect();
    assert!(missing.is_empty(), "docs/wire-format.md does not explain {missing:?}");
}

fn schema(name: &str) -> Value {
    serde_json::from_str(&text(&format!("docs/schemas/{name}"))).unwrap_or_else(|error| panic!("{name}: {error}"))
}

#[test]
fn the_event_of_a_judgement_holds_what_assess_prints() {
    let (mut event, mut line) = (schema("assessed-event.v1.json"), schema("assessed.v1.json"));
    for key in ["consultation", "source", "revision"] {
        assert!(event["properties"].as_object_mut().unwrap().remove(key).is_some(), "{key}");
    }
    assert_eq!(event["properties"], line["$defs"]["assessed"]["properties"]);
    let required = event["required"].as_array_mut().unwrap();
    required.retain(|key| key != "consultation" && key != "source");
    assert_eq!(event["required"], line["$defs"]["assessed"]["required"]);
    for alone in ["assessed", "error"] {
        line["$defs"].as_object_mut().unwrap().remove(alone);
    }
    assert_eq!(event["$defs"], line["$defs"]);
}

#[test]
fn every_example_event_fits_its_schemas() {
    let fits = |name: &str, value: &Value| {
        let schema = schema(name);
        jsonschema::draft202012::meta::validate(&schema).unwrap_or_else(|error| panic!("{name}: {error}"));
        let validator = jsonschema::draft202012::new(&schema).unwrap();
        let wrong: Vec<String> = validator.iter_errors(value).map(|error| error.to_string()).collect();
        assert!(wrong.is_empty(), "{name}: {wrong:?}\n{value}");
    };
    let documented = text("docs/wire-format.md");
    let blocks = Regex::new(r"(?s)```json\n(.*?)```").unwrap();
    let mut kinds = BTreeSet::new();
    for block in blocks.captures_iter(&documented) {
        for event in serde_json::Deserializer::from_str(&block[1]).into_iter::<Value>() {
            let event = event.unwrap();
            fits("event.v1.json", &event);
            let kind = event["type"].as_str().unwrap();
            match kind {
                "comment.created.v1" | "comment.edited.v1" => fits("comment.v1.json", &event["data"]),
                "comment.assessed.v1" => fits("assessed-event.v1.json", &event["data"]),
                "alert.safeguarding.v1" => fits("alert.v1.json", &event["data"]),
                // It need not have a text.
                "comment.deleted.v1" => {}
                other => panic!("no schema is known for {other}"),
            }
            kinds.insert(kind.to_owned());
        }
    }
    assert_eq!(kinds.len(), 5, "{kinds:?}");
    // No example of a failed row is shown; its own schema is one all the same.
    let row = RowFailedV1::from(&FailedRow {
        consultation: ConsultationId::new("mentoring").unwrap(),
        source: "responses".to_owned(),
        id: None,
        row: 7,
        reason: "blank".to_owned(),
        detail: "nothing visible was written".to_owned(),
        raw: String::new(),
        fingerprint: "0".repeat(64),
    });
    fits("row-failed.v1.json", &serde_json::to_value(row).unwrap());
}

#[test]
fn every_link_between_documents_leads_somewhere() {
    let mut documents = files("docs", "md");
    documents.extend(["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md"].map(str::to_owned));
    let link = Regex::new(r"\]\(([^)#\s]+)(?:#[^)]*)?\)").unwrap();
    let mut wrong = Vec::new();
    for file in documents {
        let beside = root().join(&file).parent().map(PathBuf::from).unwrap();
        for found in link.captures_iter(&text(&file)) {
            if !found[1].contains("://") && !beside.join(&found[1]).exists() {
                wrong.push(format!("{file} links to {}", &found[1]));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[test]
fn the_walls_are_seen_where_they_are_broken() {
    let source = "// crate::web\nuse crate::store::sqlite;\nlet a = \"crate::cli\"; let c = '\"'; crate::engine::pool::x();\n\
                  #[cfg(test)]\nmod tests {\n    use crate::web::router;\n}\n";
    let stripped = code(source);
    let found = names("src/domain/x.rs", without_tests(&stripped));
    assert_eq!(
        found.iter().map(String::as_str).collect::<Vec<_>>(),
        ["engine", "engine::pool", "store", "store::sqlite"]
    );
    assert_eq!(code("/* unsafe\n */ r\"unsafe\" 'a' b"), "\"\n\" \"\" \"\" b");
    assert!(code("fn f<'a>(x: &'a str) -> &'a str").contains("&'a str"));
}

/// Every text in the source, with line continuations and escapes as they are printed.
fn source_texts() -> String {
    let all: String = files("src", "rs").iter().map(|file| text(file)).collect();
    let continued = Regex::new(r"\\\n\s*").unwrap();
    continued.replace_all(&all, "").replace("\\\"", "\"")
}

#[test]
fn every_sentence_that_the_runbook_quotes_is_said_by_the_source() {
    let source = source_texts();
    let fence = Regex::new(r"(?s)```text\n(.*?)```").unwrap();
    let check = Regex::new(r"^(?:ok|warn|FAIL)  (\w[\w ]*?)(?:  |$)").unwrap();
    let (mut wrong, mut quoted) = (Vec::new(), 0);
    let pages = files("docs/runbook", "md");
    assert!(pages.len() >= 18, "{pages:?}");
    for page in pages {
        let page_text = text(&page);
        assert!(page_text.contains("**Comments.**") && page_text.contains("**Do.**"), "{page} leaves something out");
        for block in fence.captures_iter(&page_text) {
            for line in block[1].lines() {
                let mut rest = line.trim();
                if let Some(found) = check.captures(line) {
                    if !source.contains(&format!("\"{}\"", &found[1])) {
                        wrong.push(format!("{page}: doctor has no check `{}`", &found[1]));
                    }
                    rest = &line[found.get(0).unwrap().end()..];
                }
                let rest = rest.trim_start_matches("what to do: ");
                // What differs from case to case is written as an ellipsis.
                for piece in rest.split('…').map(|piece| piece.trim().trim_matches(['`', '.'])) {
                    if piece.len() >= 4 {
                        quoted += 1;
                        if !source.contains(piece) {
                            wrong.push(format!("{page}: nothing says `{piece}`"));
                        }
                    }
                }
            }
        }
    }
    assert!(quoted > 60, "only {quoted} quotations were found");
    assert!(wrong.is_empty(), "\n  {}", wrong.join("\n  "));
}

#[test]
fn every_page_of_the_runbook_is_in_its_index() {
    let index = text("docs/runbook.md");
    for page in files("docs/runbook", "md") {
        let link = page.trim_start_matches("docs/");
        assert!(index.contains(&format!("]({link})")), "docs/runbook.md does not name {link}");
    }
}

#[test]
fn every_metric_that_is_named_anywhere_is_counted_and_every_counted_one_is_explained() {
    let names: BTreeSet<String> = Regex::new(r#"pub const \w+: &str = "(moothall_\w+)""#)
        .unwrap()
        .captures_iter(&text("src/telemetry.rs"))
        .map(|found| found[1].to_owned())
        .collect();
    assert!(names.len() > 20, "{names:?}");
    let mut places = files("docs", "md");
    for ending in ["json", "yaml", "yml", "md"] {
        places.extend(files("packaging", ending));
    }
    places.push("README.md".to_owned());
    // A metric and nothing that is merely called so: a secret's file, a database.
    let spoken_of =
        Regex::new(r"\bmoothall_(?:\w+_total|queue_\w+|outbox_\w+|broker_\w+|disclosures_\w+|webhook\w*)\b").unwrap();
    let mut wrong = Vec::new();
    for place in &places {
        for found in spoken_of.find_iter(&text(place)) {
            if !names.contains(found.as_str()) {
                wrong.push(format!("{place} names {}, which nothing counts", found.as_str()));
            }
        }
    }
    let all: String = places.iter().map(|place| text(place)).collect();
    wrong.extend(names.iter().filter(|name| !all.contains(*name)).map(|name| format!("{name} is explained nowhere")));
    assert!(wrong.is_empty(), "\n  {}", wrong.join("\n  "));
}
