//! Names of policies, and what they are on the wire: read and checked as a resource file would be.

use std::path::Path;

use clap::ValueEnum;
use proxy::xds::decode;
use xds_proto::Pool;
use xds_proto::any::unpack;
use xds_proto::load;
use xds_proto::pb::envoy::config::cluster::v3::Cluster;
use xds_proto::pb::envoy::config::cluster::v3::LoadBalancingPolicy;
use xds_proto::type_url;

/// A policy by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Choice {
    /// Weights that the members report (ORCA)
    ClientSideWeighted,
    /// Weights that follow latency
    Latency,
    /// The same formula without its guards, to compare with
    LatencyPlain,
    /// The fewest requests in flight, of two drawn at random
    LeastRequest,
    /// By the hash of a request, in a table
    Maglev,
    /// The least latency times requests in flight, of two drawn at random
    PeakEwma,
    /// The first member in order that can be reached
    PickFirst,
    /// Any, at random
    Random,
    /// By the hash of a request, on a ring
    RingHash,
    /// In turn, by configured weight
    RoundRobin,
}

const ENVOY: &str = "envoy.extensions.load_balancing_policies.";
const LATENCY: &str = "weir.load_balancing.v1.LatencyWeightedRoundRobin";
const ROUND_ROBIN: &str = "envoy.extensions.load_balancing_policies.round_robin.v3.RoundRobin";

impl Choice {
    /// As it is typed.
    pub(super) fn name(self) -> String {
        let value = self.to_possible_value();
        value.map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// The policy with these fields, and what stands in for it where it is not known.
    pub(super) fn policies(self, fields: Option<&str>) -> Result<LoadBalancingPolicy, String> {
        let text = self.cluster(fields.unwrap_or("{}"));
        let pool = Pool::new();
        let all =
            |errors: &mut dyn Iterator<Item = String>| errors.collect::<Vec<_>>().join("\nweir: ");
        let file = load::resources(&pool, Path::new("--with"), &text).map_err(|errors| {
            let of = |error: &load::LoadError| {
                format!("--with: {}: {}", inside(&error.field), error.message)
            };
            all(&mut errors.iter().map(of))
        })?;
        let resource = file.resources.first().ok_or("--with: holds nothing")?;
        let decoded = decode::cluster(&resource.any.value);
        decoded.map_err(|error| {
            let of = |error: &decode::FieldError| {
                format!("--with: {}: {}", inside(&error.field), error.reason)
            };
            all(&mut error.errors.iter().map(of))
        })?;
        let cluster: Cluster = unpack(&resource.any).map_err(|error| error.to_string())?;
        Ok(cluster.load_balancing_policy.unwrap_or_default())
    }

    /// A cluster that has it, as a file.
    fn cluster(self, fields: &str) -> String {
        let (name, own) = match self {
            Self::ClientSideWeighted => (
                format!("{ENVOY}client_side_weighted_round_robin.v3.ClientSideWeightedRoundRobin"),
                "",
            ),
            Self::Latency => (LATENCY.to_owned(), ""),
            Self::LatencyPlain => (LATENCY.to_owned(), "plain: true, "),
            Self::LeastRequest => (format!("{ENVOY}least_request.v3.LeastRequest"), ""),
            Self::Maglev => (format!("{ENVOY}maglev.v3.Maglev"), ""),
            Self::PeakEwma => (format!("{ENVOY}peak_ewma.v3alpha.PeakEwma"), ""),
            Self::PickFirst => (format!("{ENVOY}pick_first.v3.PickFirst"), ""),
            Self::Random => (format!("{ENVOY}random.v3.Random"), ""),
            Self::RingHash => (format!("{ENVOY}ring_hash.v3.RingHash"), ""),
            Self::RoundRobin => (ROUND_ROBIN.to_owned(), ""),
        };
        let fields = fields.trim();
        let inside = fields.strip_prefix('{');
        let inner = inside.and_then(|inside| inside.strip_suffix('}'));
        let inner = inner.unwrap_or(fields);
        let policy = |name: &str, fields: &str| {
            format!(
                "{{typed_extension_config: {{name: {:?}, typed_config: {{\"@type\": {:?}, {fields}}}}}}}",
                name.rsplit('.').next().unwrap_or(name),
                format!("{}{name}", type_url::PREFIX),
            )
        };
        let mut policies = policy(&name, &format!("{own}{inner}"));
        if matches!(self, Self::Latency | Self::LatencyPlain | Self::PeakEwma) {
            policies = format!("{policies}, {}", policy(ROUND_ROBIN, ""));
        }
        format!(
            "{{\"@type\": {:?}, name: any, load_assignment: {{cluster_name: any}}, \
             load_balancing_policy: {{policies: [{policies}]}}}}",
            type_url::CLUSTER
        )
    }
}

/// The path inside of the policy.
fn inside(field: &str) -> &str {
    field
        .rsplit_once("typed_config.")
        .map_or(field, |(_, inner)| inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_policy_is_one_the_proxy_takes() {
        for choice in Choice::value_variants() {
            let list = choice.policies(None);
            assert!(
                list.is_ok_and(|list| !list.policies.is_empty()),
                "{choice:?}"
            );
        }
    }

    #[test]
    fn fields_are_read_and_a_wrong_one_is_named() {
        let with = |fields| Choice::Latency.policies(Some(fields));
        let plain = with("{window: 5s, guards: {exploration: 2}}");
        assert_eq!(plain.map(|list| list.policies.len()), Ok(2));
        let unknown = with("{windov: 5s}").unwrap_err();
        assert!(
            unknown.contains("windov") && unknown.contains("--with"),
            "{unknown}"
        );
        let range = with("{window: 0s}").unwrap_err();
        assert!(
            range.starts_with("--with: window: must be between"),
            "{range}"
        );
    }
}
