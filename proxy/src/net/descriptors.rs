//! Descriptors of the process: as many as the system allows, and a reserve that new connections leave
//! to what serves the others.
//!
//! A new descriptor is always the lowest free number, so a high number means that few are left; that
//! costs no system call and no count. When numbers below were just given back it errs for the
//! connection, and `accept` itself fails in the end.

use std::io;
use std::os::fd::AsFd;
use std::os::fd::AsRawFd;
use std::sync::OnceLock;

use rustix::process::Resource;
use rustix::process::Rlimit;

use crate::config::limits;

/// Raises the limit as far as the process may. To be called once, before anything is accepted.
///
/// # Errors
/// Whatever the system says; the limit is as it was.
pub fn raise_limit() -> io::Result<()> {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    Ok(rustix::process::setrlimit(Resource::Nofile, raised)?)
}

/// Whether so few are left that a new connection should not keep this one.
pub fn are_scarce(descriptor: &impl AsFd) -> bool {
    static USABLE: OnceLock<u64> = OnceLock::new();
    let usable = *USABLE.get_or_init(|| {
        let limit = rustix::process::getrlimit(Resource::Nofile).current;
        limit.map_or(u64::MAX, usable)
    });
    u64::try_from(descriptor.as_fd().as_raw_fd()).is_ok_and(|number| number >= usable)
}

fn usable(limit: u64) -> u64 {
    limit - (limit / 4).min(limits::DESCRIPTORS_RESERVED_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quarter_is_reserved_but_not_too_much() {
        assert_eq!(usable(256), 192);
        assert_eq!(usable(1024), 768);
        assert_eq!(usable(1_048_576), 1_044_480);
    }
}
