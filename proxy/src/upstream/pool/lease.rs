//! A connection while an exchange uses it.

use std::cell::RefMut;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use http::Request;
use http::request::Parts;

use crate::drain::DrainGuard;
use crate::error::Reason;
use crate::http::codec::Http1Sender;
use crate::http::codec::Http2Sender;
use crate::http::codec::Protocol;
use crate::http::codec::RequestBody;
use crate::http::codec::Sent;
use crate::net::NetStream;
use crate::net::tls::Facts;
use crate::upstream::Host;
use crate::upstream::HostCounts;
use crate::upstream::pool::host_pool::HostPool;
use crate::upstream::pool::host_pool::Http1Connection;
use crate::upstream::pool::host_pool::Http2Connection;

/// A connection lent to one exchange. Dropping it before [`Lease::finish`] gives up the exchange: an
/// HTTP/1 connection is closed, an HTTP/2 stream is reset.
#[derive(Debug)]
pub enum Lease {
    /// The whole connection.
    Http1(Http1Lease),
    /// One stream of it.
    Http2(Http2Lease),
}

/// An HTTP/1 connection lent to one exchange.
#[derive(Debug)]
pub struct Http1Lease {
    pub(super) slot: Slot,
    pub(super) connection: Http1Connection,
    pub(super) reused: bool,
}

/// A stream of an HTTP/2 connection.
#[derive(Debug)]
pub struct Http2Lease {
    pub(super) connection: Rc<Http2Connection>,
    pub(super) sender: Http2Sender,
    pub(super) slot: Slot,
    pub(super) reused: bool,
}

/// A place among the requests of the cluster, given back when dropped.
#[derive(Debug)]
pub(super) struct Slot(pub(super) Rc<HostPool>);

impl Slot {
    /// One more request.
    ///
    /// # Errors
    /// There are as many as there may be.
    pub(super) fn enter(pool: &Rc<HostPool>) -> Result<Self, Reason> {
        if pool.breakers.enter_request(pool.priority) {
            Ok(Self(Rc::clone(pool)))
        } else {
            Err(Reason::Overflow)
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.breakers.leave_request(self.0.priority);
    }
}

impl Lease {
    /// What is spoken on it.
    pub fn protocol(&self) -> Protocol {
        match self {
            Self::Http1(_) => Protocol::Http1,
            Self::Http2(_) => Protocol::Http2,
        }
    }

    /// Whether it carried another exchange before: then it may have been closed under our hands.
    pub fn is_reused(&self) -> bool {
        match self {
            Self::Http1(lease) => lease.reused,
            Self::Http2(lease) => lease.reused,
        }
    }

    /// Where this worker counts for the host.
    pub fn counts(&self) -> Arc<HostCounts> {
        match self {
            Self::Http1(lease) => Arc::clone(&lease.slot.0.counts),
            Self::Http2(lease) => Arc::clone(&lease.slot.0.counts),
        }
    }

    /// Whether `host`, which it leads to, has left since it was made.
    pub fn is_obsolete(&self, host: &Host) -> bool {
        match self {
            Self::Http1(lease) => lease.connection.vintage.is_obsolete(host),
            Self::Http2(lease) => lease.connection.vintage.is_obsolete(host),
        }
    }

    /// Asks to end when the drain time of the host is over, should it leave.
    pub fn user(&self) -> DrainGuard {
        match self {
            Self::Http1(lease) => lease.connection.users.guard(),
            Self::Http2(lease) => lease.connection.users.guard(),
        }
    }

    /// Our end of the connection.
    pub fn local_address(&self) -> Option<SocketAddr> {
        match self {
            Self::Http1(lease) => lease.connection.local,
            Self::Http2(lease) => lease.connection.local,
        }
    }

    /// Asks to finish when the server's certificate ends or is trusted no more; none without TLS.
    pub fn distrust(&self) -> Option<DrainGuard> {
        let (pool, tenure) = match self {
            Self::Http1(lease) => (&lease.slot.0, lease.connection.tenure),
            Self::Http2(lease) => (&lease.slot.0, lease.connection.tenure),
        };
        pool.servers.enter(&pool.host, self.tls(), tenure)
    }

    /// Its TLS.
    pub fn tls(&self) -> Option<&Arc<Facts>> {
        match self {
            Self::Http1(lease) => lease.connection.tls.as_ref(),
            Self::Http2(lease) => lease.connection.tls.as_ref(),
        }
    }

    /// The response was read to its end: an HTTP/1 connection goes back to the pool. Whether the
    /// request was written to its end is asked when it is taken out again.
    pub fn finish(self) {
        match self {
            Self::Http1(lease) => {
                let Http1Lease {
                    slot, connection, ..
                } = lease;
                let pool = Rc::clone(&slot.0);
                drop(slot); // first, so that whoever waits for the connection finds its place free
                pool.put_back(connection);
            }
            Self::Http2(_) => {}
        }
    }
}

impl Http1Lease {
    /// Sends a request; the future is the head of the response. Dropping it closes the connection. The
    /// head of the request is kept in `slot`, if there is one.
    pub fn send<'s>(
        &mut self,
        request: Request<RequestBody>,
        slot: Option<&'s mut Option<Parts>>,
    ) -> impl Future<Output = Sent> + use<'s> {
        self.connection.sender.send(request, slot)
    }
}

impl Http1Lease {
    /// The socket, once a 101 has ended HTTP on it.
    pub fn stream(&self) -> RefMut<'_, NetStream> {
        self.connection.sender.stream()
    }

    /// What came after the 101 with it.
    pub fn take_early(&self) -> Vec<u8> {
        self.connection.sender.take_early()
    }
}

impl Http2Lease {
    /// Sends a request; the future is the head of the response. Dropping it resets the stream.
    pub fn send(&mut self, request: Request<RequestBody>) -> impl Future<Output = Sent> + use<> {
        self.sender.send(request)
    }

    /// The same with a request that asks to go on as another protocol.
    pub fn extend(&mut self, request: Request<RequestBody>) -> impl Future<Output = Sent> + use<> {
        self.sender.extend(&self.connection.settings, request)
    }
}

impl Drop for Http2Lease {
    fn drop(&mut self) {
        self.connection
            .streams
            .set(self.connection.streams.get() - 1);
        self.slot.0.end_stream(&self.connection);
    }
}

/// The sender of an idle connection, typed for the pool.
pub(super) type Sender = Http1Sender;
