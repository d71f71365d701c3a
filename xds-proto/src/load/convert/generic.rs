//! `Struct`, `Value` and `ListValue`: data without a schema, typed by YAML's core schema.
//!
//! Only `true` and `false` are booleans here, `on` and `yes` are strings. Numbers a double cannot hold exactly, and
//! those with leading zeros, stay the strings they are: nothing is lost.

use crate::Code;
use crate::load::convert::Wrong;
use crate::load::convert::scalar;
use crate::load::tree::Entry;
use crate::load::tree::Node;
use crate::load::tree::Scalar;
use crate::load::tree::Tree;
use crate::pool::Shape;
use crate::wire;
use crate::wire::Raw;

/// The bytes of one of the three.
pub(super) fn encode(shape: Shape, node: &Node) -> Result<Vec<u8>, Wrong> {
    match (shape, &node.value) {
        (Shape::Struct, Tree::Mapping(entries)) => Ok(structure(entries, None)),
        (Shape::ListValue, Tree::Sequence(items)) => Ok(list(items)),
        (Shape::Struct, _) => Err(mismatch("a mapping", node)),
        (Shape::ListValue, _) => Err(mismatch("a list", node)),
        _ => Ok(value(node)),
    }
}

/// The bytes of a `Struct`, without the member `skip`.
pub(super) fn structure(entries: &[Entry], skip: Option<&str>) -> Vec<u8> {
    let mut sorted: Vec<&Entry> = entries
        .iter()
        .filter(|entry| skip != Some(&*entry.key))
        .collect();
    sorted.sort_by(|one, other| one.key.cmp(&other.key));
    let mut out = Vec::new();
    for entry in sorted {
        let mut body = Vec::new();
        wire::put(&mut body, 1, Raw::Bytes(entry.key.as_bytes()));
        wire::put(&mut body, 2, Raw::Bytes(&value(&entry.value)));
        wire::put(&mut out, 1, Raw::Bytes(&body));
    }
    out
}

fn list(items: &[Node]) -> Vec<u8> {
    let mut out = Vec::new();
    for item in items {
        wire::put(&mut out, 1, Raw::Bytes(&value(item)));
    }
    out
}

fn value(node: &Node) -> Vec<u8> {
    let mut out = Vec::new();
    match &node.value {
        Tree::Mapping(entries) => wire::put(&mut out, 5, Raw::Bytes(&structure(entries, None))),
        Tree::Scalar(scalar) => leaf(scalar, &mut out),
        Tree::Sequence(items) => wire::put(&mut out, 6, Raw::Bytes(&list(items))),
    }
    out
}

fn leaf(scalar: &Scalar, out: &mut Vec<u8>) {
    let number = if scalar.plain {
        scalar::number(&scalar.text)
    } else {
        None
    };
    if scalar.is_null() {
        wire::put(out, 1, Raw::Varint(0));
    } else if let Some(value) = scalar.as_bool() {
        wire::put(out, 4, Raw::Varint(u64::from(value)));
    } else if let Some(value) = number.filter(|value| value.is_finite()) {
        wire::put(out, 2, Raw::Fixed64(value.to_bits()));
    } else {
        wire::put(out, 3, Raw::Bytes(scalar.text.as_bytes()));
    }
}

fn mismatch(expected: &str, node: &Node) -> Wrong {
    Wrong {
        code: Code::Shape,
        message: format!("expected {expected}, found {}", node.describe()),
        help: None,
    }
}
