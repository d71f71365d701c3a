//! `x-forwarded-for`: who the client is, and telling the next hop.
//!
//! The rules are those of Envoy's `use_remote_address`, `xff_num_trusted_hops` and
//! `skip_xff_append`. It trusts nothing that the configuration does not say to trust.

use std::net::IpAddr;

use http::HeaderMap;
use http::HeaderValue;

use crate::http::headers::names::X_FORWARDED_FOR;

/// The address behind the last `skip` ones, counted from the right over all values; `None` if there
/// are fewer or it is no address.
pub(super) fn address_from_right(headers: &HeaderMap, skip: usize) -> Option<IpAddr> {
    headers
        .get_all(&X_FORWARDED_FOR)
        .iter()
        .rev()
        .flat_map(|value| value.as_bytes().rsplit(|byte| *byte == b','))
        .nth(skip)
        .and_then(|text| std::str::from_utf8(text).ok())
        .and_then(|text| text.trim_ascii().parse().ok())
}

/// How many addresses there are.
pub(super) fn count(headers: &HeaderMap) -> usize {
    let values = headers.get_all(&X_FORWARDED_FOR).iter();
    values
        .map(|value| 1 + memchr::memchr_iter(b',', value.as_bytes()).count())
        .sum()
}

/// Adds `address` behind what is there. Allocates only if something is there.
pub(super) fn append(headers: &mut HeaderMap, address: &HeaderValue) {
    let mut joined = Vec::new();
    for value in headers.get_all(&X_FORWARDED_FOR) {
        joined.extend_from_slice(value.as_bytes());
        joined.push(b',');
    }
    let value = if joined.is_empty() {
        address.clone()
    } else {
        joined.extend_from_slice(address.as_bytes());
        // Joining valid values with a comma gives a valid one; the direct peer alone is the safe
        // answer if that were wrong.
        HeaderValue::try_from(joined).unwrap_or_else(|_invalid| address.clone())
    };
    headers.insert(X_FORWARDED_FOR.clone(), value);
}
