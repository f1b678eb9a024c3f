//! Admission (A): may it come in?
//!
//! For: what can be said of a request before anybody asks who sent it: is it sound, whose address is it, which route,
//! may that address use it, may a page of another origin, how much may that address ask. May touch: the head, the route table, limits by address.
//! Promises: what is matched here is the normal form of the path, and that same form is what goes out.
//! Read next: `sanity.rs`.

pub(crate) mod access;
pub(crate) mod address;
pub(crate) mod certificate;
pub(crate) mod cors;
pub(crate) mod rate_by_ip;
pub(crate) mod sanity;
pub(crate) mod size;
pub(crate) mod trace;

use std::sync::Arc;

use common::code::Code;
use http::Method;

use super::plan::Route;
use crate::base::refusal::{Advice, Refusal};
use crate::route::table::{Found, Table};

pub(crate) use sanity::Target;

/// The route of a request.
///
/// # Errors
/// 404 when none fits, 405 when one fits but for the method.
pub(crate) fn route(target: &Target<'_>, method: &Method, routes: &Table<Arc<Route>>) -> Result<Arc<Route>, Refusal> {
    match routes.find(&target.host, &target.path, method) {
        Found::Route(route) => Ok(Arc::clone(route)),
        Found::OtherMethods(methods) => Err(Refusal::new(Code::MethodNotAllowed).advice(Advice::Allow(methods))),
        Found::Nothing => Err(Refusal::new(Code::RouteNotFound)),
    }
}
