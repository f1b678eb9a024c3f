//! Keys of `limits`: how much a caller may ask.

use common::{choice, section};

use crate::config::values::Rate;

choice! {
    /// Whose requests are counted together.
    pub(crate) enum LimitKey {
        /// Those of one client address.
        ClientIp = "client.ip",
        /// Those of one API key, or of one subject where no key was used.
        KeyOrSubject = "identity.key_or_subject",
        /// Those of one subject.
        Subject = "identity.subject",
    }
}

section! {
    /// How much a caller may ask, exactly (generic cell rate algorithm). A limit is shared by all routes that name it.
    pub(crate) struct Limit {
        /// Whose requests are counted together.
        pub by: LimitKey => "say whose requests are counted together, such as by: client.ip",
        /// So many in so long, such as 100/min.
        pub rate: Rate => "say how many in how long, such as rate: 100/min",
        /// How many of them at once; by default all.
        pub burst: Option<u32> = "null",
        /// Callers remembered at a time (48 bytes each); beyond that, new ones share what one may ask.
        pub keys_max: u32 = "1000000",
    }
}
