//! The floor: the least code that can move a request from one socket to another.
//!
//! One thread, one `epoll`, and for each accepted connection one connection to the target. Bytes
//! read on one side are written on the other at once; nothing is parsed, pooled or counted. Four
//! data system calls per HTTP/1.1 request is what no proxy on sockets can go below.
//!
//! When a write would block it waits for that one socket: right for a floor, wrong for a proxy.

use std::collections::HashMap;
use std::io::{self, ErrorKind, Read, Write};
use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::rc::Rc;

use rustix::event::{PollFd, PollFlags, epoll, poll};
use socket2::SockRef;

use crate::socket::CONGESTION;

/// One read: holds any small message, and a fair part of a large body.
const READ_BYTES: usize = 64 * 1024;

/// Events taken from one `epoll_wait`.
const EVENTS_MAX: usize = 256;

/// The token of the listening socket; connections count up from 1.
const LISTENER: u64 = 0;

/// One direction: what to read, where to write.
struct Side {
    from: Rc<TcpStream>,
    to: Rc<TcpStream>,
    /// The token of the other direction, dropped together with this one.
    twin: u64,
}

/// Relays between `port` of 127.0.0.1 and `target` until the process ends.
///
/// # Errors
/// When the port is taken or `epoll` fails.
pub fn run(port: u16, target: SocketAddr) -> io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
    listener.set_nonblocking(true)?;
    let poller = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    epoll::add(
        &poller,
        &listener,
        epoll::EventData::new_u64(LISTENER),
        epoll::EventFlags::IN,
    )?;
    let mut sides = HashMap::new();
    let mut next_token = 1;
    let mut events = [MaybeUninit::uninit(); EVENTS_MAX];
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let (ready, _) = match epoll::wait(&poller, &mut events, None) {
            Err(rustix::io::Errno::INTR) => continue,
            ready => ready?,
        };
        for event in ready {
            let token = event.data.u64();
            if token == LISTENER {
                accept(&listener, target, &poller, &mut sides, &mut next_token)?;
                continue;
            }
            let Some(side) = sides.get(&token) else {
                continue;
            };
            if !matches!(pump(side, &mut buffer), Ok(true)) {
                let twin = side.twin;
                sides.remove(&token);
                // Closing the sockets takes them out of the epoll set.
                sides.remove(&twin);
            }
        }
    }
}

fn accept(
    listener: &TcpListener,
    target: SocketAddr,
    poller: &impl AsFd,
    sides: &mut HashMap<u64, Side>,
    next_token: &mut u64,
) -> io::Result<()> {
    let downstream = match listener.accept() {
        Ok((stream, _)) => Rc::new(stream),
        Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
        Err(error) => return Err(error),
    };
    let Ok(upstream) = TcpStream::connect(target).map(Rc::new) else {
        return Ok(());
    };
    let (request, response) = (*next_token, *next_token + 1);
    *next_token += 2;
    for (token, twin, from, to) in [
        (request, response, &downstream, &upstream),
        (response, request, &upstream, &downstream),
    ] {
        from.set_nonblocking(true)?;
        from.set_nodelay(true)?;
        let _refused_without_privilege =
            SockRef::from(&**from).set_tcp_congestion(CONGESTION.as_bytes());
        epoll::add(
            poller,
            from,
            epoll::EventData::new_u64(token),
            epoll::EventFlags::IN,
        )?;
        sides.insert(
            token,
            Side {
                from: Rc::clone(from),
                to: Rc::clone(to),
                twin,
            },
        );
    }
    Ok(())
}

/// Moves what is there; false at the end of the stream.
fn pump(side: &Side, buffer: &mut [u8]) -> io::Result<bool> {
    let read = match (&*side.from).read(buffer) {
        Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
        read => read?,
    };
    let mut rest = buffer.get(..read).unwrap_or_default();
    while !rest.is_empty() {
        match (&*side.to).write(rest) {
            Ok(written) => rest = rest.get(written..).unwrap_or_default(),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                poll(&mut [PollFd::new(&*side.to, PollFlags::OUT)], None)?;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(read > 0)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use crate::load::{Load, Pace, Plan, Protocol, RequestShape};
    use crate::origin::{FixedOptions, FixedOrigin};
    use crate::ports::ReservedPort;
    use crate::wire::Transport;

    #[tokio::test]
    async fn requests_and_large_answers_pass_through() {
        let port = ReservedPort::new().expect("a free port");
        let options = FixedOptions {
            body_bytes: 500_000,
            ..FixedOptions::default()
        };
        let origin = FixedOrigin::start(&options).expect("a free port");
        let (number, target) = (port.number(), origin.addr());
        // Lives until the test process ends: the relay has no reason to stop by itself.
        std::thread::spawn(move || super::run(number, target));
        let plan = Plan {
            target: port.addr(),
            protocol: Protocol::Http1,
            transport: Transport::Plain,
            request: RequestShape::default(),
            connections: 8,
            pace: Pace::Closed,
        };
        let began = async {
            loop {
                match Load::start(plan.clone()).await {
                    Ok(load) => return load,
                    Err(_) => tokio::task::yield_now().await,
                }
            }
        };
        let load = timeout(Duration::from_secs(10), began)
            .await
            .expect("the relay listens");
        let passed = async {
            while load.counters().completed < 50 {
                tokio::task::yield_now().await;
            }
        };
        timeout(Duration::from_secs(10), passed)
            .await
            .expect("answers pass");
        assert_eq!(load.counters().failed, 0, "{:?}", load.first_failure());
    }
}
