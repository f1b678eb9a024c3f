//! Socket: GraphQL over WebSocket, with the sub-protocol graphql-transport-ws.
//!
//! For: subscriptions, and everything else on the same connection. May touch: the connection, `engine.rs`.
//! Promises: nothing is asked before the client has said who it is; a credential is verified again for every operation
//! and every `CREDENTIAL_CHECK_PERIOD`, so that an expired token or a revoked key ends the connection; messages,
//! operations and waits are bounded; when the program ends, what runs is finished and nothing new begun.
//! Read next: `wire.rs` for the messages, `operations.rs` for what runs.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Extension;
use axum::extract::rejection::ExtensionRejection;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::response::Response;
use common::code::Code;
use http::HeaderMap;
use tokio::sync::watch;
use tracing::Instrument as _;

use super::credentials::Shown;
use super::engine::{Asker, Engine};
use super::errors::refused;
use super::operations::{Operations, Part};
use super::outcome::Outcome;
use super::request;
use super::wire::{Close, FromClient, PROTOCOL, ToClient, overloaded};
use crate::api::Services;
use crate::api::error::ApiError;
use crate::api::middleware::Origin;
use crate::api::server::Connected;
use crate::base::trace;
use crate::config::GraphqlSocket;

/// How often the clocks of a connection are looked at.
const TICK: Duration = Duration::from_secs(1);
/// How often a credential is verified again.
const CREDENTIAL_CHECK_PERIOD: Duration = Duration::from_secs(5);
/// How long a message may take to be taken off our hands.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the other end may take to agree that the connection is over.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// Pings in vain after which a silent client is gone.
const PINGS_MAX: u32 = 2;
/// The longest name that a client may give to an operation, in bytes.
const ID_BYTES_MAX: usize = 128;

/// Turns a request into a WebSocket.
///
/// # Errors
/// `request_malformed` when it is none, or does not offer the sub-protocol.
pub(super) fn open(
    engine: &Arc<Engine>,
    services: &Arc<Services>,
    origin: Origin,
    headers: HeaderMap,
    connected: Result<Extension<Connected>, ExtensionRejection>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, ApiError> {
    let Extension(connected) = connected.map_err(ApiError::internal)?;
    let bounds = engine.settings.socket;
    let upgrade = upgrade
        .map_err(|rejection| ApiError::new(Code::RequestMalformed, rejection.body_text()))?
        .max_message_size(bounds.message_bytes_max)
        .max_frame_size(bounds.message_bytes_max)
        .protocols([PROTOCOL]);
    if upgrade.selected_protocol().is_none() {
        return Err(ApiError::new(Code::RequestMalformed, format!("offer the sub-protocol {PROTOCOL}")));
    }
    let span = tracing::info_span!("socket", request_id = origin.request_id);
    let talk = Talk::new(Arc::clone(engine), Arc::clone(services), origin, headers, connected);
    // The conversation has a task of its own; what is asked in it stands below the request that began it.
    let current = trace::current();
    Ok(upgrade.on_upgrade(move |stream| trace::around(current, Box::pin(talk.serve(stream).instrument(span)))))
}

/// Why a conversation is over.
enum End {
    /// We end it.
    Close(Close),
    /// The other end did, or cannot be reached.
    Gone,
}

impl From<Close> for End {
    fn from(close: Close) -> Self {
        Self::Close(close)
    }
}

/// What happens next.
enum Event {
    Received(Option<Result<Message, axum::Error>>),
    Part(String, Part),
    Tick,
    Stop,
}

/// One conversation.
struct Talk {
    engine: Arc<Engine>,
    services: Arc<Services>,
    bounds: GraphqlSocket,
    origin: Origin,
    /// Of the upgrade; they may hold the credential.
    headers: HeaderMap,
    /// Holds the connection's place for as long as the conversation lasts.
    connected: Connected,
    /// What the client has shown; `None` before it has.
    shown: Option<Shown>,
    operations: Operations,
    /// The program ends: nothing new is begun.
    ending: bool,
    clocks: Clocks,
}

/// When what last happened.
struct Clocks {
    opened: Instant,
    heard: Instant,
    pinged: Instant,
    verified: Instant,
}

impl Talk {
    fn new(
        engine: Arc<Engine>,
        services: Arc<Services>,
        origin: Origin,
        headers: HeaderMap,
        connected: Connected,
    ) -> Self {
        let now = Instant::now();
        Self {
            bounds: engine.settings.socket,
            engine,
            services,
            origin,
            headers,
            connected,
            shown: None,
            operations: Operations::default(),
            ending: false,
            clocks: Clocks { opened: now, heard: now, pinged: now, verified: now },
        }
    }

    async fn serve(mut self, mut stream: WebSocket) {
        let _open = self.services.metrics.graphql_socket();
        let end = self.talk(&mut stream).await;
        // Whatever the end is, nobody waits for these any more.
        self.operations = Operations::default();
        let code = if let End::Close(close) = &end { Some(close.code) } else { None };
        tracing::info!(client = %self.origin.address, code, lived = ?self.clocks.opened.elapsed(), "socket closed");
        if let End::Close(close) = end {
            // Who cannot be told will notice.
            let _ = tokio::time::timeout(SEND_TIMEOUT, stream.send(close.frame())).await;
        }
        // What is still on its way must be read, or the system resets the connection before our last words are heard.
        let rest = async { while let Some(Ok(_)) = stream.recv().await {} };
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, rest).await;
        // Only now may another take the connection's place.
        drop(self.connected.held);
    }

    async fn talk(&mut self, stream: &mut WebSocket) -> End {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut stop = self.connected.stop.clone();
        loop {
            let event = tokio::select! {
                message = stream.recv() => Event::Received(message),
                Some((id, part)) = self.operations.next() => Event::Part(id, part),
                _ = ticks.tick() => Event::Tick,
                () = stopped(&mut stop), if !self.ending => Event::Stop,
            };
            if let Err(end) = self.on(event, stream).await {
                return end;
            }
            if self.ending && self.operations.is_empty() {
                return Close::going_away().into();
            }
        }
    }

    async fn on(&mut self, event: Event, stream: &mut WebSocket) -> Result<(), End> {
        match event {
            Event::Received(received) => {
                self.clocks.heard = Instant::now();
                match self.text_of(received)? {
                    Some(text) => self.on_text(&text, stream).await,
                    None => Ok(()),
                }
            }
            Event::Part(id, part) => self.on_part(&id, part, stream).await,
            Event::Tick => self.on_tick(stream).await,
            Event::Stop => {
                self.ending = true;
                Ok(())
            }
        }
    }

    /// The text of a message; `None` for what WebSocket itself takes care of.
    fn text_of(&self, received: Option<Result<Message, axum::Error>>) -> Result<Option<String>, End> {
        match received {
            Some(Ok(Message::Text(text))) => Ok(Some(text.as_str().to_owned())),
            Some(Ok(Message::Binary(_))) => Err(Close::invalid(&"it is not text").into()),
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => Ok(None),
            Some(Ok(Message::Close(_))) | None => Err(End::Gone),
            // The library's own type is hidden; its words are all there is to tell one from the other.
            Some(Err(error)) if error.to_string().contains("too long") => {
                Err(Close::too_large(self.bounds.message_bytes_max).into())
            }
            Some(Err(_)) => Err(Close::not_websocket().into()),
        }
    }

    async fn on_text(&mut self, text: &str, stream: &mut WebSocket) -> Result<(), End> {
        let message = serde_json::from_str(text).map_err(|error: serde_json::Error| Close::invalid(&error))?;
        match message {
            FromClient::ConnectionInit { payload } => {
                if self.shown.is_some() {
                    return Err(Close::init_again().into());
                }
                let shown = Shown::read(payload.as_ref(), &self.headers).map_err(Close::refused)?;
                shown.verify(&self.services).await.map_err(Close::refused)?;
                self.shown = Some(shown);
                self.clocks.verified = Instant::now();
                send(stream, &ToClient::ConnectionAck).await
            }
            FromClient::Ping => send(stream, &ToClient::Pong).await,
            FromClient::Pong => Ok(()),
            FromClient::Subscribe { id, payload } => self.on_subscribe(id, payload, stream).await,
            FromClient::Complete { id } => {
                self.operations.stop(&id);
                Ok(())
            }
        }
    }

    async fn on_subscribe(
        &mut self,
        id: String,
        payload: serde_json::Value,
        stream: &mut WebSocket,
    ) -> Result<(), End> {
        let shown = self.shown.as_ref().ok_or_else(Close::unknown)?;
        if id.is_empty() || id.len() > ID_BYTES_MAX {
            return Err(Close::invalid(&format!("an id has 1 to {ID_BYTES_MAX} bytes")).into());
        }
        if self.operations.contains(&id) {
            return Err(Close::taken(&id).into());
        }
        let caller = shown.verify(&self.services).await.map_err(Close::refused)?;
        let refusal = if self.ending {
            Some(overloaded("the server is ending".to_owned()))
        } else if self.operations.len() >= self.bounds.operations_max {
            Some(overloaded(format!("{} operations run on this connection already", self.operations.len())))
        } else {
            None
        };
        let asked = match refusal {
            Some(refusal) => Err(refusal),
            None => request::from_value(payload),
        };
        match asked {
            Ok(asked) => {
                let who = Asker { caller, origin: self.origin.clone() };
                self.operations.start(id, self.engine.answers(asked, who), self.engine.operation_timeout);
                Ok(())
            }
            Err(error) => {
                let outcome = self.engine.refuse(error, &self.origin.request_id);
                send(stream, &ToClient::Error { id: &id, payload: outcome.errors() }).await
            }
        }
    }

    async fn on_part(&mut self, id: &str, part: Part, stream: &mut WebSocket) -> Result<(), End> {
        let outcome = match part {
            Part::Next(outcome) if !outcome.is_refusal() => {
                return send(stream, &ToClient::Next { id, payload: &outcome }).await;
            }
            Part::Last => {
                self.operations.stop(id);
                return send(stream, &ToClient::Complete { id }).await;
            }
            Part::Next(refusal) => refusal,
            Part::Late => {
                let message = format!("the operation was not finished within {:?}", self.engine.operation_timeout);
                let error = refused(Code::DependencyUnavailable, message, None);
                Outcome::refused(error, &self.origin.request_id)
            }
        };
        self.operations.stop(id);
        send(stream, &ToClient::Error { id, payload: outcome.errors() }).await
    }

    async fn on_tick(&mut self, stream: &mut WebSocket) -> Result<(), End> {
        let now = Instant::now();
        let Some(shown) = &self.shown else {
            if now.duration_since(self.clocks.opened) >= self.bounds.init_timeout {
                return Err(Close::init_timeout().into());
            }
            return Ok(());
        };
        if now.duration_since(self.clocks.verified) >= CREDENTIAL_CHECK_PERIOD {
            self.clocks.verified = now;
            // A database that is away for a moment ends nothing that was allowed to begin.
            match shown.verify(&self.services).await.map_err(Close::refused) {
                Err(close) if close.is_final() => return Err(close.into()),
                _ => {}
            }
        }
        let silent = now.duration_since(self.clocks.heard);
        if silent >= self.bounds.ping_period * (PINGS_MAX + 1) {
            return Err(End::Gone);
        }
        if silent >= self.bounds.ping_period && now.duration_since(self.clocks.pinged) >= self.bounds.ping_period {
            self.clocks.pinged = now;
            return deliver(stream, Message::Ping(axum::body::Bytes::new())).await;
        }
        Ok(())
    }
}

/// Until the program is to end.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error means that nobody can tell us any more, which is as good as being told.
    let _ = stop.wait_for(|stop| *stop).await;
}

async fn send(stream: &mut WebSocket, message: &ToClient<'_>) -> Result<(), End> {
    let text = serde_json::to_string(message).map_err(|error| Close::refused(ApiError::internal(error)))?;
    deliver(stream, Message::Text(text.into())).await
}

async fn deliver(stream: &mut WebSocket, message: Message) -> Result<(), End> {
    match tokio::time::timeout(SEND_TIMEOUT, stream.send(message)).await {
        Ok(Ok(())) => Ok(()),
        // Broken, or full because nobody reads.
        Ok(Err(_)) | Err(_) => Err(End::Gone),
    }
}
