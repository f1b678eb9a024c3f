//! Config: what the operator wrote, made safe.
//!
//! For: one YAML file in, one `Config` out, or every mistake at once with its place. `raw/` mirrors the file, `checked.rs`
//! is what the other rooms see: references resolved, impossible mixes refused, no text left to parse.
//! May touch: the file, and the environment variables whose names `variable_allowed` accepts; `check_kubernetes.rs` reads where
//! the API server of the cluster is.
//! Promises: a `Config` is sound by itself; certificates, key sets and secrets that it names are read by the rooms that
//! use them. Read next: `raw/routes.rs` for the shape, `check.rs` for the rules between keys.

mod amounts;
mod answers;
pub(crate) mod cases;
mod check;
mod check_acme;
mod check_answers;
mod check_heartbeat;
mod check_kubernetes;
mod check_limits;
mod check_listeners;
mod check_schemes;
mod check_traffic;
pub(crate) mod check_upstreams;
pub(crate) mod checked;
mod fields;
pub(crate) mod manual;
mod raw;
pub(crate) mod targets;
#[cfg(test)]
mod tests;
mod traffic;
mod values;

use std::path::Path;

use common::settings::{self, Report};

pub(crate) use checked::Config;

/// Reads and checks the file.
///
/// # Errors
/// Every mistake, in the order of the file.
pub(crate) fn load(path: &Path) -> Result<Config, Report> {
    let name = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|error| Report::unreadable(&name, &error))?;
    parse(&name, &text)
}

/// Reads and checks a text. `name` is what errors call it.
pub(crate) fn parse(name: &str, text: &str) -> Result<Config, Report> {
    settings::load(name, text, settings::environment(variable_allowed), check::check)
}

/// Which environment variables a file may refer to. Others may hold secrets that a configuration has no business with.
fn variable_allowed(name: &str) -> bool {
    name.starts_with("CAPIBARA6_") || name.starts_with("GATEWAY_")
}
