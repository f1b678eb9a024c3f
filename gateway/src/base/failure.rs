//! Failure: what went wrong between a client, us and a server, in words that every stage understands.

/// What went wrong between a client, us and a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// No connection to the server came about.
    Connect,
    /// The server did not answer in time.
    Timeout,
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
    /// Whether it is the server's, rather than the client's or ours.
    pub(crate) fn is_of_upstream(self) -> bool {
        matches!(self, Self::Connect | Self::Timeout | Self::Broken | Self::Protocol)
    }
}
