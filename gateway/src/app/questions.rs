//! Questions: what a configuration would do, asked of the file instead of a gateway that runs.
//!
//! For: `gateway explain`, `test` and `routes`. May touch: what `explain` may. Promises: a file is compiled as `run` compiles it, but
//! that certificates and other settings of the process are not looked at; nothing is started. Read next: `../explain/mod.rs`.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use http::{HeaderName, HeaderValue};

use super::{RunError, mistaken};
use crate::base::http_client;
use crate::base::telemetry::metrics::Metrics;
use crate::config;
use crate::config::checked::{Assumed, RequestLine};
use crate::explain::request::Request;
use crate::explain::{cases, routes, walk};
use crate::snapshot::Snapshot;
use crate::stages::auth::rehearse::Sender;

/// A request to explain.
#[derive(Clone, Debug)]
pub struct Question {
    /// `GET https://host/path?query`, or with a path alone.
    pub send: String,
    /// Its fields, each `Name: value`.
    pub headers: Vec<String>,
    /// The address it comes from.
    pub from: IpAddr,
    /// Who sends it.
    pub sender: Who,
    /// Whether those are asked who must be asked about a credential.
    pub fetch: bool,
    /// Whether the answer is for programs.
    pub json: bool,
}

/// Who is taken to have sent a request.
#[derive(Clone, Debug)]
pub enum Who {
    /// Whoever the credentials among its fields speak of.
    Itself,
    /// Whoever a token with these claims, a JSON object, speaks of.
    Claims(String),
    /// Somebody of this name, with these permissions and roles.
    Known {
        /// Who it is.
        subject: String,
        /// What it may do.
        permissions: Vec<String>,
        /// Its roles.
        roles: Vec<String>,
    },
}

/// What a question came to.
#[derive(Clone, Debug)]
pub struct Finding {
    /// For standard output, without a line break at its end.
    pub text: String,
    /// Whether that is good news: not refused, no test failed.
    pub well: bool,
}

/// Says what would become of a request, and why.
///
/// # Errors
/// Every mistake of the configuration, or what is wrong with the question.
pub fn explain(path: &Path, question: &Question) -> Result<Finding, RunError> {
    let line = RequestLine::parse(&question.send).map_err(RunError::Question)?;
    let fields: Result<Vec<_>, _> = question.headers.iter().map(|field| self::field(field)).collect();
    let sender = sender(&question.sender).map_err(RunError::Question)?;
    let snapshot = snapshot(path)?;
    let fields = fields.map_err(RunError::Question)?;
    let request = Request::new(&line, &fields, question.from, &snapshot.config).map_err(RunError::Question)?;
    let story = block_on(walk::walk(&snapshot, &request, sender.as_ref(), question.fetch))?;
    let text = if question.json { format!("{:#}", serde_json::json!(story)) } else { story.to_string() };
    Ok(Finding { text, well: story.is_well() })
}

/// Runs the `tests` of a configuration.
///
/// # Errors
/// Every mistake of the configuration.
pub fn test(path: &Path) -> Result<Finding, RunError> {
    let snapshot = snapshot(path)?;
    let results = block_on(cases::run(&path.display().to_string(), &snapshot))?;
    Ok(Finding { text: results.text.trim_end().to_owned(), well: results.failed == 0 })
}

/// Every route, the most specific first: a table, or JSON.
///
/// # Errors
/// Every mistake of the configuration.
pub fn routes(path: &Path, json: bool) -> Result<Finding, RunError> {
    let config = config::load(path).map_err(RunError::Configuration)?;
    let text = if json { format!("{:#}", routes::json(&config)) } else { routes::table(&config) };
    Ok(Finding { text: text.trim_end().to_owned(), well: true })
}

fn snapshot(path: &Path) -> Result<Snapshot, RunError> {
    let config = config::load(path).map_err(RunError::Configuration)?;
    let metrics = Arc::new(Metrics::new()?);
    let client = http_client::builder().build()?;
    let built = Snapshot::build(config, &metrics, &client, &Arc::default(), None);
    built.map_err(|mistakes| mistaken(path, mistakes))
}

/// One thread is enough: one request at a time walks.
fn block_on<T>(future: impl Future<Output = T>) -> Result<T, RunError> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(future))
}

/// `Name: value`. What is wrong with it is said without the value, which may be a secret.
fn field(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = text.split_once(':').ok_or("a header is written \"Name: value\"")?;
    let name = HeaderName::try_from(name.trim()).map_err(|_| format!("{:?} is not a header name", name.trim()))?;
    let value = HeaderValue::from_str(value.trim()).map_err(|_| format!("the value of {name} is not a header's"))?;
    Ok((name, value))
}

fn sender(who: &Who) -> Result<Option<Sender>, String> {
    match who {
        Who::Itself => Ok(None),
        Who::Claims(json) => Sender::of_claims(json).map(Some),
        Who::Known { subject, permissions, roles } => {
            let (subject, permissions, roles) = (subject.clone(), permissions.clone(), roles.clone());
            let assumed = Assumed { subject, permissions, roles };
            let mistakes = assumed.mistakes();
            if mistakes.is_empty() { Ok(Some(cases::taken_for(&assumed))) } else { Err(mistakes.join("; ")) }
        }
    }
}
