//! The macro that declares a group: field, name and help text stand once.
//!
//! ```text
//! stats! {
//!     /// What it is about.
//!     pub struct ClusterStats(ClusterCells) in "cluster" by "envoy_cluster_name" {
//!         counter upstream_rq_total: "Requests sent.";
//!         level circuit_open as "circuit_breakers.default.rq_open": "Whether ...";
//!     }
//! }
//! ```
//!
//! The kinds are `counter`, `gauge`, `level`, `histogram`, `codes` and `flags`. Each line makes one
//! accessor that gives this thread's handle to the cell. A `level` is set, not summed: it lives in
//! the shared slot only.

/// Declares a group of counters.
macro_rules! stats {
    (
        $(#[$meta:meta])*
        pub struct $group:ident($cells:ident) in $prefix:literal $(by $label:literal)? {
            $($kind:ident $field:ident $(as $name:literal)? : $help:literal;)*
        }
    ) => {
        $(#[$meta])*
        #[derive(Debug)]
        pub struct $group {
            slots: $crate::telemetry::stats::PerWorker<$cells>,
        }

        #[derive(Debug, Default)]
        struct $cells {
            $($field: stats!(@cell $kind),)*
        }

        impl $group {
            $(
                #[doc = $help]
                #[inline]
                pub fn $field(&self) -> stats!(@handle $kind) {
                    stats!(@make $kind self $field)
                }
            )*
        }

        impl $crate::telemetry::stats::group::Declared for $group {
            const SCOPE: $crate::telemetry::stats::Scope = $crate::telemetry::stats::Scope {
                prefix: $prefix,
                label: stats!(@label $($label)?),
            };

            fn with_workers(workers: usize) -> Self {
                let slots = $crate::telemetry::stats::PerWorker::new(workers, Default::default);
                Self { slots }
            }
        }

        impl $crate::telemetry::stats::Group for $group {
            fn fields(&self) -> &'static [$crate::telemetry::stats::Field] {
                &[$($crate::telemetry::stats::Field {
                    name: stats!(@name $field $($name)?),
                    help: $help,
                    kind: stats!(@kind $kind),
                }),*]
            }

            fn read(&self, index: usize) -> Option<$crate::telemetry::stats::Reading> {
                let readers: &[fn(&Self) -> $crate::telemetry::stats::Reading] =
                    &[$(|stats| stats!(@read $kind stats $field)),*];
                readers.get(index).map(|read| read(self))
            }
        }
    };

    (@label) => { None };
    (@label $label:literal) => { Some($label) };
    (@name $field:ident) => { stringify!($field) };
    (@name $field:ident $name:literal) => { $name };

    (@cell codes) => { $crate::telemetry::stats::cell::CodeCells };
    (@cell flags) => { $crate::telemetry::stats::cell::FlagCells };
    (@cell histogram) => { $crate::telemetry::stats::histogram::HistogramCells };
    (@cell $kind:ident) => { std::sync::atomic::AtomicU64 };

    (@handle codes) => { $crate::telemetry::stats::Codes<'_> };
    (@handle counter) => { $crate::telemetry::stats::Counter<'_> };
    (@handle flags) => { $crate::telemetry::stats::Flags<'_> };
    (@handle gauge) => { $crate::telemetry::stats::Gauge<'_> };
    (@handle histogram) => { $crate::telemetry::stats::Histogram<'_> };
    (@handle level) => { $crate::telemetry::stats::Level<'_> };

    (@make level $self:ident $field:ident) => {
        $crate::telemetry::stats::Level::new(&$self.slots.shared().$field)
    };
    (@make $kind:ident $self:ident $field:ident) => {{
        let (cells, exclusive) = $self.slots.local();
        stats!(@new $kind)(&cells.$field, exclusive)
    }};

    (@new codes) => { $crate::telemetry::stats::Codes::new };
    (@new counter) => { $crate::telemetry::stats::Counter::new };
    (@new flags) => { $crate::telemetry::stats::Flags::new };
    (@new gauge) => { $crate::telemetry::stats::Gauge::new };
    (@new histogram) => { $crate::telemetry::stats::Histogram::new };

    (@kind codes) => { $crate::telemetry::stats::Kind::Codes };
    (@kind counter) => { $crate::telemetry::stats::Kind::Counter };
    (@kind flags) => { $crate::telemetry::stats::Kind::Flags };
    (@kind gauge) => { $crate::telemetry::stats::Kind::Gauge };
    (@kind histogram) => { $crate::telemetry::stats::Kind::Histogram };
    (@kind level) => { $crate::telemetry::stats::Kind::Gauge };

    (@read codes $stats:ident $field:ident) => {
        $crate::telemetry::stats::Reading::Codes($crate::telemetry::stats::group::sum_codes(
            $stats.slots.iter().map(|cells| &cells.$field),
        ))
    };
    (@read counter $stats:ident $field:ident) => {
        $crate::telemetry::stats::Reading::Counter($crate::telemetry::stats::group::sum(
            $stats.slots.iter().map(|cells| &cells.$field),
        ))
    };
    (@read flags $stats:ident $field:ident) => {
        $crate::telemetry::stats::Reading::Flags($crate::telemetry::stats::group::sum_flags(
            $stats.slots.iter().map(|cells| &cells.$field),
        ))
    };
    (@read histogram $stats:ident $field:ident) => {
        $crate::telemetry::stats::Reading::Histogram(
            $crate::telemetry::stats::HistogramSnapshot::new(
                $stats.slots.iter().map(|cells| &cells.$field),
            ),
        )
    };
    // A gauge is a two's complement sum.
    (@read $gauge:ident $stats:ident $field:ident) => {
        $crate::telemetry::stats::Reading::Gauge(
            $crate::telemetry::stats::group::sum(
                $stats.slots.iter().map(|cells| &cells.$field),
            )
            .cast_signed(),
        )
    };
}
