//! The README's walk, each answer checked.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::client::get;
use crate::demo::Demo;
use crate::demo::resources::Split;
use crate::demo::steps::Steps;
use crate::demo::steps::expect;
use crate::demo::table;

/// Requests that a share is judged by: enough for 90 and 10 % to be told apart beyond doubt.
const SAMPLE: u32 = 400;

/// By how many milliseconds red becomes slower than the others.
const SLOWER: u64 = 40;

/// What it keeps then of a third, and what it must come back to.
const SLOW_SHARE: f64 = 0.06;
const BACK_SHARE: f64 = 0.2;

/// Longest wait for a push to reach live traffic.
const PUSH_TIMEOUT: Duration = Duration::from_secs(20);

#[expect(clippy::too_many_lines, reason = "one list of steps")]
/// Walks; true if every answer was right.
pub(crate) async fn walk(demo: &mut Demo) -> bool {
    let (proxy, admin) = (demo.proxy, demo.admin);
    let mut steps = Steps::default();
    steps
        .step("a request is answered by a backend", async {
            let (status, body) = get(proxy, "/hello").await?;
            expect(
                status == 200 && body.contains("\"path\":\"/hello\""),
                || format!("{status} {body}"),
            )
        })
        .await;
    steps
        .step("/red goes to red", async {
            let (status, body) = get(proxy, "/red").await?;
            expect(
                status == 200 && body.contains("\"backend\":\"red\""),
                || format!("{status} {body}"),
            )
        })
        .await;
    steps
        .step("blue takes about 90 %, green about 10 %", async {
            let shares = shares(demo).await?;
            let blue = shares.get("blue").copied().unwrap_or(0) * 100 / SAMPLE;
            expect((80..=97).contains(&blue), || {
                format!("blue has {blue} %: {shares:?}")
            })
        })
        .await;
    steps
        .step(
            "a push moves all traffic to green, nothing fails",
            shift_to_green(demo),
        )
        .await;
    steps
        .step(
            "the admin interface is ready and knows the clusters",
            async {
                let (ready, _) = get(admin, "/ready").await?;
                let (_, clusters) = get(admin, "/clusters").await?;
                let (_, dump) = get(admin, "/config_dump").await?;
                let known = clusters.contains("green::") && dump.contains("weighted_clusters");
                expect(ready == 200 && known, || format!("{ready} {clusters}"))
            },
        )
        .await;
    demo.stop_control_plane().await;
    steps
        .step("without a control plane traffic goes on", async {
            let shares = shares(demo).await?;
            expect(shares.get("green") == Some(&SAMPLE), || {
                format!("{shares:?}")
            })
        })
        .await;
    let restarted = demo
        .start_control_plane(Split {
            blue: 50,
            green: 50,
        })
        .await;
    steps
        .step("a new control plane is followed", async {
            restarted?;
            wait_until(demo, |shares| shares.contains_key("blue")).await
        })
        .await;
    steps
        .step("of /mixed a slow backend gets next to nothing", async {
            slow_red(demo, SLOWER);
            table::wait_until(demo, |share| share <= SLOW_SHARE).await
        })
        .await;
    steps
        .step("and it is back once it is quick again", async {
            slow_red(demo, 0);
            table::wait_until(demo, |share| share >= BACK_SHARE).await
        })
        .await;
    steps.report()
}

fn slow_red(demo: &Demo, milliseconds: u64) {
    if let Some(red) = demo.backend("red") {
        red.slow_down(milliseconds);
    }
}

async fn shift_to_green(demo: &Demo) -> Result<(), String> {
    demo.split(Split {
        blue: 0,
        green: 100,
    })?;
    wait_until(demo, |shares| shares.get("green") == Some(&SAMPLE)).await
}

/// Sends samples until one looks right; every single request must succeed.
async fn wait_until(
    demo: &Demo,
    is_right: impl Fn(&BTreeMap<String, u32>) -> bool,
) -> Result<(), String> {
    let mut last = BTreeMap::new();
    let waiting = async {
        loop {
            last = shares(demo).await?;
            if is_right(&last) {
                return Ok(());
            }
        }
    };
    tokio::time::timeout(PUSH_TIMEOUT, waiting)
        .await
        .unwrap_or_else(|_| Err(format!("last seen: {last:?}")))
}

/// How many of a sample of requests each backend answered.
async fn shares(demo: &Demo) -> Result<BTreeMap<String, u32>, String> {
    let mut shares = BTreeMap::new();
    for _ in 0..SAMPLE {
        let (status, body) = get(demo.proxy, "/share").await?;
        expect(status == 200, || format!("{status} {body}"))?;
        let answer: serde_json::Value =
            serde_json::from_str(&body).map_err(|error| format!("{body}: {error}"))?;
        let name = answer
            .get("backend")
            .and_then(serde_json::Value::as_str)
            .unwrap_or("nobody");
        *shares.entry(name.to_owned()).or_insert(0) += 1;
    }
    Ok(shares)
}
