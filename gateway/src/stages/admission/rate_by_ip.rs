//! Rate by address: whoever has used up what its address may ask is turned away before anybody looks at its credential.

use common::code::Code;

use crate::base::refusal::{Advice, Refusal};
use crate::stages::context::Context;
use crate::stages::limit::Caller;
use crate::stages::plan::{Route, Spent};

/// Looks whether a limit that needs no identity is used up. Nothing is spent yet: see `budget`.
///
/// # Errors
/// 429 with the limit's name.
pub(crate) fn check(caller: &Caller<'_>, route: &Route, context: &mut Context) -> Result<(), Refusal> {
    for limit in route.limits_by_address.iter().filter(|limit| !limit.shadow) {
        let mut room = [0; 16];
        let Some(parts) = limit.parts(caller, &mut room) else { continue };
        let id = limit.meter.id(&parts);
        let wait = limit.meter.wait(id, limit.cost, context.now);
        // Units in stock may be there for one whose limit is used up.
        let in_stock = limit.shared.as_ref().is_some_and(|shared| shared.batch.is_some());
        if !wait.is_zero() && !in_stock {
            context.spent.push(Spent::nothing_left(limit, id, wait));
            return Err(Refusal::new(Code::RateLimited).policy(&limit.name).advice(Advice::RetryAfter(wait)));
        }
    }
    Ok(())
}
