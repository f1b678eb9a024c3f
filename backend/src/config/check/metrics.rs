//! Check of the program's own numbers.
//!
//! For: `check.rs`, which has the tools. May touch: nothing. Promises: what is kept is kept for longer than an interval.
//! Read next: `../checked/metrics.rs`.

use common::settings::Decoder;

use super::lasting;
use crate::config::checked::History;
use crate::config::raw;

pub(super) fn history(raw: &raw::Metrics, decoder: &mut Decoder) -> Option<History> {
    let every = lasting(&raw.history.every, decoder);
    let retention = lasting(&raw.history.retention, decoder);
    if every.zip(retention).is_some_and(|(every, retention)| retention < every) {
        decoder.mistake_at(&raw.history.retention, "is shorter than metrics.history.every");
        return None;
    }
    Some(History { every: every?, retention: retention? })
}
