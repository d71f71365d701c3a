//! `/stats`, `/stats/prometheus` and `/metrics`.

use http::StatusCode;

use crate::admin::endpoint::dropped;
use crate::admin::endpoint::format_of;
use crate::admin::endpoint::memory::Memory;
use crate::admin::endpoint::pattern;
use crate::admin::endpoint::shadow;
use crate::admin::endpoint::weights;
use crate::admin::reply::Reply;
use crate::admin::request::Query;
use crate::admin::route::Call;
use crate::admin::state::Admin;
use crate::admin::state::ServerState;
use crate::telemetry::prometheus as exposition;
use crate::telemetry::prometheus::Selection;
use crate::telemetry::text;

/// `/stats`.
pub(in crate::admin) fn reply(call: &Call<'_>) -> Reply {
    let format = match format_of(call.query, "/stats", &["text", "json", "prometheus"]) {
        Ok("prometheus") => return prometheus(call),
        Ok(format) => format,
        Err(reply) => return reply,
    };
    let selection = match selection(call.query) {
        Ok(selection) => selection,
        Err(reply) => return reply,
    };
    refresh(call.admin);
    if format == "json" {
        return Reply::json(&text::render_json(&call.admin.registry, &selection));
    }
    let mut body = String::new();
    text::render(&call.admin.registry, &selection, &mut body);
    Reply::text(body)
}

/// `/stats/prometheus` and `/metrics`.
pub(in crate::admin) fn prometheus(call: &Call<'_>) -> Reply {
    let buckets = call.query.value("histogram_buckets");
    if buckets.is_some_and(|buckets| buckets != "cumulative") {
        return Reply::bad_request("usage: /stats/prometheus?histogram_buckets=(cumulative)");
    }
    if let Err(reply) = format_of(call.query, "/stats/prometheus", &["prometheus"]) {
        return reply;
    }
    let selection = match selection(call.query) {
        Ok(selection) => selection,
        Err(reply) => return reply,
    };
    refresh(call.admin);
    let build = call.admin.build;
    let build = [("version", build.version), ("revision", build.revision)];
    let mut body = String::new();
    exposition::render(&call.admin.registry, &selection, &build, &mut body);
    let clusters = call.admin.inspect.clusters_of_metrics();
    dropped::render(&clusters, &selection, &mut body);
    weights::render(&clusters, &selection, &mut body);
    shadow::render(&clusters, &selection, &mut body);
    Reply::with(StatusCode::OK, exposition::CONTENT_TYPE, body.into_bytes())
}

fn selection(query: &Query) -> Result<Selection, Reply> {
    let filter = pattern(query, "filter")?;
    let used_only = query.is_set("usedonly");
    Ok(Selection { filter, used_only })
}

/// What nobody counts but everybody asks for.
fn refresh(admin: &Admin) {
    let server = admin.registry.server();
    let state = admin.inspect.readiness().state;
    server.state().set(state as i64);
    server.live().set((state == ServerState::Live).into());
    let uptime = admin.inspect.server_info().uptime.as_secs();
    server.uptime().set(uptime.cast_signed());
    server.version().set(version_number(admin.build.version));
    let memory = Memory::now();
    server
        .memory_allocated()
        .set(memory.allocated.cast_signed());
    server
        .memory_heap_size()
        .set(memory.heap_size.cast_signed());
    server
        .held_bytes()
        .set_count(crate::overload::held::total());
    server
        .memory_physical_size()
        .set(memory.physical.cast_signed());
}

/// 65536 * major + 256 * minor + patch.
fn version_number(version: &str) -> i64 {
    let parts = version.split(['.', '-']).take(3);
    parts.fold(0, |number, part| {
        (number << 8) + part.parse().map_or(0, |part: u8| part.into())
    })
}

#[cfg(test)]
mod tests {
    use super::version_number;

    #[test]
    fn versions_compare_as_numbers() {
        assert_eq!(version_number("1.2.3"), 66_051);
        assert!(version_number("0.10.0") > version_number("0.9.9-beta"));
    }
}
