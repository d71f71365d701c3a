//! Header edits of the route table, compiled: literals are ready-made values, templates keep their
//! parts.
//!
//! It does not know what a `%COMMAND%` means; [`Values`] does. A value that comes out with bytes no
//! header may carry is not set.

use http::HeaderMap;
use http::HeaderName;
use http::HeaderValue;

use crate::config::access_log::Command;
use crate::config::access_log::Template;
use crate::config::access_log::TemplatePart;
use crate::config::route::AppendAction;
use crate::config::route::HeaderEdit;
use crate::config::route::HeaderEdits;

/// Gives the text of a command for the current exchange.
pub trait Values {
    /// Appends the text of `command` to `out`; nothing if it has no value.
    fn value(&self, command: &Command, out: &mut Vec<u8>);
}

/// Edits of one level, both ways.
#[derive(Clone, Debug, Default)]
pub struct Edits {
    /// On the way to the upstream.
    pub request: Program,
    /// On the way to the downstream.
    pub response: Program,
}

impl Edits {
    /// Compiles the edits of one level.
    #[must_use]
    pub fn new(edits: &HeaderEdits) -> Self {
        Self {
            request: Program::new(&edits.request),
            response: Program::new(&edits.response),
        }
    }
}

/// Edits of one level and direction: removals first, then additions in order, as Envoy does.
#[derive(Clone, Debug, Default)]
pub struct Program {
    remove: Box<[HeaderName]>,
    add: Box<[Add]>,
}

impl Program {
    /// Compiles the edits of one direction.
    #[must_use]
    pub fn new(edit: &HeaderEdit) -> Self {
        let add = edit.add.iter().map(|add| Add {
            name: add.name.clone(),
            value: Value::new(&add.value),
            action: add.action,
            keep_empty: add.keep_empty_value,
        });
        Self {
            remove: edit.remove.clone().into_boxed_slice(),
            add: add.collect(),
        }
    }

    /// True if it changes nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.add.is_empty()
    }

    /// Changes `headers`. Allocates only for templates and for a map that has to grow.
    pub fn apply(&self, headers: &mut HeaderMap, values: &dyn Values) {
        for name in &self.remove {
            headers.remove(name);
        }
        for add in &self.add {
            add.apply(headers, values);
        }
    }
}

#[derive(Clone, Debug)]
struct Add {
    name: HeaderName,
    value: Value,
    action: AppendAction,
    keep_empty: bool,
}

impl Add {
    fn apply(&self, headers: &mut HeaderMap, values: &dyn Values) {
        let applies = match self.action {
            AppendAction::AddIfAbsent => !headers.contains_key(&self.name),
            AppendAction::OverwriteIfExists => headers.contains_key(&self.name),
            AppendAction::AppendIfExistsOrAdd | AppendAction::OverwriteIfExistsOrAdd => true,
        };
        if !applies {
            return;
        }
        let Some(value) = self.value.resolve(values) else {
            return;
        };
        if value.is_empty() && !self.keep_empty {
            return;
        }
        match self.action {
            AppendAction::AddIfAbsent
            | AppendAction::OverwriteIfExists
            | AppendAction::OverwriteIfExistsOrAdd => {
                headers.insert(self.name.clone(), value);
            }
            AppendAction::AppendIfExistsOrAdd => {
                headers.append(self.name.clone(), value);
            }
        }
    }
}

#[derive(Clone, Debug)]
enum Value {
    Literal(HeaderValue),
    Template(Template),
}

impl Value {
    fn new(template: &Template) -> Self {
        let literal: Option<String> = template
            .parts
            .iter()
            .map(|part| match part {
                TemplatePart::Command(..) => None,
                TemplatePart::Literal(text) => Some(&**text),
            })
            .collect();
        literal
            .and_then(|text| HeaderValue::try_from(text).ok())
            .map_or_else(|| Self::Template(template.clone()), Self::Literal)
    }

    fn resolve(&self, values: &dyn Values) -> Option<HeaderValue> {
        let template = match self {
            Self::Literal(value) => return Some(value.clone()),
            Self::Template(template) => template,
        };
        let mut out = Vec::new();
        for part in &template.parts {
            match part {
                TemplatePart::Command(command, bytes_max) => {
                    let start = out.len();
                    values.value(command, &mut out);
                    if let Some(bytes_max) = bytes_max {
                        out.truncate(start.saturating_add(*bytes_max));
                    }
                }
                TemplatePart::Literal(text) => out.extend_from_slice(text.as_bytes()),
            }
        }
        HeaderValue::try_from(out).ok()
    }
}
