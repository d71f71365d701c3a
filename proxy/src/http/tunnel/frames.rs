//! Where one direction of a WebSocket stands: between two frames, or so many bytes before the end of one.
//!
//! It reads the headers of frames and skips the rest (RFC 6455 section 5.2); what is wrong with a frame is
//! for the ends to find.

/// The longest header: two bytes, eight of length, four of mask.
const HEADER_BYTES_MAX: usize = 14;

/// Bytes that say how long the header is.
const HEADER_BYTES_MIN: usize = 2;

const CLOSE: u8 = 8;

/// The state between two reads.
#[derive(Debug, Default)]
pub(super) struct Frames {
    header: [u8; HEADER_BYTES_MAX],
    /// Bytes of `header` that have come; none between two frames.
    header_len: usize,
    /// Bytes of the payload that have not.
    payload_left: u64,
    /// A Close frame has passed: nothing may follow it.
    is_closed: bool,
}

impl Frames {
    /// Takes note of the next bytes.
    pub(super) fn take(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let missing = self.header_missing();
            if missing > 0 {
                let (now, rest) = bytes.split_at(bytes.len().min(missing));
                for (place, byte) in self.header.iter_mut().skip(self.header_len).zip(now) {
                    *place = *byte;
                }
                self.header_len += now.len();
                bytes = rest;
                if self.header_missing() == 0 {
                    self.payload_left = self.payload();
                }
            } else {
                let len = bytes.len().min(self.payload_max());
                self.payload_left -= len as u64;
                bytes = bytes.get(len..).unwrap_or_default();
            }
            self.end_frame();
        }
    }

    /// The same for bytes of a payload that nobody saw.
    pub(super) fn skip(&mut self, len: usize) {
        self.payload_left = self.payload_left.saturating_sub(len as u64);
        self.end_frame();
    }

    /// Whether the next byte begins a frame.
    pub(super) fn is_between(&self) -> bool {
        self.header_len == 0
    }

    /// Whether a Close frame has passed.
    pub(super) fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// Bytes that may be read without reading past the end of the frame; none between two frames.
    pub(super) fn bytes_left(&self) -> usize {
        match self.header_missing() {
            _ if self.is_between() => 0,
            0 => self.payload_max(),
            missing => missing,
        }
    }

    /// Bytes of the payload that are to come, if the header has.
    pub(super) fn payload_max(&self) -> usize {
        usize::try_from(self.payload_left).unwrap_or(usize::MAX)
    }

    fn end_frame(&mut self) {
        if self.header_missing() == 0 && self.payload_left == 0 {
            self.is_closed |= self.header[0] & 0xf == CLOSE;
            self.header_len = 0;
        }
    }

    fn header_missing(&self) -> usize {
        let size = if self.header_len < HEADER_BYTES_MIN {
            HEADER_BYTES_MIN
        } else {
            HEADER_BYTES_MIN + self.length_bytes() + if self.header[1] & 0x80 == 0 { 0 } else { 4 }
        };
        size - self.header_len
    }

    fn length_bytes(&self) -> usize {
        match self.header[1] & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        }
    }

    fn payload(&self) -> u64 {
        let [_, short, length @ ..] = self.header;
        let extended = length.iter().take(self.length_bytes());
        let extended = extended.fold(0, |value, byte| value << 8 | u64::from(*byte));
        match short & 0x7f {
            126 | 127 => extended,
            short => u64::from(short),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(opcode: u8, is_masked: bool, payload: usize) -> Vec<u8> {
        let mask = if is_masked { 0x80 } else { 0 };
        let mut frame = vec![0x80 | opcode];
        match payload {
            0..=125 => frame.push(mask | u8::try_from(payload).unwrap()),
            126..=0xffff => {
                frame.push(mask | 126);
                frame.extend(u16::try_from(payload).unwrap().to_be_bytes());
            }
            _ => {
                frame.push(mask | 127);
                frame.extend((payload as u64).to_be_bytes());
            }
        }
        frame.extend([9; 4].iter().take(if is_masked { 4 } else { 0 }));
        frame.resize(frame.len() + payload, 0x88);
        frame
    }

    #[test]
    fn a_close_frame_is_seen_and_its_like_in_a_payload_is_not() {
        let mut frames = Frames::default();
        frames.take(&frame(2, false, 300));
        assert!(frames.is_between() && !frames.is_closed());
        frames.take(&frame(CLOSE, true, 2));
        assert!(frames.is_between() && frames.is_closed());
    }

    proptest! {
        #[test]
        fn ends_of_frames_are_found_however_they_are_cut(
            kinds in prop::collection::vec((0_u8..3, any::<bool>(), prop_oneof![0_usize..200, 65_500_usize..65_600]), 1..6),
            step in 1_usize..5000,
        ) {
            let all: Vec<_> = kinds.iter().map(|(opcode, mask, len)| frame(*opcode, *mask, *len)).collect();
            let mut ends = Vec::new();
            let stream: Vec<u8> = all.iter().flat_map(|frame| {
                ends.push(ends.last().copied().unwrap_or(0) + frame.len());
                frame.clone()
            }).collect();
            let mut frames = Frames::default();
            let mut at = 0;
            while at < stream.len() {
                let end = ends.iter().find(|end| **end > at).copied().unwrap();
                // No further than is said, which is never past the end of the frame.
                let most = if frames.is_between() { step } else { step.min(frames.bytes_left()) };
                prop_assert!(frames.is_between() || at + frames.bytes_left() <= end);
                let len = most.min(stream.len() - at);
                if len <= frames.payload_max() && !frames.is_between() && step % 2 == 0 {
                    frames.skip(len);
                } else {
                    frames.take(&stream[at..at + len]);
                }
                at += len;
                prop_assert_eq!(frames.is_between(), ends.contains(&at));
            }
        }
    }
}
