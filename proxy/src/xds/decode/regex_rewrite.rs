//! `RegexMatchAndSubstitute`: an expression, and what RE2 would put in the place of each match.

use xds_proto::pb::envoy::r#type::matcher::v3::RegexMatchAndSubstitute;

use super::Context;
use super::value;
use crate::config::regex_rewrite::RegexRewrite;
use crate::config::regex_rewrite::RewritePart;

/// Reads it.
pub(super) fn decode(
    context: &mut Context,
    rewrite: RegexMatchAndSubstitute,
) -> Option<RegexRewrite> {
    let RegexMatchAndSubstitute {
        pattern,
        substitution,
    } = rewrite;
    let regex = context.required("pattern", pattern, value::searched_regex)?;
    match parts(substitution.as_bytes(), regex.captures_len()) {
        Ok(parts) => Some(RegexRewrite { regex, parts }),
        Err(reason) => context.refuse("substitution", reason),
    }
}

/// `\0` to `\9` are groups and `\\` is a backslash.
fn parts(text: &[u8], groups: usize) -> Result<Vec<RewritePart>, String> {
    let mut parts = Vec::new();
    let mut literal = Vec::new();
    let mut bytes = text.iter().copied();
    while let Some(byte) = bytes.next() {
        if byte != b'\\' {
            literal.push(byte);
            continue;
        }
        match bytes.next() {
            Some(b'\\') => literal.push(b'\\'),
            Some(digit @ b'0'..=b'9') => {
                let group = usize::from(digit - b'0');
                if group >= groups {
                    return Err(format!("\\{group} is no group of the expression"));
                }
                if !literal.is_empty() {
                    let literal = std::mem::take(&mut literal);
                    parts.push(RewritePart::Literal(literal.into()));
                }
                parts.push(RewritePart::Group(group));
            }
            _ => return Err("after a backslash there must be a digit or a backslash".to_owned()),
        }
    }
    if !literal.is_empty() {
        parts.push(RewritePart::Literal(literal.into()));
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewritten(pattern: &str, substitution: &str, text: &str) -> Result<String, String> {
        let regex = regex::bytes::Regex::new(pattern).expect("a pattern");
        let parts = parts(substitution.as_bytes(), regex.captures_len())?;
        let rewrite = RegexRewrite { regex, parts };
        let text = rewrite.apply(text.as_bytes());
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    #[test]
    fn every_match_is_replaced() {
        let check = |pattern, substitution, text, expected: Result<&str, &str>| {
            let found = rewritten(pattern, substitution, text);
            assert_eq!(found.as_deref().map_err(|e| &**e), expected, "{pattern}");
        };
        check("^/user/([0-9]+)/.*$", r"\1", "/user/17/x", Ok("17"));
        check("b", r"[\0\\]", "abcb", Ok(r"a[b\]c[b\]"));
        check("(a)(b)?", r"\2-\1", "aab", Ok("-ab-a"));
        check("a*", "x", "aab", Ok("xbx"));
        check("q", "", "abc", Ok("abc"));
        check("(a)", r"\2", "a", Err(r"\2 is no group of the expression"));
        let broken = "after a backslash there must be a digit or a backslash";
        check("a", r"\n", "a", Err(broken));
        check("a", r"\", "a", Err(broken));
    }
}
