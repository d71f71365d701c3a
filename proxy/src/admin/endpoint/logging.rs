//! `/logging`: shows and changes the filter of the diagnostic log.

use http::StatusCode;

use crate::admin::reply::Reply;
use crate::admin::request::Query;
use crate::admin::route::Call;
use crate::telemetry::log::LogControl;

const USAGE: &str = "\n\
usage: /logging?<target>=<level> (change one target)\n\
usage: /logging?paths=target1:level1,target2:level2,... (change several)\n\
usage: /logging?level=<level> (change all)\n\
levels: trace debug info warning error off";

/// The filter in force, after the change that was asked for.
pub(in crate::admin) fn reply(call: &Call<'_>) -> Reply {
    let Some(log) = &call.admin.log else {
        let sentence = "the log filter cannot be changed here";
        return Reply::error(StatusCode::NOT_IMPLEMENTED, sentence);
    };
    match change(call.query, &**log) {
        Ok(filter) => Reply::text(format!("active loggers:\n  {filter}\n")),
        Err(error) => Reply::bad_request(&format!("error: {error}\n{USAGE}")),
    }
}

fn change(query: &Query, log: &dyn LogControl) -> Result<String, String> {
    let mut filter = log.current();
    let mut changed = false;
    for (name, value) in query.iter() {
        changed = true;
        match name {
            "level" if value.contains(['=', ',']) => value.clone_into(&mut filter),
            "level" => level(value)?.clone_into(&mut filter),
            "paths" => {
                for pair in value.split(',').filter(|pair| !pair.is_empty()) {
                    let (target, value) = pair.rsplit_once(':').ok_or("no level in paths")?;
                    add(&mut filter, target, level(value)?);
                }
            }
            "group" => return Err("there are no groups of loggers".to_owned()),
            target => add(&mut filter, target, level(value)?),
        }
    }
    if changed {
        log.set(&filter)
    } else {
        Ok(filter)
    }
}

/// A later directive for the same target takes the place of the earlier one.
fn add(filter: &mut String, target: &str, level: &str) {
    let kept = filter.split(',').filter(|directive| {
        let name = directive.split_once('=').map(|(name, _)| name);
        name != Some(target) && !directive.is_empty()
    });
    let added = format!("{target}={level}");
    *filter = kept.chain([added.as_str()]).collect::<Vec<_>>().join(",");
}

/// Envoy's levels under the names they have here.
fn level(name: &str) -> Result<&'static str, String> {
    Ok(match name.to_ascii_lowercase().as_str() {
        "critical" | "error" => "error",
        "debug" => "debug",
        "info" => "info",
        "off" => "off",
        "trace" => "trace",
        "warn" | "warning" => "warn",
        _ => return Err(format!("unknown logger level {name:?}")),
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::change;
    use crate::admin::request::Query;
    use crate::telemetry::log::LogControl;

    #[derive(Debug)]
    struct Log(Mutex<String>);

    impl LogControl for Log {
        fn set(&self, spec: &str) -> Result<String, String> {
            if spec.contains("bad") {
                return Err("bad target".to_owned());
            }
            spec.clone_into(&mut self.0.lock().expect("a lock"));
            Ok(spec.to_owned())
        }

        fn current(&self) -> String {
            self.0.lock().expect("a lock").clone()
        }
    }

    #[test]
    fn table() {
        let check = |query: &str, expected: Result<&str, &str>| {
            let log = Log(Mutex::new("info,h2=warn".to_owned()));
            let result = change(&Query::parse(query), &log);
            let expected = expected.map(str::to_owned).map_err(str::to_owned);
            assert_eq!(result, expected, "{query}");
        };
        check("", Ok("info,h2=warn"));
        check("level=warning", Ok("warn"));
        check("level=info,h2=debug", Ok("info,h2=debug"));
        check("h2=debug", Ok("info,h2=debug"));
        check("weir::http=trace", Ok("info,h2=warn,weir::http=trace"));
        check(
            "paths=h2:off,weir::http:debug",
            Ok("info,h2=off,weir::http=debug"),
        );
        check("level=loud", Err("unknown logger level \"loud\""));
        check("paths=h2", Err("no level in paths"));
        check("bad=info", Err("bad target"));
        check("group=a:info", Err("there are no groups of loggers"));
    }
}
