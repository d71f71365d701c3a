//! The protobuf wire format: varints, tags, lengths. Nothing of messages.

use std::ops::ControlFlow;

/// How the bytes after a tag are to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Raw<'a> {
    Bytes(&'a [u8]),
    Fixed32(u32),
    Fixed64(u64),
    Varint(u64),
}

/// Appends a varint.
pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(low_bits(value) | 0x80);
        value >>= 7;
    }
    out.push(low_bits(value));
}

fn low_bits(value: u64) -> u8 {
    u8::try_from(value & 0x7f).expect("seven bits fit")
}

/// Appends the tag and the value of a field.
pub(crate) fn put(out: &mut Vec<u8>, number: u32, value: Raw<'_>) {
    let wire_type = match value {
        Raw::Varint(_) => 0,
        Raw::Fixed64(_) => 1,
        Raw::Bytes(_) => 2,
        Raw::Fixed32(_) => 5,
    };
    put_varint(out, u64::from(number) << 3 | wire_type);
    if let Raw::Bytes(bytes) = value {
        put_varint(out, bytes.len() as u64);
    }
    put_bare(out, value);
}

/// Appends a value without its tag, as in a packed list.
pub(crate) fn put_bare(out: &mut Vec<u8>, value: Raw<'_>) {
    match value {
        Raw::Bytes(bytes) => out.extend_from_slice(bytes),
        Raw::Fixed32(value) => out.extend_from_slice(&value.to_le_bytes()),
        Raw::Fixed64(value) => out.extend_from_slice(&value.to_le_bytes()),
        Raw::Varint(value) => put_varint(out, value),
    }
}

/// The bytes are no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// Reads the fields of a message one after the other.
#[derive(Clone, Debug)]
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Number and value of the next field.
    pub(crate) fn field(&mut self) -> Result<(u32, Raw<'a>), Malformed> {
        let tag = self.varint()?;
        let number = u32::try_from(tag >> 3).map_err(|_| Malformed)?;
        let value = match tag & 7 {
            0 => Raw::Varint(self.varint()?),
            1 => Raw::Fixed64(self.fixed64()?),
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_| Malformed)?;
                Raw::Bytes(self.take(length)?)
            }
            5 => Raw::Fixed32(self.fixed32()?),
            // Groups have not been written since proto2.
            _ => return Err(Malformed),
        };
        if number == 0 {
            Err(Malformed)
        } else {
            Ok((number, value))
        }
    }

    pub(crate) fn varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0;
        let read = self
            .bytes
            .iter()
            .zip(0..10_u32)
            .try_fold((), |(), (byte, index)| {
                value |= u64::from(byte & 0x7f) << (7 * index);
                if byte & 0x80 == 0 {
                    ControlFlow::Break(index as usize + 1)
                } else {
                    ControlFlow::Continue(())
                }
            });
        match read {
            ControlFlow::Break(length) => self.take(length).map(|_| value),
            ControlFlow::Continue(()) => Err(Malformed),
        }
    }

    pub(crate) fn fixed32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn fixed64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_le_bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        self.take(N)?.try_into().map_err(|_| Malformed)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.bytes.split_at_checked(length).ok_or(Malformed)?;
        self.bytes = rest;
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::Malformed;
    use super::Raw;
    use super::Reader;
    use super::put;

    #[test]
    fn what_is_put_is_read() {
        let values = [
            Raw::Varint(0),
            Raw::Varint(127),
            Raw::Varint(128),
            Raw::Varint(u64::MAX),
            Raw::Fixed32(7),
            Raw::Fixed64(u64::MAX),
            Raw::Bytes(b"abc"),
        ];
        let mut out = Vec::new();
        for (value, number) in values.into_iter().zip(1..) {
            put(&mut out, number, value);
        }
        let mut reader = Reader::new(&out);
        for (value, number) in values.into_iter().zip(1..) {
            assert_eq!(reader.field(), Ok((number, value)));
        }
        assert!(reader.is_empty());
    }

    #[test]
    fn what_is_cut_is_malformed() {
        for bytes in [
            &[0x80_u8][..],
            &[0x0a, 2, 1],
            &[0x09, 0],
            &[0x0d],
            &[0x0b],
            &[0x00, 0],
            &[0xff; 12],
        ] {
            assert_eq!(Reader::new(bytes).field(), Err(Malformed), "{bytes:?}");
        }
    }
}
