//! Context: what a stage leaves for later ones, and for the last words.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use common::code::Code;
use http::HeaderValue;

use super::admission::address::Client;
use super::auth::Identity;
use super::dispatch::deadline::{Deadline, WaitsCut};
use super::plan::{Route, Spent};
use super::verdict::Verdict;
use crate::base::failure::Failure;
use crate::base::limiter::Place;
use crate::base::refusal::Refusal;
use crate::base::telemetry::traces::Traced;
use crate::upstream::endpoint::Ticket;
use crate::upstream::gate::Passage;
use crate::upstream::pool::{Pool, Tried};

pub(crate) use crate::base::now::Now;

/// One request's notes.
#[derive(Debug)]
pub(crate) struct Context {
    pub now: Now,
    pub request_id: HeaderValue,
    /// The request's trace, where traces are told.
    pub traced: Option<Traced>,
    pub client: Option<Client>,
    pub route: Option<Arc<Route>>,
    pub identity: Option<Arc<Identity>>,
    pub verdict: Verdict,
    /// What each limit said, in the order in which they were asked.
    pub spent: Vec<Spent>,
    /// Places held until the request is over.
    pub places: Vec<Place>,
    /// The schemes whose credential was there, when none was good.
    pub auth_tried: Vec<Arc<str>>,
    /// Refusals of what is only watched: noted, and not enforced.
    pub shadow: Vec<Shadowed>,
    /// A refusal that is on its way out through Pingora's error path.
    pub pending: Option<Refusal>,
    pub dispatch: DispatchNotes,
}

/// What would have been refused, were it enforced.
#[derive(Clone, Debug)]
pub(crate) struct Shadowed {
    pub code: Code,
    pub policy: Option<Arc<str>>,
}

/// What dispatch keeps from attempt to attempt.
#[derive(Debug, Default)]
pub(crate) struct DispatchNotes {
    /// The upstream that was chosen for it, from the first attempt on.
    pub pool: Option<Arc<Pool>>,
    /// Until when it must be over, from the first attempt on.
    pub deadline: Option<Deadline>,
    /// Which waits of the last attempt it has cut.
    pub waits_cut: WaitsCut,
    pub ticket: Option<Ticket>,
    /// The request's place at its upstream, from the first attempt on.
    pub passage: Option<Passage>,
    pub tried: Tried,
    /// The server that the client is to come back to, where it does not know yet.
    pub stick_to: Option<u64>,
    pub attempts: u32,
    /// When the last attempt began, in steady time.
    pub attempt_began_ns: Option<u64>,
    /// When the head of the answer arrived, in steady time.
    pub answered_ns: Option<u64>,
    /// When its first piece came, in steady time.
    pub body_began_ns: Option<u64>,
    /// Bytes of the request's body seen in this attempt.
    pub body_bytes: u64,
}

impl Context {
    pub(crate) fn new() -> Self {
        Self {
            now: Now::read(),
            request_id: new_request_id(),
            traced: None,
            client: None,
            route: None,
            identity: None,
            verdict: Verdict::Proxied,
            spent: Vec::new(),
            places: Vec::new(),
            auth_tried: Vec::new(),
            shadow: Vec::new(),
            pending: None,
            dispatch: DispatchNotes::default(),
        }
    }

    pub(crate) fn note_client(&mut self, client: Client) {
        self.client = Some(client);
    }

    pub(crate) fn note_route(&mut self, route: &Arc<Route>) {
        self.route = Some(Arc::clone(route));
    }

    pub(crate) fn note_identity(&mut self, identity: Option<Arc<Identity>>) {
        self.identity = identity;
    }

    pub(crate) fn note_refusal(&mut self, refusal: &Refusal) {
        self.verdict = Verdict::Refused { code: refusal.code, policy: refusal.policy.clone() };
    }

    pub(crate) fn note_shadow(&mut self, code: Code, policy: Option<Arc<str>>) {
        self.shadow.push(Shadowed { code, policy });
    }

    pub(crate) fn note_failure(&mut self, failure: Failure) {
        self.verdict = Verdict::Failed(failure);
    }

    /// The upstream that was chosen for it, once one was.
    pub(crate) fn pool(&self) -> Option<&Arc<Pool>> {
        self.dispatch.pool.as_ref()
    }

    /// An attempt at an upstream has failed.
    pub(crate) fn note_attempt_failed(&mut self, failure: Failure) {
        if let Some(traced) = &mut self.traced {
            traced.attempt_failed(failure.word());
        }
    }

    /// The client's address, once it is known.
    pub(crate) fn client_ip(&self) -> Option<IpAddr> {
        self.client.map(|client| client.ip)
    }
}

/// A `UUIDv7` (RFC 9562 §5.7): sorts by time, so that a log can be searched by it.
fn new_request_id() -> HeaderValue {
    let mut text = [0; uuid::fmt::Hyphenated::LENGTH];
    let text = uuid::Uuid::now_v7().hyphenated().encode_lower(&mut text);
    // Hexadecimal digits and hyphens are always a header value.
    HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static("-"))
}

/// Milliseconds since the Unix epoch.
pub(crate) fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
