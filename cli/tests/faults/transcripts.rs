//! The transcripts: what clients and origins do, whatever becomes of it.

use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::http1;
use crate::http1::Framing;
use crate::http1::Http1;
use crate::http1::Stream;
use crate::http2::Http2;
use crate::script;
use crate::script::Ask;
use crate::world::Door;
use crate::world::World;

/// What one of them does, and through which doors and pools.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Act {
    /// So many requests, one after the other, for this.
    Asks(&'static str, usize),
    /// At the same time: pipelined, or in streams of their own.
    Together(&'static str, usize),
    Post(&'static str, usize),
    PostChunked,
    PostTrailers(&'static str),
    Head,
    OldVersion,
    Expects,
    LeavesBody,
    LeavesWaiting,
    LeavesAnswer,
    HalfCloses,
    Upgrade,
    Nonsense,
    HugeHead,
    Stream(usize),
    StreamLeaves,
    Tunnel,
}

/// One of them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Transcript {
    pub(crate) act: Act,
    pub(crate) door: Door,
    pub(crate) is_http2: bool,
    /// Which pool; for TCP it is the door's.
    pub(crate) way: &'static str,
}

const fn http1(act: Act, way: &'static str) -> Transcript {
    Transcript {
        act,
        door: Door::Http,
        is_http2: false,
        way,
    }
}

const fn http2(act: Act, way: &'static str) -> Transcript {
    Transcript {
        act,
        door: Door::Http,
        is_http2: true,
        way,
    }
}

const fn at(door: Door, transcript: Transcript) -> Transcript {
    Transcript { door, ..transcript }
}

const fn tcp(door: Door, act: Act) -> Transcript {
    Transcript {
        act,
        door,
        is_http2: false,
        way: "",
    }
}

/// All of them.
pub(crate) const ALL: [Transcript; 50] = [
    http1(Act::Asks("echo", 1), "h1"),
    http1(Act::Asks("chunked", 3), "h1"),
    http1(Act::Together("echo", 3), "h1"),
    http1(Act::Post("echo", 10), "h1"),
    http1(Act::Post("echo", script::BIG), "h1"),
    http1(Act::PostChunked, "h1"),
    http1(Act::PostTrailers("trailers"), "h1"),
    http1(Act::Head, "h1"),
    http1(Act::OldVersion, "h1"),
    http1(Act::Expects, "h1"),
    http1(Act::Post("early", script::BIG), "h1"),
    http1(Act::Asks("close", 2), "h1"),
    http1(Act::Asks("abort", 1), "h1"),
    http1(Act::Asks("break", 1), "h1"),
    http1(Act::Asks("big", 1), "h1"),
    http1(Act::Asks("empty", 2), "h1"),
    http1(Act::Asks("once", 1), "h1"),
    http1(Act::Post("once", 3000), "h1"),
    http1(Act::Post("once-abort", 3000), "h1"),
    http1(Act::LeavesBody, "h1"),
    http1(Act::LeavesWaiting, "h1"),
    http1(Act::LeavesAnswer, "h1"),
    http1(Act::HalfCloses, "h1"),
    http1(Act::Upgrade, "h1"),
    http1(Act::Tunnel, "h1"),
    http1(Act::Tunnel, "h2"),
    http1(Act::Nonsense, "h1"),
    http1(Act::HugeHead, "h1"),
    http1(Act::Asks("echo", 2), "h2"),
    http1(Act::PostTrailers("trailers"), "h2"),
    http1(Act::Asks("big", 1), "h2"),
    http2(Act::Asks("echo", 2), "h1"),
    http2(Act::Together("chunked", 3), "h1"),
    http2(Act::Post("trailers", 3000), "h1"),
    http2(Act::LeavesWaiting, "h1"),
    http2(Act::Together("echo", 3), "h2"),
    http2(Act::Together("big", 2), "h2"),
    http2(Act::Asks("grpc", 1), "h2"),
    http2(Act::Asks("once-grpc", 1), "h2"),
    http2(Act::LeavesAnswer, "h2"),
    http2(Act::Tunnel, "h1"),
    http2(Act::Tunnel, "h2s"),
    at(Door::Announced, http1(Act::Asks("echo", 1), "h1")),
    at(Door::Https, http1(Act::Asks("echo", 2), "h1s")),
    at(Door::Https, http2(Act::Post("trailers", 3000), "h2s")),
    tcp(Door::Tcp, Act::Stream(script::BIG)),
    tcp(Door::Tcp, Act::StreamLeaves),
    tcp(Door::TcpReset, Act::Stream(10)),
    tcp(Door::TcpTls, Act::Stream(script::BIG)),
    tcp(Door::TcpTold, Act::Stream(1000)),
];

impl Transcript {
    pub(crate) fn name(&self) -> String {
        let version = if self.is_http2 { "HTTP/2" } else { "HTTP/1" };
        format!(
            "{:?} by {version} at {:?} to {:?}",
            self.act, self.door, self.way
        )
    }

    /// Plays it. `is_clean`: nothing is broken, so all must be well.
    pub(crate) async fn play(&self, world: &World, is_clean: bool) -> Result<(), String> {
        match (self.act, self.is_http2) {
            (Act::Stream(_) | Act::StreamLeaves, _) => self.stream(world, is_clean).await,
            (_, true) => Box::pin(self.play_http2(world, is_clean)).await,
            (_, false) => Box::pin(self.play_http1(world, is_clean)).await,
        }
    }

    fn get(&self, what: &str, world: &World) -> Ask {
        Ask::get(self.way, what, world.id())
    }

    fn post(&self, what: &str, length: usize, world: &World) -> Ask {
        let body = if length > 10_000 {
            script::big("b")
        } else {
            vec![b'b'; length]
        };
        Ask::post(self.way, what, world.id(), body)
    }

    async fn open_http1(&self, world: &World) -> Option<Http1> {
        match self.door {
            Door::Https => Some(Http1::over(world.secure(self.door, b"http/1.1").await?)),
            Door::Announced => {
                let mut client = Http1::open(world.door(self.door)).await?;
                client.send(b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n").await;
                Some(client)
            }
            _ => Http1::open(world.door(self.door)).await,
        }
    }

    async fn play_http1(&self, world: &World, is_clean: bool) -> Result<(), String> {
        let Some(mut client) = self.open_http1(world).await else {
            return if is_clean {
                Err("no connection".to_owned())
            } else {
                Ok(())
            };
        };
        match self.act {
            Act::Asks(what, count) => {
                for done in 1..=count {
                    client.ask(self.get(what, world), "").await;
                    client.read_answers(done).await;
                }
            }
            Act::Together(what, count) => {
                let asks: Vec<Ask> = (0..count).map(|_| self.get(what, world)).collect();
                let heads: String = asks.iter().map(|ask| http1::head(ask, None, "")).collect();
                asks.into_iter().for_each(|ask| client.expect(ask));
                client.send(heads.as_bytes()).await;
                client.read_answers(count).await;
            }
            Act::Post(what, length) => {
                client.ask(self.post(what, length, world), "").await;
                client.read_answers(1).await;
            }
            Act::PostChunked => {
                let ask = self.post("chunked", 3000, world);
                client.ask_framed(ask, Some(&Framing::Chunked), "").await;
                client.read_answers(1).await;
            }
            Act::PostTrailers(what) => {
                let ask = self.post(what, 3000, world);
                client
                    .ask_framed(ask, Some(&Framing::Trailers), "te: trailers\r\n")
                    .await;
                client.read_answers(1).await;
            }
            _ => return self.play_rare(client, world, is_clean).await,
        }
        client.finish().await;
        client.end(is_clean).await
    }

    /// What clients seldom do.
    async fn play_rare(
        &self,
        mut client: Http1,
        world: &World,
        is_clean: bool,
    ) -> Result<(), String> {
        match self.act {
            Act::Head => {
                client.ask(self.get("echo", world).head(), "").await;
                client.read_answers(1).await;
            }
            Act::Upgrade => {
                let fields = "connection: upgrade\r\nupgrade: websocket\r\n";
                client
                    .ask(self.get("echo", world).unanswered(), fields)
                    .await;
                client.read_answers(1).await;
            }
            Act::OldVersion => {
                let ask = self.get("echo", world).unanswered();
                let text = format!("GET {} HTTP/1.0\r\nhost: a\r\n\r\n", ask.path);
                client.expect(ask);
                client.send(text.as_bytes()).await;
                client.read_answers(1).await;
            }
            Act::Expects => {
                let ask = self.post("echo", 10, world);
                let head = http1::head(&ask, Some(&Framing::Length), "expect: 100-continue\r\n");
                let body = ask.body.clone();
                client.expect(ask);
                client.send(head.as_bytes()).await;
                if client.read_to("HTTP/1.1 100").await {
                    client.send(&body).await;
                    client.read_answers(1).await;
                }
            }
            Act::Nonsense => {
                let nonsense = b"GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n";
                client.send(nonsense).await;
                client.read_answers(1).await;
            }
            Act::HugeHead => {
                let field = format!("x-huge: {}\r\n", "h".repeat(100_000));
                client
                    .ask(self.get("echo", world).unanswered(), &field)
                    .await;
                client.read_answers(1).await;
            }
            Act::Tunnel => return client.tunnel(&self.get("tunnel", world), is_clean).await,
            Act::HalfCloses => client.ask(self.get("big", world).unanswered(), "").await,
            _ => return self.leave_http1(client, world).await,
        }
        client.finish().await;
        client.end(is_clean).await
    }

    async fn leave_http1(&self, mut client: Http1, world: &World) -> Result<(), String> {
        match self.act {
            Act::LeavesBody => {
                let ask = self.post("echo", 1000, world);
                let head = http1::head(&ask, Some(&Framing::Length), "");
                client.send(head.as_bytes()).await;
                client.send(&ask.body[..500]).await;
                self.seen(&mut client, world, &ask.id).await;
            }
            Act::LeavesAnswer => {
                client.ask(self.get("big", world), "").await;
                client.read_to("HTTP/1.1 ").await;
            }
            _ => {
                let ask = self.get("hold", world);
                let id = ask.id.clone();
                client.ask(ask, "").await;
                self.seen(&mut client, world, &id).await;
            }
        }
        client.judge(false)
    }

    /// Waits until its origin was asked, or the proxy answers by itself: whoever left before would
    /// leave nothing to be broken.
    async fn seen(&self, client: &mut Http1, world: &World, id: &str) {
        tokio::select! {
            () = world.asked(self.way, id) => {}
            _ = client.read_to("HTTP/1.1 ") => {}
        }
    }

    async fn open_http2(&self, world: &World) -> Option<Http2> {
        match self.door {
            Door::Https => {
                let stream = Box::pin(world.secure(self.door, b"h2")).await?;
                Box::pin(Http2::over(stream)).await
            }
            _ => Http2::open(world.door(self.door)).await,
        }
    }

    async fn play_http2(&self, world: &World, is_clean: bool) -> Result<(), String> {
        let Some(client) = Box::pin(self.open_http2(world)).await else {
            return if is_clean {
                Err("no connection".to_owned())
            } else {
                Ok(())
            };
        };
        match self.act {
            Act::Asks(what, count) => {
                for _ in 0..count {
                    client.ask(self.get(what, world), is_clean).await?;
                }
            }
            Act::Together(what, 2) => {
                let asks = [(); 2].map(|()| client.ask(self.get(what, world), is_clean));
                let [first, second] = asks;
                let (first, second) = tokio::join!(first, second);
                first.and(second)?;
            }
            Act::Together(what, _) => {
                let asks = [(); 3].map(|()| client.ask(self.get(what, world), is_clean));
                let [first, second, third] = asks;
                let (first, second, third) = tokio::join!(first, second, third);
                first.and(second).and(third)?;
            }
            Act::Post(what, length) => client.ask(self.post(what, length, world), is_clean).await?,
            Act::Tunnel => client.tunnel(&self.get("tunnel", world), is_clean).await?,
            Act::LeavesAnswer => {
                let ask = self.get("big", world);
                client.ask_and_reset(&ask, std::future::ready(())).await;
                client.ask(self.get("big", world), is_clean).await?;
                client.abort();
                return Ok(());
            }
            _ => {
                let ask = self.get("hold", world);
                let other = client.ask(self.get("echo", world), is_clean);
                let seen = async {
                    let _ = other.await; // judged with others
                };
                client.ask_and_reset(&ask, seen).await;
            }
        }
        client.end().await;
        Ok(())
    }

    async fn stream(&self, world: &World, is_clean: bool) -> Result<(), String> {
        let stream: Box<dyn Stream> = match self.door {
            Door::TcpTls => match world.secure(self.door, b"x").await {
                Some(stream) => Box::new(stream),
                None if is_clean => return Err("no connection".to_owned()),
                None => return Ok(()),
            },
            _ => match TcpStream::connect(world.door(self.door)).await {
                Ok(stream) if matches!(self.act, Act::StreamLeaves) => return leave(stream).await,
                Ok(stream) => Box::new(stream),
                Err(error) => return Err(error.to_string()),
            },
        };
        let Act::Stream(length) = self.act else {
            return Ok(());
        };
        let sent = script::big(&world.id())[..length].to_vec();
        let (mut reads, mut writes) = tokio::io::split(stream);
        let mut read = Vec::new();
        let write = async {
            let _ = writes.write_all(&sent).await; // what became of it is read
            let _ = writes.shutdown().await;
        };
        let (end, ()) = tokio::join!(reads.read_to_end(&mut read), write);
        let is_whole = end.is_ok();
        let told = read.starts_with(b"PROXY ");
        let read = if told { after_line(&read) } else { &read };
        let must = is_clean && !matches!(self.door, Door::TcpReset);
        if !sent.starts_with(read) && !b"PROXY ".starts_with(read) {
            return Err(format!("other bytes, {} of {}", read.len(), sent.len()));
        }
        if must && (read.len() < sent.len() || !is_whole) {
            return Err(format!("{} bytes of {}, {end:?}", read.len(), sent.len()));
        }
        Ok(())
    }
}

fn after_line(read: &[u8]) -> &[u8] {
    let end = read.iter().position(|byte| *byte == b'\n');
    end.map_or(&[], |end| &read[end + 1..])
}

/// Resets after an echo.
async fn leave(mut stream: TcpStream) -> Result<(), String> {
    let _ = stream.write_all(b"hello").await;
    let mut echo = [0; 5];
    let _ = stream.read_exact(&mut echo).await;
    http1::reset(&stream).map_err(|error| error.to_string())
}
