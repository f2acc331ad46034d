//! What the addresses of servers have in common, whoever reads the rest: `scheme://user:password@host/path?query`.

/// Whether a password stands in an address (RFC 3986, section 3.2.1).
///
/// # Errors
/// An `@` behind the host, in words that quote nothing: a `/`, `?` or `#` in a password was not percent-encoded, and
/// what follows it would be taken for a path or a query, and be printed.
pub fn has_password(address: &str) -> Result<bool, &'static str> {
    let rest = address.split_once("://").map_or("", |(_, rest)| rest);
    let (authority, behind) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    if behind.contains('@') {
        return Err("has an `@` behind its host: percent-encode `@`, `/`, `?` and `#` in a password");
    }
    Ok(authority.rsplit_once('@').is_some_and(|(user, _)| user.contains(':')))
}

#[cfg(test)]
mod tests {
    use super::has_password;

    #[test]
    fn a_password_stands_before_the_host_or_is_refused() {
        for (address, expected) in [
            ("amqp://u:p@h/v", Ok(true)),
            ("amqp://u@h:5672/v", Ok(false)),
            ("postgres://h?user=u", Ok(false)),
            ("h", Ok(false)),
        ] {
            assert_eq!(has_password(address), expected, "{address}");
        }
        for address in ["amqp://u/:p@h", "postgres://u:?p@h/d", "postgres://u:#p@h/d"] {
            assert!(has_password(address).unwrap_err().contains("percent-encode"), "{address}");
        }
    }
}
