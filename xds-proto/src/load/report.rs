//! Collects the mistakes of one file.

use std::path::Path;
use std::sync::Arc;

use crate::Code;
use crate::load::LoadError;
use crate::load::Origin;
use crate::load::Snippet;
use crate::load::tree::Mark;

/// Past this many, mistakes have one cause and reading them helps nobody.
const ERRORS_MAX: usize = 50;

/// Lines longer than this, as in JSON on one line, are cut around the place.
const LINE_CHARACTERS_MAX: usize = 120;

/// The mistakes so far.
#[derive(Debug)]
pub(crate) struct Report<'t> {
    file: Arc<Path>,
    text: &'t str,
    errors: Vec<LoadError>,
}

impl<'t> Report<'t> {
    pub(crate) fn new(file: Arc<Path>, text: &'t str) -> Self {
        Self {
            file,
            text,
            errors: Vec::new(),
        }
    }

    pub(crate) fn file(&self) -> &Arc<Path> {
        &self.file
    }

    /// Whether more mistakes would be dropped.
    pub(crate) fn is_full(&self) -> bool {
        self.errors.len() >= ERRORS_MAX
    }

    pub(crate) fn is_clean(&self) -> bool {
        self.errors.is_empty()
    }

    pub(crate) fn push(
        &mut self,
        code: Code,
        mark: Mark,
        field: String,
        message: String,
        suggestion: Option<String>,
    ) {
        if self.is_full() {
            return;
        }
        let origin = Origin {
            file: Arc::clone(&self.file),
            line: mark.line,
            column: mark.column,
        };
        let snippet = snippet(self.text, mark);
        self.errors.push(LoadError {
            code,
            origin,
            field,
            message,
            suggestion,
            snippet,
        });
    }

    /// All mistakes in the order of the text.
    pub(crate) fn into_errors(mut self) -> Vec<LoadError> {
        self.errors
            .sort_by_key(|error| (error.origin.line, error.origin.column));
        self.errors
    }
}

fn snippet(text: &str, mark: Mark) -> Snippet {
    let line_index = usize::try_from(mark.line.saturating_sub(1)).unwrap_or(usize::MAX);
    let column = usize::try_from(mark.column.saturating_sub(1)).unwrap_or(usize::MAX);
    let width = usize::try_from(mark.width).unwrap_or(1);
    let line = text
        .lines()
        .nth(line_index)
        .unwrap_or_default()
        .trim_start_matches('\u{feff}');
    // A third before the place, the rest for it and what follows.
    let long = line.chars().nth(LINE_CHARACTERS_MAX).is_some();
    let start = if long {
        column.saturating_sub(LINE_CHARACTERS_MAX / 3)
    } else {
        0
    };
    let visible = |character: char| {
        if character.is_control() {
            ' '
        } else {
            character
        }
    };
    let shown: String = line
        .chars()
        .skip(start)
        .take(LINE_CHARACTERS_MAX)
        .map(visible)
        .collect();
    let length = shown.chars().count();
    let indent = (column - start).min(length);
    Snippet {
        text: shown.trim_end().to_owned(),
        indent,
        width: width.clamp(1, (length - indent).max(1)),
    }
}
