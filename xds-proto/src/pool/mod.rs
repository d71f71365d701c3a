//! Descriptors of the messages Weir reads from files and prints.
//!
//! An own compact form of the committed descriptor set: a list of messages, each with its fields, names shared.
//! Reflection libraries hold several times as much; this holds what reading and printing ask for.

mod build;

use std::collections::HashMap;
use std::sync::Arc;

/// The descriptors. Build one to read or print, then drop it.
#[derive(Debug)]
pub struct Pool {
    messages: Vec<MessageDesc>,
    enums: Vec<EnumDesc>,
    by_name: HashMap<Arc<str>, MessageId>,
}

/// Place of a message in its pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MessageId(u32);

/// Place of an enum in its pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EnumId(u32);

/// One message.
#[derive(Debug)]
pub(crate) struct MessageDesc {
    /// Full name without a leading dot.
    pub(crate) name: Arc<str>,
    /// Fields by number, ascending.
    pub(crate) fields: Vec<FieldDesc>,
    /// Names of the oneofs, those of proto3 `optional` fields left out.
    pub(crate) oneofs: Vec<Arc<str>>,
    /// What JSON makes of it.
    pub(crate) shape: Shape,
}

/// How JSON writes a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    Any,
    Duration,
    FieldMask,
    ListValue,
    /// An object with a member per field.
    Object,
    Struct,
    Timestamp,
    TypedStruct,
    Value,
    /// A bare scalar, as in `BoolValue`.
    Wrapper,
}

/// One field.
#[derive(Debug)]
pub(crate) struct FieldDesc {
    /// Name in the `.proto` file.
    pub(crate) name: Arc<str>,
    /// Name in JSON.
    pub(crate) json_name: Box<str>,
    pub(crate) number: u32,
    pub(crate) kind: Kind,
    pub(crate) label: Label,
    /// Index into [`MessageDesc::oneofs`].
    pub(crate) oneof: Option<usize>,
}

/// How many values a field holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Label {
    /// The field's message is the entry.
    Map,
    /// At most one, and absence is told from zero.
    Optional,
    Repeated,
    /// Exactly one, zero standing for absence.
    Single,
}

/// What a field holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Bool,
    Bytes,
    Double,
    Enum(EnumId),
    Fixed32,
    Fixed64,
    Float,
    Int32,
    Int64,
    Message(MessageId),
    Sfixed32,
    Sfixed64,
    Sint32,
    Sint64,
    String,
    Uint32,
    Uint64,
}

/// One enum.
#[derive(Debug)]
pub(crate) struct EnumDesc {
    /// Names and numbers in the order of the file.
    pub(crate) values: Vec<(Box<str>, i32)>,
}

impl Pool {
    /// Reads the descriptor set that is part of this crate.
    #[expect(
        clippy::new_without_default,
        reason = "building one is work a caller should see"
    )]
    pub fn new() -> Self {
        build::build()
    }

    /// The message of a full name.
    pub(crate) fn message(&self, name: &str) -> Option<MessageId> {
        self.by_name.get(name).copied()
    }

    /// All full names, in no order.
    pub(crate) fn message_names(&self) -> impl Iterator<Item = &str> {
        self.by_name.keys().map(|name| &**name)
    }

    pub(crate) fn describe(&self, id: MessageId) -> &MessageDesc {
        self.messages
            .get(id.0 as usize)
            .expect("ids come from the pool that hands out descriptors")
    }

    pub(crate) fn describe_enum(&self, id: EnumId) -> &EnumDesc {
        self.enums
            .get(id.0 as usize)
            .expect("ids come from the pool that hands out descriptors")
    }
}

impl MessageDesc {
    /// The field of a name, as written in `.proto` files or in JSON.
    pub(crate) fn field(&self, name: &str) -> Option<&FieldDesc> {
        self.fields
            .iter()
            .find(|field| *field.name == *name || *field.json_name == *name)
    }

    /// The field of a number.
    pub(crate) fn field_by_number(&self, number: u32) -> Option<&FieldDesc> {
        let place = self
            .fields
            .binary_search_by_key(&number, |field| field.number)
            .ok()?;
        self.fields.get(place)
    }
}
