//! A client of HTTP/1 that writes by hand, and reads what belongs to what.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use rustix::net::sockopt::set_socket_linger;
use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWrite;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::script;
use crate::script::Answer;
use crate::script::Ask;

/// What a connection is carried by.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// One connection.
pub(crate) struct Http1 {
    stream: Box<dyn Stream>,
    read: Vec<u8>,
    is_over: bool,
    asks: Vec<Ask>,
}

/// How a body is framed.
pub(crate) enum Framing {
    Length,
    Chunked,
    /// With a trailer.
    Trailers,
}

impl Http1 {
    /// None if the proxy takes none; then there is nothing to be judged.
    pub(crate) async fn open(target: SocketAddr) -> Option<Self> {
        let stream = TcpStream::connect(target).await.ok()?;
        stream.set_nodelay(true).ok()?;
        Some(Self::over(stream))
    }

    pub(crate) fn over(stream: impl Stream + 'static) -> Self {
        Self {
            stream: Box::new(stream),
            read: Vec::new(),
            is_over: false,
            asks: Vec::new(),
        }
    }

    /// Writes; a proxy that is gone is seen when its answer is read.
    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes).await;
        let _ = self.stream.flush().await;
    }

    /// Takes note of a request that is written by hand.
    pub(crate) fn expect(&mut self, ask: Ask) {
        self.asks.push(ask);
    }

    /// Sends the head with `fields`, and the body.
    pub(crate) async fn ask(&mut self, ask: Ask, fields: &str) {
        let framing = if ask.body.is_empty() {
            None
        } else {
            Some(Framing::Length)
        };
        self.ask_framed(ask, framing.as_ref(), fields).await;
    }

    /// The same with a body framed as `framing` says.
    pub(crate) async fn ask_framed(&mut self, ask: Ask, framing: Option<&Framing>, fields: &str) {
        let head = head(&ask, framing, fields);
        let body = framed(&ask.body, framing);
        self.expect(ask);
        self.send(&[head.as_bytes(), &body].concat()).await;
    }

    /// Reads until so many requests are answered, or the proxy closes.
    pub(crate) async fn read_answers(&mut self, count: usize) -> usize {
        loop {
            let found = self.whole();
            if self.is_over || found >= count {
                return found;
            }
            self.read_more().await;
        }
    }

    /// Reads until there is `text`, or the proxy closes.
    pub(crate) async fn read_to(&mut self, text: &str) -> bool {
        let is_there = |read: &[u8]| read.windows(text.len()).any(|part| part == text.as_bytes());
        while !is_there(&self.read) && !self.is_over {
            self.read_more().await;
        }
        is_there(&self.read)
    }

    /// Asks to go on as a tunnel: what goes in comes out of it. `is_clean`: nothing was broken.
    pub(crate) async fn tunnel(mut self, ask: &Ask, is_clean: bool) -> Result<(), String> {
        let fields = "connection: upgrade\r\nupgrade: tunnel\r\n";
        self.send(head(ask, None, fields).as_bytes()).await;
        if self.read_to("\r\n\r\n").await && self.read.starts_with(b"HTTP/1.1 101") {
            self.send(script::THROUGH).await;
            while !self.read.ends_with(script::THROUGH) && !self.is_over {
                self.read_more().await;
            }
        }
        self.finish().await;
        let end = self.read.windows(4).position(|part| part == b"\r\n\r\n");
        let came = end.and_then(|end| self.read.get(end + 4..));
        let is_answered = self.read.starts_with(b"HTTP/1.1 101");
        ask.judge_tunnel(came.filter(|_| is_answered), is_clean)
    }

    async fn read_more(&mut self) {
        if matches!(self.stream.read_buf(&mut self.read).await, Ok(0) | Err(_)) {
            self.is_over = true;
        }
    }

    /// Says that there will be no more.
    pub(crate) async fn finish(&mut self) {
        let _ = self.stream.shutdown().await;
    }

    /// Reads to the end, and judges what came. `is_clean`: nothing was broken.
    pub(crate) async fn end(mut self, is_clean: bool) -> Result<(), String> {
        while !self.is_over {
            self.read_more().await;
        }
        self.judge(is_clean)
    }

    /// Leaves, and judges what came.
    pub(crate) fn judge(self, is_clean: bool) -> Result<(), String> {
        let answers = answers(&self.read, &self.asks)?;
        for (place, ask) in self.asks.iter().enumerate() {
            ask.judge(answers.get(place), is_clean)?;
        }
        Ok(())
    }

    fn whole(&self) -> usize {
        let answers = answers(&self.read, &self.asks).unwrap_or_default();
        answers.iter().filter(|answer| answer.is_whole).count()
    }
}

/// Closes with a reset.
pub(crate) fn reset(stream: &TcpStream) -> io::Result<()> {
    Ok(set_socket_linger(stream, Some(Duration::ZERO))?)
}

/// The head of a request.
pub(crate) fn head(ask: &Ask, framing: Option<&Framing>, fields: &str) -> String {
    let framing = match framing {
        None => String::new(),
        Some(Framing::Length) => format!("content-length: {}\r\n", ask.body.len()),
        Some(Framing::Chunked | Framing::Trailers) => "transfer-encoding: chunked\r\n".to_owned(),
    };
    format!(
        "{} {} HTTP/1.1\r\nhost: a\r\n{framing}{fields}\r\n",
        ask.method, ask.path
    )
}

fn framed(body: &[u8], framing: Option<&Framing>) -> Vec<u8> {
    match framing {
        None => Vec::new(),
        Some(Framing::Length) => body.to_vec(),
        Some(Framing::Chunked) => chunked(body, ""),
        Some(Framing::Trailers) => chunked(body, "x-last: 1\r\n"),
    }
}

/// Two chunks.
fn chunked(body: &[u8], trailers: &str) -> Vec<u8> {
    let (first, second) = body.split_at(body.len() / 2);
    let mut all = Vec::new();
    for chunk in [first, second].iter().filter(|chunk| !chunk.is_empty()) {
        all.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        all.extend_from_slice(chunk);
        all.extend_from_slice(b"\r\n");
    }
    all.extend_from_slice(format!("0\r\n{trailers}\r\n").as_bytes());
    all
}

/// The answers in what was read, the last one perhaps not whole.
fn answers(mut read: &[u8], asks: &[Ask]) -> Result<Vec<Answer>, String> {
    let mut all = Vec::new();
    while let Some((head, rest)) = split_head(read) {
        let Some(status) = status(head) else {
            return Err(format!("what is no answer: {head:?}"));
        };
        if status == 100 {
            read = rest;
            continue;
        }
        let is_head = asks.get(all.len()).is_some_and(|ask| ask.method == "HEAD");
        let mut answer = Answer {
            status,
            id: field(head, "x-id"),
            ..Answer::default()
        };
        read = take_body(&mut answer, (head, is_head), rest)?;
        all.push(answer);
    }
    Ok(all)
}

fn split_head(read: &[u8]) -> Option<(&str, &[u8])> {
    let end = read.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let (head, rest) = read.split_at(end);
    Some((std::str::from_utf8(head).ok()?, rest))
}

fn status(head: &str) -> Option<u16> {
    let (version, rest) = head.split_once(' ')?;
    let status = rest.get(..3)?.parse().ok();
    status.filter(|_| version == "HTTP/1.1" || version == "HTTP/1.0")
}

fn field(head: &str, name: &str) -> Option<String> {
    let mut lines = head.lines();
    let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    value.map(str::to_owned)
}

fn take_body<'r>(
    answer: &mut Answer,
    (head, is_head): (&str, bool),
    rest: &'r [u8],
) -> Result<&'r [u8], String> {
    if is_head || answer.status == 204 {
        answer.is_whole = true;
        return Ok(rest);
    }
    if field(head, "transfer-encoding").is_some() {
        return take_chunks(answer, rest);
    }
    let length = field(head, "content-length").and_then(|length| length.parse().ok());
    let length: usize = length.unwrap_or(usize::MAX);
    let body = rest.get(..length).unwrap_or(rest);
    answer.body = body.to_vec();
    answer.is_whole = body.len() == length;
    Ok(&rest[body.len()..])
}

fn take_chunks<'r>(answer: &mut Answer, mut rest: &'r [u8]) -> Result<&'r [u8], String> {
    loop {
        let Some(end) = rest.windows(2).position(|two| two == b"\r\n") else {
            return Ok(&[]);
        };
        let size = std::str::from_utf8(&rest[..end]).unwrap_or("?");
        let size = usize::from_str_radix(size, 16);
        let size =
            size.map_err(|_| format!("what is no chunk after {} bytes", answer.body.len()))?;
        rest = &rest[end + 2..];
        if size == 0 {
            return Ok(take_trailers(answer, rest));
        }
        let chunk = rest.get(..size).unwrap_or(rest);
        answer.body.extend_from_slice(chunk);
        rest = rest.get(size + 2..).unwrap_or_default();
    }
}

fn take_trailers<'r>(answer: &mut Answer, rest: &'r [u8]) -> &'r [u8] {
    if let Some(rest) = rest.strip_prefix(b"\r\n") {
        answer.is_whole = true;
        return rest;
    }
    let Some((trailers, rest)) = split_head(rest) else {
        return &[];
    };
    answer.is_whole = true;
    answer.trailer = field(trailers, "grpc-status").or_else(|| field(trailers, "x-sum"));
    rest
}
