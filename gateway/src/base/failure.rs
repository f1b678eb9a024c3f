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
    /// The client left, or sent something that is not HTTP.
    Client,
    /// We refused with this status while the request was under way, such as a body over its limit.
    Refused(u16),
    /// A fault of ours.
    Internal,
}
