//! Entries against lines that Envoy 1.40.0 wrote for the same exchange, and the way to the file.

use std::fs;
use std::sync::Arc;
use std::thread;
use std::time::Duration;
use std::time::SystemTime;

use http::HeaderMap;
use http::HeaderValue;
use http::Version;
use tokio::time::Instant;

use crate::config::access_log::AccessLog;
use crate::config::access_log::Command;
use crate::config::access_log::Format;
use crate::config::access_log::JsonValue;
use crate::config::access_log::Sink;
use crate::config::access_log::Template;
use crate::config::access_log::TemplatePart;
use crate::config::endpoint::Address;
use crate::telemetry::access_log::AccessLogWriter;
use crate::telemetry::access_log::ExchangeRecord;
use crate::telemetry::access_log::Logger;
use crate::telemetry::access_log::RequestFacts;
use crate::telemetry::access_log::eval;
use crate::telemetry::access_log::flush_aged;
use crate::telemetry::access_log::flush_all;
use crate::telemetry::access_log::format;
use crate::telemetry::response_flag::ResponseFlag;
use crate::telemetry::stats::AccessLogStats;
use crate::telemetry::stats::Group;
use crate::telemetry::stats::Reading;
use crate::telemetry::stats::Registry;

fn command(command: Command) -> TemplatePart {
    TemplatePart::Command(command, None)
}

fn literal(text: &str) -> TemplatePart {
    TemplatePart::Literal(text.into())
}

fn template(parts: impl IntoIterator<Item = TemplatePart>) -> Template {
    Template {
        parts: parts.into_iter().collect(),
    }
}

fn req(name: &str, alternative: Option<&str>) -> Command {
    Command::Req {
        name: name.into(),
        alternative: alternative.map(Into::into),
    }
}

fn resp(name: &str) -> Command {
    Command::Resp {
        name: name.into(),
        alternative: None,
    }
}

/// Envoy's default format.
fn default_template() -> Template {
    let quoted = |c: Command| [literal("\""), command(c), literal("\" ")];
    let mut parts = vec![
        literal("["),
        command(Command::StartTime(None)),
        literal("] \""),
        command(req(":method", None)),
        literal(" "),
        command(req("x-envoy-original-path", Some(":path"))),
        literal(" "),
        command(Command::Protocol),
        literal("\" "),
    ];
    for number in [
        Command::ResponseCode,
        Command::ResponseFlags,
        Command::BytesReceived,
        Command::BytesSent,
        Command::Duration,
        resp("x-envoy-upstream-service-time"),
    ] {
        parts.extend([command(number), literal(" ")]);
    }
    for name in [
        "x-forwarded-for",
        "user-agent",
        "x-request-id",
        ":authority",
    ] {
        parts.extend(quoted(req(name, None)));
    }
    parts.extend([
        literal("\""),
        command(Command::UpstreamHost),
        literal("\"\n"),
    ]);
    template(parts)
}

fn start() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_micros(1_795_219_263_410_757)
}

fn with_ok_record<T>(headers: &HeaderMap, run: impl FnOnce(&ExchangeRecord<'_>) -> T) -> T {
    let upstream = Address::Socket("127.0.0.1:33313".parse().expect("an address"));
    let mut response = HeaderMap::new();
    response.insert(
        "x-envoy-upstream-service-time",
        HeaderValue::from_static("12"),
    );
    let mut record = ExchangeRecord::new(start());
    record.duration = Some(Duration::from_micros(101_900));
    record.response_duration = Some(Duration::from_millis(12));
    record.protocol = Some(Version::HTTP_11);
    record.request = Some(RequestFacts {
        method: "GET",
        path: "/ok",
        authority: "h.example",
        scheme: "http",
        headers,
        headers_bytes: 152,
    });
    record.response_code = Some(200);
    record.response_code_details = Some("via_upstream");
    record.response_headers = Some(&response);
    record.bytes_sent = 5;
    record.upstream_host = Some(&upstream);
    record.upstream_cluster = Some("ok");
    record.attempts = 1;
    record.connection_id = 2;
    record.route_name = Some("");
    run(&record)
}

fn text(template: Template, record: &ExchangeRecord<'_>) -> String {
    let mut out = Vec::new();
    format(&Format::Text(template), record, &mut out);
    String::from_utf8(out).expect("UTF-8")
}

#[test]
fn default_format_as_envoy() {
    let mut headers = HeaderMap::new();
    let id = "3d8f336a-5613-4249-9323-6d2cae370bf2";
    headers.insert("x-request-id", HeaderValue::from_static(id));
    let line = with_ok_record(&headers, |record| text(default_template(), record));
    assert_eq!(
        line,
        "[2026-11-21T00:01:03.410Z] \"GET /ok HTTP/1.1\" 200 - 0 5 101 12 \"-\" \"-\" \
         \"3d8f336a-5613-4249-9323-6d2cae370bf2\" \"h.example\" \"127.0.0.1:33313\"\n"
    );
}

#[test]
fn unreadable_request_as_envoy() {
    let mut record = ExchangeRecord::new(start());
    record.duration = Some(Duration::ZERO);
    record.protocol = Some(Version::HTTP_11);
    record.response_code = Some(400);
    record.flags = ResponseFlag::DownstreamProtocolError.into();
    record.bytes_sent = 11;
    assert_eq!(
        text(default_template(), &record),
        "[2026-11-21T00:01:03.410Z] \"- - HTTP/1.1\" 400 DPE 0 11 0 - \"-\" \"-\" \"-\" \"-\" \"-\"\n"
    );
}

#[test]
fn text_escapes_and_truncates() {
    let mut headers = HeaderMap::new();
    let agent = HeaderValue::from_bytes(b"a\"b\\c\x80\tz").expect("a value");
    headers.insert("user-agent", agent);
    let parts = [
        command(req("user-agent", None)),
        literal("|"),
        TemplatePart::Command(req("user-agent", None), Some(2)),
        literal("|"),
        TemplatePart::Command(Command::UpstreamHost, Some(4)),
        literal("|"),
        command(req("host", None)),
    ];
    let line = with_ok_record(&headers, |record| text(template(parts), record));
    assert_eq!(line, "a\\x22b\\x5cc\\x80\\x09z|a\\x22|127.|h.example");
}

fn json_fields() -> Vec<(Box<str>, JsonValue)> {
    let one = |c: Command| JsonValue::Template(template([command(c)]));
    let mixed = [
        literal("c="),
        command(Command::ResponseCode),
        literal(" "),
        command(req("x-none", None)),
    ];
    vec![
        ("att".into(), one(Command::UpstreamRequestAttemptCount)),
        ("b".into(), JsonValue::Bool(true)),
        ("cid".into(), one(Command::ConnectionId)),
        ("code".into(), one(Command::ResponseCode)),
        ("dur".into(), one(Command::Duration)),
        ("f".into(), JsonValue::Number(1.5)),
        ("flags".into(), one(Command::ResponseFlags)),
        ("mix".into(), JsonValue::Template(template(mixed))),
        ("n".into(), JsonValue::Number(5.0)),
        ("none".into(), one(req("x-none", None))),
        ("nu".into(), JsonValue::Null),
        (
            "o".into(),
            JsonValue::Object(vec![
                ("y".into(), one(Command::RouteName)),
                ("z".into(), one(Command::Protocol)),
            ]),
        ),
        ("q\"".into(), one(Command::StartTime(Some("\"%s".into())))),
        ("ua".into(), one(req("user-agent", None))),
        ("uh".into(), one(Command::UpstreamHost)),
    ]
}

fn json(omit_empty: bool) -> String {
    let mut headers = HeaderMap::new();
    headers.insert(
        "user-agent",
        HeaderValue::from_bytes(b"a\"b\xff").expect("a value"),
    );
    let fields = json_fields();
    let mut out = Vec::new();
    with_ok_record(&headers, |record| {
        format(&Format::Json { fields, omit_empty }, record, &mut out);
    });
    String::from_utf8(out).expect("UTF-8")
}

#[test]
fn json_keeps_types_and_order() {
    assert_eq!(
        json(false),
        "{\"att\":1,\"b\":true,\"cid\":2,\"code\":200,\"dur\":101,\"f\":1.5,\"flags\":\"-\",\
         \"mix\":\"c=200 -\",\"n\":5,\"none\":null,\"nu\":null,\
         \"o\":{\"y\":null,\"z\":\"HTTP/1.1\"},\"q\\\"\":\"\\\"1795219263\",\
         \"ua\":\"a\\\"b\u{fffd}\",\"uh\":\"127.0.0.1:33313\"}\n"
    );
}

#[test]
fn json_may_omit_what_is_absent() {
    let entry: serde_json::Value = serde_json::from_str(&json(true)).expect("JSON");
    assert_eq!(entry.get("none"), None);
    assert_eq!(entry["o"], serde_json::json!({"z": "HTTP/1.1"}));
    assert_eq!(entry["mix"], "c=200 ");
    assert_eq!(entry["nu"], serde_json::Value::Null);
}

#[test]
fn a_header_edit_gets_raw_values_and_nothing_for_nothing() {
    let mut headers = HeaderMap::new();
    headers.insert("x-a", HeaderValue::from_static("1\"2"));
    let parts = [
        command(req("x-a", None)),
        command(req("x-b", None)),
        literal(";"),
        command(Command::Protocol),
    ];
    let mut out = Vec::new();
    with_ok_record(&headers, |record| eval(&template(parts), record, &mut out));
    assert_eq!(out, b"1\"2;HTTP/1.1");
}

fn writer() -> (AccessLogWriter, Arc<AccessLogStats>) {
    let stats = Arc::clone(Registry::new(4).access_log());
    let writer = AccessLogWriter::start(Arc::clone(&stats)).expect("a thread");
    (writer, stats)
}

fn file_log(path: &std::path::Path, line: &str) -> AccessLog {
    AccessLog {
        sink: Sink::File(path.to_owned()),
        format: Format::Text(template([literal(line), literal("\n")])),
    }
}

fn log(logger: &Logger, times: usize) {
    for _ in 0..times {
        logger.log(&ExchangeRecord::new(start()));
    }
}

fn counter(stats: &AccessLogStats, name: &str) -> u64 {
    let at = stats.fields().iter().position(|field| field.name == name);
    match stats.read(at.expect("a field")) {
        Some(Reading::Counter(value)) => value,
        other => panic!("{other:?}"),
    }
}

#[test]
fn entries_of_many_threads_arrive_whole() {
    const LINE: &str = "0123456789abcdef0123456789abcdef";
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("log");
    let (writer, stats) = writer();
    let logger = writer.logger(&file_log(&path, LINE)).expect("a logger");
    thread::scope(|scope| {
        for _ in 0..4 {
            // The buffer of an ending thread is handed over too.
            scope.spawn(|| {
                log(&logger, 5_000);
                flush_all();
            });
        }
    });
    writer.stop();
    let text = fs::read_to_string(&path).expect("the log");
    assert!(text.lines().all(|line| line == LINE));
    let lost = counter(&stats, "entries_dropped");
    assert_eq!(text.lines().count() as u64 + lost, 20_000);
    assert_eq!(counter(&stats, "entries_total"), 20_000);
    assert_eq!(counter(&stats, "bytes_written"), text.len() as u64);
}

#[test]
fn a_buffer_is_handed_over_after_a_second() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("log");
    let (writer, stats) = writer();
    let logger = writer.logger(&file_log(&path, "x")).expect("a logger");
    let now = Instant::now();
    log(&logger, 1);
    flush_aged(now);
    flush_aged(now + Duration::from_millis(999));
    assert_eq!(counter(&stats, "entries_total"), 0);
    flush_aged(now + Duration::from_secs(1));
    assert_eq!(counter(&stats, "entries_total"), 1);
    writer.stop();
    assert_eq!(fs::read_to_string(&path).expect("the log"), "x\n");
}

#[test]
fn after_a_rotation_entries_go_to_the_new_file() {
    let directory = tempfile::tempdir().expect("a directory");
    let (path, moved) = (directory.path().join("log"), directory.path().join("log.1"));
    let (writer, _) = writer();
    let logger = writer.logger(&file_log(&path, "x")).expect("a logger");
    log(&logger, 1);
    flush_all();
    fs::rename(&path, &moved).expect("a rename");
    log(&logger, 1);
    flush_all();
    writer.reopen();
    log(&logger, 1);
    flush_all();
    writer.stop();
    // The second entry was queued before the reopening.
    assert_eq!(fs::read_to_string(&moved).expect("the old log"), "x\nx\n");
    assert_eq!(fs::read_to_string(&path).expect("the new log"), "x\n");
}

#[test]
fn loggers_of_one_file_share_it_and_an_unusable_one_is_an_error() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("log");
    let (writer, _) = writer();
    let a = writer.logger(&file_log(&path, "a")).expect("a logger");
    let b = writer.logger(&file_log(&path, "b")).expect("a logger");
    log(&a, 1);
    log(&b, 1);
    log(&a, 1);
    flush_all();
    writer.stop();
    assert_eq!(fs::read_to_string(&path).expect("the log"), "a\nb\na\n");
    let (writer, _) = self::writer();
    let nowhere = directory.path().join("no/such/place");
    assert!(writer.logger(&file_log(&nowhere, "x")).is_err());
}

#[test]
fn a_writer_that_is_gone_costs_entries_not_time() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("log");
    let (writer, stats) = writer();
    let logger = writer.logger(&file_log(&path, "x")).expect("a logger");
    writer.stop();
    log(&logger, 100_000);
    flush_all();
    assert_eq!(counter(&stats, "entries_dropped"), 100_000);
}

#[test]
fn a_slow_sink_drops_and_counts() {
    // A pipe that nobody reads takes 64 KiB, then the writer hangs in its write.
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("pipe");
    let status = std::process::Command::new("mkfifo").arg(&path).status();
    assert!(status.expect("mkfifo").success());
    let reader = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(&path)
        .expect("a pipe");
    let (writer, stats) = writer();
    let line = "y".repeat(1_023);
    let logger = writer.logger(&file_log(&path, &line)).expect("a logger");
    log(&logger, 64 * 100);
    flush_all();
    let lost = counter(&stats, "entries_dropped");
    assert!(lost >= 64 * 30, "{lost} lost");
    drop(logger);
    // Let the writer end: read what there is until it does.
    let drained = thread::spawn(move || {
        let mut reader = reader;
        let mut left = (64 * 100 - lost) * 1_024;
        let mut buffer = vec![0; 64 * 1024];
        while left > 0 {
            let read = std::io::Read::read(&mut reader, &mut buffer).expect("bytes");
            left -= read as u64;
        }
    });
    writer.stop();
    drained.join().expect("no panic");
}
