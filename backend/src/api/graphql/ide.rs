//! IDE: `GraphiQL`, served from this machine.
//!
//! For: people who write queries, where the schema may be told. May touch: the files that `make web` has put into
//! `graphql.ide_path`, by their fixed names. Promises: no other host is asked for anything, which the page's policy also
//! tells the browser; nothing is shown without a credential, which the person pastes into the page's header editor.
//! Read next: `ide.html` and `ide.js`, which are ours.

use std::path::Path;
use std::sync::Arc;

use axum::Extension;
use axum::response::{IntoResponse as _, Response};
use common::code::Code;
use http::HeaderName;
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};

use super::engine::Engine;
use crate::api::error::ApiError;
use crate::api::extract::PathText;

/// The page.
const PAGE: &str = include_str!("ide.html");
/// What sends its requests.
const SCRIPT: (&str, &str) = ("ide.js", include_str!("ide.js"));

/// The files of others, and what they are.
static FILES: [(&str, &str); 4] = [
    ("react.production.min.js", JAVASCRIPT),
    ("react-dom.production.min.js", JAVASCRIPT),
    ("graphiql.min.js", JAVASCRIPT),
    ("graphiql.min.css", "text/css; charset=utf-8"),
];

const JAVASCRIPT: &str = "text/javascript; charset=utf-8";

/// The largest file that is served, in bytes.
const FILE_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// What the page may load and do. Its editor sets styles on elements, which needs `unsafe-inline` for styles alone.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
    font-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// `GET /graphql/ide`
pub(in crate::api) async fn page(Extension(engine): Extension<Arc<Engine>>) -> Result<Response, ApiError> {
    check_open(&engine)?;
    for (name, _) in &FILES {
        if !tokio::fs::try_exists(engine.settings.ide_path.join(name)).await.map_err(ApiError::internal)? {
            return Err(missing());
        }
    }
    Ok(answer("text/html; charset=utf-8", PAGE.as_bytes().to_vec()))
}

/// `GET /graphql/ide/{file}`
pub(in crate::api) async fn file(
    Extension(engine): Extension<Arc<Engine>>,
    PathText(wanted): PathText,
) -> Result<Response, ApiError> {
    check_open(&engine)?;
    if wanted == SCRIPT.0 {
        return Ok(answer(JAVASCRIPT, SCRIPT.1.as_bytes().to_vec()));
    }
    // Only these names are ever joined to the folder.
    let Some((name, content_type)) = FILES.iter().find(|(name, _)| *name == wanted) else {
        return Err(ApiError::new(Code::NotFound, ""));
    };
    let bytes = read(&engine.settings.ide_path.join(name)).await?;
    Ok(answer(content_type, bytes))
}

/// Without introspection `GraphiQL` has nothing to show.
fn check_open(engine: &Engine) -> Result<(), ApiError> {
    if engine.settings.introspection {
        Ok(())
    } else {
        Err(ApiError::new(Code::NotFound, "the schema is not told here"))
    }
}

async fn read(path: &Path) -> Result<Vec<u8>, ApiError> {
    match tokio::fs::metadata(path).await {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(missing()),
        Err(error) => Err(ApiError::internal(error)),
        Ok(metadata) if metadata.len() > FILE_BYTES_MAX => {
            Err(ApiError::internal(format!("{} is larger than {FILE_BYTES_MAX} bytes", path.display())))
        }
        Ok(_) => tokio::fs::read(path).await.map_err(ApiError::internal),
    }
}

fn missing() -> ApiError {
    ApiError::new(Code::NotFound, "GraphiQL's files are not in graphql.ide_path; run `make web`")
}

fn answer(content_type: &'static str, bytes: Vec<u8>) -> Response {
    let headers: [(HeaderName, &'static str); 6] = [
        (CONTENT_TYPE, content_type),
        (CACHE_CONTROL, "no-cache"),
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_FRAME_OPTIONS, "DENY"),
        (REFERRER_POLICY, "no-referrer"),
    ];
    (headers, bytes).into_response()
}
