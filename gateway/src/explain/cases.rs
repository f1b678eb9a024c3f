//! Cases: the requests under `tests`, each held against what must become of it.
//!
//! For: `gateway test`. May touch: a snapshot that was never started. Promises: every case is run, in the order of the file, each as
//! if it were the first request of all; nobody is asked over the network. Read next: `../config/cases.rs` for what a case is.

use std::fmt::Write as _;

use http::{HeaderName, HeaderValue};

use super::request::Request;
use super::story::{Story, UNDECIDED};
use super::walk::walk;
use crate::config::checked::{Assumed, Case, Expect};
use crate::snapshot::Snapshot;
use crate::stages::auth::rehearse::Sender;

/// What became of the cases.
#[derive(Debug)]
pub(crate) struct Results {
    /// A line a case, and one that counts or says that there are none.
    pub text: String,
    pub failed: usize,
}

/// Runs every case. `file` is what the lines call the configuration.
pub(crate) async fn run(file: &str, snapshot: &Snapshot) -> Results {
    let cases = &snapshot.config.cases;
    let mut results = Results { text: String::new(), failed: 0 };
    for case in cases {
        let wrong = judge(case, snapshot).await;
        let place = format!("{file}:{}:{}", case.send.position.line, case.send.position.column);
        let request = &case.send.value;
        // Writing to a String cannot fail.
        if wrong.is_empty() {
            let _ = writeln!(results.text, "ok      {place}: {request}");
        } else {
            results.failed += 1;
            let _ = writeln!(results.text, "FAILED  {place}: {request}: {}", wrong.join("; "));
        }
    }
    let _ = match cases.len() {
        0 => writeln!(results.text, "{file} has no tests"),
        all => writeln!(results.text, "{} of {all} passed", all - results.failed),
    };
    results
}

/// What is not as it must be.
async fn judge(case: &Case, snapshot: &Snapshot) -> Vec<String> {
    let request = match Request::new(&case.send.value, &case.headers, case.from, &snapshot.config) {
        Ok(request) => request,
        Err(wrong) => return vec![wrong],
    };
    let sender = case.sender.as_ref().map(taken_for);
    let story = walk(snapshot, &request, sender.as_ref(), false).await;
    if story.outcome == UNDECIDED {
        let why = story.detail.unwrap_or_default();
        return vec![format!("cannot be decided here: {why}; say who it is by `as`")];
    }
    differences(&case.expect, &story)
}

/// The caller who is assumed.
pub(crate) fn taken_for(assumed: &Assumed) -> Sender {
    let Assumed { subject, permissions, roles } = assumed.clone();
    Sender::Known { subject, permissions, roles }
}

/// What a story lacks of what is expected.
fn differences(expect: &Expect, story: &Story) -> Vec<String> {
    let mut wrong = Vec::new();
    if let Some(status) = expect.status.filter(|status| story.status != Some(*status)) {
        wrong.push(format!("expected status {status}, but it is {}", story.conclusion()));
    }
    if let Some(code) = expect.code.filter(|code| story.code != Some(code.name())) {
        wrong.push(format!("expected code {}, but it is {}", code.name(), story.conclusion()));
    }
    if let Some(route) = expect.route.as_ref().filter(|route| story.route.as_ref() != Some(*route)) {
        wrong.push(format!("expected route {route}, but it takes {}", story.route.as_deref().unwrap_or("none")));
    }
    if let Some(upstream) = expect.upstream.as_ref().filter(|upstream| !story.to.contains(upstream)) {
        wrong.push(format!("expected upstream {upstream}, but it is {}", story.conclusion()));
    }
    let lacks =
        |(name, value): &&(HeaderName, HeaderValue)| !story.sent.get_all(name).iter().any(|sent| sent == value);
    wrong.extend(expect.headers.iter().filter(lacks).map(|(name, _)| {
        let told = story.headers.iter().find(|field| field.name == name.as_str());
        let told = told.map_or_else(|| "it is not among those that the gateway sets".to_owned(), ToString::to_string);
        format!("expected another {name}: {told}")
    }));
    wrong
}
