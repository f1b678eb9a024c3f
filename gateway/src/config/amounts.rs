//! Amounts: how much, of what, and where it is shared.
//!
//! For: values of `limits` and `stores`, each read by one `Decode`. May touch: nothing.
//! Promises: what was decoded needs no further parsing. Read next: `raw/limits.rs`.

use std::sync::Arc;

use common::settings::{Decode, Decoder, Node, Shape, Value, from_text};
use http::HeaderName;

use crate::base::limiter::Calendar;

/// So many a calendar window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Quota {
    pub count: u32,
    pub calendar: Calendar,
}

/// Part of what a limit counts by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LimitKeyPart {
    /// The client's address, or its IPv6 network.
    ClientIp,
    /// The caller's subject.
    Subject,
    /// The API key.
    Key,
    /// The API key, or the subject where no key was used.
    KeyOrSubject,
    /// A claim of the token.
    Claim(Arc<str>),
    /// A header of the request.
    Header(HeaderName),
    /// The route.
    Route,
}

/// What a limit counts by: one to four parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LimitBy(pub Vec<LimitKeyPart>);

impl Decode for Quota {
    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        from_text(node, decoder, |text| {
            let parsed = text.split_once('/').and_then(|(count, window)| {
                let calendar = match window {
                    "day" => Calendar::Day,
                    "month" => Calendar::Month,
                    _ => return None,
                };
                Some(Self { count: count.parse().ok().filter(|count| *count > 0)?, calendar })
            });
            parsed.ok_or_else(|| format!("{text:?} is not a quota, such as 10000/day or 1000000/month"))
        })
    }

    fn shape() -> Shape {
        Shape::text("quota")
    }
}

/// Parts that a limit may count by at a time.
pub(crate) const LIMIT_PARTS_MAX: usize = 4;

impl LimitKeyPart {
    /// Whether it is known only once the caller is.
    pub(crate) fn needs_identity(&self) -> bool {
        match self {
            Self::ClientIp | Self::Header(_) | Self::Route => false,
            Self::Subject | Self::Key | Self::KeyOrSubject | Self::Claim(_) => true,
        }
    }

    fn parse(text: &str) -> Result<Self, String> {
        let named = |prefix: &str| text.strip_prefix(prefix).filter(|name| !name.is_empty());
        Ok(match text {
            "client.ip" => Self::ClientIp,
            "identity.subject" => Self::Subject,
            "identity.key" => Self::Key,
            "identity.key_or_subject" => Self::KeyOrSubject,
            "route" => Self::Route,
            _ => match (named("identity.claim."), named("header.")) {
                (Some(claim), _) => Self::Claim(claim.into()),
                (_, Some(header)) => Self::Header(
                    HeaderName::try_from(header).map_err(|_| format!("{header:?} is not a header name"))?,
                ),
                (None, None) => {
                    return Err(format!(
                        "{text:?} is nothing to count by; one of: client.ip, identity.subject, identity.key, \
                         identity.key_or_subject, identity.claim.NAME, header.NAME, route"
                    ));
                }
            },
        })
    }
}

impl Decode for LimitBy {
    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        let texts = match &node.value {
            Value::List(_) => Vec::<String>::decode(node, decoder)?,
            _ => vec![String::decode(node, decoder)?],
        };
        let parts: Result<Vec<_>, _> = texts.iter().map(|text| LimitKeyPart::parse(text)).collect();
        match parts {
            Ok(parts) if (1..=LIMIT_PARTS_MAX).contains(&parts.len()) => Some(Self(parts)),
            Ok(_) => {
                decoder.mistake(node.position, format!("one to {LIMIT_PARTS_MAX} things to count by"));
                None
            }
            Err(message) => {
                decoder.mistake(node.position, message);
                None
            }
        }
    }

    fn shape() -> Shape {
        Shape::OneOf(vec![Shape::text("what to count by"), Shape::List(Box::new(Shape::text("what to count by")))])
    }
}
