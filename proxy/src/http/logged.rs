//! Which headers the configured access logs name: only those are kept until the end of an exchange.

use http::HeaderName;

use crate::config::access_log::AccessLog;
use crate::config::access_log::Command;
use crate::config::access_log::Format;
use crate::config::access_log::JsonValue;
use crate::config::access_log::Template;
use crate::config::access_log::TemplatePart;

/// Headers that log formats name.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct LoggedHeaders {
    /// Of requests.
    pub request: Vec<HeaderName>,
    /// Of responses.
    pub response: Vec<HeaderName>,
    /// Of response trailers.
    pub trailers: Vec<HeaderName>,
}

impl LoggedHeaders {
    /// Those all of `logs` need.
    pub fn new(logs: &[AccessLog]) -> Self {
        let mut logged = Self::default();
        for log in logs {
            match &log.format {
                Format::Json { fields, .. } => {
                    fields.iter().for_each(|(_, value)| logged.visit(value));
                }
                Format::Text(template) => logged.visit_template(template),
            }
        }
        logged
    }

    fn visit(&mut self, value: &JsonValue) {
        match value {
            JsonValue::Bool(_) | JsonValue::Null | JsonValue::Number(_) => {}
            JsonValue::Object(fields) => fields.iter().for_each(|(_, value)| self.visit(value)),
            JsonValue::Template(template) => self.visit_template(template),
        }
    }

    fn visit_template(&mut self, template: &Template) {
        for part in &template.parts {
            let TemplatePart::Command(command, _) = part else {
                continue;
            };
            let (list, name, alternative) = match command {
                Command::Req { name, alternative } => (&mut self.request, name, alternative),
                Command::Resp { name, alternative } => (&mut self.response, name, alternative),
                Command::Trailer { name, alternative } => (&mut self.trailers, name, alternative),
                _ => continue,
            };
            for name in [Some(name), alternative.as_ref()].into_iter().flatten() {
                // Pseudo headers are no header names; the exchange keeps those anyway.
                if let Ok(name) = HeaderName::try_from(&**name)
                    && !list.contains(&name)
                {
                    list.push(name);
                }
            }
        }
    }
}
