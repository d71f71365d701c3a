//! The compiled choice of a filter chain is the choice of somebody who asks each chain.
#![no_main]

use libfuzzer_sys::fuzz_target;
use proxy::config::chain_selector::ChainIndex;
use proxy::config::filter_chain::FilterChainMatch;
use proxy::config::prefix_map::IpPrefix;
use proxy::downstream::Downstream;
use proxy::downstream::Found;
use proxy::downstream::Transport;

const NAMES: [&str; 5] = ["a.com", "www.a.com", "*.a.com", "*.com", "b"];

fn name(index: u8) -> Option<&'static str> {
    NAMES.get(usize::from(index) % (NAMES.len() + 1)).copied()
}

/// A chain from eight bytes: the low bits of the first say which conditions it has.
fn conditions(bytes: &[u8; 8]) -> FilterChainMatch {
    let [which, port, a, b, c, d, length, server] = *bytes;
    let has = |bit: u8| which & (1 << bit) != 0;
    let range = IpPrefix::new([a, b, c, d].into(), u32::from(length % 32) + 1);
    FilterChainMatch {
        destination_port: has(0).then_some(u16::from(port % 3) + 1),
        prefix_ranges: has(1).then_some(range).into_iter().collect(),
        server_names: name(server)
            .filter(|_| has(2))
            .map(Into::into)
            .into_iter()
            .collect(),
        transport_protocol: match (has(3), has(4)) {
            (true, true) => "tls".into(),
            (true, false) => "raw_buffer".into(),
            (false, _) => "".into(),
        },
        ..FilterChainMatch::default()
    }
}

fuzz_target!(|bytes: &[u8]| {
    let Some(([a, b, c, d, port, server, tls], rest)) = bytes.split_first_chunk::<7>() else {
        return;
    };
    let (chains, _) = rest.as_chunks::<8>();
    let chains: Vec<FilterChainMatch> = chains.iter().take(12).map(conditions).collect();
    let Ok(index) = ChainIndex::new(&chains) else {
        return;
    };
    let ip = [*a, *b, *c, *d];
    let server_name = name(*server).filter(|name| !name.starts_with('*'));
    let port = u16::from(port % 3) + 1;
    let transport = if tls & 1 == 1 {
        Transport::Tls
    } else {
        Transport::RawBuffer
    };
    let downstream = Downstream {
        connection_id: 0,
        direct_peer: None,
        peer: None,
        local: Some((ip, port).into()),
        found: Some(Box::new(Found {
            transport,
            server_name: server_name.map(Into::into),
            ..Found::default()
        })),
        tls: None,
    };
    let found = index.find(&downstream);
    let wanted = choose(&chains, ip, port, server_name, transport);
    assert_eq!(found, wanted);
});

/// Step by step: the best value any chain left has, and only chains with it stay.
fn choose(
    chains: &[FilterChainMatch],
    ip: [u8; 4],
    port: u16,
    server_name: Option<&str>,
    transport: Transport,
) -> Option<usize> {
    let mut left: Vec<usize> = (0..chains.len()).collect();
    keep_best(&mut left, |chain| match chains[chain].destination_port {
        None => Some(0),
        Some(wanted) => (wanted == port).then_some(1),
    });
    keep_best(&mut left, |chain| {
        let range = chains[chain].prefix_ranges.first();
        let length = |range: &IpPrefix| range.contains(ip.into()).then(|| range.length() + 1);
        range.map_or(Some(0), |range| length(range).map(usize::from))
    });
    keep_best(&mut left, |chain| {
        let pattern: Option<&str> = chains[chain].server_names.first().map(|name| &**name);
        match (pattern, server_name) {
            (None, _) => Some(0),
            (Some(pattern), Some(name)) if pattern == name => Some(usize::MAX),
            (Some(pattern), Some(name)) => {
                let parent = pattern.strip_prefix('*')?;
                (name.len() > parent.len() && name.ends_with(parent)).then_some(parent.len())
            }
            (Some(_), None) => None,
        }
    });
    keep_best(&mut left, |chain| {
        match &*chains[chain].transport_protocol {
            "" => Some(0),
            wanted => (wanted == transport.as_str()).then_some(1),
        }
    });
    left.first().copied()
}

fn keep_best(left: &mut Vec<usize>, rank: impl Fn(usize) -> Option<usize>) {
    let best = left.iter().filter_map(|chain| rank(*chain)).max();
    left.retain(|chain| best.is_some() && rank(*chain) == best);
}
