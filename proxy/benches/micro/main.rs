//! What the parts of the paths cost by themselves, one file per question. `cargo bench -p weir-proxy`
//! measures; `cargo test` runs each once, so that none of them rots. All share one program, because
//! linking is most of what they take.
//!
//! A number here steers work on its part; whether the proxy got faster, `weir-bench compare` says.

mod copy_loop;
mod header_path;
mod pick;
mod pickers;
mod resource_decode;
mod resources;
mod route_match;
mod snapshot_apply;

use criterion::Criterion;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    route_match::measure(&mut criterion);
    header_path::measure(&mut criterion);
    pick::measure(&mut criterion);
    resource_decode::measure(&mut criterion);
    snapshot_apply::measure(&mut criterion);
    copy_loop::measure(&mut criterion);
    criterion.final_summary();
}
