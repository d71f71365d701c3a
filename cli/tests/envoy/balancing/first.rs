//! Pick first, which Envoy has not: Weir alone, its servers nginx processes that come and go.

use std::net::Ipv4Addr;

use bench::peer::Nginx;
use bench::peer::StartOptions;
use bench::ports::ReservedPort;
use serde_json::Value;
use serde_json::json;

use super::client::Client;
use super::cluster;
use super::listener;
use super::typed_policy;
use crate::identity::bootstrap;
use crate::identity::free_ports;
use crate::identity::manager;
use crate::identity::open;
use crate::setting::Weir;
use crate::setting::nginx_is_there;

/// Requests while nothing changes.
const REQUESTS: usize = 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_server_takes_all_until_it_cannot_be_reached() {
    if !nginx_is_there() {
        return;
    }
    let servers = free_ports(3);
    let ports = free_ports(1);
    let member = |port: &ReservedPort| {
        let number = port.number();
        let address = json!({"socket_address": {"address": "127.0.0.1", "port_value": number}});
        json!({"endpoint": {"address": address}})
    };
    let members: Value = servers.iter().map(member).collect();
    let policy = typed_policy("pick_first", "PickFirst", json!({}));
    let cluster = cluster("first", &json!([{"lb_endpoints": members}]), &policy);
    let retries = json!({"retry_on": "connect-failure", "num_retries": 5,
        "retry_back_off": {"base_interval": "0.001s"}});
    let route = json!([{
        "match": {"prefix": "/"}, "route": {"cluster": "first", "retry_policy": retries},
    }]);
    let listener = listener(ports[0].number(), &manager(&route, &json!({})));
    let weir = Weir::start(&bootstrap(&[listener], &[cluster])).await;
    open(&ports).await;
    let who = || async {
        let mut client = Client::connect(ports[0].addr(), (Ipv4Addr::LOCALHOST, 0)).await;
        let mut answers = Vec::new();
        for _ in 0..REQUESTS {
            answers.push(client.get("/", &[]).await.origin());
        }
        assert!(
            answers.windows(2).all(|two| two[0] == two[1]),
            "{answers:?}"
        );
        answers.swap_remove(0)
    };
    assert_eq!(who().await, "503", "nobody is there");
    let mut running = [start(&servers, 0).await, start(&servers, 1).await, None];
    running[2] = start(&servers, 2).await;
    let mut told = vec![who().await];
    stop(&mut running[0]).await;
    stop(&mut running[1]).await;
    told.push(who().await);
    running[0] = start(&servers, 0).await;
    told.push(who().await); // who came back is not returned to
    stop(&mut running[2]).await;
    told.push(who().await); // the search begins with the first
    running[1] = start(&servers, 1).await;
    stop(&mut running[0]).await;
    told.push(who().await);
    assert_eq!(told[1..], ["2", "2", "0", "1"], "{told:?}");
    weir.stop().await;
    for server in &mut running {
        stop(server).await;
    }
}

async fn start(ports: &[ReservedPort], place: usize) -> Option<Nginx> {
    let port = &ports[place];
    let config = format!(
        "daemon off; worker_processes 1; pid nginx.pid; error_log stderr crit; user root;\n\
         events {{ worker_connections 64; }}\n\
         http {{\n access_log off; keepalive_timeout 0; client_body_temp_path a; proxy_temp_path b;\n \
         fastcgi_temp_path c; uwsgi_temp_path d; scgi_temp_path e;\n \
         server {{ listen 127.0.0.1:{}; location / {{ add_header x-origin {place}; return 200 a; }} }}\n}}\n",
        port.number()
    );
    let started = Nginx::start(&config, port.addr(), &StartOptions::default()).await;
    Some(started.expect("nginx takes the configuration"))
}

async fn stop(server: &mut Option<Nginx>) {
    if let Some(server) = server.take() {
        server.stop().await.expect("it ends");
    }
}
