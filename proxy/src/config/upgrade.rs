//! Which protocols a client may go on with on its HTTP/1.1 connection (`upgrade_configs`).

/// One of the protocols somebody says something of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upgrade {
    /// The whole value of `Upgrade`; its case does not matter.
    pub kind: Box<str>,
    /// Whether it is allowed.
    pub is_enabled: bool,
}

/// Whether a request may go on as `kind`: as its route says, else as the connection manager does.
#[must_use]
pub fn is_allowed(route: &[Upgrade], manager: &[Upgrade], kind: &[u8]) -> bool {
    let said = |list: &[Upgrade]| {
        let mut list = list.iter();
        let found = list.find(|upgrade| upgrade.kind.as_bytes().eq_ignore_ascii_case(kind));
        found.map(|upgrade| upgrade.is_enabled)
    };
    said(route).or_else(|| said(manager)).unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_route_decides_where_it_says_something() {
        let list = |is_enabled| {
            let kind = "WebSocket".into();
            vec![Upgrade { kind, is_enabled }]
        };
        let (on, off) = (list(true), list(false));
        for (route, manager, allowed) in [
            (&[][..], &[][..], false),
            (&[], &on, true),
            (&[], &off, false),
            (&off, &on, false),
            (&on, &[], true),
            (&on, &off, true),
        ] {
            assert_eq!(is_allowed(route, manager, b"websocket"), allowed);
            assert!(!is_allowed(route, manager, b"websocket, other"));
        }
    }
}
