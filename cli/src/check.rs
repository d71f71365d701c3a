//! `weir check`: finds mistakes in bootstraps and resource files with the decoders that run them.

use std::collections::BTreeMap;
use std::path::Path;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use clap::ValueEnum;
use proxy::xds::decode;
use proxy::xds::decode::DecodeError;
use proxy::xds::decode::Decoded;
use proxy::xds::decode::FieldError;
use serde::Serialize;
use xds_proto::Code;
use xds_proto::Pool;
use xds_proto::load;
use xds_proto::load::LoadedResource;
use xds_proto::type_url;

/// Deepest directory looked into: a mistake such as a loop of links ends there.
const DEPTH_MAX: usize = 8;

/// Flags of `weir check`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  weir check bootstrap.yaml
  weir check resources/ -o json

Exit status: 0 if nothing is wrong, 1 if something is, 2 for wrong flags. Warnings name fields that
are set and have no effect in this proxy; --strict makes them errors, --allow W1201 silences them.
The code in the brackets names the kind of mistake; `weir explain CODE` says more.")]
pub(crate) struct CheckArgs {
    /// Bootstraps, resource files, or directories of them
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Fields without effect are errors
    #[arg(long)]
    strict: bool,
    /// Do not report findings of this code; may be repeated
    #[arg(long, value_name = "CODE")]
    allow: Vec<Code>,
    /// Say nothing; the exit status decides
    #[arg(short, long)]
    quiet: bool,
    /// How findings are printed
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    output: Output,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Output {
    Json,
    Text,
}

/// One mistake, or one field without effect.
#[derive(Debug, Serialize)]
struct Finding {
    code: &'static str,
    severity: &'static str,
    file: String,
    line: u32,
    column: u32,
    field: String,
    message: String,
    suggestion: Option<String>,
    #[serde(skip)]
    text: String,
}

/// Checks every path.
pub(crate) fn run(args: &CheckArgs) -> ExitCode {
    let mut checker = Checker {
        pool: Pool::new(),
        findings: Vec::new(),
        files: 0,
        names: BTreeMap::new(),
    };
    for path in &args.paths {
        checker.check(path, 0);
    }
    checker
        .findings
        .retain(|finding| !args.allow.iter().any(|code| code.as_str() == finding.code));
    checker.report(args);
    let wrong = checker
        .findings
        .iter()
        .any(|finding| args.strict || finding.severity == "error");
    ExitCode::from(u8::from(wrong))
}

struct Checker {
    pool: Pool,
    findings: Vec<Finding>,
    files: usize,
    /// Where a resource of this directory, type and name stands.
    names: BTreeMap<(PathBuf, String, String), String>,
}

impl Checker {
    fn check(&mut self, path: &Path, depth: usize) {
        if path.is_dir() {
            return self.check_directory(path, depth);
        }
        self.files += 1;
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) => return self.unreadable(path, &error),
        };
        if is_resources(&text) {
            self.check_resources(path, &text);
        } else {
            self.check_bootstrap(path, &text);
        }
    }

    fn check_directory(&mut self, path: &Path, depth: usize) {
        if depth == DEPTH_MAX {
            return;
        }
        let entries = match std::fs::read_dir(path) {
            Ok(entries) => entries,
            Err(error) => return self.unreadable(path, &error),
        };
        let mut paths: Vec<PathBuf> = entries
            .filter_map(|entry| entry.ok().map(|entry| entry.path()))
            .collect();
        paths.sort();
        for path in paths {
            let hidden = path
                .file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with('.'));
            let known = path
                .extension()
                .is_some_and(|e| e == "yaml" || e == "yml" || e == "json");
            if !hidden && (path.is_dir() || known) {
                self.check(&path, depth + 1);
            }
        }
    }

    fn check_bootstrap(&mut self, path: &Path, text: &str) {
        match proxy::bootstrap::load(path, text) {
            Ok(bootstrap) => self.add_all("warning", &bootstrap.warnings),
            Err(errors) => self.add_all("error", &errors),
        }
    }

    fn check_resources(&mut self, path: &Path, text: &str) {
        let file = match load::resources(&self.pool, path, text) {
            Ok(file) => file,
            Err(errors) => return self.add_all("error", &errors),
        };
        let directory = path.parent().unwrap_or(path).to_owned();
        for resource in &file.resources {
            self.check_unique(&directory, resource);
            match decoded(resource) {
                Ok(warnings) => {
                    warnings
                        .iter()
                        .for_each(|warning| self.add("warning", resource, warning));
                }
                Err(error) => error
                    .errors
                    .iter()
                    .for_each(|error| self.add("error", resource, error)),
            }
        }
    }

    fn check_unique(&mut self, directory: &Path, resource: &LoadedResource) {
        let key = (
            directory.to_owned(),
            resource.any.type_url.clone(),
            resource.name.clone(),
        );
        let here = resource.origin.to_string();
        if let Some(first) = self.names.insert(key, here) {
            let reason = format!("{} stands already at {first}", resource.name);
            self.add(
                "error",
                resource,
                &FieldError {
                    code: Code::Duplicate,
                    field: String::new(),
                    reason,
                },
            );
        }
    }

    fn add(&mut self, severity: &'static str, resource: &LoadedResource, error: &FieldError) {
        let origin = resource.spans.locate(&error.field);
        let text = format!(
            "{severity}[{}]: {} {}: {}\n  --> {origin}\n   = field: {}",
            error.code,
            short_type(&resource.any.type_url),
            resource.name,
            error.reason,
            error.field,
        );
        self.findings.push(Finding {
            code: error.code.as_str(),
            severity,
            file: origin.file.display().to_string(),
            line: origin.line,
            column: origin.column,
            field: error.field.clone(),
            message: error.reason.clone(),
            suggestion: None,
            text,
        });
    }

    fn add_all(&mut self, severity: &'static str, errors: &[load::LoadError]) {
        for error in errors {
            let text = error.to_string();
            let text = text
                .strip_prefix("error")
                .map_or_else(|| text.clone(), |rest| format!("{severity}{rest}"));
            self.findings.push(Finding {
                code: error.code.as_str(),
                severity,
                file: error.origin.file.display().to_string(),
                line: error.origin.line,
                column: error.origin.column,
                field: error.field.clone(),
                message: error.message.clone(),
                suggestion: error.suggestion.clone(),
                text,
            });
        }
    }

    fn unreadable(&mut self, path: &Path, error: &std::io::Error) {
        let code = Code::Unreadable;
        self.findings.push(Finding {
            code: code.as_str(),
            severity: "error",
            file: path.display().to_string(),
            line: 0,
            column: 0,
            field: String::new(),
            message: format!("cannot be read: {error}"),
            suggestion: None,
            text: format!("error[{code}]: {} cannot be read: {error}", path.display()),
        });
    }

    fn report(&self, args: &CheckArgs) {
        if args.quiet {
            return;
        }
        match args.output {
            Output::Json => match serde_json::to_string_pretty(&self.findings) {
                Ok(json) => println!("{json}"),
                Err(error) => eprintln!("error: {error}"),
            },
            Output::Text => {
                self.findings
                    .iter()
                    .for_each(|finding| println!("{}\n", finding.text));
                let errors = self
                    .findings
                    .iter()
                    .filter(|finding| finding.severity == "error")
                    .count();
                let warnings = self.findings.len() - errors;
                println!("{} files: {errors} errors, {warnings} warnings", self.files);
            }
        }
    }
}

/// Resource files have `resources` (or are a list); bootstraps do not.
fn is_resources(text: &str) -> bool {
    let says_something = |line: &&str| !line.trim().is_empty() && !line.starts_with('#');
    let mut lines = text.lines().filter(says_something);
    let is_list = lines
        .clone()
        .next()
        .is_some_and(|line| line.starts_with("- "));
    is_list
        || lines.any(|line| {
            line.starts_with("resources:") || line.trim_start().starts_with("\"resources\"")
        })
}

/// What the proxy says of a resource; types it does not use are left to others.
fn decoded(resource: &LoadedResource) -> Result<Vec<FieldError>, DecodeError> {
    let bytes = &resource.any.value;
    match resource.any.type_url.as_str() {
        type_url::CLUSTER => decode::cluster(bytes).map(warnings),
        type_url::CLUSTER_LOAD_ASSIGNMENT => decode::endpoints(bytes).map(warnings),
        type_url::LISTENER => decode::listener(bytes).map(warnings),
        type_url::ROUTE_CONFIGURATION => decode::route_config(bytes).map(warnings),
        type_url::SECRET => decode::secret(bytes).map(warnings),
        _ => Ok(Vec::new()),
    }
}

fn warnings<T>(decoded: Decoded<T>) -> Vec<FieldError> {
    decoded.warnings
}

fn short_type(type_url: &str) -> &str {
    type_url.rsplit('.').next().unwrap_or(type_url)
}
