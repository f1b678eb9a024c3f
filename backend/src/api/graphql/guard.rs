//! Guard: what a field needs its caller to be allowed.
//!
//! For: the fields of the three roots. May touch: `auth::Caller`. Promises: the same permissions as REST asks for the
//! same things; `graphql_access` is asked for once, before any document is read, in `http.rs` and `socket.rs`.
//! Read next: `query.rs`.

use async_graphql::{Context, Guard, Result};
use common::access::Permission;
use common::code::Code;

use super::engine::Asker;
use crate::api::error::ApiError;

/// All of these permissions.
pub(super) struct Needs(&'static [Permission]);

/// To look at resources.
pub(super) const READ: Needs = Needs(&[Permission::Read]);
/// To change resources.
pub(super) const WRITE: Needs = Needs(&[Permission::Write]);
/// To ask models.
pub(super) const EXECUTE: Needs = Needs(&[Permission::Execute]);
/// To administer.
pub(super) const ADMIN: Needs = Needs(&[Permission::Admin]);

impl Guard for Needs {
    async fn check(&self, ctx: &Context<'_>) -> Result<()> {
        let who: &Asker = of(ctx)?;
        who.caller.require(self.0).map_err(|error| ApiError::from(error).into())
    }
}

/// What `engine.rs` has laid beside the request.
///
/// # Errors
/// `internal_error` when it has not, which is a programming error.
pub(super) fn of<'c, T: Send + Sync + 'static>(ctx: &Context<'c>) -> Result<&'c T, ApiError> {
    ctx.data_opt().ok_or_else(|| ApiError::new(Code::InternalError, ""))
}
