//! `weir endpoint drain`: takes a member of a cluster out of a running proxy, and back.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use clap::Subcommand;
use serde_json::Value;

use crate::client;
use crate::lb;

/// Between two looks at a member that drains.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// Flags of `weir endpoint`.
#[derive(Args, Debug)]
pub(crate) struct EndpointArgs {
    #[command(subcommand)]
    command: EndpointCommand,
}

#[derive(Debug, Subcommand)]
enum EndpointCommand {
    /// Send nothing new to a member; what runs on it has the drain time to end
    Drain(DrainArgs),
    /// Send requests to a drained member again
    Undrain(MemberArgs),
}

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  weir endpoint drain 127.0.0.1:9901 backend 10.0.0.7:8080
  weir endpoint drain 127.0.0.1:9901 backend 10.0.0.7:8080 --wait

The member stays drained until it is taken back, the control plane takes it away, or the proxy ends.")]
struct DrainArgs {
    #[command(flatten)]
    member: MemberArgs,
    /// Return when nothing runs on it any more
    #[arg(long)]
    wait: bool,
}

#[derive(Args, Debug)]
struct MemberArgs {
    /// The admin interface of the proxy
    proxy: SocketAddr,
    /// The cluster's name
    cluster: String,
    /// Where the member listens: an address with its port, or a path
    address: String,
}

/// Asks and prints.
pub(crate) fn run(args: &EndpointArgs) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("no runtime: {error}")),
    };
    let done = runtime.block_on(async {
        match &args.command {
            EndpointCommand::Undrain(member) => member.ask("&undo").await,
            EndpointCommand::Drain(drain) => {
                drain.member.ask("").await?;
                if drain.wait {
                    drain.member.wait().await?;
                }
                Ok(())
            }
        }
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(sentence) => fail(&sentence),
    }
}

fn fail(sentence: &str) -> ExitCode {
    eprintln!("weir: {sentence}");
    ExitCode::FAILURE
}

impl MemberArgs {
    async fn ask(&self, more: &str) -> Result<(), String> {
        let (cluster, address) = (escaped(&self.cluster), escaped(&self.address));
        let path = format!("/drain_endpoint?cluster={cluster}&address={address}{more}");
        let (status, body) = client::post(self.proxy, &path)
            .await
            .map_err(|error| self.silent(&error))?;
        let body = body.trim_end();
        if status != 200 {
            return Err(format!("{} answered with {status}: {body}", self.proxy));
        }
        println!("{body}");
        Ok(())
    }

    /// Waits until nothing runs on it.
    async fn wait(&self) -> Result<(), String> {
        loop {
            let (_, body) = client::get(self.proxy, "/clusters?format=json")
                .await
                .map_err(|error| self.silent(&error))?;
            let clusters: Value = serde_json::from_str(&body)
                .map_err(|error| format!("{} is no admin interface: {error}", self.proxy))?;
            if self.open(&clusters) == 0 {
                println!("nothing runs on {} any more", self.address);
                return Ok(());
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// Connections and requests that are still on it.
    fn open(&self, clusters: &Value) -> u64 {
        let all = clusters.get("weir_departing").and_then(Value::as_array);
        let ours = all.into_iter().flatten().filter(|host| self.is_named(host));
        ours.map(|host| {
            let count = |name| host.get(name).and_then(Value::as_u64).unwrap_or_default();
            count("connections") + count("requests")
        })
        .sum()
    }

    fn is_named(&self, host: &Value) -> bool {
        let cluster = host.get("cluster").and_then(Value::as_str);
        cluster == Some(&self.cluster) && lb::place(host) == self.address
    }

    fn silent(&self, error: &str) -> String {
        format!("no admin interface answers on {}: {error}", self.proxy)
    }
}

/// Fit for a query: everything but what RFC 3986 calls unreserved, percent-encoded.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_still_open_is_found_by_cluster_and_address() {
        let clusters = serde_json::json!({"weir_departing": [
            {"cluster": "a", "address": {"socket_address": {"address": "::1", "port_value": 80}},
             "connections": 2, "requests": 3},
            {"cluster": "b", "address": {"pipe": {"path": "/x"}}, "connections": 1, "requests": 0},
        ]});
        let check = |cluster: &str, address: &str, expected| {
            let member = MemberArgs {
                proxy: ([127, 0, 0, 1], 1).into(),
                cluster: cluster.to_owned(),
                address: address.to_owned(),
            };
            assert_eq!(member.open(&clusters), expected);
        };
        check("a", "[::1]:80", 5);
        check("b", "/x", 1);
        check("b", "[::1]:80", 0);
        assert_eq!(escaped("a b/[::1]"), "a%20b%2F%5B%3A%3A1%5D");
    }
}
