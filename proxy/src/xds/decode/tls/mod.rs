//! `extensions.transport_sockets.tls.v3`: the TLS of both sides.
//!
//! What passes here can be used: every certificate, key and list was read and tried. What comes by a
//! name (SDS) is tried when it comes.
//!
//! | file | holds |
//! |---|---|
//! | `certificate` | a certificate with its key |
//! | `parameters` | versions, cipher suites, curves |
//! | `reference` | a secret by its name |
//! | `secret` | `Secret`, which has a name |
//! | `spiffe` | trust by SPIFFE trust domain |
//! | `tickets` | keys for session tickets |
//! | `validation` | who the peer must be |

mod certificate;
mod parameters;
mod reference;
pub(crate) mod secret;
mod spiffe;
mod tickets;
mod validation;

use std::sync::Arc;
use std::time::Duration;

use xds_proto::pb::envoy::extensions::transport_sockets::tls::v3 as pb;
use xds_proto::pb::envoy::extensions::transport_sockets::tls::v3::common_tls_context::CombinedCertificateValidationContext;
use xds_proto::pb::envoy::extensions::transport_sockets::tls::v3::common_tls_context::ValidationContextType;
use xds_proto::pb::envoy::extensions::transport_sockets::tls::v3::downstream_tls_context::OcspStaplePolicy;
use xds_proto::pb::envoy::extensions::transport_sockets::tls::v3::downstream_tls_context::SessionTicketKeysType;

use super::Context;
use super::value;
use crate::config::cluster::AutoNames;
use crate::config::limits;
use crate::config::secret::SecretKind;
use crate::config::secret::SecretNames;
use crate::config::secret::SecretRef;
use crate::config::tls::CommonTls;
use crate::config::tls::DownstreamTls;
use crate::config::tls::Tickets;
use crate::config::tls::Trust;
use crate::config::tls::UpstreamTls;
use crate::config::tls::Validation;
use crate::tls::ClientContext;
use crate::tls::ServerContext;

/// Envoy's bound of `session_timeout`: what a TLS 1.2 ticket can say.
const SESSION_TIMEOUT_MAX: Duration = Duration::from_secs(u32::MAX as u64 - 1);

/// Which side a context is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Downstream,
    Upstream,
}

/// Reads the TLS of a filter chain.
pub(crate) fn downstream(
    context: &mut Context,
    tls: pb::DownstreamTlsContext,
) -> Option<DownstreamTls> {
    let pb::DownstreamTlsContext {
        common_tls_context,
        require_client_certificate,
        require_sni,
        disable_stateful_session_resumption: _, // there is never such a cache
        session_timeout,
        ocsp_staple_policy,
        full_scan_certs_on_sni_mismatch,
        prefer_client_ciphers,
        session_ticket_keys_type,
    } = tls;
    match value::enumeration(context, "ocsp_staple_policy", ocsp_staple_policy)? {
        OcspStaplePolicy::LenientStapling => {}
        OcspStaplePolicy::StrictStapling | OcspStaplePolicy::MustStaple => {
            context.reject_unsupported("ocsp_staple_policy", "OCSP stapling is not supported");
        }
    }
    let session_timeout = value::duration(context, "session_timeout", session_timeout);
    if session_timeout.is_some_and(|timeout| timeout > SESSION_TIMEOUT_MAX) {
        context.reject("session_timeout", "is longer than 2^32 seconds");
    }
    let tickets = tickets(context, session_ticket_keys_type);
    let mut common = context.field("common_tls_context", |context| {
        let common = common_tls_context.unwrap_or_default();
        self::common(context, common, Side::Downstream)
    })?;
    let (tickets, ticket_keys) = tickets?;
    common.secrets.ticket_keys = ticket_keys;
    if common.certificates.is_empty() && common.secrets.certificates.is_empty() {
        let reason = "a server needs at least one certificate";
        context.reject("common_tls_context.tls_certificates", reason);
        return None;
    }
    let tls = DownstreamTls {
        common,
        require_client_certificate: value::is_true(require_client_certificate),
        require_sni: value::is_true(require_sni),
        full_scan_on_mismatch: value::is_true(full_scan_certs_on_sni_mismatch),
        prefer_server_ciphers: !prefer_client_ciphers,
        tickets,
        session_timeout: session_timeout.unwrap_or(limits::TLS_SESSION_TIMEOUT),
    };
    if !tls.common.secrets.is_empty() {
        return Some(tls); // to be tried with its secrets
    }
    match ServerContext::new(&tls) {
        Ok(_) => Some(tls),
        Err(reason) => context.refuse("", reason),
    }
}

/// Reads the TLS of a cluster.
pub(crate) fn upstream(context: &mut Context, tls: pb::UpstreamTlsContext) -> Option<UpstreamTls> {
    let pb::UpstreamTlsContext {
        common_tls_context,
        sni,
        auto_host_sni,
        auto_sni_san_validation,
        allow_renegotiation,
        max_session_keys,
        enforce_rsa_key_usage,
    } = tls;
    unsupported!(context, reject "TLS here has no renegotiation": allow_renegotiation);
    let enforce_rsa_key_usage = value::is_false(enforce_rsa_key_usage);
    unsupported!(context, reject "key usage is always enforced": enforce_rsa_key_usage);
    let common = context.field("common_tls_context", |context| {
        let common = common_tls_context.unwrap_or_default();
        self::common(context, common, Side::Upstream)
    })?;
    let trust = common
        .validation
        .as_ref()
        .map(|validation| &validation.trust);
    match trust {
        _ if common.secrets.validation.is_some() => {}
        Some(Trust::Roots(_) | Trust::Spiffe(_)) => {}
        Some(Trust::Hashes) | None if auto_sni_san_validation => {
            context.reject("auto_sni_san_validation", "needs a trusted_ca");
        }
        Some(Trust::Hashes) => {}
        None => context.warn(
            "common_tls_context.validation_context",
            "is not there: any certificate of the servers is accepted",
        ),
    }
    let session_keys = max_session_keys.map_or(1, |most| most.value);
    let tls = UpstreamTls {
        common,
        sni: (!sni.is_empty()).then(|| sni.as_str().into()),
        auto_host_sni,
        auto_sni_san_validation,
        session_keys_max: usize::try_from(session_keys)
            .unwrap_or(usize::MAX)
            .min(limits::TLS_SESSION_KEYS_MAX),
    };
    if let Some(sni) = &tls.sni
        && let Err(reason) = crate::tls::client::check_name(sni)
    {
        return context.refuse("sni", reason);
    }
    if !tls.common.secrets.is_empty() {
        return Some(tls); // to be tried with its secrets
    }
    match ClientContext::new(&tls, &AutoNames::default()) {
        Ok(_) => Some(tls),
        Err(reason) => context.refuse("", reason),
    }
}

/// How sessions are resumed, or the name of the keys for it.
fn tickets(
    context: &mut Context,
    kind: Option<SessionTicketKeysType>,
) -> Option<(Tickets, Option<SecretRef>)> {
    match kind {
        None | Some(SessionTicketKeysType::DisableStatelessSessionResumption(false)) => {
            Some((Tickets::Random, None))
        }
        Some(SessionTicketKeysType::DisableStatelessSessionResumption(true)) => {
            Some((Tickets::Off, None))
        }
        Some(SessionTicketKeysType::SessionTicketKeysSdsSecretConfig(sds)) => {
            let field = "session_ticket_keys_sds_secret_config";
            let named = context.field(field, |context| {
                reference::decode(context, sds, SecretKind::TicketKeys)
            })?;
            Some((Tickets::Off, Some(named)))
        }
        Some(SessionTicketKeysType::SessionTicketKeys(keys)) => {
            let keys = context.field("session_ticket_keys", |context| {
                tickets::keys(context, keys)
            })?;
            Some((Tickets::Keys(keys), None))
        }
    }
}

fn common(context: &mut Context, common: pb::CommonTlsContext, side: Side) -> Option<CommonTls> {
    let pb::CommonTlsContext {
        tls_params,
        tls_certificates,
        tls_certificate_sds_secret_configs,
        tls_certificate_provider_instance,
        custom_tls_certificate_selector,
        tls_certificate_certificate_provider,
        tls_certificate_certificate_provider_instance,
        alpn_protocols,
        custom_handshaker,
        key_log,
        validation_context_type,
    } = common;
    unsupported!(context, reject: tls_certificate_provider_instance,
        custom_tls_certificate_selector, tls_certificate_certificate_provider,
        tls_certificate_certificate_provider_instance, custom_handshaker, key_log);
    let parameters = match tls_params {
        None => Some(crate::config::tls::Parameters::default()),
        Some(parameters) => context.field("tls_params", |context| {
            parameters::decode(context, parameters)
        }),
    };
    if side == Side::Upstream && tls_certificates.len() > 1 {
        context.reject("tls_certificates", "a client has at most one");
    }
    let named = named_certificates(
        context,
        tls_certificate_sds_secret_configs,
        (side, !tls_certificates.is_empty()),
    );
    let certificates = context.each("tls_certificates", tls_certificates, certificate::decode);
    let alpn = alpn(context, alpn_protocols);
    let validation = match validation_context_type {
        None => Some((None, None)),
        Some(kind) => validation_of(context, kind, side),
    };
    let (validation, named_validation) = validation?;
    Some(CommonTls {
        parameters: parameters?,
        certificates,
        validation,
        alpn,
        secrets: SecretNames {
            certificates: named,
            validation: named_validation,
            ticket_keys: None,
        },
    })
}

/// Protocols as they are offered.
pub(super) fn alpn(context: &mut Context, protocols: Vec<String>) -> Vec<Box<[u8]>> {
    context.each("alpn_protocols", protocols, |context, protocol| {
        // RFC 7301 section 3.1.
        if protocol.is_empty() || protocol.len() > 255 {
            return context.refuse("", "must have 1 to 255 bytes");
        }
        Some(protocol.into_bytes().into())
    })
}

fn named_certificates(
    context: &mut Context,
    named: Vec<pb::SdsSecretConfig>,
    (side, are_here): (Side, bool),
) -> Vec<SecretRef> {
    let field = "tls_certificate_sds_secret_configs";
    if side == Side::Upstream && named.len() > 1 {
        context.reject(field, "a client has at most one");
    }
    if are_here && !named.is_empty() {
        context.reject(
            field,
            "stands beside tls_certificates, only one of them may be used",
        );
    }
    context.each(field, named, |context, sds| {
        reference::decode(context, sds, SecretKind::Certificate)
    })
}

/// Rules that stand here, and the name of what comes on top of them.
type Rules = (Option<Arc<Validation>>, Option<SecretRef>);

fn validation_of(context: &mut Context, kind: ValidationContextType, side: Side) -> Option<Rules> {
    match kind {
        ValidationContextType::ValidationContext(validation) => {
            context.field("validation_context", |context| {
                let rules = validation::decode(context, validation, side)?;
                Some((Some(rules), None))
            })
        }
        ValidationContextType::ValidationContextSdsSecretConfig(sds) => {
            context.field("validation_context_sds_secret_config", |context| {
                let named = reference::decode(context, sds, SecretKind::Validation)?;
                Some((None, Some(named)))
            })
        }
        ValidationContextType::CombinedValidationContext(combined) => context
            .field("combined_validation_context", |context| {
                self::combined(context, combined, side)
            }),
        ValidationContextType::ValidationContextCertificateProvider(_) => {
            context.unsupported("validation_context_certificate_provider", "not supported")
        }
        ValidationContextType::ValidationContextCertificateProviderInstance(_) => context
            .unsupported(
                "validation_context_certificate_provider_instance",
                "not supported",
            ),
    }
}

fn combined(
    context: &mut Context,
    combined: CombinedCertificateValidationContext,
    side: Side,
) -> Option<Rules> {
    let CombinedCertificateValidationContext {
        default_validation_context,
        validation_context_sds_secret_config,
        validation_context_certificate_provider,
        validation_context_certificate_provider_instance,
    } = combined;
    unsupported!(context, reject: validation_context_certificate_provider,
        validation_context_certificate_provider_instance);
    let named = match validation_context_sds_secret_config {
        None => None,
        Some(sds) => Some(
            context.field("validation_context_sds_secret_config", |context| {
                reference::decode(context, sds, SecretKind::Validation)
            })?,
        ),
    };
    let rules = context.required(
        "default_validation_context",
        default_validation_context,
        |context, validation| match named {
            Some(_) => validation::part(context, validation, side),
            None => validation::decode(context, validation, side),
        },
    )?;
    Some((Some(rules), named))
}
