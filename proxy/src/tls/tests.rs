//! Handshakes of both contexts with each other, over a socket pair.

use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::time::Instant;

use super::*;
use crate::config::cluster::AutoNames;
use crate::config::endpoint::Address;
use crate::config::secret::SecretNames;
use crate::config::tls::CommonTls;
use crate::config::tls::DownstreamTls;
use crate::config::tls::Parameters;
use crate::config::tls::Tickets;
use crate::config::tls::Trust;
use crate::config::tls::UpstreamTls;
use crate::config::tls::Validation;
use crate::config::tls::Version;
use crate::net::NetStream;
use crate::net::tls::Facts;
use crate::tls::client::Target;
use crate::tls::failure::Kind;
use crate::tls::fixtures::Authority;
use crate::tls::fixtures::CA;
use crate::tls::fixtures::LEAF;
use std::sync::Arc;

fn trusting(authority: &Authority) -> Option<Arc<Validation>> {
    Some(Arc::new(Validation {
        trust: Trust::Roots(vec![authority.der.clone()]),
        ..Validation::anyone()
    }))
}

fn common() -> CommonTls {
    CommonTls {
        parameters: Parameters::default(),
        certificates: Vec::new(),
        validation: None,
        alpn: Vec::new(),
        secrets: SecretNames::default(),
    }
}

fn downstream() -> DownstreamTls {
    DownstreamTls {
        common: CommonTls {
            certificates: vec![LEAF.certificate()],
            ..common()
        },
        require_client_certificate: false,
        require_sni: false,
        full_scan_on_mismatch: false,
        prefer_server_ciphers: true,
        tickets: Tickets::Random,
        session_timeout: Duration::from_secs(60),
    }
}

fn upstream() -> UpstreamTls {
    UpstreamTls {
        common: CommonTls {
            validation: trusting(&CA),
            ..common()
        },
        sni: Some("a.example".into()),
        auto_host_sni: false,
        auto_sni_san_validation: true,
        session_keys_max: 1,
    }
}

type End = Result<(NetStream, Facts), Failure>;

/// The server's and the client's end.
async fn shake(server: &ServerContext, client: &ClientContext) -> (End, End) {
    shake_for(server, client, None).await
}

async fn shake_for(
    server: &ServerContext,
    client: &ClientContext,
    request_host: Option<&str>,
) -> (End, End) {
    let address = Address::Pipe("/x".into());
    let target = Target {
        address: &address,
        hostname: "",
        request_host,
        alpn: &[],
        alpn_instead: None,
    };
    let (ours, theirs) = UnixStream::pair().unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    let accept = async {
        let (mut stream, facts) = server
            .accept(NetStream::Unix(ours), Vec::new(), deadline)
            .await?;
        let _ = stream.write_all(b"hello").await; // the client may have refused us
        Ok((stream, facts))
    };
    let connect = async {
        let (mut stream, facts) = client.connect(NetStream::Unix(theirs), target).await?;
        // With TLS 1.3 the server's verdict comes later.
        let mut hello = [0; 5];
        match stream.read_exact(&mut hello).await {
            Ok(_) => Ok((stream, facts)),
            Err(error) => Err(Failure::of_io(&error)),
        }
    };
    tokio::join!(accept, connect)
}

async fn meet(down: &DownstreamTls, up: &UpstreamTls) -> (End, End) {
    let server = ServerContext::new(down).unwrap();
    let client = ClientContext::new(up, &AutoNames::default()).unwrap();
    shake(&server, &client).await
}

fn kind(end: End) -> Option<Kind> {
    end.err().map(|failure| failure.kind)
}

#[tokio::test]
async fn both_versions_shake_hands() {
    for version in [Version::Tls12, Version::Tls13] {
        let mut up = upstream();
        (up.common.parameters.least, up.common.parameters.most) = (version, version);
        let (server, client) = meet(&downstream(), &up).await;
        let ((mut ours, server), (mut theirs, client)) = (server.unwrap(), client.unwrap());
        assert_eq!(server.version, client.version);
        assert_eq!(server.server_name.as_deref(), Some("a.example"));
        assert!(server.peer.is_none() && client.is_validated);
        assert_eq!(&*client.peer.unwrap().names().dns, ["a.example".into()]);
        assert_eq!(&*server.local.unwrap().dns, ["a.example".into()]);
        ours.shutdown().await.unwrap();
        let mut rest = Vec::new();
        theirs.read_to_end(&mut rest).await.unwrap();
        assert!(rest.is_empty());
    }
}

#[tokio::test]
async fn versions_that_do_not_meet_are_refused() {
    let mut up = upstream();
    up.common.parameters.most = Version::Tls12;
    let mut down = downstream();
    down.common.parameters.least = Version::Tls13;
    let (server, client) = meet(&down, &up).await;
    assert_eq!(
        (kind(server), kind(client)),
        (Some(Kind::Connection), Some(Kind::Connection))
    );
}

#[tokio::test]
async fn clients_are_let_in_by_their_certificate() {
    let other = Authority::new("other");
    let mut down = downstream();
    down.common.validation = trusting(&CA);
    let with = |certificate| {
        let mut up = upstream();
        up.common.certificates.extend(certificate);
        up
    };
    let good = || with(Some(CA.issue("URI:spiffe://td/x").certificate()));
    let bad = || with(Some(other.issue("URI:spiffe://td/x").certificate()));
    for required in [false, true] {
        down.require_client_certificate = required;
        let (server, client) = meet(&down, &good()).await;
        let (_, facts) = server.unwrap();
        assert!(facts.is_validated && client.is_ok());
        assert_eq!(&*facts.peer.unwrap().names().uris, ["spiffe://td/x".into()]);
        let (server, client) = meet(&down, &bad()).await;
        assert_eq!(kind(server), Some(Kind::Untrusted));
        assert!(client.is_err());
        let (server, client) = meet(&down, &with(None)).await;
        let expected = required.then_some(Kind::NoCertificate);
        assert_eq!(kind(server), expected);
        assert_eq!(client.is_err(), required);
    }
}

#[tokio::test]
async fn who_wants_names_wants_a_certificate() {
    let mut down = downstream();
    let mut validation = Validation::clone(&trusting(&CA).unwrap());
    validation.key_hashes = vec![[0; 32]];
    down.common.validation = Some(Arc::new(validation));
    let (server, _) = meet(&down, &upstream()).await;
    assert_eq!(kind(server), Some(Kind::NoCertificate));
}

#[tokio::test]
async fn servers_are_refused_by_root_and_by_name() {
    let mut up = upstream();
    up.common.validation = trusting(&Authority::new("other"));
    let (server, client) = meet(&downstream(), &up).await;
    assert_eq!(kind(client), Some(Kind::Untrusted));
    assert!(server.is_err() || server.is_ok_and(|(_, facts)| facts.peer.is_none()));
    let mut up = upstream();
    up.sni = Some("b.example".into());
    let (_, client) = meet(&downstream(), &up).await;
    assert_eq!(kind(client), Some(Kind::Name));
}

#[tokio::test]
async fn t04_sessions_are_resumed_only_where_they_were_made() {
    let mut down = downstream();
    down.tickets = Tickets::Keys(vec![Arc::new([7; 80])]);
    let server = ServerContext::new(&down).unwrap();
    let same = ServerContext::new(&down).unwrap();
    down.common.validation = trusting(&CA);
    let asking = ServerContext::new(&down).unwrap();
    for version in [Version::Tls12, Version::Tls13] {
        let mut up = upstream();
        (up.common.parameters.least, up.common.parameters.most) = (version, version);
        let client = ClientContext::new(&up, &AutoNames::default()).unwrap();
        let resumed = async |server| {
            let (server, client) = shake(server, &client).await;
            assert!(client.is_ok());
            server.unwrap().1.is_resumed
        };
        assert!(!resumed(&server).await, "{version:?}: the first");
        assert!(resumed(&server).await, "{version:?}: the second");
        assert!(
            resumed(&same).await,
            "{version:?}: keys and policy are the same"
        );
        assert!(
            !resumed(&asking).await,
            "{version:?}: it asks for certificates"
        );
    }
}

#[tokio::test]
async fn without_tickets_nothing_is_resumed() {
    let mut down = downstream();
    down.tickets = Tickets::Off;
    let server = ServerContext::new(&down).unwrap();
    for most in [Version::Tls12, Version::Tls13] {
        let mut up = upstream();
        up.common.parameters.most = most;
        let client = ClientContext::new(&up, &AutoNames::default()).unwrap();
        for _ in 0..2 {
            let (server, _) = shake(&server, &client).await;
            assert!(!server.unwrap().1.is_resumed);
        }
    }
}

#[tokio::test]
async fn protocols_are_agreed_on_or_left_open() {
    let mut down = downstream();
    down.common.alpn = vec![b"h2".as_slice().into(), b"http/1.1".as_slice().into()];
    for (offered, agreed) in [
        (vec!["http/1.1", "h2"], Some(true)),
        (vec!["http/1.1"], Some(false)),
        (vec!["other"], None),
        (vec![], None),
    ] {
        let mut up = upstream();
        up.common.alpn = offered.iter().map(|name| name.as_bytes().into()).collect();
        let (server, client) = meet(&down, &up).await;
        assert_eq!(server.unwrap().1.speaks_http2(), agreed, "{offered:?}");
        assert!(client.is_ok(), "{offered:?}");
    }
}

#[tokio::test]
async fn a_server_that_wants_a_name_refuses_who_gives_none() {
    let mut down = downstream();
    down.require_sni = true;
    let mut up = upstream();
    (up.sni, up.auto_sni_san_validation) = (None, false);
    let (server, client) = meet(&down, &up).await;
    assert_eq!(
        (kind(server), kind(client)),
        (Some(Kind::Connection), Some(Kind::Connection))
    );
    let (server, _) = meet(&down, &upstream()).await;
    assert!(server.is_ok());
}

#[tokio::test(start_paused = true)]
async fn r01_a_client_that_drips_is_cut_at_the_deadline() {
    let server = ServerContext::new(&downstream()).unwrap();
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let begin = Instant::now();
    let deadline = begin + Duration::from_secs(5);
    let accept = server.accept(NetStream::Unix(ours), Vec::new(), deadline);
    let drip = async {
        // A record's header, and then its bytes one by one, a second between them.
        theirs
            .write_all(&[22, 3, 1, 1, 0, 1, 0, 0, 252, 3, 3])
            .await
            .unwrap();
        while theirs.write_all(&[0]).await.is_ok() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    let (accepted, ()) = tokio::join!(accept, drip);
    assert_eq!(kind(accepted), Some(Kind::Timeout));
    assert!(begin.elapsed() < Duration::from_secs(7));
}

#[tokio::test]
async fn t01_a_hello_in_single_bytes_is_a_hello() {
    let server = ServerContext::new(&downstream()).unwrap();
    let client = ClientContext::new(&upstream(), &AutoNames::default()).unwrap();
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let (mut relay, end) = UnixStream::pair().unwrap();
    let address = Address::Pipe("/x".into());
    let target = Target {
        address: &address,
        hostname: "",
        request_host: None,
        alpn: &[],
        alpn_instead: None,
    };
    let pass = async {
        let mut bytes = vec![0; 4096];
        let len = relay.read(&mut bytes).await.unwrap();
        for byte in &bytes[..len] {
            theirs.write_all(&[*byte]).await.unwrap();
            tokio::task::yield_now().await;
        }
        let copied = tokio::io::copy_bidirectional(&mut relay, &mut theirs).await;
        drop((relay, theirs));
        copied
    };
    let deadline = Instant::now() + Duration::from_secs(60);
    let accept = server.accept(NetStream::Unix(ours), Vec::new(), deadline);
    let shake = async {
        let (server, client) = tokio::join!(accept, client.connect(NetStream::Unix(end), target));
        assert!(server.is_ok() && client.is_ok());
    };
    let (_, ()) = tokio::join!(pass, shake);
}

#[tokio::test]
async fn t07_plain_text_where_a_handshake_belongs_is_an_error() {
    let client = ClientContext::new(&upstream(), &AutoNames::default()).unwrap();
    let server = ServerContext::new(&downstream()).unwrap();
    let address = Address::Pipe("/x".into());
    let target = Target {
        address: &address,
        hostname: "",
        request_host: None,
        alpn: &[],
        alpn_instead: None,
    };
    let (end, mut upstream) = UnixStream::pair().unwrap();
    upstream
        .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        .await
        .unwrap();
    let connected = client.connect(NetStream::Unix(end), target).await;
    assert_eq!(kind(connected), Some(Kind::Connection));
    let (end, mut downstream) = UnixStream::pair().unwrap();
    downstream
        .write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        .await
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    let accepted = server
        .accept(NetStream::Unix(end), Vec::new(), deadline)
        .await;
    assert_eq!(kind(accepted), Some(Kind::Connection));
}

#[tokio::test]
async fn bulk_goes_both_ways_through_records() {
    let (server, client) = meet(&downstream(), &upstream()).await;
    let ((mut ours, _), (mut theirs, _)) = (server.unwrap(), client.unwrap());
    let data: Vec<u8> = (0..3_000_000_u32).map(|i| (i % 251) as u8).collect();
    let send = async {
        ours.write_all(&data).await.unwrap();
        ours.shutdown().await.unwrap();
    };
    let receive = async {
        let mut received = Vec::new();
        theirs.read_to_end(&mut received).await.unwrap();
        received
    };
    let ((), received) = tokio::join!(send, receive);
    assert!(received == data);
}

#[tokio::test]
async fn r07_an_end_without_goodbye_is_an_error() {
    let (server, client) = meet(&downstream(), &upstream()).await;
    let ((ours, _), (mut theirs, _)) = (server.unwrap(), client.unwrap());
    drop(ours);
    let error = theirs.read_to_end(&mut Vec::new()).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof);
}

#[tokio::test]
async fn an_idle_connection_is_clean_until_something_comes() {
    let (server, client) = meet(&downstream(), &upstream()).await;
    let ((mut ours, _), (mut theirs, _)) = (server.unwrap(), client.unwrap());
    assert!(theirs.is_idle_clean(), "tickets are no data");
    ours.write_all(b"x").await.unwrap();
    tokio::task::yield_now().await;
    let mut x = [0];
    theirs.read_exact(&mut x).await.unwrap();
    assert!(theirs.is_idle_clean());
    ours.write_all(b"x").await.unwrap();
    tokio::task::yield_now().await;
    assert!(!theirs.is_idle_clean());
}

#[tokio::test]
async fn the_host_of_a_request_can_be_the_servers_name() {
    let mut down = downstream();
    down.common.certificates = vec![
        CA.issue("DNS:a.example,DNS:b.example,IP:10.0.0.1")
            .certificate(),
    ];
    let server = ServerContext::new(&down).unwrap();
    let mut up = upstream();
    up.auto_sni_san_validation = false;
    let meet = async |sni, san, host| {
        let names = AutoNames {
            sni,
            san,
            header: None,
        };
        let client = ClientContext::new(&up, &names).unwrap();
        shake_for(&server, &client, Some(host)).await
    };
    for (sni, san, host, sent, fails) in [
        (true, false, "b.example", Some("b.example"), None),
        (true, false, "c.example", Some("c.example"), None),
        (true, true, "b.example", Some("b.example"), None),
        (true, true, "c.example", None, Some(Kind::Name)),
        (false, true, "b.example", Some("a.example"), None),
        (false, true, "c.example", None, Some(Kind::Name)),
        (true, true, "10.0.0.1", Some("a.example"), None),
        (true, true, "10.0.0.2", None, Some(Kind::Name)),
    ] {
        let (server, client) = meet(sni, san, host).await;
        assert_eq!(kind(client), fails, "{host}");
        if let Some(sent) = sent {
            assert_eq!(
                server.unwrap().1.server_name.as_deref(),
                Some(sent),
                "{host}"
            );
        }
    }
}
