//! What a mistake in a file looks like: a place, a path, a sentence, and the line itself.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use crate::Code;

/// A place in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The file as the caller named it.
    pub file: Arc<Path>,
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file.display(), self.line, self.column)
    }
}

/// The source line an error points into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snippet {
    /// The line, cut where it is very long, tabs and control characters as spaces.
    pub text: String,
    /// Characters before the caret.
    pub indent: usize,
    /// Length of the caret, at least 1.
    pub width: usize,
}

/// One mistake in a file.
///
/// Displays as a compiler would:
///
/// ```text
/// error[W1007]: unknown field `prefxi`, did you mean `prefix`?
///   --> routes.yaml:14:11
///    |
/// 14 |         - prefxi: /
///    |           ^^^^^^
///    = at: resources[0].virtual_hosts[0].routes[0].match.prefxi
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadError {
    /// What kind of mistake it is.
    pub code: Code,
    /// Where it is.
    pub origin: Origin,
    /// Path of the field such as `resources[0].virtual_hosts[1].name`, empty where the file is no YAML.
    pub field: String,
    /// What is wrong, lower case, without a full stop.
    pub message: String,
    /// What to write instead.
    pub suggestion: Option<String>,
    /// The line it is on.
    pub snippet: Snippet,
}

impl std::error::Error for LoadError {}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let gutter = self.origin.line.to_string().len();
        write!(f, "error[{}]: {}", self.code, self.message)?;
        write!(f, "\n{:gutter$}--> {}", "", self.origin)?;
        write!(f, "\n{:gutter$} |", "")?;
        write!(f, "\n{} | {}", self.origin.line, self.snippet.text)?;
        write!(
            f,
            "\n{:gutter$} | {:indent$}{:^<width$}",
            "",
            "",
            "",
            indent = self.snippet.indent,
            width = self.snippet.width
        )?;
        if !self.field.is_empty() {
            write!(f, "\n{:gutter$} = at: {}", "", self.field)?;
        }
        if let Some(suggestion) = &self.suggestion {
            write!(f, "\n{:gutter$} = help: {suggestion}", "")?;
        }
        Ok(())
    }
}
