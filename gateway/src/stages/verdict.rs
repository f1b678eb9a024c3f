//! Verdict: how a request ended, in one value from which log and metrics are made.

use std::sync::Arc;

use common::code::Code;

use crate::base::failure::Failure;

/// How a request ended.
#[derive(Clone, Debug)]
pub(crate) enum Verdict {
    /// An upstream's answer went out.
    Proxied,
    /// The gateway sent the client elsewhere, without asking an upstream.
    Redirected,
    /// The gateway answered by itself, without asking an upstream.
    Answered,
    /// A stage refused it.
    Refused { code: Code, policy: Option<Arc<str>> },
    /// It broke off: the client left, or the answer was cut after its head had gone out.
    Failed(Failure),
}

impl Verdict {
    /// The word in the access log.
    pub(crate) fn outcome(&self) -> &'static str {
        match self {
            Self::Proxied => "proxied",
            Self::Redirected => "redirected",
            Self::Answered => "answered",
            Self::Refused { .. } => "refused",
            Self::Failed(Failure::Client | Failure::ClientSlow | Failure::ClientProtocol) => "client_left",
            Self::Failed(Failure::Deadline) => "deadline",
            Self::Failed(_) => "cut",
        }
    }

    /// The code it was refused with.
    pub(crate) fn code(&self) -> Option<Code> {
        match self {
            Self::Refused { code, .. } => Some(*code),
            Self::Proxied | Self::Redirected | Self::Answered | Self::Failed(_) => None,
        }
    }

    /// The policy that refused it.
    pub(crate) fn policy(&self) -> Option<Arc<str>> {
        match self {
            Self::Refused { policy, .. } => policy.clone(),
            Self::Proxied | Self::Redirected | Self::Answered | Self::Failed(_) => None,
        }
    }
}
