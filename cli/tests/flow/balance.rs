//! A host that is slow to answer takes no more requests while another is idle, whichever worker
//! they come to: `LEAST_REQUEST` through the binary.

use std::net::SocketAddr;

use bench::origin::Origin;
use bench::origin::Reply;

use crate::support::bootstrap;
use crate::support::child::Child;
use crate::support::child::weir;
use crate::support::raw::Raw;
use crate::support::until;

const LEAST_REQUEST: &str = "type: STATIC
    load_balancing_policy:
      policies:
      - typed_extension_config:
          name: least_request
          typed_config:
            '@type': type.googleapis.com/envoy.extensions.load_balancing_policies.least_request.v3.LeastRequest
            selection_method: FULL_SCAN
";

/// Connections, which the kernel spreads over both workers; an even number.
const CLIENTS: usize = 8;

/// More requests on each that was answered. By turns, the slow host would get half of them.
const REQUESTS: usize = 10;

fn two_hosts(port: u16, first: SocketAddr, second: SocketAddr) -> String {
    let text = bootstrap::fixed(port, first, false).replace("type: STATIC\n", LEAST_REQUEST);
    let port = second.port();
    format!(
        "{text}        - endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}}}\n"
    )
}

async fn ask(client: &mut Raw, number: usize) {
    let request = format!("GET /{number} HTTP/1.1\r\nhost: a\r\n\r\n");
    client.send(request.as_bytes()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_not_answered_yet_is_spared_by_all_workers() {
    let [slow, quick] = ["slow", "quick"].map(|name| Origin::start(name).expect("a free port"));
    for origin in [&slow, &quick] {
        origin.reply(Reply::body("hello"));
        origin.pause();
    }
    let text = |port| two_hosts(port, slow.addr(), quick.addr());
    let child = Child::start(weir(), text).await;

    let mut clients = Vec::new();
    for number in 0..CLIENTS {
        let mut client = Raw::open(child.addr()).await;
        ask(&mut client, number).await;
        clients.push(client);
        until("the request at an origin", async || {
            (slow.seen().len() + quick.seen().len() > number).then_some(())
        })
        .await;
    }
    let each = CLIENTS / 2;
    assert_eq!((slow.seen().len(), quick.seen().len()), (each, each));

    // A connection takes its next request when the one before is no longer counted, so the quick
    // host has fewer in flight than the slow one whenever one of these is sent.
    quick.resume();
    let (held, answered): (Vec<_>, Vec<_>) = clients
        .into_iter()
        .enumerate()
        .partition(|(number, _)| is_among(&slow, *number));
    for (number, mut client) in answered {
        client.read_to(b"hello").await;
        for _ in 0..REQUESTS {
            ask(&mut client, number).await;
            client.read_to(b"hello").await;
        }
    }
    assert_eq!(quick.seen().len(), each + each * REQUESTS);
    assert_eq!(slow.seen().len(), each);

    slow.resume();
    for (_, mut client) in held {
        client.read_to(b"hello").await;
    }
}

fn is_among(origin: &Origin, number: usize) -> bool {
    let path = format!("/{number}");
    origin.seen().iter().any(|seen| seen.path == path)
}
