//! Mirror: which requests are copied, and how many copies there may be at a time.
//!
//! For: trying another upstream under real traffic. May touch: chance, a counter of places. Promises: a copy that finds no place is
//! not made, and counted; so the memory of all copies of a route is bounded. Read next: `../../proxy/mirror.rs`, which sends them.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::base::telemetry::metrics::MirrorMetrics;
use crate::config::checked;
use crate::upstream::pool::Pool;

/// What marks a copy, so that an upstream can leave out what has effects elsewhere.
pub(crate) const X_MIRRORED: HeaderName = HeaderName::from_static("x-mirrored");

/// Who gets copies of a route's requests.
#[derive(Debug)]
pub(crate) struct Mirror {
    pub pool: Arc<Pool>,
    share_percent: u8,
    pub body_bytes_max: usize,
    /// How long one copy may take.
    pub timeout: Duration,
    places: Arc<Semaphore>,
    pub metrics: MirrorMetrics,
}

/// A copy's place, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct MirrorPlace {
    _permit: OwnedSemaphorePermit,
}

impl Mirror {
    pub(crate) fn new(settings: checked::Mirror, pool: Arc<Pool>, metrics: MirrorMetrics) -> Self {
        Self {
            pool,
            share_percent: settings.share_percent,
            body_bytes_max: settings.body_bytes_max,
            timeout: settings.timeout,
            places: Arc::new(Semaphore::new(settings.in_flight_max)),
            metrics,
        }
    }

    /// A place for the copy of one more request, if it is to be copied and there is one.
    pub(crate) fn enter(&self) -> Option<MirrorPlace> {
        if rand::random_range(0..100) >= self.share_percent {
            return None;
        }
        match Arc::clone(&self.places).try_acquire_owned() {
            Ok(permit) => Some(MirrorPlace { _permit: permit }),
            Err(_) => {
                self.metrics.crowded.inc();
                None
            }
        }
    }
}
