//! `weir ca`: the certificate authority of a directory, from the command line.
//!
//! Works beside a running control plane on the same directory: each step takes the directory's
//! lock, and the control plane notices.

use std::fmt::Display;
use std::io::Read;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use clap::Subcommand;
use control_plane::ca::Authority;
use control_plane::ca::SpiffeId;
use control_plane::ca::TrustDomain;
use control_plane::ca::authority::AuthorityError;
use control_plane::ca::authority::External;
use control_plane::ca::authority::KeySource;
use control_plane::ca::authority::Leaf;
use control_plane::ca::authority::Options;
use control_plane::ca::authority::Order;
use control_plane::ca::authority::Secret;
use control_plane::ca::authority::Serial;
use control_plane::ca::authority::Which;
use control_plane::ca::key::KeyKind;
use rustls_pki_types::UnixTime;
use serde_json::Value;
use serde_json::json;

use crate::moment::Moment;
use crate::moment::parse_duration;

mod files;
mod list;
mod trust;

/// Flags of `weir ca`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  weir ca init --dir ca --trust-domain mesh.example
  weir ca issue --dir ca spiffe://mesh.example/cart --out cart
  weir ca list --dir ca
  weir ca rotate --dir ca root
  weir ca revoke --dir ca --name spiffe://mesh.example/cart
  weir ca trust add --dir ca other.example other.json
  weir control-plane --resources DIR --ca ca

Exit status: 0 done, 1 failed, 2 wrong flags, 5 refused, with the reason.")]
pub(crate) struct CaArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print the roots and the revocation lists
    Bundle(BundleArgs),
    /// Make an authority in a new directory
    Init(InitArgs),
    /// Sign a certificate
    Issue(IssueArgs),
    /// Show the authorities and the certificates that have not ended
    List(ListArgs),
    /// Revoke certificates that have not ended
    Revoke(RevokeArgs),
    /// Replace the root or the intermediate
    Rotate(RotateArgs),
    /// Make a join token: it proves an identity once
    Token(TokenArgs),
    /// Believe other trust domains
    Trust(trust::TrustArgs),
}

#[derive(Args, Debug)]
struct Common {
    /// Directory of the authority
    #[arg(long, value_name = "DIR", env = "WEIR_CA_DIR")]
    dir: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args, Debug)]
struct BundleArgs {
    #[command(flatten)]
    common: Common,
}

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  weir ca init --dir ca --trust-domain mesh.example
  weir ca init --dir ca --trust-domain mesh.example --certificate int.pem --key int.key --root root.pem

The second takes an intermediate another authority signed; --certificate may hold what is between it
and the root as well.")]
struct InitArgs {
    #[command(flatten)]
    common: Common,
    /// Domain of all identities, such as mesh.example
    #[arg(long, value_name = "DOMAIN")]
    trust_domain: TrustDomain,
    /// How long certificates live unless asked otherwise
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = parse_duration)]
    leaf_life: Duration,
    /// Allow Ed25519 keys, which stock Envoy does not understand
    #[arg(long)]
    allow_ed25519: bool,
    #[command(flatten)]
    external: Option<ExternalArgs>,
}

#[derive(Args, Debug)]
#[group(requires_all = ["certificate", "key", "root"])]
struct ExternalArgs {
    /// Intermediate another authority signed, in PEM
    #[arg(long, value_name = "FILE", required = false)]
    certificate: PathBuf,
    /// Its private key, in PEM
    #[arg(long, value_name = "FILE", required = false)]
    key: PathBuf,
    /// The root everybody is to trust, in PEM
    #[arg(long, value_name = "FILE", required = false)]
    root: PathBuf,
}

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  weir ca issue --dir ca spiffe://mesh.example/cart --csr cart.csr > cart.pem
  weir ca issue --dir ca spiffe://mesh.example/cart --out cart --life 1h

With --csr the key never leaves its owner: only the public key is taken from the request, and a name
in it other than the given one is refused. Without it a key is made, and written to OUT.key.")]
struct IssueArgs {
    #[command(flatten)]
    common: Common,
    /// Identity, such as spiffe://mesh.example/cart
    name: SpiffeId,
    /// Signing request in PEM or DER; - is standard input
    #[arg(long, value_name = "FILE", required_unless_present = "out")]
    csr: Option<PathBuf>,
    /// Write OUT.pem, and OUT.key if a key is made
    #[arg(long, value_name = "OUT")]
    out: Option<PathBuf>,
    /// Kind of key: ecdsa-p256, ecdsa-p384, rsa, ed25519
    #[arg(
        long,
        value_name = "KIND",
        default_value = "ecdsa-p256",
        conflicts_with = "csr"
    )]
    key_type: KeyKind,
    /// How long it lives; the authority's default if absent
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    life: Option<Duration>,
}

#[derive(Args, Debug)]
struct ListArgs {
    #[command(flatten)]
    common: Common,
    /// Believe the clock although it is far after the last time anything was done
    #[arg(long)]
    trust_clock: bool,
}

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  weir ca revoke --dir ca --serial 0100000000000002c4d3a1f2b8e97f06
  weir ca revoke --dir ca --name spiffe://mesh.example/cart")]
struct RevokeArgs {
    #[command(flatten)]
    common: Common,
    /// The one with this number, as weir ca list shows it
    #[arg(long, required_unless_present = "name", conflicts_with = "name")]
    serial: Option<Serial>,
    /// All of this identity
    #[arg(long)]
    name: Option<SpiffeId>,
}

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  weir ca rotate --dir ca intermediate
  weir ca rotate --dir ca root --after 2h
  weir ca rotate --dir ca intermediate --after 0s       at once: its key was stolen

The new authority is told to everybody at once and signs after --after, when everybody should have
heard of it. An old root is trusted until its last certificate has ended.")]
struct RotateArgs {
    #[command(flatten)]
    common: Common,
    /// What to replace
    what: Rank,
    /// When the new one begins to sign
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = parse_duration)]
    after: Duration,
    #[command(flatten)]
    external: Option<ExternalArgs>,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Rank {
    Intermediate,
    Root,
}

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  weir ca token --dir ca spiffe://mesh.example/cart --life 10m > token

Whoever presents it in the header `authorization: Bearer TOKEN` is that identity for one stream.")]
struct TokenArgs {
    #[command(flatten)]
    common: Common,
    /// Identity it proves
    name: SpiffeId,
    /// How long it can be used
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = parse_duration)]
    life: Duration,
}

/// What a command prints.
struct Done {
    text: String,
    json: Value,
}

/// Why it did not.
enum Failed {
    Authority(AuthorityError),
    Other(String),
}

impl From<AuthorityError> for Failed {
    fn from(error: AuthorityError) -> Self {
        Self::Authority(error)
    }
}

/// Runs one command.
pub(crate) fn run(args: &CaArgs) -> ExitCode {
    let now = UnixTime::now();
    let (common, done) = match &args.command {
        Command::Bundle(args) => (&args.common, bundle(args, now)),
        Command::Init(args) => (&args.common, init(args, now)),
        Command::Issue(args) => (&args.common, issue(args, now)),
        Command::List(args) => (&args.common, list::run(args, now)),
        Command::Revoke(args) => (&args.common, revoke(args, now)),
        Command::Rotate(args) => (&args.common, rotate(args, now)),
        Command::Token(args) => (&args.common, token(args, now)),
        Command::Trust(args) => (args.common(), trust::run(args, now)),
    };
    let done = match done {
        Ok(done) => done,
        Err(failed) => return failed.print(),
    };
    if common.json {
        println!("{:#}", done.json);
    } else {
        print!("{}", done.text);
    }
    ExitCode::SUCCESS
}

impl Failed {
    fn print(&self) -> ExitCode {
        match self {
            Self::Authority(AuthorityError::Refused(refusal)) => {
                eprintln!("refused: {refusal}");
                ExitCode::from(5)
            }
            Self::Authority(error) => failure(error),
            Self::Other(text) => failure(text),
        }
    }
}

fn failure(error: &dyn Display) -> ExitCode {
    eprintln!("error: {error}");
    ExitCode::from(1)
}

fn open(common: &Common) -> Result<Authority, Failed> {
    Ok(Authority::open(&common.dir)?)
}

/// Who acts, for the audit log.
fn actor() -> String {
    format!("command line, uid {}", rustix::process::getuid().as_raw())
}

fn init(args: &InitArgs, now: UnixTime) -> Result<Done, Failed> {
    let options = Options {
        domain: args.trust_domain.clone(),
        leaf_life: args.leaf_life,
        allow_ed25519: args.allow_ed25519,
        external: args.external.as_ref().map(external).transpose()?,
    };
    let dir = args.common.dir.display();
    let mut authority = Authority::init(&args.common.dir, &options, now)?;
    let overview = authority.overview(now)?;
    let roots: Vec<_> = overview.roots.iter().map(list::authority_json).collect();
    Ok(Done {
        text: format!(
            "made the authority of {domain} in {dir}\n\
             next: weir ca issue --dir {dir} spiffe://{domain}/NAME --out NAME\n",
            domain = args.trust_domain
        ),
        json: json!({"trust_domain": args.trust_domain.as_str(), "roots": roots}),
    })
}

fn external(args: &ExternalArgs) -> Result<External, Failed> {
    Ok(External {
        chain: files::read_text(&args.certificate)?,
        key: Secret::new(files::read_text(&args.key)?),
        root: files::read_text(&args.root)?,
    })
}

fn issue(args: &IssueArgs, now: UnixTime) -> Result<Done, Failed> {
    let request = match &args.csr {
        Some(path) if path.as_os_str() == "-" => Some(read_standard_input()?),
        Some(path) => Some(files::read(path)?),
        None => None,
    };
    let order = Order {
        name: &args.name,
        key: match &request {
            Some(request) => KeySource::Request(request),
            None => KeySource::Made(args.key_type),
        },
        life: args.life,
        actor: &actor(),
    };
    let leaf = open(&args.common)?.issue(now, &order)?;
    let written = match &args.out {
        Some(out) => files::write_leaf(out, &leaf)?,
        None => Vec::new(),
    };
    let text = if written.is_empty() {
        leaf.chain.clone()
    } else {
        let until = Moment::new(leaf.record.until);
        let names: Vec<_> = written
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        format!(
            "{name} until {until} ({left})\nserial {serial}\nwrote {files}\n",
            name = leaf.record.name,
            left = until.seen_from(now.as_secs()),
            serial = leaf.record.serial,
            files = names.join(", ")
        )
    };
    Ok(Done {
        text,
        json: leaf_json(&leaf, &written),
    })
}

fn leaf_json(leaf: &Leaf, written: &[PathBuf]) -> Value {
    let mut json = list::record_json(&leaf.record, false);
    json["files"] = written
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    json["chain"] = leaf.chain.as_str().into();
    json
}

fn read_standard_input() -> Result<Vec<u8>, Failed> {
    let mut bytes = Vec::new();
    let read = std::io::stdin()
        .take(files::BYTES_MAX)
        .read_to_end(&mut bytes);
    match read {
        Ok(_) => Ok(bytes),
        Err(error) => Err(Failed::Other(format!(
            "cannot read standard input: {error}"
        ))),
    }
}

fn revoke(args: &RevokeArgs, now: UnixTime) -> Result<Done, Failed> {
    let which = match (&args.serial, &args.name) {
        (Some(serial), _) => Which::Serial(*serial),
        (None, Some(name)) => Which::Name(name.clone()),
        (None, None) => return Err(Failed::Other("give --serial or --name".to_owned())),
    };
    let revoked = open(&args.common)?.revoke(now, &which, &actor())?;
    let lines = revoked.iter();
    let lines = lines.map(|leaf| format!("revoked {} {}\n", leaf.serial, leaf.name));
    let json = revoked.iter().map(|leaf| list::record_json(leaf, true));
    Ok(Done {
        text: lines.collect(),
        json: json!({"revoked": json.collect::<Vec<_>>()}),
    })
}

fn rotate(args: &RotateArgs, now: UnixTime) -> Result<Done, Failed> {
    let mut authority = open(&args.common)?;
    let actor = actor();
    let id = match (args.what, &args.external) {
        (Rank::Intermediate, None) => authority.rotate_intermediate(now, args.after, &actor)?,
        (Rank::Intermediate, Some(given)) => {
            authority.take_intermediate(now, &external(given)?, args.after, &actor)?
        }
        (Rank::Root, None) => authority.rotate_root(now, args.after, &actor)?,
        (Rank::Root, Some(_)) => {
            let text = "a root of somebody else comes with its intermediate; \
                        use weir ca rotate intermediate";
            return Err(Failed::Other(text.to_owned()));
        }
    };
    let from = Moment::new(now.as_secs() + args.after.as_secs());
    Ok(Done {
        text: format!("{id} is told to everybody now; signing with it begins {from}\n"),
        json: json!({"id": id, "signs_from": from.to_string()}),
    })
}

fn token(args: &TokenArgs, now: UnixTime) -> Result<Done, Failed> {
    let token = open(&args.common)?.token(now, &args.name, args.life, &actor())?;
    let until = Moment::new(now.as_secs() + args.life.as_secs());
    Ok(Done {
        text: format!("{}\n", token.expose()),
        json: json!({
            "token": token.expose(),
            "name": args.name.to_string(),
            "until": until.to_string(),
        }),
    })
}

fn bundle(args: &BundleArgs, now: UnixTime) -> Result<Done, Failed> {
    let bundle = open(&args.common)?.bundle(now)?;
    Ok(Done {
        text: format!("{}{}", bundle.roots, bundle.lists),
        json: json!({
            "roots": bundle.roots,
            "revocation_lists": bundle.lists,
            "until": Moment::new(bundle.until).to_string(),
        }),
    })
}
