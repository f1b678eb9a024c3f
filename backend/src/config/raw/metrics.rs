//! Raw keys of the program's own numbers.
//!
//! For: `raw.rs`, of which this is a part. May touch: nothing. Promises: as `raw.rs`. Read next: `../check/metrics.rs`.

use common::section;
use common::settings::{At, Millis};

section! {
    /// The program's own numbers, as `/api/v1/metrics` shows them.
    pub(in crate::config) struct Metrics {
        /// What is kept of them.
        pub(in crate::config) history: History = "{}",
    }
}

section! {
    /// What is kept of the numbers, in the database.
    pub(in crate::config) struct History {
        /// How often each process keeps what it has counted since the last time.
        pub(in crate::config) every: At<Millis> = "1m",
        /// How long that is kept.
        pub(in crate::config) retention: At<Millis> = "30d",
    }
}
