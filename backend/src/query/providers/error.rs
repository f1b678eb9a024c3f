//! Provider errors: which step failed, and what may be done about it.
//!
//! For: `../failover.rs`, which asks again or elsewhere, and the log. May touch: reqwest's errors.
//! Promises: addresses are taken out of them; none holds a key. Read next: `../failover.rs`.

use std::time::Duration;

use common::body::BodyError;

/// Why a model gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum ProviderError {
    /// No connection.
    #[error("no connection to the model's server")]
    Connect(#[source] reqwest::Error),
    /// No answer in time, or no further piece of it.
    #[error("no answer of the model's server in time")]
    Timeout,
    /// The connection broke before the answer was complete.
    #[error("the connection to the model's server broke")]
    Broken(#[source] reqwest::Error),
    /// The server answered with another status than 200.
    #[error("the model's server answered {status}")]
    Status {
        /// Which.
        status: u16,
        /// When it wants to be asked again, if it said so in seconds (RFC 9110 §10.2.3).
        retry_after: Option<Duration>,
    },
    /// The answer is larger than allowed.
    #[error("the answer of the model's server is larger than {bytes_max} bytes")]
    TooLarge {
        /// How large it may be.
        bytes_max: usize,
    },
    /// The answer is not what the API promises.
    #[error("the answer of the model's server is not a chat completion")]
    Malformed(#[source] serde_json::Error),
    /// The server told of a failure in the middle of its answer.
    #[error("the model's server failed while it answered")]
    Failed,
    /// The answer ended before its end.
    #[error("the answer of the model's server was cut short")]
    Cut,
    /// The answer holds no text.
    #[error("the answer of the model's server holds no text")]
    Empty,
    /// The server was not asked: it has failed too often a moment ago.
    #[error("the model's server is left alone after failures")]
    LeftAlone {
        /// When it may be asked again.
        retry_after: Duration,
    },
}

impl ProviderError {
    /// What reqwest says, without the address: it may hold what the operator does not want in a log of errors.
    pub(super) fn of(error: reqwest::Error) -> Self {
        let error = error.without_url();
        // A connection that took too long is a failed connection, not a slow model.
        if error.is_connect() {
            Self::Connect(error)
        } else if error.is_timeout() {
            Self::Timeout
        } else {
            Self::Broken(error)
        }
    }

    /// Whether the same server may do better in a moment: it was not reached, is busy, or has failed in a way that
    /// passes. After a timeout it may still be at work, and asking again would make it do the work twice.
    pub(in crate::query) fn is_passing(&self) -> bool {
        match self {
            Self::Connect(_) => true,
            Self::Status { status, .. } => *status == 429 || *status >= 500,
            _ => false,
        }
    }

    /// Whether the question was refused as such. Then another model is no help, and the server is not at fault.
    pub(in crate::query) fn is_refusal(&self) -> bool {
        matches!(self, Self::Status { status: 400 | 413 | 422, .. })
    }

    /// Whether it tells against the server. Being busy does not.
    pub(in crate::query) fn is_fault(&self) -> bool {
        !self.is_refusal() && !matches!(self, Self::Status { status: 429, .. } | Self::LeftAlone { .. })
    }

    /// When the server wants to be asked again, if it said so.
    pub(in crate::query) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            Self::LeftAlone { retry_after } => Some(*retry_after),
            _ => None,
        }
    }

    /// The word in traces.
    pub(in crate::query) fn word(&self) -> &'static str {
        match self {
            Self::Connect(_) => "connect",
            Self::Timeout => "timeout",
            Self::Broken(_) => "broken",
            Self::Status { .. } => "status",
            Self::TooLarge { .. } => "too_large",
            Self::Malformed(_) => "malformed",
            Self::Failed => "failed",
            Self::Cut => "cut",
            Self::Empty => "empty",
            Self::LeftAlone { .. } => "left_alone",
        }
    }

    /// What a client may know of it, to be put behind the model's name.
    pub(in crate::query) fn in_short(&self) -> &'static str {
        match self {
            Self::Connect(_) => "cannot be reached",
            Self::Timeout => "does not answer in time",
            Self::Status { status: 429, .. } => "is busy",
            Self::LeftAlone { .. } => "is left alone after failures",
            _ => "fails",
        }
    }
}

impl From<BodyError> for ProviderError {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::Broken(error) => Self::of(error),
            BodyError::TooLarge { bytes_max } => Self::TooLarge { bytes_max },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_error_says_what_may_be_done_about_it() {
        let status = |status| ProviderError::Status { status, retry_after: None };
        let alone = ProviderError::LeftAlone { retry_after: Duration::from_secs(1) };
        // Asked again, refused as such, tells against the server.
        let cases = [
            (ProviderError::Timeout, false, false, true),
            (status(500), true, false, true),
            (status(503), true, false, true),
            (status(429), true, false, false),
            (status(400), false, true, false),
            (status(413), false, true, false),
            (status(401), false, false, true),
            (status(302), false, false, true),
            (ProviderError::Cut, false, false, true),
            (ProviderError::Empty, false, false, true),
            (alone, false, false, false),
        ];
        for (error, passing, refusal, fault) in cases {
            assert_eq!(
                (error.is_passing(), error.is_refusal(), error.is_fault()),
                (passing, refusal, fault),
                "{error:?}"
            );
        }
    }
}
