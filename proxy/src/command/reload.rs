//! SIGHUP: reads the bootstrap again. A file with a mistake is told as at the start, and what runs
//! stays.

use tokio::sync::mpsc;

use super::ProxyArgs;
use super::read;
use super::warn_of;
use crate::server::Reloader;

/// Reads again for each message of `asks`; never returns.
pub(super) async fn run(args: ProxyArgs, reloader: Reloader, mut asks: mpsc::Receiver<()>) {
    while asks.recv().await.is_some() {
        if args.config.as_deref().is_none_or(|path| path == "-") {
            tracing::info!("there is no file to read again");
            continue;
        }
        let again = args.clone();
        // A large file takes long to read, and this thread has the control plane to listen to.
        let read = tokio::task::spawn_blocking(move || read(&again)).await;
        match read.unwrap_or_else(|error| Err(format!("error: {error}"))) {
            Ok(bootstrap) => {
                warn_of(&bootstrap);
                for field in reloader.reload(&bootstrap).await {
                    tracing::warn!(field, "changed, and takes effect only at the next start");
                }
                tracing::info!("bootstrap read again");
            }
            Err(errors) => {
                reloader.refused();
                tracing::error!("bootstrap refused, what runs stays\n{}", errors.trim_end());
            }
        }
    }
    std::future::pending::<()>().await;
}
