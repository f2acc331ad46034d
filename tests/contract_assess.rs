//! The contract of `moothall assess`, on the built binary: JSON lines in, one
//! JSON line out for each, in order, whatever the text holds.
//!
//! Verdicts are asserted only where no sane model could say otherwise.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{Seek, Write};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

struct Ran {
    lines: Vec<String>,
    status: Option<i32>,
}

impl Ran {
    fn json(&self, at: usize) -> Value {
        serde_json::from_str(&self.lines[at]).unwrap_or_else(|error| panic!("line {at}: {error}"))
    }
}

/// Runs `moothall assess` from the root of the repository.
fn assess(input: &[u8], arguments: &[&str]) -> Ran {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(input).unwrap();
    file.rewind().unwrap();
    let done = Command::new(env!("CARGO_BIN_EXE_moothall"))
        .arg("assess")
        .args(arguments)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env_remove("MOOTHALL_CONFIG")
        .env_remove("MOOTHALL_CONSULTATION")
        .env_remove("MOOTHALL_CONSULTATIONS")
        .stdin(Stdio::from(file))
        .output()
        .unwrap();
    let complaint = String::from_utf8_lossy(&done.stderr);
    assert!(!complaint.contains("panicked"), "{complaint}");
    let out = String::from_utf8(done.stdout).expect("output is UTF-8");
    assert!(!out.is_empty() || input.is_empty(), "nothing came out: {complaint}");
    assert!(out.is_empty() || out.ends_with('\n'));
    Ran { lines: out.lines().map(str::to_owned).collect(), status: done.status.code() }
}

fn lines(texts: &[&str]) -> Vec<u8> {
    let mut input = Vec::new();
    for (at, text) in texts.iter().enumerate() {
        writeln!(input, "{}", json!({"id": format!("c{at}"), "text": text})).unwrap();
    }
    input
}

fn schema(name: &str) -> jsonschema::Validator {
    let path = format!("{}/docs/schemas/{name}", env!("CARGO_MANIFEST_DIR"));
    let schema: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    jsonschema::draft202012::meta::validate(&schema).unwrap_or_else(|error| panic!("{name}: {error}"));
    jsonschema::draft202012::new(&schema).unwrap()
}

fn must_fit(schema: &jsonschema::Validator, value: &Value) {
    let wrong: Vec<String> =
        schema.iter_errors(value).map(|error| format!("{}: {error}", error.instance_path())).collect();
    assert!(wrong.is_empty(), "{value}\n  {}", wrong.join("\n  "));
}

/// Every span of an assessment lies inside the text, in characters, and covers something.
fn spans_must_fit(text: &str, assessed: &Value) {
    let length = text.chars().count() as u64;
    let lists = ["reasons", "themes", "pii"];
    for one in lists.iter().filter_map(|list| assessed[list].as_array()).flatten() {
        if let Some(span) = one["span"].as_array() {
            let (start, end) = (span[0].as_u64().unwrap(), span[1].as_u64().unwrap());
            assert!(start < end && end <= length, "span {start}..{end} of {length} characters: {one}");
        }
    }
    let mut before = 0;
    for one in assessed["pii"].as_array().unwrap() {
        let (start, end) = (one["span"][0].as_u64().unwrap(), one["span"][1].as_u64().unwrap());
        assert!(before <= start, "personal data overlaps or is out of order: {}", assessed["pii"]);
        before = end;
    }
}

fn has_reason(assessed: &Value, key: &str) -> bool {
    assessed["reasons"].as_array().unwrap().iter().any(|reason| reason["key"] == key)
}

const PRAISE: [&str; 4] = [
    "My mentor was brilliant and I am really grateful.",
    "A lovely project with kind people. Please keep it going.",
    "The reading buddies at our library are wonderful.",
    "Thank you to all the volunteers, it made a real difference to my confidence.",
];

const ANGER: [&str; 4] = [
    "I am absolutely furious with this council. You have closed every youth club and now you want our views?",
    "What a disgrace. The council has wasted years and our kids have nothing to show for it.",
    "Shame on the lot of you in the town hall. This consultation is a sham and you know it.",
    "Utterly useless council, you never listen to a word that parents say.",
];

const DISCLOSURES: [&str; 5] = [
    "My stepdad hits me every night and I am scared to go home. Nobody knows.",
    "I want to kill myself. I have been cutting my arms and I can't tell my mum.",
    "My uncle touches me when nobody is in the house and says he will hurt me if I tell.",
    "im 13 and my dad beats me with a belt, please can someone help me",
    "I don't want to be alive any more, I took a load of tablets last night.",
];

const GERMAN: [&str; 3] = [
    "Ich finde, dass die Stadt mehr Geld für die Jugendlichen in unserem Viertel ausgeben sollte.",
    "Meine Tochter hat durch ihre Mentorin sehr viel gelernt und geht jetzt wieder gerne in die Schule.",
    "Warum werden die Jugendzentren geschlossen, obwohl die Kinder keinen anderen Ort haben?",
];

#[test]
fn every_line_fits_the_published_schema() {
    let schema = schema("assessed.v1.json");
    let texts = [
        "My mentor remembered what I said. Email me at someone@example.org or ring 0121 496 0000.",
        "They put us on the naughty table and everybody knew why. I would rather just talk to my nan.",
        "Visit http://a.example http://b.example for cheap watches",
        GERMAN[0],
        "",
        " \u{a0}\t\u{200b}",
        "👍👍👍",
    ];
    for consultation in ["mentoring", "none"] {
        let ran = assess(&lines(&texts), &["--consultation", consultation]);
        assert_eq!((ran.lines.len(), ran.status), (texts.len(), Some(0)));
        for (at, text) in texts.iter().enumerate() {
            let assessed = ran.json(at);
            must_fit(&schema, &assessed);
            spans_must_fit(text, &assessed);
            assert_eq!(assessed["id"], format!("c{at}"));
            let keys: Vec<&String> = assessed.as_object().unwrap().keys().collect();
            assert_eq!(keys.len(), 11, "{keys:?}");
            if consultation == "none" {
                assert!(assessed["stance"].is_null() && assessed["tone"].is_null(), "{assessed}");
                let themes = assessed["themes"].as_array().map_or(0, Vec::len);
                assert_eq!(themes, 0, "a bare text has no themes: {assessed}");
            }
        }
        let kind = if consultation == "none" { "polarity" } else { "attitude" };
        assert_eq!(ran.json(0)["sentiment"]["kind"], kind);
        // In the order of the contract, which is not alphabetical.
        assert!(ran.lines[0].starts_with(r#"{"id":"c0","verdict":""#), "{}", ran.lines[0]);
        assert!(ran.lines[0].contains(r#""attributes":{"toxic":"#), "{}", ran.lines[0]);
    }
}

#[test]
fn a_comment_with_every_field_fits_its_schema_and_is_read() {
    let schema = schema("comment.v1.json");
    let full = json!({
        "id": 41, "text": "A fixed slot each week helped.", "consultation": "mentoring", "source": "web",
        "revision": 2, "edited_at": "2026-11-02T12:00:00Z", "posted_at": "2026-11-02T11:00:00+00:00",
        "author": {"id": "p7", "name": "A.", "email": "a@example.org"}, "url": "https://consult.example.gov.uk/#41",
        "parent_id": 40, "language": "en", "groups": {"ward": "Marlpit"}, "something_new": [1, 2]
    });
    must_fit(&schema, &full);
    must_fit(&schema, &json!({"id": "c", "text": ""}));
    for wrong in [json!({"id": "c"}), json!({"text": "x"}), json!({"id": "c", "text": 5}), json!(["id", "text"])] {
        assert!(!schema.is_valid(&wrong), "{wrong}");
        assert_eq!(assess(format!("{wrong}\n").as_bytes(), &[]).status, Some(1), "{wrong}");
    }
    let ran = assess(format!("{full}\n").as_bytes(), &[]);
    assert_eq!(ran.status, Some(0), "{:?}", ran.lines);
    assert_eq!(ran.json(0)["id"], "41");
}

#[test]
fn an_unreadable_line_keeps_its_place_and_sets_the_exit_status() {
    let schema = schema("assessed.v1.json");
    let input = b"{\"id\":\"a\",\"text\":\"A good idea.\"}\nnot json\n{\"id\":\"b\",\"text\":\"\\ud800\"}\n\
                  {\"id\":\"c\"}\n\n\xff\xfe\n{\"id\":\"d\",\"text\":\"Another good idea.\"}";
    let ran = assess(input, &[]);
    assert_eq!(ran.status, Some(1));
    assert_eq!(ran.lines.len(), 7, "{:?}", ran.lines);
    for at in 0..7 {
        let line = ran.json(at);
        must_fit(&schema, &line);
        assert_eq!(line["error"].is_null(), at == 0 || at == 6, "{line}");
    }
    assert_eq!((&ran.json(0)["id"], &ran.json(3)["id"], &ran.json(6)["id"]), (&json!("a"), &json!("c"), &json!("d")));

    let nothing = assess(b"", &[]);
    assert_eq!((nothing.lines.len(), nothing.status), (0, Some(0)));
}

#[test]
fn a_verdict_depends_on_neither_neighbours_nor_threads() {
    let texts: Vec<&str> = PRAISE.into_iter().chain(ANGER).chain(DISCLOSURES).chain(GERMAN).collect();
    let one = assess(&lines(&texts), &["--threads", "1"]);
    let two = assess(&lines(&texts), &["--threads", "2"]);
    assert_eq!(one.lines, two.lines);
    for at in [0, 6, 9] {
        let mut alone = Vec::new();
        writeln!(alone, "{}", json!({"id": format!("c{at}"), "text": texts[at]})).unwrap();
        assert_eq!(assess(&alone, &[]).lines[0], one.lines[at]);
    }
}

/// What a line of the hostile input is, so that clear ones can be judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Praise,
    Anger,
    Disclosure,
    German,
    Blank,
    LinkFarm,
    Threat,
    Unreadable,
    /// Anything: it must be answered, in place and in shape.
    Odd,
}

/// A small generator, so that every run has the same 2,000 lines.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % sides as u64) as usize
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.roll(from.len())]
    }
}

const MARKUP: [&str; 5] = [
    "<script>alert('x')</script> the mentors were <b>great</b>",
    "<img src=x onerror=alert(1)> <!-- hidden --> &lt;p&gt; &#x41; &amp;amp;",
    "</textarea></td></table><style>*{display:none}</style>",
    "<svg/onload=alert(1)> ]]> <?xml version=\"1.0\"?> <![CDATA[ x ]]>",
    "{{7*7}} ${jndi:ldap://x.example/a} '; DROP TABLE comments; --",
];
const FORMULAS: [&str; 5] = [
    "=HYPERLINK(\"http://x.example\",\"click\")",
    "+44 is how it starts",
    "-1 for this idea",
    "@SUM(A1:A9)",
    "\t=cmd|' /C calc'!A0",
];
const ODD: [&str; 9] = [
    "before\u{0}after\u{0}\u{0}",
    "\u{202e}txet desrever si siht\u{202c} and back",
    "\u{2066}isolated\u{2069} \u{200f}mark\u{200e} \u{feff}bom \u{ad}soft",
    "z\u{337}\u{321}\u{31b}a\u{338}\u{353}l\u{334}\u{301}g\u{335}\u{350}o\u{336}\u{30e} mentoring",
    "f r e e  m e n t o r s",
    "V!4gr@ ch3ap v1a9ra",
    "ｆｕｌｌ ｗｉｄｔｈ 𝓯𝓪𝓷𝓬𝔂 𝔪𝔢𝔫𝔱𝔬𝔯𝔰",
    "mеntоring with Cyrillic vowels",
    "\u{fffd}\u{fffe}\u{10ffff}\u{e000}",
];
const EMOJI: [&str; 6] = ["👍", "👨‍👩‍👧‍👦", "🏴󠁧󠁢󠁥󠁮󠁧󠁿", "❤️", "👍🏽", "1️⃣"];
const FOREIGN: [&str; 6] = [
    "Uważam, że młodzież potrzebuje więcej wsparcia od dorosłych.",
    "یہ اسکیم بہت اچھی ہے اور بچوں کو فائدہ ہوا۔",
    "এই প্রকল্পটি খুব ভালো।",
    "我觉得这个项目对孩子们很有帮助。",
    "Waxaan u malaynayaa in dhallinyaradu u baahan yihiin taageero.",
    "yeh scheme bahut achhi hai",
];
const SPAM: [&str; 4] = [
    "Earn £500 a day from home, message me on WhatsApp now",
    "BEST casino bonus 2026 >>> www.x.example/win <<<",
    "Nice article! I also write about loans at http://loans.example, visit my page",
    "Cheap followers, cheap likes, telegram @cheapfollowers",
];
const ABUSE: [&str; 4] = [
    "You are all idiots and so is your mother",
    "what a stupid cow that councillor is",
    "people like them should go back where they came from",
    "you are scum, rot in hell",
];
const THREATS: [&str; 2] = [
    "I will kill you, you worthless piece of shit. I know where you live and I am coming to stab you.",
    "You fucking bitch, I am going to burn your house down and kill you.",
];

/// The text of line `at`, and what it is; `None` where the line is not to be readable.
fn hostile(at: usize, dice: &mut Dice) -> (Kind, Option<String>) {
    let text = match at % 20 {
        0 => return (Kind::Praise, Some(dice.pick(&PRAISE).to_owned())),
        1 => return (Kind::Anger, Some(dice.pick(&ANGER).to_owned())),
        2 => return (Kind::Disclosure, Some(dice.pick(&DISCLOSURES).to_owned())),
        3 => return (Kind::German, Some(dice.pick(&GERMAN).to_owned())),
        4 => {
            return (
                Kind::Blank,
                Some(dice.pick(&["", " ", "\t\r\n", "\u{a0}\u{2003}", "\u{200b}\u{feff}"]).to_owned()),
            );
        }
        5 => {
            let links: Vec<String> = (0..9).map(|n| format!("http://shop{n}.example/{}", dice.roll(99))).collect();
            return (Kind::LinkFarm, Some(links.join(" ")));
        }
        6 => return (Kind::Threat, Some(dice.pick(&THREATS).to_owned())),
        7 => return (Kind::Unreadable, None),
        8 => dice.pick(&MARKUP).to_owned(),
        9 => dice.pick(&FORMULAS).to_owned(),
        10 => dice.pick(&ODD).to_owned(),
        11 => dice.pick(&EMOJI).repeat(1 + dice.roll(60)),
        12 => dice.pick(&["a", "ab", "ﷺ", "ha", "9", "!?", "_"]).repeat(1 + dice.roll(250)),
        13 => dice.pick(&FOREIGN).to_owned(),
        14 => dice.pick(&SPAM).to_owned(),
        15 => dice.pick(&ABUSE).to_owned(),
        // A combining mark stack, a wall of line feeds, a list, mixed scripts.
        16 => format!("e{}", "\u{301}".repeat(1 + dice.roll(2_000))),
        17 => format!("one\n{}two\r\n\u{2028}three", "\n".repeat(dice.roll(500))),
        18 => [dice.pick(&PRAISE), dice.pick(&FOREIGN), dice.pick(&EMOJI), dice.pick(&MARKUP)].join(" "),
        _ if at % 1_000 == 19 => "The council should listen to young people about mentors. ".repeat(250),
        _ => (0..=dice.roll(40)).filter_map(|_| char::from_u32(dice.roll(0x3000) as u32)).collect(),
    };
    (Kind::Odd, Some(text))
}

const BROKEN: [&[u8]; 8] = [
    b"{\"id\":\"x\",\"text\":\"\\udc00 alone\"}",
    b"{\"id\":\"x\",\"text\":\"cut off",
    b"{\"id\":\"x\",\"text\":null}",
    b"{\"text\":\"no id\"}",
    b"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[",
    b"\xc3\x28\xff",
    b"=1+1",
    b"",
];

#[test]
fn two_thousand_hostile_lines_are_answered_in_order() {
    const LINES: usize = 2_000;
    let schema = schema("assessed.v1.json");
    let mut dice = Dice(0x5eed_1234_5678_9abc);
    let (mut input, mut sent) = (Vec::new(), Vec::new());
    for at in 0..LINES {
        let (kind, text) = hostile(at, &mut dice);
        if let Some(text) = &text {
            writeln!(input, "{}", json!({"id": format!("line {at}"), "text": text})).unwrap();
        } else {
            input.extend_from_slice(BROKEN[(at / 20) % BROKEN.len()]);
            input.push(b'\n');
        }
        sent.push((kind, text));
    }

    let ran = assess(&input, &[]);

    assert_eq!(ran.status, Some(1), "unreadable lines were among them");
    assert_eq!(ran.lines.len(), LINES);
    let mut wrong = Vec::new();
    for (at, (kind, text)) in sent.iter().enumerate() {
        let line = ran.json(at);
        must_fit(&schema, &line);
        let Some(text) = text else {
            assert!(line["error"].is_string(), "line {at} cannot be read: {line}");
            continue;
        };
        assert_eq!(line["id"], format!("line {at}"));
        spans_must_fit(text, &line);
        let verdict = line["verdict"].as_str().unwrap();
        let sensible = match kind {
            Kind::Praise => verdict == "accept",
            Kind::Anger => verdict != "reject",
            Kind::Disclosure => verdict == "escalate",
            Kind::German => {
                verdict == "hold" && has_reason(&line, "language_not_supported") && line["themes"].is_null()
            }
            Kind::Blank => verdict == "hold" && has_reason(&line, "blank"),
            Kind::LinkFarm | Kind::Threat => verdict != "accept",
            Kind::Odd | Kind::Unreadable => true,
        };
        if !sensible {
            wrong.push(format!("{kind:?} {verdict} {}: {text:?}", line["reasons"]));
        }
    }
    wrong.sort();
    wrong.dedup();
    assert!(wrong.is_empty(), "\n  {}", wrong.join("\n  "));
}

#[test]
fn a_repeat_is_judged_once_and_answered_as_if_it_stood_alone() {
    let once = assess(&lines(&["My mentor never gave up on me.", "You are scum."]), &[]);
    // Within one batch and across batches of 128 lines.
    let flood: Vec<&str> = ["My mentor never gave up on me.", "You are scum."].into_iter().cycle().take(600).collect();
    for cheap_first in ["on", "off"] {
        // Switched off every line is encoded: a few are enough.
        let count = if cheap_first == "on" { 600 } else { 6 };
        let many = assess(&lines(&flood[..count]), &["--cheap-first", cheap_first]);
        assert_eq!(many.lines.len(), count);
        for at in 0..count {
            let (mut found, mut alone) = (many.json(at), once.json(at % 2));
            assert_eq!(found["id"], format!("c{at}"));
            found["id"] = Value::Null;
            alone["id"] = Value::Null;
            assert_eq!(found, alone, "line {at}, {cheap_first}");
        }
    }
}

#[test]
fn plain_spam_has_every_attribute_because_the_first_stage_stands_aside() {
    let advert =
        "BUY replica watches now!!! earn $900 a day, click http://9.best-9.example/win WhatsApp +44 7700 900123";
    let judged = assess(&lines(&[advert]), &["--cheap-first", "on"]).json(0);
    assert_eq!(judged["verdict"], "reject");
    assert!(judged["attributes"].as_object().unwrap().values().all(Value::is_number), "{}", judged["attributes"]);
    assert!(judged["sentiment"].is_object() && judged["tone"].is_object());
}
