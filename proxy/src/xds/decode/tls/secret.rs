//! `Secret`: who we are, whom we trust or what seals tickets, under a name of its own.

use std::sync::Arc;

use rustls_pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;
use xds_proto::pb::envoy::extensions::transport_sockets::tls::v3 as pb;
use xds_proto::pb::envoy::extensions::transport_sockets::tls::v3::secret::Type;

use super::super::Context;
use super::Side;
use super::certificate;
use super::tickets;
use super::validation;
use crate::config::secret::Secret;
use crate::config::secret::TicketKeys;
use crate::config::tls::Certificate;
use crate::net::tls::unix_now;
use crate::xds::resource::ReadSecret;

/// Reads a secret. The files it was read from are to be followed if the context is.
pub(crate) fn decode(context: &mut Context, secret: pb::Secret) -> Option<ReadSecret> {
    let pb::Secret { name, r#type } = secret;
    if name.is_empty() {
        context.reject("name", "must not be empty");
    }
    let secret = match r#type {
        Some(Type::TlsCertificate(certificate)) => context.field("tls_certificate", |context| {
            let certificate = certificate::decode(context, certificate)?;
            check_chain(context, &certificate)?;
            Some(Secret::Certificate(certificate))
        }),
        Some(Type::SessionTicketKeys(keys)) => context.field("session_ticket_keys", |context| {
            let keys = tickets::keys(context, keys)?;
            Some(Secret::TicketKeys(TicketKeys(keys)))
        }),
        Some(Type::ValidationContext(validation)) => {
            // Who uses it is known only where it is used.
            context
                .field("validation_context", |context| {
                    validation::part(context, validation, Side::Downstream)
                })
                .map(Secret::Validation)
        }
        Some(Type::GenericSecret(_)) => {
            context.unsupported("generic_secret", "not supported: no filter here uses one")
        }
        None => context.refuse(
            "",
            "needs a type: tls_certificate, validation_context or session_ticket_keys",
        ),
    };
    Some(ReadSecret {
        secret: secret?,
        directories: context.take_directories(),
    })
}

/// A leaf that nobody would accept is refused while there is still a good one; a chain out of order
/// is only told, as many clients find their way through it.
fn check_chain(context: &mut Context, certificate: &Arc<Certificate>) -> Option<()> {
    let field = "certificate_chain";
    let mut chain = Vec::with_capacity(certificate.chain.len());
    for (i, der) in certificate.chain.iter().enumerate() {
        match read(der) {
            Some(one) => chain.push(one),
            None => return context.refuse(field, format!("certificate {i} cannot be read")),
        }
    }
    let validity = chain.first()?.validity();
    if validity.not_after.timestamp() < unix_now() {
        let end = validity.not_after;
        return context.refuse(
            field,
            format!("the certificate has expired at {end}; renew it"),
        );
    }
    for (i, pair) in chain.windows(2).enumerate() {
        let [below, above] = pair else { continue };
        if below.issuer() != above.subject() {
            let reason = format!("certificate {} did not issue the one before it", i + 1);
            context.warn(field, reason);
        }
    }
    Some(())
}

fn read<'a>(der: &'a CertificateDer<'_>) -> Option<X509Certificate<'a>> {
    X509Certificate::from_der(der).ok().map(|(_, one)| one)
}
