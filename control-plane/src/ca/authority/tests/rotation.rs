//! Rotation in steps of time: at each of them everybody accepts everybody.

use super::*;

const HOUR: u64 = 3_600;

/// Issues a leaf and fetches a bundle every hour, and checks each leaf that has not ended with
/// each bundle that is not older than `lag`: nobody needs to hear of anything sooner.
struct Mesh {
    authority: Authority,
    leaves: Vec<Leaf>,
    bundles: Vec<(u64, Bundle)>,
}

impl Mesh {
    fn new(authority: Authority) -> Self {
        Self {
            authority,
            leaves: Vec::new(),
            bundles: Vec::new(),
        }
    }

    fn step(&mut self, now: u64, lag: u64) {
        let bundle = self.authority.bundle(at(now)).unwrap();
        self.bundles.push((now, bundle));
        self.leaves.push(issue(&mut self.authority, now, "a"));
        self.bundles.retain(|(since, _)| since + lag >= now);
        self.leaves.retain(|leaf| leaf.record.until >= now);
        for leaf in &self.leaves {
            for (since, bundle) in &self.bundles {
                accepts(bundle, leaf, now).unwrap_or_else(|error| {
                    panic!(
                        "at {} h: bundle of {} h, leaf {:?}: {error}",
                        (now - START) / HOUR,
                        (since - START) / HOUR,
                        leaf.record
                    )
                });
            }
        }
    }
}

#[test]
fn a_root_is_replaced_while_everybody_accepts_everybody() {
    let (disk, authority) = authority();
    let mut mesh = Mesh::new(authority);
    for hour in 0..100 {
        let now = START + hour * HOUR;
        if hour == 30 {
            let id = mesh
                .authority
                .rotate_root(at(now), Duration::from_secs(2 * HOUR), "test");
            assert_eq!(id.unwrap(), "root-3");
        }
        mesh.step(now, HOUR);
        let roots = ders(&mesh.bundles.last().unwrap().1.roots).len();
        assert_eq!(
            roots,
            if (30..56).contains(&hour) { 2 } else { 1 },
            "hour {hour}"
        );
        let issuer = &mesh.leaves.last().unwrap().record.issuer;
        assert_eq!(issuer == "intermediate-4", hour >= 32, "hour {hour}");
    }
    let overview = mesh.authority.overview(at(START + 100 * HOUR)).unwrap();
    assert_eq!((overview.roots.len(), overview.intermediates.len()), (1, 1));
    for gone in ["root-1.key", "intermediate-2.key"] {
        assert!(disk.text(gone).is_empty(), "{gone} is not needed any more");
    }
    let events: Vec<_> = audit(&disk)
        .into_iter()
        .filter(|line| line["event"] == "rotate")
        .map(|line| format!("{} {}", line["what"], line["id"]))
        .collect();
    assert_eq!(
        events,
        [
            r#""added" "root-3""#,
            r#""removed" "root-1""#,
            r#""removed" "intermediate-2""#
        ]
    );
}

#[test]
fn a_root_stays_until_its_longest_leaf_has_ended() {
    let (_, mut authority) = authority();
    let wanted = name("a");
    let life = Some(Duration::from_secs(20 * DAY));
    let leaf = authority
        .issue(
            at(START),
            &Order {
                life,
                ..order(&wanted)
            },
        )
        .unwrap();
    authority
        .rotate_root(at(START), Duration::ZERO, "test")
        .unwrap();
    let roots = |authority: &mut Authority, now| {
        let bundle = authority.bundle(at(now)).unwrap();
        ders(&bundle.roots).len()
    };
    assert_eq!(roots(&mut authority, leaf.record.until - 1), 2);
    assert_eq!(roots(&mut authority, leaf.record.until + HOUR + 1), 1);
}

#[test]
fn authorities_replace_themselves_in_time() {
    let (_, authority) = authority();
    let mut mesh = Mesh::new(authority);
    let mut issuers = BTreeSet::new();
    // Three days a step, for two years.
    for step in 0..2 * 365 / 3 {
        let now = START + step * 3 * DAY;
        mesh.step(now, 0);
        issuers.insert(mesh.leaves.last().unwrap().record.issuer.clone());
        let overview = mesh.authority.overview(at(now)).unwrap();
        assert!(overview.intermediates.len() <= 2);
    }
    assert_eq!(issuers.len(), 4);
    // Asleep for two years: the intermediate has ended, and a new one signs at once.
    let now = START + 4 * 365 * DAY;
    mesh.leaves.clear();
    mesh.authority.trust_clock(at(now)).unwrap();
    mesh.step(now, 0);
    // The root's half life.
    let now = START + 5 * 365 * DAY + 1;
    let overview = mesh.authority.overview(at(now)).unwrap();
    assert_eq!(overview.roots.len(), 2);
}

#[test]
fn an_intermediate_of_somebody_else_is_tried_before_it_is_taken() {
    let (_, theirs) = authority();
    let disk = Simulated::default();
    let (their_root, their_below) = (&theirs.loaded.roots[0], &theirs.loaded.intermediates[0]);
    let key = |id: &str| theirs.store.read_key(&format!("{id}.key")).unwrap();
    let external = |chain: &str, id: &str, root: &str| External {
        chain: chain.to_owned(),
        key: key(id),
        root: root.to_owned(),
    };
    let good = || external(&their_below.pem, "intermediate-2", &their_root.pem);
    let init = |external| {
        let options = Options {
            external: Some(external),
            ..options()
        };
        Authority::init_on(Box::new(disk.clone()), &options, START)
    };
    let (_, stranger) = authority();
    let refused = |external, reason: &str| {
        let error = init(external).unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    };
    refused(
        external(&their_below.pem, "root-1", &their_root.pem),
        "not the key",
    );
    refused(
        external(
            &their_below.pem,
            "intermediate-2",
            &stranger.loaded.roots[0].pem,
        ),
        "does not hold",
    );
    refused(
        external("", "intermediate-2", &their_root.pem),
        "exactly one",
    );
    refused(
        external("-----BEGIN", "intermediate-2", &their_root.pem),
        "certificate",
    );
    let leaf = issue(&mut authority().1, START, "a");
    let own = External {
        key: leaf.key.unwrap(),
        chain: leaf.chain,
        root: their_root.pem.clone(),
    };
    refused(own, "cannot be used");
    let mut ours = init(good()).unwrap();
    let leaf = issue(&mut ours, START, "a");
    let bundle = ours.bundle(at(START)).unwrap();
    assert!(bundle.only_leaves);
    accepts(&bundle, &leaf, START).unwrap_err();
    let error = ours
        .rotate_root(at(START), Duration::ZERO, "test")
        .unwrap_err();
    assert!(matches!(error, AuthorityError::ForeignRoot));
    ours.take_intermediate(at(START + 1), &good(), Duration::ZERO, "test")
        .unwrap();
    assert_eq!(ours.overview(at(START + 1)).unwrap().roots.len(), 1);
}
