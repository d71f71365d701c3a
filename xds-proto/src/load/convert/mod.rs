//! From tree to encoded message, led by descriptors.
//!
//! Fields may be spelled in `snake_case` or in JSON's lowerCamel. Every mistake goes to the report and the work goes
//! on; what comes out is whole only when the report is clean. Fields are encoded in the order of their numbers and
//! map entries in the order of their keys, so equal messages give equal bytes.

mod any;
mod generic;
mod scalar;

use std::sync::Arc;

use self::scalar::Leaf;
use crate::Code;
use crate::load::report::Report;
use crate::load::spans::PlaceId;
use crate::load::spans::Spans;
use crate::load::spans::Step;
use crate::load::suggest;
use crate::load::tree::Entry;
use crate::load::tree::Mark;
use crate::load::tree::Node;
use crate::load::tree::Scalar;
use crate::load::tree::Tree;
use crate::pool::FieldDesc;
use crate::pool::Kind;
use crate::pool::Label;
use crate::pool::MessageDesc;
use crate::pool::MessageId;
use crate::pool::Pool;
use crate::pool::Shape;
use crate::wire;
use crate::wire::Raw;

/// Up to this many field names are listed where none is near the unknown one.
const FIELDS_LISTED_MAX: usize = 12;

/// Converts one message and what is in it.
pub(crate) struct Converter<'c, 't> {
    pool: &'c Pool,
    report: &'c mut Report<'t>,
    spans: Spans,
}

/// What a value should have been.
struct Wrong {
    code: Code,
    message: String,
    help: Option<String>,
}

impl<'c, 't> Converter<'c, 't> {
    pub(crate) fn new(pool: &'c Pool, report: &'c mut Report<'t>, spans: Spans) -> Self {
        Self {
            pool,
            report,
            spans,
        }
    }

    pub(crate) fn into_spans(self) -> Spans {
        self.spans
    }

    pub(crate) fn error(
        &mut self,
        code: Code,
        at: PlaceId,
        mark: Mark,
        message: String,
        help: Option<String>,
    ) {
        let path = self.spans.path(at);
        self.report.push(code, mark, path, message, help);
    }

    /// The bytes of a message.
    pub(crate) fn message(&mut self, id: MessageId, node: &Node, at: PlaceId) -> Vec<u8> {
        let message = self.pool.describe(id);
        match message.shape {
            Shape::Any => self.any(node, at),
            Shape::Duration | Shape::FieldMask | Shape::Timestamp => self
                .checked(scalar::well_known(message.shape, node), node, at)
                .unwrap_or_default(),
            Shape::ListValue | Shape::Struct | Shape::Value => self
                .checked(generic::encode(message.shape, node), node, at)
                .unwrap_or_default(),
            Shape::Object | Shape::TypedStruct => {
                let Some(entries) = self.mapping(node, at) else {
                    return Vec::new();
                };
                self.object(id, entries, at, None)
            }
            Shape::Wrapper => self.wrapper(message, node, at),
        }
    }

    /// The bytes of a message written as a mapping; the member `skip` is somebody else's.
    pub(crate) fn object(
        &mut self,
        id: MessageId,
        entries: &[Entry],
        at: PlaceId,
        skip: Option<&str>,
    ) -> Vec<u8> {
        let message = self.pool.describe(id);
        let mut out = Vec::new();
        for (field, entry) in self.members(message, entries, at, skip) {
            let place = self
                .spans
                .add(at, Step::Field(Arc::clone(&field.name)), entry.mark);
            self.field(field, &entry.value, place, &mut out);
        }
        out
    }

    /// The fields that are set, in the order of their numbers.
    fn members<'n>(
        &mut self,
        message: &'c MessageDesc,
        entries: &'n [Entry],
        at: PlaceId,
        skip: Option<&str>,
    ) -> Vec<(&'c FieldDesc, &'n Entry)> {
        let mut members: Vec<(&FieldDesc, &Entry)> = Vec::new();
        for entry in entries.iter().filter(|entry| skip != Some(&*entry.key)) {
            if self.report.is_full() {
                break;
            }
            let Some(field) = message.field(&entry.key) else {
                self.unknown_field(message, entry, at);
                continue;
            };
            // Null is absence, except where null is a value.
            if entry.value.is_null() && !self.takes_null(field) {
                continue;
            }
            if let Some((other, _)) = members.iter().find(|(other, _)| clash(other, field)) {
                let text = self.clash_text(message, other, field);
                let place = self
                    .spans
                    .add(at, Step::Field(Arc::clone(&field.name)), entry.mark);
                self.error(Code::SetTwice, place, entry.mark, text, None);
                continue;
            }
            members.push((field, entry));
        }
        members.sort_by_key(|(field, _)| field.number);
        members
    }

    fn clash_text(&self, message: &MessageDesc, other: &FieldDesc, field: &FieldDesc) -> String {
        let oneof = field.oneof.and_then(|index| message.oneofs.get(index));
        match oneof {
            Some(oneof) if other.number != field.number => {
                format!(
                    "`{}` and `{}` exclude each other: only one of `{oneof}` can be set",
                    other.name, field.name
                )
            }
            _ => format!("`{}` is set twice, in two spellings", field.name),
        }
    }

    fn takes_null(&self, field: &FieldDesc) -> bool {
        let is_value = |id| self.pool.describe(id).shape == Shape::Value;
        field.label != Label::Map
            && field.label != Label::Repeated
            && matches!(field.kind, Kind::Message(id) if is_value(id))
    }

    fn unknown_field(&mut self, message: &MessageDesc, entry: &Entry, at: PlaceId) {
        let names = || message.fields.iter().map(|field| &*field.name);
        let help = match suggest::nearest(&entry.key, names()) {
            Some(near) => Some(format!("did you mean `{near}`?")),
            None if &*entry.key == "@type" => {
                Some("only fields of any type have an `@type`; leave it out".to_owned())
            }
            None if message.fields.is_empty() => Some(format!("`{}` has no fields", message.name)),
            None if message.fields.len() <= FIELDS_LISTED_MAX => Some(format!(
                "`{}` has {}",
                message.name,
                names().collect::<Vec<_>>().join(", ")
            )),
            None => Some(format!("it is no field of `{}`", message.name)),
        };
        let mut path = self.spans.path(at);
        Step::Field(Arc::from(&*entry.key)).append_to(&mut path);
        self.report.push(
            Code::UnknownField,
            entry.mark,
            path,
            format!("unknown field `{}`", entry.key),
            help,
        );
    }

    fn field(&mut self, field: &FieldDesc, node: &Node, at: PlaceId, out: &mut Vec<u8>) {
        match field.label {
            Label::Map => self.map(field, node, at, out),
            Label::Optional | Label::Single => {
                if let Some(leaf) = self.value(field.kind, node, at)
                    && (field.label == Label::Optional || !leaf.is_zero())
                {
                    wire::put(out, field.number, leaf.raw());
                }
            }
            Label::Repeated => self.list(field, node, at, out),
        }
    }

    fn list(&mut self, field: &FieldDesc, node: &Node, at: PlaceId, out: &mut Vec<u8>) {
        let Tree::Sequence(items) = &node.value else {
            let help = "put `- ` before it, or brackets around it".to_owned();
            self.error(
                Code::Shape,
                at,
                node.mark,
                format!("expected a list, found {}", node.describe()),
                Some(help),
            );
            return;
        };
        let packed = !matches!(field.kind, Kind::Bytes | Kind::Message(_) | Kind::String);
        let mut pack = Vec::new();
        for (item, index) in items.iter().zip(0..) {
            if self.report.is_full() {
                return;
            }
            let place = self.spans.add(at, Step::Index(index), item.mark);
            match self.value(field.kind, item, place) {
                Some(leaf) if packed => wire::put_bare(&mut pack, leaf.raw()),
                Some(leaf) => wire::put(out, field.number, leaf.raw()),
                None => {}
            }
        }
        if !pack.is_empty() {
            wire::put(out, field.number, Raw::Bytes(&pack));
        }
    }

    fn map(&mut self, field: &FieldDesc, node: &Node, at: PlaceId, out: &mut Vec<u8>) {
        let Some(entries) = self.mapping(node, at) else {
            return;
        };
        let Kind::Message(id) = field.kind else {
            return;
        };
        let (Some(key_field), Some(value_field)) = (
            self.pool.describe(id).field_by_number(1),
            self.pool.describe(id).field_by_number(2),
        ) else {
            return;
        };
        let mut sorted: Vec<&Entry> = entries.iter().collect();
        sorted.sort_by(|one, other| one.key.cmp(&other.key));
        for entry in sorted {
            if self.report.is_full() {
                return;
            }
            let place = self
                .spans
                .add(at, Step::Key(Box::from(&*entry.key)), entry.mark);
            let key = Scalar {
                text: Arc::clone(&entry.key),
                plain: true,
            };
            let key = Node {
                mark: entry.mark,
                value: Tree::Scalar(key),
            };
            let key = self.checked(scalar::map_key(key_field.kind, &key), &key, place);
            let value = self.value(value_field.kind, &entry.value, place);
            let (Some(key), Some(value)) = (key, value) else {
                continue;
            };
            let mut body = Vec::new();
            wire::put(&mut body, 1, key.raw());
            wire::put(&mut body, 2, value.raw());
            wire::put(out, field.number, Raw::Bytes(&body));
        }
    }

    /// One value of a kind, nothing where it is wrong.
    fn value(&mut self, kind: Kind, node: &Node, at: PlaceId) -> Option<Leaf> {
        match kind {
            Kind::Message(id) => Some(Leaf::Bytes(self.message(id, node, at))),
            _ => self.checked(scalar::leaf(self.pool, kind, node), node, at),
        }
    }

    fn wrapper(&mut self, message: &MessageDesc, node: &Node, at: PlaceId) -> Vec<u8> {
        let mut out = Vec::new();
        let Some(field) = message.field_by_number(1) else {
            return out;
        };
        if matches!(&node.value, Tree::Mapping(entries) if entries.iter().any(|entry| &*entry.key == "value"))
        {
            let help = "write what follows `value:` in its place".to_owned();
            self.error(
                Code::Shape,
                at,
                node.mark,
                "expected a bare value, found a mapping".to_owned(),
                Some(help),
            );
            return out;
        }
        if let Some(leaf) = self.value(field.kind, node, at)
            && !leaf.is_zero()
        {
            wire::put(&mut out, 1, leaf.raw());
        }
        out
    }

    fn mapping<'n>(&mut self, node: &'n Node, at: PlaceId) -> Option<&'n [Entry]> {
        match &node.value {
            Tree::Mapping(entries) => Some(entries),
            Tree::Scalar(_) | Tree::Sequence(_) => {
                self.error(
                    Code::Shape,
                    at,
                    node.mark,
                    format!("expected a mapping, found {}", node.describe()),
                    None,
                );
                None
            }
        }
    }

    fn checked<T>(&mut self, result: Result<T, Wrong>, node: &Node, at: PlaceId) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(wrong) => {
                self.error(wrong.code, at, node.mark, wrong.message, wrong.help);
                None
            }
        }
    }
}

/// Whether two fields cannot both be set.
fn clash(one: &FieldDesc, other: &FieldDesc) -> bool {
    one.number == other.number || (one.oneof.is_some() && one.oneof == other.oneof)
}
