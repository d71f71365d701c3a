//! Why an exchange ended as it did: Envoy's response flags, one vocabulary for logs, metrics and
//! local replies.
//!
//! Variants stand in Envoy's order because that is the order in which a log line lists them.

use std::fmt;

/// One reason, with Envoy's short and long names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum ResponseFlag {
    /// `LH`: the local service failed a health check request.
    FailedLocalHealthCheck,
    /// `UH`: the cluster has no usable host.
    NoHealthyUpstream,
    /// `UT`: the upstream did not answer in time.
    UpstreamRequestTimeout,
    /// `LR`: we reset the exchange.
    LocalReset,
    /// `UR`: the upstream reset the exchange.
    UpstreamRemoteReset,
    /// `UF`: no connection to the upstream.
    UpstreamConnectionFailure,
    /// `UC`: the upstream closed the connection.
    UpstreamConnectionTermination,
    /// `UO`: a circuit breaker was open.
    UpstreamOverflow,
    /// `NR`: no route, or no filter chain.
    NoRouteFound,
    /// `DI`: a fault filter delayed it.
    DelayInjected,
    /// `FI`: a fault filter aborted it.
    FaultInjected,
    /// `RL`: a rate limit refused it.
    RateLimited,
    /// `UAEX`: authorization refused it.
    UnauthorizedExternalService,
    /// `RLSE`: the rate limit service failed.
    RateLimitServiceError,
    /// `DC`: the downstream closed the connection.
    DownstreamConnectionTermination,
    /// `URX`: the last retry failed too.
    UpstreamRetryLimitExceeded,
    /// `SI`: no byte moved for too long.
    StreamIdleTimeout,
    /// `IH`: a strictly checked header had a bad value.
    InvalidEnvoyRequestHeaders,
    /// `DPE`: the downstream broke the protocol.
    DownstreamProtocolError,
    /// `UMSDR`: the upstream took longer than the stream's longest duration.
    UpstreamMaxStreamDurationReached,
    /// `RFCF`: served from a cache filter.
    ResponseFromCacheFilter,
    /// `NFCF`: a filter's configuration never came.
    NoFilterConfigFound,
    /// `DT`: the exchange took longer than allowed.
    DurationTimeout,
    /// `UPE`: the upstream broke the protocol.
    UpstreamProtocolError,
    /// `NC`: the route names a cluster that is not there.
    NoClusterFound,
    /// `OM`: the overload manager ended it.
    OverloadManagerTerminated,
    /// `DF`: the name did not resolve.
    DnsResolutionFailed,
    /// `DO`: dropped by the cluster's drop policy.
    DropOverload,
    /// `DR`: the downstream reset the exchange.
    DownstreamRemoteReset,
    /// `UDO`: dropped by the cluster's drop policy, at 100 percent.
    UnconditionalDropOverload,
}

impl ResponseFlag {
    /// Every flag, in Envoy's order.
    pub const ALL: [Self; 30] = [
        Self::FailedLocalHealthCheck,
        Self::NoHealthyUpstream,
        Self::UpstreamRequestTimeout,
        Self::LocalReset,
        Self::UpstreamRemoteReset,
        Self::UpstreamConnectionFailure,
        Self::UpstreamConnectionTermination,
        Self::UpstreamOverflow,
        Self::NoRouteFound,
        Self::DelayInjected,
        Self::FaultInjected,
        Self::RateLimited,
        Self::UnauthorizedExternalService,
        Self::RateLimitServiceError,
        Self::DownstreamConnectionTermination,
        Self::UpstreamRetryLimitExceeded,
        Self::StreamIdleTimeout,
        Self::InvalidEnvoyRequestHeaders,
        Self::DownstreamProtocolError,
        Self::UpstreamMaxStreamDurationReached,
        Self::ResponseFromCacheFilter,
        Self::NoFilterConfigFound,
        Self::DurationTimeout,
        Self::UpstreamProtocolError,
        Self::NoClusterFound,
        Self::OverloadManagerTerminated,
        Self::DnsResolutionFailed,
        Self::DropOverload,
        Self::DownstreamRemoteReset,
        Self::UnconditionalDropOverload,
    ];

    /// The two to five letters of a log line.
    #[must_use]
    pub const fn short(self) -> &'static str {
        self.names().0
    }

    /// The words of `%RESPONSE_FLAGS_LONG%`.
    #[must_use]
    pub const fn long(self) -> &'static str {
        self.names().1
    }

    /// The flag with this short name.
    #[must_use]
    pub fn from_short(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|flag| flag.short() == name)
    }

    const fn bit(self) -> u32 {
        1 << self as u8
    }

    const fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::FailedLocalHealthCheck => ("LH", "FailedLocalHealthCheck"),
            Self::NoHealthyUpstream => ("UH", "NoHealthyUpstream"),
            Self::UpstreamRequestTimeout => ("UT", "UpstreamRequestTimeout"),
            Self::LocalReset => ("LR", "LocalReset"),
            Self::UpstreamRemoteReset => ("UR", "UpstreamRemoteReset"),
            Self::UpstreamConnectionFailure => ("UF", "UpstreamConnectionFailure"),
            Self::UpstreamConnectionTermination => ("UC", "UpstreamConnectionTermination"),
            Self::UpstreamOverflow => ("UO", "UpstreamOverflow"),
            Self::NoRouteFound => ("NR", "NoRouteFound"),
            Self::DelayInjected => ("DI", "DelayInjected"),
            Self::FaultInjected => ("FI", "FaultInjected"),
            Self::RateLimited => ("RL", "RateLimited"),
            Self::UnauthorizedExternalService => ("UAEX", "UnauthorizedExternalService"),
            Self::RateLimitServiceError => ("RLSE", "RateLimitServiceError"),
            Self::DownstreamConnectionTermination => ("DC", "DownstreamConnectionTermination"),
            Self::UpstreamRetryLimitExceeded => ("URX", "UpstreamRetryLimitExceeded"),
            Self::StreamIdleTimeout => ("SI", "StreamIdleTimeout"),
            Self::InvalidEnvoyRequestHeaders => ("IH", "InvalidEnvoyRequestHeaders"),
            Self::DownstreamProtocolError => ("DPE", "DownstreamProtocolError"),
            Self::UpstreamMaxStreamDurationReached => ("UMSDR", "UpstreamMaxStreamDurationReached"),
            Self::ResponseFromCacheFilter => ("RFCF", "ResponseFromCacheFilter"),
            Self::NoFilterConfigFound => ("NFCF", "NoFilterConfigFound"),
            Self::DurationTimeout => ("DT", "DurationTimeout"),
            Self::UpstreamProtocolError => ("UPE", "UpstreamProtocolError"),
            Self::NoClusterFound => ("NC", "NoClusterFound"),
            Self::OverloadManagerTerminated => ("OM", "OverloadManagerTerminated"),
            Self::DnsResolutionFailed => ("DF", "DnsResolutionFailed"),
            Self::DropOverload => ("DO", "DropOverload"),
            Self::DownstreamRemoteReset => ("DR", "DownstreamRemoteReset"),
            Self::UnconditionalDropOverload => ("UDO", "UnconditionalDropOverload"),
        }
    }
}

impl fmt::Display for ResponseFlag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.short())
    }
}

/// The reasons of one exchange; prints as in an access log: `UF,URX`, or `-` if there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ResponseFlags(u32);

impl ResponseFlags {
    /// No reason: nothing went wrong.
    pub const NONE: Self = Self(0);

    /// Adds one.
    pub const fn insert(&mut self, flag: ResponseFlag) {
        self.0 |= flag.bit();
    }

    /// Takes one away, for an attempt whose failure a retry made good.
    pub const fn remove(&mut self, flag: ResponseFlag) {
        self.0 &= !flag.bit();
    }

    /// Whether it is among them.
    #[must_use]
    pub const fn contains(self, flag: ResponseFlag) -> bool {
        self.0 & flag.bit() != 0
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// In Envoy's order.
    pub fn iter(self) -> impl Iterator<Item = ResponseFlag> {
        ResponseFlag::ALL
            .into_iter()
            .filter(move |flag| self.contains(*flag))
    }
}

impl From<ResponseFlag> for ResponseFlags {
    fn from(flag: ResponseFlag) -> Self {
        Self(flag.bit())
    }
}

impl FromIterator<ResponseFlag> for ResponseFlags {
    fn from_iter<I: IntoIterator<Item = ResponseFlag>>(flags: I) -> Self {
        flags.into_iter().fold(Self::NONE, |mut all, flag| {
            all.insert(flag);
            all
        })
    }
}

impl fmt::Display for ResponseFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("-");
        }
        for (at, flag) in self.iter().enumerate() {
            if at > 0 {
                f.write_str(",")?;
            }
            f.write_str(flag.short())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::ResponseFlag;
    use super::ResponseFlags;

    #[test]
    fn all_lists_each_flag_at_its_own_bit() {
        for (at, flag) in ResponseFlag::ALL.into_iter().enumerate() {
            assert_eq!(flag as usize, at);
            assert_eq!(ResponseFlag::from_short(flag.short()), Some(flag));
        }
        assert_eq!(ResponseFlag::from_short("XX"), None);
    }

    #[test]
    fn prints_as_envoy() {
        assert_eq!(ResponseFlags::NONE.to_string(), "-");
        let flags = ResponseFlags::from_iter([
            ResponseFlag::UpstreamRetryLimitExceeded,
            ResponseFlag::UpstreamConnectionFailure,
        ]);
        assert_eq!(flags.to_string(), "UF,URX");
    }

    #[test]
    fn removing_leaves_the_others() {
        let mut flags = ResponseFlags::from(ResponseFlag::NoRouteFound);
        flags.insert(ResponseFlag::LocalReset);
        flags.remove(ResponseFlag::NoRouteFound);
        assert_eq!(flags, ResponseFlags::from(ResponseFlag::LocalReset));
    }
}
