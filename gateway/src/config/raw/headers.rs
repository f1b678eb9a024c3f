//! Keys of `request_headers`, `response_headers` and `security_headers`: what is said besides.

use common::settings::{At, Named};
use common::{choice, section};

use crate::config::fields::{FieldName, FieldValue};

section! {
    /// What an upstream is told besides. Fields about the connection, and those by which only the gateway speaks
    /// (`X-Auth-*`, `X-Forwarded-*`, `Forwarded`, `Via`, `X-Request-ID`, `Client-Cert`), are not to be had.
    pub(crate) struct RequestRules {
        /// Fields to set, in place of what the client sent under that name.
        pub set: Named<FieldValue> = "{}",
        /// Fields of the client to take away.
        pub remove: Vec<At<FieldName>> = "[]",
    }
}

section! {
    /// What a client is told besides by an upstream's answer. Fields about the connection and the body's form, and those by
    /// which only the gateway speaks (`X-Request-ID`, `Proxy-Status`), are not to be had.
    pub(crate) struct ResponseRules {
        /// Fields to set, in place of what the upstream sent under that name.
        pub set: Named<FieldValue> = "{}",
        /// Fields to add to what the upstream sent under that name.
        pub add: Named<FieldValue> = "{}",
        /// Fields of the upstream to take away.
        pub remove: Vec<At<FieldName>> = "[]",
    }
}

impl RequestRules {
    /// Whether nothing is changed.
    pub(crate) fn is_empty(&self) -> bool {
        self.set.items.is_empty() && self.remove.is_empty()
    }
}

impl ResponseRules {
    /// Whether nothing is changed.
    pub(crate) fn is_empty(&self) -> bool {
        self.set.items.is_empty() && self.add.items.is_empty() && self.remove.is_empty()
    }
}

choice! {
    /// Who may show an answer in a frame.
    pub(crate) enum FrameOptions {
        /// Nobody.
        Deny = "DENY",
        /// Pages of the same origin.
        SameOrigin = "SAMEORIGIN",
    }
}

choice! {
    /// What browsers tell others of the page that they come from (<https://www.w3.org/TR/referrer-policy/>).
    pub(crate) enum ReferrerPolicy {
        /// Nothing.
        NoReferrer = "no-referrer",
        /// Nothing to plain HTTP.
        NoReferrerWhenDowngrade = "no-referrer-when-downgrade",
        /// The URL to the same origin.
        SameOrigin = "same-origin",
        /// The origin.
        Origin = "origin",
        /// The origin, and nothing to plain HTTP.
        StrictOrigin = "strict-origin",
        /// The URL to the same origin, the origin to others.
        OriginWhenCrossOrigin = "origin-when-cross-origin",
        /// The same, and nothing to plain HTTP.
        StrictOriginWhenCrossOrigin = "strict-origin-when-cross-origin",
        /// The URL to everybody.
        UnsafeUrl = "unsafe-url",
    }
}

section! {
    /// What browsers are told on every answer, also on refusals.
    pub(crate) struct SecurityHeaders {
        /// `Strict-Transport-Security` (RFC 6797), told on TLS alone, such as `max-age=31536000; includeSubDomains`.
        pub hsts: Option<At<FieldValue>> = "null",
        /// `X-Content-Type-Options: nosniff`: that the media type of an answer holds.
        pub content_type_options: bool = "true",
        /// `X-Frame-Options`: who may show an answer in a frame.
        pub frame_options: Option<FrameOptions> = "null",
        /// `Referrer-Policy`: what is told to others of the page.
        pub referrer_policy: Option<ReferrerPolicy> = "null",
        /// Whether these replace what an upstream says under their names; otherwise its word stands.
        pub r#override: bool = "false",
    }
}
