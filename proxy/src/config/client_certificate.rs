//! What the upstream is told of a client's certificate: `x-forwarded-client-cert`.

/// `forward_client_cert_details`. Without a client certificate every mode but `AlwaysForward` removes
/// the header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ForwardClientCertificate {
    /// What came goes on, whoever sent it.
    AlwaysForward,
    /// Ours is added behind what came.
    Append(Details),
    /// What came goes on.
    Forward,
    /// Nothing is told.
    #[default]
    Sanitize,
    /// Ours takes the place of what came.
    Set(Details),
}

/// `set_current_client_cert_details`: what our element says beside our own URIs and the
/// certificate's hash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Details {
    /// The certificate.
    pub certificate: bool,
    /// All certificates the client sent.
    pub chain: bool,
    /// The subject.
    pub subject: bool,
    /// The URIs.
    pub uri: bool,
    /// The DNS names.
    pub dns: bool,
    /// The issuer.
    pub issuer: bool,
    /// How it is written, unless it is added to something written the other way.
    pub format: Format,
}

/// How an element is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// An object in an array.
    Json,
    /// `Key=value;Key="value"`.
    #[default]
    Text,
}
