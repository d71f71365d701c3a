//! Bytes both ways over real sockets, and goodbyes between frames.

use std::io;
use std::pin::Pin;
use std::rc::Rc;

use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWrite;
use tokio::io::AsyncWriteExt;
use tokio::io::ReadBuf;
use tokio::net::UnixStream;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::*;
use crate::net::NetStream;

const CLOSE: [u8; 4] = [0x88, 2, 0x03, 0xe9];

/// With the mask of [`MASK`].
const CLOSE_MASKED: [u8; 8] = [0x88, 0x82, 1, 2, 3, 4, 0x03 ^ 1, 0xe9 ^ 2];
const MASK: [u8; 4] = [1, 2, 3, 4];

/// The far ends of a tunnel that runs.
struct World {
    client: UnixStream,
    upstream: UnixStream,
    goes: Rc<Notify>,
    task: JoinHandle<(Ended, u64)>,
}

impl World {
    fn start(is_websocket: bool, early: &[u8]) -> Self {
        let (client, ours) = UnixStream::pair().unwrap();
        let (upstream, theirs) = UnixStream::pair().unwrap();
        let goes = Rc::new(Notify::new());
        let told = Rc::clone(&goes);
        let mut tunnel = Tunnel::new(is_websocket, Vec::new(), usize::MAX);
        tunnel.add_early(early.to_vec());
        let task = tokio::task::spawn_local(async move {
            let (mut ours, mut theirs) = (NetStream::Unix(ours), NetStream::Unix(theirs));
            let mut told = std::pin::pin!(told.notified());
            let ended = std::future::poll_fn(|cx| {
                if !tunnel.is_leaving() && told.as_mut().poll(cx).is_ready() {
                    assert!(tunnel.leave(MASK));
                }
                tunnel.poll(&mut ours, &mut theirs, cx)
            });
            let ended = ended.await;
            (ended, tunnel.spliced())
        });
        Self {
            client,
            upstream,
            goes,
            task,
        }
    }
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(tokio::runtime::LocalOptions::default());
    runtime.unwrap().block_on(test);
}

async fn read<const N: usize>(stream: &mut UnixStream) -> [u8; N] {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes).await.unwrap();
    bytes
}

/// An unmasked frame of text.
fn frame(payload: usize) -> Vec<u8> {
    let mut frame = vec![0x81, 127];
    frame.extend((payload as u64).to_be_bytes());
    frame.resize(frame.len() + payload, b'x');
    frame
}

#[test]
fn bytes_pass_both_ways_until_one_side_ends() {
    run(async {
        let mut world = World::start(false, b"early");
        assert_eq!(&read::<5>(&mut world.upstream).await, b"early");
        world.upstream.write_all(b"down").await.unwrap();
        assert_eq!(&read::<4>(&mut world.client).await, b"down");
        world.client.shutdown().await.unwrap();
        let mut rest = Vec::new();
        world.upstream.read_to_end(&mut rest).await.unwrap();
        assert_eq!(world.task.await.unwrap().0, Ended::Client);
        assert!(rest.is_empty());
    });
}

/// A side that may read on when it sends no more, until it is told to go.
#[derive(Debug)]
struct Halves(NetStream, Rc<Notify>);

impl Peer for Halves {
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        std::pin::pin!(self.1.notified()).poll(cx)
    }
}

impl End for Halves {
    fn socket(&self) -> Option<&NetStream> {
        None
    }
}

impl AsyncRead for Halves {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Halves {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[test]
fn the_end_of_a_stream_is_passed_on_and_the_rest_is_up_to_the_upstream() {
    run(async {
        for goes in [false, true] {
            let (mut client, ours) = UnixStream::pair().unwrap();
            let (mut upstream, theirs) = UnixStream::pair().unwrap();
            let gone = Rc::new(Notify::new());
            let told = Rc::clone(&gone);
            let task = tokio::task::spawn_local(async move {
                let mut tunnel = Tunnel::new(false, Vec::new(), usize::MAX);
                let mut ours = Halves(NetStream::Unix(ours), told);
                let mut theirs = NetStream::Unix(theirs);
                std::future::poll_fn(|cx| tunnel.poll(&mut ours, &mut theirs, cx)).await
            });
            client.write_all(b"last").await.unwrap();
            client.shutdown().await.unwrap();
            let mut came = Vec::new();
            upstream.read_to_end(&mut came).await.unwrap();
            assert_eq!(came, b"last");
            upstream.write_all(b"late").await.unwrap();
            assert_eq!(&read::<4>(&mut client).await, b"late");
            if goes {
                gone.notify_one();
                upstream.write_all(b"!").await.unwrap(); // it is looked at again
                assert_eq!(task.await.unwrap(), Ended::Client);
            } else {
                drop(upstream);
                assert_eq!(task.await.unwrap(), Ended::Upstream);
            }
        }
    });
}

#[test]
fn both_ends_are_told_at_once_where_no_frame_is_under_way() {
    run(async {
        let mut world = World::start(true, b"");
        world.goes.notify_one();
        assert_eq!(read(&mut world.client).await, CLOSE);
        assert_eq!(read(&mut world.upstream).await, CLOSE_MASKED);
        world.client.write_all(&CLOSE_MASKED).await.unwrap();
        world.upstream.write_all(&CLOSE).await.unwrap();
        assert_eq!(world.task.await.unwrap().0, Ended::Told);
        let mut rest = Vec::new();
        world.client.read_to_end(&mut rest).await.unwrap();
        assert!(rest.is_empty(), "{rest:?}");
    });
}

#[test]
fn a_frame_under_way_comes_whole_and_what_follows_it_does_not() {
    run(async {
        let mut world = World::start(true, b"");
        let whole = frame(300_000);
        let (begin, rest) = whole.split_at(1000);
        world.upstream.write_all(begin).await.unwrap();
        assert_eq!(read::<1000>(&mut world.client).await, begin);
        world.goes.notify_one();
        assert_eq!(
            read(&mut world.upstream).await,
            CLOSE_MASKED,
            "nothing was under way to it"
        );
        let writes = async {
            world.upstream.write_all(rest).await.unwrap();
            world.upstream.write_all(&frame(50)).await.unwrap();
            world.upstream.write_all(&CLOSE).await.unwrap();
        };
        let reads = async {
            let mut came = vec![0; rest.len()];
            world.client.read_exact(&mut came).await.unwrap();
            assert!(came == rest);
            assert_eq!(read(&mut world.client).await, CLOSE);
            world.client.write_all(&CLOSE_MASKED).await.unwrap();
        };
        tokio::join!(writes, reads);
        assert_eq!(world.task.await.unwrap().0, Ended::Told);
    });
}

#[test]
fn who_has_said_goodbye_is_told_nothing() {
    run(async {
        let mut world = World::start(true, b"");
        world.upstream.write_all(&CLOSE).await.unwrap();
        assert_eq!(read(&mut world.client).await, CLOSE);
        world.goes.notify_one();
        assert_eq!(read(&mut world.upstream).await, CLOSE_MASKED);
        world.client.write_all(&CLOSE_MASKED).await.unwrap();
        let mut rest = Vec::new();
        world.client.read_to_end(&mut rest).await.unwrap();
        assert!(rest.is_empty(), "{rest:?}");
        assert_eq!(world.task.await.unwrap().0, Ended::Told);
    });
}

#[test]
fn whoever_does_not_answer_is_not_waited_for() {
    run(async {
        tokio::time::pause();
        let mut world = World::start(true, b"");
        world.client.write_all(&[0x81]).await.unwrap();
        assert_eq!(read(&mut world.upstream).await, [0x81]);
        world.goes.notify_one();
        // The client is in the middle of a frame, and stays there.
        assert_eq!(read(&mut world.client).await, CLOSE);
        assert_eq!(world.task.await.unwrap().0, Ended::Told);
        let mut rest = Vec::new();
        world.upstream.read_to_end(&mut rest).await.unwrap();
        assert!(rest.is_empty(), "{rest:?}");
    });
}

#[test]
fn large_frames_are_spliced_and_their_ends_are_known() {
    run(async {
        let mut world = World::start(true, b"");
        let whole = [frame(3_000_000), frame(10), frame(1_000_000)].concat();
        let writes = async {
            world.upstream.write_all(&whole).await.unwrap();
        };
        let reads = async {
            let mut came = vec![0; whole.len()];
            world.client.read_exact(&mut came).await.unwrap();
            assert!(came == whole);
        };
        tokio::join!(writes, reads);
        world.goes.notify_one();
        assert_eq!(read(&mut world.client).await, CLOSE);
        drop((world.client, world.upstream));
        let (ended, spliced) = world.task.await.unwrap();
        assert_eq!(ended, Ended::Told);
        assert!(spliced > 1_000_000, "{spliced}");
    });
}
