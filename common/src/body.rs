//! Body: what another server answers, read whole and never past a bound.
//!
//! For: whoever asks by a client of `http_client.rs`. May touch: an answer that is on its way.
//! Promises: no more than the bound is held. How long it may take is up to the deadline that the request was sent with.
//! Read next: `query/sandbox.rs` of the backend, and `stages/auth/jwks.rs` of the gateway.

use reqwest::Response;

/// Why a body is not there.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The connection broke, or the time was up.
    #[error("the answer broke off")]
    Broken(#[source] reqwest::Error),
    /// More bytes came than may.
    #[error("the answer is larger than {bytes_max} bytes")]
    TooLarge {
        /// How many may.
        bytes_max: usize,
    },
}

/// The whole body, if it has so many bytes at most.
///
/// # Errors
/// When it breaks off or is larger; what comes after the bound is not waited for.
pub async fn read(mut answer: Response, bytes_max: usize) -> Result<Vec<u8>, BodyError> {
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(BodyError::Broken)? {
        if body.len().saturating_add(chunk.len()) > bytes_max {
            return Err(BodyError::TooLarge { bytes_max });
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(body: &'static str) -> Response {
        Response::from(http::Response::new(body))
    }

    #[tokio::test]
    async fn a_body_has_as_many_bytes_as_it_may_and_no_more() {
        assert_eq!(read(answer("12345"), 5).await.expect("within the bound"), b"12345");
        assert_eq!(read(answer(""), 0).await.expect("nothing is within any bound"), b"");
        let refused = read(answer("12345"), 4).await.expect_err("past the bound");
        assert_eq!(refused.to_string(), "the answer is larger than 4 bytes");
    }
}
