//! Leaves: what a scalar means for the kind of field it fills.
//!
//! The field decides, not YAML: `on`, `1.10` and `0644` are text in a string field just as they were written.
//! Booleans take the words Envoy takes. Integers may be quoted, since JSON must quote 64 bits; a leading zero is
//! refused, since YAML 1.1 reads it as octal and YAML 1.2 does not.

use std::ops::RangeInclusive;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::GeneralPurpose;
use base64::engine::GeneralPurposeConfig;

use crate::Code;
use crate::load::convert::Wrong;
use crate::load::suggest;
use crate::load::tree::Node;
use crate::load::tree::Scalar;
use crate::load::tree::Tree;
use crate::pool::EnumDesc;
use crate::pool::Kind;
use crate::pool::Pool;
use crate::pool::Shape;
use crate::time;
use crate::time::Seconds;
use crate::wire;
use crate::wire::Raw;

/// Up to this many values of an enum are listed where none is near the unknown one.
const VALUES_LISTED_MAX: usize = 8;

const BASE64: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, PADDING_OPTIONAL);
const BASE64_URL: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, PADDING_OPTIONAL);
const PADDING_OPTIONAL: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);

/// An encoded value without its tag.
#[derive(Debug)]
pub(super) enum Leaf {
    Bytes(Vec<u8>),
    Fixed32(u32),
    Fixed64(u64),
    Varint(u64),
}

impl Leaf {
    pub(super) fn raw(&self) -> Raw<'_> {
        match self {
            Self::Bytes(bytes) => Raw::Bytes(bytes),
            Self::Fixed32(value) => Raw::Fixed32(*value),
            Self::Fixed64(value) => Raw::Fixed64(*value),
            Self::Varint(value) => Raw::Varint(*value),
        }
    }

    /// Whether proto3 leaves it out.
    pub(super) fn is_zero(&self) -> bool {
        match self {
            Self::Bytes(bytes) => bytes.is_empty(),
            Self::Fixed32(value) => *value == 0,
            Self::Fixed64(value) | Self::Varint(value) => *value == 0,
        }
    }
}

/// A scalar for a field of a kind.
pub(super) fn leaf(pool: &Pool, kind: Kind, node: &Node) -> Result<Leaf, Wrong> {
    let expected = expectation(pool, kind);
    let Tree::Scalar(scalar) = &node.value else {
        return Err(mismatch(expected, node));
    };
    if scalar.is_null() {
        return Err(mismatch(expected, node));
    }
    let found = match kind {
        Kind::Bool => bool_word(scalar).map(|value| Leaf::Varint(u64::from(value))),
        Kind::Bytes => return base64_bytes(scalar),
        Kind::Double => float(scalar).map(|value| Leaf::Fixed64(value.to_bits())),
        Kind::Enum(id) => return enum_value(pool.describe_enum(id), scalar),
        Kind::Float => return float32(scalar).ok_or_else(|| mismatch(expected, node)),
        Kind::String => Some(Leaf::Bytes(scalar.text.as_bytes().to_vec())),
        Kind::Message(_) => None,
        Kind::Fixed32
        | Kind::Fixed64
        | Kind::Int32
        | Kind::Int64
        | Kind::Sfixed32
        | Kind::Sfixed64
        | Kind::Sint32
        | Kind::Sint64
        | Kind::Uint32
        | Kind::Uint64 => return integer_leaf(kind, scalar, node),
    };
    found.ok_or_else(|| mismatch(expected, node))
}

/// A map's key; always text in the file, whatever its kind.
pub(super) fn map_key(kind: Kind, node: &Node) -> Result<Leaf, Wrong> {
    match (&node.value, kind) {
        (Tree::Scalar(scalar), Kind::String) => Ok(Leaf::Bytes(scalar.text.as_bytes().to_vec())),
        (Tree::Scalar(scalar), Kind::Bool) => {
            let value = scalar
                .as_bool()
                .ok_or_else(|| mismatch("true or false", node))?;
            Ok(Leaf::Varint(u64::from(value)))
        }
        (Tree::Scalar(scalar), _) => integer_leaf(kind, scalar, node),
        (Tree::Mapping(_) | Tree::Sequence(_), _) => Err(mismatch("a key", node)),
    }
}

/// The messages JSON writes as a string.
pub(super) fn well_known(shape: Shape, node: &Node) -> Result<Vec<u8>, Wrong> {
    let text = match &node.value {
        Tree::Scalar(scalar) if !scalar.is_null() => &*scalar.text,
        Tree::Mapping(_) | Tree::Scalar(_) | Tree::Sequence(_) => "",
    };
    let mut out = Vec::new();
    match shape {
        Shape::Duration => {
            let value = time::parse_duration(text).ok_or_else(|| Wrong {
                code: Code::Value,
                message: format!(
                    "expected a duration such as `0.25s`, found {}",
                    node.describe()
                ),
                help: time::guess_duration(text).map(|guess| format!("write `{guess}`")),
            })?;
            put_seconds(&mut out, value);
        }
        Shape::Timestamp => {
            let value = time::parse_timestamp(text);
            put_seconds(
                &mut out,
                value.ok_or_else(|| mismatch("a time such as `2024-01-31T12:00:00Z`", node))?,
            );
        }
        _ => {
            if !matches!(node.value, Tree::Scalar(_)) {
                return Err(mismatch("field names with commas between them", node));
            }
            for path in text
                .split(',')
                .map(str::trim)
                .filter(|path| !path.is_empty())
            {
                wire::put(&mut out, 1, Raw::Bytes(snake(path).as_bytes()));
            }
        }
    }
    Ok(out)
}

/// The number a plain scalar is in YAML's core schema, where a double holds it exactly enough.
pub(super) fn number(text: &str) -> Option<f64> {
    if let Some(value) = integer(text, true) {
        /// Past 2^53 a double skips integers.
        const EXACT_MAX: u128 = 1 << 53;
        #[expect(clippy::cast_precision_loss, reason = "checked against the mantissa")]
        return (value.unsigned_abs() <= EXACT_MAX).then_some(value as f64);
    }
    is_decimal(text).then(|| text.parse().ok()).flatten()
}

fn put_seconds(out: &mut Vec<u8>, value: Seconds) {
    if value.seconds != 0 {
        wire::put(out, 1, Raw::Varint(value.seconds.cast_unsigned()));
    }
    if value.nanos != 0 {
        wire::put(out, 2, Raw::Varint(i64::from(value.nanos).cast_unsigned()));
    }
}

fn mismatch(expected: &str, node: &Node) -> Wrong {
    Wrong {
        code: Code::Value,
        message: format!("expected {expected}, found {}", node.describe()),
        help: None,
    }
}

fn expectation(pool: &Pool, kind: Kind) -> &'static str {
    match kind {
        Kind::Bool => "true or false",
        Kind::Bytes => "bytes in base64",
        Kind::Double | Kind::Float => "a number",
        Kind::Enum(id) if pool.describe_enum(id).values.is_empty() => "an enum",
        Kind::Enum(_) => "a name",
        Kind::String => "a string",
        Kind::Message(_) => "a mapping",
        Kind::Fixed32
        | Kind::Fixed64
        | Kind::Int32
        | Kind::Int64
        | Kind::Sfixed32
        | Kind::Sfixed64
        | Kind::Sint32
        | Kind::Sint64
        | Kind::Uint32
        | Kind::Uint64 => "an integer",
    }
}

/// The words of YAML 1.1, as Envoy's reader takes them, but only in fields that are booleans.
fn bool_word(scalar: &Scalar) -> Option<bool> {
    if !scalar.plain {
        return None;
    }
    match scalar.text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "y" => Some(true),
        "false" | "no" | "off" | "n" => Some(false),
        _ => None,
    }
}

fn base64_bytes(scalar: &Scalar) -> Result<Leaf, Wrong> {
    // Blocks of base64 come with line ends.
    let text: String = scalar
        .text
        .chars()
        .filter(|character| !character.is_ascii_whitespace())
        .collect();
    match BASE64.decode(&text).or_else(|_| BASE64_URL.decode(&text)) {
        Ok(bytes) => Ok(Leaf::Bytes(bytes)),
        Err(_) => Err(Wrong {
            code: Code::Value,
            message: format!("expected bytes in base64, found {}", scalar.describe()),
            help: Some(
                "text goes into a string field, such as `inline_string` beside `inline_bytes`"
                    .to_owned(),
            ),
        }),
    }
}

fn enum_value(one: &EnumDesc, scalar: &Scalar) -> Result<Leaf, Wrong> {
    let by_name = || one.values.iter().find(|(name, _)| **name == *scalar.text);
    // Envoy's reader takes names in any case, and its own examples use that.
    let by_spelling = || {
        one.values
            .iter()
            .find(|(name, _)| is_same_spelling(name, &scalar.text))
    };
    let by_number = || {
        let given = if scalar.plain {
            integer(&scalar.text, false)
        } else {
            None
        };
        one.values
            .iter()
            .find(|(_, number)| Some(i128::from(*number)) == given)
    };
    if let Some((_, number)) = by_name().or_else(by_spelling).or_else(by_number) {
        return Ok(Leaf::Varint(i64::from(*number).cast_unsigned()));
    }
    let names = || one.values.iter().map(|(name, _)| &**name);
    let help = match suggest::nearest(&scalar.text, names()) {
        Some(near) => Some(format!("did you mean `{near}`?")),
        None if one.values.len() <= VALUES_LISTED_MAX => {
            Some(format!("one of {}", names().collect::<Vec<_>>().join(", ")))
        }
        None => None,
    };
    Err(Wrong {
        code: Code::EnumValue,
        message: format!("unknown value: {}", scalar.describe()),
        help,
    })
}

/// Equal but for case, and for hyphens in place of underscores.
fn is_same_spelling(name: &str, given: &str) -> bool {
    let same =
        |(one, other): (u8, u8)| one.eq_ignore_ascii_case(&other) || (one == b'_' && other == b'-');
    name.len() == given.len() && name.bytes().zip(given.bytes()).all(same)
}

fn integer_leaf(kind: Kind, scalar: &Scalar, node: &Node) -> Result<Leaf, Wrong> {
    let Some(value) = integral(scalar) else {
        let help = octal_help(scalar);
        return Err(Wrong {
            help,
            ..mismatch("an integer", node)
        });
    };
    encode_integer(kind, value).ok_or_else(|| {
        let range = range(kind);
        let message = format!(
            "{value} is out of range, {} to {}",
            range.start(),
            range.end()
        );
        Wrong {
            code: Code::Value,
            message,
            help: None,
        }
    })
}

fn encode_integer(kind: Kind, value: i128) -> Option<Leaf> {
    if !range(kind).contains(&value) {
        return None;
    }
    let wide = i64::try_from(value).ok();
    let narrow = i32::try_from(value).ok();
    Some(match kind {
        Kind::Fixed32 => Leaf::Fixed32(u32::try_from(value).ok()?),
        Kind::Fixed64 => Leaf::Fixed64(u64::try_from(value).ok()?),
        Kind::Sfixed32 => Leaf::Fixed32(narrow?.cast_unsigned()),
        Kind::Sfixed64 => Leaf::Fixed64(wide?.cast_unsigned()),
        Kind::Sint32 | Kind::Sint64 => Leaf::Varint((wide? << 1 ^ wide? >> 63).cast_unsigned()),
        Kind::Uint32 | Kind::Uint64 => Leaf::Varint(u64::try_from(value).ok()?),
        _ => Leaf::Varint(wide?.cast_unsigned()),
    })
}

fn range(kind: Kind) -> RangeInclusive<i128> {
    match kind {
        Kind::Fixed32 | Kind::Uint32 => 0..=i128::from(u32::MAX),
        Kind::Fixed64 | Kind::Uint64 => 0..=i128::from(u64::MAX),
        Kind::Int32 | Kind::Sfixed32 | Kind::Sint32 => i128::from(i32::MIN)..=i128::from(i32::MAX),
        _ => i128::from(i64::MIN)..=i128::from(i64::MAX),
    }
}

/// An integer, also in the forms of `5.0` and `5e2`, as protobuf's JSON allows.
fn integral(scalar: &Scalar) -> Option<i128> {
    let whole = integer(&scalar.text, scalar.plain);
    whole.or_else(|| {
        /// Larger doubles are not told from their neighbors.
        const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
        let value = if is_decimal(&scalar.text) {
            scalar.text.parse::<f64>().ok()?
        } else {
            return None;
        };
        #[expect(clippy::cast_possible_truncation, reason = "whole and inside 53 bits")]
        let whole = (value.fract() == 0.0 && value.abs() <= EXACT_MAX).then_some(value as i128);
        whole
    })
}

/// Decimal digits without a leading zero; with `prefixes` also `0x` and `0o`.
fn integer(text: &str, prefixes: bool) -> Option<i128> {
    if prefixes {
        if let Some(hex) = text.strip_prefix("0x") {
            return u64::from_str_radix(hex, 16)
                .ok()
                .filter(|_| !hex.starts_with('+'))
                .map(i128::from);
        }
        if let Some(octal) = text.strip_prefix("0o") {
            return u64::from_str_radix(octal, 8)
                .ok()
                .filter(|_| !octal.starts_with('+'))
                .map(i128::from);
        }
    }
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let shaped = digits.bytes().all(|byte| byte.is_ascii_digit())
        && (digits.len() == 1 || !digits.starts_with('0'));
    // Enough digits for any of our kinds; longer ones would only overflow.
    if shaped && digits.len() <= 30 {
        text.parse().ok()
    } else {
        None
    }
}

/// `1.5`, `.5`, `-2e3`; no leading zeros, no words.
fn is_decimal(text: &str) -> bool {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (mantissa, exponent) = unsigned
        .split_once(['e', 'E'])
        .map_or((unsigned, None), |(m, e)| (m, Some(e)));
    let (whole, fraction) = mantissa
        .split_once('.')
        .map_or((mantissa, None), |(w, f)| (w, Some(f)));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let some_digits = !whole.is_empty() || fraction.is_some_and(|fraction| !fraction.is_empty());
    let no_octal = whole.len() <= 1 || !whole.starts_with('0');
    let exponent_fits = exponent.is_none_or(|exponent| {
        let unsigned = exponent.strip_prefix(['-', '+']).unwrap_or(exponent);
        !unsigned.is_empty() && digits(unsigned)
    });
    some_digits && no_octal && digits(whole) && fraction.is_none_or(digits) && exponent_fits
}

fn octal_help(scalar: &Scalar) -> Option<String> {
    let digits = scalar.text.strip_prefix('0').filter(|_| scalar.plain)?;
    let value = u64::from_str_radix(digits, 8)
        .ok()
        .filter(|_| !digits.starts_with('+'))?;
    Some(format!(
        "a leading zero is octal to some readers and not to others; write `0o{digits}` or `{value}`"
    ))
}

fn float(scalar: &Scalar) -> Option<f64> {
    match &*scalar.text {
        "NaN" | ".nan" | ".NaN" => Some(f64::NAN),
        "Infinity" | ".inf" | "+.inf" => Some(f64::INFINITY),
        "-Infinity" | "-.inf" => Some(f64::NEG_INFINITY),
        text if is_decimal(text) => text.parse().ok().filter(|value: &f64| value.is_finite()),
        _ => None,
    }
}

fn float32(scalar: &Scalar) -> Option<Leaf> {
    let wide = float(scalar)?;
    #[expect(
        clippy::cast_possible_truncation,
        reason = "rounding is what a float field asks for"
    )]
    let value = wide as f32;
    // Finite in the file, but past what the field holds.
    if wide.is_finite() && !value.is_finite() {
        None
    } else {
        Some(Leaf::Fixed32(value.to_bits()))
    }
}

/// A path of JSON names in the spelling of `.proto` files.
fn snake(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for character in path.chars() {
        if character.is_ascii_uppercase() {
            out.push('_');
        }
        out.push(character.to_ascii_lowercase());
    }
    out
}
