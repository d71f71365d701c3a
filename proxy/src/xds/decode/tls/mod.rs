//! `extensions.transport_sockets.tls.v3`: the TLS of both sides.
//!
//! What passes here can be used: every certificate, key and list was read and tried. Secrets that
//! come by a stream of their own are not supported and refused by name.
//!
//! | file | holds |
//! |---|---|
//! | `certificate` | a certificate with its key |
//! | `parameters` | versions, cipher suites, curves |
//! | `spiffe` | trust by SPIFFE trust domain |
//! | `validation` | who the peer must be |

mod certificate;
mod parameters;
mod spiffe;
mod validation;

use std::sync::Arc;
use std::time::Duration;

use xds_proto::pb::envoy::extensions::transport_sockets::tls::v3 as pb;
use xds_proto::pb::envoy::extensions::transport_sockets::tls::v3::common_tls_context::CombinedCertificateValidationContext;
use xds_proto::pb::envoy::extensions::transport_sockets::tls::v3::common_tls_context::ValidationContextType;
use xds_proto::pb::envoy::extensions::transport_sockets::tls::v3::downstream_tls_context::OcspStaplePolicy;
use xds_proto::pb::envoy::extensions::transport_sockets::tls::v3::downstream_tls_context::SessionTicketKeysType;

use super::Context;
use super::data_source;
use super::value;
use crate::config::cluster::AutoNames;
use crate::config::limits;
use crate::config::tls::CommonTls;
use crate::config::tls::DownstreamTls;
use crate::config::tls::Tickets;
use crate::config::tls::Trust;
use crate::config::tls::UpstreamTls;
use crate::config::tls::Validation;
use crate::tls::ClientContext;
use crate::tls::ServerContext;

/// Why a name of a secret is refused.
const NO_SDS: &str =
    "secrets fetched by name (SDS) are not supported, put the secret here or name its file";

/// Envoy's bound of `session_timeout`: what a TLS 1.2 ticket can say.
const SESSION_TIMEOUT_MAX: Duration = Duration::from_secs(u32::MAX as u64 - 1);

/// Bytes of a key for session tickets.
const TICKET_KEY_BYTES: usize = 80;

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
    let common = context.field("common_tls_context", |context| {
        let common = common_tls_context.unwrap_or_default();
        self::common(context, common, Side::Downstream)
    })?;
    if common.certificates.is_empty() {
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
        tickets: tickets?,
        session_timeout: session_timeout.unwrap_or(limits::TLS_SESSION_TIMEOUT),
    };
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
    match ClientContext::new(&tls, &AutoNames::default()) {
        Ok(_) => Some(tls),
        Err(reason) => context.refuse("", reason),
    }
}

fn tickets(context: &mut Context, kind: Option<SessionTicketKeysType>) -> Option<Tickets> {
    let keys = match kind {
        None | Some(SessionTicketKeysType::DisableStatelessSessionResumption(false)) => {
            return Some(Tickets::Random);
        }
        Some(SessionTicketKeysType::DisableStatelessSessionResumption(true)) => {
            return Some(Tickets::Off);
        }
        Some(SessionTicketKeysType::SessionTicketKeysSdsSecretConfig(_)) => {
            return context.unsupported("session_ticket_keys_sds_secret_config", NO_SDS);
        }
        Some(SessionTicketKeysType::SessionTicketKeys(keys)) => keys,
    };
    context.field("session_ticket_keys", |context| {
        let pb::TlsSessionTicketKeys { keys } = keys;
        if keys.is_empty() {
            return context.refuse("keys", "must not be empty");
        }
        let keys = context.each("keys", keys, |context, key| {
            let key = data_source::secret(context, key)?;
            let Ok(key) = <[u8; TICKET_KEY_BYTES]>::try_from(key) else {
                return context.refuse("", "must have exactly 80 bytes");
            };
            Some(Arc::new(key))
        });
        Some(Tickets::Keys(keys))
    })
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
    if !tls_certificate_sds_secret_configs.is_empty() {
        context.reject_unsupported("tls_certificate_sds_secret_configs", NO_SDS);
    }
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
    let certificates = context.each("tls_certificates", tls_certificates, certificate::decode);
    let alpn = context.each("alpn_protocols", alpn_protocols, |context, protocol| {
        // RFC 7301 section 3.1.
        if protocol.is_empty() || protocol.len() > 255 {
            return context.refuse("", "must have 1 to 255 bytes");
        }
        Some(protocol.into_bytes().into())
    });
    let validation = match validation_context_type {
        None => Some(None),
        Some(kind) => validation_of(context, kind, side).map(Some),
    };
    Some(CommonTls {
        parameters: parameters?,
        certificates,
        validation: validation?,
        alpn,
    })
}

fn validation_of(
    context: &mut Context,
    kind: ValidationContextType,
    side: Side,
) -> Option<Arc<Validation>> {
    match kind {
        ValidationContextType::ValidationContext(validation) => context
            .field("validation_context", |context| {
                validation::decode(context, validation, side)
            }),
        ValidationContextType::ValidationContextSdsSecretConfig(_) => {
            context.unsupported("validation_context_sds_secret_config", NO_SDS)
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
) -> Option<Arc<Validation>> {
    let CombinedCertificateValidationContext {
        default_validation_context,
        validation_context_sds_secret_config,
        validation_context_certificate_provider,
        validation_context_certificate_provider_instance,
    } = combined;
    if validation_context_sds_secret_config.is_some() {
        context.reject_unsupported("validation_context_sds_secret_config", NO_SDS);
    }
    unsupported!(context, reject: validation_context_certificate_provider,
        validation_context_certificate_provider_instance);
    context.required(
        "default_validation_context",
        default_validation_context,
        |context, validation| validation::decode(context, validation, side),
    )
}
