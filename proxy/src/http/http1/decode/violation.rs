//! What can be wrong with a message and how it is answered.
//!
//! It writes no answer.

use http::StatusCode;

/// A message that is not passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Violation {
    /// What is wrong.
    pub kind: ViolationKind,
    /// Index of the byte, in what was passed.
    pub at: usize,
    /// It is in a head, so there is no request yet that could be answered.
    pub in_head: bool,
}

impl Violation {
    /// The status of the answer.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.kind.status()
    }

    /// Envoy's response code detail.
    #[must_use]
    pub fn details(&self) -> &'static str {
        self.kind.details()
    }
}

/// The kinds of [`Violation`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ViolationKind {
    /// CR without LF.
    BareCr,
    /// LF without CR.
    BareLf,
    /// CONNECT with content.
    BodyDisallowed,
    /// More than one `Host`.
    DuplicateHost,
    /// Chunk extensions beyond their budget.
    ExtensionsTooLarge,
    /// More or other space between the parts of a request line.
    ExtraSpace,
    /// `#` in a target.
    Fragment,
    /// A head, or a trailer section, beyond its limit.
    HeadTooLarge,
    /// A chunk size, extension or end that is none.
    InvalidChunk,
    /// `Content-Length` that is no number, too big, or differs from an earlier one.
    InvalidContentLength,
    /// `Host` with a byte no host has.
    InvalidHost,
    /// A method that is no token.
    InvalidMethod,
    /// A field name that is no token, or empty.
    InvalidName,
    /// Not `HTTP/1.0` or `HTTP/1.1` with three digits; only of responses.
    InvalidStatusLine,
    /// A byte no target has.
    InvalidTarget,
    /// Anything but one `chunked` on HTTP/1.1.
    InvalidTransferEncoding,
    /// A control byte in a value.
    InvalidValue,
    /// Not `HTTP/` digit `.` digit.
    InvalidVersion,
    /// No `Host` on HTTP/1.1.
    MissingHost,
    /// A zero byte.
    Nul,
    /// A field line that begins with white space.
    ObsFold,
    /// White space in or after a field name.
    SpaceInName,
    /// Bytes where no response is due; only of responses.
    Surplus,
    /// A head whose limit is reached inside its target.
    TargetTooLong,
    /// Too many fields.
    TooManyFields,
    /// `Content-Length` and `Transfer-Encoding` in one message.
    TwoFramings,
    /// A version other than 1.0 and 1.1.
    UnsupportedVersion,
}

impl ViolationKind {
    /// The name of `byte` if it is wrong everywhere, else `otherwise`.
    pub(super) fn of(byte: u8, otherwise: Self) -> Self {
        match byte {
            0 => Self::Nul,
            b'\n' => Self::BareLf,
            b'\r' => Self::BareCr,
            _ => otherwise,
        }
    }

    /// The status of the answer to a request that has it; a response that has it is a 502.
    #[must_use]
    pub fn status(self) -> StatusCode {
        match self {
            Self::HeadTooLarge | Self::TooManyFields => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::TargetTooLong => StatusCode::URI_TOO_LONG,
            Self::UnsupportedVersion => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            Self::BareCr
            | Self::BareLf
            | Self::BodyDisallowed
            | Self::DuplicateHost
            | Self::ExtensionsTooLarge
            | Self::ExtraSpace
            | Self::Fragment
            | Self::InvalidChunk
            | Self::InvalidContentLength
            | Self::InvalidHost
            | Self::InvalidMethod
            | Self::InvalidName
            | Self::InvalidStatusLine
            | Self::InvalidTarget
            | Self::InvalidTransferEncoding
            | Self::InvalidValue
            | Self::InvalidVersion
            | Self::MissingHost
            | Self::Nul
            | Self::ObsFold
            | Self::SpaceInName
            | Self::Surplus
            | Self::TwoFramings => StatusCode::BAD_REQUEST,
        }
    }

    /// Envoy's response code detail where it has one.
    #[must_use]
    pub fn details(self) -> &'static str {
        match self {
            Self::BodyDisallowed => "http1.body_disallowed",
            Self::DuplicateHost | Self::InvalidHost => "http.invalid_authority",
            Self::Fragment => "path_normalization_failed",
            Self::HeadTooLarge | Self::TargetTooLong => "http1.headers_too_large",
            Self::InvalidTarget => "http1.invalid_url",
            Self::InvalidTransferEncoding => "http1.invalid_transfer_encoding",
            Self::InvalidValue => "http1.invalid_characters",
            Self::MissingHost => "missing_host_header",
            Self::TooManyFields => "http1.too_many_headers",
            Self::TwoFramings => "http1.content_length_and_chunked_not_allowed",
            Self::BareCr
            | Self::BareLf
            | Self::ExtensionsTooLarge
            | Self::ExtraSpace
            | Self::InvalidChunk
            | Self::InvalidContentLength
            | Self::InvalidMethod
            | Self::InvalidName
            | Self::InvalidStatusLine
            | Self::InvalidVersion
            | Self::Nul
            | Self::ObsFold
            | Self::SpaceInName
            | Self::Surplus
            | Self::UnsupportedVersion => "http1.codec_error",
        }
    }
}
