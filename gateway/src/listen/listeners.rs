//! Listeners: which addresses are open, and how a reload changes that by difference.
//!
//! For: one set of listeners, brought in line with a configuration in two steps. `prepare` does everything that can fail
//! (sockets, certificates, authorities of clients) and changes nothing; `apply` cannot fail. May touch: sockets, certificate
//! files. Promises: a listener that is the same before and after is not touched; one that goes stops accepting, and the
//! connections it has taken in go on; a socket that came from the process before is used, not bound anew.
//! Read next: `entrance.rs`, `socket.rs`.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::sync::{Arc, Weak};

use common::settings::Mistake;
use pingora::apps::ServerApp;
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::certs::{self, Certificates, End};
use super::client_auth::Authorities;
use super::entrance::Entrance;
use super::handover::{Handed, Inherited};
use super::issued::Issued;
use super::socket::{self, Door};
use super::tls::Terms;
use crate::base::now::unix_now;
use crate::config::Config;
use crate::config::checked::{Environment, Listener, ListenerKind, ListenerTls};

/// A certificate that ends sooner than this is warned of when it is read. Renewal is usually due at 30 days, so by then it
/// has failed for a while.
const WARNING_DAYS: i64 = 14;

const DAY_SECONDS: i64 = 24 * 60 * 60;

/// What serves connections, in Pingora's terms. A name of ours, so that others need not know whose terms they are.
pub(crate) trait Serves: ServerApp + Send + Sync + 'static {}

impl<A: ServerApp + Send + Sync + 'static> Serves for A {}

/// Makes what serves the connections of a listener: for `Some(port)`, a redirect to `https` on it.
pub(crate) type NewApp<A> = Box<dyn Fn(Option<u16>) -> Arc<A> + Send + Sync>;

/// The open listeners.
pub(crate) struct Listeners<A> {
    door: Arc<Door>,
    /// Certificates that were ordered.
    issued: Arc<Issued>,
    /// What plain and TLS listeners share, and with it the connections to upstreams.
    app: Arc<A>,
    new_app: NewApp<A>,
    redirects: Vec<Arc<A>>,
    open: HashMap<Arc<str>, Open>,
    /// The certificates whose end is shown, by their files.
    shown: BTreeSet<String>,
}

/// One listener that accepts.
struct Open {
    /// As configured; the port may be 0.
    bind: SocketAddr,
    kind: Kind,
    local: SocketAddr,
    entrance: Arc<Entrance>,
    /// Held by whoever accepts, so that it closes when nobody does.
    socket: Weak<TcpListener>,
    stop: watch::Sender<bool>,
}

/// What a listener does with a connection.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Plain,
    Redirect { configured: Option<u16> },
    Tls,
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
    kind: Kind,
    proxy_protocol: bool,
    /// Set for `Kind::Tls`.
    tls: Option<(Certificates, Terms)>,
}

/// Why listeners could not be prepared.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ListenError {
    /// Certificates that cannot be used, each at its place.
    #[error("certificates that cannot be used")]
    Certificates(Vec<Mistake>),
    #[error("listener {listener} cannot bind {address}")]
    Bind { listener: Arc<str>, address: SocketAddr, source: io::Error },
    #[error("listener {listener} cannot use the socket that it was handed")]
    Inherit { listener: Arc<str>, source: io::Error },
    #[error("TLS cannot be set up")]
    Tls(#[from] rustls::Error),
    #[error("a bound socket has no address")]
    Address(#[source] io::Error),
}

/// Reads the certificates of every listener, for a check that opens nothing.
///
/// # Errors
/// One mistake for each pair that cannot be used, and for each file of clients' authorities.
pub(crate) fn check(config: &Config) -> Result<(), Vec<Mistake>> {
    let mut mistakes = Vec::new();
    for listener in &config.listeners {
        if let ListenerKind::Tls(tls) = &listener.kind {
            mistakes.extend(load(tls, config.environment, &Arc::default()).err().into_iter().flatten());
        }
    }
    if mistakes.is_empty() { Ok(()) } else { Err(mistakes) }
}

/// Reads what a TLS listener needs.
fn load(
    tls: &ListenerTls,
    environment: Environment,
    issued: &Arc<Issued>,
) -> Result<(Certificates, Terms), Vec<Mistake>> {
    let certificates = certs::load(tls, environment, issued);
    let client_auth = tls.client_auth.as_ref().map(Authorities::load).transpose();
    match (certificates, client_auth) {
        (Ok(certificates), Ok(client_auth)) => {
            let (min_version, suites) = (tls.min_version, tls.suites.clone());
            Ok((certificates, Terms { min_version, suites, client_auth }))
        }
        (certificates, client_auth) => {
            let mistakes = certificates.err().into_iter().flatten();
            Err(mistakes.chain(client_auth.err()).collect())
        }
    }
}

impl<A: Serves> Listeners<A> {
    /// No listeners yet.
    pub(crate) fn new(door: Arc<Door>, issued: Arc<Issued>, new_app: NewApp<A>) -> Self {
        let shown = BTreeSet::new();
        Self { door, issued, app: new_app(None), new_app, redirects: Vec::new(), open: HashMap::new(), shown }
    }

    /// Whatever serves connections, for the drain to end.
    pub(crate) fn apps(&self) -> impl Iterator<Item = &Arc<A>> {
        std::iter::once(&self.app).chain(&self.redirects)
    }

    /// Second handles of the sockets that accept.
    ///
    /// # Errors
    /// When the process has no more descriptors.
    pub(crate) fn handles(&self) -> io::Result<Vec<Handed>> {
        let accepting = self.open.iter().filter_map(|(name, open)| Some((name, open, open.socket.upgrade()?)));
        let handles = accepting.map(|(name, open, socket)| -> io::Result<Handed> {
            let socket = socket.as_fd().try_clone_to_owned()?;
            Ok(Handed { name: Arc::clone(name), bind: open.bind, local: open.local, socket })
        });
        handles.collect()
    }

    /// Does everything that can fail. Sockets that were inherited are used before new ones are bound.
    ///
    /// # Errors
    /// A certificate that cannot be used, or an address that cannot be bound. Nothing has changed then.
    pub(crate) fn prepare(&self, config: &Config, inherited: &mut Inherited) -> Result<Prepared, ListenError> {
        check(config).map_err(ListenError::Certificates)?;
        let steps = config.listeners.iter().map(|listener| self.step(listener, config, inherited));
        Ok(Prepared { steps: steps.collect::<Result<_, _>>()? })
    }

    fn step(&self, listener: &Listener, config: &Config, inherited: &mut Inherited) -> Result<Step, ListenError> {
        let (kind, tls) = match &listener.kind {
            ListenerKind::Plain => (Kind::Plain, None),
            ListenerKind::RedirectToHttps { port } => (Kind::Redirect { configured: *port }, None),
            ListenerKind::Tls(tls) => {
                let loaded = load(tls, config.environment, &self.issued).map_err(ListenError::Certificates)?;
                (Kind::Tls, Some(loaded))
            }
        };
        let stays = self.open.get(&listener.name).is_some_and(|open| open.stays(listener.bind, kind));
        let socket = if stays { None } else { Some(inherit_or_bind(&listener.name, listener.bind, inherited)?) };
        let (name, proxy_protocol) = (Arc::clone(&listener.name), listener.proxy_protocol);
        Ok(Step { name, bind: listener.bind, socket, kind, proxy_protocol, tls })
    }

    /// Brings the listeners in line.
    ///
    /// # Errors
    /// Only when the system cannot tell a socket's address, or the crypto provider lacks something that it had at start.
    pub(crate) fn apply(&mut self, prepared: Prepared) -> Result<(), ListenError> {
        let ends = prepared.steps.iter().filter_map(|step| step.tls.as_ref());
        let ends: Vec<End> = ends.flat_map(|(certificates, _)| certificates.ends()).cloned().collect();
        let mut gone = std::mem::take(&mut self.open);
        // TLS first, because redirects may need the port of a TLS listener.
        let (tls, others): (Vec<_>, Vec<_>) = prepared.steps.into_iter().partition(|step| step.kind == Kind::Tls);
        for mut step in tls.into_iter().chain(others) {
            let earlier = gone.remove(&step.name);
            let name = Arc::clone(&step.name);
            let open = match (step.socket.take(), earlier) {
                (Some(socket), earlier) => {
                    if let Some(earlier) = earlier {
                        earlier.close(&name);
                    }
                    self.open(step, socket)?
                }
                (None, Some(earlier)) => earlier.go_on(step)?,
                // `prepare` leaves the socket out only for a listener that is open.
                (None, None) => continue,
            };
            self.open.insert(name, open);
        }
        for (name, open) in gone {
            open.close(&name);
        }
        self.show(&ends);
        Ok(())
    }

    fn open(&mut self, step: Step, socket: TcpListener) -> Result<Open, ListenError> {
        let local = socket.local_addr().map_err(ListenError::Address)?;
        let entrance = Arc::new(Entrance::new(step.proxy_protocol, step.tls)?);
        let app = match step.kind {
            Kind::Plain | Kind::Tls => Arc::clone(&self.app),
            Kind::Redirect { configured } => {
                let app = (self.new_app)(Some(configured.or_else(|| self.tls_port()).unwrap_or(443)));
                // Those of listeners that are gone, with their last connection.
                self.redirects.retain(|app| Arc::strong_count(app) > 1);
                self.redirects.push(Arc::clone(&app));
                app
            }
        };
        let (end, ended) = watch::channel(false);
        tracing::info!(listener = %step.name, address = %local, "listening");
        let socket = Arc::new(socket);
        let handle = Arc::downgrade(&socket);
        tokio::spawn(Arc::clone(&self.door).serve(socket, Arc::clone(&entrance), app, ended));
        Ok(Open { bind: step.bind, kind: step.kind, local, entrance, socket: handle, stop: end })
    }

    /// Tells when certificates end: always as a metric, and in the log of those that are about to.
    fn show(&mut self, ends: &[End]) {
        let metrics = self.door.metrics();
        let now = unix_now();
        let mut shown = BTreeSet::new();
        for end in ends {
            metrics.certificate_ends(&end.file, end.unix_seconds);
            let days_left = (end.unix_seconds - now) / DAY_SECONDS;
            if shown.insert(end.file.clone()) && days_left < WARNING_DAYS {
                tracing::warn!(certificate = %end.file, days_left, "the certificate is about to end");
            }
        }
        for file in self.shown.difference(&shown) {
            metrics.forget_certificate(file);
        }
        self.shown = shown;
    }

    fn tls_port(&self) -> Option<u16> {
        self.open.values().find(|open| open.kind == Kind::Tls).map(|open| open.local.port())
    }
}

impl Open {
    /// Whether it can go on with its socket: the same address, and the same kind of service there.
    fn stays(&self, bind: SocketAddr, kind: Kind) -> bool {
        self.bind == bind && self.kind == kind
    }

    fn go_on(self, step: Step) -> Result<Self, ListenError> {
        self.entrance.replace(step.proxy_protocol, step.tls)?;
        Ok(self)
    }

    fn close(self, name: &str) {
        tracing::info!(listener = name, address = %self.local, "no longer listening");
        self.stop.send_replace(true);
    }
}

fn inherit_or_bind(
    listener: &Arc<str>,
    address: SocketAddr,
    inherited: &mut Inherited,
) -> Result<TcpListener, ListenError> {
    match inherited.take(listener, address) {
        Ok(Some(socket)) => Ok(socket),
        Ok(None) => socket::bind(address).map_err(|source| ListenError::Bind {
            listener: Arc::clone(listener),
            address,
            source,
        }),
        Err(source) => Err(ListenError::Inherit { listener: Arc::clone(listener), source }),
    }
}
