//! `setsockopt(2)` by numbers. What an option means is the system's to know: a configuration may name
//! any, and a system that does not know it says so.

#![expect(
    unsafe_code,
    reason = "the safe interfaces of the system have only options they know by name"
)]

use std::io;
use std::os::fd::AsRawFd;
use std::os::fd::BorrowedFd;

use crate::config::socket::SocketOption;

/// Sets an option, whatever its moment and family.
pub(super) fn set(socket: BorrowedFd<'_>, option: &SocketOption) -> io::Result<()> {
    let SocketOption {
        level, name, value, ..
    } = option;
    let length = libc::socklen_t::try_from(value.len()).unwrap_or(libc::socklen_t::MAX);
    // SAFETY: the descriptor is open as long as it is borrowed. Of our memory the system reads
    // `length` bytes at the address of the value, which has that many, and writes none: an option that
    // holds addresses itself, as filters do, only makes it read elsewhere, or refuse.
    let outcome = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            *level,
            *name,
            value.as_ptr().cast(),
            length,
        )
    };
    if outcome == 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    let text = format!("cannot set socket option {name} of level {level}: {error}");
    Err(io::Error::new(error.kind(), text))
}
