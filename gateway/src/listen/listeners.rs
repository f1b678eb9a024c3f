//! Listeners: which addresses are open, and how a reload changes that by difference.
//!
//! For: one set of listeners, brought in line with a configuration in two steps. `prepare` does everything that can fail
//! (sockets, certificates) and changes nothing; `apply` cannot fail. May touch: sockets, certificate files.
//! Promises: a listener that is the same before and after is not touched; one that goes stops accepting, and the connections
//! it has taken in go on. Read next: `socket.rs`.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use common::settings::Mistake;
use pingora::apps::ServerApp;
use pingora::listeners::tls::Acceptor;
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::certs::{self, Certificates, Resolver};
use super::socket::{self, Door};
use super::tls;
use crate::config::Config;
use crate::config::checked::{Listener, ListenerKind, TlsVersion};

/// What serves connections, in Pingora's terms. A name of ours, so that others need not know whose terms they are.
pub(crate) trait Serves: ServerApp + Send + Sync + 'static {}

impl<A: ServerApp + Send + Sync + 'static> Serves for A {}

/// Makes what serves the connections of a listener: for `Some(port)`, a redirect to `https` on it.
pub(crate) type NewApp<A> = Box<dyn Fn(Option<u16>) -> Arc<A> + Send + Sync>;

/// The open listeners.
pub(crate) struct Listeners<A> {
    door: Arc<Door>,
    /// What plain and TLS listeners share, and with it the connections to upstreams.
    app: Arc<A>,
    new_app: NewApp<A>,
    redirects: Vec<Arc<A>>,
    open: HashMap<Arc<str>, Open>,
}

/// One listener that accepts.
struct Open {
    /// As configured; the port may be 0.
    bind: SocketAddr,
    kind: Kind,
    local: SocketAddr,
    stop: watch::Sender<bool>,
}

/// What a listener does with a connection.
enum Kind {
    Plain,
    Redirect { configured: Option<u16> },
    Tls(Arc<TlsSide>),
}

/// What shakes hands, and can be replaced while it does.
pub(super) struct TlsSide {
    resolver: Arc<Resolver>,
    shaking: ArcSwap<(TlsVersion, Arc<Acceptor>)>,
}

/// Everything that is needed to bring the listeners in line, and nothing of it done.
pub(crate) struct Prepared {
    steps: Vec<Step>,
}

struct Step {
    name: Arc<str>,
    bind: SocketAddr,
    /// A new socket; `None` when the listener goes on with the one it has.
    socket: Option<TcpListener>,
    kind: NewKind,
}

enum NewKind {
    Plain,
    Redirect { configured: Option<u16> },
    Tls { certificates: Certificates, min_version: TlsVersion },
}

/// Why listeners could not be prepared.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ListenError {
    /// Certificates that cannot be used, each at its place.
    #[error("certificates that cannot be used")]
    Certificates(Vec<Mistake>),
    #[error("listener {listener} cannot bind {address}")]
    Bind { listener: Arc<str>, address: SocketAddr, source: io::Error },
    #[error("TLS cannot be set up")]
    Tls(#[from] rustls::Error),
    #[error("a bound socket has no address")]
    Address(#[source] io::Error),
}

/// Reads the certificates of every listener, for a check that opens nothing.
///
/// # Errors
/// One mistake for each pair that cannot be used.
pub(crate) fn check(config: &Config) -> Result<(), Vec<Mistake>> {
    let mut mistakes = Vec::new();
    for listener in &config.listeners {
        if let ListenerKind::Tls { certificates, .. } = &listener.kind {
            mistakes.extend(certs::load(certificates, config.environment).err().into_iter().flatten());
        }
    }
    if mistakes.is_empty() { Ok(()) } else { Err(mistakes) }
}

impl<A: Serves> Listeners<A> {
    /// No listeners yet.
    pub(crate) fn new(door: Arc<Door>, new_app: NewApp<A>) -> Self {
        Self { door, app: new_app(None), new_app, redirects: Vec::new(), open: HashMap::new() }
    }

    /// Whatever serves connections, for the drain to end.
    pub(crate) fn apps(&self) -> impl Iterator<Item = &Arc<A>> {
        std::iter::once(&self.app).chain(&self.redirects)
    }

    /// Does everything that can fail.
    ///
    /// # Errors
    /// A certificate that cannot be used, or an address that cannot be bound. Nothing has changed then.
    pub(crate) fn prepare(&self, config: &Config) -> Result<Prepared, ListenError> {
        check(config).map_err(ListenError::Certificates)?;
        let steps = config.listeners.iter().map(|listener| self.step(listener, config));
        Ok(Prepared { steps: steps.collect::<Result<_, _>>()? })
    }

    fn step(&self, listener: &Listener, config: &Config) -> Result<Step, ListenError> {
        let kind = match &listener.kind {
            ListenerKind::Plain => NewKind::Plain,
            ListenerKind::RedirectToHttps { port } => NewKind::Redirect { configured: *port },
            ListenerKind::Tls { certificates, min_version } => {
                let certificates =
                    certs::load(certificates, config.environment).map_err(ListenError::Certificates)?;
                NewKind::Tls { certificates, min_version: *min_version }
            }
        };
        let stays = self.open.get(&listener.name).is_some_and(|open| open.stays(listener.bind, &kind));
        let socket = if stays { None } else { Some(bind(&listener.name, listener.bind)?) };
        Ok(Step { name: Arc::clone(&listener.name), bind: listener.bind, socket, kind })
    }

    /// Brings the listeners in line.
    ///
    /// # Errors
    /// Only when the system cannot tell a socket's address, or the crypto provider lacks something that it had at start.
    pub(crate) fn apply(&mut self, prepared: Prepared) -> Result<(), ListenError> {
        let mut gone = std::mem::take(&mut self.open);
        // TLS first, because redirects may need the port of a TLS listener.
        let (tls, others): (Vec<_>, Vec<_>) =
            prepared.steps.into_iter().partition(|step| matches!(step.kind, NewKind::Tls { .. }));
        for step in tls.into_iter().chain(others) {
            let earlier = gone.remove(&step.name);
            let open = match (step.socket, earlier) {
                (Some(socket), earlier) => {
                    if let Some(earlier) = earlier {
                        earlier.close(&step.name);
                    }
                    self.open(&step.name, step.bind, socket, step.kind)?
                }
                (None, Some(earlier)) => earlier.go_on(step.kind)?,
                // `prepare` leaves the socket out only for a listener that is open.
                (None, None) => continue,
            };
            self.open.insert(step.name, open);
        }
        for (name, open) in gone {
            open.close(&name);
        }
        Ok(())
    }

    fn open(
        &mut self,
        name: &Arc<str>,
        bind: SocketAddr,
        socket: TcpListener,
        kind: NewKind,
    ) -> Result<Open, ListenError> {
        let local = socket.local_addr().map_err(ListenError::Address)?;
        let (kind, app) = match kind {
            NewKind::Plain => (Kind::Plain, Arc::clone(&self.app)),
            NewKind::Redirect { configured } => {
                let app = (self.new_app)(Some(configured.or_else(|| self.tls_port()).unwrap_or(443)));
                self.redirects.push(Arc::clone(&app));
                (Kind::Redirect { configured }, app)
            }
            NewKind::Tls { certificates, min_version } => {
                (Kind::Tls(Arc::new(TlsSide::new(certificates, min_version)?)), Arc::clone(&self.app))
            }
        };
        let tls = match &kind {
            Kind::Tls(side) => Some(Arc::clone(side)),
            Kind::Plain | Kind::Redirect { .. } => None,
        };
        let (stop, stopped) = watch::channel(false);
        tracing::info!(listener = %name, address = %local, "listening");
        tokio::spawn(Arc::clone(&self.door).serve(socket, tls, app, stopped));
        Ok(Open { bind, kind, local, stop })
    }

    fn tls_port(&self) -> Option<u16> {
        self.open.values().find(|open| matches!(open.kind, Kind::Tls(_))).map(|open| open.local.port())
    }
}

impl Open {
    /// Whether it can go on with its socket: the same address, and the same kind of service there.
    fn stays(&self, bind: SocketAddr, kind: &NewKind) -> bool {
        let same_kind = match (&self.kind, kind) {
            (Kind::Plain, NewKind::Plain) | (Kind::Tls(_), NewKind::Tls { .. }) => true,
            (Kind::Redirect { configured }, NewKind::Redirect { configured: new }) => configured == new,
            _ => false,
        };
        self.bind == bind && same_kind
    }

    fn go_on(self, kind: NewKind) -> Result<Self, ListenError> {
        if let (Kind::Tls(side), NewKind::Tls { certificates, min_version }) = (&self.kind, kind) {
            side.replace(certificates, min_version)?;
        }
        Ok(self)
    }

    fn close(self, name: &str) {
        tracing::info!(listener = name, address = %self.local, "no longer listening");
        self.stop.send_replace(true);
    }
}

impl TlsSide {
    fn new(certificates: Certificates, min_version: TlsVersion) -> Result<Self, rustls::Error> {
        let resolver = Arc::new(Resolver::new(certificates));
        let acceptor = tls::acceptor(Arc::clone(&resolver), min_version)?;
        Ok(Self { resolver, shaking: ArcSwap::from_pointee((min_version, acceptor)) })
    }

    /// Handshakes from now on use these. Tickets of before are good only while the versions stay the same.
    fn replace(&self, certificates: Certificates, min_version: TlsVersion) -> Result<(), rustls::Error> {
        if self.shaking.load().0 != min_version {
            let acceptor = tls::acceptor(Arc::clone(&self.resolver), min_version)?;
            self.shaking.store(Arc::new((min_version, acceptor)));
        }
        self.resolver.replace(certificates);
        Ok(())
    }

    /// What shakes hands at the moment.
    pub(super) fn acceptor(&self) -> Arc<Acceptor> {
        Arc::clone(&self.shaking.load().1)
    }
}

fn bind(listener: &Arc<str>, address: SocketAddr) -> Result<TcpListener, ListenError> {
    socket::bind(address).map_err(|source| ListenError::Bind { listener: Arc::clone(listener), address, source })
}
