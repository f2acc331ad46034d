//! Numbers as readers write them.

/// `1,842`.
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A whole percentage that never rounds something to nothing, or most to all.
pub fn whole_percent(count: u64, base: u64) -> String {
    let percent = |count: u64| (u128::from(count) * 200 + u128::from(base)) / (u128::from(base) * 2);
    match (count, base) {
        (0, _) | (_, 0) => "0%".to_owned(),
        _ if percent(count) == 0 => "less than 1%".to_owned(),
        _ if percent(count) >= 100 && count < base => "more than 99%".to_owned(),
        _ => format!("{}%", percent(count)),
    }
}

/// `1 comment`, `1,842 comments`.
pub fn plural(count: u64, one: &str, many: &str) -> String {
    format!("{} {}", thousands(count), if count == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_never_round_something_to_nothing_or_most_to_all() {
        assert_eq!(whole_percent(0, 900), "0%");
        assert_eq!(whole_percent(1, 900), "less than 1%");
        assert_eq!(whole_percent(899, 900), "more than 99%");
        assert_eq!(whole_percent(900, 900), "100%");
        assert_eq!(whole_percent(1, 8), "13%");
        assert_eq!(whole_percent(0, 0), "0%");
    }

    #[test]
    fn thousands_are_marked() {
        assert_eq!(thousands(999), "999");
        assert_eq!(thousands(1_234_567), "1,234,567");
        assert_eq!(plural(1, "comment", "comments"), "1 comment");
    }
}
