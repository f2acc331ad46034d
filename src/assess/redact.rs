//! Personal data masked for every shared export, with a way to carry spans over.

use crate::domain::reading::Pii;
use crate::domain::score::Span;

/// One masked stretch: where it was and where its mark stands now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Masked {
    original: Span,
    redacted: Span,
}

/// A text whose personal data is replaced by marks such as `[email]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Redacted {
    /// What may be shared.
    pub text: String,
    masked: Vec<Masked>,
    original_chars: usize,
}

impl Redacted {
    /// Where a span of the original stands in [`Redacted::text`].
    ///
    /// An end that falls inside masked data widens to the whole mark, so that
    /// a mark is never cut; a span outside the original is clamped to it.
    pub fn map(&self, original: Span) -> Span {
        let start = self.shift(original.start.min(original.end), false);
        let end = self.shift(original.end.max(original.start), true);
        if original.start >= original.end {
            return Span { start, end: start };
        }
        Span { start, end }
    }

    /// `closing` tells whether `position` ends a span (it then belongs to the
    /// character before it) or opens one.
    fn shift(&self, position: usize, closing: bool) -> usize {
        let position = position.min(self.original_chars);
        let before = self
            .masked
            .partition_point(|mark| mark.original.start < position || (!closing && mark.original.start == position));
        let Some(mark) = before.checked_sub(1).and_then(|last| self.masked.get(last)) else {
            return position;
        };
        if position >= mark.original.end {
            return mark.redacted.end + (position - mark.original.end);
        }
        if closing { mark.redacted.end } else { mark.redacted.start }
    }
}

/// Masks all of `pii`, certain or not; spans that overlap an earlier one or lie
/// outside `text` are merged or clamped.
pub fn redact(text: &str, pii: &[Pii]) -> Redacted {
    let mut found: Vec<Pii> = pii.iter().copied().filter(|one| one.span.start < one.span.end).collect();
    found.sort_by_key(|one| (one.span.start, one.span.end));
    let mut masked: Vec<Masked> = Vec::with_capacity(found.len());
    let mut out = String::with_capacity(text.len());
    let mut out_chars = 0;
    let mut next = found.into_iter().peekable();
    let mut hidden_until = 0;
    let mut original_chars = 0;
    for (position, letter) in text.chars().enumerate() {
        original_chars = position + 1;
        while let Some(one) = next.next_if(|one| one.span.start <= position) {
            if position < hidden_until {
                // It overlaps the stretch already masked: one mark covers both.
                hidden_until = hidden_until.max(one.span.end);
                if let Some(last) = masked.last_mut() {
                    last.original.end = hidden_until;
                }
            } else {
                let mark = format!("[{}]", one.kind.key());
                let end = out_chars + mark.chars().count();
                masked.push(Masked { original: one.span, redacted: Span { start: out_chars, end } });
                out.push_str(&mark);
                out_chars = end;
                hidden_until = one.span.end;
            }
        }
        if position >= hidden_until {
            out.push(letter);
            out_chars += 1;
        }
    }
    if let Some(last) = masked.last_mut() {
        last.original.end = last.original.end.min(original_chars);
    }
    Redacted { text: out, masked, original_chars }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::reading::PiiKind;

    fn pii(kind: PiiKind, start: usize, end: usize) -> Pii {
        Pii { kind, span: Span { start, end }, certain: true }
    }

    #[test]
    fn marks_stand_in_for_data_and_spans_follow() {
        let text = "ask né a@b.uk or 0121 496 0000 today";
        let redacted = redact(text, &[pii(PiiKind::Email, 7, 13), pii(PiiKind::Phone, 17, 30)]);
        assert_eq!(redacted.text, "ask né [email] or [phone] today");
        let today = redacted.map(Span { start: 31, end: 36 });
        assert_eq!(today.slice(&redacted.text), "today");
        let cut = redacted.map(Span { start: 4, end: 9 });
        assert_eq!(cut.slice(&redacted.text), "né [email]");
        let inside = redacted.map(Span { start: 20, end: 22 });
        assert_eq!(inside.slice(&redacted.text), "[phone]");
        let up_to = redacted.map(Span { start: 0, end: 7 });
        assert_eq!(up_to.slice(&redacted.text), "ask né ");
    }

    #[test]
    fn overlapping_and_outlying_data_leave_one_mark() {
        let redacted =
            redact("abcdef", &[pii(PiiKind::Name, 1, 4), pii(PiiKind::School, 2, 99), pii(PiiKind::Name, 50, 60)]);
        assert_eq!(redacted.text, "a[name]");
        assert_eq!(redacted.map(Span { start: 0, end: 6 }), Span { start: 0, end: 7 });
    }

    #[test]
    fn a_text_without_data_is_left_alone() {
        let redacted = redact("as it is", &[]);
        assert_eq!(redacted.text, "as it is");
        assert_eq!(redacted.map(Span { start: 3, end: 5 }), Span { start: 3, end: 5 });
    }
}
