//! HTML tags, `BBCode` and character entities, recognised one at a time.
//!
//! Nothing is parsed as a document: a tag is dropped only where its name is a
//! real one, so that "x < y" and "<3" stay. What stands between tags stays.

/// Tags longer than this are no tags.
const LONGEST_TAG: usize = 2_000;

const LINE_TAGS: &[&str] = &[
    "br",
    "p",
    "div",
    "li",
    "ul",
    "ol",
    "tr",
    "table",
    "h1",
    "h2",
    "h3",
    "h4",
    "h5",
    "h6",
    "hr",
    "blockquote",
    "section",
    "article",
    "header",
    "footer",
    "pre",
    "td",
    "th",
    "tbody",
    "thead",
    "dl",
    "dt",
    "dd",
    "form",
    "fieldset",
    "figure",
    "body",
    "html",
    "head",
    "title",
    "script",
    "style",
];

const INLINE_TAGS: &[&str] = &[
    "a",
    "b",
    "i",
    "u",
    "s",
    "em",
    "strong",
    "span",
    "font",
    "img",
    "small",
    "big",
    "sub",
    "sup",
    "code",
    "tt",
    "q",
    "cite",
    "del",
    "ins",
    "strike",
    "mark",
    "abbr",
    "label",
    "input",
    "button",
    "iframe",
    "svg",
    "video",
    "audio",
    "source",
    "link",
    "meta",
    "object",
    "embed",
    "center",
    "marquee",
    "blink",
    "wbr",
    "nobr",
    "select",
    "option",
    "textarea",
    "canvas",
    "base",
    "time",
    "o:p",
    "details",
    "summary",
    "figcaption",
    "picture",
    "noscript",
    "image",
    "onload",
];

const SQUARE_TAGS: &[&str] =
    &["b", "i", "u", "s", "url", "img", "quote", "code", "color", "size", "center", "list", "link", "email", "video"];

/// A tag at the start of a stretch of characters.
pub(super) struct Tag {
    /// Characters it takes.
    pub length: usize,
    /// Whether what follows stands on a line of its own.
    pub breaks_line: bool,
}

/// The tag that starts `letters`, if one does.
pub(super) fn tag_at(letters: &[char]) -> Option<Tag> {
    let (open, close) = match letters.first()? {
        '<' => ('<', '>'),
        '[' => ('[', ']'),
        _ => return None,
    };
    if letters.get(1) == Some(&'!') && open == '<' {
        let length = length_to(letters, open, close)?;
        return Some(Tag { length, breaks_line: false });
    }
    let slash = usize::from(letters.get(1) == Some(&'/'));
    let name: String = letters[1 + slash..]
        .iter()
        .take(12)
        .take_while(|c| c.is_ascii_alphanumeric() || **c == ':')
        .map(char::to_ascii_lowercase)
        .collect();
    let breaks_line = open == '<' && LINE_TAGS.contains(&name.as_str());
    let known = breaks_line
        || open == '<' && INLINE_TAGS.contains(&name.as_str())
        || open == '[' && SQUARE_TAGS.contains(&name.as_str());
    let behind = letters.get(1 + slash + name.len())?;
    let ends_name = *behind == close || behind.is_whitespace() || matches!(behind, '/' | '=' | '-');
    if !known || !ends_name || (open == '[' && behind.is_whitespace()) {
        return None;
    }
    let length = length_to(letters, open, close)?;
    Some(Tag { length, breaks_line })
}

/// Characters up to and with `close`; none if another tag opens before it, so
/// that a text of nothing but opening brackets is still read in linear time.
fn length_to(letters: &[char], open: char, close: char) -> Option<usize> {
    for (position, c) in letters.iter().enumerate().take(LONGEST_TAG).skip(1) {
        if *c == close {
            return Some(position + 1);
        }
        if *c == open {
            return None;
        }
    }
    None
}

/// A character entity at the start of a stretch of characters.
pub(super) struct Entity {
    /// Characters it takes.
    pub length: usize,
    /// What it stands for.
    pub letter: char,
}

const NAMED: &[(&str, char)] = &[
    ("amp", '&'),
    ("lt", '<'),
    ("gt", '>'),
    ("quot", '"'),
    ("apos", '\''),
    ("nbsp", ' '),
    ("pound", '£'),
    ("euro", '€'),
    ("hellip", '…'),
    ("lsquo", '‘'),
    ("rsquo", '’'),
    ("ldquo", '“'),
    ("rdquo", '”'),
    ("ndash", '–'),
    ("mdash", '—'),
    ("bull", '•'),
    ("middot", '·'),
    ("copy", '©'),
    ("reg", '®'),
    ("trade", '™'),
    ("deg", '°'),
    ("eacute", 'é'),
    ("egrave", 'è'),
    ("agrave", 'à'),
    ("ccedil", 'ç'),
    ("ouml", 'ö'),
    ("uuml", 'ü'),
    ("auml", 'ä'),
    ("szlig", 'ß'),
    ("ntilde", 'ñ'),
    ("iacute", 'í'),
    ("oacute", 'ó'),
    ("aacute", 'á'),
    ("uacute", 'ú'),
    ("frac12", '½'),
    ("shy", '\u{ad}'),
    ("zwnj", '\u{200c}'),
    ("zwj", '\u{200d}'),
    ("ensp", ' '),
    ("emsp", ' '),
    ("thinsp", ' '),
    ("times", '×'),
    ("hearts", '♥'),
    ("rarr", '→'),
    ("larr", '←'),
];

/// The entity that starts `letters`, if one does; `&amp;#39;` counts as one.
pub(super) fn entity_at(letters: &[char]) -> Option<Entity> {
    if *letters.first()? != '&' {
        return None;
    }
    let body: String = letters[1..].iter().take(16).collect();
    let (body, doubled) = match body.strip_prefix("amp;") {
        Some(rest) if decode(rest).is_some() => (rest, 4),
        _ => (body.as_str(), 0),
    };
    let (letter, length) = decode(body)?;
    Some(Entity { length: 1 + doubled + length, letter })
}

/// `#39;` as an apostrophe and four characters.
fn decode(body: &str) -> Option<(char, usize)> {
    let name = &body[..body.find(';')?];
    let letter = match name.strip_prefix('#') {
        Some(number) => {
            let code = match number.strip_prefix(['x', 'X']) {
                Some(hex) => u32::from_str_radix(hex, 16).ok()?,
                None => number.parse().ok()?,
            };
            char::from_u32(code)?
        }
        None => NAMED.iter().find(|(known, _)| *known == name)?.1,
    };
    Some((letter, name.chars().count() + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tag_length(text: &str) -> Option<usize> {
        tag_at(&text.chars().collect::<Vec<_>>()).map(|tag| tag.length)
    }

    fn entity(text: &str) -> Option<(char, usize)> {
        entity_at(&text.chars().collect::<Vec<_>>()).map(|one| (one.letter, one.length))
    }

    #[test]
    fn real_tags_are_recognised() {
        assert_eq!(tag_length("<b>x"), Some(3));
        assert_eq!(tag_length("</p>"), Some(4));
        assert_eq!(tag_length("<a href=\"x\">y"), Some(12));
        assert_eq!(tag_length("<br/>"), Some(5));
        assert_eq!(tag_length("<!-- wp:paragraph -->"), Some(21));
        assert_eq!(tag_length("[url=x]"), Some(7));
    }

    #[test]
    fn signs_that_only_look_like_tags_stay() {
        for text in ["<3", "< b", "<y and z>", "<", "<b", "<b <b>", "[name]", "[i think]", "[B"] {
            assert_eq!(tag_length(text), None, "{text}");
        }
    }

    #[test]
    fn entities_are_decoded_once_or_twice_escaped() {
        assert_eq!(entity("&amp; so"), Some(('&', 5)));
        assert_eq!(entity("&#39;s"), Some(('\'', 5)));
        assert_eq!(entity("&#x1F44D;"), Some(('👍', 9)));
        assert_eq!(entity("&amp;#8217;"), Some(('’', 11)));
        assert_eq!(entity("A&E;"), None);
        assert_eq!(entity("&e"), None);
        assert_eq!(entity("&#99999999999;"), None);
    }
}
