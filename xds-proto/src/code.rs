//! What kind of mistake it is, as a code that stays the same when sentences are reworded.
//!
//! `weir explain CODE` prints the explanations below, and people and scripts name a kind by its code. A code is never
//! given another meaning; one that is no longer used is not given to something else.

use std::fmt;
use std::str::FromStr;

macro_rules! codes {
    ($($(#[doc = $doc:literal])+ $name:ident = $number:literal, $title:literal, $explanation:literal;)+) => {
        /// A kind of mistake. Displays as `W1007`.
        #[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Code {
            $($(#[doc = $doc])+ $name,)+
        }

        impl Code {
            /// All codes, by number.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// `W1007`.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => concat!("W", $number),)+
                }
            }

            /// A few words.
            #[must_use]
            pub fn title(self) -> &'static str {
                match self {
                    $(Self::$name => $title,)+
                }
            }

            /// Why it is a mistake and what to do about it, in lines for a terminal.
            #[must_use]
            pub fn explanation(self) -> &'static str {
                match self {
                    $(Self::$name => $explanation,)+
                }
            }
        }
    };
}

codes! {
    /// The text is neither YAML nor JSON.
    Syntax = 1001, "neither YAML nor JSON",
"The text cannot be read as YAML, of which JSON is a part. The place is where reading stopped; the
cause is often a line above it: a missing quote, a tab, a colon without a space after it.";
    /// A limit of size, depth or number.
    Limit = 1002, "too large",
"A file is larger, deeper, or by its aliases more numerous than anything real is; reading it would
cost memory that the proxy needs. Split the file, or write out what the aliases repeat.";
    /// A mapping, list or scalar where another of them belongs.
    Shape = 1003, "a mapping, list or value where something else belongs",
"The field exists, but its value has another shape: a list where a message belongs, a single value
where a list belongs. In YAML a list has `- ` before each element, a message has `name: value` lines
that are indented.";
    /// A scalar the field cannot hold.
    Value = 1004, "a value the field cannot hold",
"The field wants another kind of value: a number, a duration such as `0.25s`, true or false, bytes in
base64; or the number is out of the range of the field.";
    /// A name that is none of an enum's.
    EnumValue = 1005, "unknown name of a choice",
"The field takes one of a few names, as Envoy's API lists them, and this is none of them.";
    /// `@type` is missing or unknown.
    Type = 1006, "`@type` is missing or unknown",
"A `typed_config`, or a resource, says what it is by `@type`, such as
`type.googleapis.com/envoy.config.listener.v3.Listener`. It is missing here, or no message of Envoy's
v3 API, nor of this program's own, has that name.";
    /// A field the message does not have.
    UnknownField = 1007, "unknown field",
"The message has no such field. Envoy's v3 API is what counts, in snake_case or lowerCamelCase. It is
often a misspelling, a field at the wrong level of indentation, or one of Envoy's v2 API.";
    /// A key, or a choice, that is given twice.
    SetTwice = 1008, "given twice",
"The same key appears twice in one mapping, or two fields that exclude each other are both set. Which
one was meant cannot be known, so neither is used.";
    /// Not the form of a resource file.
    FileForm = 1009, "not the form of a resource file",
"A resource file is a mapping with a list `resources`, each with an `@type`, or that list alone, or a
single resource. `weir check` reads anything without `resources` as a bootstrap.";
    /// A second resource of a type and name.
    Duplicate = 1010, "a second resource of the same name",
"Two resources of one type have the same name. Clients ask for resources by name, so only one of them
could ever be served. Rename one, or remove it.";
    /// A file that cannot be read.
    Unreadable = 1011, "a file cannot be read",
"The operating system refused to read the file or directory; the message is its reason.";
    /// A field without which nothing can be done.
    Required = 1101, "a required field is missing",
"Without this field the rest of the message has no meaning, in Envoy as here.";
    /// A value that is well formed and not usable.
    Refused = 1102, "a value that cannot be used",
"The message is well formed, but what it asks for is not possible or not allowed: an empty list of
weights, a port of 0, a regular expression that does not compile, two virtual hosts with one domain.
Over xDS such a resource is refused (NACK) with this reason, and its last good version keeps serving.";
    /// A field that would change answers and is not supported.
    Unsupported = 1103, "not supported",
"The field is part of Envoy's API and this proxy does not implement it. Ignoring it would change what
is answered, or whom it is answered to, so the resource is refused. proxy/SUPPORTED_FIELDS.md lists
what is supported.";
    /// A field that is set and has no effect.
    NoEffect = 1201, "has no effect",
"The field is part of Envoy's API, this proxy does not implement it, and nothing wrong is answered
without it. The resource is used. `weir check --strict` makes it an error, `--allow W1201` silences it.";
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// It is none of [`Code::ALL`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownCode;

impl std::error::Error for UnknownCode {}

impl fmt::Display for UnknownCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no such code; `weir explain` lists them")
    }
}

impl FromStr for Code {
    type Err = UnknownCode;

    fn from_str(text: &str) -> Result<Self, UnknownCode> {
        let is_it = |code: &&Self| code.as_str().eq_ignore_ascii_case(text);
        Self::ALL.iter().find(is_it).copied().ok_or(UnknownCode)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_found_by_their_text() {
        for (place, code) in Code::ALL.iter().enumerate() {
            assert_eq!(code.as_str().parse(), Ok(*code));
            assert_eq!(code.as_str().to_lowercase().parse(), Ok(*code));
            let rest = Code::ALL.get(place + 1..).unwrap_or_default();
            assert!(rest.iter().all(|later| later.as_str() > code.as_str()));
        }
        assert_eq!("W9999".parse::<Code>(), Err(UnknownCode));
    }
}
