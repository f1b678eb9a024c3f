//! Events: a stream of server-sent events, read as it comes.
//!
//! For: what a client sees of a streamed answer, and when. May touch: loopback sockets.
//! Promises: no event is waited for longer than `PATIENCE`; dropping it closes the connection.
//! Read next: `streams.rs` in the folder above.

use reqwest::{RequestBuilder, Response};
use serde_json::Value;
use testkit::wait::{PATIENCE, within};

/// A stream that was begun.
pub struct Events {
    response: Response,
    /// What has come of the next event.
    buffer: Vec<u8>,
}

/// One event, or one comment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its name; empty where it has none, and `:` for a comment.
    pub name: String,
    /// Its data, or the comment's text.
    pub data: String,
}

impl Event {
    /// Its data as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.data).unwrap_or_else(|error| panic!("no JSON ({error}): {self:?}"))
    }
}

impl Events {
    /// Sends a request whose answer must be a stream.
    pub async fn open(request: RequestBuilder) -> Self {
        let response = within("the head of a stream", PATIENCE, request.send()).await.expect("an answer");
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        if status == 200 && headers.get("content-type").is_some_and(|value| value == "text/event-stream") {
            return Self { response, buffer: Vec::new() };
        }
        panic!("no stream but {status} {headers:?}: {:?}", response.text().await);
    }

    /// A field's value as text; empty when the field is not there.
    pub fn header(&self, name: &str) -> &str {
        self.response.headers().get(name).map_or("", |value| value.to_str().expect("header fields are text"))
    }

    /// The next event or comment; `None` at the end.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(place) = self.buffer.windows(2).position(|pair| pair == b"\n\n") {
                let event: Vec<u8> = self.buffer.drain(..place + 2).collect();
                return Some(parse(std::str::from_utf8(&event).expect("text")));
            }
            let chunk = within("an event", PATIENCE, self.response.chunk()).await.expect("the stream does not break");
            let Some(chunk) = chunk else {
                assert!(self.buffer.is_empty(), "the stream ends within an event: {:?}", self.buffer);
                return None;
            };
            self.buffer.extend_from_slice(&chunk);
        }
    }

    /// The next event that is no comment; there must be one.
    pub async fn event(&mut self) -> Event {
        loop {
            let event = self.next().await.expect("another event");
            if event.name != ":" {
                return event;
            }
        }
    }

    /// Every further event that is no comment.
    pub async fn rest(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        while let Some(event) = self.next().await {
            if event.name != ":" {
                events.push(event);
            }
        }
        events
    }
}

/// The text of all `delta` events.
pub fn text_of(events: &[Event]) -> String {
    let deltas = events.iter().filter(|event| event.name == "delta");
    deltas.map(|event| event.json()["text"].as_str().expect("a text").to_owned()).collect()
}

fn parse(text: &str) -> Event {
    let mut event = Event { name: String::new(), data: String::new() };
    for line in text.lines().filter(|line| !line.is_empty()) {
        match line.split_once(": ") {
            Some(("event", name)) => name.clone_into(&mut event.name),
            Some(("data", data)) => event.data.push_str(data),
            Some(("", comment)) => event = Event { name: ":".into(), data: comment.into() },
            _ => panic!("an unexpected line {line:?} in {text:?}"),
        }
    }
    event
}
