//! What a client asks for, and what it may get: the right answer, or something that says that there is
//! none.

use std::fmt::Write;

/// Bytes of a body that does not fit into one buffer.
pub(crate) const BIG: usize = 200 * 1024;

/// What goes through tunnels.
pub(crate) const THROUGH: &[u8] = b"through";

/// One request and the answer that is its own.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) method: &'static str,
    pub(crate) path: String,
    pub(crate) id: String,
    /// Of the request.
    pub(crate) body: Vec<u8>,
    /// Whether it is answered as it should be when nothing breaks.
    pub(crate) is_answered: bool,
    /// What the answer consists of.
    wanted: Vec<u8>,
}

/// What came back.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// What the origin put into it; none if the proxy answered by itself.
    pub(crate) id: Option<String>,
    pub(crate) body: Vec<u8>,
    pub(crate) is_whole: bool,
    /// The status of gRPC or the trailer that goes with the body.
    pub(crate) trailer: Option<String>,
}

impl Ask {
    /// A GET of what `what` is at the origins behind `way`.
    pub(crate) fn get(way: &str, what: &str, id: String) -> Self {
        let mut path = String::new();
        let _ = write!(path, "/{way}/{what}/{id}"); // writing to a string cannot fail
        let wanted = wanted(what, &id, &[]);
        Self {
            method: "GET",
            path,
            id,
            body: Vec::new(),
            is_answered: !matches!(what, "abort" | "break" | "hold"),
            wanted,
        }
    }

    /// A POST with that body.
    pub(crate) fn post(way: &str, what: &str, id: String, body: Vec<u8>) -> Self {
        let mut ask = Self::get(way, what, id);
        ask.method = "POST";
        ask.wanted = wanted(what, &ask.id, &body);
        ask.body = body;
        ask
    }

    /// The same without a body in the answer.
    pub(crate) fn head(self) -> Self {
        Self {
            method: "HEAD",
            wanted: Vec::new(),
            ..self
        }
    }

    /// The same of which no answer is expected.
    pub(crate) fn unanswered(self) -> Self {
        Self {
            is_answered: false,
            ..self
        }
    }

    /// What is wrong with the answer. `is_whole`: nothing was broken, so it must be there.
    pub(crate) fn judge(&self, answer: Option<&Answer>, is_clean: bool) -> Result<(), String> {
        let must = is_clean && self.is_answered;
        let Some(answer) = answer else {
            return if must {
                Err(self.lacks("no answer"))
            } else {
                Ok(())
            };
        };
        let Some(id) = &answer.id else {
            // The proxy's own, which knows nothing of the request.
            let own = format!("answered by the proxy itself: {}", answer.text());
            return if must { Err(self.lacks(&own)) } else { Ok(()) };
        };
        if *id != self.id {
            return Err(self.lacks(&format!("the answer to {id}")));
        }
        let refuses = answer.status >= 500 || answer.trailer.as_deref() == Some("14");
        if refuses && answer.body.is_empty() && !must {
            return Ok(()); // there was no other attempt
        }
        let body = &answer.body;
        if !self.wanted.starts_with(body) || (answer.is_whole && body.len() < self.wanted.len()) {
            return Err(self.lacks(&format!("a wrong body: {}", answer.text())));
        }
        if must && !answer.is_whole {
            return Err(self.lacks("half an answer"));
        }
        Ok(())
    }

    /// What is wrong with what came out of a tunnel, if there was one.
    pub(crate) fn judge_tunnel(&self, came: Option<&[u8]>, is_clean: bool) -> Result<(), String> {
        let came = match came {
            None if is_clean => return Err(self.lacks("no tunnel")),
            None => return Ok(()),
            Some(came) => came,
        };
        if !THROUGH.starts_with(came) || (is_clean && came != THROUGH) {
            return Err(self.lacks(&format!("{} bytes through a tunnel", came.len())));
        }
        Ok(())
    }

    fn lacks(&self, what: &str) -> String {
        format!("{} {} got {what}", self.method, self.path)
    }
}

impl Answer {
    fn text(&self) -> String {
        let start = self.body.get(..80).unwrap_or(&self.body);
        let text = String::from_utf8_lossy(start);
        format!("{} {} bytes {text:?}", self.status, self.body.len())
    }
}

/// The body of the answer of an origin.
pub(crate) fn wanted(what: &str, id: &str, body: &[u8]) -> Vec<u8> {
    match what {
        "big" => big(id),
        "empty" => Vec::new(),
        "early" => id.as_bytes().to_vec(),
        _ => [id.as_bytes(), b"|", body].concat(),
    }
}

/// A pattern of that length in which each place differs from those around it.
pub(crate) fn big(id: &str) -> Vec<u8> {
    let mut all = Vec::with_capacity(BIG + 64);
    let mut line = 0;
    while all.len() < BIG {
        all.extend_from_slice(format!("{id}:{line}\n").as_bytes());
        line += 1;
    }
    all.truncate(BIG);
    all
}
