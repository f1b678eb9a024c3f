//! Keys of `traces`: where spans are told, and of how many requests.
//!
//! For: both programs' configuration. May touch: secret references, in `resolve` alone.
//! Promises: what the fields sent along hold is a secret, and never stands in an error. Read next: `export.rs`.

use std::time::Duration;

use reqwest::Url;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

use super::trace::Sampling;
use crate::secret::SecretRef;
use crate::section;
use crate::settings::{At, Decode, Decoder, Millis, Named, Node, Percent, Shape, from_text};

/// The path that OTLP over HTTP has for traces, where the address names none.
const DEFAULT_PATH: &str = "/v1/traces";

/// The most spans that may be set to wait. With ten attributes each that is about a gigabyte.
const QUEUE_SPANS_MAX: u32 = 1_000_000;

/// A collector's address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CollectorUrl(Url);

section! {
    /// Traces, told to a collector by OTLP over HTTP (protobuf). Read at start only; absent, nothing is told.
    pub struct Traces {
        /// The collector's address, such as `http://127.0.0.1:4318`. Where it has no path, `/v1/traces` is taken.
        pub otlp: At<CollectorUrl> => "write the collector's address, such as http://127.0.0.1:4318",
        /// Fields that are sent along, such as `Authorization`, each with the place where its value is kept.
        pub headers: Named<At<SecretRef>> = "{}",
        /// Of how many requests is told. Where a trusted peer has decided already, its decision holds.
        pub sample: Percent = "10%",
        /// How long the collector may take to accept a batch, repetitions included.
        pub timeout: At<Millis> = "5s",
        /// Spans that may wait for the collector; more are dropped and counted.
        pub queue_max: At<u32> = "4096",
    }
}

/// The same, ready for use.
#[derive(Clone, Debug)]
pub struct Settings {
    pub(super) endpoint: Url,
    /// Marked as secrets: they do not print.
    pub(super) headers: HeaderMap,
    pub(super) sampling: Sampling,
    pub(super) timeout: Duration,
    pub(super) queue_max: usize,
}

impl Traces {
    /// What must hold between a key and its range.
    pub fn check(&self, decoder: &mut Decoder) {
        if self.timeout.value.duration().is_zero() {
            decoder.mistake_at(&self.timeout, "must be longer than nothing");
        }
        if !(1..=QUEUE_SPANS_MAX).contains(&self.queue_max.value) {
            let message = format!("{} is out of range: 1 to {QUEUE_SPANS_MAX}", self.queue_max.value);
            decoder.mistake_at(&self.queue_max, message);
        }
    }

    /// Reads the secrets.
    ///
    /// # Errors
    /// Every field whose value cannot be had or sent, at its place.
    pub fn resolve(&self) -> Result<Settings, Vec<(At<()>, String)>> {
        let mut headers = HeaderMap::new();
        let mut mistakes = Vec::new();
        for (name, reference) in &self.headers.items {
            match header(&name.value, &reference.value) {
                Ok((name, value)) => drop(headers.insert(name, value)),
                Err(message) => mistakes.push((reference.with(()), message)),
            }
        }
        if !mistakes.is_empty() {
            return Err(mistakes);
        }
        Ok(Settings {
            endpoint: self.otlp.value.0.clone(),
            headers,
            sampling: Sampling::share(self.sample.percent()),
            timeout: self.timeout.value.duration(),
            queue_max: usize::try_from(self.queue_max.value).unwrap_or(usize::MAX),
        })
    }
}

fn header(name: &str, reference: &SecretRef) -> Result<(HeaderName, HeaderValue), String> {
    let name = HeaderName::from_bytes(name.as_bytes());
    let name = name.map_err(|_| "is not the name of a header field".to_owned())?;
    let secret = reference.resolve().map_err(|error| error.to_string())?;
    let mut value = HeaderValue::from_str(secret.expose())
        .map_err(|_| "what is kept there cannot be sent in a header field".to_owned())?;
    value.set_sensitive(true);
    Ok((name, value))
}

impl CollectorUrl {
    fn parse(text: &str) -> Option<Self> {
        let mut url: Url = text.parse().ok()?;
        let usable = matches!(url.scheme(), "http" | "https")
            && url.has_host()
            && url.username().is_empty()
            && url.password().is_none()
            // What is wrong with a collector is logged with its address, and a query is where some put a key.
            && url.query().is_none()
            && url.fragment().is_none();
        if url.path() == "/" {
            url.set_path(DEFAULT_PATH);
        }
        usable.then_some(Self(url))
    }
}

impl Decode for CollectorUrl {
    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        // The text is not repeated: it may hold a password, which belongs into `headers`.
        let expected = "is not an http or https address without credentials and query, such as http://127.0.0.1:4318";
        from_text(node, decoder, |text| Self::parse(text).ok_or_else(|| expected.to_owned()))
    }

    fn shape() -> Shape {
        Shape::text("http or https address")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_without_a_path_gets_the_usual_one() {
        for (written, expected) in [
            ("http://127.0.0.1:4318", Some("http://127.0.0.1:4318/v1/traces")),
            ("https://otlp.example.org/", Some("https://otlp.example.org/v1/traces")),
            ("https://otlp.example.org/in/traces", Some("https://otlp.example.org/in/traces")),
            ("https://me:secret@otlp.example.org", None),
            ("https://otlp.example.org/v1/traces?key=secret", None),
            ("grpc://127.0.0.1:4317", None),
            ("127.0.0.1:4318", None),
        ] {
            let parsed = CollectorUrl::parse(written).map(|url| url.0.to_string());
            assert_eq!(parsed.as_deref(), expected, "{written}");
        }
    }
}
