//! Every operation, failing at every step of the disk, in every way to crash.

use super::*;
use crate::ca::disk::simulated::CRASHES;
use crate::ca::disk::simulated::Crash;
use crate::ca::store::SerialError;

type Operation = fn(&mut Authority, u64) -> Result<Vec<Leaf>, AuthorityError>;

const OPERATIONS: [(&str, Operation); 7] = [
    ("issue", |authority, now| {
        Ok(vec![authority.issue(at(now), &order(&name("a")))?])
    }),
    ("issue many", |authority, now| {
        let names = vec![name("b"); 20];
        let orders: Vec<Order<'_>> = names.iter().map(order).collect();
        let leaves = authority.issue_all(at(now), &orders)?;
        Ok(leaves.into_iter().map(Result::unwrap).collect())
    }),
    ("rotate the intermediate", |authority, now| {
        authority.rotate_intermediate(at(now), Duration::ZERO, "test")?;
        Ok(Vec::new())
    }),
    ("rotate the root", |authority, now| {
        authority.rotate_root(at(now), Duration::ZERO, "test")?;
        Ok(Vec::new())
    }),
    ("revoke", |authority, now| {
        authority.revoke(at(now), &Which::Name(name("first")), "test")?;
        Ok(Vec::new())
    }),
    ("join", |authority, now| {
        let life = Duration::from_secs(600);
        let token = authority.token(at(now), &name("a"), life, "test")?;
        authority.redeem(at(now), token.expose(), "test")?;
        Ok(Vec::new())
    }),
    ("let go", |authority, now| {
        authority.overview(at(now + 3 * DAY))?;
        Ok(Vec::new())
    }),
];

/// Serial numbers that were ever in somebody's hands.
type Seen = BTreeSet<Serial>;

fn seen(seen: &mut Seen, leaves: &[Leaf], about: &str) {
    for leaf in leaves {
        assert!(seen.insert(leaf.record.serial), "{about}: a number twice");
    }
}

/// What must hold after any crash: it opens, what was handed out is known and accepted, and it
/// goes on with new numbers.
fn check(disk: &Simulated, handed: &[Leaf], used: &mut Seen, now: u64, about: &str) {
    let opened = Authority::open_on(Box::new(disk.clone()));
    let mut authority = opened.unwrap_or_else(|error| panic!("{about}: {error}"));
    let overview = authority.overview(at(now)).unwrap();
    let bundle = authority.bundle(at(now)).unwrap();
    let newest = issue(&mut authority, now, "next");
    accepts(&bundle, &newest, now).unwrap_or_else(|error| panic!("{about}: {error}"));
    for leaf in handed.iter().filter(|leaf| leaf.record.until >= now) {
        let known = overview
            .leaves
            .iter()
            .find(|(record, _)| *record == leaf.record);
        let (_, is_revoked) = known.unwrap_or_else(|| panic!("{about}: {leaf:?} is not known"));
        let accepted = accepts(&bundle, leaf, now);
        assert_eq!(accepted.is_ok(), !is_revoked, "{about}: {accepted:?}");
    }
    seen(used, &[newest], about);
    for line in disk
        .text("audit.log")
        .lines()
        .filter(|line| !line.is_empty())
    {
        // A line that was cut stands alone, and all others are whole.
        let is_cut = !line.ends_with('}');
        let parsed = serde_json::from_str::<Value>(line);
        assert!(parsed.is_ok() || is_cut, "{about}: {line}");
    }
}

#[test]
fn nothing_is_lost_and_no_number_is_used_twice_at_any_crash() {
    let (start, mut authority) = authority();
    let first = issue(&mut authority, START, "first");
    drop(authority);
    let mut tries = 0;
    for crash in CRASHES {
        for (about, operation) in OPERATIONS {
            for step in 0.. {
                let disk = start.failing_at(step, crash);
                let mut used = Seen::from([first.record.serial]);
                let mut handed = vec![first.clone()];
                let opened = Authority::open_on(Box::new(disk.clone()));
                let done = opened.and_then(|mut authority| operation(&mut authority, START + 10));
                let about = format!("{about}, {crash:?} at step {step}: {done:?}");
                let is_done = done.is_ok();
                if let Ok(leaves) = done {
                    seen(&mut used, &leaves, &about);
                    handed.extend(leaves);
                }
                let now = START
                    + 20
                    + if about.starts_with("let go") {
                        3 * DAY
                    } else {
                        0
                    };
                check(&disk.after(crash), &handed, &mut used, now, &about);
                tries += 1;
                if is_done && step >= disk.steps() {
                    break;
                }
            }
        }
    }
    assert!(tries > 200, "{tries} tries");
}

#[test]
fn an_authority_is_made_whole_or_not_at_all() {
    for crash in CRASHES {
        for step in 0.. {
            let disk = Simulated::default().failing_at(step, crash);
            let made = Authority::init_on(Box::new(disk.clone()), &options(), START);
            let is_made = made.is_ok();
            let left = disk.after(crash);
            match Authority::open_on(Box::new(left.clone())) {
                Ok(mut authority) => drop(issue(&mut authority, START, "a")),
                Err(AuthorityError::Store(StoreError::Missing { .. })) => {
                    assert!(!is_made);
                    Authority::init_on(Box::new(left), &options(), START).unwrap();
                }
                Err(error) => panic!("{crash:?} at step {step}: {error}"),
            }
            if is_made && step >= disk.steps() {
                break;
            }
        }
    }
}

#[test]
fn a_failing_disk_stops_a_running_authority_only_while_it_fails() {
    let (start, _) = authority();
    let disk = start.failing_at(usize::MAX, Crash::Kill);
    let mut authority = Authority::open_on(Box::new(disk.clone())).unwrap();
    let mut used = Seen::new();
    for step in 0..30 {
        disk.fail_after(step);
        let leaves = (0..10).map(|_| authority.issue(at(START), &order(&name("a"))));
        let leaves: Vec<Leaf> = leaves.filter_map(Result::ok).collect();
        seen(&mut used, &leaves, "failing");
        disk.fail_after(usize::MAX);
        seen(&mut used, &[issue(&mut authority, START, "a")], "mended");
    }
    let overview = authority.overview(at(START)).unwrap();
    let known: Seen = overview
        .leaves
        .iter()
        .map(|(leaf, _)| leaf.serial)
        .collect();
    assert!(used.is_subset(&known));
}

#[test]
fn files_that_are_not_what_was_written_are_refused_by_name() {
    let check = |file: &str, reason: &str, change: &dyn Fn(&mut Vec<u8>)| {
        let (disk, mut authority) = authority();
        issue(&mut authority, START, "a");
        issue(&mut authority, START, "a");
        disk.tamper(file, change);
        let error = Authority::open_on(Box::new(disk)).unwrap_err().to_string();
        assert!(error.contains(file) && error.contains(reason), "{error}");
    };
    check("state", "cut off", &Vec::clear);
    check("state", "cut off", &|bytes| bytes.truncate(200));
    check("state", "checksum", &|bytes| bytes[300] ^= 1);
    check("state", "first line", &|bytes| bytes[0] ^= 1);
    check("state", "first line", &|bytes| {
        bytes.splice(.., *b"{}\n").for_each(drop);
    });
    check("root-1.key", "private key", &Vec::clear);
    check("intermediate-2.key", "private key", &|bytes| {
        bytes.truncate(60);
    });
    let other = KeyKind::EcdsaP256.generate().unwrap().1;
    check("root-1.key", "not the key", &|bytes| {
        *bytes = other.expose().as_bytes().to_vec();
    });
    check("tokens.key", "64 hexadecimal", &|bytes| bytes.truncate(63));
    check("issued.log", "line 1 ", &|bytes| bytes[3] = b'\n');
    check("issued.log", "line 2 ", &|bytes| {
        let last = bytes.len() - 30;
        bytes[last] = b'\n';
    });
    let (disk, mut authority) = authority();
    let old = disk.text("state");
    for _ in 0..2_000 {
        issue(&mut authority, START, "a");
    }
    disk.tamper("state", |bytes| *bytes = old.into_bytes());
    let error = Authority::open_on(Box::new(disk.clone()))
        .unwrap_err()
        .to_string();
    assert!(error.contains("older than issued.log"), "{error}");
    disk.forget("root-1.key");
    let error = Authority::open_on(Box::new(disk)).unwrap_err().to_string();
    assert!(error.contains("state"), "{error}");
    let bad: Result<Serial, SerialError> = "02".parse();
    bad.unwrap_err();
}
