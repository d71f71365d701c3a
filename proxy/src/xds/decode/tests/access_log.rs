//! Access logs of a connection manager.

use serde_json::Value;
use serde_json::json;

use super::check_table;
use super::listener::FILE;
use super::listener::STDOUT;
use super::listener::decode;
use super::listener::http;
use super::listener::only_log;
use super::listener::typed;
use super::merged;
use crate::config::access_log::Command;
use crate::config::access_log::Format;
use crate::config::access_log::JsonValue;
use crate::config::access_log::Sink;
use crate::config::access_log::TemplatePart;

#[test]
fn logs_go_where_they_are_sent() {
    assert_eq!(
        only_log(FILE, json!({"path": "/a"})).sink,
        Sink::File("/a".into())
    );
    assert_eq!(
        only_log(FILE, json!({"path": "/dev/stdout"})).sink,
        Sink::Stdout
    );
    assert_eq!(only_log(STDOUT, json!({})).sink, Sink::Stdout);
    let stderr = "envoy.extensions.access_loggers.stream.v3.StderrAccessLog";
    assert_eq!(only_log(stderr, json!({})).sink, Sink::Stderr);
}

#[test]
fn the_default_format_is_envoys() {
    let Format::Text(template) = only_log(STDOUT, json!({})).format else {
        panic!("text")
    };
    let commands = template
        .parts
        .iter()
        .filter(|part| matches!(part, TemplatePart::Command(..)));
    assert_eq!(commands.count(), 15);
    assert_eq!(
        template.parts.last(),
        Some(&TemplatePart::Literal("\"\n".into()))
    );
}

#[test]
fn json_formats_keep_types_and_sort_keys() {
    let log = only_log(
        STDOUT,
        json!({"log_format": {
            "omit_empty_values": true,
            "json_format": {"z": "%PROTOCOL%", "a": {"n": 1.5, "t": true, "x": null}},
        }}),
    );
    let Format::Json { fields, omit_empty } = log.format else {
        panic!("json")
    };
    assert!(omit_empty);
    let [
        (a, JsonValue::Object(inner)),
        (z, JsonValue::Template(template)),
    ] = fields.as_slice()
    else {
        panic!("{fields:?}")
    };
    assert_eq!((&**a, &**z), ("a", "z"));
    assert_eq!(
        template.parts,
        [TemplatePart::Command(Command::Protocol, None)]
    );
    let values: Vec<_> = inner.iter().map(|(_, value)| value.clone()).collect();
    assert_eq!(
        values,
        [
            JsonValue::Number(1.5),
            JsonValue::Bool(true),
            JsonValue::Null
        ]
    );
}

#[test]
fn access_logs() {
    let at =
        |field: &str| format!("filter_chains[0].filters[0].typed_config.access_log[0].{field}");
    let config = |field: &str| at(&format!("typed_config.{field}"));
    let log = |change: Value| http(json!({"access_log": [change]}));
    let file = |change: Value| json!({"name": "log", "typed_config": merged(merged(typed(FILE), json!({"path": "/a"})), change)});
    let otel =
        typed("envoy.extensions.access_loggers.open_telemetry.v3.OpenTelemetryAccessLogConfig");
    let format = |change: Value| file(json!({"log_format": change}));
    check_table(
        &log,
        &decode,
        &[
            (file(json!({})), "ok"),
            (file(json!({"path": ""})), &config("path")),
            (file(json!({"format": "%NO_SUCH%"})), &config("format")),
            (
                file(json!({"json_format": {"a": "%NO_SUCH%"}})),
                &config("json_format.a"),
            ),
            (format(json!({})), &config("log_format")),
            (
                format(json!({"text_format": "%X%"})),
                &config("log_format.text_format"),
            ),
            (
                format(json!({"text_format_source": {"inline_string": "%X%"}})),
                &config("log_format.text_format_source.inline_string"),
            ),
            (
                format(json!({"text_format_source": {"filename": "/x"}})),
                &config("log_format.text_format_source.filename"),
            ),
            (
                format(json!({"json_format": {"a": {"b": [1]}}})),
                &config("log_format.json_format.a.b"),
            ),
            (
                merged(file(json!({})), json!({"filter": {}})),
                &at("filter"),
            ),
            (
                json!({"name": "otel", "typed_config": otel}),
                &format!("warn {}", at("typed_config")),
            ),
            (json!({"name": "x"}), &at("name")),
        ],
    );
}
