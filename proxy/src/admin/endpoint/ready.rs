//! `/ready` and `/readyz`: whether traffic may come.

use http::StatusCode;

use crate::admin::reply::Reply;
use crate::admin::route::Call;
use crate::admin::state::ServerState;

/// The state in one word, and what it waits for if asked.
pub(in crate::admin) fn reply(call: &Call<'_>) -> Reply {
    let readiness = call.admin.inspect.readiness();
    let mut body = format!("{}\n", readiness.state.as_str());
    if call.query.is_set("verbose") {
        for waiting in &readiness.waiting_for {
            body.push_str(waiting);
            body.push('\n');
        }
    }
    let mut reply = Reply::text(body);
    if readiness.state != ServerState::Live {
        reply.status = StatusCode::SERVICE_UNAVAILABLE;
    }
    reply
}
