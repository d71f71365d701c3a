//! The shapes of a resource file: a `DiscoveryResponse`, a bare list, one resource.
//!
//! A resource may stand in a `envoy.service.discovery.v3.Resource` with its name, version and time to live; where it
//! has no `@type`, that of the response's `type_url` holds. No two resources of one type share a name.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use prost::Name;

use crate::Code;
use crate::Pool;
use crate::load::LoadedResource;
use crate::load::Origin;
use crate::load::ResourcesFile;
use crate::load::convert::Converter;
use crate::load::decode;
use crate::load::report::Report;
use crate::load::spans::Spans;
use crate::load::tree::Entry;
use crate::load::tree::Node;
use crate::load::tree::Tree;
use crate::name;
use crate::pb::envoy::service::discovery::v3::DiscoveryResponse;
use crate::pb::envoy::service::discovery::v3::Resource;
use crate::pb::google::protobuf::Any;
use crate::type_url;

const TYPE: &str = "@type";
const RESOURCES: &str = "resources";

/// Reads the tree of a file. What it returns is whole only when the report is clean.
pub(super) fn read(pool: &Pool, root: &Node, report: &mut Report<'_>) -> Option<ResourcesFile> {
    match &root.value {
        Tree::Mapping(entries)
            if find(entries, RESOURCES).is_none() && find(entries, TYPE).is_some() =>
        {
            let mut reader = Reader::new(pool, report, String::new());
            reader.add(root, String::new());
            Some(ResourcesFile {
                version_info: String::new(),
                resources: reader.resources,
            })
        }
        Tree::Mapping(entries) => response(pool, root, entries, report),
        Tree::Sequence(items) => {
            let mut reader = Reader::new(pool, report, String::new());
            reader.add_all(items, "");
            Some(ResourcesFile {
                version_info: String::new(),
                resources: reader.resources,
            })
        }
        Tree::Scalar(_) => {
            let message = format!(
                "expected a mapping with `resources`, found {}",
                root.describe()
            );
            report.push(Code::FileForm, root.mark, String::new(), message, None);
            None
        }
    }
}

fn response(
    pool: &Pool,
    root: &Node,
    entries: &[Entry],
    report: &mut Report<'_>,
) -> Option<ResourcesFile> {
    let id = pool.message(&DiscoveryResponse::full_name())?;
    // All but the resources: those are converted one by one, each with places of its own.
    let head: Vec<_> = entries
        .iter()
        .filter(|entry| &*entry.key != TYPE)
        .cloned()
        .collect();
    let spans = Spans::new(Arc::clone(report.file()), String::new(), root.mark);
    let mut converter = Converter::new(pool, report, spans);
    let bytes = converter.object(id, &head, Spans::ROOT, Some(RESOURCES));
    let head: DiscoveryResponse = decode(&bytes, root.mark, report).unwrap_or_default();

    let mut reader = Reader::new(pool, report, head.type_url);
    match find(entries, RESOURCES).map(|entry| (&entry.value, &entry.value.value)) {
        Some((_, Tree::Sequence(items))) => reader.add_all(items, RESOURCES),
        Some((node, Tree::Mapping(_) | Tree::Scalar(_))) if !node.is_null() => {
            let message = format!("expected a list, found {}", node.describe());
            reader.report.push(
                Code::FileForm,
                node.mark,
                RESOURCES.to_owned(),
                message,
                None,
            );
        }
        Some(_) | None => {}
    }
    Some(ResourcesFile {
        version_info: head.version_info,
        resources: reader.resources,
    })
}

fn find<'n>(entries: &'n [Entry], key: &str) -> Option<&'n Entry> {
    entries.iter().find(|entry| &*entry.key == key)
}

struct Reader<'c, 't> {
    pool: &'c Pool,
    report: &'c mut Report<'t>,
    /// For resources that name no type themselves.
    default_url: String,
    resources: Vec<LoadedResource>,
    seen: HashSet<(String, String)>,
}

/// What may stand around a resource.
#[derive(Default)]
struct Wrapper {
    name: String,
    version: String,
    ttl: Option<Duration>,
}

impl<'c, 't> Reader<'c, 't> {
    fn new(pool: &'c Pool, report: &'c mut Report<'t>, default_url: String) -> Self {
        Self {
            pool,
            report,
            default_url,
            resources: Vec::new(),
            seen: HashSet::new(),
        }
    }

    fn add_all(&mut self, items: &[Node], prefix: &str) {
        for (index, item) in items.iter().enumerate() {
            if self.report.is_full() {
                return;
            }
            self.add(item, format!("{prefix}[{index}]"));
        }
    }

    fn add(&mut self, node: &Node, path: String) {
        let Tree::Mapping(entries) = &node.value else {
            let message = format!("expected a resource, found {}", node.describe());
            self.report
                .push(Code::FileForm, node.mark, path, message, None);
            return;
        };
        let url = find(entries, TYPE).and_then(|entry| match &entry.value.value {
            Tree::Scalar(scalar) => Some(&*scalar.text),
            Tree::Mapping(_) | Tree::Sequence(_) => None,
        });
        if url.is_some_and(|url| type_url::message_name(url) == Resource::full_name()) {
            self.wrapped(node, entries, path);
        } else {
            self.bare(node, node, path, Wrapper::default());
        }
    }

    fn wrapped(&mut self, node: &Node, entries: &[Entry], path: String) {
        const RESOURCE: &str = "resource";
        let Some(id) = self.pool.message(&Resource::full_name()) else {
            return;
        };
        let head: Vec<_> = entries
            .iter()
            .filter(|entry| &*entry.key != TYPE)
            .cloned()
            .collect();
        let spans = Spans::new(Arc::clone(self.report.file()), path.clone(), node.mark);
        let mut converter = Converter::new(self.pool, self.report, spans);
        let bytes = converter.object(id, &head, Spans::ROOT, Some(RESOURCE));
        let Some(inner) = find(entries, RESOURCE) else {
            converter.error(
                Code::Required,
                Spans::ROOT,
                node.mark,
                "`resource` is missing".to_owned(),
                None,
            );
            return;
        };
        // A mistake elsewhere must not hide those of the resource, so the wrapper's own are looked at leniently.
        let head: Resource = decode(&bytes, node.mark, self.report).unwrap_or_default();
        let ttl = head.ttl.and_then(|ttl| {
            Duration::try_from(prost_types::Duration {
                seconds: ttl.seconds,
                nanos: ttl.nanos,
            })
            .ok()
        });
        let wrapper = Wrapper {
            name: head.name,
            version: head.version,
            ttl,
        };
        self.bare(node, &inner.value, format!("{path}.{RESOURCE}"), wrapper);
    }

    fn bare(&mut self, outer: &Node, node: &Node, path: String, wrapper: Wrapper) {
        let spans = Spans::new(Arc::clone(self.report.file()), path.clone(), node.mark);
        let mut converter = Converter::new(self.pool, self.report, spans);
        let default_url = Some(self.default_url.as_str()).filter(|url| !url.is_empty());
        let Some(any) = converter.open_any(node, Spans::ROOT, default_url) else {
            return;
        };
        let spans = converter.into_spans();
        let Some(name) = self.name(&any, node, &path, wrapper.name) else {
            return;
        };
        let origin = Origin {
            file: Arc::clone(self.report.file()),
            line: outer.mark.line,
            column: outer.mark.column,
        };
        self.resources.push(LoadedResource {
            any,
            name,
            version: wrapper.version,
            ttl: wrapper.ttl,
            origin,
            spans,
        });
    }

    /// The resource's name, the wrapper's where it gives one; nothing for a name already taken.
    fn name(&mut self, any: &Any, node: &Node, path: &str, outer: String) -> Option<String> {
        let own = match name::resource_name(any) {
            Ok(own) => own,
            Err(error) => {
                self.report.push(
                    Code::Value,
                    node.mark,
                    path.to_owned(),
                    error.to_string(),
                    None,
                );
                return None;
            }
        };
        let name = if outer.is_empty() { own } else { outer };
        if !name.is_empty() && !self.seen.insert((any.type_url.clone(), name.clone())) {
            let message = format!(
                "a second {} named `{name}`",
                type_url::message_name(&any.type_url)
            );
            self.report
                .push(Code::Duplicate, node.mark, path.to_owned(), message, None);
            return None;
        }
        Some(name)
    }
}
