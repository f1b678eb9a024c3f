//! Failure: what went wrong between a client, us and a server, in words that every stage understands.

/// What went wrong between a client, us and a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// No connection to the server came about.
    Connect,
    /// The server did not answer in time.
    Timeout,
    /// The time for the whole request was over. That says nothing of the server: clients have a say in it.
    Deadline,
    /// The server closed or reset the connection before its answer was complete.
    Broken,
    /// What the server sent is not HTTP.
    Protocol,
    /// The client left.
    Client,
    /// The client took too long to send its request.
    ClientSlow,
    /// What the client sent, after its head was read, is not HTTP.
    ClientProtocol,
    /// We refused with this status while the request was under way, such as a body over its limit.
    Refused(u16),
    /// A fault of ours.
    Internal,
}

impl Failure {
    /// The word in traces.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Timeout => "timeout",
            Self::Deadline => "deadline",
            Self::Broken => "broken",
            Self::Protocol => "protocol",
            Self::Client => "client_left",
            Self::ClientSlow => "client_slow",
            Self::ClientProtocol => "client_protocol",
            Self::Refused(_) => "refused",
            Self::Internal => "internal",
        }
    }

    /// Whether it is the server's, rather than the client's or ours.
    pub(crate) fn is_of_upstream(self) -> bool {
        matches!(self, Self::Connect | Self::Timeout | Self::Broken | Self::Protocol)
    }
}
