//! Streams to servers that are trusted no more.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::time::Instant;

use super::tests::World;
use super::tests::config;
use super::tests::listen;
use super::tests::run;
use crate::config::Cluster;
use crate::config::Secrets;
use crate::config::cluster::UpstreamTransport;
use crate::config::endpoint::Address;
use crate::config::limits;
use crate::config::secret::Secret;
use crate::config::secret::SecretNames;
use crate::config::tls::CommonTls;
use crate::config::tls::DownstreamTls;
use crate::config::tls::Parameters;
use crate::config::tls::Tickets;
use crate::config::tls::Trust;
use crate::config::tls::UpstreamTls;
use crate::config::tls::Validation;
use crate::net::NetStream;
use crate::tls::ServerContext;
use crate::tls::fixtures::Authority;
use crate::tls::fixtures::CA;
use crate::tls::fixtures::LEAF;
use crate::upstream::ClusterHandle;
use crate::xds::stage::fixtures;

fn common() -> CommonTls {
    CommonTls {
        parameters: Parameters::default(),
        certificates: Vec::new(),
        validation: None,
        alpn: Vec::new(),
        secrets: SecretNames::default(),
    }
}

/// A cluster that asks for the secret `roots`.
fn cluster() -> Arc<Cluster> {
    let plain = fixtures::cluster("c", fixtures::eds("c"), 2000);
    let tls = UpstreamTls {
        common: CommonTls {
            secrets: SecretNames {
                validation: Some(fixtures::named("roots")),
                ..SecretNames::default()
            },
            ..common()
        },
        sni: Some("a.example".into()),
        auto_host_sni: false,
        auto_sni_san_validation: true,
        session_keys_max: 0,
    };
    Arc::new(Cluster {
        transport: UpstreamTransport {
            tls: Some(tls),
            ..UpstreamTransport::default()
        },
        ..Cluster::clone(&plain)
    })
}

fn server() -> ServerContext {
    let config = DownstreamTls {
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
    };
    ServerContext::new(&config).unwrap()
}

/// What `apply` does with a new secret; how many transports trust others.
async fn trust(world: &World, cluster: &ClusterHandle, roots: &[&Authority]) -> usize {
    let trust = Trust::Roots(roots.iter().map(|root| root.der.clone()).collect());
    let validation = Validation {
        trust,
        ..Validation::anyone()
    };
    let secret = Secret::Validation(Arc::new(validation));
    let secrets = Secrets::from([(fixtures::named("roots").key, secret)]);
    let changed = cluster.load().transports.refresh(&secrets);
    for transport in &changed {
        let servers = world.worker.pools.servers.clone();
        servers.verify_again(Arc::clone(transport)).await;
    }
    changed.len()
}

#[test]
fn a_stream_to_a_server_that_is_trusted_no_more_has_its_time_and_no_more() {
    run(async {
        let origin = listen().await;
        let address = Address::Socket(origin.local_addr().unwrap());
        let world = World::with_cluster(config(), origin, address, cluster()).await;
        let (cluster, _) = world.manager.choose(0).unwrap();
        assert_eq!(trust(&world, &cluster, &[&CA]).await, 1);
        let (mut client, task) = world.connect().await;
        let (stream, _) = world.origin.accept().await.unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        let server = server();
        let accepted = server.accept(NetStream::Tcp(stream), Vec::new(), deadline);
        let (mut origin, _) = accepted.await.unwrap();
        let mut byte = [0];
        origin.write_all(b"a").await.unwrap();
        client.read_exact(&mut byte).await.unwrap();
        tokio::time::pause();
        let other = Authority::new("other");
        assert_eq!(trust(&world, &cluster, &[&CA]).await, 0, "no change");
        assert_eq!(trust(&world, &cluster, &[&other, &CA]).await, 1);
        tokio::time::advance(2 * limits::DRAIN_TIME).await;
        origin.write_all(b"b").await.unwrap();
        client.read_exact(&mut byte).await.unwrap();
        let before = Instant::now();
        assert_eq!(trust(&world, &cluster, &[&other]).await, 1);
        assert_eq!(client.read(&mut byte).await.unwrap(), 0);
        assert!(before.elapsed() >= limits::DRAIN_TIME);
        task.await.unwrap();
    });
}
