//! Configuration templates: `{{name}}` placeholders and one kind of repetition.
//!
//! A block between a line holding only `{{repeat NAME}}` and one holding only `{{end}}` is written
//! NAME times, with `{{i}}` counting from 0. Blocks do not nest.

/// Why a template cannot be filled.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
pub enum TemplateError {
    /// A placeholder nobody gave a value for.
    #[error("the template wants a value for {0:?}")]
    Unknown(String),
    /// A repetition without a number or an end.
    #[error("the repetition of {0:?} has no number or no end")]
    Repeat(String),
}

/// Fills `template` with `values`.
///
/// # Errors
/// When a placeholder has no value or a block is broken.
pub fn render(template: &str, values: &[(&str, String)]) -> Result<String, TemplateError> {
    let mut filled = String::with_capacity(template.len());
    let mut lines = template.lines();
    while let Some(line) = lines.next() {
        let Some(name) = directive(line).and_then(|inner| inner.strip_prefix("repeat ")) else {
            fill(line, values, &mut filled)?;
            continue;
        };
        let broken = || TemplateError::Repeat(name.to_owned());
        let count: usize = value(name, values)?.parse().map_err(|_| broken())?;
        let block: Vec<&str> = lines
            .by_ref()
            .take_while(|line| directive(line) != Some("end"))
            .collect();
        for at in 0..count {
            let mut inner = values.to_vec();
            inner.push(("i", at.to_string()));
            for line in &block {
                fill(line, &inner, &mut filled)?;
            }
        }
    }
    Ok(filled)
}

fn directive(line: &str) -> Option<&str> {
    line.trim().strip_prefix("{{")?.strip_suffix("}}")
}

fn value<'a>(name: &str, values: &'a [(&str, String)]) -> Result<&'a str, TemplateError> {
    values
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, value)| value.as_str())
        .ok_or_else(|| TemplateError::Unknown(name.to_owned()))
}

fn fill(line: &str, values: &[(&str, String)], filled: &mut String) -> Result<(), TemplateError> {
    let mut rest = line;
    while let Some((before, after)) = rest.split_once("{{") {
        let Some((name, after)) = after.split_once("}}") else {
            return Err(TemplateError::Unknown(after.to_owned()));
        };
        filled.push_str(before);
        filled.push_str(value(name, values)?);
        rest = after;
    }
    filled.push_str(rest);
    filled.push('\n');
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{TemplateError, render};

    #[test]
    fn placeholders_and_repetitions_are_filled() {
        let values = [("port", "80".to_owned()), ("n", "2".to_owned())];
        let template =
            "listen {{port}}; # {{port}}\n  {{repeat n}}\nhost {{i}}:{{port}}\n  {{end}}\nend";
        let filled = render(template, &values).expect("all values are there");
        assert_eq!(filled, "listen 80; # 80\nhost 0:80\nhost 1:80\nend\n");
    }

    #[test]
    fn a_missing_value_and_a_bad_count_are_errors() {
        let unknown = render("{{port}}", &[]);
        assert_eq!(unknown, Err(TemplateError::Unknown("port".to_owned())));
        let bad = render("{{repeat n}}\n{{end}}", &[("n", "many".to_owned())]);
        assert_eq!(bad, Err(TemplateError::Repeat("n".to_owned())));
    }
}
