//! File: a list of servers that something else writes.

use std::path::{Path, PathBuf};

use common::section;
use common::settings::{self, At, Report};

use super::Look;
use crate::config::check_upstreams::check_targets;
use crate::config::checked::Target;

section! {
    /// A file of servers.
    pub(crate) struct TargetFile {
        /// Their addresses, as they would stand in the configuration.
        pub targets: Vec<At<Target>> => "list the servers",
    }
}

/// A file that is read again and again.
pub(super) struct File {
    path: PathBuf,
}

impl File {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path }
    }
}

#[async_trait::async_trait]
impl Look for File {
    async fn look(&mut self) -> Result<Vec<Target>, String> {
        let path = self.path.clone();
        let read = tokio::task::spawn_blocking(move || read(&path)).await;
        read.map_err(|error| error.to_string())?.map_err(|report| report.to_string())
    }
}

/// Reads a file of servers.
///
/// # Errors
/// Every mistake, with its place.
pub(crate) fn read(path: &Path) -> Result<Vec<Target>, Report> {
    let name = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|error| Report::unreadable(&name, &error))?;
    parse(&name, &text)
}

/// Reads a text of servers. `name` is what errors call it.
///
/// # Errors
/// Every mistake, with its place.
pub(crate) fn parse(name: &str, text: &str) -> Result<Vec<Target>, Report> {
    settings::load_literal(name, text, |file: TargetFile, decoder| {
        let place = At { value: name.to_owned(), position: settings::Position::START, path: "targets".to_owned() };
        Some(check_targets(&place, &file.targets, decoder))
    })
}
