//! Succession: what a process has to do with the one before it, and the one after it.
//!
//! For: `gateway run --upgrade`, and `server.upgrade_socket`. May touch: the hand-over in `listen`. Promises: the process
//! before goes on until this one serves as well as it does, with every key set fetched; the next one is answered from then on.
//! Read next: `../listen/handover/mod.rs`.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::time::Duration;

use common::telemetry::with_causes;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

use super::running::Signals;
use super::{RunError, Start};
use crate::acme::Orders;
use crate::config::Config;
use crate::listen::handover::{Ask, Handed, HandoverError, Inherited, Place, Predecessor, give};
use crate::listen::issued::Issued;
use crate::listen::socket;
use crate::snapshot::Snapshot;

/// What the admin listener is called on its way to the next process. No other listener can be called so.
const ADMIN: &str = "(admin)";

/// How long key sets and the feed of withdrawals may take to be heard before the old process is relieved.
const SETTLE_WITHIN: Duration = Duration::from_secs(30);

/// How long certificates that were ordered may take to be found. One that was never issued does not hold an upgrade up.
const ISSUED_WITHIN: Duration = Duration::from_secs(5);

/// How often to look.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The processes before and after this one.
pub(super) struct Succession {
    predecessor: Option<Predecessor>,
    place: Option<Place>,
}

impl Succession {
    /// Receives the sockets of the process before, and prepares the place where the next one asks.
    ///
    /// # Errors
    /// When there is nobody to take over from, or, for a start afresh, somebody is.
    pub(super) async fn begin(config: &Config, start: Start) -> Result<(Self, Inherited), RunError> {
        let path = config.server.upgrade_socket.as_ref().map(|path| path.value.as_path());
        Self::try_begin(path, start).await.map_err(|error| run_error(&error))
    }

    async fn try_begin(path: Option<&Path>, start: Start) -> Result<(Self, Inherited), HandoverError> {
        let (predecessor, inherited) = match (start, path) {
            (Start::TakingOver, None) => return Err(HandoverError::NotConfigured),
            (Start::TakingOver, Some(path)) => {
                let (predecessor, inherited) = Predecessor::meet(path).await?;
                (Some(predecessor), inherited)
            }
            (Start::Afresh, path) => {
                if let Some(path) = path {
                    Place::check_free(path).await?;
                }
                (None, Inherited::default())
            }
        };
        let place = path.map(Place::beside).transpose()?;
        Ok((Self { predecessor, place }, inherited))
    }

    /// Waits until this process can do what the one before does. One that starts afresh does not wait: probes see whether
    /// it is ready.
    ///
    /// # Errors
    /// When that takes too long, or the process is told to end.
    pub(super) async fn settle(
        &self,
        first: &Snapshot,
        issued: &Issued,
        orders: &mut Orders,
        signals: &mut Signals,
    ) -> Result<(), RunError> {
        if self.predecessor.is_none() {
            return Ok(());
        }
        orders.follow(first);
        let settled = tokio::select! {
            settled = settled(first, issued) => settled,
            signal = signals.end() => Err(HandoverError::Interrupted(signal)),
        };
        settled.map_err(|error| run_error(&error))
    }

    /// This process serves: the one before may go, and the next one may ask. Whether it took over, and what answers.
    ///
    /// # Errors
    /// When the one before goes on after all, or the upgrade socket cannot be opened.
    pub(super) async fn complete(self, asks: mpsc::Sender<Ask>) -> Result<(bool, Option<AbortHandle>), RunError> {
        let takes_over = self.predecessor.is_some();
        if let Some(predecessor) = self.predecessor {
            predecessor.relieve().await.map_err(|error| run_error(&error))?;
        }
        let Some(mut place) = self.place else { return Ok((takes_over, None)) };
        match place.open() {
            Ok(()) => {
                let giver = tokio::spawn(give(place, asks));
                if takes_over {
                    tracing::info!("took over");
                }
                Ok((takes_over, Some(giver.abort_handle())))
            }
            // The one before is gone: to end now would leave nobody.
            Err(error) if takes_over => {
                tracing::error!(error = %with_causes(&error), "took over, but cannot be upgraded itself");
                Ok((takes_over, None))
            }
            Err(error) => Err(run_error(&error)),
        }
    }
}

/// The socket of the admin listener, from the process before where it had one, and a second handle for the next process.
pub(super) fn open_admin(address: SocketAddr, inherited: &mut Inherited) -> Result<(TcpListener, Handed), RunError> {
    let opened = inherit_or_bind(address, inherited);
    opened.map_err(|source| RunError::BindAdmin { address, source })
}

fn inherit_or_bind(address: SocketAddr, inherited: &mut Inherited) -> io::Result<(TcpListener, Handed)> {
    let listener = match inherited.take(ADMIN, address)? {
        Some(listener) => listener,
        None => socket::bind(address)?,
    };
    let socket = listener.as_fd().try_clone_to_owned()?;
    let handle = Handed { name: ADMIN.into(), bind: address, local: listener.local_addr()?, socket };
    Ok((listener, handle))
}

async fn settled(first: &Snapshot, issued: &Issued) -> Result<(), HandoverError> {
    if !until(SETTLE_WITHIN, || first.can_judge()).await {
        return Err(HandoverError::Unsettled(SETTLE_WITHIN));
    }
    let ordered = first.config.orders();
    if !until(ISSUED_WITHIN, || issued.has_all(ordered.iter().flat_map(|order| &order.names))).await {
        tracing::warn!("not every certificate that is ordered was found");
    }
    Ok(())
}

async fn until(limit: Duration, is_so: impl Fn() -> bool) -> bool {
    let looking = async {
        while !is_so() {
            sleep(LOOK_EVERY).await;
        }
    };
    timeout(limit, looking).await.is_ok()
}

fn run_error(error: &HandoverError) -> RunError {
    let text = with_causes(error);
    match error {
        HandoverError::NobodyThere { .. } => RunError::NothingToTakeOver(text),
        _ => RunError::Handover(text),
    }
}
