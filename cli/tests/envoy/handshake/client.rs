//! One `openssl s_client`: what it asks for, and what it saw.

use std::fmt;
use std::io::Read;
use std::io::Write;
use std::process::Command;
use std::process::Stdio;

use rustix::process::Pid;
use rustix::process::Signal;
use rustix::process::kill_process;

use super::Over;
use super::authority::Files;

/// Seconds after which a client is given up; a busy machine needs a part of it.
const PATIENCE: &str = "20";

/// The connection preface and empty settings of HTTP/2 (RFC 9113 section 3.4).
const HTTP2: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// What the server answers to settings.
const HTTP2_ACK: &[u8] = b"\0\0\0\x04\x01\0\0\0\0";

pub(super) const HTTP1: &[u8] = b"GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n";
const HTTP1_OK: &[u8] = b"HTTP/1.1 200";

/// One client.
#[derive(Clone, Debug)]
pub(super) struct Cell {
    policy: String,
    pub(super) over: Over,
    certificate: Option<&'static str>,
    speaks_http2: bool,
    arguments: Vec<String>,
}

/// What it saw. Empty where it saw nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Verdict {
    /// As agreed, if it came so far that a certificate was shown. Not the suite: Envoy leaves the
    /// choice to the client where we prefer AES.
    version: String,
    /// Subject of the certificate that was shown.
    pub(super) certificate: String,
    alpn: String,
    /// A request over it was answered.
    pub(super) is_answered: bool,
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { policy, over, .. } = self;
        write!(f, "{policy}, {over:?}: {}", self.arguments.join(" "))
    }
}

impl Cell {
    /// Whether a client of this kind gets an answer, where that is plain.
    pub(super) fn must_be_answered(&self) -> Option<bool> {
        let rsa_only = self.arguments.iter().any(|word| word.contains("RSA"));
        let unknown_protocol = self.arguments.iter().any(|word| word == "smtp");
        match (self.policy.as_str(), self.certificate) {
            _ if rsa_only || unknown_protocol => None,
            ("Ignores", _) | ("Asks", None | Some("stranger")) | (_, Some("right")) => Some(true),
            _ => Some(false),
        }
    }
}

/// All clients of a listener.
pub(super) fn cells((policy, over, port): &(String, Over, u16), files: &Files) -> Vec<Cell> {
    let versions = ["-tls1_2", "-tls1_3"];
    let names = [
        Some("exact.test"),
        Some("a.wild.test"),
        Some("unknown.test"),
        None,
    ];
    let protocols = [Some("h2"), Some("http/1.1"), Some("smtp"), None];
    let certificates = [
        None,
        Some("foreign"),
        Some("stranger"),
        Some("expired"),
        Some("right"),
    ];
    let mut cells = Vec::new();
    for version in versions {
        for name in names {
            for protocol in protocols {
                for certificate in certificates {
                    let mut arguments = vec![version.to_owned(), "-connect".to_owned()];
                    arguments.push(format!("127.0.0.1:{port}"));
                    match name {
                        Some(name) => arguments.extend(["-servername".to_owned(), name.to_owned()]),
                        None => arguments.push("-noservername".to_owned()),
                    }
                    if let Some(protocol) = protocol {
                        arguments.extend(["-alpn".to_owned(), protocol.to_owned()]);
                    }
                    if let Some(certificate) = certificate {
                        for (flag, end) in [("-cert", "pem"), ("-key", "key")] {
                            let file = files.path(&format!("{certificate}.{end}"));
                            arguments.extend([flag.to_owned(), file.display().to_string()]);
                        }
                    }
                    let cell = Cell {
                        policy: policy.clone(),
                        over: *over,
                        certificate,
                        speaks_http2: protocol == Some("h2") && *over == Over::Http,
                        arguments,
                    };
                    if certificate.is_none() {
                        cells.push(only_rsa(&cell));
                    }
                    cells.push(cell);
                }
            }
        }
    }
    cells
}

/// The same client, if it knew no ECDSA.
fn only_rsa(cell: &Cell) -> Cell {
    let mut cell = cell.clone();
    let more = [
        "-sigalgs",
        "RSA-PSS+SHA256:RSA+SHA256",
        "-cipher",
        "ECDHE-RSA-AES128-GCM-SHA256",
    ];
    cell.arguments.extend(more.map(str::to_owned));
    cell
}

/// Runs the client and tells what it saw.
pub(super) fn knock(cell: &Cell) -> Verdict {
    let (request, answer) = if cell.speaks_http2 {
        (HTTP2, HTTP2_ACK)
    } else {
        (HTTP1, HTTP1_OK)
    };
    let (seen, is_answered) = run(&cell.arguments, request, Some(answer));
    let text = String::from_utf8_lossy(&seen);
    let line = |start: &str| {
        let found = text.lines().find(|line| line.starts_with(start));
        found.unwrap_or_default().to_owned()
    };
    let certificate = line("subject=");
    let agreed = line("New, ");
    let version = agreed.split(", Cipher").next().unwrap_or_default();
    Verdict {
        version: version.to_owned().repeat((!certificate.is_empty()).into()),
        certificate,
        alpn: line("ALPN protocol"),
        is_answered,
    }
}

/// All that a client says until the server ends the connection, errors included.
pub(super) fn text(arguments: &[String], request: &[u8]) -> String {
    let (seen, _) = run(arguments, request, None);
    String::from_utf8_lossy(&seen).into_owned()
}

/// Runs a client until it has seen `answer`, or to its end.
fn run(arguments: &[String], request: &[u8], answer: Option<&[u8]>) -> (Vec<u8>, bool) {
    let mut command = Command::new("timeout");
    // Both outputs as one, in the order of writing.
    let script = "exec openssl s_client \"$@\" 2>&1";
    command.args([PATIENCE, "sh", "-c", script, "sh"]);
    command.args(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("openssl is installed");
    let mut input = child.stdin.take().expect("it is piped");
    let _ = input.write_all(request); // a client that was refused reads nothing
    let mut output = child.stdout.take().expect("it is piped");
    let mut seen = Vec::new();
    let mut buffer = [0; 4096];
    let contains = |seen: &[u8]| {
        answer.is_some_and(|answer| seen.windows(answer.len()).any(|window| window == answer))
    };
    while !contains(&seen) {
        match output.read(&mut buffer) {
            Ok(len) if len > 0 => seen.extend_from_slice(&buffer[..len]),
            _ => break,
        }
    }
    let _ = kill_process(Pid::from_child(&child), Signal::TERM); // `timeout` hands it on
    let _ = child.wait();
    let is_answered = contains(&seen);
    (seen, is_answered)
}
