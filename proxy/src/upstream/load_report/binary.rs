//! The message as protobuf, in base64. It is read where it stands: a message with maps would be built of
//! many allocations, for each answer.

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::DecodePaddingMode;
use base64::engine::GeneralPurpose;
use base64::engine::GeneralPurposeConfig;

use super::Nonsense;
use crate::config::limits;
use crate::config::load_report::Metric;

/// gRPC leaves the padding out.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// What the longest report decodes to, and what the decoder may need beyond.
const DECODED_MAX: usize = limits::LOAD_REPORT_BYTES_MAX / 4 * 3 + 3;

/// Gives each number with its name.
pub(super) fn each(
    value: &[u8],
    take: &mut impl FnMut(Metric<&str>, f64) -> Result<(), Nonsense>,
) -> Result<(), Nonsense> {
    let mut decoded = [0; DECODED_MAX];
    let length = BASE64.decode_slice(value, &mut decoded);
    let length = length.map_err(|_| Nonsense::Syntax)?;
    let message = decoded.get(..length).unwrap_or_default();
    if message.is_empty() {
        return Err(Nonsense::Syntax);
    }
    let mut rest = Wire(message);
    while let Some((number, value)) = rest.field()? {
        match (number, value) {
            (1, Value::Double(value)) => take(Metric::CpuUtilization, value)?,
            (2, Value::Double(value)) => take(Metric::MemUtilization, value)?,
            (4, Value::Bytes(entry)) => of_map(entry, Metric::RequestCost, take)?,
            (5, Value::Bytes(entry)) => of_map(entry, Metric::Utilization, take)?,
            (6, Value::Double(value)) => take(Metric::Rps, value)?,
            (7, Value::Double(value)) => take(Metric::Eps, value)?,
            (8, Value::Bytes(entry)) => of_map(entry, Metric::Named, take)?,
            (9, Value::Double(value)) => take(Metric::ApplicationUtilization, value)?,
            _ => {}
        }
    }
    Ok(())
}

/// An entry of a map is a message of a key and a value.
fn of_map<'m>(
    entry: &'m [u8],
    metric: impl Fn(&'m str) -> Metric<&'m str>,
    take: &mut impl FnMut(Metric<&str>, f64) -> Result<(), Nonsense>,
) -> Result<(), Nonsense> {
    let (mut key, mut number) = ("", 0.0);
    let mut rest = Wire(entry);
    while let Some((place, value)) = rest.field()? {
        match (place, value) {
            (1, Value::Bytes(bytes)) => {
                key = std::str::from_utf8(bytes).map_err(|_| Nonsense::Syntax)?;
            }
            (2, Value::Double(value)) => number = value,
            _ => {}
        }
    }
    take(metric(key), number)
}

enum Value<'m> {
    Bytes(&'m [u8]),
    Double(f64),
    /// Of a type that no metric has.
    Other,
}

/// What is left of a message.
struct Wire<'m>(&'m [u8]);

impl<'m> Wire<'m> {
    /// The next field with its number; `None` at the end.
    fn field(&mut self) -> Result<Option<(u64, Value<'m>)>, Nonsense> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let key = self.varint()?;
        let value = match key & 7 {
            0 => {
                self.varint()?;
                Value::Other
            }
            1 => {
                let bytes = self.take(8)?.try_into().map_err(|_| Nonsense::Syntax)?;
                Value::Double(f64::from_le_bytes(bytes))
            }
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_| Nonsense::Syntax)?;
                Value::Bytes(self.take(length)?)
            }
            5 => {
                self.take(4)?;
                Value::Other
            }
            _ => return Err(Nonsense::Syntax),
        };
        Ok(Some((key >> 3, value)))
    }

    fn varint(&mut self) -> Result<u64, Nonsense> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = *self.take(1)?.first().ok_or(Nonsense::Syntax)?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Nonsense::Syntax)
    }

    fn take(&mut self, count: usize) -> Result<&'m [u8], Nonsense> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Nonsense::Syntax)?;
        self.0 = rest;
        Ok(taken)
    }
}
