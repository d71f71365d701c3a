//! Keys that their owners make: `openssl` makes one and `curl` has it signed, our proxy does both, and
//! no private key ever goes over the wire.

use std::process::Command;
use std::sync::Arc;
use std::sync::Mutex;

use bench::ports::ReservedPort;
use prost::Message;
use serde_json::Value;
use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use xds_proto::pb::google::protobuf::Struct;
use xds_proto::pb::google::protobuf::Value as PbValue;
use xds_proto::pb::google::protobuf::value::Kind;
use xds_proto::pb::istio::v1::auth::IstioCertificateRequest;
use xds_proto::pb::istio::v1::auth::IstioCertificateResponse;

use crate::channel::Proxy;
use crate::channel::control_plane;
use crate::channel::place;
use crate::channel::socket;
use crate::envoy::ControlPlane;
use crate::envoy::EDGE;
use crate::envoy::PATIENCE;
use crate::envoy::SERVER;
use crate::envoy::bootstrap;
use crate::envoy::is_hello;
use crate::envoy::listener;
use crate::envoy::until;
use crate::support::Place;
use crate::support::is_there;

const METHOD: &str = "istio.v1.auth.IstioCertificateService/CreateCertificate";

const MARK: &[u8] = b"PRIVATE KEY";

/// What `curl` got of the control plane: the chain, or `grpc-status` and its message.
struct Asked<'a> {
    place: &'a Place,
    xds: &'a ReservedPort,
}

impl Asked<'_> {
    fn ask(
        &self,
        request: &IstioCertificateRequest,
        more: &[&str],
    ) -> Result<Vec<String>, (u32, String)> {
        let body = request.encode_to_vec();
        let mut frame = vec![0];
        frame.extend_from_slice(&u32::try_from(body.len()).unwrap().to_be_bytes());
        frame.extend_from_slice(&body);
        self.place.write("frame", frame);
        let mut command = Command::new("curl");
        command
            .args(["--silent", "--show-error", "--http2", "--max-time", "20"])
            // It looks for a host name, and our certificates name identities.
            .arg("--insecure")
            .args(["--header", "content-type: application/grpc"])
            .args(["--header", "te: trailers"])
            .args(["--data-binary", "@frame"])
            .args(["--dump-header", "head", "--output", "answer"])
            .args(more)
            .arg(format!("https://{}/{METHOD}", self.xds.addr()))
            .current_dir(self.place.path());
        // A refusal has no body, and an old answer is none.
        self.place.write("answer", "");
        let output = command.output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "curl: {error}");
        let head = self.place.read("head");
        let field = |name: &str| {
            let line = head.lines().find_map(|line| line.strip_prefix(name));
            line.unwrap_or_default().trim().to_owned()
        };
        let status: u32 = field("grpc-status:").parse().unwrap();
        if status > 0 {
            return Err((status, plain(&field("grpc-message:"))));
        }
        let answer = std::fs::read(self.place.file("answer")).unwrap();
        let response = IstioCertificateResponse::decode(&answer[5..]).unwrap();
        Ok(response.cert_chain)
    }

    /// Asks until the control plane is there.
    async fn first(
        &self,
        request: &IstioCertificateRequest,
        more: &[&str],
    ) -> Result<Vec<String>, (u32, String)> {
        let began = tokio::time::Instant::now();
        while TcpStream::connect(self.xds.addr()).await.is_err() {
            assert!(began.elapsed() < PATIENCE, "it does not listen");
            tokio::task::yield_now().await;
        }
        self.ask(request, more)
    }
}

/// Without the percent signs that gRPC writes messages with.
fn plain(message: &str) -> String {
    let mut parts = message.split('%');
    let mut plain = parts.next().unwrap().to_owned();
    for part in parts {
        let (digits, rest) = part.split_at(2);
        plain.push(char::from(u8::from_str_radix(digits, 16).unwrap()));
        plain += rest;
    }
    plain
}

/// A request that `openssl` made, with these names.
fn request(place: &Place, names: &str) -> IstioCertificateRequest {
    let mut arguments = "req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes \
        -keyout made.key -out made.csr -subj /"
        .to_owned();
    if !names.is_empty() {
        arguments += &format!(" -addext subjectAltName={names}");
    }
    place.openssl_ok(&arguments);
    IstioCertificateRequest {
        csr: place.read("made.csr"),
        ..Default::default()
    }
}

fn token(place: &Place, name: &str) -> String {
    place.ok(&format!("ca token --dir ca {name} --life 10m"))
}

fn audit(place: &Place) -> Vec<Value> {
    let log = place.read("ca/audit.log");
    let lines = log.lines().map(|line| serde_json::from_str(line).unwrap());
    lines.collect()
}

#[expect(clippy::too_many_lines, reason = "one visitor after another")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn curl_has_the_key_of_openssl_signed_and_nobody_elses() {
    if !is_there("curl", "--version") || !is_there("openssl", "version") {
        return;
    }
    let [front, xds] = [(); 2].map(|()| ReservedPort::new().unwrap());
    let place = place(&front);
    let _control_plane = control_plane(&place, &xds, &[]);
    let asked = Asked {
        place: &place,
        xds: &xds,
    };
    let own = request(&place, &format!("URI:{EDGE}"));
    let bearer = format!("authorization: Bearer {}", token(&place, EDGE).trim());
    let by_token = ["--header", &bearer];
    let chain = asked.first(&own, &by_token).await.unwrap();
    let [leaf, above, roots] = <[String; 3]>::try_from(chain).unwrap();
    for (name, text) in [
        ("leaf.pem", &leaf),
        ("above.pem", &above),
        ("trust.pem", &roots),
    ] {
        place.write(name, text);
    }
    place.openssl_ok("verify -CAfile trust.pem -untrusted above.pem leaf.pem");
    let shown = place.openssl_ok("x509 -in leaf.pem -noout -ext subjectAltName");
    assert!(shown.contains(&format!("URI:{EDGE}")), "{shown}");
    let of_leaf = place.openssl_ok("x509 -in leaf.pem -noout -pubkey");
    assert_eq!(of_leaf, place.openssl_ok("pkey -in made.key -pubout"));

    // From now on the certificate itself says who asks; a day is what leaves live here.
    place.write("shown.pem", format!("{leaf}{above}"));
    let by_leaf = ["--cert", "shown.pem", "--key", "made.key"];
    let again = IstioCertificateRequest {
        validity_duration: 30 * 24 * 3_600,
        ..own.clone()
    };
    asked.ask(&again, &by_leaf).unwrap();

    let check = |request: &IstioCertificateRequest, more: &[&str], status: u32, text: &str| {
        let refused = asked.ask(request, more).unwrap_err();
        assert_eq!(refused.0, status, "{refused:?}");
        assert!(refused.1.contains(text), "{refused:?}");
    };
    let (unauthenticated, invalid, denied) = (16, 3, 7);
    check(&own, &[], unauthenticated, "not authenticated");
    check(&own, &by_token, unauthenticated, "used before");
    let forged = ["--header", "authorization: Bearer weir1.e30.AAAA"];
    check(&own, &forged, unauthenticated, "not made by this authority");
    let bank = "spiffe://mesh.example/bank";
    let by_edge = ["--cert", "edge.pem", "--key", "edge.key"];
    let impersonating = IstioCertificateRequest {
        metadata: Some(Struct {
            fields: [(
                "ImpersonatedIdentity".to_owned(),
                PbValue {
                    kind: Some(Kind::StringValue(bank.to_owned())),
                },
            )]
            .into(),
        }),
        ..own.clone()
    };
    check(&impersonating, &by_edge, denied, "is not for");
    let foreign = request(&place, &format!("URI:{bank}"));
    check(&foreign, &by_edge, invalid, "the only name allowed");
    let noise = IstioCertificateRequest {
        csr: "noise".to_owned(),
        ..Default::default()
    };
    check(&noise, &by_edge, invalid, "not a signing request");
    place.openssl_ok("req -new -newkey rsa:1024 -nodes -keyout made.key -out made.csr -subj / ");
    let weak = IstioCertificateRequest {
        csr: place.read("made.csr"),
        ..Default::default()
    };
    check(&weak, &by_edge, invalid, "1024 bits");

    let audit = audit(&place);
    let told = |label: &str| {
        let lines = audit.iter().map(Value::to_string);
        assert!(lines.clone().any(|line| line.contains(label)), "no {label}");
    };
    for label in [
        "anonymous",
        "token_used",
        "token_forged",
        "not_yours",
        "name_foreign",
        "malformed",
        "key_weak",
    ] {
        told(label);
    }
}

/// How a proxy gets a certificate for a key of its own.
fn identity(place: &Place, token: &str) -> String {
    place.write("token", token);
    let identity = json!({
        "@type": "type.googleapis.com/weir.identity.v1.Identity",
        "signer": {"envoy_grpc": {"cluster_name": "control-plane"}},
        "token": {"filename": place.file("token")},
        "spiffe_id": EDGE,
    });
    format!("bootstrap_extensions: [{{name: identity, typed_config: {identity}}}]\n")
}

/// TLS that shows the proxy's own certificate once there is one.
fn tls_by_own(place: &Place) -> String {
    let context = json!({
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
        "common_tls_context": {
            "tls_certificate_sds_secret_configs": [{"name": "default"}],
            "validation_context": {
                "trusted_ca": {"filename": place.file("roots.pem")},
                "match_typed_subject_alt_names": [
                    {"san_type": "URI", "matcher": {"exact": SERVER}},
                ],
            },
        },
    });
    format!("    transport_socket: {{name: tls, typed_config: {context}}}\n")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_joins_by_token_with_a_key_of_its_own() {
    let [front, xds] = [(); 2].map(|()| ReservedPort::new().unwrap());
    let place = place(&front);
    let first = control_plane(&place, &xds, &[]);
    let token = token(&place, EDGE);
    let text = bootstrap("DELTA_GRPC", &socket(&xds), &tls_by_own(&place));
    let proxy = Proxy::start(&place, &(identity(&place, &token) + &text));
    let client = Some("cart");
    let answer = until(front.addr(), &place, client, is_hello).await;
    assert_eq!(answer.unwrap().identity.as_deref(), Some(EDGE));
    let issued = "a certificate was issued for a key made here";
    assert_eq!(proxy.count(issued), 1);

    // The token is used up; the certificate is what it is known by.
    drop(first);
    let _second = control_plane(&place, &xds, &["--require-client-certificate"]);
    proxy.said("connected to the control plane", 2).await;
    until(front.addr(), &place, client, is_hello).await.unwrap();

    // Made there were keys for the control plane itself, and by hand.
    let made: Vec<_> = audit(&place)
        .into_iter()
        .filter(|line| line["key"] == "made" && line["name"] == EDGE)
        .collect();
    assert_eq!(made.len(), 1, "edge.pem: {made:?}");
    let output = proxy.0.whole_output();
    assert!(!output.contains(token.trim()) && !output.contains("PRIVATE KEY"));
}

/// Stands before a control plane and remembers every byte.
struct Wire {
    port: ReservedPort,
    seen: Arc<Mutex<Vec<u8>>>,
    task: JoinHandle<()>,
}

impl Wire {
    async fn to(server: &ReservedPort) -> Self {
        let port = ReservedPort::new().unwrap();
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.set_reuseaddr(true).unwrap();
        socket.set_reuseport(true).unwrap();
        socket.bind(port.addr()).unwrap();
        let listener: TcpListener = socket.listen(16).unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (all, server) = (Arc::clone(&seen), server.addr());
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect(server).await else {
                    continue;
                };
                let (client_read, client_write) = client.into_split();
                let (server_read, server_write) = server.into_split();
                tokio::spawn(copy(client_read, server_write, Arc::clone(&all)));
                tokio::spawn(copy(server_read, client_write, Arc::clone(&all)));
            }
        });
        Self { port, seen, task }
    }

    fn has_key(&self) -> bool {
        let seen = self.seen.lock().unwrap();
        seen.windows(MARK.len()).any(|window| window == MARK)
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn copy(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    all: Arc<Mutex<Vec<u8>>>,
) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        all.lock().unwrap().extend_from_slice(&buffer[..count]);
        if to.write_all(&buffer[..count]).await.is_err() {
            break;
        }
    }
}

/// Serves with `default`; roots come along with the certificate.
fn trusting_the_signer(front: &ReservedPort) -> String {
    let text = listener(front.number(), "ROOTCA").to_string();
    let source = r#"{"ads":{},"resource_api_version":"V3"}"#;
    let named = format!(r#"{{"name":"ROOTCA","sds_config":{source}}}"#);
    assert!(text.contains(&named), "{text}");
    text.replace(&named, r#"{"name":"ROOTCA"}"#)
}

/// Over loopback there need not be TLS, so that the wire can be read.
async fn on_the_wire(with_identity: bool) -> bool {
    let [front, xds] = [(); 2].map(|()| ReservedPort::new().unwrap());
    let place = place(&front);
    let listen = xds.addr().to_string();
    let _control_plane = ControlPlane::start(&place, &["--listen", &listen]);
    let began = tokio::time::Instant::now();
    while TcpStream::connect(xds.addr()).await.is_err() {
        assert!(began.elapsed() < PATIENCE, "it does not listen");
        tokio::task::yield_now().await;
    }
    let wire = Wire::to(&xds).await;
    let token = token(&place, EDGE);
    let text = bootstrap("GRPC", &socket(&wire.port), "");
    let text = if with_identity {
        place.write("resources/all.json", trusting_the_signer(&front));
        identity(&place, &token) + &text
    } else {
        // The token is for the stream, and the key comes from there.
        let metadata =
            json!([{"key": "authorization", "value": format!("Bearer {}", token.trim())}]);
        let service = "{envoy_grpc: {cluster_name: control-plane}}";
        let with_metadata = format!(
            "{{envoy_grpc: {{cluster_name: control-plane}}, initial_metadata: {metadata}}}"
        );
        assert!(text.contains(service));
        text.replace(service, &with_metadata)
    };
    let proxy = Proxy::start(&place, &text);
    let answer = until(front.addr(), &place, Some("cart"), is_hello).await;
    assert_eq!(answer.unwrap().identity.as_deref(), Some(EDGE));
    assert!(!proxy.0.whole_output().contains(token.trim()));
    wire.has_key()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_private_key_goes_over_the_wire() {
    assert!(!on_the_wire(true).await, "a key made by the proxy");
    assert!(on_the_wire(false).await, "a key made by the server");
}
