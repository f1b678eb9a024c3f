//! Check of batches and of the workers that answer them.
//!
//! For: `check.rs`, which has the tools. May touch: nothing. Promises: waits have an order that makes sense.
//! Read next: `../checked/jobs.rs`.

use common::settings::Decoder;

use super::{bounded, count, lasting, size};
use crate::config::checked::Jobs;
use crate::config::raw;

pub(super) fn jobs(raw: &raw::Jobs, decoder: &mut Decoder) -> Option<Jobs> {
    let batch_max = count(&raw.batch_max, 1, 1_000, decoder);
    let queued_max = bounded(&raw.queued_max, 1, 10_000_000, decoder);
    let owner_max = bounded(&raw.owner_max, 1, 10_000_000, decoder);
    let concurrency = count(&raw.concurrency, 1, 1_000, decoder);
    let attempts_max = bounded(&raw.attempts_max, 1, 100, decoder);
    let attempt_timeout = lasting(&raw.attempt_timeout, decoder);
    let backoff = lasting(&raw.backoff, decoder);
    let backoff_max = lasting(&raw.backoff_max, decoder);
    if backoff.zip(backoff_max).is_some_and(|(first, longest)| longest < first) {
        decoder.mistake_at(&raw.backoff_max, "is shorter than jobs.backoff");
    }
    let lease = lasting(&raw.lease, decoder);
    let poll = lasting(&raw.poll, decoder);
    let answer_bytes_max = size(&raw.answer_max, decoder);
    let retention = lasting(&raw.retention, decoder);
    Some(Jobs {
        batch_max: batch_max?,
        queued_max: queued_max?,
        owner_max: owner_max?,
        concurrency: concurrency?,
        attempts_max: attempts_max?,
        attempt_timeout: attempt_timeout?,
        backoff: backoff?,
        backoff_max: backoff_max?,
        lease: lease?,
        poll: poll?,
        answer_bytes_max: answer_bytes_max?,
        retention: retention?,
    })
}
