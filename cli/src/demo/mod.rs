//! `weir demo`: control plane, proxy and three backends in one process, joined by real xDS over
//! loopback. No root, no files, no network.
//!
//! | file | holds |
//! |---|---|
//! | `backends` | what the proxy sends to |
//! | `mtls` | two sidecars with identities instead, joined by mutual TLS |
//! | `resources` | the configuration that is pushed |
//! | `running` | a proxy and a control plane, started and stopped |
//! | `steps` | steps of a walk, told and counted |
//! | `table` | the live table of latency, weight and share |
//! | `walk` | the README's walk, checked step by step |

mod backends;
mod mtls;
mod resources;
mod running;
mod steps;
mod table;
mod walk;

use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::process::ExitCode;

use clap::Args;
use control_plane::Handle;
use proxy::command::logging;
use proxy::command::logging::LogArgs;
use proxy::command::logging::LogFormat;
use tokio::io::AsyncBufReadExt;
use tokio::io::BufReader;
use tokio::net::TcpListener;

use backends::Backend;
use resources::Split;
use running::Proxy;
use running::Task;
use running::commit;

/// Ports tried after a preferred one that is taken.
const PORTS_TRIED: u16 = 100;

/// Flags of the demo.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  weir demo             then try what it prints
  weir demo --script    walks through it by itself; exit status 0 if every answer is right
  weir demo --mtls      two sidecars whose certificates come from an authority and are replaced
                        every half a minute; with --script it takes as long")]
pub(crate) struct DemoArgs {
    /// Perform the walk, check each answer, stop
    #[arg(long)]
    script: bool,
    /// Two sidecars joined by mutual TLS instead, with identities from an authority
    #[arg(long)]
    mtls: bool,
    /// First port tried for the proxy; the next free one is taken and printed
    #[arg(long, value_name = "PORT", default_value_t = 8080)]
    port: u16,
    #[command(flatten)]
    log: LogArgs,
}

/// Runs the demo.
pub(crate) fn run(args: &DemoArgs) -> ExitCode {
    let quiet = LogArgs {
        // Certificates of the demo always end soon.
        log_level: "warn,proxy::server::certificates=error".to_owned(),
        log_format: LogFormat::Text,
    };
    let log = if args.log.log_level == "info" {
        &quiet
    } else {
        &args.log
    };
    let outcome = logging::init(log).and_then(|_| {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build();
        runtime
            .map_err(|error| format!("error: cannot start: {error}"))?
            .block_on(async {
                if args.mtls {
                    Box::pin(mtls::start(args)).await
                } else {
                    start(args).await
                }
            })
    });
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(1)
        }
    }
}

/// Everything the demo runs.
pub(crate) struct Demo {
    pub(crate) proxy: SocketAddr,
    pub(crate) admin: SocketAddr,
    pub(crate) xds: SocketAddr,
    pub(crate) backends: Vec<Backend>,
    handle: Handle,
    running: Proxy,
    control_plane: Option<Task>,
}

async fn start(args: &DemoArgs) -> Result<ExitCode, String> {
    let mut demo = Demo::start(args).await?;
    if args.script {
        let passed = walk::walk(&mut demo).await;
        demo.stop().await;
        return Ok(ExitCode::from(u8::from(!passed)));
    }
    demo.greet();
    tokio::select! {
        () = demo.obey() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    demo.stop().await;
    Ok(ExitCode::SUCCESS)
}

impl Demo {
    async fn start(args: &DemoArgs) -> Result<Self, String> {
        let mut backends = Vec::new();
        for name in ["blue", "green", "red"] {
            backends.push(
                Backend::start(name)
                    .await
                    .map_err(|error| format!("error: backend {name}: {error}"))?,
            );
        }
        let (proxy, port_holder) = first_free(args.port)?;
        let (listener, xds) = listen_near(18000).await?;
        let (handle, control_plane) = serve_control_plane(listener);
        commit(
            &handle,
            &resources::all(
                proxy,
                &backends,
                Split {
                    blue: 90,
                    green: 10,
                },
            ),
        )?;
        let (admin, admin_holder) = first_free(9901)?;
        drop((port_holder, admin_holder)); // only now, so that none is handed out twice
        let control_plane_address = resources::socket_address(xds);
        let bootstrap = resources::bootstrap("demo-1", admin, &control_plane_address);
        let running = Proxy::start(&bootstrap).await?;
        running.wait_ready("demo").await?;
        Ok(Self {
            proxy,
            admin,
            xds,
            backends,
            handle,
            running,
            control_plane: Some(control_plane),
        })
    }

    /// Pushes another split between blue and green.
    pub(crate) fn split(&self, split: Split) -> Result<(), String> {
        commit(
            &self.handle,
            &resources::all(self.proxy, &self.backends, split),
        )
    }

    /// Ends the control plane; the proxy goes on.
    pub(crate) async fn stop_control_plane(&mut self) {
        if let Some(task) = self.control_plane.take() {
            task.stop().await;
        }
    }

    /// Starts the control plane anew on its port.
    pub(crate) async fn start_control_plane(&mut self, split: Split) -> Result<(), String> {
        let listener = TcpListener::bind(self.xds)
            .await
            .map_err(|error| format!("error: {}: {error}", self.xds))?;
        let (handle, control_plane) = serve_control_plane(listener);
        self.handle = handle;
        self.control_plane = Some(control_plane);
        self.split(split)
    }

    /// The backend of this name.
    pub(crate) fn backend(&self, name: &str) -> Option<&Backend> {
        self.backends.iter().find(|backend| backend.name == name)
    }

    fn greet(&self) {
        println!(
            "\
  proxy          http://{0}    blue 90 % / green 10 %, /red goes to red,
                                           /mixed to whoever of them answers soonest
  admin          http://{1}
  control plane  {2}         xDS v3, for any Envoy or gRPC client

Try:
  curl -s http://{0}/hello
  curl -s http://{0}/red
  curl -s http://{1}/clusters
  curl -s http://{1}/config_dump
  curl -s 'http://{1}/stats?usedonly&filter=upstream_rq_2xx'

Type one of these and Enter:
  split 0 100    push new weights over xDS
  slow red 50    let red take 50 ms longer
  table          ask for /mixed for ten seconds and watch latency, weight and share
  quit",
            self.proxy, self.admin, self.xds
        );
    }

    /// Does what is typed, until `quit`.
    async fn obey(&self) {
        let mut lines = BufReader::new(tokio::io::stdin()).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words.as_slice() {
                ["quit" | "exit" | "q"] => return,
                ["split", blue, green] => match (blue.parse(), green.parse()) {
                    (Ok(blue), Ok(green)) => match self.split(Split { blue, green }) {
                        Ok(()) => println!("pushed: blue {blue}, green {green}"),
                        Err(error) => println!("{error}"),
                    },
                    _ => println!("two numbers, as in: split 50 50"),
                },
                ["slow", name, milliseconds] => match (self.backend(name), milliseconds.parse()) {
                    (Some(backend), Ok(milliseconds)) => {
                        backend.slow_down(milliseconds);
                        println!("{name} takes {milliseconds} ms longer");
                    }
                    _ => println!("a backend and milliseconds, as in: slow red 50"),
                },
                ["table"] => {
                    if let Err(error) = table::show(self).await {
                        println!("{error}");
                    }
                }
                [] => {}
                _ => println!("split BLUE GREEN, slow BACKEND MILLISECONDS, table, or quit"),
            }
        }
        // Without a terminal the demo stays until it is interrupted.
        std::future::pending::<()>().await;
    }

    async fn stop(mut self) {
        let control_plane = self.control_plane.take();
        self.running.stop().await;
        if let Some(task) = control_plane {
            task.stop().await;
        }
    }
}

fn serve_control_plane(listener: TcpListener) -> (Handle, Task) {
    running::control_plane(control_plane::Server::builder().build(), listener)
}

/// The first free port from `port` on, and the socket that holds it until it is bound for good.
fn first_free(port: u16) -> Result<(SocketAddr, std::net::TcpListener), String> {
    for port in port..port.saturating_add(PORTS_TRIED) {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if let Ok(listener) = std::net::TcpListener::bind(address) {
            return Ok((address, listener));
        }
    }
    Err(format!(
        "error: ports {port} to {} are all taken",
        port.saturating_add(PORTS_TRIED)
    ))
}

async fn listen_near(port: u16) -> Result<(TcpListener, SocketAddr), String> {
    let (address, holder) = first_free(port)?;
    drop(holder);
    let listener = TcpListener::bind(address)
        .await
        .map_err(|error| format!("error: {address}: {error}"))?;
    Ok((listener, address))
}
