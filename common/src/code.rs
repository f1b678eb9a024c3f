//! Codes: the stable name of every refusal, with its status and its advice.
//!
//! For: one catalogue that both programs answer from and `docs/errors.md` is generated from.
//! May touch: nothing. Promises: a code, once released, keeps its name and its meaning; new ones are added.
//! Read next: `problem.rs` for the body that carries a code.

use std::fmt::Write as _;

macro_rules! codes {
    ($( $(#[doc = $doc:literal])+ $variant:ident = $name:literal, $status:literal, $title:literal; )+) => {
        /// Why a request was not served.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Code {
            $( $(#[doc = $doc])+ $variant, )+
        }

        impl Code {
            /// Every code, in the order of the manual.
            pub const ALL: &[Code] = &[$(Code::$variant),+];

            /// The stable name: what clients compare with.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// The HTTP status it is answered with.
            #[must_use]
            pub const fn status(self) -> u16 {
                match self { $(Self::$variant => $status,)+ }
            }

            /// A short summary that does not change from case to case (RFC 9457 §3.1.3).
            #[must_use]
            pub const fn title(self) -> &'static str {
                match self { $(Self::$variant => $title,)+ }
            }

            /// What it means and what to do about it, for the manual.
            #[must_use]
            pub const fn advice(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc),+),)+ }
            }
        }
    };
}

codes! {
    /// The request breaks HTTP's grammar or leaves two readings open (framing, Host, control characters). Mend the client.
    RequestMalformed = "request_malformed", 400, "The request is malformed";
    /// The path holds an encoded slash, backslash or NUL, a broken percent code, or climbs above the root. Send the plain path.
    PathInvalid = "path_invalid", 400, "The path is not acceptable";
    /// A field of the body or the query is missing or wrong; `detail` names it.
    InputInvalid = "input_invalid", 400, "The input is not valid";
    /// The GraphQL document cannot be read, or does not fit the schema; the message and its place say where.
    GraphqlInvalid = "graphql_invalid", 400, "The document is not valid";
    /// The GraphQL document or batch is beyond a bound (size, depth, complexity, aliases, directives); the message says which. Ask for less at once.
    GraphqlTooCostly = "graphql_too_costly", 400, "The document asks for too much";
    /// No document is kept under this hash. Send the document together with its hash, once.
    PersistedQueryNotFound = "persisted_query_not_found", 400, "The persisted query is not known";
    /// No credential was sent to a route that asks for one. Log in, or send an API key where the route takes keys.
    TokenMissing = "token_missing", 401, "A credential is required";
    /// The bearer token is not a well-formed JWT.
    TokenMalformed = "token_malformed", 401, "The token is malformed";
    /// The token's `exp` has passed. Refresh it.
    TokenExpired = "token_expired", 401, "The token has expired";
    /// The token's `nbf` or `iat` lies in the future. Check the issuer's clock.
    TokenNotYetValid = "token_not_yet_valid", 401, "The token is not valid yet";
    /// The token's `iss` is not the issuer that this route trusts.
    TokenIssuerInvalid = "token_issuer_invalid", 401, "The token's issuer is not trusted";
    /// The token's `aud` does not name this service.
    TokenAudienceInvalid = "token_audience_invalid", 401, "The token is meant for another audience";
    /// The token's `alg` is not one that the configuration allows for its key; `none` never is.
    TokenAlgorithmInvalid = "token_algorithm_invalid", 401, "The token's algorithm is not allowed";
    /// The token's `typ` is not that of an access token (RFC 9068 §4).
    TokenTypeInvalid = "token_type_invalid", 401, "The token is of another type";
    /// The token's `kid` names no key of the issuer.
    TokenKeyUnknown = "token_key_unknown", 401, "The token's key is unknown";
    /// The signature does not fit the token.
    TokenSignatureInvalid = "token_signature_invalid", 401, "The token's signature is wrong";
    /// A claim that must be there is missing or of the wrong kind.
    TokenClaimInvalid = "token_claim_invalid", 401, "A claim of the token is missing or wrong";
    /// The token was withdrawn before its end.
    TokenRevoked = "token_revoked", 401, "The token has been revoked";
    /// The issuer says that the token is not good: unknown, expired, revoked, or meant for somebody else.
    TokenInactive = "token_inactive", 401, "The token is not active";
    /// More than one credential of a kind was sent; which one counts would be a guess.
    CredentialAmbiguous = "credential_ambiguous", 401, "More than one credential was sent";
    /// No API key was sent to a route that takes only keys.
    KeyMissing = "key_missing", 401, "An API key is required";
    /// The API key is malformed, unknown, expired or revoked; which of them is not told.
    KeyInvalid = "key_invalid", 401, "The API key is not valid";
    /// Nothing was sent by which the caller could be known; `WWW-Authenticate` says what would help.
    CredentialMissing = "credential_missing", 401, "A credential is required";
    /// The client has shown no certificate to a route that knows its callers by theirs.
    CertificateMissing = "certificate_missing", 401, "A client certificate is required";
    /// The client's certificate does not have the kind of name by which callers are known here.
    CertificateInvalid = "certificate_invalid", 401, "The client certificate names nobody";
    /// The service that decides about requests does not know the caller.
    AuthServiceRefused = "auth_service_refused", 401, "The caller is not known";
    /// User name or password is wrong; which of them is not told.
    LoginFailed = "login_failed", 401, "Login failed";
    /// The refresh token is unknown, used up, expired or revoked. Log in again.
    RefreshInvalid = "refresh_invalid", 401, "The refresh token is not valid";
    /// The caller is known but lacks a permission that the route asks for; `detail` names it.
    PermissionMissing = "permission_missing", 403, "A permission is missing";
    /// The path names somebody else's resource.
    NotOwner = "not_owner", 403, "The resource is somebody else's";
    /// The service that decides about requests does not allow this one.
    AuthServiceForbade = "auth_service_forbade", 403, "The request is not allowed";
    /// A key or user may not be given more than its owner has.
    GrantExceeded = "grant_exceeded", 403, "The grant exceeds its owner";
    /// The route is only for connections on which the client has shown a certificate, and this one has none. Connect with a certificate, to a listener that asks for it.
    CertificateRequired = "certificate_required", 403, "The connection has no client certificate";
    /// The client's address may not use this route, or any. Ask the operator, who lists the networks that may.
    AddressForbidden = "address_forbidden", 403, "The address is not allowed";
    /// A page of this origin may not call this route from a browser. Ask the operator, who lists the origins that may.
    OriginForbidden = "origin_forbidden", 403, "The origin is not allowed";
    /// No route fits the host and path.
    RouteNotFound = "route_not_found", 404, "No such route";
    /// The resource does not exist, or is not yours to see.
    NotFound = "not_found", 404, "Not found";
    /// The path exists, the method does not; `Allow` lists those that do.
    MethodNotAllowed = "method_not_allowed", 405, "The method is not allowed here";
    /// The resource has no form that the request's `Accept` takes; `detail` names the forms there are.
    NotAcceptable = "not_acceptable", 406, "No acceptable form";
    /// The change collides with the present state, such as a name that is taken.
    Conflict = "conflict", 409, "The change collides with the present state";
    /// The request was done before under this idempotency key, and the secret in its answer was shown once. Use the one
    /// that was shown; if it is lost, revoke it and send the request under another key.
    SecretShown = "secret_shown", 409, "The secret was shown once";
    /// The client took too long to send its request.
    RequestTimeout = "request_timeout", 408, "The request took too long";
    /// The body is larger than the route takes.
    BodyTooLarge = "body_too_large", 413, "The body is too large";
    /// The request target is longer than this server takes.
    TargetTooLong = "target_too_long", 414, "The request target is too long";
    /// The body is not of a media type that the resource takes.
    MediaTypeUnsupported = "media_type_unsupported", 415, "The media type is not supported";
    /// The request's host is none of the names by which this server may be called. Use its proper name, or ask the operator, who lists them.
    MisdirectedRequest = "misdirected_request", 421, "The request was sent to the wrong server";
    /// A limit is used up; `Retry-After` says when to try again.
    RateLimited = "rate_limited", 429, "Too many requests";
    /// Too many failed logins for this account or address; `Retry-After` says when to try again.
    LoginThrottled = "login_throttled", 429, "Too many failed logins";
    /// The header section is larger than this server takes.
    HeadersTooLarge = "headers_too_large", 431, "The header section is too large";
    /// Something failed inside; the log has it under the request id.
    InternalError = "internal_error", 500, "Internal error";
    /// The upstream broke the connection before its answer was complete.
    UpstreamFailed = "upstream_failed", 502, "The upstream failed";
    /// The upstream's answer breaks HTTP.
    UpstreamProtocol = "upstream_protocol", 502, "The upstream's answer is malformed";
    /// The model's server failed or answered nonsense.
    ModelFailed = "model_failed", 502, "The model failed";
    /// No endpoint of the upstream is fit to be asked, or none took the connection.
    UpstreamUnavailable = "upstream_unavailable", 503, "The upstream is unavailable";
    /// As many requests as are allowed are under way at the upstream, and as many as may wait do. Come back in a moment.
    UpstreamOverloaded = "upstream_overloaded", 503, "The upstream is busy";
    /// The key set of the issuer was never fetched, so no token can be checked. That is our fault, not the token's.
    KeySetUnavailable = "key_set_unavailable", 503, "Tokens cannot be checked now";
    /// The source of API keys does not answer, so the key cannot be checked.
    KeySourceUnavailable = "key_source_unavailable", 503, "API keys cannot be checked now";
    /// The service that decides about requests does not answer, or neither yes nor no.
    AuthServiceUnavailable = "auth_service_unavailable", 503, "Callers cannot be checked now";
    /// The store of a limit that all gateways share is away, and the limit is set to deny then. Come back in a moment.
    LimitStoreUnavailable = "limit_store_unavailable", 503, "A limit cannot be checked now";
    /// The server is at a limit of its own (connections, queue, hashing).
    Overloaded = "overloaded", 503, "The server is at its limit";
    /// A part that the answer needs, such as the database, is away.
    DependencyUnavailable = "dependency_unavailable", 503, "A needed part is unavailable";
    /// The model has just failed several times in a row and is left alone for a moment, as are those that would stand in.
    /// `Retry-After` says for how long.
    ModelUnavailable = "model_unavailable", 503, "The model is unavailable";
    /// The upstream did not answer in time, or the time for the whole request was over before it did.
    UpstreamTimeout = "upstream_timeout", 504, "The upstream did not answer in time";
    /// The model did not answer in time.
    ModelTimeout = "model_timeout", 504, "The model did not answer in time";
}

/// The manual of all codes, as Markdown: `docs/errors.md`.
#[must_use]
pub fn manual() -> String {
    let mut text = String::from(
        "# Error codes\n\n<!-- Generated from common/src/code.rs by `make docs`; a test compares. -->\n\n\
         Every refusal is `application/problem+json` (RFC 9457) with `type`, `title`, `status`, `detail`, `instance`,\n\
         and two members of ours: `code`, which keeps its name and meaning from release to release, and `request_id`.\n\
         Compare with `code`; the other texts are for people.\n\n\
         | Code | Status | What it means, and what to do |\n|---|---|---|\n",
    );
    for code in Code::ALL {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "| `{}` | {} | {} |", code.name(), code.status(), code.advice().trim());
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_are_unique_and_statuses_are_errors() {
        let names: HashSet<_> = Code::ALL.iter().map(|code| code.name()).collect();
        assert_eq!(names.len(), Code::ALL.len());
        assert!(Code::ALL.iter().all(|code| (400..600).contains(&code.status())));
    }
}
