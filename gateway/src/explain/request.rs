//! Request: one that nobody has sent, in the form in which the stages see those that were.
//!
//! For: a request line, fields and an address → a head, and the listener it would come in by. May touch: the listeners of the
//! configuration. Promises: it looks like HTTP/1.1, with a `Host` field. Read next: `walk.rs`.

use std::net::IpAddr;

use http::header::HOST;
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use crate::base::head::Head;
use crate::config::Config;
use crate::config::checked::{Listener, ListenerKind, RequestLine};

/// The host of a request whose line is a path alone.
const HOST_DEFAULT: &str = "localhost";

/// The port that a redirect names where nobody says another, as in `listen`.
const HTTPS_PORT: u16 = 443;

/// A request.
#[derive(Debug)]
pub(crate) struct Request {
    pub method: Method,
    /// Path and query, as sent.
    pub target: String,
    pub headers: HeaderMap,
    /// The address at the other end of its connection.
    pub from: IpAddr,
    pub door: Door,
}

/// How it would come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Door {
    Tls,
    Plain,
    /// By a listener that sends everybody to `https` on this port.
    Redirect(u16),
}

impl Request {
    /// Puts it together. A `Host` among the fields counts more than the one of the URL.
    ///
    /// # Errors
    /// When no server could take so many fields.
    pub(crate) fn new(
        line: &RequestLine,
        fields: &[(HeaderName, HeaderValue)],
        from: IpAddr,
        config: &Config,
    ) -> Result<Self, String> {
        let mut headers = HeaderMap::new();
        if !fields.iter().any(|(name, _)| *name == HOST) {
            let host = line.authority.as_deref().unwrap_or(HOST_DEFAULT);
            headers.insert(HOST, HeaderValue::from_str(host).map_err(|_| "the host is not plain ASCII")?);
        }
        for (name, value) in fields {
            headers.try_append(name.clone(), value.clone()).map_err(|_| "too many header fields")?;
        }
        let door = Door::of(line, &config.listeners);
        Ok(Self { method: line.method.clone(), target: line.target.clone(), headers, from, door })
    }

    /// What the stages see of it.
    pub(crate) fn head(&self) -> Head<'_> {
        let split = self.target.split_once('?');
        let (path, query) = split.map_or((&*self.target, None), |(path, query)| (path, Some(query.as_bytes())));
        Head {
            method: &self.method,
            path: path.as_bytes(),
            query,
            target_bytes: self.target.len(),
            authority: None,
            headers: &self.headers,
            raw: None,
            peer: self.from,
            encrypted: self.door == Door::Tls,
            http2: false,
            client_certificate: None,
            notes: None,
        }
    }
}

impl Door {
    /// A path alone comes by TLS where a listener speaks it. Of several plain listeners, the one with the URL's port is meant.
    fn of(line: &RequestLine, listeners: &[Listener]) -> Self {
        let is_tls = |listener: &&Listener| matches!(listener.kind, ListenerKind::Tls(_));
        let tls_port = listeners.iter().find(is_tls).map(|listener| listener.bind.port());
        if line.encrypted.unwrap_or(tls_port.is_some()) {
            return Self::Tls;
        }
        let mut plain = listeners.iter().filter(|listener| !is_tls(listener));
        let port = line.authority.as_deref().and_then(|authority| authority.rsplit_once(':')?.1.parse::<u16>().ok());
        let named = port.and_then(|port| plain.clone().find(|listener| listener.bind.port() == port));
        match named.or_else(|| plain.next()).map(|listener| &listener.kind) {
            Some(ListenerKind::RedirectToHttps { port }) => Self::Redirect(port.or(tls_port).unwrap_or(HTTPS_PORT)),
            _ => Self::Plain,
        }
    }
}
