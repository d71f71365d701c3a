//! Where the bytes of an HTTP/2 client stand: between heads, or inside one that is not complete.
//!
//! h2 does not tell, and a client that never ends a header block would be waited for as if it were
//! idle (security case R1). This reads frame headers and nothing else (RFC 9113 section 4.1); what is
//! wrong with a frame is h2's to find.

/// Bytes of the connection preface (RFC 9113 section 3.4).
const PREFACE_BYTES: usize = 24;

/// Bytes before the payload of every frame.
const HEADER_BYTES: usize = 9;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;

/// The state between two reads.
#[derive(Debug, Default)]
pub(super) struct Frames {
    /// Bytes of the preface that have come.
    preface: usize,
    header: [u8; HEADER_BYTES],
    /// Bytes of `header` that have come.
    header_len: usize,
    /// Bytes of the payload that have not.
    payload_left: usize,
    /// A header block has begun, and its last frame has not.
    in_block: bool,
}

impl Frames {
    /// Takes note of the next bytes; true if a head, or another frame, was completed by them.
    pub(super) fn take(&mut self, mut bytes: &[u8]) -> bool {
        let mut completed = false;
        let preface = bytes.len().min(PREFACE_BYTES - self.preface);
        self.preface += preface;
        bytes = bytes.get(preface..).unwrap_or_default();
        while !bytes.is_empty() {
            if self.header_len < HEADER_BYTES {
                let (now, rest) = bytes.split_at(bytes.len().min(HEADER_BYTES - self.header_len));
                for (place, byte) in self.header.iter_mut().skip(self.header_len).zip(now) {
                    *place = *byte;
                }
                self.header_len += now.len();
                bytes = rest;
                if self.header_len < HEADER_BYTES {
                    break;
                }
                self.begin();
            }
            let payload = bytes.len().min(self.payload_left);
            self.payload_left -= payload;
            bytes = bytes.get(payload..).unwrap_or_default();
            if self.payload_left == 0 {
                self.header_len = 0;
                completed |= !self.in_block;
            }
        }
        completed
    }

    /// A frame header is complete.
    fn begin(&mut self) {
        let [high, middle, low, kind, flags, ..] = self.header;
        let length = u32::from_be_bytes([0, high, middle, low]);
        self.payload_left = usize::try_from(length).unwrap_or(usize::MAX);
        if kind == HEADERS || (kind == CONTINUATION && self.in_block) {
            self.in_block = flags & END_HEADERS == 0;
        }
    }

    /// Whether something is incomplete that a client has at hand as a whole: all but data.
    pub(super) fn is_inside(&self) -> bool {
        let [_, _, _, kind, ..] = self.header;
        let in_frame = self.header_len > 0;
        let in_data = self.header_len == HEADER_BYTES && kind == DATA;
        self.preface < PREFACE_BYTES || self.in_block || (in_frame && !in_data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: usize) -> Vec<u8> {
        let length = u8::try_from(payload).unwrap();
        let mut frame = vec![0, 0, length, kind, flags, 0, 0, 0, 1];
        frame.resize(HEADER_BYTES + payload, 7);
        frame
    }

    fn after(pieces: &[&[u8]]) -> Frames {
        let mut frames = Frames::default();
        frames.take(&[b'P'; PREFACE_BYTES]);
        for piece in pieces {
            frames.take(piece);
        }
        frames
    }

    #[test]
    fn the_preface_is_a_head() {
        let mut frames = Frames::default();
        frames.take(&[b'P'; PREFACE_BYTES - 1]);
        assert!(frames.is_inside());
        frames.take(b"P");
        assert!(!frames.is_inside());
    }

    #[test]
    fn a_block_ends_with_its_last_frame() {
        let (first, middle) = (frame(HEADERS, 0, 5), frame(CONTINUATION, 0, 0));
        let last = frame(CONTINUATION, END_HEADERS, 3);
        assert!(after(&[&first]).is_inside());
        assert!(after(&[&first, &middle]).is_inside());
        assert!(after(&[&first, &middle, &last[..11]]).is_inside());
        assert!(!after(&[&first, &middle, &last]).is_inside());
        assert!(!after(&[&frame(HEADERS, END_HEADERS, 5)]).is_inside());
    }

    #[test]
    fn data_may_take_its_time_and_other_frames_may_not() {
        let data = frame(DATA, 0, 100);
        assert!(
            after(&[&data[..5]]).is_inside(),
            "it is not known to be data"
        );
        assert!(!after(&[&data[..50]]).is_inside());
        assert!(after(&[&frame(4, 0, 6)[..12]]).is_inside());
        assert!(!after(&[&frame(6, 0, 8)]).is_inside());
    }

    #[test]
    fn cut_into_bytes_it_is_the_same() {
        let whole = [
            frame(4, 0, 0),
            frame(HEADERS, 0, 9),
            frame(CONTINUATION, END_HEADERS, 1),
            frame(DATA, 1, 30),
        ]
        .concat();
        let mut frames = after(&[]);
        let completed = whole.iter().filter(|byte| frames.take(&[**byte])).count();
        assert_eq!(completed, 3, "settings, head, data");
        assert!(!frames.is_inside());
        assert!(after(&[]).take(&whole));
    }
}
