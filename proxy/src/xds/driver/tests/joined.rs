//! A certificate for a key of our own, from a signer whose every answer the test writes.

#![expect(
    clippy::disallowed_methods,
    reason = "certificates of the test end in real time"
)]

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;
use std::time::Duration;
use std::time::SystemTime;

use rcgen::date_time_ymd;
use rustls_pki_types::CertificateSigningRequestDer;
use rustls_pki_types::pem::PemObject;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::Request;
use tonic::Response;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::BoxFuture;
use tonic::codegen::Service;
use tonic::codegen::StdError;
use tonic::codegen::http;
use tonic::metadata::MetadataMap;
use tonic::server::Grpc;
use tonic::server::NamedService;
use tonic::server::UnaryService;
use tonic_prost::ProstCodec;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer;
use xds_proto::pb::istio::v1::auth::IstioCertificateRequest;
use xds_proto::pb::istio::v1::auth::IstioCertificateResponse;

use crate::config::Change;
use crate::config::Cluster;
use crate::config::Name;
use crate::config::Secrets;
use crate::config::cluster::UpstreamProtocol;
use crate::config::grpc::GrpcSettings;
use crate::config::identity::Identity;
use crate::config::identity::Token;
use crate::config::secret::Secret;
use crate::config::secret::SecretKind;
use crate::config::secret::SecretRef;
use crate::tls::fixtures::CA;
use crate::tls::fixtures::params;
use crate::xds::driver::Source;
use crate::xds::driver::tests::rig::Client;
use crate::xds::driver::tests::rig::config;
use crate::xds::driver::tests::rig::soon;
use crate::xds::session::Variant;
use crate::xds::stage::StaticResources;
use crate::xds::stage::fixtures;

const CART: &str = "spiffe://mesh.example/cart";

/// How long certificates live here.
const LIFE: Duration = Duration::from_secs(3);

/// One question, and where the answer goes.
struct Question {
    metadata: MetadataMap,
    request: IstioCertificateRequest,
    answer: oneshot::Sender<Result<Vec<String>, Status>>,
}

impl Question {
    fn has_token(&self) -> bool {
        let token = self.metadata.get("authorization");
        token.is_some_and(|token| token == "Bearer once")
    }

    /// The point on the curve that is to be signed for.
    fn key(&self) -> Vec<u8> {
        let pem = self.request.csr.as_bytes();
        let der = CertificateSigningRequestDer::from_pem_slice(pem).unwrap();
        let (_, request) = X509CertificationRequest::from_der(&der).unwrap();
        let key = request.certification_request_info.subject_pki;
        key.subject_public_key.data.to_vec()
    }

    fn sign(self) {
        let mut params = params(&format!("URI:{CART}"));
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(1970, 1, 1) + now.unwrap() + LIFE;
        let leaf = CA.sign(params, &Point(self.key()));
        let _ = self.answer.send(Ok(vec![leaf.pem(), CA.pem.clone()]));
    }

    fn refuse(self) {
        let _ = self.answer.send(Err(Status::unavailable("not now")));
    }
}

/// A public key on P-256.
struct Point(Vec<u8>);

impl rcgen::PublicKeyData for Point {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}

struct Signer {
    port: u16,
    questions: mpsc::Receiver<Question>,
    task: JoinHandle<()>,
}

impl Signer {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (sender, questions) = mpsc::channel(4);
        let task = tokio::spawn(async move {
            let _ = tonic::transport::Server::builder()
                .add_service(Desk(sender))
                .serve_with_incoming(TcpListenerStream::new(listener))
                .await;
        });
        Self {
            port,
            questions,
            task,
        }
    }

    async fn next(&mut self) -> Question {
        soon("a question", self.questions.recv()).await.unwrap()
    }
}

impl Drop for Signer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[derive(Clone)]
struct Desk(mpsc::Sender<Question>);

impl NamedService for Desk {
    const NAME: &'static str = "istio.v1.auth.IstioCertificateService";
}

impl<B> Service<http::Request<B>> for Desk
where
    B: tonic::codegen::Body + Send + 'static,
    B::Error: Into<StdError> + Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        assert!(request.uri().path().ends_with("/CreateCertificate"));
        let own = self.clone();
        Box::pin(async move { Ok(Grpc::new(ProstCodec::default()).unary(own, request).await) })
    }
}

impl UnaryService<IstioCertificateRequest> for Desk {
    type Response = IstioCertificateResponse;
    type Future = BoxFuture<Response<Self::Response>, Status>;

    fn call(&mut self, request: Request<IstioCertificateRequest>) -> Self::Future {
        let questions = self.0.clone();
        Box::pin(async move {
            let (answer, answered) = oneshot::channel();
            let (metadata, _, request) = request.into_parts();
            let question = Question {
                metadata,
                request,
                answer,
            };
            questions.send(question).await.ok();
            let lost = || Status::internal("the test forgot it");
            let cert_chain = answered.await.unwrap_or_else(|_| Err(lost()))?;
            Ok(Response::new(IstioCertificateResponse { cert_chain }))
        })
    }
}

fn identity() -> Identity {
    Identity {
        signer: "signer".into(),
        settings: GrpcSettings::default(),
        token: Some(Token::Text("once".into())),
        spiffe_id: Some(CART.into()),
        requested_life: None,
        certificate_name: "default".into(),
        trust_name: "ROOTCA".into(),
    }
}

/// A bootstrap with the signer, and with a listener that needs both secrets by these names.
fn statics(signer: &Signer) -> StaticResources {
    let cluster = Cluster {
        protocol: UpstreamProtocol::Http2,
        ..Cluster::clone(&fixtures::cluster(
            "signer",
            fixtures::fixed(signer.port),
            1,
        ))
    };
    let [certificate, _, trust] = identity().keys();
    let named = |key, kind| SecretRef {
        key,
        kind,
        fetch_timeout: None,
    };
    let listener = fixtures::listener("l", fixtures::inline(&[]));
    let certificate = named(certificate, SecretKind::Certificate);
    let one = fixtures::with_secret_of(&listener, certificate);
    let trust = named(trust, SecretKind::Validation);
    let other = fixtures::listener("m", fixtures::inline(&[]));
    StaticResources {
        clusters: vec![Arc::new(cluster)],
        listeners: vec![one, fixtures::with_secret_of(&other, trust)],
        ..StaticResources::default()
    }
}

fn names(secrets: &Secrets) -> BTreeSet<Name> {
    secrets.keys().map(|key| key.name.clone()).collect()
}

impl Client {
    /// The next change of secrets.
    async fn next_secrets(&mut self) -> Arc<Secrets> {
        loop {
            match soon("a change", self.changes.recv()).await {
                Some(Change::Secrets(secrets)) => return secrets,
                Some(Change::Snapshot(snapshot)) if !snapshot.secrets.is_empty() => {
                    return Arc::clone(&snapshot.secrets);
                }
                Some(_) => {}
                None => panic!("the driver is gone"),
            }
        }
    }
}

fn certificate(secrets: &Secrets) -> &Secret {
    &secrets[&identity().certificate_keys()[0]]
}

#[tokio::test]
async fn it_joins_by_token_renews_without_and_ends_with_its_certificate() {
    let mut signer = Signer::start().await;
    let mut config = config(Variant::Sotw, Vec::new());
    (config.ads, config.cds, config.lds) = (None, Source::None, Source::None);
    config.identity = Some(Arc::new(identity()));
    config.statics = statics(&signer);
    let mut client = Client::start_at(config, SystemTime::now);

    let question = signer.next().await;
    assert!(question.has_token());
    let first_key = question.key();
    question.sign();
    let first = client.next_secrets().await;
    assert_eq!(
        names(&first),
        BTreeSet::from(["ROOTCA".into(), "default".into()])
    );

    let question = signer.next().await;
    assert!(!question.has_token(), "the certificate says who asks");
    assert_ne!(question.key(), first_key, "a key is used once");
    question.sign();
    let second = client.next_secrets().await;
    assert_ne!(certificate(&first), certificate(&second));

    // From now on the signer is of no use, until the certificate is over.
    let over = loop {
        tokio::select! {
            secrets = client.next_secrets() => break secrets,
            question = signer.questions.recv() => question.unwrap().refuse(),
        }
    };
    assert_eq!(names(&over), BTreeSet::from(["ROOTCA".into()]));
    loop {
        let question = signer.next().await;
        if question.has_token() {
            question.sign();
            break;
        }
        question.refuse();
    }
    let last = client.next_secrets().await;
    assert_eq!(names(&last).len(), 2);
}
