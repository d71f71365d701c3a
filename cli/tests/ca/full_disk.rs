//! A full disk: the authority says that it cannot write, loses nothing it gave away, and works again once
//! there is room. On a file system in memory, in a mount namespace of the test's own.
//!
//! The test starts itself again inside the namespace, because nobody else is to see what it mounts.

use std::process::Command;

use control_plane::ca::Authority;
use rustls_pki_types::UnixTime;

use crate::killed::check;
use crate::support::Place;
use crate::support::is_missing;

/// Set for the process inside the namespace.
const INSIDE: &str = "WEIR_TEST_INSIDE_NAMESPACE";

/// Enough for an authority.
const SIZE: &str = "size=512k";

/// The last page of a file takes some more lines; then there is no room at all.
const TRIES_MAX: usize = 200;

const NAME: &str = "spiffe://mesh.example/cart";

#[test]
fn a_full_disk_loses_nothing_and_is_told() {
    if std::env::var_os(INSIDE).is_some() {
        return; // the other test is meant
    }
    let mount = ["--mount", "mount", "-t", "tmpfs", "none", "/mnt"];
    let possible = Command::new("unshare").args(mount).output();
    let possible = possible.is_ok_and(|output| output.status.success());
    if is_missing("a mount in a namespace", possible) {
        return;
    }
    let program = std::env::current_exe().unwrap();
    let output = Command::new("unshare")
        .arg("--mount")
        .arg(program)
        .args(["--exact", "full_disk::inside", "--ignored", "--nocapture"])
        .env(INSIDE, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{errors}");
    assert!(said.contains("1 passed"), "{said}");
}

#[test]
#[ignore = "started by the other test, in a mount namespace"]
fn inside() {
    let place = Place::new();
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", SIZE, "none"])
        .arg(place.path())
        .status();
    assert!(mounted.unwrap().success());
    place.ok("ca init --dir ca --trust-domain mesh.example");
    let issue = format!("ca issue --dir ca {NAME} --out leaf");
    place.ok(&issue);
    // It runs on, as that of a control plane does.
    let mut running = Authority::open(&place.file("ca")).unwrap();
    let roots = running.bundle(UnixTime::now()).unwrap().roots;

    let filled = std::fs::write(place.file("filler"), vec![0; 1024 * 1024]);
    assert_eq!(filled.unwrap_err().kind(), std::io::ErrorKind::StorageFull);
    let elsewhere = tempfile::tempdir().unwrap();
    let leaf = elsewhere.path().join("leaf");
    let issue_elsewhere = format!("ca issue --dir ca {NAME} --out {}", leaf.display());
    let mut tries = 0;
    let told = loop {
        let output = place.weir(&issue_elsewhere);
        if !output.status.success() {
            break String::from_utf8_lossy(&output.stderr).into_owned();
        }
        tries += 1;
        assert!(tries < TRIES_MAX, "there is always room");
    };
    assert!(told.contains("No space left on device"), "{told}");
    assert!(told.contains("ca/"), "it names the file: {told}");
    check(&place, "after an issue");
    let others = [
        "ca rotate --dir ca intermediate --after 0s".to_owned(),
        format!("ca revoke --dir ca --name {NAME}"),
        format!("ca token --dir ca {NAME}"),
    ];
    for operation in &others {
        let output = place.weir(operation);
        let told = String::from_utf8_lossy(&output.stderr);
        let is_told = told.contains("No space left on device");
        assert!(output.status.success() || is_told, "{operation}: {told}");
        check(&place, operation);
    }
    assert_eq!(running.bundle(UnixTime::now()).unwrap().roots, roots);

    std::fs::remove_file(place.file("filler")).unwrap();
    place.ok(&issue);
    for operation in &others {
        place.ok(operation);
        check(&place, operation);
    }
    place.ok(&issue);
    check(&place, "in the end");
    assert_eq!(running.bundle(UnixTime::now()).unwrap().roots, roots);
    drop(running);
    let unmounted = Command::new("umount").arg(place.path()).status();
    assert!(unmounted.unwrap().success());
}
