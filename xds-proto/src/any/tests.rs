//! Packing, unpacking, and both `TypedStruct`s.

use std::collections::HashMap;

use prost::Name;

use super::UnpackError;
use super::effective_type_url;
use super::pack;
use super::unpack;
use super::unwrap_typed_struct;
use crate::Pool;
use crate::pb::envoy::extensions::filters::http::router::v3::Router;
use crate::pb::google::protobuf::Any;
use crate::pb::google::protobuf::BoolValue;
use crate::pb::google::protobuf::Struct;
use crate::pb::google::protobuf::Value;
use crate::pb::google::protobuf::value::Kind;
use crate::pb::udpa;
use crate::pb::xds;

fn structure(key: &str, kind: Kind) -> Option<Struct> {
    let fields = HashMap::from([(key.to_owned(), Value { kind: Some(kind) })]);
    Some(Struct { fields })
}

#[test]
fn unpack_gives_what_was_packed() {
    let router = Router {
        suppress_envoy_headers: true,
        ..Router::default()
    };
    assert_eq!(
        unpack::<Router>(&pack(&router)).expect("its own type"),
        router
    );

    let other_prefix = Any {
        type_url: format!("example.com/{}", Router::full_name()),
        ..pack(&router)
    };
    assert_eq!(
        unpack::<Router>(&other_prefix).expect("the prefix does not matter"),
        router
    );
}

#[test]
fn unpack_refuses_other_types_and_broken_bytes() {
    let wrong = unpack::<Router>(&pack(&BoolValue { value: true }));
    assert!(matches!(wrong, Err(UnpackError::WrongType { .. })));

    let broken = Any {
        type_url: Router::type_url(),
        value: vec![0xff],
    };
    assert!(matches!(
        unpack::<Router>(&broken),
        Err(UnpackError::Malformed { .. })
    ));
}

#[test]
fn both_typed_structs_become_the_type_they_name() {
    let pool = Pool::new();
    let value = || structure("suppressEnvoyHeaders", Kind::BoolValue(true));
    let old = pack(&udpa::r#type::v1::TypedStruct {
        type_url: Router::type_url(),
        value: value(),
    });
    let new = pack(&xds::r#type::v3::TypedStruct {
        type_url: Router::type_url(),
        value: value(),
    });
    for any in [old, new] {
        assert_eq!(
            effective_type_url(&any).expect("a whole TypedStruct"),
            Router::type_url()
        );
        let router: Router =
            unpack(&unwrap_typed_struct(&any, &pool).expect("a fitting value")).expect("a router");
        assert!(router.suppress_envoy_headers);
    }
}

#[test]
fn unknown_inner_types_stay_and_wrong_values_name_their_field() {
    let pool = Pool::new();
    let unknown = xds::r#type::v3::TypedStruct {
        type_url: "type.googleapis.com/example.Unknown".to_owned(),
        value: structure("a", Kind::NumberValue(1.0)),
    };
    let any = pack(&unknown);
    assert_eq!(unwrap_typed_struct(&any, &pool).expect("kept"), any);

    let wrong = xds::r#type::v3::TypedStruct {
        type_url: Router::type_url(),
        value: structure(
            "suppress_envoy_headers",
            Kind::StringValue("true".to_owned()),
        ),
    };
    let error = unwrap_typed_struct(&pack(&wrong), &pool).expect_err("a string is no boolean");
    let text = "envoy.extensions.filters.http.router.v3.Router.suppress_envoy_headers: \
                expected true or false, found the string \"true\"";
    assert_eq!(error.to_string(), text);
}
