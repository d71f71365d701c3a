//! What a request costs in allocations, exactly, on the worker that serves it.
//!
//! It needs an allocator of its own, so it is a test program of its own. Control side, client and
//! origin run on the test's thread and are not counted; what is left are the worker's.

#![expect(unsafe_code, reason = "an allocator that counts is an unsafe trait")]

use std::alloc::GlobalAlloc;
use std::alloc::Layout;
use std::alloc::System;
use std::cell::Cell;
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use bench::Transport;
use bench::load::Held;
use bench::load::Protocol;
use bench::load::RequestShape;
use bench::origin::FixedOptions;
use bench::origin::FixedOrigin;
use bench::ports::ReservedPort;
use proxy::server::Options;
use proxy::server::Server;

/// Of one keep-alive request, HTTP/1.1 to HTTP/1.1: the exchange. A change is recorded in a commit
/// that says why.
const HTTP1: u64 = 1;

/// Of one request on a stream, HTTP/2 to HTTP/2.
const HTTP2: u64 = 12;

/// Hashes what there is of a request, and chooses by it.
const HASHED_ROUTE: &str = "route:
                  cluster: origin
                  hash_policy:
                  - header: { header_name: ':path' }
                  - query_parameter: { name: q }
                  - cookie: { name: c }
                  - connection_properties: { source_ip: true }";
const HASHED_CLUSTER: &str = "type: STATIC
    lb_policy: RING_HASH
    common_lb_config: { consistent_hashing_lb_config: { hash_balance_factor: 100 } }";

/// Requests before counting: pools and lazily made values are there afterwards.
const WARM_UP: usize = 50;

/// Few enough that no table grows while they are counted.
const REQUESTS: usize = 200;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static IS_TEST: Cell<bool> = const { Cell::new(false) };
}

/// The system's allocator, counting what other threads than the test's ask for.
struct Counting;

#[global_allocator]
static COUNTING: Counting = Counting;

impl Counting {
    fn count() {
        // A thread that ends has no mark any more, and nothing to be counted.
        if !IS_TEST.try_with(Cell::get).unwrap_or(true) {
            ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        }
    }
}

// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Self::count();
        // SAFETY: the caller's promise is handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        Self::count();
        // SAFETY: the caller's promise is handed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is handed on.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        Self::count();
        // SAFETY: the caller's promise is handed on.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// One test, because another thread's proxy would be counted, too.
#[test]
fn requests_allocate_as_recorded() {
    IS_TEST.set(true);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let http1 = include_str!("../../bench/peers/envoy/h1-h1.yaml");
    let http2 = include_str!("../../bench/peers/envoy/h2-h2.yaml");
    let hashed = http1
        .replace("route: { cluster: origin }", HASHED_ROUTE)
        .replace("type: STATIC", HASHED_CLUSTER);
    for (protocol, template, recorded) in [
        (Protocol::Http1, http1, HTTP1),
        (Protocol::Http1, &hashed, HTTP1),
        (Protocol::Http2 { streams: 1 }, http2, HTTP2),
    ] {
        for counted in runtime.block_on(count(protocol, template)) {
            // What several requests share, a chunk of heads or a table, disappears in the rounding.
            let each = (counted + REQUESTS as u64 / 2) / REQUESTS as u64;
            assert_eq!(each, recorded, "{protocol:?}: {counted} of {REQUESTS}");
        }
    }
}

/// Allocations of two rounds of requests.
async fn count(protocol: Protocol, template: &str) -> [u64; 2] {
    let port = ReservedPort::new().expect("a free port");
    let origin = FixedOrigin::start(&FixedOptions {
        body_bytes: 66,
        ..FixedOptions::default()
    })
    .expect("an origin");
    let text = template
        .replace("{{listen}}", &port.number().to_string())
        .replace("{{origin}}", &origin.addr().port().to_string());
    let bootstrap = proxy::bootstrap::load(Path::new("bootstrap.yaml"), &text).expect("valid");
    let options = Options {
        workers: 1,
        ..Options::default()
    };
    let server = Server::start(bootstrap, options).await.expect("it starts");
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = server.run(async {
        let _ = stopped.await;
    });
    let measuring = async {
        let request = RequestShape::default();
        let mut held = loop {
            let opened = Held::open(port.addr(), protocol, &Transport::Plain, &request, 1).await;
            if let Ok(held) = opened {
                break held;
            }
            tokio::task::yield_now().await;
        };
        held.repeat(&request, WARM_UP).await.expect("answers");
        let mut rounds = [0; 2];
        for round in &mut rounds {
            let before = ALLOCATIONS.load(Ordering::Relaxed);
            held.repeat(&request, REQUESTS).await.expect("answers");
            *round = ALLOCATIONS.load(Ordering::Relaxed) - before;
        }
        drop(held);
        let _ = stop.send(());
        rounds
    };
    let (counted, ()) = tokio::join!(measuring, running);
    counted
}
