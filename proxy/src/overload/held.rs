//! What is held for clients, in bytes: of a stream, its connection, its listener, the process.
//!
//! A stream has an [`Account`] from the moment something of it has to wait: its body is kept for another
//! attempt, or one side takes nothing of what the other has sent. Most streams have none. What it holds
//! is charged to all four when it changes, and given back when the account ends. A body is kept only
//! while each of them is below its limit; what waits is bounded by buffers and windows, and only counted.
//!
//! Windows of HTTP/2 fill without anybody being told: they are weighed when the account changes, and
//! whenever somebody looks.
//!
//! Accounts belong to their worker's thread. When memory runs short, the worker has those given up that
//! hold most, in Envoy's order (`reset`): eight classes, each of twice as much as the one before.

use std::cell::Cell;
use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;
use std::rc::Weak;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::task::Context;
use std::task::Poll;
use std::task::Waker;

use crate::config::limits;
use crate::telemetry::stats::ListenerStats;
use crate::telemetry::stats::OverloadActionStats;

/// Envoy's number of classes.
const CLASSES: u32 = 8;

/// Of all streams of the process.
static TOTAL: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// Those of this worker, in no order.
    static ACCOUNTS: RefCell<Vec<Weak<Account>>> = const { RefCell::new(Vec::new()) };
}

/// What the streams of one listener hold; it stays while the listener changes.
#[derive(Debug, Default)]
pub struct OfListener(AtomicUsize);

/// What the streams of one connection hold, and whose it is.
#[derive(Debug)]
pub struct OfConnection {
    bytes: Cell<usize>,
    listener: Arc<OfListener>,
    stats: Arc<ListenerStats>,
    /// All streams of the process may hold so much.
    total_max: usize,
    /// Its streams are not given up when memory runs short.
    ignores_overload: bool,
}

/// The two directions of a stream.
#[derive(Clone, Copy, Debug)]
pub enum Direction {
    /// From the client.
    Request,
    /// To the client.
    Response,
}

/// Bytes that came and that nobody has read.
pub trait Unread: fmt::Debug {
    /// How many.
    fn bytes(&self) -> usize;
}

/// What one stream holds.
#[derive(Debug)]
pub struct Account {
    connection: Rc<OfConnection>,
    /// Where it is among those of the worker.
    place: Cell<usize>,
    /// For another attempt.
    kept: Cell<usize>,
    waits: [Way; 2],
    /// Of all that: what the tree has.
    charged: Cell<usize>,
    is_given_up: Cell<bool>,
}

/// What one direction of a stream holds.
#[derive(Debug, Default)]
struct Way {
    /// Taken from one side, and not yet by the other.
    waiting: Cell<usize>,
    unread: RefCell<Option<Box<dyn Unread>>>,
    waker: RefCell<Option<Waker>>,
}

/// Has streams given up.
#[derive(Clone, Debug)]
pub struct Order {
    /// Between 0 and 1: the stronger, the more classes.
    pub strength: f64,
    /// The first class begins at this power of two.
    pub power: u32,
    /// Counts them.
    pub stats: Arc<OverloadActionStats>,
}

impl OfConnection {
    /// Nothing is held for it yet; for all clients of the process so much may be.
    pub fn new(
        listener: Arc<OfListener>,
        stats: Arc<ListenerStats>,
        (total_max, ignores_overload): (usize, bool),
    ) -> Rc<Self> {
        Rc::new(Self {
            bytes: Cell::new(0),
            listener,
            stats,
            total_max,
            ignores_overload,
        })
    }

    /// Whether it may hold so much more; counted if not.
    fn has_room(&self, more: usize) -> bool {
        let listener = self.listener.0.load(Ordering::Relaxed);
        // The parts of a smaller whole are as much smaller.
        let of_connection = limits::HELD_BYTES_PER_CONNECTION.min(self.total_max / 8);
        let of_listener = limits::HELD_BYTES_PER_LISTENER.min(self.total_max / 4 * 3);
        let has_room = [
            (self.bytes.get(), of_connection),
            (listener, of_listener),
            (total(), self.total_max),
        ];
        let has_room = has_room
            .iter()
            .all(|(held, max)| held.saturating_add(more) <= *max);
        if !has_room {
            self.stats.downstream_held_overflow().inc();
        }
        has_room
    }

    fn charge(&self, bytes: usize) {
        self.bytes.set(self.bytes.get() + bytes);
        self.listener.0.fetch_add(bytes, Ordering::Relaxed);
        TOTAL.fetch_add(bytes, Ordering::Relaxed);
        self.stats
            .downstream_held_bytes()
            .add(bytes.cast_signed() as i64);
    }

    fn refund(&self, bytes: usize) {
        self.bytes.set(self.bytes.get() - bytes);
        self.listener.0.fetch_sub(bytes, Ordering::Relaxed);
        TOTAL.fetch_sub(bytes, Ordering::Relaxed);
        self.stats
            .downstream_held_bytes()
            .add(-(bytes.cast_signed() as i64));
    }
}

impl Account {
    /// One of a stream of this connection, which holds nothing yet.
    pub fn open(connection: &Rc<OfConnection>) -> Rc<Self> {
        let account = Rc::new(Self {
            connection: Rc::clone(connection),
            place: Cell::new(0),
            kept: Cell::new(0),
            waits: Default::default(),
            charged: Cell::new(0),
            is_given_up: Cell::new(false),
        });
        ACCOUNTS.with_borrow_mut(|accounts| {
            account.place.set(accounts.len());
            accounts.push(Rc::downgrade(&account));
        });
        account
    }

    /// Keeps so many bytes more, if that is not too much.
    pub fn keep(&self, more: usize) -> bool {
        let may = self.connection.has_room(more);
        if may {
            self.kept.set(self.kept.get() + more);
            self.settle();
        }
        may
    }

    /// Keeps so many bytes less.
    pub fn release(&self, less: usize) {
        self.kept.set(self.kept.get() - less);
        self.settle();
    }

    /// So many bytes wait to be taken; ready once the stream is given up. `unread` is asked for once.
    pub fn poll_waiting(
        &self,
        direction: Direction,
        bytes: usize,
        unread: impl FnOnce() -> Option<Box<dyn Unread>>,
        cx: &Context<'_>,
    ) -> Poll<()> {
        let way = self.way(direction);
        way.waiting.set(bytes);
        let mut known = way.unread.borrow_mut();
        if known.is_none() {
            *known = unread();
        }
        drop(known);
        self.settle();
        self.poll_given_up(direction, cx)
    }

    /// Bytes that wait in this direction.
    pub fn waiting(&self, direction: Direction) -> usize {
        self.way(direction).waiting.get()
    }

    /// What waited was taken.
    pub fn go_on(&self, direction: Direction) {
        if self.way(direction).waiting.replace(0) > 0 {
            self.settle();
        }
    }

    /// Ready once the stream is given up.
    pub fn poll_given_up(&self, direction: Direction, cx: &Context<'_>) -> Poll<()> {
        if self.is_given_up() {
            return Poll::Ready(());
        }
        let mut waker = self.way(direction).waker.borrow_mut();
        match &mut *waker {
            Some(waker) => waker.clone_from(cx.waker()),
            None => *waker = Some(cx.waker().clone()),
        }
        Poll::Pending
    }

    /// Whether the stream is given up, because it held much when memory ran short.
    pub fn is_given_up(&self) -> bool {
        self.is_given_up.get()
    }

    fn way(&self, direction: Direction) -> &Way {
        let [request, response] = &self.waits;
        match direction {
            Direction::Request => request,
            Direction::Response => response,
        }
    }

    /// Charges what it holds now.
    fn settle(&self) -> usize {
        let waits = self.waits.iter().map(|way| {
            let unread = way.unread.borrow();
            way.waiting.get() + unread.as_ref().map_or(0, |unread| unread.bytes())
        });
        let held = self.kept.get() + waits.sum::<usize>();
        let before = self.charged.replace(held);
        if held > before {
            self.connection.charge(held - before);
        } else if held < before {
            self.connection.refund(before - held);
        }
        held
    }

    fn give_up(&self) {
        self.is_given_up.set(true);
        for way in &self.waits {
            let waker = way.waker.borrow_mut().take();
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.connection.refund(self.charged.get());
        // At the end of the thread there may be no list any more.
        let _ = ACCOUNTS.try_with(|accounts| {
            let mut accounts = accounts.borrow_mut();
            let place = self.place.get();
            accounts.swap_remove(place);
            if let Some(moved) = accounts.get(place).and_then(Weak::upgrade) {
                moved.place.set(place);
            }
        });
    }
}

/// What is held for all clients of the process.
pub fn total() -> usize {
    TOTAL.load(Ordering::Relaxed)
}

/// Weighs again what this worker holds.
pub fn weigh() {
    for account in all() {
        account.settle();
    }
}

/// Has those streams of this worker given up that hold most, but no more than a few at once.
pub fn reset(order: &Order) {
    let mut held: Vec<_> = all()
        .into_iter()
        .filter(|account| !account.connection.ignores_overload && !account.is_given_up())
        .map(|account| (account.settle(), account))
        .collect();
    held.retain(|(bytes, _)| is_hit(*bytes, order));
    held.sort_by_key(|(bytes, _)| std::cmp::Reverse(*bytes));
    held.truncate(limits::RESETS_AT_ONCE);
    if held.is_empty() {
        return;
    }
    order.stats.count().add(held.len() as u64);
    tracing::warn!(
        streams = held.len(),
        "memory runs short, streams that hold much of it are reset"
    );
    for (_, account) in held {
        account.give_up();
    }
}

/// Whether a stream that holds so much is of a class that is given up.
fn is_hit(bytes: usize, order: &Order) -> bool {
    let least = 1_usize.checked_shl(order.power).unwrap_or(usize::MAX);
    let Some(times) = (bytes / least).checked_ilog2() else {
        return false; // too small for any class
    };
    let class = times.min(CLASSES - 1);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is at most the number of classes"
    )]
    let classes = (order.strength.clamp(0.0, 1.0) * f64::from(CLASSES)) as u32 + 1;
    class + classes >= CLASSES
}

fn all() -> Vec<Rc<Account>> {
    ACCOUNTS.with_borrow(|accounts| accounts.iter().filter_map(Weak::upgrade).collect())
}

#[cfg(test)]
impl OfConnection {
    /// One of a listener of its own.
    pub(crate) fn alone() -> Rc<Self> {
        let registry = crate::telemetry::stats::Registry::new(1);
        let usual = (limits::HELD_BYTES_TOTAL, false);
        Self::new(Arc::default(), registry.listener("l"), usual)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::stats::Registry;

    #[derive(Debug)]
    struct Window(usize);

    impl Unread for Window {
        fn bytes(&self) -> usize {
            self.0
        }
    }

    fn order(strength: f64, power: u32) -> Order {
        let stats = Registry::new(1).overload_action("a");
        Order {
            strength,
            power,
            stats,
        }
    }

    #[test]
    fn each_part_of_the_tree_has_what_its_streams_hold() {
        let listener = Arc::<OfListener>::default();
        let stats = Registry::new(1).listener("l");
        let usual = (limits::HELD_BYTES_TOTAL, false);
        let of = || OfConnection::new(Arc::clone(&listener), Arc::clone(&stats), usual);
        let (one, other) = (of(), of());
        let held = || (one.bytes.get(), listener.0.load(Ordering::Relaxed));
        let (first, second) = (Account::open(&one), Account::open(&other));
        assert!(first.keep(100) && second.keep(20));
        let cx = Context::from_waker(Waker::noop());
        let window = || Some(Box::new(Window(7)) as Box<dyn Unread>);
        let waiting = first.poll_waiting(Direction::Response, 1000, window, &cx);
        assert!(waiting.is_pending());
        assert_eq!(held(), (1107, 1127));
        first.go_on(Direction::Response);
        first.release(40);
        assert_eq!(held(), (67, 87));
        drop(first);
        assert_eq!(held(), (0, 20));
        drop(second);
        assert_eq!(held(), (0, 0));
        ACCOUNTS.with_borrow(|accounts| assert!(accounts.is_empty()));
    }

    #[test]
    fn nothing_is_kept_beyond_the_limit_of_a_connection_or_a_listener() {
        let listener = Arc::<OfListener>::default();
        let stats = Registry::new(1).listener("l");
        let usual = (limits::HELD_BYTES_TOTAL, false);
        let of = || OfConnection::new(Arc::clone(&listener), Arc::clone(&stats), usual);
        let most = limits::HELD_BYTES_PER_CONNECTION;
        let full = of();
        let accounts = [(); 2].map(|()| Account::open(&full));
        assert!(accounts[0].keep(most - 1));
        assert!(accounts[1].keep(1));
        assert!(!accounts[1].keep(1), "of the same connection");
        let others: Vec<_> = (0..limits::HELD_BYTES_PER_LISTENER / most - 1)
            .map(|_| Account::open(&of()))
            .collect();
        assert!(others.iter().all(|account| account.keep(most)));
        assert!(!Account::open(&of()).keep(1), "of the same listener");
    }

    #[test]
    fn of_little_memory_each_has_a_smaller_part() {
        let mib = 1024 * 1024;
        let stats = Registry::new(1).listener("l");
        let connection = OfConnection::new(Arc::default(), stats, (16 * mib, false));
        let account = Account::open(&connection);
        assert!(!account.keep(2 * mib + 1) && account.keep(2 * mib));
        assert!(!account.keep(1), "an eighth is its connection's");
    }

    #[test]
    fn classes_are_envoys() {
        let hit = |bytes: usize, strength| is_hit(bytes, &order(strength, 10));
        assert!(!hit(1023, 1.0) && hit(1024, 1.0));
        assert!(hit(128 * 1024, 0.01) && hit(usize::MAX, 0.01));
        assert!(!hit(128 * 1024 - 1, 0.01));
        assert!(hit(64 * 1024, 0.125) && !hit(64 * 1024 - 1, 0.125));
        assert!(hit(2048, 0.875 - 0.125) && !hit(2047, 0.875 - 0.125));
        assert!(hit(1024, 0.875));
    }

    #[test]
    fn those_that_hold_most_are_given_up_first() {
        let connection = OfConnection::alone();
        let accounts: Vec<_> = (0..limits::RESETS_AT_ONCE + 3)
            .map(|number| {
                let account = Account::open(&connection);
                assert!(account.keep(1024 + number));
                account
            })
            .collect();
        let order = order(1.0, 10);
        reset(&order);
        let given_up = |account: &&Rc<Account>| account.is_given_up();
        assert_eq!(
            accounts.iter().filter(given_up).count(),
            limits::RESETS_AT_ONCE
        );
        assert!(accounts[..3].iter().all(|account| !account.is_given_up()));
        reset(&order);
        assert!(accounts.iter().all(|account| account.is_given_up()));
    }
}
