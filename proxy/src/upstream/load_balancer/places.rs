//! A long list of places below a small number: one byte each, or as few as are needed.

/// The list; it never changes.
#[derive(Debug)]
pub(super) enum Places {
    /// Below 256.
    Byte(Box<[u8]>),
    /// Below 65,536.
    Short(Box<[u16]>),
    /// Any.
    Word(Box<[u32]>),
}

impl Places {
    /// Keeps these places.
    pub(super) fn new(places: &[u32]) -> Self {
        let largest = places.iter().copied().max().unwrap_or(0);
        if largest <= u32::from(u8::MAX) {
            let byte = |place: &u32| u8::try_from(*place).unwrap_or(u8::MAX);
            return Self::Byte(places.iter().map(byte).collect());
        }
        if largest <= u32::from(u16::MAX) {
            let short = |place: &u32| u16::try_from(*place).unwrap_or(u16::MAX);
            return Self::Short(places.iter().map(short).collect());
        }
        Self::Word(places.into())
    }

    /// The place at `index`.
    pub(super) fn get(&self, index: usize) -> Option<usize> {
        match self {
            Self::Byte(places) => places.get(index).map(|place| usize::from(*place)),
            Self::Short(places) => places.get(index).map(|place| usize::from(*place)),
            Self::Word(places) => places.get(index).map(|place| *place as usize),
        }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Byte(places) => places.len(),
            Self::Short(places) => places.len(),
            Self::Word(places) => places.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn nothing_is_lost(bits in 1_u32..32, seed in prop::collection::vec(any::<u32>(), 0..50)) {
            let list: Vec<u32> = seed.iter().map(|place| place >> (32 - bits)).collect();
            let places = Places::new(&list);
            prop_assert_eq!(places.len(), list.len());
            prop_assert_eq!(places.get(list.len()), None);
            for (index, place) in list.iter().enumerate() {
                prop_assert_eq!(places.get(index), Some(*place as usize));
            }
        }
    }
}
