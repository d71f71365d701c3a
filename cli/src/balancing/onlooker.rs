//! What a proxy says of a policy that looks on, in words.

use serde_json::Value;

/// Of a cluster.
pub(crate) fn line(policy: &str, shadow: Option<&Value>) -> String {
    let Some(shadow) = shadow else {
        return format!("policy {policy}");
    };
    let name = shadow.get("policy").and_then(Value::as_str);
    let picks = shadow.get("picks").and_then(Value::as_u64).unwrap_or(0);
    let agreement = 100.0 * number(shadow, "/agreement");
    let times = ["mean", "p50", "p99"].map(|statistic| {
        let of = |what: &str| shadow.pointer(&format!("/{what}_ms/{statistic}"));
        let ms = |what| of(what).and_then(Value::as_f64);
        match (ms("predicted"), ms("seen")) {
            (Some(predicted), Some(seen)) => {
                format!("{statistic} {predicted:.2} ms instead of {seen:.2} ms")
            }
            _ => format!("{statistic} not known yet"),
        }
    });
    format!(
        "policy {policy}; {} looks on and agrees on {agreement:.1} % of {picks} picks; it would have brought {}",
        name.unwrap_or_default(),
        times.join(", ")
    )
}

/// Of a member, to be appended to what is said of its weight.
pub(crate) fn share(shadow: &Value) -> String {
    format!(
        "; takes {:.1} % of picks, would take {:.1} %",
        100.0 * number(shadow, "/active_share"),
        100.0 * number(shadow, "/share")
    )
}

fn number(object: &Value, pointer: &str) -> f64 {
    let number = object.pointer(pointer).and_then(Value::as_f64);
    number.unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn both_policies_are_compared_in_a_line() {
        let shadow = json!({
            "policy": "latency", "picks": 50, "agreed": 40, "agreement": 0.8,
            "seen_ms": {"mean": 9.0, "p50": 8.0, "p99": 50.0},
            "predicted_ms": {"mean": 5.0, "p50": 4.0, "p99": 6.0},
        });
        let line = line("random", Some(&shadow));
        for part in [
            "policy random; latency looks on",
            "80.0 % of 50",
            "p99 6.00 ms instead of 50.00 ms",
        ] {
            assert!(line.contains(part), "{part} in {line}");
        }
        let member = share(&json!({"active_share": 0.25, "share": 0.015}));
        assert_eq!(member, "; takes 25.0 % of picks, would take 1.5 %");
        assert_eq!(super::line("maglev", None), "policy maglev");
    }
}
