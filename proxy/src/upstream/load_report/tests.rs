//! Reports in all forms, and what is none.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use http::HeaderValue;
use proptest::prelude::*;
use prost::Message;
use xds_proto::pb::xds::data::orca::v3::OrcaLoadReport;

use super::*;
use crate::upstream::HostCounts;

const NAME: &str = "endpoint-load-metrics";
const NAME_BINARY: &str = "endpoint-load-metrics-bin";

fn wanted(names: &[Metric<Box<str>>]) -> WantedReports<'_> {
    WantedReports {
        utilization: names,
        error_penalty: 1.0,
        are_extra: false,
    }
}

fn read(name: &'static str, value: &[u8]) -> Result<Option<LoadReport>, Nonsense> {
    let mut fields = HeaderMap::new();
    fields.insert(name, HeaderValue::from_bytes(value).expect("a value"));
    let names = [Metric::Utilization("gpu".into())];
    LoadReport::read(&fields, wanted(&names))
}

fn message() -> OrcaLoadReport {
    OrcaLoadReport {
        cpu_utilization: 0.25,
        mem_utilization: 0.9,
        utilization: [("gpu".to_owned(), 0.5), ("disk".to_owned(), 0.75)].into(),
        rps_fractional: 120.0,
        eps: 3.0,
        named_metrics: [("in_flight".to_owned(), 7.0), ("cold".to_owned(), -4.0)].into(),
        request_cost: [("gpu".to_owned(), 11.0)].into(),
        ..OrcaLoadReport::default()
    }
}

const EXPECTED: LoadReport = LoadReport {
    utilization: 0.5,
    rps: 120.0,
    eps: 3.0,
    in_flight: Some(7.0),
};

#[test]
fn every_form_says_the_same() {
    let bytes = message().encode_to_vec();
    let padded = STANDARD.encode(&bytes);
    assert_eq!(read(NAME_BINARY, padded.as_bytes()), Ok(Some(EXPECTED)));
    let bare = STANDARD_NO_PAD.encode(&bytes);
    assert_eq!(read(NAME_BINARY, bare.as_bytes()), Ok(Some(EXPECTED)));
    assert_eq!(
        read(NAME, format!("BIN {bare}").as_bytes()),
        Ok(Some(EXPECTED))
    );
    let text = "TEXT cpu_utilization:0.25, mem_utilization: 0.9,utilization.gpu:5e-1,,\
                utilization.disk:0.75,rps_fractional:120,eps:3.0,named_metrics.in_flight:7,\
                named_metrics.cold:-4,request_cost.gpu:11";
    assert_eq!(read(NAME, text.as_bytes()), Ok(Some(EXPECTED)));
    let json = r#"JSON {"cpu_utilization": 0.25, "memUtilization": 0.9, "rps": "7", "eps": null,
        "utilization": {"gpu": 0.5, "disk": "0.75"}, "rpsFractional": "120", "eps": 3, "later": [1],
        "named_metrics": {"in_flight": 7, "cold": -4}, "requestCost": {"gpu": 11}}"#;
    let json = json.replace('\n', " ").replace("\"eps\": null,", "");
    assert_eq!(read(NAME, json.as_bytes()), Ok(Some(EXPECTED)));
}

#[test]
fn nothing_is_no_report() {
    let fields = HeaderMap::new();
    assert_eq!(LoadReport::read(&fields, wanted(&[])), Ok(None));
    assert_eq!(read(NAME, b"TEXT "), Ok(Some(LoadReport::default())));
    assert_eq!(read(NAME, b"JSON {}"), Ok(Some(LoadReport::default())));
}

#[test]
fn utilization_is_the_first_that_is_known() {
    let of = |text: &str| {
        let found = read(NAME, format!("TEXT {text}").as_bytes());
        found.expect("valid").expect("a report").utilization
    };
    for (text, expected) in [
        ("cpu_utilization:0.1", 0.1),
        ("cpu_utilization:0.1,application_utilization:0.2", 0.2),
        ("application_utilization:0.2,utilization.gpu:0.05", 0.05),
        ("application_utilization:1.2,utilization.gpu:0", 1.2),
        ("mem_utilization:0.3", 0.0),
    ] {
        assert!((of(text) - expected).abs() < 1e-12, "{text}");
    }
}

#[test]
fn nonsense_is_ignored_as_a_whole() {
    let base64 = |report: OrcaLoadReport| STANDARD.encode(report.encode_to_vec());
    let number = |report: OrcaLoadReport| (NAME_BINARY, base64(report), Nonsense::Number);
    let text = |text: &str, reason| (NAME, text.to_owned(), reason);
    let long = format!(
        "TEXT named_metrics.{}:1",
        "a".repeat(limits::LOAD_REPORT_BYTES_MAX)
    );
    let cases = [
        number(OrcaLoadReport {
            cpu_utilization: f64::NAN,
            ..message()
        }),
        number(OrcaLoadReport {
            rps_fractional: f64::INFINITY,
            ..message()
        }),
        number(OrcaLoadReport {
            eps: -1.0,
            ..message()
        }),
        number(OrcaLoadReport {
            utilization: [("gpu".to_owned(), -0.1)].into(),
            ..message()
        }),
        number(OrcaLoadReport {
            named_metrics: [("in_flight".to_owned(), -1.0)].into(),
            ..message()
        }),
        text("TEXT cpu_utilization:nan", Nonsense::Number),
        text("TEXT cpu_utilization:inf", Nonsense::Number),
        text("TEXT named_metrics.x:-inf", Nonsense::Number),
        text("TEXT cpu_utilization:", Nonsense::Number),
        text("TEXT cpu_utilization:0.1.2", Nonsense::Number),
        text("TEXT eps:1,eps:1", Nonsense::Syntax),
        text("TEXT eps", Nonsense::Syntax),
        text("TEXT cpu:1", Nonsense::Syntax),
        text("JSON {\"eps\": \"NaN\"}", Nonsense::Number),
        text("JSON {\"eps\": \"x\"}", Nonsense::Number),
        text("JSON {\"eps\": {}}", Nonsense::Syntax),
        text("JSON {\"eps\": 1", Nonsense::Syntax),
        text("JSON 5", Nonsense::Syntax),
        text("eps:1", Nonsense::Form),
        text("TEXTeps:1", Nonsense::Form),
        text("", Nonsense::Form),
        text("BIN ", Nonsense::Syntax),
        text("BIN !!!!", Nonsense::Syntax),
        (NAME_BINARY, String::new(), Nonsense::Syntax),
        (NAME_BINARY, STANDARD.encode([0x0b]), Nonsense::Syntax), // a group
        (NAME_BINARY, STANDARD.encode([0x09, 1, 2]), Nonsense::Syntax), // cut short
        (NAME_BINARY, STANDARD.encode([0xff; 12]), Nonsense::Syntax), // an endless number
        (
            NAME_BINARY,
            STANDARD.encode([0x42, 3, 0x0a, 1, 0xff]),
            Nonsense::Syntax,
        ), // no UTF-8
        text(&long, Nonsense::Length),
    ];
    for (name, value, reason) in cases {
        assert_eq!(read(name, value.as_bytes()), Err(reason), "{name}: {value}");
    }
}

#[test]
fn a_weight_is_requests_over_utilization_and_errors() {
    let report = |rps, eps, utilization| LoadReport {
        utilization,
        rps,
        eps,
        in_flight: None,
    };
    for (report, penalty, expected) in [
        (report(100.0, 0.0, 0.5), 1.0, Some(200.0)),
        (report(100.0, 50.0, 0.5), 1.0, Some(100.0)),
        (report(100.0, 50.0, 0.5), 0.0, Some(200.0)),
        (report(0.0, 0.0, 0.5), 1.0, None),
        (report(100.0, 0.0, 0.0), 1.0, None),
        (report(f64::MAX, 0.0, f64::MIN_POSITIVE), 1.0, None),
        (report(1e300, 0.0, 1.0), 1.0, Some(f64::from(u32::MAX))),
        (report(f64::MIN_POSITIVE, f64::MAX, 1.0), f64::MAX, None),
    ] {
        let found = report.weight(penalty).filter(|weight| *weight > 0.0);
        assert_eq!(found, expected, "{report:?}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut sink = |_: Metric<&str>, _: f64| Ok(());
        let _ = text::each(&bytes, &mut sink);
        let _ = json::each(&bytes, &mut sink);
        let _ = binary::each(STANDARD.encode(&bytes).as_bytes(), &mut sink);
    }

    #[test]
    fn what_is_read_is_finite_and_not_below_zero(
        values in prop::array::uniform4(prop::num::f64::ANY), penalty in 0.0..1e9,
    ) {
        let [cpu, rps, eps, in_flight] = values;
        let report = OrcaLoadReport {
            cpu_utilization: cpu,
            rps_fractional: rps,
            eps,
            named_metrics: [("in_flight".to_owned(), in_flight)].into(),
            ..OrcaLoadReport::default()
        };
        let value = STANDARD.encode(report.encode_to_vec());
        if let Ok(Some(report)) = read(NAME_BINARY, value.as_bytes()) {
            let numbers = [report.utilization, report.rps, report.eps, report.in_flight.unwrap_or(0.0)];
            prop_assert!(numbers.iter().all(|number| number.is_finite() && *number >= 0.0));
            let weight = report.weight(penalty).unwrap_or(1.0);
            prop_assert!(weight.is_finite() && weight >= 0.0);
        }
    }
}

#[test]
fn who_reports_nothing_is_looked_at_seldom() {
    let counts = HostCounts::default();
    let looks = |counts: &HostCounts, requests: u64| {
        let each = (0..requests).filter(|_| {
            counts.rq_total.inc();
            counts.may_report()
        });
        each.count() as u64
    };
    assert_eq!(looks(&counts, 1), 1, "the first one");
    let many = 10 * limits::LOAD_REPORT_LOOKS;
    assert_eq!(looks(&counts, many), 10);
    counts.reports.record(&LoadReport::default(), None);
    assert_eq!(looks(&counts, many), many);
}
