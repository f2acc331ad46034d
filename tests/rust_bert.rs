//! The engine on libtorch against the built-in one on the same files, and models of an
//! operator's own beside ours. Needs the feature `rust-bert`; `./test engines` runs it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "rust_bert/tiny.rs"]
mod tiny;

use std::collections::BTreeMap;
use std::io::{Seek, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use moothall::assess::read::{ReadHints, read};
use moothall::domain::reading::Reading;
use moothall::domain::rulebook::Rulebook;
use moothall::domain::score::{Distribution, Signals};
use moothall::engine::choice::{Device, EngineChoice};
use moothall::engine::manifest::ManifestFile;
use moothall::engine::windows::windows;
use moothall::engine::{Models, Scorer};
use moothall::settings::{RulebookFiles, load_rulebook};
use serde_json::{Value, json};
use tiny::Tiny;

const LIBTORCH: EngineChoice = EngineChoice::RustBert(Device::Cpu);

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn rulebook(consultation: &str, folder: Option<&Path>) -> Result<Rulebook, String> {
    let manifest = ManifestFile::read(&root().join("models")).unwrap();
    let files = RulebookFiles::find(consultation, folder).unwrap();
    load_rulebook(&files, &manifest, false).map_err(|problems| problems.to_string())
}

fn scorer(rulebook: &Rulebook, engine: EngineChoice) -> Scorer {
    Scorer::new(Models::load(&root().join("models"), rulebook, engine).unwrap())
}

/// Comments written for this project, one in so many of each file, and texts that no one would write.
fn texts() -> Vec<String> {
    let mut texts = Vec::new();
    for file in ["mentoring/themes-a", "mentoring/abuse", "mentoring/safeguarding", "mentoring/spam", "next/attributes"]
    {
        let lines = std::fs::read_to_string(root().join(format!("models/data/{file}.jsonl"))).unwrap();
        let own: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let step = own.len() / 36;
        texts.extend(own.iter().step_by(step).take(36).map(|line| line["text"].as_str().unwrap().to_owned()));
    }
    let long = "Our youth club kept me off the streets, and nobody asked us before they cut it. ".repeat(40);
    texts.extend(
        [
            "",
            " \n\t ",
            ".",
            "👍",
            "👩‍👩‍👧‍👦🏳️‍🌈💔🔥",
            "我们需要更多的导师和活动",
            "メンターはとても大切です。",
            "Мне помог мой наставник.",
            "مرشدي غيّر حياتي",
            "y0u @re a l0$er",
            "i d i o t s",
            "Z̷̡a̶l̸g̵o̷ t̴e̸x̵t̶",
            "\u{200b}\u{feff}\u{202e}evil",
            "a",
            "[CLS] [SEP] [MASK]",
            "<b>bold</b> &amp; <script>alert(1)</script>",
            "https://example.com/?q=1 www.example.org",
            "NO!!!!! NEVER!!!!!!",
            "Dw i'n caru fy mentor",
            "supercalifragilisticexpialidociousandthensomemoreofit",
            long.as_str(),
        ]
        .map(str::to_owned),
    );
    texts.push("😀".repeat(700));
    texts.push("word ".repeat(600));
    texts
}

fn readings(texts: &[String]) -> Vec<Reading> {
    texts.iter().map(|text| read(text, ReadHints { language: Some("en"), default_language: "en" })).collect()
}

/// Every probability that an engine gave, by name.
fn probabilities(signals: &Signals) -> BTreeMap<String, f32> {
    let mut all = BTreeMap::new();
    for (attribute, score) in &signals.attributes {
        all.insert(attribute.key().to_owned(), score.probability.get());
    }
    for theme in &signals.themes {
        all.insert(format!("theme {}", theme.theme), theme.score.probability.get());
    }
    let mut add = |name: &str, label: &str, p: f32| all.insert(format!("{name} {label}"), p);
    for (label, p) in signals.stance.iter().flat_map(Distribution::entries) {
        add("stance", label.key(), p.get());
    }
    for (label, p) in signals.attitude.iter().flat_map(Distribution::entries) {
        add("attitude", label.key(), p.get());
    }
    for (label, p) in signals.polarity.iter().flat_map(Distribution::entries) {
        add("polarity", label.key(), p.get());
    }
    for (label, p) in signals.tone.iter().flat_map(Distribution::entries) {
        add("tone", label.key(), p.get());
    }
    all
}

#[test]
fn both_engines_give_the_same_logits_and_probabilities_for_200_texts() {
    let texts = texts();
    assert!(texts.len() >= 200, "{}", texts.len());
    let rulebook = rulebook("mentoring", None).unwrap();
    let readings = readings(&texts);
    let readings: Vec<&Reading> = readings.iter().collect();
    let (mut own, mut other) = (scorer(&rulebook, EngineChoice::BuiltIn), scorer(&rulebook, LIBTORCH));

    let (mut compared, mut worst_logit) = (0, 0.0_f32);
    for (place, (left, right)) in
        own.combined_logits(&readings).iter().zip(other.combined_logits(&readings)).enumerate()
    {
        assert_eq!(left.len(), right.len(), "text {place}");
        for ((head, left), (_, right)) in left.iter().zip(&right) {
            for (left, right) in left.iter().zip(right) {
                let apart = (left - right).abs();
                assert!(apart < 1e-4, "text {place}, {head}: {left} and {right}");
                (compared, worst_logit) = (compared + 1, worst_logit.max(apart));
            }
        }
    }
    assert!(compared > 150 * 30, "{compared} logits");
    let mut worst = 0.0_f32;
    for (place, (left, right)) in own.score(&readings).iter().zip(other.score(&readings)).enumerate() {
        let (left, right) = (probabilities(left), probabilities(&right));
        assert!(left.keys().eq(right.keys()), "text {place}");
        for (name, value) in &left {
            let apart = (value - right[name]).abs();
            assert!(apart < 1e-4, "text {place}, {name}: {value} and {}", right[name]);
            worst = worst.max(apart);
        }
    }
    println!("{} texts, {compared} logits: at most {worst_logit:.1e} apart; probabilities {worst:.1e}", texts.len());
}

#[test]
fn a_comment_scores_the_same_alone_and_among_others_but_for_float_noise() {
    let rulebook = rulebook("mentoring", None).unwrap();
    let texts: Vec<String> = texts().into_iter().step_by(5).collect();
    let readings = readings(&texts);
    let readings: Vec<&Reading> = readings.iter().collect();
    let mut scorer = scorer(&rulebook, LIBTORCH);
    let together = scorer.combined_logits(&readings);
    let mut worst = 0.0_f32;
    for (reading, among) in readings.iter().zip(&together) {
        let alone = scorer.combined_logits(&[*reading]);
        for ((head, alone), (_, among)) in alone[0].iter().zip(among) {
            for (alone, among) in alone.iter().zip(among) {
                assert!((alone - among).abs() < 5e-5, "{head}: {alone} and {among}");
                worst = worst.max((alone - among).abs());
            }
        }
    }
    println!("alone and among others: at most {worst:.1e} apart");
}

#[test]
fn threads_share_the_weights_and_give_the_same_answers() {
    let rulebook = rulebook("mentoring", None).unwrap();
    let models = Models::load(&root().join("models"), &rulebook, LIBTORCH).unwrap();
    let readings = readings(&texts()[..12]);
    let score = || Scorer::new(Arc::clone(&models)).score(&readings.iter().collect::<Vec<_>>());
    let first = score();
    let others: Vec<Vec<Signals>> = std::thread::scope(|scope| {
        let running: Vec<_> = (0..3).map(|_| scope.spawn(score)).collect();
        running.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(others.iter().all(|other| *other == first));
}

// --- models of an operator's own --------------------------------------------

/// A consultation `own` whose policy has the shipped rules, this scorer, and what is added.
fn consultation(folder: &Path, model: &Path, more: &str) -> PathBuf {
    let own = folder.join("own");
    std::fs::create_dir_all(&own).unwrap();
    let shipped = root().join("config/mentoring");
    let text = std::fs::read_to_string(shipped.join("consultation.toml")).unwrap();
    std::fs::write(own.join("consultation.toml"), text.replace("\"mentoring\"", "\"own\"")).unwrap();
    let policy = std::fs::read_to_string(root().join("config/none/policy.toml")).unwrap();
    let scorer = format!("\n[[extra_scorer]]\nname = \"tiny\"\npath = {:?}\n{more}\n", model.display().to_string());
    std::fs::write(own.join("policy.toml"), policy + &scorer).unwrap();
    folder.to_owned()
}

fn assess(consultations: &Path, texts: &[&str]) -> Vec<Value> {
    let mut input = tempfile::tempfile().unwrap();
    for (at, text) in texts.iter().enumerate() {
        writeln!(input, "{}", json!({"id": at.to_string(), "text": text, "language": "en"})).unwrap();
    }
    input.rewind().unwrap();
    let done = Command::new(env!("CARGO_BIN_EXE_moothall"))
        .args(["assess", "--threads", "2", "--consultation", "own", "--consultations"])
        .arg(consultations)
        .current_dir(root())
        .stdin(Stdio::from(input))
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn an_extra_scorer_gives_what_a_forward_pass_by_hand_gives() {
    let folder = tempfile::tempdir().unwrap();
    let model = Tiny::bert(folder.path().join("model"), &["Friendly", "Hate Speech", "LABEL_2"], false);
    let own = consultation(&folder.path().join("c"), &model.folder, "");
    let texts = ["the bus was late", "a good word", "late late late good bus unknownword"];
    let found = assess(&own, &texts);
    let schema: Value =
        serde_json::from_str(&std::fs::read_to_string(root().join("docs/schemas/assessed.v1.json")).unwrap()).unwrap();
    let schema = jsonschema::draft202012::new(&schema).unwrap();
    for (text, line) in texts.iter().zip(&found) {
        assert!(schema.is_valid(line), "{line}");
        let logits = model.logits(&tiny::ids(text));
        let shares: Vec<f64> = logits.iter().map(|logit| logit.exp()).collect();
        for (label, share) in ["friendly", "hate_speech", "label_2"].iter().zip(&shares) {
            let expected = share / shares.iter().sum::<f64>();
            let given = line["attributes"][format!("extra.tiny.{label}")].as_f64().unwrap();
            assert!((given - expected).abs() < 1e-4, "{text}, {label}: {given}, not {expected}");
        }
    }
}

#[test]
fn a_long_text_is_read_in_windows_by_an_extra_scorer_too() {
    let folder = tempfile::tempdir().unwrap();
    let text = format!("{} good {}", "the bus was late ".repeat(60), "a word ".repeat(40));
    for alone in [true, false] {
        let model = Tiny::bert(folder.path().join(format!("model-{alone}")), &["x", "y"], alone);
        let own = consultation(&folder.path().join(format!("c-{alone}")), &model.folder, "");
        let ids = tiny::ids(&text);
        let inner = &ids[1..ids.len() - 1];
        let size = tiny::POSITIONS - 2;
        let windows: Vec<(f64, Vec<f64>)> = windows(inner.len(), size, size / 4)
            .into_iter()
            .map(|(start, end)| {
                let window = [&ids[..1], &inner[start..end], &ids[ids.len() - 1..]].concat();
                (window.len() as f64, model.logits(&window))
            })
            .collect();
        assert!(windows.len() > 5);
        let expected = if alone {
            let highest = windows.iter().map(|(_, logits)| logits[0]).fold(f64::NEG_INFINITY, f64::max);
            1.0 / (1.0 + (-highest).exp())
        } else {
            let total: f64 = windows.iter().map(|(length, _)| length).sum();
            let mean = |label: usize| windows.iter().map(|(length, of)| of[label] * length).sum::<f64>() / total;
            1.0 / (1.0 + (mean(1) - mean(0)).exp())
        };
        let found = assess(&own, &[&text]);
        let given = found[0]["attributes"]["extra.tiny.x"].as_f64().unwrap();
        assert!((given - expected).abs() < 1e-4, "alone {alone}: {given}, not {expected}");
    }
}

#[test]
fn rules_may_name_what_an_extra_scorer_says_and_safeguarding_stays_above_it() {
    let folder = tempfile::tempdir().unwrap();
    let model = Tiny::bert(folder.path().join("model"), &["x", "y"], true);
    let rule = "labels = { x = \"hostile\" }\n[[rule]]\nid = \"own\"\nattribute = \"extra.tiny.hostile\"\nfrom = 0.0\n\
                verdict = \"reject\"\nreason = \"abuse.toxic\"";
    let own = consultation(&folder.path().join("c"), &model.folder, rule);
    let found = assess(&own, &["the bus was late", "my uncle hits me every night and i am scared to go home", " "]);
    assert_eq!(found[0]["verdict"], "reject");
    assert_eq!(found[0]["reasons"][0]["attribute"], "extra.tiny.hostile");
    assert_eq!(found[0]["attributes"]["extra.tiny.y"], Value::Null, "not asked for");
    assert_eq!(found[1]["verdict"], "escalate");
    assert!(found[1]["attributes"]["safeguarding"].as_f64().unwrap() > 0.1);
    assert_eq!((&found[2]["verdict"], &found[2]["attributes"]["extra.tiny.hostile"]), (&json!("hold"), &Value::Null));
}

#[test]
fn other_weights_give_another_pipeline_version() {
    let folder = tempfile::tempdir().unwrap();
    let model = Tiny::bert(folder.path().join("model"), &["x", "y"], true);
    let own = consultation(&folder.path().join("c"), &model.folder, "");
    let version = || rulebook("own", Some(&own)).unwrap().version;
    let first = version();
    assert_eq!(version(), first);
    let weights = model.folder.join("model.safetensors");
    let mut bytes = std::fs::read(&weights).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&weights, bytes).unwrap();
    assert_ne!(version(), first);
}

#[test]
fn a_model_that_cannot_be_run_is_refused_with_file_and_reason() {
    let folder = tempfile::tempdir().unwrap();
    let model = Tiny::bert(folder.path().join("model"), &["x", "y"], true);
    let refused = |more: &str| {
        let own = consultation(&folder.path().join("c"), &model.folder, more);
        let rulebook = rulebook("own", Some(&own))?;
        let loaded = Models::load(&root().join("models"), &rulebook, EngineChoice::BuiltIn);
        loaded.map(|_| ()).map_err(|error| error.to_string())
    };
    refused("").unwrap();
    for (more, expected) in [
        ("labels = { z = \"hostile\" }", "name `z`, and the model's labels are x, y"),
        ("labels = { x = \"Hostile\" }", "give `x` the name `Hostile`"),
        ("labels = { x = \"one\", y = \"one\" }", "give `y` the name `one`"),
        ("colour = \"red\"", "`extra_scorer[1].colour` is not a key here"),
        (
            "[[rule]]\nid = \"o\"\nattribute = \"extra.tiny.z\"\nfrom = 0.5\nverdict = \"hold\"\nreason = \"abuse.toxic\"",
            "they give extra.tiny.x, extra.tiny.y",
        ),
        (
            "[[rule]]\nid = \"o\"\nattribute = \"extra.tiny.x\"\nfrom = 0.5\nverdict = \"hold\"",
            "`rule[5].reason` is missing",
        ),
    ] {
        let problem = refused(more).unwrap_err();
        let expected = expected.replace("rule[5]", &format!("rule[{}]", last_rule(&folder.path().join("c"))));
        assert!(problem.contains(&expected), "{expected} is not in\n{problem}");
    }
    let weights = model.folder.join("model.safetensors");
    std::fs::write(&weights, b"not weights").unwrap();
    assert!(refused("").unwrap_err().contains("not a safetensors file"));
    std::fs::remove_file(&weights).unwrap();
    assert!(refused("").unwrap_err().contains("has no weights: model.safetensors or rust_model.ot"));
}

/// The number of the last rule in a policy.
fn last_rule(consultations: &Path) -> usize {
    std::fs::read_to_string(consultations.join("own/policy.toml")).unwrap().matches("[[rule]]").count()
}

#[test]
fn libtorch_files_and_byte_pairs_are_read_too() {
    let folder = tempfile::tempdir().unwrap();
    let (model, expected) = tiny::roberta(folder.path().join("model"), "the bus was late");
    let own = consultation(&folder.path().join("c"), &model, "");
    let found = assess(&own, &["the bus was late"]);
    let given = found[0]["attributes"]["extra.tiny.label_1"].as_f64().unwrap();
    assert!((given - expected).abs() < 1e-4, "{given}, not {expected}");
}
