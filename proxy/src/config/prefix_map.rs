//! Address ranges, and a map from ranges to values in which the most specific one counts.

use std::collections::BTreeMap;
use std::net::IpAddr;

/// All addresses that begin with the same bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct IpPrefix {
    /// Bits behind the prefix are zero.
    address: IpAddr,
    length: u8,
}

impl IpPrefix {
    /// The range of `address`; a length longer than the address means the address itself, as in
    /// Envoy.
    pub fn new(address: IpAddr, length: u32) -> Self {
        match address {
            IpAddr::V4(ip) => {
                let length = u8::try_from(length.min(32)).unwrap_or(32);
                let address = mask_v4(ip.to_bits(), length);
                Self {
                    address: IpAddr::V4(address.into()),
                    length,
                }
            }
            IpAddr::V6(ip) => {
                let length = u8::try_from(length.min(128)).unwrap_or(128);
                let address = mask_v6(ip.to_bits(), length);
                Self {
                    address: IpAddr::V6(address.into()),
                    length,
                }
            }
        }
    }

    /// How many bits all its addresses share.
    pub const fn length(self) -> u8 {
        self.length
    }

    /// Whether `ip` is in it.
    pub fn contains(self, ip: IpAddr) -> bool {
        let same_family = self.address.is_ipv4() == ip.is_ipv4();
        same_family && Self::new(ip, self.length.into()).address == self.address
    }
}

const fn mask_v4(bits: u32, length: u8) -> u32 {
    match u32::MAX.checked_shl(32 - length as u32) {
        Some(mask) => bits & mask,
        None => 0,
    }
}

const fn mask_v6(bits: u128, length: u8) -> u128 {
    match u128::MAX.checked_shl(128 - length as u32) {
        Some(mask) => bits & mask,
        None => 0,
    }
}

/// Values by range. A lookup costs one probe per different length in use.
#[derive(Clone, Debug, PartialEq)]
pub struct PrefixMap<T> {
    v4: Lengths<u32, T>,
    v6: Lengths<u128, T>,
    /// For every address.
    any: Option<T>,
}

/// By length, the longest first.
type Lengths<K, T> = Vec<(u8, BTreeMap<K, T>)>;

impl<T> Default for PrefixMap<T> {
    fn default() -> Self {
        Self {
            v4: Vec::new(),
            v6: Vec::new(),
            any: None,
        }
    }
}

impl<T: Default> PrefixMap<T> {
    /// The value of exactly this range, or of everything.
    pub fn entry(&mut self, prefix: Option<IpPrefix>) -> &mut T {
        let Some(IpPrefix { address, length }) = prefix else {
            return self.any.get_or_insert_default();
        };
        match address {
            IpAddr::V4(ip) => entry(&mut self.v4, length, ip.to_bits()),
            IpAddr::V6(ip) => entry(&mut self.v6, length, ip.to_bits()),
        }
    }
}

impl<T> PrefixMap<T> {
    /// The values of the ranges that contain `ip`, the most specific first, at last the one for
    /// everything.
    pub fn all(&self, ip: IpAddr) -> impl Iterator<Item = &T> {
        let (v4, v6) = match ip {
            IpAddr::V4(ip) => (Some(ip.to_bits()), None),
            IpAddr::V6(ip) => (None, Some(ip.to_bits())),
        };
        let v4 = self
            .v4
            .iter()
            .filter_map(move |(length, map)| map.get(&mask_v4(v4?, *length)));
        let v6 = self
            .v6
            .iter()
            .filter_map(move |(length, map)| map.get(&mask_v6(v6?, *length)));
        v4.chain(v6).chain(&self.any)
    }

    /// The value of the most specific range that contains `ip`.
    pub fn get(&self, ip: IpAddr) -> Option<&T> {
        self.all(ip).next()
    }
}

fn entry<K: Ord, T: Default>(lengths: &mut Lengths<K, T>, length: u8, key: K) -> &mut T {
    let place = lengths
        .binary_search_by(|(other, _)| length.cmp(other))
        .unwrap_or_else(|place| {
            lengths.insert(place, (length, BTreeMap::new()));
            place
        });
    let (_, map) = lengths.get_mut(place).expect("found or inserted just now");
    map.entry(key).or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prop_assert_eq;
    use proptest::proptest;

    use super::*;

    fn prefix(text: &str) -> IpPrefix {
        let (address, length) = text.split_once('/').unwrap();
        IpPrefix::new(address.parse().unwrap(), length.parse().unwrap())
    }

    #[test]
    fn the_most_specific_range_counts() {
        let mut map = PrefixMap::default();
        for range in [
            "10.0.0.0/8",
            "10.1.2.3/16",
            "0.0.0.0/0",
            "::/0",
            "2001:db8::/32",
        ] {
            *map.entry(Some(prefix(range))) = range;
        }
        let get = |ip: &str| *map.get(ip.parse().unwrap()).unwrap();
        assert_eq!(get("10.1.9.9"), "10.1.2.3/16");
        assert_eq!(get("10.2.0.1"), "10.0.0.0/8");
        assert_eq!(get("11.0.0.1"), "0.0.0.0/0");
        assert_eq!(get("2001:db8::1"), "2001:db8::/32");
        assert_eq!(get("::1"), "::/0");
        let mut map = PrefixMap::default();
        *map.entry(None) = "any";
        assert_eq!(map.get("::1".parse().unwrap()), Some(&"any"));
    }

    proptest! {
        #[test]
        fn the_same_as_asking_each_range(ranges: Vec<(IpAddr, u8)>, ip: IpAddr) {
            let ranges: Vec<IpPrefix> = ranges
                .into_iter()
                .map(|(address, length)| IpPrefix::new(address, length.into()))
                .collect();
            let mut map = PrefixMap::default();
            for range in &ranges {
                *map.entry(Some(*range)) = Some(*range);
            }
            let best = ranges.iter().filter(|range| range.contains(ip)).max_by_key(|r| r.length);
            prop_assert_eq!(map.get(ip).copied().flatten(), best.copied());
        }
    }
}
