//! The switches: each asks for something and answers at once, before it is done.

use crate::admin::reply::Reply;
use crate::admin::route::Call;

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
