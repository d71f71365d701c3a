//! Where each field of a loaded message was written.

use std::path::Path;
use std::sync::Arc;

use crate::load::Origin;
use crate::load::tree::Mark;

/// The places of a message's fields, found by path.
#[derive(Clone, Debug)]
pub struct Spans {
    file: Arc<Path>,
    /// Path of the message within its file.
    prefix: String,
    /// Parents before children; the first is the message itself.
    places: Vec<Place>,
}

/// Index of a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PlaceId(u32);

#[derive(Clone, Debug)]
struct Place {
    parent: PlaceId,
    step: Step,
    line: u32,
    column: u32,
}

/// From a place to one below it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Field(Arc<str>),
    Index(u32),
    Key(Box<str>),
}

impl Spans {
    /// The root, which is its own parent.
    pub(crate) const ROOT: PlaceId = PlaceId(0);

    pub(crate) fn new(file: Arc<Path>, prefix: String, mark: Mark) -> Self {
        let step = Step::Index(0);
        let root = Place {
            parent: Self::ROOT,
            step,
            line: mark.line,
            column: mark.column,
        };
        Self {
            file,
            prefix,
            places: vec![root],
        }
    }

    pub(crate) fn add(&mut self, parent: PlaceId, step: Step, mark: Mark) -> PlaceId {
        let id = u32::try_from(self.places.len())
            .expect("a file holds far fewer values than u32 counts");
        self.places.push(Place {
            parent,
            step,
            line: mark.line,
            column: mark.column,
        });
        PlaceId(id)
    }

    /// The path of a place from the top of the file.
    pub(crate) fn path(&self, id: PlaceId) -> String {
        let mut steps = Vec::new();
        let mut at = id;
        while at != Self::ROOT {
            let Some(place) = self.place(at) else { break };
            steps.push(&place.step);
            at = place.parent;
        }
        let mut path = self.prefix.clone();
        for step in steps.into_iter().rev() {
            step.append_to(&mut path);
        }
        path
    }

    /// The place of the field at a path of `snake_case` names, `[index]` and `["key"]` steps, such as
    /// `virtual_hosts[1].routes[0].match.prefix`; of its nearest known ancestor where the field itself is
    /// not written.
    pub fn locate(&self, field_path: &str) -> Origin {
        let mut at = Self::ROOT;
        let steps = Steps { rest: field_path };
        for step in steps {
            let Some(child) = self.child(at, &step) else {
                break;
            };
            at = child;
        }
        let (line, column) = self
            .place(at)
            .map_or((1, 1), |place| (place.line, place.column));
        Origin {
            file: Arc::clone(&self.file),
            line,
            column,
        }
    }

    fn place(&self, id: PlaceId) -> Option<&Place> {
        self.places.get(usize::try_from(id.0).ok()?)
    }

    /// A scan of all places: this is asked for only when there is a mistake to show.
    fn child(&self, parent: PlaceId, step: &Step) -> Option<PlaceId> {
        let mut places = self.places.iter().zip(0..).skip(1);
        places
            .find(|(place, _)| place.parent == parent && place.step == *step)
            .map(|(_, id)| PlaceId(id))
    }
}

impl Step {
    /// Writes the step after a path.
    pub(crate) fn append_to(&self, path: &mut String) {
        match self {
            Self::Field(name) => {
                if !path.is_empty() {
                    path.push('.');
                }
                path.push_str(name);
            }
            Self::Index(index) => path.push_str(&format!("[{index}]")),
            Self::Key(key) => path.push_str(&format!("[\"{key}\"]")),
        }
    }
}

/// Cuts a path into steps; ends at what it cannot read.
struct Steps<'a> {
    rest: &'a str,
}

impl Iterator for Steps<'_> {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        let rest = self.rest.strip_prefix('.').unwrap_or(self.rest);
        if let Some(quoted) = rest.strip_prefix("[\"") {
            let (key, after) = quoted.split_once("\"]")?;
            self.rest = after;
            return Some(Step::Key(Box::from(key)));
        }
        if let Some(index) = rest.strip_prefix('[') {
            let (number, after) = index.split_once(']')?;
            self.rest = after;
            return number.parse().ok().map(Step::Index);
        }
        let end = rest.find(['.', '[']).unwrap_or(rest.len());
        let (name, after) = rest.split_at_checked(end)?;
        self.rest = after;
        if name.is_empty() {
            None
        } else {
            Some(Step::Field(Arc::from(name)))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use super::Spans;
    use super::Step;
    use crate::load::tree::Mark;

    #[test]
    fn finds_the_nearest_known_ancestor() {
        let at = |line| Mark {
            line,
            column: 1,
            width: 1,
        };
        let mut spans = Spans::new(Arc::from(Path::new("f")), "resources[2]".to_owned(), at(1));
        let hosts = spans.add(Spans::ROOT, Step::Field(Arc::from("hosts")), at(2));
        let host = spans.add(hosts, Step::Index(1), at(3));
        let map = spans.add(host, Step::Field(Arc::from("map")), at(4));
        let key = spans.add(map, Step::Key(Box::from("a.b[0]")), at(5));

        assert_eq!(spans.path(key), "resources[2].hosts[1].map[\"a.b[0]\"]");
        let cases = [
            ("", 1),
            ("nothing", 1),
            ("hosts", 2),
            ("hosts[0]", 2),
            ("hosts[1]", 3),
            ("hosts[1].name", 3),
            ("hosts[1].map", 4),
            ("hosts[1].map[\"a.b[0]\"]", 5),
            ("hosts[1].map[\"a.b[0]\"].deeper", 5),
            ("hosts[", 2),
            ("hosts[x]", 2),
            ("..", 1),
        ];
        for (path, line) in cases {
            assert_eq!(spans.locate(path).line, line, "{path}");
        }
    }
}
