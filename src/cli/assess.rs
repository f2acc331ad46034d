//! `moothall assess`: the judgement as a filter. No store, no queue.

use std::collections::{HashMap, HashSet};
use std::io::{BufRead, BufWriter, Write};
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use serde_json::Value;

use super::known::Known;
use super::{Common, Failure, encoder_threads};
use crate::app::LineJudge;
use crate::domain::assessment::Assessment;
use crate::pipeline::identity::hash_of;
use crate::pipeline::ports::EngineError;
use crate::wire::{AssessedV1, CommentV1, ErrorV1};

/// Lines judged together: enough for every thread, few enough to answer soon.
const LINES: usize = 128;

/// A longer line is refused unread, in bytes.
const LONGEST_LINE: usize = 32 * 1024 * 1024;

/// Options of `assess`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  echo '{\"id\":\"c1\",\"text\":\"My mentor never gave up on me.\"}' | moothall assess\n\n\
    Every text is judged in full: the first stage that settles plain spam in the line stands aside here.\n\
    Exit status 1 when a line could not be read; its place holds {\"id\": ..., \"error\": ...}."
)]
pub struct Arguments {
    /// Encoder threads; 0 means one per core
    #[arg(long, default_value_t = 0)]
    threads: usize,
}

enum Line {
    Comment(Box<CommentV1>),
    Unreadable(ErrorV1),
}

/// Judges standard input line by line.
pub fn run(common: &Common, arguments: &Arguments) -> Result<ExitCode, Failure> {
    let settings = common.settings()?;
    let (manifest, rulebook) = common.full_rulebook(&settings)?;
    let threads = encoder_threads(if arguments.threads > 0 { arguments.threads } else { settings.threads });
    let judge = LineJudge::start(&manifest.folder, Arc::new(rulebook), settings.engine, threads)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut input = std::io::stdin().lock();
    let mut output = BufWriter::new(std::io::stdout().lock());
    let mut unreadable = false;
    let mut known = Known::default();
    loop {
        let lines = read_lines(&mut input)?;
        if lines.is_empty() {
            break;
        }
        let texts: Vec<(&str, Option<&str>)> = lines
            .iter()
            .filter_map(|line| match line {
                Line::Comment(comment) => Some((comment.text.as_str(), comment.language.as_deref())),
                Line::Unreadable(_) => None,
            })
            .collect();
        let judged = if settings.cheap_first.reuses() {
            runtime.block_on(judge_new(&judge, &texts, &mut known))?
        } else {
            runtime.block_on(judge.judge_texts(&texts))?
        };
        let mut assessments = judged.into_iter();
        for line in &lines {
            match line {
                Line::Comment(comment) => {
                    if let Some(assessment) = assessments.next() {
                        serde_json::to_writer(&mut output, &AssessedV1::new(&comment.id, &assessment))?;
                    }
                }
                Line::Unreadable(error) => {
                    unreadable = true;
                    serde_json::to_writer(&mut output, error)?;
                }
            }
            output.write_all(b"\n")?;
        }
        output.flush()?;
    }
    Ok(if unreadable { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Judges the texts that were not judged lately, each once.
async fn judge_new(
    judge: &LineJudge,
    texts: &[(&str, Option<&str>)],
    known: &mut Known,
) -> Result<Vec<Assessment>, EngineError> {
    // All that a judgement looks at.
    let keys: Vec<String> =
        texts.iter().map(|(text, language)| hash_of(&[language.unwrap_or_default(), text])).collect();
    let mut made: HashMap<&str, Assessment> = HashMap::new();
    let mut new: Vec<usize> = Vec::new();
    let mut asked: HashSet<&str> = HashSet::new();
    for (at, key) in keys.iter().enumerate() {
        if !asked.insert(key) {
            continue;
        }
        match known.get(key) {
            Some(found) => _ = made.insert(key, found.clone()),
            None => new.push(at),
        }
    }
    let some: Vec<_> = new.iter().map(|at| texts[*at]).collect();
    for (at, assessment) in new.into_iter().zip(judge.judge_texts(&some).await?) {
        known.put(keys[at].clone(), assessment.clone());
        made.insert(&keys[at], assessment);
    }
    Ok(keys.iter().filter_map(|key| made.get(key.as_str()).cloned()).collect())
}

/// The next lines, at most [`LINES`]; empty at the end of input.
fn read_lines(input: &mut impl BufRead) -> std::io::Result<Vec<Line>> {
    let mut lines = Vec::new();
    let mut bytes = Vec::new();
    while lines.len() < LINES {
        bytes.clear();
        let complete = read_line(input, &mut bytes)?;
        if complete.is_none() {
            break;
        }
        lines.push(if complete == Some(false) {
            unreadable(None, format!("the line is longer than {LONGEST_LINE} bytes"))
        } else {
            parse(&bytes)
        });
    }
    Ok(lines)
}

/// Reads up to a line feed. `None` at the end of input, `Some(false)` when the
/// line was too long and its rest was passed over.
fn read_line(input: &mut impl BufRead, bytes: &mut Vec<u8>) -> std::io::Result<Option<bool>> {
    let (mut any, mut whole) = (false, true);
    loop {
        let buffer = input.fill_buf()?;
        if buffer.is_empty() {
            return Ok(any.then_some(whole));
        }
        any = true;
        let end = buffer.iter().position(|byte| *byte == b'\n');
        let part = &buffer[..end.unwrap_or(buffer.len())];
        if bytes.len() + part.len() > LONGEST_LINE {
            whole = false;
        }
        if whole {
            bytes.extend_from_slice(part);
        }
        let used = end.map_or(buffer.len(), |at| at + 1);
        input.consume(used);
        if end.is_some() {
            return Ok(Some(whole));
        }
    }
}

fn parse(bytes: &[u8]) -> Line {
    let value: Value = match serde_json::from_slice(bytes) {
        Ok(value) => value,
        Err(error) => return unreadable(None, format!("not valid JSON: {error}")),
    };
    let id = match &value["id"] {
        Value::String(id) => Some(id.clone()),
        Value::Number(id) => Some(id.to_string()),
        _ => None,
    };
    if !value.is_object() {
        return unreadable(id, "not a JSON object");
    }
    for field in ["id", "text"] {
        if value.get(field).is_none() {
            return unreadable(id, format!("`{field}` is missing"));
        }
    }
    match serde_json::from_value(value) {
        Ok(comment) => Line::Comment(Box::new(comment)),
        Err(error) => unreadable(id, error.to_string()),
    }
}

fn unreadable(id: Option<String>, error: impl Into<String>) -> Line {
    Line::Unreadable(ErrorV1 { id, error: error.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &[u8]) -> Result<String, ErrorV1> {
        match parse(line) {
            Line::Comment(comment) => Ok(comment.text),
            Line::Unreadable(error) => Err(error),
        }
    }

    #[test]
    fn a_line_that_cannot_be_read_keeps_its_id() {
        let error = check(br#"{"id":"c7","text":5}"#).unwrap_err();
        assert_eq!(error.id.as_deref(), Some("c7"));
        assert_eq!(check(br#"{"id":"c8"}"#).unwrap_err().error, "`text` is missing");
        assert_eq!(check(b"").unwrap_err().id, None);
        assert!(check(br#"{"id":"c9","text":"\ud800"}"#).is_err(), "a lone surrogate is no text");
        assert!(check(b"[1,2]").is_err());
    }

    #[test]
    fn numbers_are_taken_as_ids() {
        assert_eq!(check(br#"{"id":7,"text":"ok"}"#), Ok("ok".to_owned()));
    }

    #[test]
    fn lines_are_read_whole_and_the_last_needs_no_line_feed() {
        let mut input: &[u8] = b"{\"id\":1,\"text\":\"a\"}\n\n{\"id\":2,\"text\":\"b\"}";
        assert_eq!(read_lines(&mut input).unwrap().len(), 3);
    }
}
