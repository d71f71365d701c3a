//! Choosing a host allocates nothing, whatever the policy.
//!
//! It needs an allocator of its own, so it is a test program of its own.

#![expect(unsafe_code, reason = "an allocator that counts is an unsafe trait")]

#[path = "../benches/micro/pickers.rs"]
mod pickers;

use std::alloc::GlobalAlloc;
use std::alloc::Layout;
use std::alloc::System;
use std::cell::Cell;

use fastrand::Rng;
use proxy::telemetry::stats::worker;

const HOSTS: usize = 1_000;

/// What a worker makes once is there after so many.
const WARM_UP: usize = 2_000;

const PICKS: usize = 10_000;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

/// The system's allocator, counting what this thread asks for.
struct Counting;

#[global_allocator]
static COUNTING: Counting = Counting;

impl Counting {
    fn count() {
        let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1)); // a thread that ends has none
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

#[test]
fn picks_allocate_nothing() {
    worker::enter(0);
    let mut random = Rng::with_seed(1);
    for mut picker in pickers::all(HOSTS) {
        let picked = (0..WARM_UP).filter(|_| picker.pick(&mut random)).count();
        assert_eq!(picked, WARM_UP, "{}", picker.name);
        let before = ALLOCATIONS.get();
        let picked = (0..PICKS).filter(|_| picker.pick(&mut random)).count();
        let allocations = ALLOCATIONS.get() - before;
        assert_eq!((picked, allocations), (PICKS, 0), "{}", picker.name);
    }
}
