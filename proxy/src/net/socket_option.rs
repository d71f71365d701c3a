//! `setsockopt(2)` by numbers. What an option means is the system's to know: a configuration may name
//! any, and a system that does not know it says so. And the one thing asked of a socket that no safe
//! interface has: `TCP_INFO`.

#![expect(
    unsafe_code,
    reason = "the safe interfaces of the system have only options they know by name"
)]

use std::io;
use std::os::fd::AsRawFd;
use std::os::fd::BorrowedFd;
use std::time::Duration;

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

/// Where `tcpi_rtt` stands in `struct tcp_info`, and its bytes; the layout is the kernel's promise.
const ROUND_TRIP: std::ops::Range<usize> = 68..72;

/// The round-trip time that the kernel measured of a connection, smoothed; `None` if it is no TCP, or
/// measured nothing yet.
pub(super) fn round_trip(socket: BorrowedFd<'_>) -> Option<Duration> {
    let mut info = [0_u8; ROUND_TRIP.end];
    let mut length = libc::socklen_t::try_from(info.len()).ok()?;
    // SAFETY: the descriptor is open as long as it is borrowed. The system writes at most `length` bytes
    // to `info`, which has that many, and to `length` how many it wrote; both live past the call.
    let outcome = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if outcome != 0 || usize::try_from(length).ok()? < ROUND_TRIP.end {
        return None;
    }
    let bytes: [u8; 4] = info.get(ROUND_TRIP)?.try_into().ok()?;
    let micros = u32::from_ne_bytes(bytes);
    (micros > 0).then(|| Duration::from_micros(micros.into()))
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::io::Write;
    use std::net::TcpListener;
    use std::net::TcpStream;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn the_kernel_knows_the_round_trip_of_tcp_alone() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let mut near = TcpStream::connect(address).expect("it listens");
        let (mut far, _) = listener.accept().expect("a client");
        near.write_all(b"x").expect("it is open");
        far.read_exact(&mut [0]).expect("it is open");
        let found = round_trip(near.as_fd()).expect("measured by the handshake at least");
        assert!(found < Duration::from_secs(10), "{found:?}");
        let (one, _other) = UnixStream::pair().expect("a pair");
        assert_eq!(round_trip(one.as_fd()), None);
    }
}
