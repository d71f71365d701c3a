//! Keeps what is generated and committed equal to its sources: the Rust code of
//! `proto/` and the pruned descriptor set of the whole API.
//!
//! After a change of `proto/`, of the roots in `prune.rs` or of `envoy-types`, write the new state with
//! `WEIR_REGENERATE=1 cargo test -p xds-proto --test regenerate`.
//! Reads the pinned `envoy-types` where cargo keeps it; needs no network and no protoc.

mod prune;

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use prost::Message;
use prost_build::Module;
use prost_types::FileDescriptorSet;
use protox::file::ChainFileResolver;
use protox::file::DescriptorSetFileResolver;
use protox::file::IncludeFileResolver;

const REGENERATE: &str = "WEIR_REGENERATE";

/// Messages of shared packages that `envoy-types` already has and our files refer to.
const EXTERN_MESSAGES: &[(&str, &str)] = &[
    (".google.protobuf", "::envoy_types::pb::google::protobuf"),
    (
        ".envoy.config.cluster.v3",
        "::envoy_types::pb::envoy::config::cluster::v3",
    ),
    (
        ".envoy.config.core.v3",
        "::envoy_types::pb::envoy::config::core::v3",
    ),
    (
        ".xds.core.v3.CidrRange",
        "::envoy_types::pb::xds::core::v3::CidrRange",
    ),
    (
        ".xds.core.v3.ContextParams",
        "::envoy_types::pb::xds::core::v3::ContextParams",
    ),
    // Exact, since the rule for what is nested cannot spell `r#type`.
    (
        ".xds.type.matcher.v3.Matcher.OnMatch",
        "::envoy_types::pb::xds::r#type::matcher::v3::matcher::OnMatch",
    ),
    (
        ".xds.type.matcher.v3.Matcher",
        "::envoy_types::pb::xds::r#type::matcher::v3::Matcher",
    ),
    (
        ".xds.type.v3.CelExpression",
        "::envoy_types::pb::xds::r#type::v3::CelExpression",
    ),
];

#[test]
fn committed_code_is_current() {
    let fresh = generate();
    let folder = crate_dir().join("src/generated");
    if regenerating() {
        write_tree(&folder, &fresh);
    }
    let committed: BTreeMap<_, _> = read_tree(&folder)
        .into_iter()
        .filter(|(name, _)| name.ends_with(".rs"))
        .collect();
    assert_eq!(
        committed.keys().collect::<Vec<_>>(),
        fresh.keys().collect::<Vec<_>>(),
        "set {REGENERATE}=1 to rewrite"
    );
    for (name, text) in &fresh {
        assert_eq!(
            committed.get(name),
            Some(text),
            "{name} is stale; set {REGENERATE}=1 to rewrite"
        );
    }
}

#[test]
fn committed_descriptors_are_current() {
    let mut all = theirs();
    all.file.extend(compile_ours().file);

    let fresh = prune::prune(all).encode_to_vec();
    let path = crate_dir().join("src/generated/descriptors.bin");
    if regenerating() {
        fs::write(&path, &fresh).expect("a writable source tree");
    }
    let committed = fs::read(&path).expect("the committed set");
    assert!(
        committed == fresh,
        "descriptors.bin is stale; set {REGENERATE}=1 to rewrite"
    );
}

/// The code of our messages by file name, one file per package.
fn generate() -> BTreeMap<String, String> {
    let mut config = prost_build::Config::new();
    config
        .enable_type_names()
        .type_name_domain(["."], "type.googleapis.com")
        .compile_well_known_types();
    for (proto, rust) in EXTERN_MESSAGES {
        config.extern_path(*proto, *rust);
    }
    // The generator must see imports to know what their messages derive; their code goes nowhere.
    let imports = Module::from_protobuf_package_name("imports");
    let ours: BTreeSet<_> = compile_ours()
        .file
        .iter()
        .map(|file| file.name().to_owned())
        .collect();
    let requests = compile(true, true).file.into_iter().map(|file| {
        let ours = ours.contains(file.name());
        let module = if ours {
            Module::from_protobuf_package_name(file.package())
        } else {
            imports.clone()
        };
        (module, file)
    });
    let mut modules = config
        .generate(requests.collect())
        .expect("code for our messages");
    modules.remove(&imports);
    modules
        .into_iter()
        .map(|(module, code)| (module.to_file_name_or(""), code))
        .collect()
}

/// Our own files only; what they import is left to `envoy-types`.
fn compile_ours() -> FileDescriptorSet {
    compile(false, false)
}

fn compile(comments: bool, imports: bool) -> FileDescriptorSet {
    let own = crate_dir().join("proto");
    let mut resolver = ChainFileResolver::new();
    resolver.add(IncludeFileResolver::new(own.clone()));
    resolver.add(DescriptorSetFileResolver::new(theirs()));
    let files: Vec<PathBuf> = walk(&own)
        .into_iter()
        .filter(|path| path.extension().is_some_and(|e| e == "proto"))
        .collect();

    let mut compiler = protox::Compiler::with_file_resolver(resolver);
    compiler
        .include_source_info(comments)
        .include_imports(imports);
    compiler.open_files(files).expect("our protos compile");
    compiler.file_descriptor_set()
}

/// The descriptor set `envoy-types` ships with.
fn theirs() -> FileDescriptorSet {
    let bytes =
        fs::read(envoy_types_dir().join("src/generated/types.bin")).expect("their descriptors");
    FileDescriptorSet::decode(bytes.as_slice()).expect("a descriptor set")
}

fn envoy_types_dir() -> PathBuf {
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--format-version=1",
            "--offline",
            "--locked",
            "--filter-platform",
        ])
        .arg(host())
        .current_dir(crate_dir())
        .output()
        .expect("cargo runs");
    let metadata: serde_json::Value =
        serde_json::from_slice(&output.stdout).expect("cargo metadata is JSON");
    let packages = metadata["packages"]
        .as_array()
        .expect("cargo metadata lists packages");
    let package = packages
        .iter()
        .find(|package| package["name"] == "envoy-types")
        .expect("our dependency");
    let manifest = package["manifest_path"].as_str().expect("a path");
    Path::new(manifest)
        .parent()
        .expect("a manifest is in a folder")
        .to_owned()
}

/// The platform we run on; packages of others may not be on this disk.
fn host() -> String {
    let output = Command::new("rustc")
        .arg("-vV")
        .output()
        .expect("rustc runs");
    let text = String::from_utf8(output.stdout).expect("rustc speaks UTF-8");
    let line = text.lines().find_map(|line| line.strip_prefix("host: "));
    line.expect("rustc names its host").to_owned()
}

fn crate_dir() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn regenerating() -> bool {
    std::env::var_os(REGENERATE).is_some()
}

fn read_tree(folder: &Path) -> BTreeMap<String, String> {
    let files = walk(folder)
        .into_iter()
        .filter(|path| path.extension().is_some_and(|e| e == "rs"));
    files
        .map(|path| {
            let name = path
                .file_name()
                .expect("walk yields files")
                .to_string_lossy()
                .into_owned();
            (
                name,
                fs::read_to_string(&path).expect("generated code is UTF-8"),
            )
        })
        .collect()
}

fn write_tree(folder: &Path, files: &BTreeMap<String, String>) {
    for name in read_tree(folder).keys() {
        fs::remove_file(folder.join(name)).expect("a writable source tree");
    }
    for (name, text) in files {
        fs::write(folder.join(name), text).expect("a writable source tree");
    }
}

/// Every file under a folder, sorted.
fn walk(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).expect("a readable folder") {
        let path = entry.expect("a readable folder").path();
        if path.is_dir() {
            files.extend(walk(&path));
        } else {
            files.push(path);
        }
    }
    files.sort();
    files
}
