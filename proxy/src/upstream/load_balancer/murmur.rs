//! MurmurHash2 of 64 bits, as libstdc++ hashes strings and Envoy calls `MURMUR_HASH_2`.

const FACTOR: u64 = 0xc6a4_a793_5bd1_e995;

/// The seed of libstdc++.
const SEED: u64 = 0xc70f_6907;

/// The hash of some bytes.
pub(super) fn hash(bytes: &[u8]) -> u64 {
    let mut hash = SEED ^ (bytes.len() as u64).wrapping_mul(FACTOR);
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        let mixed = mix(u64::from_le_bytes(*word).wrapping_mul(FACTOR)).wrapping_mul(FACTOR);
        hash = (hash ^ mixed).wrapping_mul(FACTOR);
    }
    if !rest.is_empty() {
        let word = rest.iter().rev();
        let word = word.fold(0, |word, byte| (word << 8) | u64::from(*byte));
        hash = (hash ^ word).wrapping_mul(FACTOR);
    }
    mix(mix(hash).wrapping_mul(FACTOR))
}

fn mix(value: u64) -> u64 {
    value ^ (value >> 47)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_what_libstdcxx_computes() {
        // std::hash<std::string> of GCC on x86-64.
        assert_eq!(hash(b""), 6_142_509_188_972_423_790);
        assert_eq!(hash(b"a"), 4_993_892_634_952_068_459);
        assert_eq!(hash(b"abcdefgh"), 8_664_279_048_047_335_611);
        assert_eq!(hash(b"127.0.0.1:80_0"), 17_613_279_263_364_193_813);
    }
}
