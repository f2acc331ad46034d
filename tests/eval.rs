//! `moothall eval` as a person runs it, on small sets written here.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

fn moothall(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_moothall"));
    command.current_dir(env!("CARGO_MANIFEST_DIR")).args(arguments).stdin(Stdio::null());
    command.env_remove("MOOTHALL_CONSULTATION");
    command
}

/// A folder with files in it, and the command run on them.
struct Bench(tempfile::TempDir);

impl Bench {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> String {
        fs::write(self.path(name), text).unwrap();
        self.path(name).display().to_string()
    }

    fn lines(&self, name: &str, lines: &[Value]) -> String {
        self.write(name, &joined(lines))
    }

    /// Every figure of a run that ends well.
    fn figures(&self, arguments: &[&str]) -> Value {
        let path = self.path("figures.json");
        eval(&[arguments, &["--json", path.to_str().unwrap()]].concat());
        serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
    }
}

fn joined(lines: &[impl ToString]) -> String {
    lines.iter().map(|line| line.to_string() + "\n").collect()
}

/// Standard output of a run that ends well.
fn eval(arguments: &[&str]) -> String {
    let output = moothall(&["eval"]).args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    String::from_utf8(output.stdout).unwrap()
}

/// What a refused run says, with its exit code.
fn refused(arguments: &[&str]) -> (i32, String) {
    let output = moothall(&["eval"]).args(arguments).output().unwrap();
    (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
}

/// One measure of one label in the first set.
fn measure<'a>(figures: &'a Value, label: &str, key: &str) -> &'a Value {
    let labels = figures["sets"][0]["labels"].as_array().unwrap();
    let label = labels.iter().find(|one| one["label"] == label).unwrap_or_else(|| panic!("no {label} in {labels:?}"));
    let measures = label["measures"].as_array().unwrap();
    &measures.iter().find(|one| one["key"] == key).unwrap_or_else(|| panic!("no {key} in {measures:?}"))["systems"]
}

fn value(figures: &Value, label: &str, key: &str, system: usize) -> f64 {
    measure(figures, label, key)[system]["value"].as_f64().unwrap()
}

/// An answer as `assess` prints it, with one attribute.
fn toxic(id: &str, probability: f64) -> Value {
    json!({"id": id, "attributes": {"toxic": probability}})
}

/// Forty rows, every second one toxic.
fn forty(bench: &Bench) -> String {
    let rows: Vec<Value> = (0..40).map(|row| json!({"id": format!("r{row}"), "toxic": row % 2})).collect();
    bench.lines("forty.jsonl", &rows)
}

#[test]
fn a_perfect_system_gets_one_and_a_shuffled_one_about_a_half() {
    let bench = Bench::new();
    let gold = forty(&bench);
    let perfect = |row: usize| 0.05 + 0.9 * (row % 2) as f64;
    let answers: Vec<Value> = (0..40).map(|row| toxic(&format!("r{row}"), perfect(row))).collect();
    let ours = bench.lines("ours.jsonl", &answers);
    // Fixed, and tied to nothing that is in the rows.
    let answers: Vec<Value> = (0..40).map(|row| toxic(&format!("r{row}"), f64::from(row * 7919 % 41) / 41.0)).collect();
    let against = format!("shuffled={}", bench.lines("shuffled.jsonl", &answers));
    let figures = bench.figures(&[&gold, "--predictions", &ours, "--against", &against]);
    assert_eq!(figures["sets"][0]["systems"], json!(["Moothall", "shuffled"]));
    for key in ["auc", "average_precision", "recall_at_2_fpr", "f1_at_half"] {
        assert!((value(&figures, "toxic", key, 0) - 1.0).abs() < 1e-9, "{key}");
    }
    let shuffled = value(&figures, "toxic", "auc", 1);
    assert!((shuffled - 0.5).abs() < 0.15, "{shuffled}");
    let difference = &measure(&figures, "toxic", "auc")[1]["difference"];
    assert!((difference["value"].as_f64().unwrap() - (1.0 - shuffled)).abs() < 1e-9, "{difference}");
    assert!(difference["interval"][0].as_f64().unwrap() > 0.2, "{difference}");
    // Each of the two said 0.05 or 0.95, and was right.
    assert!((value(&figures, "toxic", "ece", 0) - 0.05).abs() < 1e-9);
}

#[test]
fn systems_are_paired_by_id_whatever_the_order_and_the_gaps() {
    let bench = Bench::new();
    let gold = bench.write("gold.csv", "id,text,toxic\na,,1\nb,,0\nc,,1\nd,,0\n");
    let ours = bench.lines("ours.jsonl", &[toxic("d", 0.1), toxic("c", 0.9), toxic("b", 0.2), toxic("a", 0.15)]);
    // It knows nothing of `a`, where ours is wrong, and something of a row that is not in the set.
    let other = bench.lines("other.jsonl", &[toxic("b", 0.9), toxic("x", 0.5), toxic("c", 0.8), toxic("d", 0.7)]);
    let against = format!("other={other}");
    let figures = bench.figures(&[&gold, "--predictions", &ours, "--against", &against, "--resamples", "0"]);
    assert!((value(&figures, "toxic", "auc", 0) - 0.75).abs() < 1e-9);
    let other = &measure(&figures, "toxic", "auc")[1];
    assert_eq!((other["rows"].as_u64(), other["value"].as_f64()), (Some(3), Some(0.5)));
    // On the same three rows ours is right everywhere.
    assert_eq!(other["difference"], json!({"value": 0.5, "interval": null}));
    let remarks = figures["sets"][0]["remarks"].to_string();
    assert!(remarks.contains("No answer of other to 1 rows") && remarks.contains("1 answers of other"), "{remarks}");
}

#[test]
fn an_empty_label_is_left_out_and_never_counted_as_no() {
    let bench = Bench::new();
    let rows = "id,text,toxic,spam,themes\na,,1,,stigma;organic\nb,,0,0,\nc,,,1,none\nd,,1,,\n";
    let gold = bench.write("gold.csv", rows);
    let answers: Vec<Value> = ["a", "b", "c", "d"]
        .iter()
        .map(|id| json!({"id": id, "attributes": {"toxic": 0.8, "spam": 0.3}, "themes": [{"id": "organic"}]}))
        .collect();
    let ours = bench.lines("ours.jsonl", &answers);
    let figures = bench.figures(&[&gold, "--predictions", &ours, "--resamples", "0"]);
    let labels = figures["sets"][0]["labels"].as_array().unwrap();
    let counts = |label: &str| {
        let found = labels.iter().find(|one| one["label"] == label).unwrap();
        (found["rows"].as_u64().unwrap(), found["positives"].as_u64().unwrap())
    };
    assert_eq!((counts("toxic"), counts("spam"), counts("organic")), ((3, 2), (2, 1), (2, 1)));
    // Two rows have themes: stigma and organic are there once each, organic was applied twice.
    assert!((value(&figures, "themes", "micro_f1", 0) - 0.5).abs() < 1e-9);
}

#[test]
fn our_own_judgement_is_that_of_assess() {
    let bench = Bench::new();
    let texts = [
        ("a", "My mentor never gave up on me and I am grateful.", "positive"),
        ("b", "Spend the money on the library instead.", "negative"),
        ("c", "When does the scheme start?", "neutral"),
        ("d", "You stupid idiot, I hope you choke.", "neutral"),
    ];
    let rows: Vec<Value> = texts
        .iter()
        .map(|(id, text, sentiment)| json!({"id": id, "text": text, "sentiment": sentiment, "toxic": u8::from(*id == "d"), "themes": []}))
        .collect();
    let gold = bench.lines("gold.jsonl", &rows);
    let assessed = moothall(&["assess"]).stdin(fs::File::open(&gold).unwrap()).output().unwrap();
    assert!(assessed.status.success());
    let stored = bench.write("assessed.jsonl", &String::from_utf8(assessed.stdout).unwrap());
    let judged = bench.figures(&[&gold, "--resamples", "0", "--against", &format!("assess={stored}")]);
    for (label, key) in [("toxic", "auc"), ("toxic", "ece"), ("sentiment", "accuracy"), ("sentiment", "ece")] {
        let systems = measure(&judged, label, key);
        let (ours, stored) = (systems[0]["value"].as_f64().unwrap(), systems[1]["value"].as_f64().unwrap());
        // `assess` rounds to four decimals.
        assert!((ours - stored).abs() < 1e-3, "{label} {key}: {ours} and {stored}");
    }
    let read = bench.figures(&[&gold, "--resamples", "0", "--predictions", &stored]);
    assert_eq!(
        measure(&read, "toxic", "f1_at_point")[0]["value"],
        measure(&judged, "toxic", "f1_at_point")[0]["value"]
    );
    assert_eq!(read["sets"][0]["verdicts"], judged["sets"][0]["verdicts"]);
    assert_eq!(read["sets"][0]["verdicts"][0]["rows"], 4);
}

#[test]
fn the_table_of_a_tiny_set_is_this_one() {
    let bench = Bench::new();
    let gold = bench.write("tiny.csv", "id,text,toxic,tone\na,,1,angry\nb,,0,warm\nc,,0.6,angry\nd,,0,warm\n");
    let answer = |id: &str, toxic: f64, tone: &str| {
        json!({"id": id, "verdict": if toxic > 0.5 { "hold" } else { "accept" }, "attributes": {"toxic": toxic},
               "tone": {"label": tone, "probability": 0.75}})
    };
    let answers =
        [answer("a", 0.9, "angry"), answer("b", 0.7, "warm"), answer("c", 0.6, "critical"), answer("d", 0.1, "warm")];
    let ours = bench.lines("ours.jsonl", &answers);
    let said = eval(&[&gold, "--predictions", &ours, "--resamples", "0"]);
    let table = said.split_once("tiny (").unwrap().1;
    let expected = "\
4 rows, consultation mentoring)
note: Judgements of ours are read from ours.jsonl.
label  rows  positive  measure                        Moothall
-----  ----  --------  -----------------------------  --------
toxic     4         2  ROC AUC                           0.750
                       average precision                 0.833
                       recall at 2 % false positives     0.500
                       precision at 0.5                  0.667
                       recall at 0.5                     1.000
                       F1 at 0.5                         0.800
                       calibration error                 0.325
                       Spearman's correlation            0.632
tone      4         –  accuracy                          0.750
                       macro-recall                      0.750
                       macro-F1                          0.833
                       calibration error                 0.000
";
    // The manifest's own point changes with the models.
    let ours = |line: &&str| !line.contains(" at 0.") || line.contains("at 0.5 ");
    let figures = joined(&table.lines().filter(ours).collect::<Vec<_>>());
    assert!(figures.starts_with(expected), "{figures}");
    let confusion = "\
tiny: tone, gold in rows, answers of Moothall in columns
gold   distressed  angry  humorous  critical  warm  neutral
-----  ----------  -----  --------  --------  ----  -------
angry           0      1         0         1     0        0
warm            0      0         0         0     2        0
";
    assert!(said.contains(confusion), "{said}");
    let verdicts = "\
comments    rows  accepted          held                 rejected         escalated
----------  ----  ----------------  -------------------  ---------------  ---------------
all            4  25.0 [4.6, 69.9]  75.0 [30.1, 95.4]    0.0 [0.0, 49.0]  0.0 [0.0, 49.0]
toxic: yes     2  0.0 [0.0, 65.8]   100.0 [34.2, 100.0]  0.0 [0.0, 65.8]  0.0 [0.0, 65.8]
toxic: no      2  50.0 [9.5, 90.5]  50.0 [9.5, 90.5]     0.0 [0.0, 65.8]  0.0 [0.0, 65.8]
";
    assert!(said.contains(verdicts), "{said}");
    let worst = "\
label  id  gold   answer    score
-----  --  -----  --------  -----
toxic  b   no     too high  0.700
tone   c   angry  critical  0.750
";
    assert!(said.contains(worst), "{said}");
}

#[test]
fn what_is_wrong_in_a_file_is_named_with_file_line_and_column() {
    let bench = Bench::new();
    let text = "the words of a comment";
    let rows = format!("id,text,Is it rude?,themes,tone\na,{text},maybe,stigma,warm\nb,{text},2,nonsense,cross\n");
    let gold = bench.write("wrong.csv", &rows);
    let (code, said) = refused(&[&gold, "--column", "toxic=Is it rude?"]);
    assert_eq!(code, 1, "{said}");
    for expected in [
        "wrong.csv, line 2, column `is_it_rude?`: is not 1, 0, yes",
        "wrong.csv, line 3, column `is_it_rude?`: is not 1, 0, yes",
        "wrong.csv, line 3, column `themes`: holds what is no theme of the codebook: ",
        "wrong.csv, line 3, column `tone`: is none of distressed, angry",
    ] {
        assert!(said.contains(expected), "{expected} is not in: {said}");
    }
    assert!(!said.contains(text) && !said.contains("nonsense"), "a cell is repeated: {said}");

    let check = |name: &str, text: &str, more: &[&str], expected: &str| {
        let file = bench.write(name, text);
        let (code, said) = refused(&[&[file.as_str()], more].concat());
        assert!(code != 0 && said.contains(expected), "{expected} is not in: {said}");
    };
    check("none.csv", "id,text,rude\na,x,1\n", &[], "none.csv: no label; name one with --column LABEL=COLUMN");
    check("text.csv", "id,words,toxic\na,x,1\n", &[], "no column `text`; name it with --column text=COLUMN");
    check(
        "column.csv",
        "id,text,toxic\na,x,1\n",
        &["--column", "spam=Advert"],
        "no column `Advert`; there are: id, text",
    );
    check("label.csv", "id,text,toxic\na,x,1\n", &["--column", "rude=toxic"], "`rude` is no label");
    check("group.csv", "id,text,toxic\na,x,1\n", &["--group", "ward"], "no column `ward`");
    check("twice.csv", "id,text,toxic\na,x,1\na,y,0\n", &[], "twice.csv, line 3: the id of line 2 again");
    check("same.csv", "id,text,toxic,Toxic\na,x,1,0\n", &[], "column `toxic` stands twice");
    check("span.jsonl", "{\"text\":\"né\",\"spans\":[[0,3]]}\n", &[], "line 1, column `spans`: reaches to character 3");
    check("json.jsonl", "{\"text\":\"x\",\"toxic\":1}\n{\"text\":\n", &[], "json.jsonl, line 2: not valid JSON");
    check("list.json", "[{\"text\":\"x\"}]\n", &[], "is a JSON list");
    check("empty.csv", "", &[], "empty.csv: is empty");
    check("split.csv", "id,text,toxic,split\na,x,1,dev\n", &["--split", "test"], "no row of split `test`");
    check("book.csv", "id,text,themes\na,x,stigma\n", &["--consultation", "none"], "there is no codebook");
}

#[test]
fn what_is_wrong_in_answers_is_named_with_file_line_and_field() {
    let bench = Bench::new();
    let gold = bench.write("gold.csv", "id,text,toxic\na,x,1\nb,y,0\n");
    let check = |answers: &str, expected: &str| {
        let file = bench.write("answers.jsonl", answers);
        let (code, said) = refused(&[&gold, "--predictions", &file]);
        assert!(code == 1 && said.contains(expected), "{expected} is not in: {said}");
    };
    check(
        "{\"id\":\"a\",\"attributes\":{\"toxic\":1.5}}\n",
        "answers.jsonl, line 1: `attributes`: `toxic` is not between",
    );
    check("{\"id\":\"a\",\"attributes\":{\"rude\":0.5}}\n", "no attribute `rude`");
    check("{\"id\":\"a\",\"themes\":[{\"id\":\"weather\"}]}\n", "`themes`: no theme `weather` in the codebook");
    check("{\"id\":\"a\"}\n{\"id\":\"a\"}\n", "line 2: an id that stands in the file already");
    check("{\"id\":\"b\",\"error\":\"not valid JSON\"}\n", "line 1: `error`: the comment was not judged");
    check("{\"id\":\"z\"}\n", "answers.jsonl: no id of it is an id of the set");
    check("[1]\n", "line 1: not as `assess` prints it");
    let (code, said) = refused(&[&gold, &gold, "--predictions", &gold]);
    assert!(code == 2 && said.contains("go with one FILE"), "{said}");
    let (code, said) = refused(&[&gold, "--html", "nowhere/at/all.html"]);
    assert!(code == 2 && said.contains("no folder nowhere/at"), "{said}");
}

#[test]
fn groups_show_bias_and_spans_their_characters() {
    let bench = Bench::new();
    // Harmless comments on `x` are scored like harmful ones: inside the group the order is right, across its border not.
    let mut rows = Vec::new();
    let mut answers = Vec::new();
    for row in 0..60 {
        let (inside, harmful) = (row < 30, row % 2 == 1);
        let id = format!("r{row}");
        rows.push(
            json!({"id": id, "toxic": u8::from(harmful), "target": if inside { json!(["x"]) } else { json!("") },
                         "spans": if harmful { json!([0, 1, 2, 3]) } else { json!([]) }}),
        );
        let score = match (inside, harmful) {
            (true, true) => 0.99,
            (true, false) => 0.9,
            (false, true) => 0.8,
            (false, false) => 0.1,
        };
        answers.push(json!({"id": id, "attributes": {"toxic": score}, "spans": if harmful { json!([[2, 6]]) } else { json!([]) }}));
    }
    let (gold, ours) = (bench.lines("gold.jsonl", &rows), bench.lines("ours.jsonl", &answers));
    let figures = bench.figures(&[&gold, "--predictions", &ours, "--group", "target", "--resamples", "20"]);
    let bias = &figures["sets"][0]["bias"][0];
    assert_eq!((&bias["label"], &bias["groups"][0]["group"]), (&json!("toxic"), &json!("x")));
    let auc = |place: usize| bias["groups"][0]["measures"][place]["systems"][0]["value"].as_f64().unwrap();
    assert_eq!((auc(0), auc(1), auc(2)), (1.0, 0.0, 1.0), "subgroup, BPSN, BNSP");
    // Half of four characters on each toxic row, nothing on nothing elsewhere.
    assert!((value(&figures, "spans", "character_f1", 0) - 0.75).abs() < 1e-9);
}

#[test]
fn a_suite_measures_several_files_and_writes_the_same_report_twice() {
    let bench = Bench::new();
    bench.write("a.csv", "id,text,toxic\n1,x,1\n2,y,0\n");
    bench.write("b.csv", "id,text,sentiment\n1,x,positive\n2,y,negative\n");
    bench.lines("pa.jsonl", &[toxic("1", 0.9), toxic("2", 0.4)]);
    bench.lines(
        "pb.jsonl",
        &[
            json!({"id": "1", "sentiment": {"label": "positive"}}),
            json!({"id": "2", "sentiment": {"label": "neutral"}}),
        ],
    );
    let suite = bench.write(
        "suite.toml",
        "title = \"Two\"\nnote = \"Made up.\"\n[[set]]\nfile = \"a.csv\"\npredictions = \"pa.jsonl\"\n\
         against = [{ name = \"same\", file = \"pa.jsonl\" }]\n\
         [[set]]\nname = \"Mood\"\nfile = \"b.csv\"\nconsultation = \"none\"\nnote = \"Two rows.\"\npredictions = \"pb.jsonl\"\n",
    );
    let write = |name: &str| {
        let path = bench.path(name);
        eval(&["--suite", &suite, "--markdown", path.to_str().unwrap(), "--resamples", "50"]);
        fs::read_to_string(path).unwrap()
    };
    let report = write("REPORT.md");
    assert_eq!(report, write("again.md"));
    for expected in [
        "# Two\n\nMade up.\n",
        "## a\n\n2 rows, judged by consultation `mentoring`.\n",
        "| toxic | 2 | 1 | ROC AUC | 1.000",
        "## Mood\n\n2 rows, judged by consultation `none`. Two rows.\n",
        "| sentiment | 2 | – | accuracy | 0.500 [0.000, 1.000] |",
    ] {
        assert!(report.contains(expected), "{expected} is not in: {report}");
    }
    let wrong = bench.write("wrong.toml", "[[set]]\nfile = \"a.csv\"\ncolour = 1\n");
    let (code, said) = refused(&["--suite", &wrong]);
    assert!(code == 2 && said.contains("wrong.toml") && said.contains("colour"), "{said}");
}

#[test]
fn the_page_runs_nothing_and_shows_no_comment() {
    let bench = Bench::new();
    let hostile = "<script>alert(1)</script>";
    let rows: Vec<Value> = (0..24)
        .map(|row| {
            json!({"id": format!("{hostile}{row}"), "text": format!("secret words {row}"), "toxic": row % 2,
                   "source": if row < 12 { hostile } else { "b\"><img src=x>" }, "ward": hostile})
        })
        .collect();
    let answers: Vec<Value> = (0..24).map(|row| toxic(&format!("{hostile}{row}"), f64::from(row % 5) / 5.0)).collect();
    let (gold, ours) = (bench.lines("g.jsonl", &rows), bench.lines("p.jsonl", &answers));
    let [html, markdown, json] =
        ["page.html", "page.md", "page.json"].map(|name| bench.path(name).display().to_string());
    let said = eval(&[
        &gold,
        "--predictions",
        &ours,
        "--against",
        &format!("<b>={ours}"),
        "--group",
        "ward",
        "--resamples",
        "20",
        "--html",
        &html,
        "--markdown",
        &markdown,
        "--json",
        &json,
    ]);
    let page = fs::read_to_string(html).unwrap();
    assert!(!page.contains("<script") && !page.contains("<img") && !page.contains("<b>&lt;b&gt;"), "markup of a file");
    assert!(
        page.contains("&#60;script&#62;") || page.contains("&lt;script&gt;"),
        "the hostile source is shown as words"
    );
    assert!(page.contains("default-src 'none'") && !page.contains("http://") && !page.contains("https://"));
    assert!(page.contains("Reliability of toxic"));
    let markdown = fs::read_to_string(markdown).unwrap();
    assert!(!markdown.contains("<script") && !markdown.contains(&format!("{}0", "script&gt;")), "{markdown}");
    for out in [&page, &markdown, &said, &fs::read_to_string(json).unwrap()] {
        assert!(!out.contains("secret words"), "a comment is shown");
    }
}

#[test]
fn packed_and_unpacked_files_are_read_alike() {
    let bench = Bench::new();
    let rows = "id;text;toxic\na;x, y;1\nb;z;0\n";
    let plain = bench.write("plain.csv", rows);
    let mut zip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    std::io::Write::write_all(&mut zip, rows.as_bytes()).unwrap();
    fs::write(bench.path("packed.csv.gz"), zip.finish().unwrap()).unwrap();
    let ours = bench.lines("ours.jsonl", &[toxic("a", 0.9), toxic("b", 0.1)]);
    let packed = bench.path("packed.csv.gz").display().to_string();
    for file in [plain, packed] {
        let figures = bench.figures(&[&file, "--predictions", &ours, "--resamples", "0"]);
        assert_eq!(figures["sets"][0]["rows"], 2);
        assert!(Path::new(&file).exists() && (value(&figures, "toxic", "auc", 0) - 1.0).abs() < 1e-9);
    }
}
