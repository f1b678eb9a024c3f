//! Challenge: the proof that an authority asks for before it issues a certificate (HTTP-01, RFC 8555 §8.3).
//!
//! For: listeners without TLS, also those that redirect, before anything is routed. May touch: the vaults. Promises: a token
//! that nobody has posed is a request like any other. Read next: `../acme/mod.rs`.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Method};

use crate::base::head::Head;
use crate::base::reply::Reply;
use crate::store::Vault;

/// Where authorities ask.
const PATH: &[u8] = b"/.well-known/acme-challenge/";

/// The answer to an authority's question, when this is one.
pub(super) async fn proof(head: &Head<'_>, vaults: &[Arc<Vault>]) -> Option<Reply> {
    if vaults.is_empty() || head.encrypted || !matches!(*head.method, Method::GET | Method::HEAD) {
        return None;
    }
    let token = std::str::from_utf8(head.path.strip_prefix(PATH)?).ok()?;
    for vault in vaults {
        match vault.proof(token).await {
            Ok(Some(proof)) => {
                tracing::info!(token, "an authority has asked for a proof");
                let kind = HeaderValue::from_static("application/octet-stream");
                let headers = vec![(CONTENT_TYPE, kind), (CACHE_CONTROL, HeaderValue::from_static("no-store"))];
                return Some(Reply { status: 200, headers, body: Bytes::from(proof) });
            }
            Ok(None) => {}
            // Whoever keeps the certificate warns of that; here anybody could fill the log with it.
            Err(error) => {
                tracing::debug!(error = %common::telemetry::with_causes(&error), "a proof cannot be read");
            }
        }
    }
    None
}
