//! Asking with a connection, and with bytes on it if there is an answer to wait for.

use std::sync::Arc;

use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;

use super::Peer;
use super::contains;
use crate::config::endpoint::Address;
use crate::config::health::Probe;
use crate::config::health::TcpProbe;
use crate::config::limits;
use crate::net::NetStream;
use crate::net::proxy_protocol;
use crate::net::proxy_protocol::Version;
use crate::upstream::health::session::Failure;

#[derive(Debug)]
pub(in crate::upstream::health) struct Tcp {
    peer: Peer,
    stream: Option<NetStream>,
}

impl Tcp {
    pub(super) fn new(peer: Peer) -> Self {
        Self { peer, stream: None }
    }

    pub(super) async fn ask(&mut self) -> Result<bool, Failure> {
        let kept = self.stream.take();
        let kept = kept.and_then(|mut stream| stream.is_idle_clean().then_some(stream));
        let kept = kept.filter(|_| self.peer.is_good());
        let config = Arc::clone(&self.peer.plan.config);
        let Probe::Tcp(probe) = &config.probe else {
            return Err(Failure::Network); // it is one, or this would not have been made
        };
        let mut stream = match kept {
            Some(stream) => stream,
            None => self.peer.connect(&[]).await?,
        };
        if probe.receive.is_empty() {
            return Ok(false); // a connection is enough
        }
        let question = self.question(probe, &stream);
        let asked = async {
            stream.write_all(&question).await?;
            stream.flush().await
        };
        asked.await.map_err(|_| Failure::Network)?;
        hear(&mut stream, probe).await?;
        if self.peer.keeps() {
            self.stream = Some(stream);
        }
        Ok(false)
    }

    fn question(&self, probe: &TcpProbe, stream: &NetStream) -> Vec<u8> {
        let mut question = match probe.proxy_protocol {
            None => Vec::new(),
            Some(Version::V1) => {
                let peer = match &self.peer.address {
                    Address::Pipe(_) => None,
                    Address::Socket(address) => Some(*address),
                };
                proxy_protocol::write_v1(stream.local_address().zip(peer))
            }
            Some(Version::V2) => proxy_protocol::write_v2(None, []),
        };
        question.extend_from_slice(&probe.send);
        question
    }
}

/// Reads until all that is expected is there. What comes besides has no end of its own, so only the last
/// part of it is looked at.
async fn hear(stream: &mut NetStream, probe: &TcpProbe) -> Result<(), Failure> {
    let most = limits::HEALTH_CHECK_ANSWER_BYTES_MAX;
    let mut heard = Vec::new();
    while !contains(&heard, &probe.receive) {
        if heard.len() > most {
            heard.drain(..heard.len() - most);
        }
        match stream.read_buf(&mut heard).await {
            Ok(0) | Err(_) => return Err(Failure::Network),
            Ok(_) => {}
        }
    }
    Ok(())
}
