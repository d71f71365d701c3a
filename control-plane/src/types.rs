//! What the protocol says about each resource type.
//!
//! Does not know any message: only how responses of a type behave. Unknown type URLs are legal and
//! get [`TypeKind::OTHER`].

use xds_proto::type_url;

/// `Listener`.
pub const LISTENER: &str = type_url::LISTENER;
/// `RouteConfiguration`.
pub const ROUTE: &str = type_url::ROUTE_CONFIGURATION;
/// `ScopedRouteConfiguration`.
pub const SCOPED_ROUTE: &str = type_url::SCOPED_ROUTE_CONFIGURATION;
/// `VirtualHost`.
pub const VIRTUAL_HOST: &str = type_url::VIRTUAL_HOST;
/// `Cluster`.
pub const CLUSTER: &str = type_url::CLUSTER;
/// `ClusterLoadAssignment`.
pub const ENDPOINT: &str = type_url::CLUSTER_LOAD_ASSIGNMENT;
/// `Secret`.
pub const SECRET: &str = type_url::SECRET;
/// `Runtime`.
pub const RUNTIME: &str = type_url::RUNTIME;
/// `TypedExtensionConfig`.
pub const EXTENSION: &str = type_url::EXTENSION_CONFIG;

/// How responses of one type behave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TypeKind {
    /// Place in the make-before-break order; lower is sent first (S-70).
    pub rank: u8,
    /// A state-of-the-world response holds the whole subscribed set and absence deletes (S-27).
    pub whole_set: bool,
    /// An empty first request means everything (S-43).
    pub legacy_wildcard: bool,
    /// Removal waits until the client has confirmed the listeners and routes that no longer use
    /// the resource (S-70).
    pub removal_waits: bool,
    /// Removal is never announced: Envoy stops traffic when an extension configuration in use is
    /// removed by delta (envoy#32823).
    pub removal_silent: bool,
    /// The type names clusters, so cluster removal waits for its acknowledgment.
    pub names_clusters: bool,
}

impl TypeKind {
    /// A type this crate knows nothing about. xDS lets custom types use the legacy wildcard.
    pub const OTHER: Self = Self {
        rank: 9,
        whole_set: false,
        legacy_wildcard: true,
        removal_waits: false,
        removal_silent: false,
        names_clusters: false,
    };

    /// The behavior of `type_url`.
    #[must_use]
    pub fn of(type_url: &str) -> Self {
        let named = Self {
            legacy_wildcard: false,
            ..Self::OTHER
        };
        match type_url {
            CLUSTER => Self {
                rank: 0,
                whole_set: true,
                removal_waits: true,
                ..Self::OTHER
            },
            ENDPOINT => Self {
                rank: 1,
                removal_waits: true,
                ..named
            },
            SECRET => Self {
                rank: 2,
                removal_waits: true,
                ..named
            },
            LISTENER => Self {
                rank: 3,
                whole_set: true,
                names_clusters: true,
                ..Self::OTHER
            },
            ROUTE => Self {
                rank: 4,
                names_clusters: true,
                ..named
            },
            SCOPED_ROUTE => Self { rank: 5, ..named },
            VIRTUAL_HOST => Self {
                rank: 6,
                names_clusters: true,
                ..named
            },
            EXTENSION => Self {
                rank: 7,
                removal_silent: true,
                ..named
            },
            RUNTIME => Self { rank: 8, ..named },
            _ => Self::OTHER,
        }
    }
}
