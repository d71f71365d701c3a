//! The bootstrap behind `weir proxy --from ADDR --to ADDR[,ADDR]`: written as YAML and read like any
//! other, so there is one way in.

use std::fmt::Write;
use std::net::IpAddr;

/// The text of the bootstrap.
///
/// # Errors
/// An address that is none, as a sentence.
pub(super) fn bootstrap(from: &str, to: &[String]) -> Result<String, String> {
    let (from_host, from_port) = split(from, "--from")?;
    let from_host = if from_host.is_empty() {
        "0.0.0.0"
    } else {
        from_host
    };
    let mut names = false;
    let mut endpoints = String::new();
    for target in to {
        let (host, port) = split(target, "--to")?;
        let host = if host.is_empty() { "127.0.0.1" } else { host };
        names |= host.parse::<IpAddr>().is_err();
        // Writing to a string cannot fail.
        let _ = write!(
            endpoints,
            "\n      - endpoint: {{address: {{socket_address: {{address: '{host}', port_value: {port}}}}}}}"
        );
    }
    let kind = if names { "STRICT_DNS" } else { "STATIC" };
    Ok(format!(
        "\
static_resources:
  listeners:
  - name: from
    address: {{socket_address: {{address: '{from_host}', port_value: {from_port}}}}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          '@type': type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: from
          use_remote_address: true
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {{'@type': type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}
          route_config:
            name: from
            virtual_hosts:
            - name: all
              domains: ['*']
              routes: [{{match: {{prefix: /}}, route: {{cluster: to, timeout: 0s}}}}]
  clusters:
  - name: to
    type: {kind}
    load_assignment:
      cluster_name: to
      endpoints:
      - lb_endpoints:{}
",
        endpoints.replace("\n      -", "\n        -"),
    ))
}

fn split<'a>(address: &'a str, flag: &str) -> Result<(&'a str, u16), String> {
    let told = || {
        format!(
            "error: {flag} {address}: an address looks like :8080, 127.0.0.1:8080 or [::1]:8080"
        )
    };
    let (host, port) = address.rsplit_once(':').ok_or_else(told)?;
    let port = port.parse().map_err(|_| told())?;
    let host = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host);
    let plain = host
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b".-_:".contains(&byte));
    if plain { Ok((host, port)) } else { Err(told()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::cluster::Discovery;

    fn load(from: &str, to: &[&str]) -> crate::bootstrap::Bootstrap {
        let to: Vec<String> = to.iter().map(|text| (*text).to_owned()).collect();
        let text = bootstrap(from, &to).unwrap();
        crate::bootstrap::load("--from".as_ref(), &text)
            .unwrap_or_else(|errors| unreachable!("{}", errors[0]))
    }

    #[test]
    fn addresses_become_members() {
        let loaded = load(":8080", &["127.0.0.1:1", "[::1]:2"]);
        let Discovery::Static(endpoints) = &loaded.static_clusters[0].value.discovery else {
            unreachable!("literal addresses are static")
        };
        assert_eq!(endpoints.localities[0].endpoints.len(), 2);
    }

    #[test]
    fn names_are_resolved() {
        let loaded = load("127.0.0.1:8080", &["localhost:1"]);
        assert!(matches!(
            loaded.static_clusters[0].value.discovery,
            Discovery::StrictDns(_)
        ));
    }

    #[test]
    fn a_bad_address_is_told() {
        assert!(bootstrap("8080", &[]).unwrap_err().contains("--from 8080"));
        assert!(
            bootstrap(":1", &["x'y:1".to_owned()])
                .unwrap_err()
                .contains("--to")
        );
    }
}
