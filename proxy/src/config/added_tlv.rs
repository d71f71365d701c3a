//! TLVs that are added to PROXY protocol headers (`core.v3.TlvEntry`).

use crate::config::access_log::Template;

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddedTlv {
    /// Its type.
    pub kind: u8,
    /// What it says.
    pub value: TlvValue,
}

/// What a TLV says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TlvValue {
    /// Always the same.
    Bytes(Box<[u8]>),
    /// What the template gives; a command without a value gives `-`.
    Template(Template),
}

/// What becomes of TLVs that came with the client (`ProxyProtocolTlvMergePolicy`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlvMerge {
    /// Nothing is added if the client came with a header.
    #[default]
    AddIfAbsent,
    /// They stay, and those that are added come after them.
    Append,
    /// Those of a type that is added go.
    Overwrite,
}
