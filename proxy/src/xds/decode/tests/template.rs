//! `%COMMAND%` templates.

use crate::config::access_log::Command;
use crate::config::access_log::Template;
use crate::config::access_log::TemplatePart;
use crate::config::tls_fact::Name;
use crate::config::tls_fact::Side;
use crate::config::tls_fact::TlsFact;
use crate::xds::decode::template::TemplateError;
use crate::xds::decode::template::parse;

fn literal(text: &str) -> TemplatePart {
    TemplatePart::Literal(text.into())
}

fn command(command: Command) -> TemplatePart {
    TemplatePart::Command(command, None)
}

fn check(text: &str, expected: &[TemplatePart]) {
    assert_eq!(
        parse(text),
        Ok(Template {
            parts: expected.to_vec()
        }),
        "{text}"
    );
}

#[test]
fn literals_and_commands_alternate() {
    check("", &[]);
    check("plain", &[literal("plain")]);
    check("%%", &[literal("%")]);
    check("100%%, %%x", &[literal("100%, %x")]);
    check("%PROTOCOL%", &[command(Command::Protocol)]);
    check(
        "a%PROTOCOL%%DURATION%b",
        &[
            literal("a"),
            command(Command::Protocol),
            command(Command::Duration),
            literal("b"),
        ],
    );
    check(
        "%%%PROTOCOL%%%",
        &[literal("%"), command(Command::Protocol), literal("%")],
    );
}

#[test]
fn arguments_and_lengths() {
    let req = |name: &str, alternative: Option<&str>| Command::Req {
        name: name.into(),
        alternative: alternative.map(Into::into),
    };
    check("%REQ(X-A)%", &[command(req("x-a", None))]);
    check("%REQ(X-A?:PATH)%", &[command(req("x-a", Some(":path")))]);
    check(
        "%REQ(:METHOD):3%",
        &[TemplatePart::Command(req(":method", None), Some(3))],
    );
    check(
        "%DURATION:0%",
        &[TemplatePart::Command(Command::Duration, Some(0))],
    );
    check("%START_TIME%", &[command(Command::StartTime(None))]);
    check(
        "%START_TIME(%Y/%m %3f)%!",
        &[
            command(Command::StartTime(Some("%Y/%m %3f".into()))),
            literal("!"),
        ],
    );
}

#[test]
fn dynamic_metadata_has_a_namespace_and_perhaps_a_key() {
    let metadata = |namespace: &str, key: Option<&str>| {
        command(Command::DynamicMetadata {
            namespace: namespace.into(),
            key: key.map(Into::into),
        })
    };
    check("%DYNAMIC_METADATA(a.b)%", &[metadata("a.b", None)]);
    check("%DYNAMIC_METADATA(a.b:c)%", &[metadata("a.b", Some("c"))]);
    check("%DYNAMIC_METADATA(a:b:c)%", &[command(Command::Nothing)]);
    assert!(parse("%DYNAMIC_METADATA%").is_err());
    assert!(parse("%DYNAMIC_METADATA()%").is_err());
}

#[test]
fn commands_without_a_value_here_are_a_dash() {
    check("%VIRTUAL_CLUSTER_NAME%", &[command(Command::Nothing)]);
}

#[test]
fn mistakes_name_the_command_or_the_place() {
    let syntax = |at| Err(TemplateError::Syntax { at });
    for (text, at) in [
        ("%", 0),
        ("50% off", 2),
        ("ab%PROTOCOL", 2),
        ("%%%protocol%", 2),
        ("%REQ(X%", 0),
        ("%DURATION:x%", 0),
        ("%DURATION:+1%", 0),
        ("%DURATION:%", 0),
        ("%DURATION:99999999999999999999%", 0),
        ("%(x)%", 0),
    ] {
        assert_eq!(parse(text), syntax(at), "{text}");
    }
    for (text, message) in [
        ("%NO_SUCH(a:b)%", "%NO_SUCH% is not supported"),
        ("%REQ%", "%REQ% needs a header name"),
        ("%REQ()%", "%REQ% needs a header name"),
        ("%REQ(a?b c)%", "%REQ% needs a header name"),
        ("%RESP(:path)%", "%RESP% needs a header name"),
        ("%PROTOCOL(x)%", "%PROTOCOL% takes no argument"),
    ] {
        assert_eq!(
            parse(text).expect_err("invalid").to_string(),
            message,
            "{text}"
        );
    }
}

proptest::proptest! {
    #[test]
    fn nothing_panics(text in "[%A-Z_():?0-9a-zé]{0,40}") {
        let _ = parse(&text);
    }

    #[test]
    fn escaped_text_comes_back(text in "[ -~é]{0,40}") {
        let parts = parse(&text.replace('%', "%%")).expect("escaped").parts;
        let back: String = parts.iter().map(|part| match part {
            TemplatePart::Literal(text) => text.to_string(),
            TemplatePart::Command(..) => panic!("no command was written"),
        }).collect();
        proptest::prop_assert_eq!(back, text);
    }
}

#[test]
fn facts_of_tls_belong_to_a_side() {
    let tls = |side, fact| [command(Command::Tls(side, fact))];
    check(
        "%DOWNSTREAM_PEER_URI_SAN%",
        &tls(Side::Downstream, TlsFact::Peer(Name::Uri)),
    );
    check(
        "%UPSTREAM_PEER_URI_SAN%",
        &tls(Side::Upstream, TlsFact::Peer(Name::Uri)),
    );
    check(
        "%DOWNSTREAM_PEER_CERT_V_START(%Y)%",
        &tls(Side::Downstream, TlsFact::PeerValidSince(Some("%Y".into()))),
    );
    check(
        "%UPSTREAM_PEER_CERT_V_END()%",
        &tls(Side::Upstream, TlsFact::PeerValidUntil(None)),
    );
    check("%DOWNSTREAM_TLS_SESSION_ID%", &[command(Command::Nothing)]);
    // What Envoy has for one side only.
    for unknown in [
        "UPSTREAM_LOCAL_SUBJECT",
        "DOWNSTREAM_SERVER_NAME",
        "PEER_CERT",
    ] {
        let error = TemplateError::Unknown {
            command: unknown.to_owned(),
        };
        assert_eq!(parse(&format!("%{unknown}%")), Err(error));
    }
    assert!(parse("%DOWNSTREAM_TLS_VERSION(x)%").is_err());
}
