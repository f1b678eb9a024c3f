//! Running: what goes on while the gateway serves, until it is told to end.
//!
//! For: reloads by signal, by the admin listener and by a look at the files; the next process that asks for the sockets.
//! May touch: signals. Promises: one thing at a time, so that no reload meets another, nor a hand-over. Read next: `succession.rs`.

use std::io;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};

use crate::acme::Orders;
use crate::admin::ReloadRequest;
use crate::base::service_manager::ServiceManager;
use crate::listen::handover::{Ask, Handed};
use crate::listen::listeners::Serves;
use crate::reload::Reloader;
use crate::snapshot::Snapshot;

/// A gateway that serves.
pub(super) struct Running<A> {
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    pub reloader: Reloader<A>,
    pub orders: Orders,
    /// The admin listener's socket, for the next process.
    pub admin: Option<Handed>,
}

/// Who may tell it something.
pub(super) struct Told {
    pub signals: Signals,
    pub reloads: mpsc::Receiver<ReloadRequest>,
    pub asks: mpsc::Receiver<Ask>,
}

/// Why it ends.
pub(super) enum End {
    /// A signal, by its name.
    Signal(&'static str),
    /// Another process serves; its id, or 0 where that cannot be told.
    HandedOver(i32),
}

impl<A: Serves> Running<A> {
    /// Does what it is told until it is to end.
    pub(super) async fn until_end(&mut self, told: &mut Told) -> End {
        loop {
            // Changes nothing unless the configuration has.
            self.orders.follow(&self.snapshot.load_full());
            let watch = self.snapshot.load().config.server.watch;
            tokio::select! {
                () = pause(watch) => self.reloader.reload_if_changed(),
                signal = told.signals.next() => match signal {
                    // Logged and counted where it happened; the last good configuration goes on.
                    Signal::Reload => drop(self.reloader.reload()),
                    Signal::End(name) => return End::Signal(name),
                },
                Some(answer) = told.reloads.recv() => {
                    // Whoever asked may have left by now.
                    let _ = answer.send(self.reloader.reload().map_err(|error| error.to_string()));
                }
                Some(ask) = told.asks.recv() => match ask {
                    Ask::Sockets(answer) => {
                        // As above.
                        let _ = answer.send(self.handles());
                    }
                    Ask::Leave { process } => return End::HandedOver(process),
                },
            }
        }
    }

    /// Tells everybody concerned that this is the end.
    pub(super) fn tell(&mut self, end: &End, manager: &ServiceManager, leave: &watch::Sender<bool>) {
        match end {
            End::Signal(name) => {
                manager.stopping();
                tracing::info!(signal = name, "draining");
            }
            End::HandedOver(process) => {
                // Before this process ends: afterwards nobody believes it.
                manager.handed_over(*process);
                self.admin = None;
                leave.send_replace(true);
                tracing::info!(process, "handed over, draining");
            }
        }
    }

    fn handles(&self) -> io::Result<Vec<Handed>> {
        let mut handles = self.reloader.listeners().handles()?;
        if let Some(admin) = &self.admin {
            handles.push(admin.try_clone()?);
        }
        Ok(handles)
    }
}

/// Waits so long, or for ever.
async fn pause(time: Option<common::settings::Millis>) {
    match time {
        Some(time) => tokio::time::sleep(time.duration()).await,
        None => std::future::pending().await,
    }
}

/// The signals that mean something to a gateway.
pub(super) struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    hangup: tokio::signal::unix::Signal,
}

enum Signal {
    Reload,
    End(&'static str),
}

impl Signals {
    pub(super) fn catch() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// The next one that means the end, by its name.
    pub(super) async fn end(&mut self) -> &'static str {
        loop {
            if let Signal::End(name) = self.next().await {
                return name;
            }
        }
    }

    async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.terminate.recv() => Signal::End("SIGTERM"),
            _ = self.interrupt.recv() => Signal::End("SIGINT"),
            _ = self.hangup.recv() => Signal::Reload,
        }
    }
}
