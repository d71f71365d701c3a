//! What is written is read again; what is broken in any way is refused with its reason.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;
use std::time::UNIX_EPOCH;

use bytes::Bytes;

use super::Directory;
use super::Saved;
use super::SavedResource;
use super::format;
use crate::xds::resource::ResourceType;

fn node() -> (String, String) {
    ("me".to_owned(), "mine".to_owned())
}

fn saved() -> Saved {
    let resource = |resource_type, name: &str, body: &'static [u8]| SavedResource {
        resource_type,
        name: name.into(),
        version: "7".to_owned(),
        body: Bytes::from_static(body),
    };
    Saved {
        at: UNIX_EPOCH + Duration::from_secs(1_700_000_000),
        node: node(),
        resources: vec![
            resource(ResourceType::Cluster, "c", b"\x0a\x01c"),
            resource(ResourceType::Listener, "", b""),
        ],
    }
}

#[test]
fn what_is_written_is_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let directory = Directory::new(folder.path().join("state"));
    assert_eq!(directory.read(&node()), None);
    std::fs::create_dir(folder.path().join("state")).unwrap();
    directory.write(&saved()).unwrap();
    directory.write(&saved()).unwrap();
    assert_eq!(directory.read(&node()), Some(saved()));
    let file = folder.path().join("state/last-good");
    let mode = std::fs::metadata(file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let other = ("you".to_owned(), "mine".to_owned());
    assert_eq!(directory.read(&other), None, "of another node");
}

#[test]
fn every_cut_and_every_changed_byte_is_refused() {
    let whole = format::encode(&saved());
    for len in 0..whole.len() {
        let cut = format::decode(Bytes::copy_from_slice(&whole[..len]));
        assert!(cut.is_err(), "the first {len} bytes");
    }
    for at in 0..whole.len() {
        let mut changed = whole.clone();
        changed[at] ^= 0x10;
        assert!(format::decode(changed.into()).is_err(), "byte {at}");
    }
    let more = [&*whole, b"x"].concat();
    assert!(format::decode(more.into()).is_err());
}

#[test]
fn reasons_are_told() {
    let whole = format::encode(&saved());
    let check = |at: usize, byte: u8, reason: &str| {
        let mut changed = whole.clone();
        changed[at] = byte;
        let told = format::decode(changed.into()).unwrap_err();
        assert!(told.contains(reason), "{told}");
    };
    check(0, b'x', "not a kept configuration");
    check(15, 2, "its format has version 2");
    check(whole.len() - 1, 9, "corrupt");
    let told = format::decode(whole[..whole.len() - 1].to_vec().into()).unwrap_err();
    assert!(told.contains("it was cut"), "{told}");
}

#[test]
fn a_directory_that_cannot_be_written_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let directory = Directory::new(file.join("state"));
    assert!(directory.write(&saved()).is_err());
    assert_eq!(directory.read(&node()), None);
}
