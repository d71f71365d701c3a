//! Session affinity: a client tells with each request which member it was served by
//! (`envoy.filters.http.stateful_session`).

use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;
use http::StatusCode;

use crate::config::Name;

/// The filter, as the connection manager has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionFilter {
    /// By this name routes speak of it.
    pub name: Name,
    /// It only acts where a route has something for it.
    pub disabled: bool,
    /// What it does.
    pub config: Arc<StatefulSession>,
}

/// What it does (`StatefulSession`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StatefulSession {
    /// Where it is told; nowhere, if there is none.
    pub state: Option<SessionState>,
    /// Nobody but the member may take the request, and this is answered if there is no such member;
    /// `None` is that another one may.
    pub strict: Option<StatusCode>,
}

/// Where the member is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionState {
    /// In a cookie.
    Cookie(SessionCookie),
    /// In a header, of requests and of responses.
    Header(HeaderName),
}

/// The cookie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionCookie {
    /// Its name.
    pub name: Box<str>,
    /// Requests it is for; empty is all.
    pub path: Box<str>,
    /// How long it says something; zero is for ever.
    pub ttl: Duration,
    /// What follows its value in `Set-Cookie`.
    pub attributes: Box<str>,
}

impl SessionCookie {
    /// Whether it is for requests of this path, which may have a query.
    pub fn is_for(&self, path: &str) -> bool {
        let Some(rest) = path.strip_prefix(&*self.path) else {
            return false;
        };
        self.path.is_empty()
            || self.path.ends_with('/')
            || rest.is_empty()
            || rest.starts_with(['/', '?', '#'])
    }
}

/// What a table, a virtual host, a route or one of its clusters says of filters, by their names. Names of
/// other filters have no effect.
pub type SessionOverrides = Box<[(Name, SessionOverride)]>;

/// What it says of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionOverride {
    /// It does not act.
    Disabled,
    /// It acts so.
    Session(Arc<StatefulSession>),
}

impl SessionFilter {
    /// How it acts, if it does; `levels` are from the most specific on.
    pub fn resolve<'c>(
        &'c self,
        levels: impl IntoIterator<Item = &'c SessionOverrides>,
    ) -> Option<&'c Arc<StatefulSession>> {
        let mut levels = levels.into_iter();
        let own = levels.find_map(|level| level.iter().find(|(name, _)| *name == self.name));
        match own {
            None => Some(&self.config).filter(|_| !self.disabled),
            Some((_, SessionOverride::Disabled)) => None,
            Some((_, SessionOverride::Session(config))) => Some(config),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_is_for_its_path_and_what_is_below() {
        let cookie = |path: &str| SessionCookie {
            name: "c".into(),
            path: path.into(),
            ttl: Duration::ZERO,
            attributes: "".into(),
        };
        for (path, asked, expected) in [
            ("", "/x", true),
            ("/", "/x", true),
            ("/a", "/a", true),
            ("/a", "/a/b", true),
            ("/a", "/a?q", true),
            ("/a", "/a#f", true),
            ("/a", "/ab", false),
            ("/a", "/", false),
            ("/a/", "/a/b", true),
            ("/a/", "/a", false),
        ] {
            assert_eq!(cookie(path).is_for(asked), expected, "{path} {asked}");
        }
    }

    #[test]
    fn the_most_specific_level_has_the_word() {
        let session = |strict| {
            Arc::new(StatefulSession {
                state: None,
                strict,
            })
        };
        let filter = |disabled| SessionFilter {
            name: "f".into(),
            disabled,
            config: session(None),
        };
        let own = session(Some(StatusCode::NOT_FOUND));
        let off: SessionOverrides = Box::new([("f".into(), SessionOverride::Disabled)]);
        let on: SessionOverrides =
            Box::new([("f".into(), SessionOverride::Session(Arc::clone(&own)))]);
        let other: SessionOverrides = Box::new([("g".into(), SessionOverride::Disabled)]);
        let (used, unused) = (filter(false), filter(true));
        assert_eq!(used.resolve([&other]), Some(&used.config));
        assert_eq!(unused.resolve([&other]), None);
        assert_eq!(unused.resolve([&other, &on, &off]), Some(&own));
        assert_eq!(used.resolve([&off, &on]), None);
    }
}
