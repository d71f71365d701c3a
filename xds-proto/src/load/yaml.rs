//! From text to tree. JSON is read as the YAML it is.
//!
//! Bounded: size of the text, depth, nodes, and what aliases copy (a small text must not become a large tree).
//! Repeated keys, keys that are no scalars, and second documents are mistakes; a mapping under `!ignore` is dropped,
//! as Envoy does with anchors kept aside; `<<` merges. A broken syntax ends the reading, since nothing
//! after it can be trusted; the other mistakes do not.

use std::collections::HashMap;
use std::collections::HashSet;
use std::sync::Arc;

use saphyr_parser::Event;
use saphyr_parser::Parser;
use saphyr_parser::ScalarStyle;
use saphyr_parser::ScanError;
use saphyr_parser::Span;
use saphyr_parser::StrInput;
use saphyr_parser::Tag;

use crate::Code;
use crate::load::report::Report;
use crate::load::tree::Entry;
use crate::load::tree::Mark;
use crate::load::tree::Node;
use crate::load::tree::Scalar;
use crate::load::tree::Tree;

/// 100,000 endpoints are about 10 MB.
const TEXT_BYTES_MAX: usize = 16 << 20;

/// The deepest real configuration, nested matchers, stays under 50; prost refuses messages deeper than 100.
const DEPTH_MAX: usize = 100;

/// 100,000 endpoints are about 600,000 nodes. A node with its key and its place takes about 300 bytes (see the
/// README), so a hostile file costs some 300 MB while it is read.
const NODES_MAX: usize = 1_000_000;

/// What aliases may copy in all, so that a file grows at most to about twice what it may be.
const ALIAS_BYTES_MAX: usize = TEXT_BYTES_MAX;

type Events<'a> = Parser<'a, StrInput<'a>>;

/// Reading went no further; the reason is in the report.
#[derive(Debug)]
pub(crate) struct Stopped;

/// Reads a text; mistakes go to the report.
pub(crate) fn parse(text: &str, report: &mut Report<'_>) -> Result<Node, Stopped> {
    if text.len() > TEXT_BYTES_MAX {
        let message = format!("file of {} bytes, more than {TEXT_BYTES_MAX}", text.len());
        report.push(Code::Limit, Mark::START, String::new(), message, None);
        return Err(Stopped);
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut builder = Builder {
        events: Parser::new_from_str(text),
        report,
        anchors: HashMap::new(),
        spent: Weight::default(),
    };
    builder.document()
}

/// What a subtree costs to copy.
#[derive(Clone, Copy, Default)]
struct Weight {
    nodes: usize,
    bytes: usize,
}

struct Builder<'a, 'r, 't> {
    events: Events<'a>,
    report: &'r mut Report<'t>,
    anchors: HashMap<usize, Node>,
    /// All nodes made, and the bytes of those made by copying.
    spent: Weight,
}

/// A node, or the news that it asked to be left out.
enum Built {
    Ignored,
    Kept(Node),
}

impl<'a> Builder<'a, '_, '_> {
    fn document(&mut self) -> Result<Node, Stopped> {
        let mut root = None;
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::StreamEnd => break,
                Event::StreamStart
                | Event::DocumentStart(_)
                | Event::DocumentEnd
                | Event::Nothing => {}
                event if root.is_none() => root = Some(self.node(event, span, 0)?),
                _ => {
                    return self.stop(
                        Code::Syntax,
                        mark(span),
                        "more than one document in the file",
                    );
                }
            }
        }
        match root {
            Some(Built::Kept(node)) => Ok(node),
            Some(Built::Ignored) | None => Ok(Node::plain("", Mark::START)),
        }
    }

    fn next(&mut self) -> Result<(Event<'a>, Span), Stopped> {
        match self.events.next_event() {
            Some(Ok(event)) => Ok(event),
            Some(Err(error)) => self.syntax(&error),
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    fn node(&mut self, event: Event<'a>, span: Span, depth: usize) -> Result<Built, Stopped> {
        if depth > DEPTH_MAX {
            return self.stop(
                Code::Limit,
                mark(span),
                &format!("nested deeper than {DEPTH_MAX} levels"),
            );
        }
        self.spend(Weight { nodes: 1, bytes: 0 }, mark(span))?;
        let (node, anchor, tag) = match event {
            Event::Alias(anchor) => (self.alias(anchor, span, depth)?, 0, None),
            Event::Scalar(text, style, anchor, tag) => {
                (self.scalar(&text, style, tag.as_deref(), span), anchor, tag)
            }
            Event::SequenceStart(anchor, tag) => (self.sequence(span, depth)?, anchor, tag),
            Event::MappingStart(anchor, tag) => (self.mapping(span, depth)?, anchor, tag),
            _ => return self.stop(Code::Syntax, mark(span), "unexpected end of the document"),
        };
        if anchor != 0 {
            self.spend(weigh(&node), node.mark)?;
            self.anchors.insert(anchor, node.clone());
        }
        if tag.is_some_and(|tag| is_ignore(&tag)) {
            Ok(Built::Ignored)
        } else {
            Ok(Built::Kept(node))
        }
    }

    fn alias(&mut self, anchor: usize, span: Span, depth: usize) -> Result<Node, Stopped> {
        let Some(node) = self.anchors.get(&anchor) else {
            return self.stop(
                Code::Syntax,
                mark(span),
                "alias to something that is still open",
            );
        };
        let (weight, deepest) = (weigh(node), depth_of(node));
        if depth.saturating_add(deepest) > DEPTH_MAX {
            return self.stop(
                Code::Limit,
                mark(span),
                &format!("aliases nest deeper than {DEPTH_MAX} levels"),
            );
        }
        let copy = node.clone();
        self.spend(weight, mark(span))?;
        Ok(copy)
    }

    fn scalar(&mut self, text: &str, style: ScalarStyle, tag: Option<&Tag>, span: Span) -> Node {
        let mark = mark(span);
        let plain = style == ScalarStyle::Plain && !tag.is_some_and(is_string);
        if let Some(tag) = tag.filter(|tag| !is_known(tag)) {
            let message = format!("tag `{tag}` has no meaning here");
            self.report
                .push(Code::Syntax, mark, String::new(), message, None);
        }
        Node {
            mark,
            value: Tree::Scalar(Scalar {
                text: Arc::from(text),
                plain,
            }),
        }
    }

    fn sequence(&mut self, span: Span, depth: usize) -> Result<Node, Stopped> {
        let mut items = Vec::new();
        loop {
            let (event, item) = self.next()?;
            if matches!(event, Event::SequenceEnd) {
                return Ok(Node {
                    mark: point(span),
                    value: Tree::Sequence(items),
                });
            }
            if let Built::Kept(node) = self.node(event, item, depth + 1)? {
                items.push(node);
            }
        }
    }

    fn mapping(&mut self, span: Span, depth: usize) -> Result<Node, Stopped> {
        let mut members = Members::default();
        loop {
            let (event, place) = self.next()?;
            if matches!(event, Event::MappingEnd) {
                break;
            }
            let Some((key, plain, key_mark)) = self.key(event, place, depth)? else {
                continue;
            };
            let (event, place) = self.next()?;
            let Built::Kept(value) = self.node(event, place, depth + 1)? else {
                continue;
            };
            if plain && &*key == "<<" {
                self.merge(value, &mut members);
            } else if members.seen.insert(Arc::clone(&key)) {
                members.entries.push(Entry {
                    key,
                    mark: key_mark,
                    value,
                });
            } else {
                let message = format!("key `{key}` appears twice in this mapping");
                self.report
                    .push(Code::SetTwice, key_mark, String::new(), message, None);
            }
        }
        self.spend(
            Weight {
                nodes: members.merged.len(),
                bytes: 0,
            },
            mark(span),
        )?;
        Ok(Node {
            mark: point(span),
            value: Tree::Mapping(members.finish()),
        })
    }

    /// The key of a member; where it is no scalar, that is reported and the member skipped.
    fn key(
        &mut self,
        event: Event<'a>,
        span: Span,
        depth: usize,
    ) -> Result<Option<(Arc<str>, bool, Mark)>, Stopped> {
        let Built::Kept(node) = self.node(event, span, depth + 1)? else {
            return self.stop(
                Code::Syntax,
                mark(span),
                "`!ignore` stands at a value, not at a key",
            );
        };
        if let Tree::Scalar(scalar) = node.value {
            return Ok(Some((scalar.text, scalar.plain, node.mark)));
        }
        self.report.push(
            Code::Syntax,
            node.mark,
            String::new(),
            "a key must be a scalar".to_owned(),
            None,
        );
        let (event, span) = self.next()?;
        self.node(event, span, depth + 1)?;
        Ok(None)
    }

    fn merge(&mut self, value: Node, members: &mut Members) {
        match value.value {
            Tree::Mapping(entries) => members.merged.extend(entries),
            Tree::Sequence(items)
                if items
                    .iter()
                    .all(|item| matches!(item.value, Tree::Mapping(_))) =>
            {
                for item in items {
                    self.merge(item, members);
                }
            }
            Tree::Scalar(_) | Tree::Sequence(_) => {
                let message = "`<<` merges a mapping or a list of mappings".to_owned();
                self.report
                    .push(Code::Syntax, value.mark, String::new(), message, None);
            }
        }
    }

    fn spend(&mut self, weight: Weight, mark: Mark) -> Result<(), Stopped> {
        self.spent.nodes = self.spent.nodes.saturating_add(weight.nodes);
        self.spent.bytes = self.spent.bytes.saturating_add(weight.bytes);
        if self.spent.nodes > NODES_MAX {
            return self.stop(
                Code::Limit,
                mark,
                &format!("more than {NODES_MAX} values, those of aliases included"),
            );
        }
        if self.spent.bytes > ALIAS_BYTES_MAX {
            return self.stop(
                Code::Limit,
                mark,
                &format!("aliases copy more than {ALIAS_BYTES_MAX} bytes"),
            );
        }
        Ok(())
    }

    fn stop<T>(&mut self, code: Code, mark: Mark, message: &str) -> Result<T, Stopped> {
        self.report
            .push(code, mark, String::new(), message.to_owned(), None);
        Err(Stopped)
    }

    fn syntax<T>(&mut self, error: &ScanError) -> Result<T, Stopped> {
        let mark = point(Span::empty(*error.marker()));
        self.stop(
            Code::Syntax,
            mark,
            &format!("not valid YAML: {}", error.info()),
        )
    }
}

/// Members of a mapping under construction: own ones win over merged ones, earlier merged ones over later.
#[derive(Default)]
struct Members {
    entries: Vec<Entry>,
    merged: Vec<Entry>,
    seen: HashSet<Arc<str>>,
}

impl Members {
    fn finish(mut self) -> Vec<Entry> {
        for entry in self.merged {
            if self.seen.insert(Arc::clone(&entry.key)) {
                self.entries.push(entry);
            }
        }
        // Most mappings have one or two members, and a tree has very many mappings.
        self.entries.shrink_to_fit();
        self.entries
    }
}

/// What Envoy's reader drops.
fn is_ignore(tag: &Tag) -> bool {
    tag.handle == "!" && tag.suffix == "ignore"
}

/// `!!str` and the bare `!` make text of a plain scalar.
fn is_string(tag: &Tag) -> bool {
    (tag.is_yaml_core_schema() && tag.suffix == "str")
        || (tag.handle.is_empty() && tag.suffix == "!")
}

/// The other tags of the core schema say what the field says anyway.
fn is_known(tag: &Tag) -> bool {
    let core = matches!(
        tag.suffix.as_str(),
        "bool" | "float" | "int" | "map" | "null" | "seq" | "str"
    );
    is_ignore(tag) || is_string(tag) || (tag.is_yaml_core_schema() && core)
}

fn weigh(node: &Node) -> Weight {
    let mut weight = Weight { nodes: 1, bytes: 0 };
    let mut add = |more: Weight| {
        weight.nodes += more.nodes;
        weight.bytes += more.bytes;
    };
    match &node.value {
        Tree::Mapping(entries) => {
            for entry in entries {
                add(Weight {
                    nodes: 0,
                    bytes: entry.key.len(),
                });
                add(weigh(&entry.value));
            }
        }
        Tree::Scalar(scalar) => add(Weight {
            nodes: 0,
            bytes: scalar.text.len(),
        }),
        Tree::Sequence(items) => items.iter().for_each(|item| add(weigh(item))),
    }
    weight
}

fn depth_of(node: &Node) -> usize {
    let below = match &node.value {
        Tree::Mapping(entries) => entries.iter().map(|entry| depth_of(&entry.value)).max(),
        Tree::Scalar(_) => None,
        Tree::Sequence(items) => items.iter().map(depth_of).max(),
    };
    below.map_or(0, |below| below + 1)
}

/// Where something on one line stands.
fn mark(span: Span) -> Mark {
    let one_line = span.start.line() == span.end.line();
    let width = if one_line {
        span.end.col().saturating_sub(span.start.col())
    } else {
        1
    };
    Mark {
        width: bounded(width.max(1)),
        ..point(span)
    }
}

/// Where something begins.
fn point(span: Span) -> Mark {
    Mark {
        line: bounded(span.start.line().max(1)),
        column: bounded(span.start.col().saturating_add(1)),
        width: 1,
    }
}

fn bounded(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
