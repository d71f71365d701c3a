//! Kill -9 at every system call from the first that touches the directory to the last.
//!
//! strace kills the process when it enters its n-th call of a kind, for every kind and n; nothing is
//! left to luck. `WEIR_FULL=1` makes 500 tries of it.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::io::Write;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;

use control_plane::ca::Authority;
use control_plane::ca::authority::Serial;
use control_plane::ca::certificate::check_chain;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::UnixTime;
use rustls_pki_types::pem::PemObject;
use webpki::KeyUsage;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use crate::support::Place;
use crate::support::is_there;

/// Calls that change files, or open them to do so.
const CALLS: &str = "openat,write,fsync,fdatasync,rename,unlink,ftruncate";

const NAME: &str = "spiffe://mesh.example/cart";

#[test]
fn the_directory_survives_a_kill_at_every_system_call() {
    if !is_there("strace", "--version") || !is_there("openssl", "version") {
        return;
    }
    // A round is well over a hundred tries.
    let is_full = std::env::var_os("WEIR_FULL").is_some();
    let (rounds, wanted) = if is_full { (4, 500) } else { (1, 100) };
    let operations = [
        format!("ca issue --dir ca {NAME} --out leaf"),
        "ca rotate --dir ca intermediate --after 0s".to_owned(),
        "ca rotate --dir ca root --after 0s".to_owned(),
        format!("ca revoke --dir ca --name {NAME}"),
        format!("ca token --dir ca {NAME}"),
    ];
    // Each in a directory of its own, side by side: most of the time is that of starting programs.
    let tallies: Vec<Tally> = std::thread::scope(|scope| {
        #[expect(
            clippy::needless_collect,
            reason = "all start before one is waited for"
        )]
        let started: Vec<_> = operations
            .iter()
            .map(|operation| scope.spawn(move || survive(operation, rounds)))
            .collect();
        let ended = started.into_iter();
        ended.map(|thread| thread.join().unwrap()).collect()
    });
    let tries: usize = tallies.iter().map(|tally| tally.tries).sum();
    let killed: usize = tallies.iter().map(|tally| tally.killed).sum();
    assert!(killed * 10 > tries * 9, "{killed} of {tries}");
    assert!(tries >= wanted, "{tries}");
    // Past the harness's capture: how many there were is what a full run is for.
    let _ = writeln!(std::io::stderr(), "{killed} of {tries} tries killed");
}

/// What became of the tries.
#[derive(Default)]
struct Tally {
    tries: usize,
    killed: usize,
}

/// Every call of an operation so many times, and what is there in the end.
fn survive(operation: &str, rounds: usize) -> Tally {
    let place = Place::with_authority();
    let mut tally = Tally::default();
    for _ in 0..rounds {
        round(&place, operation, &mut tally);
    }
    place.ok(&format!("ca issue --dir ca {NAME} --out leaf"));
    place.write("bundle.pem", place.ok("ca bundle --dir ca"));
    place.openssl_ok(
        "verify -x509_strict -crl_check_all -CAfile bundle.pem -untrusted leaf.pem leaf.pem",
    );
    tally
}

/// Every call of an operation once.
fn round(place: &Place, operation: &str, tally: &mut Tally) {
    place.ok(&format!("ca issue --dir ca {NAME} --out leaf"));
    for (call, ordinal) in calls(place, operation) {
        if operation.contains("revoke") {
            place.ok(&format!("ca issue --dir ca {NAME} --out leaf"));
        }
        let inject = format!("inject={call}:signal=KILL:when={ordinal}");
        let is_done = strace(place, operation, "-o/dev/null", Some(&inject));
        check(place, &format!("{operation}, killed at {call} {ordinal}"));
        // The last calls tell a person, when all is done; others may not come a second time.
        tally.killed += usize::from(!is_done);
        tally.tries += 1;
    }
    compact(place);
}

/// The calls of an undisturbed run from the first that touches the directory, each with how many
/// of its kind came before it; strace counts like that.
fn calls(place: &Place, operation: &str) -> Vec<(String, usize)> {
    assert!(strace(place, operation, "-otrace.txt", None), "{operation}");
    let trace = place.read("trace.txt");
    let first = trace.lines().position(|line| line.contains("ca/")).unwrap();
    let mut counts = BTreeMap::new();
    let named = trace.lines().filter_map(|line| line.split_once('('));
    let counted = named.map(|(call, _)| {
        let count: &mut usize = counts.entry(call).or_default();
        *count += 1;
        (call.to_owned(), *count)
    });
    counted.skip(first).collect()
}

fn strace(place: &Place, operation: &str, output: &str, inject: Option<&str>) -> bool {
    let mut command = Command::new("strace");
    let trace = format!("trace={CALLS}");
    command.args(["-qq", output, "-e", &trace, "-e", "signal=none"]);
    if let Some(inject) = inject {
        command.args(["-e", inject]);
    }
    let command = command
        .arg(env!("CARGO_BIN_EXE_weir"))
        .args(operation.split_whitespace())
        .current_dir(place.path());
    let command = command.stdin(Stdio::null()).stdout(Stdio::null());
    command.stderr(Stdio::null()).status().unwrap().success()
}

/// It opens, knows what it gave away, never gave a number twice, and goes on.
pub(crate) fn check(place: &Place, about: &str) {
    let opened = Authority::open(&place.file("ca"));
    let mut authority = opened.unwrap_or_else(|error| panic!("{about}: {error}"));
    let overview = authority.overview(UnixTime::now()).unwrap();
    let serials: Vec<Serial> = overview
        .leaves
        .iter()
        .map(|(leaf, _)| leaf.serial)
        .collect();
    let different: BTreeSet<&Serial> = serials.iter().collect();
    assert_eq!(different.len(), serials.len(), "{about}: a number twice");
    assert!(overview.signing.is_some(), "{about}");
    let handed = place.read("leaf.pem");
    let chain = ders(&handed);
    let (_, leaf) = X509Certificate::from_der(&chain[0]).unwrap();
    let serial: Serial = leaf.raw_serial_as_string().parse().unwrap();
    assert!(
        different.contains(&serial),
        "{about}: {serial} was handed out and is not known"
    );
    let bundle = authority.bundle(UnixTime::now()).unwrap();
    let usages = [KeyUsage::client_auth(), KeyUsage::server_auth()];
    let usages = (&usages[..], UnixTime::now());
    check_chain(&chain[0], &chain[1..], &ders(&bundle.roots), &[], usages)
        .unwrap_or_else(|error| panic!("{about}: {error}"));
}

fn ders(pem: &str) -> Vec<CertificateDer<'static>> {
    let all = CertificateDer::pem_slice_iter(pem.as_bytes());
    all.collect::<Result<_, _>>().unwrap()
}

/// Lets go of the authorities of all those rotations, as time would.
fn compact(place: &Place) {
    let later = UnixTime::now().as_secs() + 3 * 24 * 3_600;
    let later = UnixTime::since_unix_epoch(Duration::from_secs(later));
    let mut authority = Authority::open(&place.file("ca")).unwrap();
    let overview = authority.overview(later).unwrap();
    assert_eq!(overview.intermediates.len(), 1);
}
