//! Charts as static SVG: no script, no colour alone, nothing that needs a mouse.
//!
//! Widths are percentages and heights are pixels, without a view box, so that a
//! bar fills its column at 320 pixels as on A4 and its pattern is never
//! stretched. Words stand beside the drawing as HTML, where they can wrap.

use std::fmt::Write;

/// How a part of a bar is filled; each differs in pattern, not only in colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fill {
    /// Solid: for, included.
    Solid,
    /// Slanted lines: mixed, excluded.
    Slanted,
    /// Dots on light grey: unclear, held.
    Dotted,
    /// Level lines on a dark ground: against, failed.
    Lined,
    /// Black: escalated.
    Black,
    /// White: waiting, not judged.
    White,
}

impl Fill {
    /// For, mixed, unclear, against.
    pub const POSITIONS: [Self; 4] = [Self::Solid, Self::Slanted, Self::Dotted, Self::Lined];

    fn paint(self) -> &'static str {
        match self {
            Self::Solid => "#1d70b8",
            Self::Slanted => "url(#fill-slanted)",
            Self::Dotted => "url(#fill-dotted)",
            Self::Lined => "url(#fill-lined)",
            Self::Black => "#0b0c0c",
            Self::White => "#ffffff",
        }
    }
}

/// The patterns; once on a page, before the first chart.
pub const PATTERNS: &str = r##"<svg class="defs" width="0" height="0" aria-hidden="true" focusable="false"><defs>
<pattern id="fill-slanted" width="7" height="7" patternUnits="userSpaceOnUse" patternTransform="rotate(45)"><rect width="7" height="7" fill="#ffffff"/><rect width="3" height="7" fill="#505a5f"/></pattern>
<pattern id="fill-dotted" width="6" height="6" patternUnits="userSpaceOnUse"><rect width="6" height="6" fill="#eeefef"/><circle cx="3" cy="3" r="1" fill="#505a5f"/></pattern>
<pattern id="fill-lined" width="6" height="6" patternUnits="userSpaceOnUse"><rect width="6" height="6" fill="#7a2e0b"/><rect width="6" height="2" fill="#ffffff"/></pattern>
</defs></svg>"##;

/// Text that may stand in HTML or SVG.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&quot;",
            '\'' => out += "&#39;",
            _ => out.push(letter),
        }
    }
    out
}

fn share(count: u64, scale: u64) -> f64 {
    if scale == 0 { 0.0 } else { count as f64 / scale as f64 * 100.0 }
}

fn open(id: &str, class: &str, height: u32, title: &str, desc: &str) -> String {
    format!(
        "<svg id=\"{id}\" class=\"{class}\" width=\"100%\" height=\"{height}\" role=\"img\" \
         aria-labelledby=\"{id}-title {id}-desc\"><title id=\"{id}-title\">{}</title><desc id=\"{id}-desc\">{}</desc>",
        escape(title),
        escape(desc)
    )
}

/// A horizontal bar of parts; `scale` is the count that fills the whole width.
pub fn bar(id: &str, parts: &[(Fill, u64)], scale: u64, title: &str, desc: &str) -> String {
    let mut out = open(id, "bar", 26, title, desc);
    let mut from = 0;
    for (fill, count) in parts.iter().filter(|(_, count)| *count > 0) {
        let _ = write!(
            out,
            "<rect x=\"{:.2}%\" y=\"1\" width=\"{:.2}%\" height=\"24\" fill=\"{}\" stroke=\"#0b0c0c\"/>",
            share(from, scale),
            share(*count, scale),
            fill.paint()
        );
        from += count;
    }
    if from == 0 {
        out += "<line x1=\"0.5\" y1=\"1\" x2=\"0.5\" y2=\"25\" stroke=\"#0b0c0c\"/>";
    }
    out + "</svg>"
}

/// The square beside a word of a legend.
pub fn swatch(fill: Fill) -> String {
    format!(
        "<svg class=\"swatch\" width=\"22\" height=\"16\" aria-hidden=\"true\" focusable=\"false\"><rect x=\"1\" y=\"1\" \
         width=\"20\" height=\"14\" fill=\"{}\" stroke=\"#0b0c0c\"/></svg>",
        fill.paint()
    )
}

/// Columns from zero, with a line at the height of the largest.
pub fn columns(id: &str, counts: &[u64], title: &str, desc: &str) -> String {
    const HEIGHT: u32 = 180;
    const TOP: f64 = 14.0;
    const BASE: f64 = 178.0;
    let most = counts.iter().copied().max().unwrap_or(0).max(1);
    let mut out = open(id, "columns", HEIGHT, title, desc);
    let y = |count: f64| BASE - (BASE - TOP) * count / most as f64;
    let _ = write!(
        out,
        "<line x1=\"0\" x2=\"100%\" y1=\"{0:.1}\" y2=\"{0:.1}\" stroke=\"#6f777b\" stroke-dasharray=\"3 3\"/>",
        y(most as f64)
    );
    let width = 100.0 / counts.len().max(1) as f64;
    for (at, count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
        let _ = write!(
            out,
            "<rect x=\"{:.2}%\" y=\"{:.1}\" width=\"{:.2}%\" height=\"{:.1}\" fill=\"#1d70b8\" stroke=\"#0b0c0c\"/>",
            width * (at as f64 + 0.15),
            y(*count as f64),
            width * 0.7,
            BASE - y(*count as f64)
        );
        // A value fits above its column while columns are wide; the table has them all.
        if counts.len() <= 16 {
            let _ = write!(
                out,
                "<text x=\"{:.2}%\" y=\"{:.1}\" text-anchor=\"middle\">{count}</text>",
                width * (at as f64 + 0.5),
                y(*count as f64) - 3.0
            );
        }
    }
    let _ =
        write!(out, "<line x1=\"0\" x2=\"100%\" y1=\"{BASE}\" y2=\"{BASE}\" stroke=\"#0b0c0c\" stroke-width=\"2\"/>");
    out + "</svg>"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chart_has_a_title_and_never_carries_markup_from_outside() {
        let svg = bar("b1", &[(Fill::Solid, 3), (Fill::Lined, 1)], 8, "<script>", "a & b");
        assert!(svg.contains("<title id=\"b1-title\">&lt;script&gt;</title>"));
        assert!(svg.contains("x=\"37.50%\"") && svg.contains("width=\"12.50%\""));
    }

    #[test]
    fn nothing_to_show_is_still_a_drawing() {
        assert!(bar("b", &[], 0, "t", "d").ends_with("</svg>"));
        assert!(columns("c", &[], "t", "d").ends_with("</svg>"));
        assert!(!columns("c", &[0, 0], "t", "d").contains("NaN"));
    }
}
