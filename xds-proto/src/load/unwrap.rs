//! The value of a `TypedStruct` that came in binary, converted as if it had stood in a file.

use std::path::Path;
use std::sync::Arc;

use crate::Pool;
use crate::load::LoadError;
use crate::load::convert::Converter;
use crate::load::report::Report;
use crate::load::spans::Spans;
use crate::load::tree::Entry;
use crate::load::tree::Mark;
use crate::load::tree::Node;
use crate::load::tree::Tree;
use crate::pb::google::protobuf::ListValue;
use crate::pb::google::protobuf::Struct;
use crate::pb::google::protobuf::Value;
use crate::pb::google::protobuf::value::Kind;

/// The encoded message, or its first mistake; nothing for a type the pool does not know.
pub(crate) fn unwrap_struct(
    pool: &Pool,
    type_name: &str,
    value: Option<&Struct>,
) -> Option<Result<Vec<u8>, LoadError>> {
    let id = pool.message(type_name)?;
    let file: Arc<Path> = Arc::from(Path::new(""));
    let mut report = Report::new(Arc::clone(&file), "");
    let spans = Spans::new(file, String::new(), Mark::START);
    let empty = Struct::default();
    let root = structure(value.unwrap_or(&empty));
    let bytes = Converter::new(pool, &mut report, spans).message(id, &root, Spans::ROOT);
    Some(
        report
            .into_errors()
            .into_iter()
            .next()
            .map_or(Ok(bytes), Err),
    )
}

fn structure(value: &Struct) -> Node {
    let mut entries: Vec<_> = value
        .fields
        .iter()
        .map(|(key, value)| Entry {
            key: Arc::from(key.as_str()),
            mark: Mark::START,
            value: node(value),
        })
        .collect();
    // A map has no order; the first mistake should be the same one each time.
    entries.sort_by(|one, other| one.key.cmp(&other.key));
    Node {
        mark: Mark::START,
        value: Tree::Mapping(entries),
    }
}

fn list(value: &ListValue) -> Node {
    Node {
        mark: Mark::START,
        value: Tree::Sequence(value.values.iter().map(node).collect()),
    }
}

/// Depth is bounded by prost's, which decoded the value.
fn node(value: &Value) -> Node {
    match &value.kind {
        None | Some(Kind::NullValue(_)) => Node::plain("null", Mark::START),
        Some(Kind::BoolValue(value)) => {
            Node::plain(if *value { "true" } else { "false" }, Mark::START)
        }
        Some(Kind::ListValue(value)) => list(value),
        Some(Kind::NumberValue(value)) => Node::plain(&value.to_string(), Mark::START),
        Some(Kind::StringValue(value)) => Node::quoted(value, Mark::START),
        Some(Kind::StructValue(value)) => structure(value),
    }
}
