//! From the committed descriptor set to a [`Pool`].

use std::collections::HashMap;
use std::sync::Arc;

use prost::Message;
use prost_types::DescriptorProto;
use prost_types::EnumDescriptorProto;
use prost_types::FieldDescriptorProto;
use prost_types::FileDescriptorProto;
use prost_types::field_descriptor_proto::Label as ProtoLabel;
use prost_types::field_descriptor_proto::Type;

use crate::pool::EnumDesc;
use crate::pool::EnumId;
use crate::pool::FieldDesc;
use crate::pool::Kind;
use crate::pool::Label;
use crate::pool::MessageDesc;
use crate::pool::MessageId;
use crate::pool::Pool;
use crate::pool::Shape;
use crate::wire::Raw;
use crate::wire::Reader;

static DESCRIPTORS: &[u8] = include_bytes!("../generated/descriptors.bin");

pub(super) fn build() -> Pool {
    // Twice through the files, so that only one of them at a time is in memory in protobuf's own, wide form.
    let mut index = Index::default();
    for file in files() {
        index.add_enums(file.package(), &file.enum_type);
        index.add_messages(file.package(), &file.message_type);
    }
    let mut pool = Pool {
        messages: Vec::new(),
        enums: Vec::new(),
        by_name: HashMap::new(),
    };
    for file in files() {
        pool.enums.extend(file.enum_type.iter().map(enum_desc));
        index.link_messages(file.package(), &file.message_type, &mut pool);
    }
    let ids = pool
        .messages
        .iter()
        .zip(0..)
        .map(|(message, id)| (Arc::clone(&message.name), MessageId(id)));
    pool.by_name = ids.collect();
    pool
}

/// The files of the set, each decoded when its turn comes.
fn files() -> impl Iterator<Item = FileDescriptorProto> {
    let mut reader = Reader::new(DESCRIPTORS);
    std::iter::from_fn(move || {
        if reader.is_empty() {
            return None;
        }
        let (_, raw) = reader
            .field()
            .expect("tests/regenerate keeps the committed set whole");
        let Raw::Bytes(bytes) = raw else { return None };
        Some(
            FileDescriptorProto::decode(bytes)
                .expect("tests/regenerate keeps the committed set whole"),
        )
    })
}

/// Names and the ids they get; both passes walk in the same order.
#[derive(Default)]
struct Index {
    messages: HashMap<String, Target>,
    enums: HashMap<String, EnumId>,
}

/// What a field may refer to.
#[derive(Clone, Copy)]
struct Target {
    id: MessageId,
    is_map_entry: bool,
}

impl Index {
    fn add_messages(&mut self, scope: &str, messages: &[DescriptorProto]) {
        for message in messages {
            let name = join(scope, message.name());
            self.add_enums(&name, &message.enum_type);
            self.add_messages(&name, &message.nested_type);
            let is_map_entry = message
                .options
                .as_ref()
                .is_some_and(|options| options.map_entry());
            self.messages.insert(
                name,
                Target {
                    id: MessageId(next_id(self.messages.len())),
                    is_map_entry,
                },
            );
        }
    }

    fn add_enums(&mut self, scope: &str, enums: &[EnumDescriptorProto]) {
        for one in enums {
            self.enums
                .insert(join(scope, one.name()), EnumId(next_id(self.enums.len())));
        }
    }

    fn link_messages(&self, scope: &str, messages: &[DescriptorProto], pool: &mut Pool) {
        for message in messages {
            let name = join(scope, message.name());
            pool.enums.extend(message.enum_type.iter().map(enum_desc));
            self.link_messages(&name, &message.nested_type, pool);
            pool.messages.push(self.message(&name, message));
        }
    }

    fn message(&self, name: &str, message: &DescriptorProto) -> MessageDesc {
        let mut fields: Vec<_> = message
            .field
            .iter()
            .map(|field| self.field(field))
            .collect();
        fields.sort_by_key(|field| field.number);
        // protoc puts the oneofs of proto3 `optional` fields last, so the others keep their index.
        let synthetic = message
            .field
            .iter()
            .filter(|field| field.proto3_optional())
            .count();
        let real = message.oneof_decl.len().saturating_sub(synthetic);
        let oneofs = message
            .oneof_decl
            .iter()
            .take(real)
            .map(|oneof| Arc::from(oneof.name()))
            .collect();
        MessageDesc {
            name: Arc::from(name),
            fields,
            oneofs,
            shape: shape(name),
        }
    }

    fn field(&self, field: &FieldDescriptorProto) -> FieldDesc {
        let target = field.type_name().trim_start_matches('.');
        let kind = self.kind(field.r#type(), target);
        let name = field.name();
        FieldDesc {
            name: Arc::from(name),
            json_name: field
                .json_name
                .as_deref()
                .map_or_else(|| camel(name), Box::from),
            number: u32::try_from(field.number()).expect("field numbers are positive"),
            kind,
            label: self.label(field, target, kind),
            oneof: field
                .oneof_index
                .filter(|_| !field.proto3_optional())
                .and_then(|index| usize::try_from(index).ok()),
        }
    }

    fn label(&self, field: &FieldDescriptorProto, target: &str, kind: Kind) -> Label {
        if field.label() == ProtoLabel::Repeated {
            let is_map = self
                .messages
                .get(target)
                .is_some_and(|target| target.is_map_entry);
            return if is_map { Label::Map } else { Label::Repeated };
        }
        let optional = field.oneof_index.is_some() || matches!(kind, Kind::Message(_));
        if optional {
            Label::Optional
        } else {
            Label::Single
        }
    }

    fn kind(&self, kind: Type, target: &str) -> Kind {
        match kind {
            Type::Bool => Kind::Bool,
            Type::Bytes => Kind::Bytes,
            Type::Double => Kind::Double,
            Type::Enum => Kind::Enum(*self.enums.get(target).expect("the committed set is closed")),
            Type::Fixed32 => Kind::Fixed32,
            Type::Fixed64 => Kind::Fixed64,
            Type::Float => Kind::Float,
            Type::Int32 => Kind::Int32,
            Type::Int64 => Kind::Int64,
            // Groups are proto2 only; the set holds none.
            Type::Group | Type::Message => Kind::Message(
                self.messages
                    .get(target)
                    .expect("the committed set is closed")
                    .id,
            ),
            Type::Sfixed32 => Kind::Sfixed32,
            Type::Sfixed64 => Kind::Sfixed64,
            Type::Sint32 => Kind::Sint32,
            Type::Sint64 => Kind::Sint64,
            Type::String => Kind::String,
            Type::Uint32 => Kind::Uint32,
            Type::Uint64 => Kind::Uint64,
        }
    }
}

fn next_id(taken: usize) -> u32 {
    u32::try_from(taken).expect("a set of less than a megabyte names fewer")
}

fn enum_desc(one: &EnumDescriptorProto) -> EnumDesc {
    EnumDesc {
        values: one
            .value
            .iter()
            .map(|value| (Box::from(value.name()), value.number()))
            .collect(),
    }
}

fn shape(name: &str) -> Shape {
    match name {
        "google.protobuf.Any" => Shape::Any,
        "google.protobuf.Duration" => Shape::Duration,
        "google.protobuf.FieldMask" => Shape::FieldMask,
        "google.protobuf.ListValue" => Shape::ListValue,
        "google.protobuf.Struct" => Shape::Struct,
        "google.protobuf.Timestamp" => Shape::Timestamp,
        "google.protobuf.Value" => Shape::Value,
        "google.protobuf.BoolValue"
        | "google.protobuf.BytesValue"
        | "google.protobuf.DoubleValue"
        | "google.protobuf.FloatValue"
        | "google.protobuf.Int32Value"
        | "google.protobuf.Int64Value"
        | "google.protobuf.StringValue"
        | "google.protobuf.UInt32Value"
        | "google.protobuf.UInt64Value" => Shape::Wrapper,
        "udpa.type.v1.TypedStruct" | "xds.type.v3.TypedStruct" => Shape::TypedStruct,
        _ => Shape::Object,
    }
}

/// The JSON name protobuf derives from a field's name.
fn camel(name: &str) -> Box<str> {
    let mut out = String::with_capacity(name.len());
    let mut upper = false;
    for character in name.chars() {
        match character {
            '_' => upper = true,
            _ if upper => {
                out.push(character.to_ascii_uppercase());
                upper = false;
            }
            _ => out.push(character),
        }
    }
    out.into_boxed_str()
}

fn join(scope: &str, name: &str) -> String {
    if scope.is_empty() {
        name.to_owned()
    } else {
        format!("{scope}.{name}")
    }
}
