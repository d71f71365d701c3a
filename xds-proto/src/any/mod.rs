//! Into and out of `google.protobuf.Any`, and out of the two `TypedStruct`s.
//!
//! Looks only at the outermost `Any`; those nested in a message are opened when somebody reads them.

use prost::Message;
use prost::Name;

use crate::Pool;
use crate::load;
use crate::pb::google::protobuf::Any;
use crate::pb::udpa;
use crate::pb::xds;
use crate::type_url;

/// Why an `Any` could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// The bytes are no message of their type.
    #[error("malformed {type_name}")]
    Malformed {
        /// Full name of the message.
        type_name: String,
        /// What the wire format objects to.
        source: prost::DecodeError,
    },
    /// A `TypedStruct` whose value does not fit the type it names.
    #[error("{type_name}.{field}: {message}")]
    TypedStruct {
        /// Full name of the inner message.
        type_name: String,
        /// Path of the field inside it.
        field: String,
        /// What is wrong there.
        message: String,
    },
    /// Another message than the asked one.
    #[error("expected {expected}, found {found}")]
    WrongType {
        /// Full name of the message asked for.
        expected: String,
        /// Type URL of the message found.
        found: String,
    },
}

/// Puts a message into an `Any` under its `type.googleapis.com/` URL.
pub fn pack<M: Message + Name>(message: &M) -> Any {
    Any {
        type_url: M::type_url(),
        value: message.encode_to_vec(),
    }
}

/// Takes the message `M` out of an `Any`.
///
/// # Errors
///
/// When the `Any` names another type or its bytes are malformed.
pub fn unpack<M: Message + Default + Name>(any: &Any) -> Result<M, UnpackError> {
    let expected = M::full_name();
    if type_url::message_name(&any.type_url) != expected {
        return Err(UnpackError::WrongType {
            expected,
            found: any.type_url.clone(),
        });
    }
    decode(expected, &any.value)
}

/// The type URL of what an `Any` stands for: of the inner message where it is a `TypedStruct`, else its own.
///
/// # Errors
///
/// When a `TypedStruct` is malformed.
pub fn effective_type_url(any: &Any) -> Result<String, UnpackError> {
    Ok(open_typed_struct(any)?.map_or_else(|| any.type_url.clone(), |inner| inner.type_url))
}

/// Turns a `TypedStruct` into an `Any` of the type it names. Anything else, and a `TypedStruct` of a type the
/// pool does not know, comes back as it is.
///
/// # Errors
///
/// When the `TypedStruct` is malformed or its value does not fit its type.
pub fn unwrap_typed_struct(any: &Any, pool: &Pool) -> Result<Any, UnpackError> {
    let Some(inner) = open_typed_struct(any)? else {
        return Ok(any.clone());
    };
    let type_name = type_url::message_name(&inner.type_url);
    match load::unwrap_struct(pool, type_name, inner.value.as_ref()) {
        None => Ok(any.clone()),
        Some(Ok(value)) => Ok(Any {
            type_url: format!("{}{type_name}", type_url::PREFIX),
            value,
        }),
        Some(Err(error)) => {
            let type_name = type_name.to_owned();
            Err(UnpackError::TypedStruct {
                type_name,
                field: error.field,
                message: error.message,
            })
        }
    }
}

/// Either `TypedStruct`, as the newer one.
fn open_typed_struct(any: &Any) -> Result<Option<xds::r#type::v3::TypedStruct>, UnpackError> {
    let name = type_url::message_name(&any.type_url);
    let known = name == xds::r#type::v3::TypedStruct::full_name()
        || name == udpa::r#type::v1::TypedStruct::full_name();
    // Same fields, same numbers: one decoder reads both.
    if known {
        decode(name.to_owned(), &any.value).map(Some)
    } else {
        Ok(None)
    }
}

fn decode<M: Message + Default>(type_name: String, bytes: &[u8]) -> Result<M, UnpackError> {
    M::decode(bytes).map_err(|source| UnpackError::Malformed { type_name, source })
}

#[cfg(test)]
mod tests;
