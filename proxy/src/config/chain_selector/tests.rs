//! Envoy's nine steps, and the tree. That the choices are Envoy's is shown with the real one by
//! `cli/tests/envoy/chains`.

use std::net::SocketAddr;

use super::ChainIndex;
use super::Choice;
use super::Decision;
use super::Input;
use super::Node;
use super::Outcome;
use super::Overlap;
use super::Range;
use super::Tree;
use crate::config::filter_chain::FilterChainMatch;
use crate::config::filter_chain::SourceType;
use crate::config::prefix_map::IpPrefix;
use crate::config::prefix_map::PrefixMap;
use crate::downstream::Downstream;
use crate::downstream::Found;
use crate::downstream::ProtocolList;
use crate::downstream::Transport;

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn range(text: &str) -> IpPrefix {
    let (ip, length) = text.split_once('/').unwrap();
    IpPrefix::new(ip.parse().unwrap(), length.parse().unwrap())
}

fn connection() -> Downstream {
    Downstream {
        connection_id: 1,
        direct_peer: Some(address("10.0.0.9:40000")),
        peer: Some(address("10.0.0.9:40000")),
        local: Some(address("192.168.1.1:443")),
        found: None,
        tls: None,
    }
}

fn tls(name: &str, protocols: &[&str]) -> Downstream {
    let mut wire = Vec::new();
    for protocol in protocols {
        wire.push(u8::try_from(protocol.len()).unwrap());
        wire.extend(protocol.bytes());
    }
    let found = Found {
        transport: Transport::Tls,
        server_name: (!name.is_empty()).then(|| name.into()),
        application_protocols: ProtocolList::from_wire(&wire).unwrap_or_default(),
        ..Found::default()
    };
    Downstream {
        found: Some(Box::new(found)),
        ..connection()
    }
}

fn any() -> FilterChainMatch {
    FilterChainMatch::default()
}

fn names(names: &[&str]) -> FilterChainMatch {
    FilterChainMatch {
        server_names: names.iter().map(|name| (*name).into()).collect(),
        ..any()
    }
}

fn index(matches: &[FilterChainMatch]) -> ChainIndex {
    ChainIndex::new(matches).unwrap()
}

#[test]
fn the_most_specific_name_counts() {
    let index = index(&[
        names(&["a.example.com"]),
        names(&["*.example.com"]),
        names(&["*.com"]),
        any(),
    ]);
    let choose = |name: &str| index.find(&tls(name, &[]));
    assert_eq!(choose("a.example.com"), Some(0));
    assert_eq!(choose("b.example.com"), Some(1));
    assert_eq!(choose("x.b.example.com"), Some(1));
    assert_eq!(choose("example.com"), Some(2));
    assert_eq!(choose("com"), Some(3));
    assert_eq!(
        choose(".com"),
        Some(2),
        "the key of *.com itself, as in Envoy"
    );
    assert_eq!(choose(""), Some(3));
    assert_eq!(index.find(&connection()), Some(3));
}

#[test]
fn a_step_that_has_chosen_does_not_come_back() {
    let narrow = FilterChainMatch {
        prefix_ranges: vec![range("192.168.0.0/16")],
        ..names(&["a"])
    };
    let index = index(&[narrow, names(&["b"])]);
    assert_eq!(index.find(&tls("a", &[])), Some(0));
    assert_eq!(index.find(&tls("b", &[])), None);
    let elsewhere = Downstream {
        local: Some(address("10.1.1.1:443")),
        ..tls("b", &[])
    };
    assert_eq!(index.find(&elsewhere), Some(1));
}

#[test]
fn every_other_step_chooses_too() {
    let index = index(&[
        FilterChainMatch {
            destination_port: Some(8443),
            ..any()
        },
        FilterChainMatch {
            transport_protocol: "tls".into(),
            application_protocols: vec!["h2".into()],
            ..any()
        },
        FilterChainMatch {
            transport_protocol: "tls".into(),
            ..any()
        },
        FilterChainMatch {
            direct_source_prefix_ranges: vec![range("10.0.0.0/24")],
            source_type: SourceType::External,
            source_prefix_ranges: vec![range("10.0.0.9/32")],
            source_ports: vec![7],
            ..any()
        },
        FilterChainMatch {
            direct_source_prefix_ranges: vec![range("10.0.0.0/24")],
            source_type: SourceType::SameIpOrLoopback,
            ..any()
        },
    ]);
    let to = |port| Downstream {
        local: Some(SocketAddr::new([192, 168, 1, 1].into(), port)),
        ..connection()
    };
    let from = |peer: &str| Downstream {
        peer: Some(address(peer)),
        ..connection()
    };
    assert_eq!(index.find(&to(8443)), Some(0));
    assert_eq!(index.find(&tls("", &["spdy/1", "h2"])), Some(1));
    assert_eq!(index.find(&tls("", &["http/1.1"])), Some(2));
    assert_eq!(index.find(&from("10.0.0.9:7")), Some(3));
    assert_eq!(index.find(&from("10.0.0.9:8")), None);
    assert_eq!(index.find(&from("10.0.0.8:7")), None);
    assert_eq!(index.find(&from("127.0.0.1:9")), Some(4));
    assert_eq!(index.find(&from("192.168.1.1:9")), Some(4));
}

#[test]
fn overlaps_are_refused() {
    let matches = [any(), names(&["a", "b"]), names(&["b", "c"])];
    assert_eq!(ChainIndex::new(&matches), Err((2, Overlap(1))));
    assert_eq!(ChainIndex::new(&[any(), any()]), Err((1, Overlap(0))));
    assert_eq!(ChainIndex::new(&[names(&["a", "a"])]), Err((0, Overlap(0))));
}

fn take(chain: usize) -> Decision {
    Decision {
        keep_matching: false,
        outcome: Outcome::Chain(Some(chain)),
    }
}

fn exact(input: Input, entries: &[(&str, Decision)], on_no_match: Option<Decision>) -> Tree {
    let entries = entries
        .iter()
        .map(|(key, found)| ((*key).into(), found.clone()));
    Tree {
        input,
        node: Node::Exact(entries.collect()),
        on_no_match,
    }
}

fn ask(tree: Tree) -> Decision {
    Decision {
        keep_matching: false,
        outcome: Outcome::Tree(Box::new(tree)),
    }
}

#[test]
fn a_tree_asks_on_and_comes_back() {
    let by_name = exact(Input::ServerName, &[("a", take(0))], None);
    let tree = exact(
        Input::DestinationPort,
        &[("443", ask(by_name))],
        Some(take(1)),
    );
    assert_eq!(tree.choose(&tls("a", &[])), Choice::Chain(0));
    assert_eq!(tree.choose(&tls("b", &[])), Choice::Chain(1));
    let nowhere = exact(Input::DestinationPort, &[], None);
    assert_eq!(nowhere.choose(&connection()), Choice::Default);
}

#[test]
fn every_input_has_its_text() {
    let says = |input, text: &str, connection: &Downstream| {
        exact(input, &[(text, take(0))], None).choose(connection) == Choice::Chain(0)
    };
    let tls = tls("a", &["h2", "http/1.1"]);
    assert!(says(Input::ApplicationProtocol, "'h2','http/1.1'", &tls));
    assert!(says(Input::TransportProtocol, "tls", &tls));
    assert!(says(Input::TransportProtocol, "raw_buffer", &connection()));
    assert!(says(Input::DestinationIp, "192.168.1.1", &tls));
    assert!(says(Input::SourceIp, "10.0.0.9", &tls));
    assert!(says(Input::DirectSourceIp, "10.0.0.9", &tls));
    assert!(says(Input::SourcePort, "40000", &tls));
    assert!(!says(Input::SourceType, "local", &tls));
    let local = Downstream {
        peer: Some(address("[::1]:5")),
        local: Some(address("[2001:db8:1111:2222:3333:4444:5555:6666]:443")),
        ..connection()
    };
    assert!(says(Input::SourceType, "local", &local));
    assert!(says(
        Input::DestinationIp,
        "2001:db8:1111:2222:3333:4444:5555:6666",
        &local
    ));
}

#[test]
fn smaller_ranges_come_first_and_exclusive_ones_not_second() {
    let nowhere = ask(exact(Input::ServerName, &[], None));
    let mut map: PrefixMap<Vec<Range>> = PrefixMap::default();
    let mut add = |text: &str, exclusive, decision| {
        map.entry(Some(range(text))).push(Range {
            exclusive,
            decision,
        });
    };
    add("192.168.1.0/24", false, nowhere);
    add("192.168.0.0/16", true, take(0));
    add("192.0.0.0/8", false, take(1));
    let tree = Tree {
        input: Input::DestinationIp,
        node: Node::Ranges(map),
        on_no_match: None,
    };
    assert_eq!(tree.choose(&connection()), Choice::Chain(1));
    let elsewhere = Downstream {
        local: Some(address("192.168.2.1:1")),
        ..connection()
    };
    assert_eq!(tree.choose(&elsewhere), Choice::Chain(0));
}
