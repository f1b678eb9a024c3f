//! Story: what would become of a request, step by step, for people and for programs.
//!
//! For: what `walk.rs` gathers. May touch: nothing. Promises: the words for how it ends are those of the access log, but for
//! `undecided`; steps stand in the order of `docs/journey.md`. Read next: `cases.rs`, which holds stories against `expect`.

use std::fmt::{self, Write as _};
use std::net::IpAddr;

use http::HeaderMap;
use serde::Serialize;

/// How a story ends that cannot be told to its end: somebody has to be asked about a credential, and nobody was.
pub(crate) const UNDECIDED: &str = "undecided";

/// Width of a step's name, as people read it.
const STEP_CHARS: usize = 10;

/// What would become of a request.
#[derive(Debug, Serialize)]
pub(crate) struct Story {
    pub method: String,
    /// As sent.
    pub host: Option<String>,
    /// As sent, without the query.
    pub path: String,
    pub client: Option<IpAddr>,
    /// `proxied`, `answered`, `redirected`, `refused` or `undecided`.
    pub outcome: &'static str,
    /// Of the gateway's own answer; a request that is sent on has none yet.
    pub status: Option<u16>,
    pub code: Option<&'static str>,
    /// What is particular to a refusal, or why nobody can say.
    pub detail: Option<String>,
    pub route: Option<String>,
    pub policy: Option<String>,
    pub auth_tried: Vec<String>,
    /// What would be refused, were it enforced: policy and code of each.
    pub shadow: Vec<String>,
    pub subject: Option<String>,
    /// The upstream; several where it would be drawn for.
    pub to: Vec<String>,
    /// What the upstream would be asked for: path and query.
    pub target: Option<String>,
    /// Fields that the upstream would get besides the client's, or those of the gateway's own answer.
    pub headers: Vec<Field>,
    pub steps: Vec<Step>,
    /// Every field that would go out.
    #[serde(skip)]
    pub sent: HeaderMap,
}

/// A header field; `None` where its value is nobody's business.
#[derive(Debug, Serialize)]
pub(crate) struct Field {
    pub name: String,
    pub value: Option<String>,
}

/// One step, with what it has to say.
#[derive(Debug, Serialize)]
pub(crate) struct Step {
    pub step: &'static str,
    pub says: Vec<String>,
}

impl Story {
    /// Whether it would be sent on or answered as the configuration says.
    pub(crate) fn is_well(&self) -> bool {
        !matches!(self.outcome, UNDECIDED | "refused")
    }

    /// How it ends, in one line.
    pub(crate) fn conclusion(&self) -> String {
        let mut text = self.outcome.to_owned();
        // Writing to a String cannot fail.
        if let Some(status) = self.status {
            let _ = write!(text, ": {status}");
        }
        for part in [self.code, self.target.as_deref()].into_iter().flatten() {
            let _ = write!(text, " {part}");
        }
        if !self.to.is_empty() {
            let _ = write!(text, " to {}", self.to.join(" or "));
        }
        if let Some(policy) = &self.policy {
            let _ = write!(text, " by {policy}");
        }
        if let Some(detail) = &self.detail {
            let _ = write!(text, ": {detail}");
        }
        text
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.value.as_deref().unwrap_or("(not shown)"))
    }
}

impl fmt::Display for Story {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Step { step, says } in &self.steps {
            for (index, line) in says.iter().enumerate() {
                let name = if index == 0 { *step } else { "" };
                writeln!(f, "{name:<STEP_CHARS$} {line}")?;
            }
        }
        let arrow = "=>";
        write!(f, "{arrow:<STEP_CHARS$} {}", self.conclusion())
    }
}
