//! Fields that are mostly not there.
//!
//! A map of headers hashes the name it looks for, which takes about as long as to compare it with as many
//! names as most heads have.

use http::HeaderMap;
use http::HeaderName;
use http::HeaderValue;

/// So many names are compared: ten are as long as to hash one of 35 bytes, and short ones are hashed sooner.
const FEW: usize = 8;

/// Whether there is such a field.
#[inline]
pub(crate) fn has(headers: &HeaderMap, name: &HeaderName) -> bool {
    if headers.len() > FEW {
        return headers.contains_key(name);
    }
    headers.keys().any(|own| own == name)
}

/// The first value of such a field.
#[inline]
pub(crate) fn first<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h HeaderValue> {
    if headers.len() > FEW || has(headers, name) {
        return headers.get(name);
    }
    None
}

/// Takes all values of such a field away.
#[inline]
pub(crate) fn remove(headers: &mut HeaderMap, name: &HeaderName) {
    if has(headers, name) {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn among_few_and_among_many_the_same_is_found() {
        const WANTED: HeaderName = HeaderName::from_static("x-wanted");
        for count in [0, 1, FEW, 2 * FEW] {
            let mut headers = HeaderMap::new();
            for number in 0..count {
                let name = format!("x-{number}").parse::<HeaderName>();
                headers.append(name.expect("a name"), HeaderValue::from_static("1"));
            }
            assert!(!has(&headers, &WANTED) && first(&headers, &WANTED).is_none());
            remove(&mut headers, &WANTED);
            assert_eq!(headers.len(), count);
            headers.append(WANTED, HeaderValue::from_static("a"));
            headers.append(WANTED, HeaderValue::from_static("b"));
            assert!(has(&headers, &WANTED));
            assert_eq!(first(&headers, &WANTED).expect("a value"), "a");
            remove(&mut headers, &WANTED);
            assert_eq!(headers.len(), count);
        }
    }
}
