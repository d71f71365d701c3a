//! What stands around the proxies of one scenario: the origin behind them, the certificates and
//! files their configurations name, and how clients are carried.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::Path;

use bench::Transport;
use bench::certificates::{CertificateError, Certificates, ClientOptions};
use bench::load::Protocol;
use bench::origin::{FixedOptions, FixedOrigin, TcpBehavior, TcpOrigin};
use bench::peer::template::render;
use tempfile::TempDir;

use super::scenario::{Kind, Scenario, Setup};

/// The body of scenarios that say nothing about one.
const BODY_BYTES: usize = 66;

/// Lives as long as the scenario is measured.
#[derive(Debug)]
pub(crate) struct Backdrop {
    directory: TempDir,
    certificates: Certificates,
    origin: AnyOrigin,
    /// A second member.
    second: FixedOrigin,
    /// Where the generator goes to measure itself: the origin, or one with the proxies' TLS.
    pub(super) direct: Option<FixedOrigin>,
    pub(crate) transport: Transport,
}

#[derive(Debug)]
enum AnyOrigin {
    Fixed(FixedOrigin),
    Tcp(TcpOrigin),
}

impl Backdrop {
    pub(crate) fn new(scenario: &Scenario) -> Result<Self, String> {
        let told = |error: CertificateError| error.to_string();
        let setup = scenario.setup();
        let certificates = Certificates::new().map_err(told)?;
        let is_mutual = setup == Setup::MutualTls;
        let mut fixed = fixed_options(scenario);
        let direct = if setup.has_tls_in_front() {
            fixed.tls = Some(certificates.server(is_mutual).map_err(told)?);
            let origin = start(&fixed)?;
            // Behind a proxy only the mutual kind goes on.
            fixed.tls = fixed.tls.filter(|_| is_mutual);
            Some(origin)
        } else {
            None
        };
        let origin = match scenario.protocol() {
            Protocol::TcpEcho => tcp(TcpBehavior::Echo)?,
            Protocol::TcpDownload { .. } => tcp(TcpBehavior::Download)?,
            _ => AnyOrigin::Fixed(start(&fixed)?),
        };
        let second = start(&fixed)?;
        let transport = match setup.has_tls_in_front() {
            false => Transport::Plain,
            true => {
                let resume = matches!(scenario.kind, Kind::Traffic(traffic) if traffic.resume);
                let options = ClientOptions {
                    certificate: is_mutual,
                    resume,
                    http2: false,
                };
                Transport::Tls(certificates.client(options).map_err(told)?)
            }
        };
        let directory = tempfile::tempdir().map_err(|error| format!("no directory: {error}"))?;
        let backdrop = Self {
            directory,
            certificates,
            origin,
            second,
            direct,
            transport,
        };
        backdrop.write_files(scenario)?;
        Ok(backdrop)
    }

    /// Where the proxies send.
    pub(crate) fn origin(&self) -> SocketAddr {
        match &self.origin {
            AnyOrigin::Fixed(origin) => origin.addr(),
            AnyOrigin::Tcp(origin) => origin.addr(),
        }
    }

    /// Where the generator measures itself.
    pub(crate) fn direct_addr(&self) -> SocketAddr {
        self.direct
            .as_ref()
            .map_or_else(|| self.origin(), FixedOrigin::addr)
    }

    /// What the templates want to know besides ports.
    pub(crate) fn values(&self, scenario: &Scenario) -> Vec<(&'static str, String)> {
        let directory = self.directory.path().display().to_string();
        let (routes, clusters) = sizes(scenario);
        vec![
            ("certificates", directory.clone()),
            ("second_origin", self.second.addr().port().to_string()),
            ("directory", directory),
            ("routes", routes.to_string()),
            ("clusters", clusters.to_string()),
        ]
    }

    fn write_files(&self, scenario: &Scenario) -> Result<(), String> {
        let (routes, clusters) = sizes(scenario);
        let directory = self.directory.path();
        let map =
            |count: usize, line: fn(usize) -> String| -> String { (0..count).map(line).collect() };
        let routes = map(routes, |at| format!("/route-{at}/ origin\n"));
        let clusters = map(clusters, |at| format!("/cluster-{at}/ origin-{at}\n"));
        let written = self
            .certificates
            .write_to(directory)
            .and_then(|()| fs::write(directory.join("routes.map"), routes))
            .and_then(|()| fs::write(directory.join("clusters.map"), clusters))
            .and_then(|()| write_secrets(directory));
        written.map_err(|error| format!("cannot write what the configurations name: {error}"))
    }
}

/// The certificates as resources, for those who take them by SDS.
fn write_secrets(directory: &Path) -> io::Result<()> {
    let secrets = [
        ("server.yaml", include_str!("../../peers/sds/server.yaml")),
        ("client.yaml", include_str!("../../peers/sds/client.yaml")),
        ("roots.yaml", include_str!("../../peers/sds/roots.yaml")),
    ];
    let values = [("certificates", directory.display().to_string())];
    for (name, template) in secrets {
        let text = render(template, &values).map_err(io::Error::other)?;
        fs::write(directory.join(name), text)?;
    }
    Ok(())
}

/// Routes and clusters of a scenario.
fn sizes(scenario: &Scenario) -> (usize, usize) {
    match scenario.kind {
        Kind::Traffic(traffic) => (traffic.routes, 0),
        Kind::Rest(clusters) => (0, clusters),
        Kind::Idle(..) | Kind::Start | Kind::EndpointChange(_) => (0, 0),
    }
}

fn fixed_options(scenario: &Scenario) -> FixedOptions {
    let body_bytes = match scenario.kind {
        Kind::Traffic(traffic) => traffic.body_bytes,
        _ => BODY_BYTES,
    };
    FixedOptions {
        body_bytes,
        headers: scenario.fields(),
        ..FixedOptions::default()
    }
}

fn start(options: &FixedOptions) -> Result<FixedOrigin, String> {
    FixedOrigin::start(options).map_err(|error| format!("no origin: {error}"))
}

fn tcp(behavior: TcpBehavior) -> Result<AnyOrigin, String> {
    let origin = TcpOrigin::start(behavior).map_err(|error| format!("no origin: {error}"))?;
    Ok(AnyOrigin::Tcp(origin))
}
