//! The moves of the model test.

use proptest::prelude::*;

use super::CLUSTER;
use super::ENDPOINT;
use super::LISTENER;
use super::ROUTE;

pub(super) const TYPES: [&str; 4] = [CLUSTER, ENDPOINT, LISTENER, ROUTE];
pub(super) const NAMES: [&str; 5] = ["a", "b", "c", "d", "*"];
pub(super) const BODIES: [&str; 4] = ["1", "2", "3", "bad"];

#[derive(Clone, Debug)]
pub(super) enum Op {
    Subscribe(usize, usize),
    Unsubscribe(usize, usize),
    Put(usize, usize, usize),
    Remove(usize, usize),
    /// The server takes one request.
    Up,
    /// The server produces one response.
    Poll,
    /// The client reads one response.
    Down,
    Reconnect,
    Wait(u16),
}

pub(super) fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (0..4usize, 0..5usize).prop_map(|(t, n)| Op::Subscribe(t, n)),
        2 => (0..4usize, 0..5usize).prop_map(|(t, n)| Op::Unsubscribe(t, n)),
        5 => (0..4usize, 0..4usize, 0..4usize).prop_map(|(t, n, b)| Op::Put(t, n, b)),
        2 => (0..4usize, 0..4usize).prop_map(|(t, n)| Op::Remove(t, n)),
        6 => Just(Op::Up),
        6 => Just(Op::Poll),
        6 => Just(Op::Down),
        1 => Just(Op::Reconnect),
        1 => (0..8_000u16).prop_map(Op::Wait),
    ]
}
