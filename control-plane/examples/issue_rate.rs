//! How many leaves one core issues per second, on a directory in the place for temporary files:
//!
//! ```console
//! $ cargo run --profile quick -p weir-control-plane --example issue_rate
//! ```
//!
//! Each leaf is signed, verified, noted in the index, synced and audited, as always. Alone means one
//! visit to the disk per leaf; in batches of 100 is how the server renews.

#![expect(clippy::print_stdout, reason = "a program for people")]

use std::error::Error;
use std::time::Duration;

use control_plane::ca::Authority;
use control_plane::ca::SpiffeId;
use control_plane::ca::authority::KeySource;
use control_plane::ca::authority::Options;
use control_plane::ca::authority::Order;
use control_plane::ca::key::KeyKind;
use rustls_pki_types::UnixTime;
use tokio::time::Instant;

/// How long each row is measured.
const SPAN: Duration = Duration::from_secs(3);

fn main() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let options = Options::new("mesh.example".parse()?);
    let mut authority = Authority::init(&dir.path().join("ca"), &options, UnixTime::now())?;
    let name: SpiffeId = "spiffe://mesh.example/ns/shop/sa/cart".parse()?;
    for kind in [KeyKind::EcdsaP256, KeyKind::EcdsaP384] {
        for batch in [1, 100] {
            let order = Order {
                name: &name,
                key: KeySource::Made(kind),
                life: None,
                actor: "measurement",
            };
            let orders = vec![order; batch];
            let (began, on_core, mut count) = (Instant::now(), on_core()?, 0_u32);
            while began.elapsed() < SPAN {
                for leaf in authority.issue_all(UnixTime::now(), &orders)? {
                    leaf?;
                    count += 1;
                }
            }
            let rate = |span: Duration| f64::from(count) / span.as_secs_f64();
            println!(
                "{kind}, {batch} at a time: {:.0} leaves/s of a core, {:.0} with the disk",
                rate(self::on_core()? - on_core),
                rate(began.elapsed())
            );
        }
    }
    Ok(())
}

/// How long this thread was on a core.
fn on_core() -> Result<Duration, Box<dyn Error>> {
    let text = std::fs::read_to_string("/proc/self/schedstat")?;
    let nanos = text.split_whitespace().next().ok_or("an empty schedstat")?;
    Ok(Duration::from_nanos(nanos.parse()?))
}
