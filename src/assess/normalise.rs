//! A text as the models shall read it, each character tied to the original.
//!
//! What hides words is undone (invisible characters, mark-up, look-alike
//! letters, masked and spaced-out spellings); what carries meaning that an
//! encoder cannot see is put into words (emoji, hosts of links). Case, order
//! and every real word stay. Time and space are linear in the text.

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

use crate::domain::reading::JudgedText;
use crate::domain::score::Span;

use super::links::Link;
use super::{disguise, emoji, lookalikes, markup};

/// The same emoji again and again is read at most this often.
const EMOJI_REPEATS: usize = 3;

/// Marks that a Latin letter may carry after composition; more is decoration.
const MARKS_PER_LETTER: usize = 2;

/// Marks that belong to one letter; further ones start anew, so that sorting
/// them stays cheap.
const MARKS_TOGETHER: usize = 30;

/// One judged character.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    /// The character.
    pub letter: char,
    /// What it stands for.
    pub origin: Span,
    /// Whether the author wrote it, rather than that it names an emoji or a link.
    pub written: bool,
}

impl Piece {
    /// A text as it stands, for tests of single steps.
    #[cfg(test)]
    pub(super) fn plain(text: &str) -> Vec<Self> {
        text.chars()
            .enumerate()
            .map(|(start, letter)| Self { letter, origin: Span { start, end: start + 1 }, written: true })
            .collect()
    }
}

/// A normalised text and what was found on the way.
#[derive(Clone, Debug, Default)]
pub(super) struct Normalised {
    /// For the encoder.
    pub judged: JudgedText,
    /// The written words of `judged` only, for telling the language.
    pub written: String,
    /// Invisible characters taken out.
    pub invisible: usize,
    /// Mark-up tags taken out.
    pub tags: usize,
    /// Emoji in the original.
    pub emoji: usize,
    /// Words that mixed Latin with look-alike letters.
    pub mixed_words: usize,
    /// Words whose masked or spaced-out spelling was undone.
    pub unmasked: usize,
}

/// Normalises `text`, whose links are given.
pub(super) fn normalise(text: &str, links: &[Link]) -> Normalised {
    let letters: Vec<char> = text.chars().collect();
    let mut reader = Reader::new(&letters, links);
    reader.run();
    let mut found = reader.found;
    let mut pieces = collapse_spaces(reader.pieces);
    found.mixed_words = lookalikes::fold(&mut pieces);
    let (mut pieces, joined) = disguise::join_spaced(&pieces);
    found.unmasked = joined + disguise::unmask(&mut pieces);
    let pieces = disguise::shorten_runs(&pieces);
    found.judged.text = pieces.iter().map(|piece| piece.letter).collect();
    found.judged.origin = pieces.iter().map(|piece| piece.origin).collect();
    found.written = pieces.iter().map(|piece| if piece.written { piece.letter } else { ' ' }).collect();
    found
}

/// Characters that show nothing: zero-width, joiners, bidi controls, soft
/// hyphens, variation selectors, tags, fillers.
pub(super) fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{00ad}' | '\u{034f}' | '\u{061c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
        | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}'
        | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}'
        | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

/// First pass: reads the original from left to right.
struct Reader<'a> {
    letters: &'a [char],
    links: &'a [Link],
    next_link: usize,
    at: usize,
    pieces: Vec<Piece>,
    found: Normalised,
    last_emoji: String,
    emoji_run: usize,
}

impl<'a> Reader<'a> {
    fn new(letters: &'a [char], links: &'a [Link]) -> Self {
        Self {
            letters,
            links,
            next_link: 0,
            at: 0,
            pieces: Vec::with_capacity(letters.len()),
            found: Normalised::default(),
            last_emoji: String::new(),
            emoji_run: 0,
        }
    }

    fn run(&mut self) {
        while self.at < self.letters.len() {
            let before = self.at;
            if !(self.link() || self.tag() || self.emoji() || self.entity()) {
                self.letter();
            }
            debug_assert!(self.at > before);
        }
    }

    fn push(&mut self, letter: char, origin: Span, written: bool) {
        if is_invisible(letter) {
            self.found.invisible += 1;
            return;
        }
        let letter = match letter {
            '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{85}' | '\u{2028}' | '\u{2029}' => '\n',
            c if c.is_control() || c.is_whitespace() => ' ',
            '‘' | '’' | '‛' | '′' | '´' => '\'',
            '“' | '”' | '„' | '‟' | '″' => '"',
            '‐' | '‑' | '‒' => '-',
            '\u{2044}' => '/',
            c => c,
        };
        if !letter.is_whitespace() && written {
            self.emoji_run = 0;
        }
        self.pieces.push(Piece { letter, origin, written });
    }

    /// Words that the author did not write, with a space on either side.
    fn push_words(&mut self, words: &str, origin: Span) {
        for letter in [' '].into_iter().chain(words.chars()).chain([' ']) {
            self.push(letter, origin, false);
        }
    }

    fn span_to(&self, end: usize) -> Span {
        Span { start: self.at, end }
    }

    fn link(&mut self) -> bool {
        let Some(link) = self.links.get(self.next_link) else {
            return false;
        };
        if link.span.start > self.at {
            return false;
        }
        self.next_link += 1;
        if link.span.start < self.at || link.span.end <= self.at {
            return self.link();
        }
        self.push_words(&link.words(), link.span);
        self.emoji_run = 0;
        self.at = link.span.end;
        true
    }

    fn tag(&mut self) -> bool {
        let Some(tag) = markup::tag_at(&self.letters[self.at..]) else {
            return false;
        };
        self.found.tags += 1;
        let end = self.at + tag.length;
        // A link inside the tag is what the tag was for: it is read.
        while let Some(link) = self.links.get(self.next_link) {
            if link.span.start >= end {
                break;
            }
            self.next_link += 1;
            if link.span.start >= self.at {
                let origin = self.span_to(end);
                self.push_words(&link.words(), origin);
            }
        }
        if tag.breaks_line {
            let origin = self.span_to(end);
            self.push('\n', origin, true);
        }
        self.at = end;
        true
    }

    fn emoji(&mut self) -> bool {
        let Some(found) = emoji::at_start(&self.letters[self.at..]) else {
            return false;
        };
        self.found.emoji += 1;
        let origin = self.span_to(self.at + found.length);
        if found.name == self.last_emoji && self.emoji_run > 0 {
            self.emoji_run += 1;
        } else {
            self.emoji_run = 1;
            self.last_emoji.clone_from(&found.name);
        }
        if self.emoji_run <= EMOJI_REPEATS {
            self.push_words(&found.name, origin);
        } else if self.pieces.last().is_none_or(|piece| piece.letter != ' ') {
            self.push(' ', origin, false);
        }
        self.at = origin.end;
        true
    }

    fn entity(&mut self) -> bool {
        let Some(entity) = markup::entity_at(&self.letters[self.at..]) else {
            return false;
        };
        let origin = self.span_to(self.at + entity.length);
        for letter in entity.letter.nfkc() {
            self.push(letter, origin, true);
        }
        self.at = origin.end;
        true
    }

    /// One letter with the marks that belong to it, in compatibility form.
    fn letter(&mut self) {
        let first = self.letters[self.at];
        let mut end = self.at + 1;
        if first.is_ascii() && !self.letters.get(end).is_some_and(|c| joins(*c)) {
            let origin = self.span_to(end);
            self.push(first, origin, true);
            self.at = end;
            return;
        }
        let limit = self.letters.len().min(end + MARKS_TOGETHER);
        while end < limit && joins(self.letters[end]) {
            end += 1;
        }
        let origin = self.span_to(end);
        let (invisible, visible): (Vec<char>, Vec<char>) =
            self.letters[self.at..end].iter().partition(|c| is_invisible(**c));
        self.found.invisible += invisible.len();
        let composed: Vec<char> = visible.into_iter().nfkc().collect();
        let marks = composed.iter().filter(|c| is_combining_mark(**c)).count();
        let bearer = match composed.first() {
            Some(c) if is_combining_mark(*c) => self.pieces.last().map(|piece| piece.letter),
            first => first.copied(),
        };
        let overloaded = marks > MARKS_PER_LETTER && bearer.is_some_and(is_latin);
        for letter in composed {
            if overloaded && is_combining_mark(letter) {
                continue;
            }
            self.push(letter, origin, true);
        }
        self.at = end;
    }
}

fn is_latin(c: char) -> bool {
    matches!(c, 'a'..='z' | 'A'..='Z' | '\u{c0}'..='\u{24f}' | '\u{1e00}'..='\u{1eff}')
}

/// Whether `c` belongs to the letter before it.
fn joins(c: char) -> bool {
    is_combining_mark(c) && !is_invisible(c) || matches!(c, '\u{1161}'..='\u{1175}' | '\u{11a8}'..='\u{11c2}')
}

/// White-space runs become one space, or one line break where they hold one;
/// none is left at either end.
fn collapse_spaces(pieces: Vec<Piece>) -> Vec<Piece> {
    let mut kept: Vec<Piece> = Vec::with_capacity(pieces.len());
    for piece in pieces {
        if !piece.letter.is_whitespace() {
            kept.push(piece);
            continue;
        }
        match kept.last_mut() {
            None => {}
            Some(last) if last.letter.is_whitespace() => {
                last.origin.end = last.origin.end.max(piece.origin.end);
                last.written |= piece.written;
                if piece.letter == '\n' {
                    last.letter = '\n';
                }
            }
            Some(_) => kept.push(piece),
        }
    }
    if kept.last().is_some_and(|piece| piece.letter.is_whitespace()) {
        kept.pop();
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assess::links;

    fn judged(text: &str) -> JudgedText {
        normalise(text, &links::find(text)).judged
    }

    fn check(text: &str, expected: &str) {
        assert_eq!(judged(text).text, expected, "{text:?}");
    }

    #[test]
    fn invisible_characters_are_taken_out() {
        check("fr\u{200b}ee m\u{ad}oney\u{feff}", "free money");
        check("a\u{202e}b\u{e0041}c", "abc");
        check(" \u{200b}\u{0} \u{2060}", "");
    }

    #[test]
    fn compatibility_forms_become_plain_letters() {
        check("ＦＵＬＬ 𝐛𝐨𝐥𝐝 ⓒⓘⓡⓒⓛⓔ ﬁne", "FULL bold circle fine");
        check("cafe\u{301} \u{1112}\u{1161}\u{11ab}", "café 한");
        check("z\u{335}\u{321}\u{489}\u{489}algo", "zalgo");
    }

    #[test]
    fn other_scripts_are_left_alone() {
        for text in ["मेंटरिंग बहुत अच्छा है", "வழிகாட்டுதல் நல்லது", "یہ بہت اچھا ہے", "Це добре для дітей"]
        {
            check(text, &text.nfkc().collect::<String>());
        }
    }

    #[test]
    fn mark_up_is_dropped_and_its_text_stays() {
        check("<p>one</p><p>two &amp; three</p>", "one\ntwo & three");
        check("id<b></b>iot", "idiot");
        check("<script>alert(1)</script>", "alert(1)");
        check("I <3 this, x < y", "I <3 this, x < y");
        check("&lt;b&gt; isn&#8217;t", "<b> isn't");
        check("<a href=\"http://pills.xyz/q\">here</a>", "link pills xyz here");
    }

    #[test]
    fn emoji_and_links_are_put_into_words() {
        check("yes👍🏽👍🏽!", "yes thumbs up thumbs up !");
        check("😂😂😂😂😂😂", "face with tears of joy face with tears of joy face with tears of joy");
        check("see https://www.charity.example.org/x now", "see link charity example org now");
    }

    #[test]
    fn each_judged_character_points_at_the_original() {
        let text = "Ok &amp; 👍 f.u.c.k  <b>so</b>ooo";
        let judged = judged(text);
        assert_eq!(judged.text, "Ok & thumbs up fuck soo");
        assert_eq!(judged.origin.len(), judged.text.chars().count());
        let at = |start, end| judged.to_original(Span { start, end }).unwrap().slice(text);
        assert_eq!(at(3, 4), "&amp;");
        assert_eq!(at(5, 14), "👍");
        assert_eq!(at(15, 19), "f.u.c.k");
        assert_eq!(at(20, 23), "so</b>ooo");
    }

    #[test]
    fn an_ordinary_comment_is_read_as_it_stands() {
        for text in [
            "Year 7s at KS3 pay £5 by 4pm, e.g. on the 3rd; 50/50 with the N.H.S. or A&E.",
            "B&Q gave 100% to us (M6, G8) :) x-ray t-shirt 24/7",
            "yow ay gunna stop our kid, am ya? It's a bostin' idea 10/10",
            "Ask at help@example.org.uk or #mentoring @user",
        ] {
            check(text, text);
        }
    }

    #[test]
    fn white_space_keeps_its_line_breaks() {
        check("  a \t b\r\n\r\n c \u{a0} d ", "a b\nc d");
    }
}
