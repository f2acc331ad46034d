//! `moothall codebook`, on the built binary: an officer writes themes, checks them,
//! trains, and comments are tagged by them.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use serde_json::Value;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn moothall(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_moothall"));
    command.args(arguments).current_dir(root());
    for name in ["MOOTHALL_CONFIG", "MOOTHALL_CONSULTATION", "MOOTHALL_CONSULTATIONS", "MOOTHALL_MODELS"] {
        command.env_remove(name);
    }
    command
}

/// Exit status, and everything said.
fn ended(command: &mut Command) -> (i32, String) {
    let done = command.output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(!said.contains("panicked"), "{said}");
    (done.status.code().unwrap(), said)
}

const BUSES: [&str; 12] = [
    "The number nine bus never comes on Sundays.",
    "Buses stop at eight and then you walk home.",
    "Waited forty minutes at the bus stop in the rain.",
    "The driver went straight past the stop again.",
    "We need a later bus back from town.",
    "Bus fares have gone up twice this year.",
    "No bus goes near the hospital any more.",
    "The timetable at the stop is two years old.",
    "A direct bus to the college would change my week.",
    "My gran relies on that bus and you cut it.",
    "Buses are packed at school time and half empty after.",
    "The bus is the only way I can get to work.",
];

const PARKS: [&str; 12] = [
    "The swings in the park have been broken since spring.",
    "More benches in the park, please, and some shade.",
    "Dogs run loose in the park and nobody minds them.",
    "The park is the best thing about this estate.",
    "Please plant trees along the edge of the playing field.",
    "Flower beds in the park look lovely this summer.",
    "The pond in the park is full of rubbish.",
    "Children need a proper playground with grass.",
    "Litter all over the playing field every Monday.",
    "I walk in the park each morning and it keeps me sane.",
    "The park gates are locked too early in winter.",
    "Mow the grass in the park more than twice a year.",
];

/// A consultation about buses and parks in `folder/town`; `more` ends its codebook.
fn town(folder: &Path, more: &str) -> PathBuf {
    let place = folder.join("town");
    fs::create_dir_all(&place).unwrap();
    for name in ["consultation.toml", "policy.toml"] {
        let text = fs::read_to_string(root().join("config/mentoring").join(name)).unwrap();
        fs::write(place.join(name), text.replace("\"mentoring\"", "\"town\"")).unwrap();
    }
    let mut text = "id = \"town\"\nversion = \"1\"\n".to_owned();
    if more.starts_with("[training]") {
        text += more;
    }
    for (id, label, definition, examples) in [
        ("buses", "Buses", "Getting about by bus: stops, times, fares and routes", BUSES),
        ("parks", "Parks", "Parks and green places: grass, trees, playgrounds and benches", PARKS),
    ] {
        write!(
            text,
            "[[theme]]\nid = \"{id}\"\nlabel = \"{label}\"\ndefinition = \"{definition}\"\nincludes = [\"{label}\"]\n\
             at = \"tag\"\nexamples = {examples:?}\n"
        )
        .unwrap();
    }
    if !more.starts_with("[training]") {
        text += more;
    }
    fs::write(place.join("codebook.toml"), text).unwrap();
    place
}

fn train(place: &Path, more: &[&str]) -> String {
    let (code, said) = ended(moothall(&["codebook", "train"]).arg(place).args(more));
    assert_eq!(code, 0, "{said}");
    said
}

/// The folder of the heads in force.
fn in_force(place: &Path) -> PathBuf {
    let pointer = fs::read_to_string(place.join("heads/active.toml")).unwrap();
    let table: toml::Table = toml::from_str(&pointer).unwrap();
    place.join("heads").join(table["version"].as_str().unwrap())
}

/// The theme keys that each text is tagged with.
fn tags(consultations: &Path, consultation: &str, texts: &[&str]) -> Vec<Vec<String>> {
    let input: String = texts
        .iter()
        .enumerate()
        .map(|(at, text)| serde_json::json!({"id": at.to_string(), "text": text}).to_string() + "\n")
        .collect();
    let mut command = moothall(&["assess", "--consultation", consultation, "--consultations"]);
    let done = command.arg(consultations).write_stdin(input).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let lines = String::from_utf8(done.stdout).unwrap();
    lines
        .lines()
        .map(|line| {
            let line: Value = serde_json::from_str(line).unwrap();
            line["themes"].as_array().unwrap().iter().map(|theme| theme["id"].as_str().unwrap().to_owned()).collect()
        })
        .collect()
}

#[test]
fn two_themes_of_twelve_examples_tag_comments_that_nobody_wrote_before() {
    let folder = tempfile::tempdir().unwrap();
    let place = town(folder.path(), "");
    let (code, said) =
        ended(moothall(&["check-config", "--consultation", "town", "--consultations"]).arg(folder.path()));
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("nothing was trained") && said.contains("moothall codebook train"), "{said}");

    let said = train(&place, &[]);
    assert!(said.contains("Weak themes") && said.contains("`buses` has 12 examples"), "{said}");
    let unseen = [
        ("The last bus leaves before my shift ends.", "buses"),
        ("Put the fare up again and I shall stop taking the bus.", "buses"),
        ("Nobody empties the bins in the park.", "parks"),
        ("A bench under the trees would be nice.", "parks"),
    ];
    let found = tags(folder.path(), "town", &unseen.map(|(text, _)| text));
    let right = found.iter().zip(unseen).filter(|(found, (_, theme))| **found == [*theme]).count();
    assert!(right >= 3, "{found:?}");
}

#[test]
fn the_same_examples_give_the_same_bytes_and_a_dry_run_writes_none() {
    let folder = tempfile::tempdir().unwrap();
    let (one, other) = (town(&folder.path().join("one"), ""), town(&folder.path().join("other"), ""));
    let said = train(&one, &["--dry-run"]);
    assert!(said.contains("nothing written") && !one.join("heads").exists(), "{said}");
    train(&one, &[]);
    train(&other, &[]);
    assert_eq!(in_force(&one).file_name(), in_force(&other).file_name());
    for name in ["heads.toml", "heads.safetensors"] {
        assert!(
            fs::read(in_force(&one).join(name)).unwrap() == fs::read(in_force(&other).join(name)).unwrap(),
            "{name}"
        );
    }
}

#[test]
fn earlier_heads_stay_and_one_line_goes_back_to_them() {
    let folder = tempfile::tempdir().unwrap();
    let place = town(folder.path(), "");
    train(&place, &[]);
    let first = in_force(&place);
    let book = place.join("codebook.toml");
    let text = fs::read_to_string(&book).unwrap();
    fs::write(&book, text.replace("Buses stop at eight", "The buses all stop at nine")).unwrap();
    train(&place, &[]);
    let second = in_force(&place);
    assert_ne!(first, second);
    assert!(first.join("heads.safetensors").is_file());
    let pipeline = || {
        let (code, said) =
            ended(moothall(&["check-config", "--consultation", "town", "--consultations"]).arg(folder.path()));
        assert_eq!(code, 0, "{said}");
        said.lines().find(|line| line.starts_with("pipeline")).unwrap().to_owned()
    };
    let with_second = pipeline();
    let name = first.file_name().unwrap().to_str().unwrap();
    fs::write(place.join("heads/active.toml"), format!("version = \"{name}\"\n")).unwrap();
    assert_ne!(pipeline(), with_second, "heads are part of the pipeline's version");
}

#[test]
fn heads_of_another_encoder_and_changed_heads_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let place = town(folder.path(), "");
    train(&place, &[]);
    let description = in_force(&place).join("heads.toml");
    let text = fs::read_to_string(&description).unwrap();
    let encoder: toml::Table = toml::from_str(&text).unwrap();
    let sha256 = encoder["encoder"]["weights_sha256"].as_str().unwrap();
    fs::write(&description, text.replace(sha256, &"0".repeat(64))).unwrap();
    let check = || ended(moothall(&["check-config", "--consultation", "town", "--consultations"]).arg(folder.path()));
    let (code, said) = check();
    assert_ne!(code, 0, "{said}");
    assert!(said.contains("trained on the encoder 000000000000") && said.contains("moothall codebook train"), "{said}");

    fs::write(&description, &text).unwrap();
    let weights = in_force(&place).join("heads.safetensors");
    let mut bytes = fs::read(&weights).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&weights, bytes).unwrap();
    let (code, said) = check();
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("heads.safetensors") && said.contains("has checksum"), "{said}");
}

#[test]
fn held_out_rows_are_never_learnt_from() {
    let folder = tempfile::tempdir().unwrap();
    let place = town(folder.path(), "[training]\nexamples = [\"*.jsonl\"]\n");
    let row = |text: &str, theme: &str| serde_json::json!({"text": text, "themes": [theme]}).to_string() + "\n";
    let weights = |theme: &str| {
        let text: String = BUSES.iter().map(|text| row(&format!("{text} Really."), theme)).collect();
        fs::write(place.join("town-heldout.jsonl"), text).unwrap();
        let said = train(&place, &[]);
        assert!(said.contains("12 held out"), "{said}");
        fs::read(in_force(&place).join("heads.safetensors")).unwrap()
    };
    assert!(weights("buses") == weights("parks"), "the labels of held-out rows changed the heads");
}

#[test]
fn corrections_teach_and_blind_codes_are_left_out_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    let place = town(folder.path(), "");
    let plain = train(&place, &[]);
    assert!(plain.contains("0 corrections in review, 0 blind codes left out"), "{plain}");
    let without = fs::read(in_force(&place).join("heads.safetensors")).unwrap();
    let file = folder.path().join("corrections.jsonl");
    let path = file.to_str().unwrap();
    let row = |origin: &str, text: &str| {
        format!("{{\"text\": \"{text}\", \"themes\": [\"parks\"], \"origin\": \"{origin}\"}}\n")
    };

    fs::write(&file, row("check_sample", "The allotments are a treasure.")).unwrap();
    let said = train(&place, &["--corrections", path, "--holdout", "none"]);
    assert!(said.contains("0 corrections in review, 1 blind code left out"), "{said}");
    assert!(without == fs::read(in_force(&place).join("heads.safetensors")).unwrap(), "a blind code taught");

    fs::write(&file, row("review", "The allotments are a treasure.")).unwrap();
    let said = train(&place, &["--corrections", path, "--holdout", "none"]);
    assert!(said.contains("1 correction in review, 0 blind codes left out"), "{said}");
    assert!(without != fs::read(in_force(&place).join("heads.safetensors")).unwrap(), "a correction taught nothing");

    fs::write(&file, row("somewhere", "The allotments are a treasure.")).unwrap();
    let (code, said) = ended(moothall(&["codebook", "train", "--corrections", path]).arg(&place));
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("line 1") && said.contains("`review` or `check_sample`"), "{said}");
}

#[test]
fn check_names_every_problem_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let place = town(folder.path(), "[training]\nexamples = [\"rows.jsonl\", \"absent.csv\"]\nexmples = []\n");
    let book = place.join("codebook.toml");
    let text = fs::read_to_string(&book).unwrap()
        + "[[theme]]\nid = \"Bus Stops\"\ndefinition = \"x\"\n[[theme]]\nid = \"parks\"\ndefinition = \"y\"\n\
           [[theme]]\nid = \"libraries\"\n[stance]\nstructured = \"buses\"\norganic = \"trams\"\n";
    fs::write(&book, text).unwrap();
    fs::write(
        place.join("rows.jsonl"),
        "{\"text\": \"Trams!\", \"themes\": [\"trams\"]}\n{\"themes\": []}\nnot json\n{\"text\": \"x y\", \"tone\": \"loud\"}\n",
    )
    .unwrap();
    let (code, said) = ended(moothall(&["codebook", "check", "--quick"]).arg(&place));
    assert_eq!(code, 2, "{said}");
    for expected in [
        "`training.exmples` is not a key here; did you mean `examples`?",
        "`theme[3].id` is `Bus Stops`",
        "`parks` is used twice",
        "`theme[5].definition` is missing",
        "`stance.organic` is `trams`, which is no theme",
        "`absent.csv` matches no file",
        "`line 1` names theme `trams`",
        "`line 2` has no `text`",
        "`line 3` is no JSON object",
        "`line 4` `tone` is `loud`",
    ] {
        assert!(said.contains(expected), "{expected} is not in\n{said}");
    }
}

#[test]
fn check_finds_what_is_doubtful_and_strict_makes_it_count() {
    let folder = tempfile::tempdir().unwrap();
    let more = format!(
        "[[theme]]\nid = \"park\"\nlabel = \"Park\"\ndefinition = \"The park\"\nexamples = [\"Open it.\", {:?}, {:?}, {:?}, {:?}]\n",
        BUSES[0], BUSES[4], "The bus to the station is late each morning.", "A new bus shelter at the stop, please."
    );
    let place =
        town(folder.path(), &format!("{more}[[theme]]\nid = \"bins\"\ndefinition = \"Bins\"\nincludes = [\"bins\"]\n"));
    let (code, said) = ended(moothall(&["codebook", "check"]).arg(&place));
    assert_eq!(code, 2, "a theme without examples cannot be learnt: {said}");
    for expected in [
        "theme `park`.label `Park` reads like `Parks` of theme `parks`",
        "theme `park`.includes is empty",
        "theme `bins`.examples has 0 of at least 3 examples",
        "theme `buses`.examples has 12 examples",
        "reads more like `buses` than like the other examples of `park`",
    ] {
        assert!(said.contains(expected), "{expected} is not in\n{said}");
    }
    let fine = town(&folder.path().join("fine"), "");
    let check = |more: &[&str]| ended(moothall(&["codebook", "check"]).arg(&fine).args(more));
    assert_eq!(check(&[]).0, 0);
    assert_eq!(check(&["--strict"]).0, 1);
    let (_, said) = check(&["--json", "--quick"]);
    let found: Value = serde_json::from_str(said.lines().find(|line| line.starts_with('{')).unwrap()).unwrap();
    assert_eq!((found["errors"].as_u64(), found["themes"].as_u64()), (Some(0), Some(2)), "{found}");
}

#[test]
fn the_same_text_under_clashing_labels_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let place = town(folder.path(), "[training]\nexamples = [\"rows.csv\"]\n");
    fs::write(
        place.join("rows.csv"),
        "text,themes\n\"The bus, again\",buses\nthe BUS  again,none\n\"the bus, again\",parks\n\"A kind word\",\n",
    )
    .unwrap();
    let (code, said) = ended(moothall(&["codebook", "check", "--quick"]).arg(&place));
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("has the same text as") && said.contains("they disagree on `buses`, `parks`"), "{said}");
}

#[test]
fn a_ninth_theme_with_three_examples_is_tagged_after_one_command() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("ours");
    fs::create_dir_all(&place).unwrap();
    for name in ["consultation.toml", "policy.toml", "codebook.toml"] {
        fs::copy(root().join("config/mentoring").join(name), place.join(name)).unwrap();
    }
    let book = fs::read_to_string(place.join("codebook.toml")).unwrap();
    // Some of the shipped examples will do, and train in a moment.
    let rows = fs::read_to_string(root().join("models/data/next/themes.jsonl")).unwrap();
    fs::write(place.join("some.jsonl"), rows.lines().step_by(3).map(|line| line.to_owned() + "\n").collect::<String>())
        .unwrap();
    let mut lines: Vec<&str> = book.lines().collect();
    lines.retain(|line| !line.starts_with("encoder_saw"));
    let book = lines
        .iter()
        .map(|line| if line.starts_with("examples    =") { "examples = [\"some.jsonl\"]" } else { line })
        .collect::<Vec<_>>()
        .join("\n");
    let book = format!(
        "{book}\n[[theme]]\nid = \"food\"\nlabel = \"Food\"\ndefinition = \"Eating together: meals, snacks and breakfast at sessions\"\n\
         includes = [\"breakfast, toast, pizza, a hot meal\"]\nexamples = [\n\"The free breakfast is why half of them turn up.\",\n\
         \"Pizza at the sessions, please, they come straight from school hungry.\",\n\
         \"Sharing a hot meal did more than the talking.\"]\nat = \"tag\"\n"
    );
    fs::write(place.join("codebook.toml"), book).unwrap();
    let said = train(&place, &[]);
    assert!(said.contains("`food` has 3 examples"), "{said}");
    let found = tags(
        folder.path(),
        "ours",
        &["A hot breakfast before the session would help.", "The forms take an hour and the referral takes a month."],
    );
    assert!(found[0].contains(&"food".to_owned()), "{found:?}");
    assert!(!found[1].contains(&"food".to_owned()), "{found:?}");
}
