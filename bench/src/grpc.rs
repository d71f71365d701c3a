//! gRPC's framing, for both ends: five bytes before each message (gRPC over HTTP/2, "Length-Prefixed-
//! Message"), and the status in the trailers. No code generation: messages are opaque bytes.

use bytes::{BufMut, Bytes, BytesMut};
use http::HeaderMap;

/// Compressed flag and length.
const PREFIX_BYTES: usize = 5;

pub(crate) const CONTENT_TYPE: &str = "application/grpc";

/// `payload` with its prefix.
pub(crate) fn message(payload: &[u8]) -> Bytes {
    let mut framed = BytesMut::with_capacity(PREFIX_BYTES + payload.len());
    framed.put_u8(0);
    framed.put_u32(u32::try_from(payload.len()).unwrap_or(u32::MAX));
    framed.put_slice(payload);
    framed.freeze()
}

/// The stream of messages is broken.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum GrpcError {
    #[error("a compressed message, which nobody asked for")]
    Compressed,
    #[error("the stream ended within a message")]
    Truncated,
    #[error("no grpc-status of 0 at the end")]
    Status,
}

/// Counts whole messages in a stream of bytes that is cut anywhere.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct MessageCounter {
    prefix: [u8; PREFIX_BYTES],
    prefix_filled: usize,
    payload_left: usize,
}

impl MessageCounter {
    /// How many messages end in `data`.
    pub(crate) fn consume(&mut self, data: &[u8]) -> Result<usize, GrpcError> {
        let mut rest = data;
        let mut ended = 0;
        while !rest.is_empty() {
            if self.prefix_filled < PREFIX_BYTES {
                let (first, after) =
                    rest.split_at((PREFIX_BYTES - self.prefix_filled).min(rest.len()));
                for (slot, byte) in self.prefix.iter_mut().skip(self.prefix_filled).zip(first) {
                    *slot = *byte;
                }
                self.prefix_filled += first.len();
                rest = after;
                if self.prefix_filled < PREFIX_BYTES {
                    break;
                }
                self.read_prefix()?;
            }
            let used = self.payload_left.min(rest.len());
            self.payload_left -= used;
            rest = rest.get(used..).unwrap_or_default();
            if self.payload_left == 0 {
                self.prefix_filled = 0;
                ended += 1;
            }
        }
        Ok(ended)
    }

    fn read_prefix(&mut self) -> Result<(), GrpcError> {
        let [compressed, length @ ..] = self.prefix;
        if compressed != 0 {
            return Err(GrpcError::Compressed);
        }
        self.payload_left = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        Ok(())
    }

    /// Checks the end of a stream.
    pub(crate) fn end(&self, trailers: Option<&HeaderMap>) -> Result<(), GrpcError> {
        if self.prefix_filled > 0 {
            return Err(GrpcError::Truncated);
        }
        match trailers.and_then(|fields| fields.get("grpc-status")) {
            Some(status) if status == "0" => Ok(()),
            _ => Err(GrpcError::Status),
        }
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue};

    use super::{GrpcError, MessageCounter, message};

    #[test]
    fn messages_are_counted_however_the_stream_is_cut() {
        let stream = [message(b"hello"), message(b""), message(&[7; 300])].concat();
        for step in 1..stream.len() {
            let mut counter = MessageCounter::default();
            let counted = stream.chunks(step).map(|cut| counter.consume(cut));
            assert_eq!(counted.sum::<Result<usize, _>>(), Ok(3), "step {step}");
            assert_eq!(counter.end(None), Err(GrpcError::Status));
        }
    }

    #[test]
    fn a_broken_end_is_told() {
        let mut trailers = HeaderMap::new();
        let mut counter = MessageCounter::default();
        assert_eq!(counter.consume(&message(b"hello")[..7]), Ok(0));
        assert_eq!(counter.end(Some(&trailers)), Err(GrpcError::Truncated));
        assert_eq!(counter.consume(b"llo"), Ok(1));
        trailers.insert("grpc-status", HeaderValue::from_static("14"));
        assert_eq!(counter.end(Some(&trailers)), Err(GrpcError::Status));
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        assert_eq!(counter.end(Some(&trailers)), Ok(()));
        assert_eq!(
            counter.consume(&[1, 0, 0, 0, 0]),
            Err(GrpcError::Compressed)
        );
    }
}
