//! Whether a leaf has a name that is wanted.
//!
//! A name with a control character or a NUL never matches (security case T6): who reads the
//! certificate next may see another name in it.

use x509_parser::certificate::X509Certificate;

use crate::config::matcher::StringPattern;
use crate::config::tls::NameKind;
use crate::config::tls::NameMatch;
use crate::net::tls::facts::Names;

/// Most names looked at: a certificate with more has no honest use, and each costs all matchers.
const NAMES_MAX: usize = 1000;

/// Whether one of `wanted` holds for one of the leaf's names.
pub(super) fn match_any(wanted: &[NameMatch], names: &Names) -> bool {
    wanted.iter().any(|wanted| {
        let found = match wanted.kind {
            NameKind::Dns => &names.dns,
            NameKind::Email => &names.emails,
            NameKind::Ip => &names.ips,
            NameKind::Uri => &names.uris,
        };
        let mut plain = found
            .iter()
            .filter(|name| !name.bytes().any(|byte| byte.is_ascii_control()));
        plain.any(|name| matches(wanted, name))
    })
}

fn matches(wanted: &NameMatch, name: &str) -> bool {
    match &wanted.matcher.pattern {
        // Envoy: an exact DNS name is a host, for which a wildcard certificate is good.
        StringPattern::Exact(host) if wanted.kind == NameKind::Dns => is_for_host(name, host),
        StringPattern::Contains(_)
        | StringPattern::Exact(_)
        | StringPattern::Prefix(_)
        | StringPattern::Regex(_)
        | StringPattern::Suffix(_) => wanted.matcher.matches(name.as_bytes()),
    }
}

/// RFC 6125 section 6.4.3: a star is the whole leftmost label.
fn is_for_host(name: &str, host: &str) -> bool {
    let Some(rest) = name.strip_prefix("*.") else {
        return name.eq_ignore_ascii_case(host);
    };
    host.split_once('.').is_some_and(|(label, parent)| {
        !label.is_empty() && rest.contains('.') && parent.eq_ignore_ascii_case(rest)
    })
}

/// Whether the leaf has more names than anybody needs.
pub(super) fn has_too_many(leaf: &X509Certificate<'_>) -> bool {
    let names = leaf.subject_alternative_name().ok().flatten();
    names.is_some_and(|names| names.value.general_names.len() > NAMES_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::matcher::StringMatch;

    fn wanted(kind: NameKind, host: &str) -> [NameMatch; 1] {
        [NameMatch {
            kind,
            matcher: StringMatch {
                pattern: StringPattern::Exact(host.into()),
                ignore_case: false,
            },
        }]
    }

    fn dns(names: &[&str]) -> Names {
        Names {
            dns: names.iter().map(|name| (*name).into()).collect(),
            ..Names::default()
        }
    }

    #[test]
    fn t06_wildcards_cover_one_label() {
        let is_for = |name, host| match_any(&wanted(NameKind::Dns, host), &dns(&[name]));
        assert!(is_for("*.example.com", "a.example.com"));
        assert!(is_for("*.EXAMPLE.com", "a.example.COM"));
        for host in [
            "example.com",
            "a.b.example.com",
            ".example.com",
            "aexample.com",
        ] {
            assert!(!is_for("*.example.com", host), "{host}");
        }
        assert!(!is_for("*.com", "example.com"), "a star for a whole domain");
        assert!(
            !is_for("a*.example.com", "ab.example.com"),
            "part of a label"
        );
    }

    #[test]
    fn t06_kinds_are_not_mixed_and_control_characters_never_match() {
        assert!(!match_any(&wanted(NameKind::Uri, "a"), &dns(&["a"])));
        assert!(!match_any(&wanted(NameKind::Dns, "a\0b"), &dns(&["a\0b"])));
    }
}
