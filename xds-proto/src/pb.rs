//! Every message of the wire under one roof: what `envoy-types` generated, and what it lacks.
//!
//! Added here: both `TypedStruct`s, `xds.core.v3.Resource` and `ResourceName`, the IP, CEL and server name
//! matchers, the ORCA load report, Envoy's contrib peak EWMA, Istio's signing requests, and what is Weir's own. Sources: `proto/`; `tests/regenerate` keeps the code current.

pub use envoy_types::pb::cel;
pub use envoy_types::pb::google;
pub use envoy_types::pb::io;
pub use envoy_types::pb::opentelemetry;
pub use envoy_types::pb::ratelimit;
pub use envoy_types::pb::validate;

/// Envoy's packages.
pub mod envoy {
    pub use envoy_types::pb::envoy::*;

    /// `envoy.extensions`.
    pub mod extensions {
        pub use envoy_types::pb::envoy::extensions::*;

        /// `envoy.extensions.load_balancing_policies`.
        pub mod load_balancing_policies {
            pub use envoy_types::pb::envoy::extensions::load_balancing_policies::*;

            /// `envoy.extensions.load_balancing_policies.peak_ewma`.
            pub mod peak_ewma {
                /// `envoy.extensions.load_balancing_policies.peak_ewma.v3alpha`.
                pub mod v3alpha {
                    include!(
                        "generated/envoy.extensions.load_balancing_policies.peak_ewma.v3alpha.rs"
                    );
                }
            }
        }
    }
}

/// The older half of the xDS packages.
pub mod udpa {
    pub use envoy_types::pb::udpa::annotations;

    /// `udpa.type`.
    pub mod r#type {
        /// `udpa.type.v1`.
        pub mod v1 {
            include!("generated/udpa.r#type.v1.rs");
        }
    }
}

/// The packages xDS shares beyond Envoy.
pub mod xds {
    pub use envoy_types::pb::xds::annotations;

    /// `xds.core`.
    pub mod core {
        /// `xds.core.v3`.
        pub mod v3 {
            pub use envoy_types::pb::xds::core::v3::*;
            include!("generated/xds.core.v3.rs");
        }
    }

    /// `xds.data`.
    pub mod data {
        /// `xds.data.orca`.
        pub mod orca {
            /// `xds.data.orca.v3`.
            pub mod v3 {
                include!("generated/xds.data.orca.v3.rs");
            }
        }
    }

    /// `xds.type`.
    pub mod r#type {
        /// `xds.type.matcher`.
        pub mod matcher {
            /// `xds.type.matcher.v3`.
            pub mod v3 {
                pub use envoy_types::pb::xds::r#type::matcher::v3::*;
                include!("generated/xds.r#type.matcher.v3.rs");
            }
        }

        /// `xds.type.v3`.
        pub mod v3 {
            pub use envoy_types::pb::xds::r#type::v3::*;
            include!("generated/xds.r#type.v3.rs");
        }
    }
}

/// What Istio's agents speak.
pub mod istio {
    /// `istio.v1`.
    pub mod v1 {
        /// `istio.v1.auth`.
        pub mod auth {
            include!("generated/istio.v1.auth.rs");
        }
    }
}

/// What is ours.
pub mod weir {
    /// `weir.circuit_breaking`.
    pub mod circuit_breaking {
        /// `weir.circuit_breaking.v1`.
        pub mod v1 {
            include!("generated/weir.circuit_breaking.v1.rs");
        }
    }

    /// `weir.control_plane`.
    pub mod control_plane {
        /// `weir.control_plane.v1`.
        pub mod v1 {
            include!("generated/weir.control_plane.v1.rs");
        }
    }

    /// `weir.identity`.
    pub mod identity {
        /// `weir.identity.v1`.
        pub mod v1 {
            include!("generated/weir.identity.v1.rs");
        }
    }

    /// `weir.load_balancing`.
    pub mod load_balancing {
        /// `weir.load_balancing.v1`.
        pub mod v1 {
            include!("generated/weir.load_balancing.v1.rs");
        }
    }

    /// `weir.route`.
    pub mod route {
        /// `weir.route.v1`.
        pub mod v1 {
            include!("generated/weir.route.v1.rs");
        }
    }
}
