//! Keys of `limits`: how much a caller may ask.

use common::settings::At;
use common::{choice, section};

use crate::config::amounts::{LimitBy, Quota};
use crate::config::values::Rate;

choice! {
    /// Who counts together.
    pub(crate) enum LimitScope {
        /// Each gateway process by itself.
        Process = "process",
        /// All gateways that share `stores.redis`; each by itself where no store is set.
        Cluster = "cluster",
    }
}

choice! {
    /// What to do while the store is away.
    pub(crate) enum StoreDown {
        /// Go on from what was last known, each gateway with its share: the limit divided by the gateways that live.
        LocalShare = "local_share",
        /// Let everybody pass.
        Allow = "allow",
        /// Answer 503.
        Deny = "deny",
    }
}

section! {
    /// How much a caller may ask: exactly one of `rate`, `quota` and `concurrent`. A limit is shared by all routes that name it.
    pub(crate) struct Limit {
        /// Whose requests are counted together: one of these words, or a list of up to four that count together:
        /// `client.ip`, `identity.subject`, `identity.key`, `identity.key_or_subject`, `identity.claim.NAME`, `header.NAME`,
        /// `route`. What a request does not have counts as empty; `identity.key` does not count requests without a key.
        pub by: At<LimitBy> => "say whose requests are counted together, such as by: client.ip",
        /// So many in so long, exactly, by the generic cell rate algorithm, such as `100/min`.
        pub rate: Option<Rate> = "null",
        /// How many of them at once; by default all.
        pub burst: Option<u32> = "null",
        /// So many a calendar day or month in UTC, such as `10000/day` or `1000000/month`.
        pub quota: Option<Quota> = "null",
        /// So many at a time, in each process.
        pub concurrent: Option<u32> = "null",
        /// Units that a request costs.
        pub cost: u32 = "1",
        /// Header of the upstream's answer that tells what the request has really cost. `cost` is reserved before, and the
        /// difference settled after.
        pub cost_from: Option<At<String>> = "null",
        /// Who counts together.
        pub scope: LimitScope = "process",
        /// What to do while the store is away.
        pub store_down: StoreDown = "local_share",
        /// Units that a gateway takes from the store at a time, for keys so busy that a question a request is too much. They
        /// are used within a second or lost. With more than one, each gateway may spend that many units late.
        pub batch: u32 = "1",
        /// Callers remembered at a time (about 64 bytes each); beyond that, new ones share what one may ask.
        pub keys_max: u32 = "1000000",
        /// Only note in log and metrics what it would refuse.
        pub shadow: bool = "false",
    }
}
