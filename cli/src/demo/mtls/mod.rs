//! `weir demo --mtls`: two sidecars that know each other by certificates of an authority.
//!
//! ```text
//!  client ── plain ──► sidecar app ══ mutual TLS ══► sidecar backend ── plain ──► backend
//!                          │ ADS and SDS                  │ ADS and SDS
//!                     control plane ──── authority ── control plane
//! ```
//!
//! Who a sidecar is follows from the user at the other end of a unix socket. Here both are one process
//! and so one user; that is why each has a socket, and a control plane, of its own.
//!
//! | file | holds |
//! |---|---|
//! | `place` | the temporary directory with the authority |
//! | `resources` | the configuration that is pushed |
//! | `sidecar` | a proxy with its control plane |
//! | `visitor` | what the sidecar of the backend shows, and how it refuses |
//! | `walk` | everything shown, checked step by step |

mod place;
mod resources;
mod sidecar;
mod visitor;
mod walk;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use proxy::command::signals::Told;
use tokio::time::MissedTickBehavior;

use super::DemoArgs;
use super::backends::Backend;
use super::first_free;
use place::Place;
use sidecar::Sidecar;

/// How often the certificate is looked at that is told of when it changes.
const LOOK: Duration = Duration::from_secs(1);

/// Who sends.
const APP: &str = "app";

/// Who answers.
const BACKEND: &str = "backend";

/// Everything that runs.
struct Mesh {
    place: Place,
    /// Where clients connect, in clear.
    app: SocketAddr,
    /// Where sidecars connect.
    backend: SocketAddr,
    sidecars: [Sidecar; 2],
}

/// Runs the demo, or walks through it.
pub(super) async fn start(args: &DemoArgs) -> Result<ExitCode, String> {
    let mesh = Mesh::start(args.port).await?;
    let told = Told::default();
    let stopping = told.asked_to_stop(|_| ()); // nothing here is read again
    let passed = if args.script {
        tokio::select! {
            passed = walk::walk(&mesh) => passed,
            () = stopping => false,
        }
    } else {
        mesh.greet();
        tokio::select! {
            () = mesh.watch() => {}
            () = stopping => {}
        }
        true
    };
    mesh.stop().await;
    Ok(ExitCode::from(u8::from(!passed)))
}

impl Mesh {
    async fn start(port: u16) -> Result<Self, String> {
        let place = Place::new()?;
        let server = Backend::start(BACKEND).await;
        let server = server.map_err(|error| format!("error: {BACKEND}: {error}"))?;
        let (app, app_holder) = first_free(port)?;
        let (backend, backend_holder) = first_free(8443)?;
        let behind = resources::backend(backend, &place, server.address);
        drop(backend_holder);
        let behind = Sidecar::start(&place, BACKEND, &behind).await?;
        let before = resources::app(app, &place, backend);
        drop(app_holder);
        let before = Sidecar::start(&place, APP, &before).await?;
        Ok(Self {
            place,
            app,
            backend,
            sidecars: [before, behind],
        })
    }

    fn greet(&self) {
        let [app, backend] = &self.sidecars;
        println!(
            "  sidecar app      http://{0}    plain in, mutual TLS out; admin http://{2}
  sidecar backend  https://{1}   mutual TLS in, plain out; admin http://{3}
  authority        {4}

Try:
  curl -s http://{0}/hello              the backend sees who the client is
  curl -s http://{1}/hello              refused: not TLS
  curl -sk https://{1}/hello            refused: no certificate
  weir cert show {1}                    who the sidecar is
  weir ca list --dir {4}
  curl -s http://{3}/certs

Certificates live for a minute and are replaced after about half of it. Ctrl-C ends.
",
            self.app,
            self.backend,
            app.admin,
            backend.admin,
            self.place.authority().display()
        );
    }

    /// Tells of new certificates; never returns.
    async fn watch(&self) {
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut last = String::new();
        loop {
            look.tick().await;
            match visitor::shown(self.backend).await {
                Ok(shown) if shown.serial != last => {
                    println!(
                        "the sidecar of the backend shows certificate {}",
                        shown.serial
                    );
                    last = shown.serial;
                }
                Ok(_) => {}
                Err(error) => println!("the sidecar of the backend shows nothing: {error}"),
            }
        }
    }

    async fn stop(self) {
        for sidecar in self.sidecars {
            sidecar.stop().await;
        }
    }
}
