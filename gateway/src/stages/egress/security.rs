//! Security headers: what browsers are told on every answer, where the configuration says so.

use http::header::{REFERRER_POLICY, STRICT_TRANSPORT_SECURITY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS};
use http::{HeaderName, HeaderValue};

use crate::config::checked::{FrameOptions, ReferrerPolicy, SecurityHeaders};
use crate::stages::dispatch::forward::HeaderSink;

/// The fields, ready to be said.
#[derive(Debug)]
pub(crate) struct Security {
    fields: Box<[(HeaderName, HeaderValue)]>,
    /// `Strict-Transport-Security`, which means something on TLS alone (RFC 6797 §7.2).
    hsts: Option<HeaderValue>,
    /// Whether they replace an upstream's.
    replaces: bool,
}

impl Security {
    /// Puts what is to be said into header values.
    pub(crate) fn new(settings: &SecurityHeaders) -> Self {
        let fields = [
            (X_CONTENT_TYPE_OPTIONS, settings.content_type_options.then_some("nosniff")),
            (X_FRAME_OPTIONS, settings.frame_options.map(FrameOptions::word)),
            (REFERRER_POLICY, settings.referrer_policy.map(ReferrerPolicy::word)),
        ];
        Self {
            fields: fields
                .into_iter()
                .filter_map(|(name, word)| word.map(|word| (name, HeaderValue::from_static(word))))
                .collect(),
            hsts: settings.hsts.as_ref().map(|hsts| hsts.value.0.clone()),
            replaces: settings.r#override,
        }
    }

    /// Says them.
    pub(crate) fn tell(&self, encrypted: bool, sink: &mut impl HeaderSink) {
        for (name, value) in &self.fields {
            self.say(name.clone(), value, sink);
        }
        if let Some(hsts) = self.hsts.as_ref().filter(|_| encrypted) {
            self.say(STRICT_TRANSPORT_SECURITY, hsts, sink);
        }
    }

    fn say(&self, name: HeaderName, value: &HeaderValue, sink: &mut impl HeaderSink) {
        if self.replaces || !sink.fields().contains_key(&name) {
            sink.set(name, value.clone());
        }
    }
}
