//! Settle: what a request has really cost, told by the answer.

use http::HeaderMap;

use crate::stages::context::Context;
use crate::store::Settlement;

/// Takes what the answer tells of each limit with `cost_from`, and settles the difference to what was reserved. An answer
/// that does not tell, or not in a number, costs what was reserved.
pub(crate) fn settle(answer: &HeaderMap, context: &Context) {
    let now = context.now;
    for spent in &context.spent {
        let limit = &spent.limit;
        let Some(told) =
            limit.cost_from.as_ref().and_then(|name| answer.get(name)?.to_str().ok()?.trim().parse::<u32>().ok())
        else {
            continue;
        };
        let (told, reserved) = (u64::from(told), limit.cost);
        if told >= reserved {
            limit.meter.charge(spent.id, told - reserved, now);
        } else {
            limit.meter.refund(spent.id, reserved - told, now);
        }
        if let (Some(shared), Some(key), Some(meter)) = (&limit.shared, &spent.key, limit.meter.in_store()) {
            let units =
                i64::from(u32::try_from(told).unwrap_or(u32::MAX)) - i64::try_from(reserved).unwrap_or(i64::MAX);
            if units != 0 {
                shared.store.settle(Settlement { key: key.clone(), meter, units });
            }
        }
    }
}
