//! `weir.identity.v1.Identity`: a certificate whose key is made here.

use std::net::IpAddr;
use std::path::PathBuf;

use xds_proto::pb::envoy::config::core::v3 as core;
use xds_proto::pb::envoy::config::core::v3::data_source::Specifier;
use xds_proto::pb::weir::identity::v1 as pb;

use super::StaticResource;
use super::sources::check_cluster;
use crate::config::Cluster;
use crate::config::Name;
use crate::config::cluster::Discovery;
use crate::config::endpoint::Address;
use crate::config::identity::Identity;
use crate::config::identity::Token;
use crate::config::limits::SPIFFE_ID_BYTES_MAX;
use crate::xds::decode::Context;
use crate::xds::decode::data_source;
use crate::xds::decode::grpc_service;
use crate::xds::decode::value;

/// What the secrets are called, as with Istio's agents.
const CERTIFICATE_NAME: &str = "default";
const TRUST_NAME: &str = "ROOTCA";

/// Reads it; `clusters` are those of the bootstrap.
pub(super) fn decode(
    context: &mut Context,
    identity: pb::Identity,
    clusters: &[StaticResource<Cluster>],
) -> Option<Identity> {
    let pb::Identity {
        signer,
        token,
        spiffe_id,
        requested_life,
        certificate_name,
        trust_name,
    } = identity;
    let signer = context.required("signer", signer, |context, service| {
        let check = |context: &mut Context, name: &str| check_cluster(context, name, clusters);
        grpc_service::decode(context, service, check)
    });
    let token = context.optional("token", token, self::token);
    let has_name = !spiffe_id.is_empty();
    let spiffe_id = if has_name {
        Some(self::spiffe_id(context, spiffe_id)?)
    } else {
        None
    };
    let requested_life = value::positive_duration(context, "requested_life", requested_life);
    let certificate_name = name_or(certificate_name, CERTIFICATE_NAME);
    let trust_name = name_or(trust_name, TRUST_NAME);
    if certificate_name == trust_name {
        context.reject("trust_name", "is the certificate_name too");
    }
    let (signer, settings) = signer?;
    if token.is_some()
        && let Some(cluster) = clusters.iter().find(|one| one.value.name == signer)
        && !keeps_secrets(&cluster.value)
    {
        let reason = format!(
            "anybody on the way could read it: {signer:?} needs a transport_socket with a validation_context, or an address of this machine"
        );
        context.reject("token", reason);
    }
    Some(Identity {
        signer,
        settings,
        token,
        spiffe_id,
        requested_life,
        certificate_name,
        trust_name,
    })
}

fn name_or(name: String, usual: &str) -> Name {
    if name.is_empty() {
        usual.into()
    } else {
        name.into()
    }
}

fn token(context: &mut Context, source: core::DataSource) -> Option<Token> {
    // It need not be there yet, and may be another one later.
    if let Some(Specifier::Filename(path)) = &source.specifier {
        if path.is_empty() {
            return context.refuse("filename", "must not be empty");
        }
        data_source::watched(context, source.watched_directory);
        return Some(Token::File(PathBuf::from(path)));
    }
    let bytes = data_source::secret(context, source)?;
    match String::from_utf8(bytes) {
        Ok(text) if is_token(&text) => Some(Token::Text(text.trim().into())),
        _ => context.refuse("", "has bytes no token has"),
    }
}

/// Whether it can stand in a header.
fn is_token(text: &str) -> bool {
    text.trim().bytes().all(|byte| byte.is_ascii_graphic())
}

fn spiffe_id(context: &mut Context, id: String) -> Option<Name> {
    let path = id
        .strip_prefix("spiffe://")
        .and_then(|rest| rest.split_once('/'));
    let is_id = path.is_some_and(|(domain, path)| !domain.is_empty() && !path.is_empty())
        && id.len() <= SPIFFE_ID_BYTES_MAX
        && id.bytes().all(|byte| byte.is_ascii_graphic());
    if !is_id {
        let reason = format!("{id:?} is no SPIFFE ID, such as spiffe://mesh.example/cart");
        return context.refuse("spiffe_id", reason);
    }
    Some(id.into())
}

/// Whether only the cluster itself sees what is sent to it.
fn keeps_secrets(cluster: &Cluster) -> bool {
    if let Some(tls) = &cluster.transport.tls {
        let validation = tls.common.validation.as_ref();
        let is_verified = validation.is_some_and(|one| one.proves_something());
        return is_verified || tls.common.secrets.validation.is_some();
    }
    let is_local = |address: &Address| match address {
        Address::Pipe(_) => true,
        Address::Socket(address) => address.ip().is_loopback(),
    };
    match &cluster.discovery {
        Discovery::Static(endpoints) => {
            let localities = endpoints.localities.iter();
            let mut members = localities.flat_map(|locality| &locality.endpoints);
            members.all(|one| is_local(&one.address))
        }
        Discovery::StrictDns(dns) => dns.targets.iter().all(|target| {
            let ip = target.host.parse::<IpAddr>();
            ip.is_ok_and(|ip| ip.is_loopback())
        }),
        Discovery::Eds { .. } | Discovery::OriginalDst => false,
    }
}
