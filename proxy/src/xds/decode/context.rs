//! Where in a resource we are, and what was found wrong so far.
//!
//! Decoding does not stop at the first error: a function that cannot give its value records why and
//! returns `None`, its caller goes on with the next field. Both lists are bounded; what is beyond
//! the bound is counted.

use std::collections::BTreeSet;
use std::collections::HashMap;
use std::fmt::Display;
use std::fmt::Write as _;
use std::hash::BuildHasher;
use std::path::Path;
use std::path::PathBuf;

use xds_proto::Code;

use super::Decoded;
use super::FieldError;

/// Errors and warnings kept of one resource: enough to repair it by, small enough for a NACK's text.
const REPORTS_MAX: usize = 32;

/// The state of decoding one resource.
#[derive(Debug, Default)]
pub(crate) struct Context {
    path: String,
    errors: Reports,
    warnings: Reports,
    /// Where the files of the resource are, if they are followed.
    directories: Option<BTreeSet<PathBuf>>,
}

#[derive(Debug, Default)]
struct Reports {
    kept: Vec<FieldError>,
    count: usize,
}

impl Context {
    /// For a resource whose files are read again when they change.
    pub(crate) fn following() -> Self {
        Self {
            directories: Some(BTreeSet::new()),
            ..Self::default()
        }
    }

    /// Whether files are read again when they change.
    pub(crate) fn is_following(&self) -> bool {
        self.directories.is_some()
    }

    /// A change in this directory may be one of a file of the resource.
    pub(crate) fn follow(&mut self, directory: &Path) {
        let here = directory.as_os_str().is_empty();
        let directory = if here { Path::new(".") } else { directory };
        if let Some(directories) = &mut self.directories {
            directories.insert(directory.to_owned());
        }
    }

    /// All directories in which a change may be one of the resource.
    pub(crate) fn take_directories(&mut self) -> BTreeSet<PathBuf> {
        self.directories.take().unwrap_or_default()
    }

    /// Decodes one field of the current message.
    pub(crate) fn field<R>(&mut self, name: &str, decode: impl FnOnce(&mut Self) -> R) -> R {
        let length = self.path.len();
        self.path = join(&self.path, name);
        let result = decode(self);
        self.path.truncate(length);
        result
    }

    /// Decodes one element of a repeated or map field of the current message.
    pub(crate) fn item<R>(
        &mut self,
        name: &str,
        key: impl Display,
        decode: impl FnOnce(&mut Self) -> R,
    ) -> R {
        self.field(&format!("{name}[{key}]"), decode)
    }

    /// Decodes all elements of a repeated field; those that fail are left out, and reported.
    pub(crate) fn each<T, U>(
        &mut self,
        name: &str,
        items: Vec<T>,
        mut decode: impl FnMut(&mut Self, T) -> Option<U>,
    ) -> Vec<U> {
        let mut decoded = Vec::with_capacity(items.len());
        for (i, item) in items.into_iter().enumerate() {
            decoded.extend(self.item(name, i, |context| decode(context, item)));
        }
        decoded
    }

    /// Decodes an optional message field.
    pub(crate) fn optional<T, U>(
        &mut self,
        name: &str,
        message: Option<T>,
        decode: impl FnOnce(&mut Self, T) -> Option<U>,
    ) -> Option<U> {
        message.and_then(|message| self.field(name, |context| decode(context, message)))
    }

    /// Decodes a message field that must be there.
    pub(crate) fn required<T, U>(
        &mut self,
        name: &str,
        message: Option<T>,
        decode: impl FnOnce(&mut Self, T) -> Option<U>,
    ) -> Option<U> {
        if message.is_none() {
            self.reject_missing(name);
        }
        self.optional(name, message, decode)
    }

    /// Records that a field of the current message makes the resource unusable; the empty name is
    /// the current message itself.
    pub(crate) fn reject(&mut self, field: &str, reason: impl Into<String>) {
        self.reject_as(Code::Refused, field, reason.into());
    }

    fn reject_as(&mut self, code: Code, field: &str, reason: String) {
        self.errors.add(code, &self.path, field, reason);
    }

    /// As [`Self::refuse`], of a field that must be there.
    pub(crate) fn missing<T>(&mut self, field: &str) -> Option<T> {
        self.reject_missing(field);
        None
    }

    /// As [`Self::reject`], of a field that must be there.
    pub(crate) fn reject_missing(&mut self, field: &str) {
        self.reject_as(Code::Required, field, "is required".to_owned());
    }

    /// As [`Self::refuse`], of what Envoy can do and this proxy cannot.
    pub(crate) fn unsupported<T>(&mut self, field: &str, reason: impl Into<String>) -> Option<T> {
        self.reject_unsupported(field, reason);
        None
    }

    /// As [`Self::reject`], of what Envoy can do and this proxy cannot.
    pub(crate) fn reject_unsupported(&mut self, field: &str, reason: impl Into<String>) {
        self.reject_as(Code::Unsupported, field, reason.into());
    }

    /// As [`Self::reject`], in the place of a value.
    pub(crate) fn refuse<T>(&mut self, field: &str, reason: impl Into<String>) -> Option<T> {
        self.reject(field, reason);
        None
    }

    /// Records that a field of the current message has no effect.
    pub(crate) fn warn(&mut self, field: &str, reason: impl Into<String>) {
        self.warnings
            .add(Code::NoEffect, &self.path, field, reason.into());
    }

    /// Warns of each named field that is set; see [`unsupported!`].
    pub(crate) fn warn_set(&mut self, reason: &str, fields: &[(&str, bool)]) {
        for (field, _) in fields.iter().filter(|(_, is_set)| *is_set) {
            self.warn(field, reason);
        }
    }

    /// Rejects each named field that is set; see [`unsupported!`].
    pub(crate) fn reject_set(&mut self, reason: &str, fields: &[(&str, bool)]) {
        for (field, _) in fields.iter().filter(|(_, is_set)| *is_set) {
            self.reject_unsupported(field, reason);
        }
    }

    /// The value, if nothing was rejected.
    pub(crate) fn finish<T>(self, value: Option<T>) -> Result<Decoded<T>, Vec<FieldError>> {
        match value {
            Some(value) if self.errors.count == 0 => Ok(Decoded {
                value,
                warnings: self.warnings.into_list(),
            }),
            None if self.errors.count == 0 => {
                let reason = "cannot be decoded".to_owned();
                Err(vec![FieldError {
                    code: Code::Refused,
                    field: String::new(),
                    reason,
                }])
            }
            _ => Err(self.errors.into_list()),
        }
    }
}

impl Reports {
    fn add(&mut self, code: Code, path: &str, field: &str, reason: String) {
        self.count += 1;
        if self.kept.len() < REPORTS_MAX {
            self.kept.push(FieldError {
                code,
                field: join(path, field),
                reason,
            });
        }
    }

    fn into_list(mut self) -> Vec<FieldError> {
        let more = self.count - self.kept.len();
        let code = self.kept.last().map(|last| last.code);
        if let Some(code) = code.filter(|_| more > 0) {
            let reason = format!("and {more} more");
            self.kept.push(FieldError {
                code,
                field: String::new(),
                reason,
            });
        }
        self.kept
    }
}

fn join(path: &str, field: &str) -> String {
    let mut joined = path.to_owned();
    if !path.is_empty() && !field.is_empty() {
        joined.push('.');
    }
    // Writing to a String does not fail.
    let _ = write!(joined, "{field}");
    joined
}

/// Whether a field was given a value; proto3 scalars cannot tell their default from absence.
pub(crate) trait IsSet {
    /// See the trait.
    fn is_set(&self) -> bool;
}

impl<T> IsSet for Option<T> {
    fn is_set(&self) -> bool {
        self.is_some()
    }
}

impl<T> IsSet for Vec<T> {
    fn is_set(&self) -> bool {
        !self.is_empty()
    }
}

impl<K, V, S: BuildHasher> IsSet for HashMap<K, V, S> {
    fn is_set(&self) -> bool {
        !self.is_empty()
    }
}

impl IsSet for String {
    fn is_set(&self) -> bool {
        !self.is_empty()
    }
}

impl IsSet for bool {
    fn is_set(&self) -> bool {
        *self
    }
}

macro_rules! is_set_unless_zero {
    ($($number:ty)*) => {
        $(impl IsSet for $number {
            fn is_set(&self) -> bool {
                *self != 0
            }
        })*
    };
}

is_set_unless_zero!(i32 i64 u32 u64);

/// Reports each of the named fields that is set: as a warning after `warn`, as an error after
/// `reject`, with the reason if one is given.
macro_rules! unsupported {
    ($context:expr, warn $reason:literal: $($field:ident),* $(,)?) => {
        $context.warn_set($reason, &[$(
            (stringify!($field), $crate::xds::decode::IsSet::is_set(&$field)),
        )*])
    };
    ($context:expr, reject $reason:literal: $($field:ident),* $(,)?) => {
        $context.reject_set($reason, &[$(
            (stringify!($field), $crate::xds::decode::IsSet::is_set(&$field)),
        )*])
    };
    ($context:expr, warn: $($field:ident),* $(,)?) => {
        unsupported!($context, warn "not supported, has no effect": $($field),*)
    };
    ($context:expr, reject: $($field:ident),* $(,)?) => {
        unsupported!($context, reject "not supported": $($field),*)
    };
}

pub(crate) use unsupported;
