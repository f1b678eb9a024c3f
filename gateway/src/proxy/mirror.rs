//! Mirror: copies of requests, sent to another upstream behind the client's back.
//!
//! For: drafting a copy while its request passes, and sending it once the request has. May touch: Pingora's connector, for connections
//! of its own; the pool of the other upstream. Promises: nothing that happens to a copy is seen by the client; a draft holds its
//! place, and so the memory of all of them is bounded; an answer is read up to a bound and thrown away.
//! Read next: `../stages/dispatch/mirror.rs` for which requests are copied.

use std::sync::{Arc, LazyLock};

use bytes::{Bytes, BytesMut};
use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, HOST, TE, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderName, HeaderValue, StatusCode, Uri, Version};
use pingora::connectors::ConnectorOptions;
use pingora::connectors::http::Connector;
use pingora::http::RequestHeader;
use pingora::protocols::http::client::HttpSession;
use pingora::{Error, ErrorType, OrErr as _, Result};

use crate::stages::dispatch::mirror::{Mirror, MirrorPlace, X_MIRRORED};
use crate::stages::dispatch::outcome;
use crate::stages::plan::Route;
use crate::upstream::pool::{Pool, Tried, Wish};

/// How much of an answer is read, so that its connection can be used again.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;

/// Idle connections that are kept for copies.
const IDLE_CONNECTIONS_MAX: usize = 256;

/// Where copies get their connections, apart from those of requests.
static CONNECTOR: LazyLock<Connector> =
    LazyLock::new(|| Connector::new(Some(ConnectorOptions::new(IDLE_CONNECTIONS_MAX))));

/// The copy of one request, if there is to be one.
#[derive(Default)]
pub(super) struct Copying {
    decided: bool,
    draft: Option<Box<Draft>>,
}

/// A copy that is not complete.
struct Draft {
    mirror: Arc<Mirror>,
    place: MirrorPlace,
    head: RequestHeader,
    body: BytesMut,
}

impl Copying {
    /// Takes in the head as it goes out. `is_whole` is whether no body follows. A further attempt brings its body again from the
    /// beginning.
    pub(super) fn begin(&mut self, route: &Route, head: &RequestHeader, is_whole: bool) {
        if let Some(draft) = &mut self.draft {
            draft.body.clear();
        }
        if std::mem::replace(&mut self.decided, true) {
            return;
        }
        let Some(mirror) = &route.mirror else { return };
        let Some(place) = mirror.enter() else { return };
        let draft = Draft { mirror: Arc::clone(mirror), place, head: head.clone(), body: BytesMut::new() };
        if is_whole {
            draft.send();
        } else {
            self.draft = Some(Box::new(draft));
        }
    }

    /// Takes in a piece of the body, and sends the copy behind the last one.
    pub(super) fn take_in(&mut self, piece: Option<&Bytes>, end: bool) {
        let Some(draft) = &mut self.draft else { return };
        if let Some(piece) = piece {
            if draft.body.len() + piece.len() > draft.mirror.body_bytes_max {
                draft.mirror.metrics.too_large.inc();
                self.draft = None;
                return;
            }
            draft.body.extend_from_slice(piece);
        }
        if end && let Some(draft) = self.draft.take() {
            draft.send();
        }
    }

    /// Gives up what was not completed when the request is over.
    pub(super) fn end(&mut self) {
        if let Some(draft) = self.draft.take() {
            draft.mirror.metrics.unfinished.inc();
        }
    }
}

impl Draft {
    fn send(self) {
        tokio::spawn(self.run());
    }

    async fn run(self) {
        let Self { mirror, place, head, body } = self;
        let metrics = &mirror.metrics;
        let asked = tokio::time::timeout(mirror.timeout, ask(&mirror.pool, &head, body.freeze())).await;
        match asked {
            Ok(Ok(())) => metrics.answered.inc(),
            Ok(Err(error)) => {
                tracing::debug!(upstream = %mirror.pool.name, %error, "copy of a request failed");
                metrics.failed.inc();
            }
            Err(_) => metrics.failed.inc(),
        }
        drop(place);
    }
}

/// Sends a copy to one of the servers, by the rules of its upstream: balancing, breaker, health, TLS, protocol, timeouts.
async fn ask(pool: &Pool, head: &RequestHeader, body: Bytes) -> Result<()> {
    let Ok(_passage) = pool.pass().await else {
        return Error::e_explain(ErrorType::ConnectError, "the upstream is busy");
    };
    let Some(ticket) = pool.pick(&mut Tried::default(), Wish::default()) else {
        return Error::e_explain(ErrorType::ConnectError, "no server is fit");
    };
    let endpoint = &ticket.endpoint;
    let peer = endpoint.template.peer(None);
    let mut session = match CONNECTOR.get_http_session(&*peer).await {
        Ok((session, _)) => session,
        Err(error) => {
            pool.note_outcome(endpoint, false);
            if let Some(healthy) = endpoint.health.report(false) {
                tracing::warn!(upstream = %pool.name, endpoint = %endpoint.label, healthy, "endpoint health changed");
            }
            return Err(error);
        }
    };
    endpoint.health.connected();
    session.set_read_timeout(peer.options.read_timeout);
    session.set_write_timeout(peer.options.write_timeout);
    match converse(&mut session, head, body, pool.trust().is_some()).await {
        Ok((status, whole)) => {
            pool.note_outcome(endpoint, !outcome::gives_up(status));
            if whole {
                if let HttpSession::H1(http1) = &mut session {
                    http1.respect_keepalive();
                }
                CONNECTOR.release_http_session(session, &*peer, peer.options.idle_timeout).await;
            } else {
                session.shutdown().await;
            }
            Ok(())
        }
        Err(error) => {
            pool.note_outcome(endpoint, false);
            session.shutdown().await;
            Err(error)
        }
    }
}

/// Asks, and reads what comes; whether that was all.
async fn converse(
    session: &mut HttpSession,
    head: &RequestHeader,
    body: Bytes,
    encrypted: bool,
) -> Result<(StatusCode, bool)> {
    let http2 = session.as_http2().is_some();
    session.write_request_header(Box::new(form(head, body.len(), http2, encrypted)?)).await?;
    if !body.is_empty() {
        session.write_request_body(body, true).await?;
    }
    session.finish_request_body().await?;
    let status = loop {
        session.read_response_header().await?;
        let Some(answer) = session.response_header() else {
            return Error::e_explain(ErrorType::InvalidHTTPHeader, "no head");
        };
        // By HTTP/2 only the final head comes here.
        if http2 || !answer.status.is_informational() {
            break answer.status;
        }
    };
    let mut bytes = 0;
    while let Some(piece) = session.read_response_body().await? {
        bytes += piece.len();
        if bytes > ANSWER_BYTES_MAX {
            return Ok((status, false));
        }
    }
    Ok((status, true))
}

/// The head of a copy, in the form that its own connection wants.
fn form(head: &RequestHeader, body_bytes: usize, http2: bool, encrypted: bool) -> Result<RequestHeader> {
    let mut copy = RequestHeader::build(head.method.clone(), head.raw_path(), Some(head.headers.len() + 2))?;
    for (name, value) in head.headers.iter().filter(|(name, _)| !is_of_connection(name, http2)) {
        copy.append_header(name.clone(), value.clone())?;
    }
    copy.insert_header(X_MIRRORED, HeaderValue::from_static("1"))?;
    if body_bytes > 0 || head.headers.contains_key(CONTENT_LENGTH) {
        copy.insert_header(CONTENT_LENGTH, HeaderValue::from(body_bytes))?;
    }
    if http2 {
        let Some(host) = copy.remove_header(&HOST) else {
            return Error::e_explain(ErrorType::InvalidHTTPHeader, "no host");
        };
        let scheme = if encrypted { "https" } else { "http" };
        let uri = Uri::builder().scheme(scheme).authority(host.as_bytes()).path_and_query(head.raw_path()).build();
        copy.set_uri(uri.or_err(ErrorType::InvalidHTTPHeader, "host and path are no URI")?);
        copy.set_version(Version::HTTP_2);
    }
    Ok(copy)
}

/// Whether a field is about the connection that the request itself took, or about how its body was cut.
fn is_of_connection(name: &HeaderName, http2: bool) -> bool {
    let plain = [CONNECTION, CONTENT_LENGTH, EXPECT, TRANSFER_ENCODING, UPGRADE].contains(name);
    plain || (*name == TE && !http2) || ["keep-alive", "proxy-connection", "http2-settings"].contains(&name.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn original() -> RequestHeader {
        let mut head = RequestHeader::build("POST", b"/a?b=c", None).expect("a head");
        for (name, value) in [
            ("host", "api.test"),
            ("connection", "close"),
            ("transfer-encoding", "chunked"),
            ("expect", "100-continue"),
            ("te", "trailers"),
            ("authorization", "Bearer t"),
            ("x-auth-subject", "u-1"),
        ] {
            head.append_header(name, value).expect("a field");
        }
        head
    }

    #[test]
    fn a_copy_has_the_form_of_its_own_connection() {
        let http1 = form(&original(), 4, false, false).expect("a copy");
        assert_eq!((http1.method.as_str(), http1.raw_path()), ("POST", &b"/a?b=c"[..]));
        let fields: Vec<_> = http1.headers.keys().map(HeaderName::as_str).collect();
        for there in ["host", "authorization", "x-auth-subject", "x-mirrored", "content-length"] {
            assert!(fields.contains(&there), "{there} in {fields:?}");
        }
        for gone in ["connection", "transfer-encoding", "expect", "te"] {
            assert!(!fields.contains(&gone), "{gone} in {fields:?}");
        }
        assert_eq!(http1.headers["content-length"], "4");

        let http2 = form(&original(), 0, true, true).expect("a copy");
        assert_eq!(http2.uri.to_string(), "https://api.test/a?b=c");
        assert_eq!(http2.headers["te"], "trailers");
        assert!(!http2.headers.contains_key("host") && !http2.headers.contains_key("content-length"));
    }
}
