//! Links in a text, and what kind of place each leads to.
//!
//! Bare hosts ("example.org/page") count when they end in a known top-level
//! domain, so that "ok.Then" and "e.g.this" are no links.

use linkify::{LinkFinder, LinkKind};

use crate::domain::score::Span;

/// Endings that make a host without a scheme a link.
const TOP_LEVEL: &[&str] = &[
    "com", "net", "org", "uk", "info", "biz", "io", "ly", "co", "ru", "cn", "xyz", "top", "online", "site", "shop",
    "store", "club", "live", "app", "dev", "ai", "tv", "eu", "de", "fr", "pl", "ca", "au", "ie", "nl", "win", "vip",
    "gov", "edu", "link", "click", "space", "website", "tech", "blog", "news", "win", "bet", "casino", "loan", "work",
    "gg", "cc", "tk", "ml", "ga", "cf", "pw", "wales", "scot", "london", "charity", "page", "fun", "icu", "buzz",
    "pro", "mobi",
];

/// Endings that are also English words: a link only with a path behind them.
const WORD_LIKE: &[&str] = &["me", "in", "it", "to", "so", "us", "my", "be", "at", "am", "is", "no", "as", "do"];

/// Endings that spammers buy by the thousand.
const ODD_ENDINGS: &[&str] = &[
    "ru", "cn", "xyz", "top", "online", "site", "shop", "club", "live", "win", "vip", "click", "space", "website",
    "bet", "casino", "loan", "tk", "ml", "ga", "cf", "pw", "fun", "icu", "buzz", "cc", "biz", "gg",
];

/// Hosts that hide where a link leads.
const SHORTENERS: &[&str] = &[
    "bit.ly",
    "tinyurl.com",
    "t.co",
    "goo.gl",
    "ow.ly",
    "is.gd",
    "buff.ly",
    "rebrand.ly",
    "cutt.ly",
    "shorturl.at",
    "rb.gy",
    "t.me",
    "wa.me",
    "tiny.cc",
    "lnkd.in",
    "linktr.ee",
    "t.ly",
    "adf.ly",
    "bl.ink",
    "s.id",
    "v.gd",
    "qr.ae",
    "discord.gg",
];

/// Endings of hosts run by public bodies and charities.
const PUBLIC_GOOD: &[&str] = &[
    ".gov.uk",
    ".nhs.uk",
    ".sch.uk",
    ".ac.uk",
    ".police.uk",
    ".org.uk",
    ".org",
    ".mod.uk",
    ".gov.wales",
    ".gov.scot",
    ".parliament.uk",
    ".bbc.co.uk",
    ".barnardos.org.uk",
];

/// One link of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Where, in characters of the text.
    pub span: Span,
    /// Lower case, without `www.`.
    pub host: String,
}

impl Link {
    /// Whether a public body or a charity is behind it.
    pub fn is_public_good(&self) -> bool {
        PUBLIC_GOOD.iter().any(|ending| self.host.ends_with(ending) || self.host == ending[1..])
    }

    /// Whether the host is a link shortener or has an ending that spam favours.
    pub fn is_suspect(&self) -> bool {
        SHORTENERS.contains(&self.host.as_str())
            || self.host.rsplit('.').next().is_some_and(|ending| ODD_ENDINGS.contains(&ending))
    }

    /// What the encoder reads in the link's place.
    pub fn words(&self) -> String {
        let mut words = String::from("link");
        for part in self.host.split(|c: char| !c.is_alphanumeric()) {
            if !part.is_empty() {
                words.push(' ');
                words.extend(part.chars().take(40));
            }
        }
        words
    }
}

/// The links of `text`, in order.
pub fn find(text: &str) -> Vec<Link> {
    let mut finder = LinkFinder::new();
    finder.kinds(&[LinkKind::Url]).url_must_have_scheme(false);
    let mut links = Vec::new();
    let (mut byte, mut position) = (0, 0);
    for found in finder.links(text) {
        let Some(host) = host_of(found.as_str()) else {
            continue;
        };
        let (Some(before), Some(inside)) = (text.get(byte..found.start()), text.get(found.start()..found.end())) else {
            continue;
        };
        let start = position + before.chars().count();
        position = start + inside.chars().count();
        byte = found.end();
        links.push(Link { span: Span { start, end: position }, host });
    }
    links
}

/// The host of something shaped like a link; `None` when it is none after all.
fn host_of(url: &str) -> Option<String> {
    let (scheme, rest) = match url.split_once("://") {
        Some((_, rest)) => (true, rest),
        None => (false, url),
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
    let has_path = authority.len() < rest.len();
    let host = authority.rsplit('@').next().unwrap_or(authority);
    let host = host.split(':').next().unwrap_or(host).to_lowercase();
    let (www, host) = match host.strip_prefix("www.") {
        Some(bare) => (true, bare),
        None => (false, host.as_str()),
    };
    if host.is_empty() {
        return None;
    }
    if scheme || www {
        return Some(host.to_owned());
    }
    let (before, ending) = host.rsplit_once('.')?;
    let known = TOP_LEVEL.contains(&ending) || (has_path && WORD_LIKE.contains(&ending));
    let name = before.rsplit('.').next().unwrap_or(before);
    (known && name.chars().count() >= 2 || SHORTENERS.contains(&host)).then(|| host.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(text: &str) -> Vec<String> {
        find(text).into_iter().map(|link| link.host).collect()
    }

    #[test]
    fn links_are_found_with_and_without_a_scheme() {
        assert_eq!(
            hosts("see https://www.example.org/a?b=c, or shop.example.co.uk and bit.ly/xyz."),
            ["example.org", "shop.example.co.uk", "bit.ly"]
        );
    }

    #[test]
    fn a_missing_space_after_a_full_stop_makes_no_link() {
        assert_eq!(
            hosts("that is ok.Then we left e.g.this one.it was fine.so there.me too Node.js"),
            Vec::<String>::new()
        );
        assert_eq!(hosts("mail me at someone@example.com"), Vec::<String>::new());
    }

    #[test]
    fn the_span_counts_characters() {
        let text = "né 👍 www.example.com!";
        let links = find(text);
        assert_eq!(links[0].span.slice(text), "www.example.com");
    }

    #[test]
    fn public_bodies_are_told_from_the_rest() {
        let links = find("www.dudley.gov.uk https://nspcc.org.uk bit.ly/a pills.xyz example.com");
        let good: Vec<bool> = links.iter().map(Link::is_public_good).collect();
        assert_eq!(good, [true, true, false, false, false]);
        let suspect: Vec<bool> = links.iter().map(Link::is_suspect).collect();
        assert_eq!(suspect, [false, false, true, true, false]);
    }
}
