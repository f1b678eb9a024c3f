//! Compression: the encoder of an answer, where Pingora hands its body out.
//!
//! For: calling `stages::egress::compress` for the head, each piece and the end of a body; a module of Pingora's is told of the
//! end however it comes, with a piece, behind trailers or by itself. May touch: Pingora's heads. Promises: an answer that
//! was not armed passes untouched, and costs nothing. Read next: `stages/egress/compress/mod.rs`.

use std::any::Any;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use http::HeaderMap;
use pingora::http::ResponseHeader;
use pingora::modules::http::{HttpModule, HttpModuleBuilder, Module};
use pingora::{ErrorType, OrErr as _, Result};

use super::Fields;
use crate::config::checked;
use crate::stages::egress::compress::encoder::Encoder;
use crate::stages::egress::compress::{self, Asked, Fit};

/// Makes one for each request.
pub(super) struct Builder;

/// What is known of the answer to one request.
#[derive(Default)]
pub(super) struct Compression {
    armed: Option<(Arc<checked::Compression>, Asked)>,
    encoder: Option<Encoder>,
}

impl Compression {
    /// Lets the next final head decide.
    pub(super) fn arm(&mut self, settings: Arc<checked::Compression>, asked: Asked) {
        self.armed = Some((settings, asked));
    }

    /// What is still held back, where the body has not ended yet.
    fn end(&mut self) -> Result<Option<Bytes>> {
        let rest = self.encoder.take().map(|encoder| encoder.finish(&[])).transpose();
        rest.or_err(ErrorType::InternalError, "an encoder failed")
    }
}

impl HttpModuleBuilder for Builder {
    fn init(&self) -> Module {
        Box::new(Compression::default())
    }
}

#[async_trait]
impl HttpModule for Compression {
    async fn response_header_filter(&mut self, answer: &mut ResponseHeader, end: bool) -> Result<()> {
        // An informational head is followed by the one that counts.
        if answer.status.is_informational() {
            return Ok(());
        }
        let Some((settings, asked)) = self.armed.take() else { return Ok(()) };
        let fit = compress::fit(&settings, asked, answer.status, &answer.headers, end);
        compress::dress(fit, &mut Fields(answer));
        if let Fit::Coded(coding) = fit {
            self.encoder = Some(Encoder::new(coding).or_err(ErrorType::InternalError, "no memory for an encoder")?);
        }
        Ok(())
    }

    fn response_body_filter(&mut self, body: &mut Option<Bytes>, end: bool) -> Result<()> {
        let Some(mut encoder) = self.encoder.take() else { return Ok(()) };
        let piece = body.take().unwrap_or_default();
        let coded = if end {
            encoder.finish(&piece)
        } else if piece.is_empty() {
            // Nothing came in, so nothing goes out.
            self.encoder = Some(encoder);
            return Ok(());
        } else {
            let coded = encoder.piece(&piece);
            self.encoder = Some(encoder);
            coded
        };
        *body = Some(coded.or_err(ErrorType::InternalError, "an encoder failed")?);
        Ok(())
    }

    /// Trailers that nobody announced: the rest of the body takes their place.
    fn response_trailer_filter(&mut self, _trailers: &mut Option<Box<HeaderMap>>) -> Result<Option<Bytes>> {
        self.end()
    }

    fn response_done_filter(&mut self) -> Result<Option<Bytes>> {
        self.end()
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }
}
