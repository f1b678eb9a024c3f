//! Wire: the messages of the sub-protocol graphql-transport-ws.
//!
//! For: what client and server say to each other on a WebSocket, and how a connection ends. May touch: nothing.
//! Promises: names and close codes are those of the protocol; a reason fits its frame.
//! Read next: `socket.rs`, which speaks it.

use async_graphql::ServerError;
use axum::extract::ws::{CloseFrame, Message};
use common::code::Code;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::outcome::Outcome;
use crate::api::error::ApiError;

/// The sub-protocol's name.
pub(super) const PROTOCOL: &str = "graphql-transport-ws";

/// The longest reason that fits a close frame, in bytes (RFC 6455 §5.5).
const REASON_BYTES_MAX: usize = 123;

/// What a client says.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum FromClient {
    /// Who it is, first of all.
    ConnectionInit {
        #[serde(default)]
        payload: Option<Value>,
    },
    /// Whether we are there.
    Ping,
    /// That it is there.
    Pong,
    /// What it asks.
    Subscribe { id: String, payload: Value },
    /// That it wants no more of it.
    Complete { id: String },
}

/// What we say.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum ToClient<'a> {
    /// We know who it is.
    ConnectionAck,
    /// We are there.
    Pong,
    /// One outcome, perhaps of many.
    Next { id: &'a str, payload: &'a Outcome },
    /// There is none, and nothing follows.
    Error { id: &'a str, payload: &'a [ServerError] },
    /// Nothing follows.
    Complete { id: &'a str },
}

/// How we end a connection, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Close {
    pub(super) code: u16,
    reason: String,
}

impl Close {
    fn new(code: u16, reason: impl Into<String>) -> Self {
        Self { code, reason: reason.into() }
    }

    /// The program ends.
    pub(super) fn going_away() -> Self {
        Self::new(1001, "the server is ending")
    }

    /// The connection does not keep to WebSocket.
    pub(super) fn not_websocket() -> Self {
        Self::new(1002, "what came is not WebSocket")
    }

    /// A message is larger than allowed.
    pub(super) fn too_large(bytes_max: usize) -> Self {
        Self::new(1009, format!("a message is larger than {bytes_max} bytes"))
    }

    /// A message is none of the protocol's.
    pub(super) fn invalid(why: &impl std::fmt::Display) -> Self {
        Self::new(4400, format!("Invalid message: {why}"))
    }

    /// Something was asked before the client said who it is.
    pub(super) fn unknown() -> Self {
        Self::new(4401, "Unauthorized")
    }

    /// The client did not say in time who it is.
    pub(super) fn init_timeout() -> Self {
        Self::new(4408, "Connection initialisation timeout")
    }

    /// Two operations of one name.
    pub(super) fn taken(id: &str) -> Self {
        Self::new(4409, format!("Subscriber for {id} already exists"))
    }

    /// The client said twice who it is.
    pub(super) fn init_again() -> Self {
        Self::new(4429, "Too many initialisation requests")
    }

    /// The client may not be here, or we cannot tell whether it may.
    pub(super) fn refused(error: ApiError) -> Self {
        let code = error.told().code;
        let kind = match code.status() {
            401 => 4401,
            403 => 4403,
            503 => 1013,
            _ => 1011,
        };
        Self::new(kind, format!("{}: {}", code.name(), code.title()))
    }

    /// Whether the client is at fault, so that it will not be otherwise in a moment.
    pub(super) fn is_final(&self) -> bool {
        self.code != 1013
    }

    /// The frame that says it.
    pub(super) fn frame(&self) -> Message {
        let mut end = self.reason.len().min(REASON_BYTES_MAX);
        while !self.reason.is_char_boundary(end) {
            end -= 1;
        }
        Message::Close(Some(CloseFrame { code: self.code, reason: self.reason[..end].into() }))
    }
}

/// The refusal of an operation that cannot be taken on.
pub(super) fn overloaded(why: String) -> ServerError {
    super::errors::refused(Code::Overloaded, why, None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::{AuthError, TokenError};

    #[test]
    fn the_messages_have_the_protocols_names() {
        let texts = [
            (ToClient::ConnectionAck, "{\"type\":\"connection_ack\"}"),
            (ToClient::Pong, "{\"type\":\"pong\"}"),
            (ToClient::Complete { id: "1" }, "{\"type\":\"complete\",\"id\":\"1\"}"),
        ];
        for (message, text) in texts {
            assert_eq!(serde_json::to_string(&message).expect("JSON"), text);
        }
        for text in [
            "{\"type\":\"connection_init\"}",
            "{\"type\":\"connection_init\",\"payload\":{\"x\":1}}",
            "{\"type\":\"ping\",\"payload\":{}}",
            "{\"type\":\"pong\"}",
            "{\"type\":\"subscribe\",\"id\":\"1\",\"payload\":{}}",
            "{\"type\":\"complete\",\"id\":\"1\"}",
        ] {
            assert!(serde_json::from_str::<FromClient>(text).is_ok(), "{text}");
        }
        for text in ["{}", "{\"type\":\"start\"}", "{\"type\":\"subscribe\",\"id\":7,\"payload\":{}}", "[]"] {
            assert!(serde_json::from_str::<FromClient>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn refusals_become_close_codes() {
        let cases = [
            (ApiError::from(TokenError::Expired), 4401),
            (
                ApiError::from(AuthError::PermissionMissing { missing: common::access::Permission::GraphqlAccess }),
                4403,
            ),
            (ApiError::from(AuthError::Overloaded), 1013),
            (ApiError::internal("a fault"), 1011),
        ];
        for (error, code) in cases {
            assert_eq!(Close::refused(error).code, code);
        }
    }

    #[test]
    fn a_reason_fits_its_frame() {
        let Message::Close(Some(frame)) = Close::invalid(&"ä".repeat(200)).frame() else { panic!("a close frame") };
        assert!(frame.reason.len() <= REASON_BYTES_MAX && frame.reason.ends_with('ä'), "{}", frame.reason);
    }
}
