//! `Any` in a file: a mapping with an `@type` member, in any position.
//!
//! A `TypedStruct` of a known type becomes that type; of an unknown one it stays, for the decoder to judge. A type of
//! Istio's own becomes a `TypedStruct`: a true message, which nobody here has to understand.

use prost::Message;

use crate::Code;
use crate::load::convert::Converter;
use crate::load::convert::generic;
use crate::load::spans::PlaceId;
use crate::load::suggest;
use crate::load::tree::Entry;
use crate::load::tree::Mark;
use crate::load::tree::Node;
use crate::load::tree::Tree;
use crate::pb::google::protobuf::Any;
use crate::pool::MessageId;
use crate::pool::Shape;
use crate::type_url;
use crate::wire;
use crate::wire::Raw;

const TYPE: &str = "@type";

/// Types Istio writes for its own extensions, whose messages Envoy's API does not have.
const FOREIGN: &[&str] = &[
    "envoy.tcp.metadataexchange.config.MetadataExchange",
    "stats.PluginConfig",
];
const FOREIGN_PREFIXES: &[&str] = &["io.istio.", "istio."];

impl<'c> Converter<'c, '_> {
    /// The bytes of an `Any`.
    pub(super) fn any(&mut self, node: &Node, at: PlaceId) -> Vec<u8> {
        self.open_any(node, at, None)
            .map_or_else(Vec::new, |any| any.encode_to_vec())
    }

    /// An `Any`, of the type `default_url` where it names none. Nothing where it is wrong.
    pub(crate) fn open_any(
        &mut self,
        node: &Node,
        at: PlaceId,
        default_url: Option<&str>,
    ) -> Option<Any> {
        let entries = self.mapping(node, at)?;
        let Some(named) = entries.iter().find(|entry| &*entry.key == TYPE) else {
            return self.untyped(node, entries, at, default_url);
        };
        let url = match &named.value.value {
            Tree::Scalar(scalar) if !scalar.is_null() => &*scalar.text,
            Tree::Mapping(_) | Tree::Scalar(_) | Tree::Sequence(_) => {
                let message = format!("expected a type URL, found {}", named.value.describe());
                self.error(Code::Type, at, named.value.mark, message, None);
                return None;
            }
        };
        if let Some(id) = self
            .pool
            .message(type_url::message_name(url))
            .filter(|_| url.contains('/'))
        {
            return Some(self.known(id, entries, at));
        }
        if is_foreign(url) {
            return Some(foreign(url, entries));
        }
        self.unknown_type(url, &named.value, at);
        None
    }

    fn untyped(
        &mut self,
        node: &Node,
        entries: &[Entry],
        at: PlaceId,
        default_url: Option<&str>,
    ) -> Option<Any> {
        let id = default_url.and_then(|url| self.pool.message(type_url::message_name(url)));
        if let Some(id) = id {
            return Some(self.known(id, entries, at));
        }
        if entries.is_empty() {
            return Some(Any::default());
        }
        let help =
            "add a line such as `\"@type\": type.googleapis.com/envoy.config.listener.v3.Listener`"
                .to_owned();
        self.error(
            Code::Type,
            at,
            node.mark,
            "`@type` is missing".to_owned(),
            Some(help),
        );
        None
    }

    fn known(&mut self, id: MessageId, entries: &[Entry], at: PlaceId) -> Any {
        let message = self.pool.describe(id);
        let value = match message.shape {
            Shape::Object => self.object(id, entries, at, Some(TYPE)),
            Shape::TypedStruct => return self.typed_struct(id, entries, at),
            _ => self.boxed(id, entries, at),
        };
        Any {
            type_url: format!("{}{}", type_url::PREFIX, message.name),
            value,
        }
    }

    /// A message with a JSON form of its own, which stands under `value`.
    fn boxed(&mut self, id: MessageId, entries: &[Entry], at: PlaceId) -> Vec<u8> {
        let mut bytes = Vec::new();
        for entry in entries.iter().filter(|entry| &*entry.key != TYPE) {
            if &*entry.key == "value" {
                bytes = self.message(id, &entry.value, at);
            } else {
                let help = "this type has its content under `value`".to_owned();
                self.error(
                    Code::UnknownField,
                    at,
                    entry.mark,
                    format!("unknown field `{}`", entry.key),
                    Some(help),
                );
            }
        }
        bytes
    }

    fn typed_struct(&mut self, id: MessageId, entries: &[Entry], at: PlaceId) -> Any {
        let outer = self.pool.describe(id);
        let members = self.members(outer, entries, at, Some(TYPE));
        let member = |number| {
            members
                .iter()
                .find(|(field, _)| field.number == number)
                .map(|(_, entry)| &entry.value)
        };
        let url = match member(1).map(|node| &node.value) {
            Some(Tree::Scalar(scalar)) => &*scalar.text,
            Some(Tree::Mapping(_) | Tree::Sequence(_)) | None => "",
        };
        let inner = self.pool.message(type_url::message_name(url));
        let Some(inner) =
            inner.filter(|inner| self.pool.describe(*inner).shape != Shape::TypedStruct)
        else {
            if url.is_empty() {
                let mark = entries.first().map_or(Mark::START, |entry| entry.mark);
                self.error(
                    Code::Type,
                    at,
                    mark,
                    "`type_url` of the TypedStruct is missing".to_owned(),
                    None,
                );
            }
            let value = self.object(id, entries, at, Some(TYPE));
            return Any {
                type_url: format!("{}{}", type_url::PREFIX, outer.name),
                value,
            };
        };
        // The decoder sees the inner message in the place of the Any, so paths skip the `value` step.
        let value = member(2).map_or_else(Vec::new, |node| self.message(inner, node, at));
        Any {
            type_url: format!("{}{}", type_url::PREFIX, self.pool.describe(inner).name),
            value,
        }
    }

    fn unknown_type(&mut self, url: &str, node: &Node, at: PlaceId) {
        let name = type_url::message_name(url);
        if self.pool.message(name).is_some() {
            let help = format!("write `{}{name}`", type_url::PREFIX);
            self.error(
                Code::Type,
                at,
                node.mark,
                format!("type URL `{url}` has no `/`"),
                Some(help),
            );
            return;
        }
        let help = self
            .near_type(name)
            .map(|near| format!("did you mean `{}{near}`?", type_url::PREFIX));
        self.error(
            Code::Type,
            at,
            node.mark,
            format!("unknown type `{url}`"),
            help,
        );
    }

    /// The nearest type among those of the same last part, as for a type of Envoy's v2 API, else the nearest of all.
    fn near_type(&self, name: &str) -> Option<&'c str> {
        let pool = self.pool;
        let wanted = last_part(name);
        let same = pool
            .message_names()
            .filter(|candidate| last_part(candidate) == wanted);
        suggest::closest(name, same).or_else(|| suggest::nearest(name, pool.message_names()))
    }
}

fn last_part(name: &str) -> &str {
    name.rsplit_once('.').map_or(name, |(_, last)| last)
}

fn is_foreign(url: &str) -> bool {
    let name = type_url::message_name(url);
    FOREIGN.contains(&name)
        || FOREIGN_PREFIXES
            .iter()
            .any(|prefix| name.starts_with(prefix))
}

/// The whole mapping as a `TypedStruct` of the type it names.
fn foreign(url: &str, entries: &[Entry]) -> Any {
    let mut value = Vec::new();
    wire::put(&mut value, 1, Raw::Bytes(url.as_bytes()));
    wire::put(
        &mut value,
        2,
        Raw::Bytes(&generic::structure(entries, Some(TYPE))),
    );
    Any {
        type_url: type_url::TYPED_STRUCT.to_owned(),
        value,
    }
}
