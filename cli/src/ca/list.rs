//! `weir ca list`.

use control_plane::ca::authority::AuthorityInfo;
use control_plane::ca::authority::Record;
use rustls_pki_types::UnixTime;
use serde_json::Value;
use serde_json::json;

use super::Done;
use super::Failed;
use super::ListArgs;
use super::open;
use crate::moment::Moment;

pub(super) fn run(args: &ListArgs, now: UnixTime) -> Result<Done, Failed> {
    let mut authority = open(&args.common)?;
    if args.trust_clock {
        authority.trust_clock(now)?;
    }
    let overview = authority.overview(now)?;
    let seconds = now.as_secs();
    let mut text = format!("trust domain {}\n", authority.domain());
    for root in &overview.roots {
        text += &authority_line(root, seconds, root_note(root));
    }
    for below in &overview.intermediates {
        let is_signing = overview.signing.as_deref() == Some(&below.id);
        text += &authority_line(
            below,
            seconds,
            intermediate_note(below, is_signing, seconds),
        );
    }
    for (leaf, is_revoked) in &overview.leaves {
        let until = Moment::new(leaf.until);
        let note = if *is_revoked { "  REVOKED" } else { "" };
        let left = until.seen_from(seconds);
        text += &format!("{}  {:<12}  {}{note}\n", leaf.serial, left, leaf.name);
    }
    let leaves = overview.leaves.iter();
    let leaves = leaves.map(|(leaf, is_revoked)| record_json(leaf, *is_revoked));
    let roots: Vec<_> = overview.roots.iter().map(authority_json).collect();
    let below: Vec<_> = overview.intermediates.iter().map(authority_json).collect();
    Ok(Done {
        text,
        json: json!({
            "trust_domain": authority.domain().as_str(),
            "roots": roots,
            "intermediates": below,
            "signing": overview.signing,
            "certificates": leaves.collect::<Vec<_>>(),
        }),
    })
}

fn authority_line(info: &AuthorityInfo, now: u64, note: String) -> String {
    let until = Moment::new(info.validity.until);
    let left = until.seen_from(now);
    format!("{:<16}  until {until} ({left}){note}\n", info.id)
}

fn root_note(root: &AuthorityInfo) -> String {
    match (root.trusted_until, root.has_key) {
        (Some(until), _) => format!(", replaced, trusted until {}", Moment::new(until)),
        (None, true) => String::new(),
        (None, false) => ", its key is elsewhere".to_owned(),
    }
}

fn intermediate_note(below: &AuthorityInfo, is_signing: bool, now: u64) -> String {
    match below.signs_from {
        _ if is_signing => ", signs".to_owned(),
        Some(from) if from > now => format!(", signs from {}", Moment::new(from)),
        _ => ", replaced".to_owned(),
    }
}

pub(super) fn authority_json(info: &AuthorityInfo) -> Value {
    let moment = |seconds: Option<u64>| seconds.map(|at| Moment::new(at).to_string());
    json!({
        "id": info.id,
        "from": Moment::new(info.validity.from).to_string(),
        "until": Moment::new(info.validity.until).to_string(),
        "has_key": info.has_key,
        "signs_from": moment(info.signs_from),
        "trusted_until": moment(info.trusted_until),
    })
}

pub(super) fn record_json(record: &Record, is_revoked: bool) -> Value {
    json!({
        "serial": record.serial.to_string(),
        "name": record.name,
        "issuer": record.issuer,
        "from": Moment::new(record.from).to_string(),
        "until": Moment::new(record.until).to_string(),
        "revoked": is_revoked,
    })
}
