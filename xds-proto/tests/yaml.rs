//! YAML itself: anchors, merge keys, tags, documents, and the bounds on all of them.

mod common;

use std::fmt::Write as _;

use xds_proto::pb::envoy::config::bootstrap::v3::Bootstrap;
use xds_proto::pb::envoy::config::core::v3::Node;

use crate::common::bootstrap;
use crate::common::bootstrap_errors;
use crate::common::summary;

fn node(text: &str) -> Node {
    bootstrap(text).node.expect("a node")
}

/// The first mistake of a text.
fn check(text: &str, expected: &str) {
    let found = summary(&bootstrap_errors(text));
    assert_eq!(found.first().map(String::as_str), Some(expected));
}

#[test]
fn anchors_and_aliases() {
    let node = node("node: {id: &id same, cluster: *id}");
    assert_eq!((node.id.as_str(), node.cluster.as_str()), ("same", "same"));
}

#[test]
fn own_keys_win_over_merged_ones() {
    let text = "
x: &base !ignore {id: base, cluster: base}
y: &more !ignore {cluster: more, user_agent_name: more}
node:
  id: own
  <<: [*base, *more]
";
    let node = node(text);
    assert_eq!(
        (
            node.id.as_str(),
            node.cluster.as_str(),
            node.user_agent_name.as_str()
        ),
        ("own", "base", "more")
    );
}

#[test]
fn merging_something_else_is_a_mistake() {
    check(
        "node: {<<: 5}",
        "1:12 : `<<` merges a mapping or a list of mappings",
    );
    check(
        "node: {<<: [{id: a}, 5]}",
        "1:12 : `<<` merges a mapping or a list of mappings",
    );
    // Quoted it is a key like any other.
    let quoted = summary(&bootstrap_errors("node: {\"<<\": 5}"));
    assert!(
        quoted
            .first()
            .is_some_and(|error| error.starts_with("1:8 node.<<: unknown field `<<`")),
        "{quoted:?}"
    );
}

#[test]
fn ignored_members_are_dropped() {
    assert_eq!(
        bootstrap("anything: !ignore {a: [1, 2]}\nadmin: !ignore {}"),
        Bootstrap::default()
    );
}

#[test]
fn strings_may_be_blocks_or_tagged() {
    assert_eq!(node("node: {id: !!str 5}").id, "5");
    assert_eq!(
        node("node:\n  id: |\n    two\n    lines\n").id,
        "two\nlines\n"
    );
    assert_eq!(node("node:\n  id: >-\n    one\n    line\n").id, "one line");
    check(
        "node: {id: !secret 5}",
        "1:12 : tag `!secret` has no meaning here",
    );
}

#[test]
fn broken_files() {
    check("", "1:1 : expected a mapping, found nothing");
    check(
        "# only a comment\n",
        "1:1 : expected a mapping, found nothing",
    );
    check("- a", "1:1 : expected a mapping, found a list");
    check(
        "node: {}\n---\nnode: {}\n",
        "3:1 : more than one document in the file",
    );
    check("{? [a]: 1}", "1:4 : a key must be a scalar");
    check(
        "node: &a {metadata: {x: *a}}",
        "1:25 : alias to something that is still open",
    );
    assert!(
        summary(&bootstrap_errors("node: ["))
            .first()
            .is_some_and(|error| error.contains("not valid YAML"))
    );
    assert!(
        summary(&bootstrap_errors("node:\n\t- a"))
            .first()
            .is_some_and(|error| error.contains("not valid YAML"))
    );
}

#[test]
fn a_byte_order_mark_is_skipped() {
    assert_eq!(node("\u{feff}node: {id: a}").id, "a");
}

#[test]
fn laughs_are_counted() {
    let mut text = "a0: &a0 !ignore [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let below = level - 1;
        let aliases = vec![format!("*a{below}"); 10].join(", ");
        writeln!(text, "a{level}: &a{level} !ignore [{aliases}]").expect("a string takes it");
    }
    let errors = summary(&bootstrap_errors(&text));
    assert!(
        errors
            .first()
            .is_some_and(|error| error.contains("values, those of aliases included")),
        "{errors:?}"
    );
}

#[test]
fn aliased_bytes_are_counted() {
    let long = "x".repeat(1 << 20);
    let aliases = vec!["*a"; 40].join(", ");
    let errors = summary(&bootstrap_errors(&format!(
        "a: &a !ignore {long}\nb: !ignore [{aliases}]\n"
    )));
    assert!(
        errors
            .first()
            .is_some_and(|error| error.contains("aliases copy more than")),
        "{errors:?}"
    );
}

#[test]
fn depth_is_bounded() {
    let nested = |levels: usize| {
        format!(
            "node: {{metadata: {{a: {}{}}}}}",
            "[".repeat(levels),
            "]".repeat(levels)
        )
    };
    assert!(bootstrap_errors(&nested(25)).is_empty());
    for levels in [101, 200, 100_000] {
        assert_eq!(bootstrap_errors(&nested(levels)).len(), 1, "{levels}");
    }
    let mut blocks = String::new();
    for level in 0..2_000 {
        writeln!(blocks, "{}a:", " ".repeat(level)).expect("a string takes it");
    }
    assert_eq!(bootstrap_errors(&blocks).len(), 1);
}

#[test]
fn size_is_bounded() {
    let text = format!("# {}\n", "x".repeat(16 << 20));
    check(&text, "1:1 : file of 16777219 bytes, more than 16777216");
}

#[test]
fn long_lines_are_cut_around_the_mistake() {
    let padding = "x".repeat(5_000);
    let errors = bootstrap_errors(&format!(
        "{{\"node\": {{\"id\": \"{padding}\", \"idd\": 5}}}}"
    ));
    let error = errors.first().expect("a mistake");
    assert_eq!(error.origin.column, 5_021);
    let caret: String = error
        .snippet
        .text
        .chars()
        .skip(error.snippet.indent)
        .take(error.snippet.width)
        .collect();
    assert_eq!(caret, "\"idd\"");
}
