//! The random numbers of C++'s `mt19937`: with the same seed Envoy draws the same ones.

/// Words of state.
const WORDS: usize = 624;

/// A word is made of itself, the next, and the one so far ahead.
const AHEAD: usize = 397;

/// A sequence. What nobody draws is not computed: mostly a few numbers are wanted, and the first needs two
/// thirds of the words that are made of the seed.
#[derive(Debug)]
pub(super) struct Twister {
    state: [u32; WORDS],
    /// Words made of the seed.
    made: usize,
    /// The next one to be twisted and drawn.
    next: usize,
}

impl Twister {
    /// The sequence of a seed, of which 32 bits count.
    pub(super) fn new(seed: u64) -> Self {
        let mut state = [0; WORDS];
        state[0] = u32::try_from(seed & u64::from(u32::MAX)).unwrap_or(0);
        Self {
            state,
            made: 1,
            next: 0,
        }
    }

    /// The next number.
    fn any(&mut self) -> u32 {
        self.make(self.next + AHEAD);
        let place = self.next;
        let high = self.state[place] & 0x8000_0000;
        let low = self.state[(place + 1) % WORDS] & 0x7fff_ffff;
        let joined = high | low;
        let odd = if joined & 1 == 0 { 0 } else { 0x9908_b0df };
        let mut word = self.state[(place + AHEAD) % WORDS] ^ (joined >> 1) ^ odd;
        self.state[place] = word;
        self.next = (place + 1) % WORDS;
        word ^= word >> 11;
        word ^= (word << 7) & 0x9d2c_5680;
        word ^= (word << 15) & 0xefc6_0000;
        word ^ (word >> 18)
    }

    /// Makes the words of the seed up to this place.
    fn make(&mut self, place: usize) {
        while self.made <= place.min(WORDS - 1) {
            let before = self.state[self.made - 1];
            let number = u32::try_from(self.made).unwrap_or(0);
            self.state[self.made] = (before ^ (before >> 30))
                .wrapping_mul(1_812_433_253)
                .wrapping_add(number);
            self.made += 1;
        }
    }

    /// A place below `count`, each with the same chance; 0 if there is none.
    pub(super) fn below(&mut self, count: usize) -> usize {
        let count = count as u64;
        let Some(width) = (u64::from(u32::MAX) + 1)
            .checked_div(count)
            .filter(|w| *w > 0)
        else {
            return 0;
        };
        loop {
            let drawn = u64::from(self.any()) / width;
            if drawn < count {
                return usize::try_from(drawn).unwrap_or(0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_sequence_of_the_standard() {
        // [rand.predef]: the 10000th number of a default-constructed mt19937.
        let mut default = Twister::new(5489);
        for _ in 0..9999 {
            default.any();
        }
        assert_eq!(default.any(), 4_123_659_995);
    }

    #[test]
    fn places_are_in_range() {
        let mut random = Twister::new(u64::MAX);
        assert_eq!(random.below(0), 0);
        for count in 1..200 {
            assert!(random.below(count) < count);
        }
    }
}
