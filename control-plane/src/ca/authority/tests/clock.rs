//! T9: clocks that are wrong, and right again.

use super::*;

const YEAR: u64 = 365 * DAY;

#[test]
fn t9_a_clock_in_another_decade_is_not_believed_and_changes_nothing() {
    let (disk, mut authority) = authority();
    issue(&mut authority, START, "a");
    let before = ["state", "issued.log", "root-1.key"].map(|file| disk.text(file));
    let late = START + 10 * YEAR;
    for _ in 0..2 {
        let error = authority.issue(at(late), &order(&name("a"))).unwrap_err();
        assert!(
            matches!(error, AuthorityError::Clock { days: 3_650 }),
            "{error}"
        );
        authority.bundle(at(late)).unwrap_err();
        authority.overview(at(late)).unwrap_err();
        authority = Authority::open_on(Box::new(disk.clone())).unwrap();
    }
    let after = ["state", "issued.log", "root-1.key"].map(|file| disk.text(file));
    assert_eq!(before, after);
    issue(&mut authority, START + 60, "a");
    // Somebody says that it is right; the old root has ended meanwhile, so there is a new one.
    authority.trust_clock(at(late)).unwrap();
    let error = authority.issue(at(late), &order(&name("a"))).unwrap_err();
    assert!(matches!(error, AuthorityError::NothingSigns), "{error}");
}

#[test]
fn t9_a_clock_that_was_months_ahead_and_is_right_again() {
    let (_, mut authority) = authority();
    let leaf = issue(&mut authority, START, "a");
    let revoked = issue(&mut authority, START, "b");
    authority
        .revoke(at(START), &Which::Serial(revoked.record.serial), "test")
        .unwrap();
    for hour in 0..30 {
        issue(&mut authority, START + 20 * DAY + hour * 3_600, "a");
    }
    let check = |authority: &mut Authority, now| {
        let newest = issue(authority, now, "a");
        let bundle = authority.bundle(at(now)).unwrap();
        accepts(&bundle, &newest, now).unwrap();
        bundle
    };
    let bundle = check(&mut authority, START + 60);
    accepts(&bundle, &leaf, START + 60).unwrap();
    accepts(&bundle, &revoked, START + 60).unwrap_err();
    // Far enough for a new intermediate, which then has not begun.
    for hour in 0..30 {
        issue(&mut authority, START + 200 * DAY + hour * 3_600, "a");
    }
    for minute in 1..200 {
        check(&mut authority, START + minute * 60);
    }
}

#[test]
fn t9_a_clock_that_goes_back() {
    let (_, mut authority) = authority();
    // By seconds right after the start.
    issue(&mut authority, START - 5, "a");
    authority
        .rotate_intermediate(at(START), Duration::ZERO, "test")
        .unwrap();
    issue(&mut authority, START - 5, "a");
    // By an hour, once it has run for a while.
    issue(&mut authority, START + 7_200, "a");
    let leaf = issue(&mut authority, START + 3_600, "a");
    let bundle = authority.bundle(at(START + 3_600)).unwrap();
    accepts(&bundle, &leaf, START + 3_600).unwrap();
}
