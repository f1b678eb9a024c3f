//! Socket: a client of graphql-transport-ws that says exactly what a test tells it to.
//!
//! For: subscriptions, and everything that a client may do wrong on a WebSocket. May touch: loopback sockets.
//! Promises: no wait is without a deadline. Read next: `graphql_socket.rs` in the folder above.

use futures::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use testkit::wait::{PATIENCE, within};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::ClientRequestBuilder;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use super::backend::Backend;

/// The sub-protocol.
pub const PROTOCOL: &str = "graphql-transport-ws";

/// An open WebSocket.
pub struct Socket {
    stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

impl Socket {
    /// Opens one at a path of the listener of GraphQL, with these header fields.
    pub async fn open(backend: &Backend, path: &str, headers: &[(&str, &str)]) -> Self {
        let address = backend.graphql_url(path).replacen("http://", "ws://", 1);
        let uri = address.parse().expect("an address");
        let mut request = ClientRequestBuilder::new(uri).with_sub_protocol(PROTOCOL);
        for (name, value) in headers {
            request = request.with_header(*name, *value);
        }
        let opened = within("the WebSocket opens", PATIENCE, connect_async(request)).await;
        let (stream, response) = opened.unwrap_or_else(|error| panic!("no WebSocket at {path}: {error}"));
        let chosen = response.headers().get("sec-websocket-protocol").and_then(|value| value.to_str().ok());
        assert_eq!(chosen, Some(PROTOCOL), "{response:?}");
        Self { stream }
    }

    /// Opens one, and says who it is by an access token.
    pub async fn known(backend: &Backend, token: &str) -> Self {
        let mut socket = Self::open(backend, "/graphql", &[]).await;
        socket.init(&json!({ "authorization": format!("Bearer {token}") })).await;
        socket
    }

    /// Says who it is, and expects to be welcome.
    pub async fn init(&mut self, payload: &Value) {
        self.say(&json!({ "type": "connection_init", "payload": payload })).await;
        assert_eq!(self.hear().await["type"], "connection_ack");
    }

    /// Sends a message.
    pub async fn say(&mut self, message: &Value) {
        self.send(Message::text(message.to_string())).await;
    }

    /// Sends anything.
    pub async fn send(&mut self, message: Message) {
        let sent = within("a message is sent", PATIENCE, self.stream.send(message)).await;
        sent.expect("the connection is open");
    }

    /// Starts an operation.
    pub async fn subscribe(&mut self, id: &str, document: &str) {
        self.say(&json!({ "type": "subscribe", "id": id, "payload": { "query": document } })).await;
    }

    /// The next message.
    pub async fn hear(&mut self) -> Value {
        loop {
            match self.frame().await {
                Message::Text(text) => break serde_json::from_str(&text).expect("messages are JSON"),
                Message::Ping(_) | Message::Pong(_) => {}
                other => panic!("a message was expected: {other:?}"),
            }
        }
    }

    /// The next frame, whatever it is.
    pub async fn frame(&mut self) -> Message {
        let frame = within("the backend says something", PATIENCE, self.stream.next()).await;
        frame.expect("the connection is open").expect("the frame is sound")
    }

    /// Waits until the backend closes the connection, and returns its code. What comes before is passed over.
    pub async fn closed(&mut self) -> u16 {
        loop {
            if let Message::Close(frame) = self.frame().await {
                break frame.expect("the backend says why").code.into();
            }
        }
    }
}
