//! The switches: each asks for something and answers at once, before it is done.

use http::StatusCode;

use crate::admin::reply::Reply;
use crate::admin::route::Call;
use crate::config::endpoint::Address;

/// `/drain_endpoint`.
pub(in crate::admin) fn drain_endpoint(call: &Call<'_>) -> Reply {
    let (cluster, address) = (call.query.value("cluster"), call.query.value("address"));
    let (Some(cluster), Some(text)) = (cluster, address) else {
        return Reply::bad_request("usage: /drain_endpoint?cluster=NAME&address=ADDRESS[&undo]");
    };
    let Some(address) = address_of(text) else {
        let sentence = format!("{text:?} is not an address: 10.0.0.1:80, [::1]:80 or /a/path");
        return Reply::bad_request(&sentence);
    };
    let drain = !call.query.is_set("undo");
    match call.admin.inspect.drain_endpoint(cluster, &address, drain) {
        Err(sentence) => Reply::error(StatusCode::NOT_FOUND, &sentence),
        Ok(_) if !drain => Reply::text(format!("{text} of {cluster} takes requests again\n")),
        Ok(views) => {
            let requests: u64 = views.iter().map(|view| view.requests).sum();
            let seconds = views.iter().map(|view| view.left.as_secs()).max();
            let seconds = seconds.unwrap_or_default();
            Reply::text(format!(
                "{text} of {cluster} takes nothing new; {requests} requests on it have {seconds} s to end\n"
            ))
        }
    }
}

fn address_of(text: &str) -> Option<Address> {
    if text.starts_with(['/', '@']) {
        return Some(Address::Pipe(text.into()));
    }
    text.parse().ok().map(Address::Socket)
}

/// `/drain_listeners`.
pub(in crate::admin) fn drain_listeners(call: &Call<'_>) -> Reply {
    call.admin
        .inspect
        .drain_listeners(call.query.is_set("graceful"));
    Reply::text("OK\n")
}

/// `/quitquitquit`.
pub(in crate::admin) fn quit(call: &Call<'_>) -> Reply {
    call.admin.inspect.quit();
    Reply::text("OK\n")
}

/// `/reopen_logs`.
pub(in crate::admin) fn reopen_logs(call: &Call<'_>) -> Reply {
    call.admin.inspect.reopen_logs();
    Reply::text("OK\n")
}
