//! Metrics: the routes of the program's own numbers, and what they give.
//!
//! For: `paths.rs` and `schemas.rs`, of which this is a part. May touch: the names of what is kept.
//! Promises: as theirs. Read next: `../rest/metrics.rs`.

use common::code::Code;
use serde_json::json;

use super::operation::Operation;
use super::paths::{ADMINISTERING, Route};
use super::schemas::{Group, choice, integer, list, number, object, text, time};
use crate::worker::kept_metrics;

/// The routes.
pub(super) fn routes() -> Vec<Route> {
    let tag = "operation";
    let current = Operation::guarded(tag, "metrics", "What the process that answers has counted.", ADMINISTERING)
        .gives(200, "The numbers, from the start of the process.", "Metrics");
    let kept = json!({ "type": "string", "enum": kept_metrics() });
    let second = json!({ "type": "integer", "minimum": 0, "maximum": 253_402_300_799_u64 });
    let step = json!({ "type": "integer", "minimum": 1 });
    let history = Operation::guarded(tag, "metricsHistory", "What all processes have counted.", ADMINISTERING)
        .demands("metric", "Which number.", &kept)
        .asks("from", "From this second on; an hour before the end, if left out.", &second)
        .asks("to", "Until this second; now, if left out.", &second)
        .asks("step", "Seconds of a step, of which there are 1000 at most; a sixtieth, if left out.", &step)
        .gives(200, "The steps in which something was counted.", "MetricsHistory")
        .refuses(&[Code::InputInvalid]);
    vec![("/api/v1/metrics", "get", current), ("/api/v1/metrics/history", "get", history)]
}

/// The bodies.
pub(super) fn schemas() -> Group {
    let counted = [
        "requests",
        "errors",
        "queries",
        "cache_hits",
        "tokens",
        "logins",
        "job_attempts",
        "jobs_queued",
        "open_connections",
        "cpu_seconds",
        "resident_bytes",
    ];
    let mut members = vec![
        ("version", text("")),
        ("instance", text("The process, from its start to its end.")),
        ("started_at", number("Seconds of the Unix epoch.")),
    ];
    members.extend(counted.map(|name| (name, number(""))));
    let point = object(
        &[
            ("at", integer("When the step begins, in seconds of the Unix epoch.")),
            ("label", text("A group of routes, or nothing.")),
            ("value", number("The sum over all processes; of times and of what waits, the largest.")),
        ],
        &[],
    );
    let history = object(
        &[
            ("metric", choice(&kept_metrics())),
            ("from", time()),
            ("to", time()),
            ("step", integer("In seconds.")),
            ("points", list(&point)),
        ],
        &[],
    );
    vec![("Metrics", object(&members, &[])), ("MetricsHistory", history)]
}
