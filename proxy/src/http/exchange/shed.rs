//! Requests that are refused because of overload, at three points of their way.

use crate::config::overload::Action;
use crate::config::overload::ShedPoint;
use crate::error::Reason;
use crate::http::codec::Protocol;
use crate::http::connection_manager::Connection;

/// Before anything of a request is looked at.
///
/// # Errors
/// It is refused, and so is its connection of HTTP/1.
pub(super) fn dispatch(connection: &Connection) -> Result<(), Reason> {
    if connection.protocol == Protocol::Http1 && connection.sheds(ShedPoint::Http1Dispatch) {
        let stats = &connection.manager.stats;
        stats.downstream_rq_overload_close().inc();
        return Err(Reason::Aborted);
    }
    Ok(())
}

/// Before a request has a route.
///
/// # Errors
/// It is refused.
pub(super) fn head(connection: &Connection) -> Result<(), Reason> {
    if connection.is_hit_by(Action::StopAcceptingRequests) || connection.sheds(ShedPoint::Headers) {
        let stats = &connection.manager.stats;
        stats.downstream_rq_overload_close().inc();
        return Err(Reason::Overloaded);
    }
    Ok(())
}

/// Once a request has a cluster.
///
/// # Errors
/// It is refused.
pub(super) fn routed(connection: &Connection) -> Result<(), Reason> {
    if connection.sheds(ShedPoint::Routed) {
        connection.manager.stats.rq_overload_local_reply().inc();
        return Err(Reason::Overloaded);
    }
    Ok(())
}
