//! Header edits.

use http::HeaderName;

use super::list;
use super::map;
use crate::config::access_log::Command;
use crate::config::access_log::Template;
use crate::config::access_log::TemplatePart;
use crate::config::route::AppendAction;
use crate::config::route::HeaderAdd;
use crate::config::route::HeaderEdit;
use crate::http::headers::Program;
use crate::http::headers::Values;

struct Text(&'static str);

impl Values for Text {
    fn value(&self, _: &Command, out: &mut Vec<u8>) {
        out.extend_from_slice(self.0.as_bytes());
    }
}

#[track_caller]
fn check_edit(
    action: AppendAction,
    keep_empty_value: bool,
    parts: Vec<TemplatePart>,
    before: &[(&str, &str)],
    after: &[(&str, &str)],
) {
    let program = Program::new(&HeaderEdit {
        add: vec![HeaderAdd {
            name: HeaderName::from_static("x"),
            value: Template { parts },
            action,
            keep_empty_value,
        }],
        remove: vec![HeaderName::from_static("gone")],
    });
    let mut headers = map(before);
    program.apply(&mut headers, &Text("value"));
    assert_eq!(list(&headers), list(&map(after)));
}

#[test]
fn edits_follow_their_action() {
    let new = || vec![TemplatePart::Literal("new".into())];
    let (x, new_x) = (("x", "old"), ("x", "new"));
    check_edit(AppendAction::AddIfAbsent, false, new(), &[x], &[x]);
    check_edit(AppendAction::AddIfAbsent, false, new(), &[], &[new_x]);
    check_edit(
        AppendAction::AppendIfExistsOrAdd,
        false,
        new(),
        &[x],
        &[x, new_x],
    );
    check_edit(
        AppendAction::AppendIfExistsOrAdd,
        false,
        new(),
        &[],
        &[new_x],
    );
    check_edit(
        AppendAction::OverwriteIfExists,
        false,
        new(),
        &[x, x],
        &[new_x],
    );
    check_edit(AppendAction::OverwriteIfExists, false, new(), &[], &[]);
    check_edit(
        AppendAction::OverwriteIfExistsOrAdd,
        false,
        new(),
        &[],
        &[new_x],
    );
    check_edit(
        AppendAction::OverwriteIfExistsOrAdd,
        false,
        new(),
        &[("gone", "1")],
        &[new_x],
    );
}

#[test]
fn edits_resolve_templates() {
    let set = AppendAction::OverwriteIfExistsOrAdd;
    let template = || {
        vec![
            TemplatePart::Literal("<".into()),
            TemplatePart::Command(Command::Protocol, Some(3)),
            TemplatePart::Literal(">".into()),
        ]
    };
    check_edit(set, false, template(), &[], &[("x", "<val>")]);
    let empty = || vec![TemplatePart::Command(Command::Protocol, Some(0))];
    check_edit(set, false, empty(), &[], &[]);
    check_edit(set, true, empty(), &[], &[("x", "")]);
    let invalid = vec![
        TemplatePart::Literal("a\r\nb".into()),
        TemplatePart::Command(Command::Protocol, None),
    ];
    check_edit(set, true, invalid, &[], &[]);
}
