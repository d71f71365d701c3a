//! Pipes for `splice(2)`: bytes go from one socket to another without being copied to user space.
//!
//! A pipe is made when bytes move and no spare is there, and goes back empty; an idle relay holds
//! none. Invariant: a spare pipe is empty.

use std::cell::Cell;
use std::cell::RefCell;
use std::io;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;

use rustix::pipe::PipeFlags;
use rustix::pipe::SpliceFlags;

/// What a pipe can hold, if the system allows: four default pipes, so that one system call moves
/// what a fast sender has put into the socket meanwhile.
const CAPACITY_BYTES: usize = 256 * 1024;

/// Spare pipes per worker: connections whose bytes move at the same moment are few.
const SPARE_MAX: usize = 16;

/// Pipes per worker, each two descriptors: beyond it slow readers would eat the descriptors that
/// new connections need, and relays copy.
const PIPES_MAX: usize = 256;

thread_local! {
    static SPARE: RefCell<Vec<(OwnedFd, OwnedFd)>> = const { RefCell::new(Vec::new()) };
    static IN_USE: Cell<usize> = const { Cell::new(0) };
}

/// A pipe, and how many bytes are in it.
#[derive(Debug)]
pub struct Pipe {
    ends: Option<(OwnedFd, OwnedFd)>,
    held: usize,
}

impl Pipe {
    /// An empty pipe; none if there are too many or the system gives none.
    pub fn take() -> Option<Self> {
        let in_use = IN_USE.get();
        if in_use >= PIPES_MAX {
            return None;
        }
        let ends = match SPARE.with_borrow_mut(Vec::pop) {
            Some(ends) => ends,
            None => make().ok()?,
        };
        IN_USE.set(in_use + 1);
        Some(Self {
            ends: Some(ends),
            held: 0,
        })
    }

    /// Bytes in it.
    pub fn held(&self) -> usize {
        self.held
    }

    /// Moves bytes from a socket into the pipe, which must be empty, at most `bytes_max` of them; 0 is
    /// the end of the stream.
    ///
    /// # Errors
    /// `WouldBlock` if the socket has none; whatever else the system says.
    pub fn fill(&mut self, from: &impl AsFd, bytes_max: usize) -> io::Result<usize> {
        let (_, into) = self.ends()?;
        let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
        let moved =
            rustix::pipe::splice(from, None, into, None, bytes_max.min(CAPACITY_BYTES), flags)?;
        self.held += moved;
        Ok(moved)
    }

    /// Moves bytes out of the pipe into a socket.
    ///
    /// # Errors
    /// `WouldBlock` if the socket takes none; whatever else the system says.
    pub fn drain(&mut self, into: &impl AsFd) -> io::Result<usize> {
        let (from, _) = self.ends()?;
        let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
        let moved = rustix::pipe::splice(from, None, into, None, self.held, flags)?;
        if moved == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.held = self.held.saturating_sub(moved);
        Ok(moved)
    }

    /// Takes what is in it into memory, for a socket that cannot be spliced to.
    ///
    /// # Errors
    /// Whatever the system says.
    pub fn empty(&mut self) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; self.held];
        let mut filled = 0;
        while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            let (from, _) = self.ends()?;
            filled += match rustix::io::read(from, rest)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                len => len,
            };
        }
        self.held = 0;
        Ok(bytes)
    }

    fn ends(&self) -> io::Result<&(OwnedFd, OwnedFd)> {
        self.ends
            .as_ref()
            .ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        IN_USE.set(IN_USE.get().saturating_sub(1));
        let Some(ends) = self.ends.take().filter(|_| self.held == 0) else {
            return; // what is still in it belongs to nobody else
        };
        // The thread's spares are gone already when the thread itself ends.
        let _ = SPARE.try_with(|spare| {
            let mut spare = spare.borrow_mut();
            if spare.len() < SPARE_MAX {
                spare.push(ends);
            }
        });
    }
}

fn make() -> io::Result<(OwnedFd, OwnedFd)> {
    let ends = rustix::pipe::pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
    // Refused above the user's share of pipe memory; the default size works as well.
    let _ = rustix::pipe::fcntl_setpipe_size(&ends.0, CAPACITY_BYTES);
    Ok(ends)
}
