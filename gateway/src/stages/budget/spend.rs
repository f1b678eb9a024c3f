//! Spend: the units of every limit of a request, or of none.
//!
//! Limits in this process are asked first, because that costs nothing. Those that gateways share are asked in one round trip,
//! for all of them; what was spent before is given back when one refuses. Limits that are only watched come last.

use std::sync::Arc;
use std::time::Duration;

use common::code::Code;

use crate::base::limiter::{Decision, KeyId, Place, Standing};
use crate::base::now::Now;
use crate::base::refusal::{Advice, Refusal};
use crate::config::checked::StoreDown;
use crate::stages::auth::authorize::Permit;
use crate::stages::context::Context;
use crate::stages::limit::{Caller, Limit, Meter, Parts, Shared};
use crate::stages::plan::{Route, Spent};
use crate::store::{Answers, Question, Store};

/// When a place may be free again: nobody can know, so soon.
const PLACE_RETRY: Duration = Duration::from_secs(1);

/// What was taken for a request, so that it can be given back.
struct Charge<'l> {
    limit: &'l Arc<Limit>,
    id: KeyId,
    taken: Taken,
    standing: Standing,
    key: Option<Vec<u8>>,
}

/// Where it was taken from.
enum Taken {
    Here { units: u64 },
    Stock,
    Store,
    Place(Place),
}

/// A shared limit that the store has to be asked about.
struct Asked<'l> {
    limit: &'l Arc<Limit>,
    shared: &'l Shared,
    id: KeyId,
}

/// Why a request does not pass.
struct Stopped<'l> {
    limit: &'l Arc<Limit>,
    id: KeyId,
    code: Code,
    retry_after: Duration,
}

/// Spends what a request with a permit costs.
///
/// # Errors
/// 429 with the limit's name, or 503 when the store is away and the limit is to deny then.
pub(crate) async fn spend(
    permit: &Permit,
    caller: Caller<'_>,
    route: &Route,
    context: &mut Context,
) -> Result<(), Refusal> {
    let caller = Caller { identity: permit.identity().map(|identity| &**identity), ..caller };
    spend_all(&route.limits, caller, context).await
}

/// Spends what a request costs that was refused because nobody knows who sent it: trying credentials is not for free.
///
/// # Errors
/// As above; then the client is told of the limit rather than of its credential.
pub(crate) async fn spend_in_vain(caller: Caller<'_>, route: &Route, context: &mut Context) -> Result<(), Refusal> {
    spend_all(&route.limits_by_address, caller, context).await
}

async fn spend_all(limits: &[Arc<Limit>], caller: Caller<'_>, context: &mut Context) -> Result<(), Refusal> {
    if limits.is_empty() {
        return Ok(());
    }
    let now = context.now;
    let mut charges = Vec::with_capacity(limits.len());
    let mut asked = Vec::new();
    let mut questions = Vec::new();
    let mut outcome = Ok(());
    for limit in limits {
        let mut room = [0; 16];
        let Some(parts) = limit.parts(&caller, &mut room) else { continue };
        let id = limit.meter.id(&parts);
        outcome = match limit.shared.as_ref().filter(|shared| shared.store.is_up()) {
            // Watched limits wait until it is known that the request passes.
            None if limit.shadow => continue,
            None => take_here(limit, id, now, &mut charges),
            Some(shared) => prepare(limit, shared, &parts, id, now, &mut charges).map(|question| {
                if let Some(question) = question {
                    questions.push(question);
                    asked.push(Asked { limit, shared, id });
                }
            }),
        };
        if outcome.is_err() {
            break;
        }
    }
    if outcome.is_ok() && !asked.is_empty() {
        outcome = ask(&asked, questions, now, &mut charges, context).await;
    }
    if let Err(stopped) = outcome {
        give_back(charges, now);
        return Err(refuse(&stopped, context));
    }
    for limit in limits.iter().filter(|limit| limit.shadow) {
        if !asked.iter().any(|asked| Arc::ptr_eq(asked.limit, limit)) {
            watch(limit, &caller, context);
        }
    }
    keep(charges, context);
    Ok(())
}

/// Takes from this process: what it counts by itself, or its share of what all gateways may spend while the store is away.
fn take_here<'l>(
    limit: &'l Arc<Limit>,
    id: KeyId,
    now: Now,
    charges: &mut Vec<Charge<'l>>,
) -> Result<(), Stopped<'l>> {
    let weight = match &limit.shared {
        None => 1,
        Some(shared) => match shared.down {
            // Whatever one of so many spends, the others are taken to spend as well.
            StoreDown::LocalShare => shared.store.replicas(),
            StoreDown::Allow => return Ok(()),
            StoreDown::Deny => {
                return Err(Stopped { limit, id, code: Code::LimitStoreUnavailable, retry_after: PLACE_RETRY });
            }
        },
    };
    if let Meter::Concurrency(meter) = &limit.meter {
        let Some((place, left)) = meter.take(id, now) else {
            return Err(Stopped { limit, id, code: Code::RateLimited, retry_after: PLACE_RETRY });
        };
        let standing = Standing { remaining: left.into(), reset_after: PLACE_RETRY };
        charges.push(Charge { limit, id, taken: Taken::Place(place), standing, key: None });
        return Ok(());
    }
    let units = limit.cost.saturating_mul(weight);
    match limit.meter.take(id, units, now) {
        Some(Decision::Refused { retry_after }) => Err(Stopped { limit, id, code: Code::RateLimited, retry_after }),
        Some(Decision::Admitted(standing)) => {
            let standing = Standing { remaining: standing.remaining / units.max(1), ..standing };
            charges.push(Charge { limit, id, taken: Taken::Here { units }, standing, key: None });
            Ok(())
        }
        None => Ok(()),
    }
}

/// What has to be asked about a shared limit; nothing when units are in stock. What is known to be used up is refused without
/// a question: the store could only say the same.
fn prepare<'l>(
    limit: &'l Arc<Limit>,
    shared: &'l Shared,
    parts: &Parts<'_>,
    id: KeyId,
    now: Now,
    charges: &mut Vec<Charge<'l>>,
) -> Result<Option<Question>, Stopped<'l>> {
    if shared.take_from_stock(id, limit.cost, now) {
        let standing = limit.meter.standing(id, now);
        let standing = Standing { remaining: standing.remaining / limit.cost, ..standing };
        charges.push(Charge { limit, id, taken: Taken::Stock, standing, key: None });
        return Ok(None);
    }
    let wait = limit.meter.wait(id, limit.cost, now);
    if !wait.is_zero() && !limit.shadow {
        return Err(Stopped { limit, id, code: Code::RateLimited, retry_after: wait });
    }
    Ok(limit.question(shared, parts, id, now))
}

/// Asks the store about all shared limits of the request. When it does not answer, each does what it is to do then.
async fn ask<'l>(
    asked: &[Asked<'l>],
    questions: Vec<Question>,
    now: Now,
    charges: &mut Vec<Charge<'l>>,
    context: &mut Context,
) -> Result<(), Stopped<'l>> {
    let Some(store) = asked.first().map(|asked| &asked.shared.store) else { return Ok(()) };
    match Store::spend(store, &questions).await {
        Ok(answers) => take_answers(asked, questions, &answers, now, charges, context),
        Err(_) => asked
            .iter()
            .filter(|asked| !asked.limit.shadow)
            .try_for_each(|asked| take_here(asked.limit, asked.id, now, charges)),
    }
}

fn take_answers<'l>(
    asked: &[Asked<'l>],
    questions: Vec<Question>,
    answers: &Answers,
    now: Now,
    charges: &mut Vec<Charge<'l>>,
    context: &mut Context,
) -> Result<(), Stopped<'l>> {
    let mut stopped = Ok(());
    for (index, ((asked, question), answer)) in asked.iter().zip(questions).zip(&answers.each).enumerate() {
        let Asked { limit, shared, id } = *asked;
        let Some(standing) = limit.meter.note(id, answer.level, now) else { continue };
        if answers.refused == Some(index) {
            let retry_after = limit.meter.wait(id, limit.cost, now).max(Duration::from_nanos(1));
            stopped = Err(Stopped { limit, id, code: Code::RateLimited, retry_after });
        } else if answer.granted >= limit.cost {
            shared.lay_in(id, answer.granted - limit.cost, now);
            let key = limit.cost_from.is_some().then_some(question.key);
            let standing = Standing { remaining: standing.remaining / limit.cost, ..standing };
            if !limit.shadow {
                charges.push(Charge { limit, id, taken: Taken::Store, standing, key });
            }
        } else if limit.shadow && answers.refused.is_none() {
            context.note_shadow(Code::RateLimited, Some(Arc::clone(&limit.name)));
        }
    }
    stopped
}

/// Asks a limit that is only watched.
fn watch(limit: &Arc<Limit>, caller: &Caller<'_>, context: &mut Context) {
    let now = context.now;
    let mut room = [0; 16];
    let Some(parts) = limit.parts(caller, &mut room) else { return };
    let mut charges = Vec::new();
    match take_here(limit, limit.meter.id(&parts), now, &mut charges) {
        Err(stopped) => context.note_shadow(stopped.code, Some(Arc::clone(&limit.name))),
        // A place that is only watched is held like any other.
        Ok(()) => context.places.extend(charges.into_iter().filter_map(|charge| match charge.taken {
            Taken::Place(place) => Some(place),
            _ => None,
        })),
    }
}

fn give_back(charges: Vec<Charge<'_>>, now: Now) {
    for charge in charges {
        match charge.taken {
            Taken::Here { units } => charge.limit.meter.refund(charge.id, units, now),
            Taken::Stock => {
                if let Some(shared) = &charge.limit.shared {
                    shared.lay_in(charge.id, charge.limit.cost, now);
                }
            }
            // The store spends nothing when one of its limits refuses, and is asked last.
            Taken::Store | Taken::Place(_) => {}
        }
    }
}

fn refuse(stopped: &Stopped<'_>, context: &mut Context) -> Refusal {
    let Stopped { limit, id, code, retry_after } = *stopped;
    context.spent.clear();
    context.spent.push(Spent::nothing_left(limit, id, retry_after));
    Refusal::new(code).policy(&limit.name).advice(Advice::RetryAfter(retry_after))
}

fn keep(charges: Vec<Charge<'_>>, context: &mut Context) {
    for Charge { limit, id, taken, standing, key } in charges {
        context.spent.push(Spent { limit: Arc::clone(limit), id, standing, key });
        if let Taken::Place(place) = taken {
            context.places.push(place);
        }
    }
}
