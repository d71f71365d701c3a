//! The certificates that TLS uses now: for `/certs`, and how long each has left, for statistics and
//! the log.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

use rustls_pki_types::CertificateDer;

use crate::admin::CertificateView;
use crate::admin::TlsContextView;
use crate::config::secret::SecretRef;
use crate::config::tls::CommonTls;
use crate::config::tls::Trust;
use crate::listener::ActiveListener;
use crate::net::tls::facts::Names;
use crate::net::tls::facts::Presented;
use crate::telemetry::stats::CertificateStats;
use crate::telemetry::stats::Registry;
use crate::upstream::ClusterHandle;

/// As Envoy calls what stands in the configuration itself.
const INLINE: &str = "<inline>";

/// A certificate is told of when this part of its life is left ...
const LEFT_PART: u64 = 5;

/// ... or this much time, if that is less.
const LEFT_MAX: Duration = Duration::from_secs(14 * 24 * 3600);

/// Every TLS context that lives, with its secrets in it.
pub(super) fn contexts(
    listeners: &[Arc<ActiveListener>],
    clusters: &[ClusterHandle],
) -> Vec<CommonTls> {
    let mut all = Vec::new();
    for listener in listeners {
        let chains = listener.chains();
        all.extend(chains.all().filter_map(|chain| chain.transport.resolved()));
    }
    for cluster in clusters {
        let current = cluster.load();
        all.extend(current.transports.resolved(&current.config));
    }
    all
}

/// Brings the numbers of connections by the age of their secrets up to now. Chains of a listener have
/// the same counters.
pub(super) fn count_connections<'a>(listeners: impl Iterator<Item = &'a Arc<ActiveListener>>) {
    for listener in listeners {
        let chains = listener.chains();
        let counted = chains
            .all()
            .filter_map(|chain| chain.transport.connections());
        let (mut current, mut older, mut stats) = (0, 0, None);
        for (of_chain, (now, before)) in counted {
            current += now;
            older += before;
            stats = Some(of_chain);
        }
        if let Some(stats) = stats {
            stats.connections_with_current_secrets().set_count(current);
            stats.connections_with_older_secrets().set_count(older);
        }
    }
}

/// As `/certs` shows it.
pub(super) fn view(context: &CommonTls, now: SystemTime) -> TlsContextView {
    let own = context.certificates.iter().filter_map(|certificate| {
        let leaf = certificate.chain.first()?;
        Some(one(leaf, certificate.path.as_deref(), now))
    });
    let roots = context.validation.iter().flat_map(|validation| {
        let path = validation.trusted_ca_path.as_deref();
        let roots = roots(&validation.trust);
        roots.map(move |root| one(root, path, now))
    });
    TlsContextView {
        own: own.collect(),
        roots: roots.collect(),
    }
}

fn roots(trust: &Trust) -> Box<dyn Iterator<Item = &CertificateDer<'static>> + '_> {
    match trust {
        Trust::Hashes => Box::new(std::iter::empty()),
        Trust::Roots(roots) => Box::new(roots.iter()),
        Trust::Spiffe(domains) => Box::new(domains.values().flatten()),
    }
}

fn one(der: &CertificateDer<'static>, path: Option<&str>, now: SystemTime) -> CertificateView {
    let names = names(der);
    let end = time(names.not_after);
    CertificateView {
        path: path.unwrap_or(INLINE).to_owned(),
        begin: time(names.not_before),
        end,
        left: end.duration_since(now).unwrap_or_default(),
        names,
    }
}

fn names(der: &CertificateDer<'static>) -> Names {
    Presented::new(vec![der.clone()]).names().clone()
}

fn time(seconds: i64) -> SystemTime {
    let since = u64::try_from(seconds).map(Duration::from_secs);
    UNIX_EPOCH + since.unwrap_or_default()
}

/// Tells how long certificates have left.
#[derive(Debug, Default)]
pub(super) struct CertificateWatch {
    known: BTreeMap<String, Known>,
    is_stale: bool,
}

#[derive(Debug)]
struct Known {
    begin: SystemTime,
    end: SystemTime,
    stats: Arc<CertificateStats>,
    told: Told,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Told {
    Nothing,
    Ending,
    Ended,
}

impl CertificateWatch {
    /// Which there are may be others now.
    pub(super) fn mark_stale(&mut self) {
        self.is_stale = true;
    }

    /// Which there are may have changed since the last call.
    pub(super) fn is_stale(&self) -> bool {
        self.is_stale
    }

    /// Takes in all that are in use. What has several certificates, such as a bundle of roots, counts
    /// as the first of them to end.
    pub(super) fn take(&mut self, contexts: &[CommonTls], registry: &Registry) {
        self.is_stale = false;
        let mut old = std::mem::take(&mut self.known);
        let mut found: BTreeMap<String, (i64, i64)> = BTreeMap::new();
        for context in contexts {
            for (name, lives) in lives(context) {
                let kept = found.entry(name).or_insert(lives);
                if lives.1 < kept.1 {
                    *kept = lives;
                }
            }
        }
        for (name, (begin, end)) in found {
            let (begin, end) = (time(begin), time(end));
            let before = old.remove(&name).filter(|known| known.end == end);
            let known = before.unwrap_or_else(|| Known {
                begin,
                end,
                stats: registry.certificate(&name),
                told: Told::Nothing,
            });
            self.known.insert(name, known);
        }
    }

    /// Brings the statistics up to now, and says once of each that it is about to end, and that it has.
    pub(super) fn record(&mut self, now: SystemTime) {
        for (name, known) in &mut self.known {
            let left = known.end.duration_since(now).unwrap_or_default();
            let life = known.end.duration_since(known.begin).unwrap_or_default();
            let told = if left.is_zero() {
                Told::Ended
            } else if left <= LEFT_MAX.min(life / u32::try_from(LEFT_PART).unwrap_or(1)) {
                Told::Ending
            } else {
                Told::Nothing
            };
            let end = known.end.duration_since(UNIX_EPOCH).unwrap_or_default();
            let stats = &known.stats;
            stats.expiration_unix_time_seconds().set(seconds(end));
            stats.seconds_to_expiration().set(seconds(left));
            stats.is_expiring().set(i64::from(told != Told::Nothing));
            if told > known.told {
                match told {
                    Told::Ended => tracing::error!(name, "a certificate has expired"),
                    _ => tracing::warn!(name, ?left, "a certificate expires soon"),
                }
            }
            known.told = told;
        }
    }
}

fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

/// Name, begin and end of each certificate and bundle of a context. The name is that of the secret,
/// else the path, else the serial number.
fn lives(context: &CommonTls) -> Vec<(String, (i64, i64))> {
    let mut all = Vec::new();
    let named = |secret: Option<&SecretRef>, path: Option<&str>, names: &Names| {
        let secret = secret.map(|named| named.key.name.to_string());
        let path = path.map(ToOwned::to_owned);
        secret.or(path).unwrap_or_else(|| names.serial.to_string())
    };
    // Either all or none come by a name.
    let secrets = &context.secrets;
    for (place, certificate) in context.certificates.iter().enumerate() {
        if let Some(leaf) = certificate.chain.first() {
            let names = names(leaf);
            let secret = secrets.certificates.get(place);
            let name = named(secret, certificate.path.as_deref(), &names);
            all.push((name, (names.not_before, names.not_after)));
        }
    }
    if let Some(validation) = &context.validation {
        let first = roots(&validation.trust)
            .map(names)
            .min_by_key(|n| n.not_after);
        if let Some(names) = first {
            let path = validation.trusted_ca_path.as_deref();
            let name = named(secrets.validation.as_ref(), path, &names);
            all.push((name, (names.not_before, names.not_after)));
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::secret::SecretNames;
    use crate::config::tls::Certificate;
    use crate::config::tls::Parameters;
    use crate::telemetry::stats::Group;
    use crate::telemetry::stats::Reading;
    use crate::tls::fixtures::LEAF;

    fn context(certificate: Arc<Certificate>) -> CommonTls {
        CommonTls {
            parameters: Parameters::default(),
            certificates: vec![certificate],
            validation: None,
            alpn: Vec::new(),
            secrets: SecretNames::default(),
        }
    }

    #[test]
    fn a_certificate_is_told_of_before_it_ends_and_when_it_has() {
        let registry = Registry::new(1);
        let certificate = LEAF.certificate();
        let names = names(&certificate.chain[0]);
        let end = time(names.not_after);
        let mut watch = CertificateWatch::default();
        watch.mark_stale();
        watch.take(&[context(certificate)], &registry);
        assert!(!watch.is_stale());
        let stats = registry.certificate(&names.serial);
        let mut check = |now, left: u64, is_expiring, told| {
            watch.record(now);
            let left = i64::try_from(left).unwrap();
            let expected = [names.not_after, left, is_expiring].map(|n| Some(Reading::Gauge(n)));
            assert_eq!([0, 1, 2].map(|field| stats.read(field)), expected);
            assert_eq!(watch.known.values().next().unwrap().told, told);
        };
        let day = Duration::from_secs(24 * 3600);
        check(end - 15 * day, 15 * 24 * 3600, 0, Told::Nothing);
        check(end - 13 * day, 13 * 24 * 3600, 1, Told::Ending);
        check(end + day, 0, 1, Told::Ended);
        watch.take(&[], &registry);
        assert!(watch.known.is_empty());
    }
}
