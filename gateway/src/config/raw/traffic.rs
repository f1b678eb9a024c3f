//! Keys of `split`, `mirror` and `deadline`: who else is asked, and how long all of it may take.

use common::settings::{At, ByteSize, Millis, Percent};
use common::{choice, section};

section! {
    /// One side of a split.
    pub(crate) struct SplitSide {
        /// Upstream that answers.
        pub to: At<String> => "name an upstream, such as to: api",
        /// Its share beside those of the other sides; 0 for none.
        pub weight: u16 => "say its share, such as weight: 95",
    }
}

section! {
    /// Copies of requests for another upstream, whose answers are thrown away. Clients never wait for it. It gets what the
    /// upstream of the route gets, credentials too, and `X-Mirrored: 1`. WebSockets are not copied.
    pub(crate) struct Mirror {
        /// Upstream that gets the copies.
        pub to: At<String> => "name an upstream, such as to: shadow",
        /// Share of the requests that are copied.
        pub share: Percent = "100%",
        /// Size of a body, up to which a request is copied; 1 MiB at most.
        pub body_max: At<ByteSize> = "64KiB",
        /// Copies at a time, from a request's head to the end of the answer to its copy. With `body_max`, this bounds the memory;
        /// requests that find no place are not copied.
        pub in_flight_max: u16 = "64",
        /// How long a copy may take.
        pub timeout: Millis = "10s",
    }
}

choice! {
    /// Up to where a deadline holds.
    pub(crate) enum DeadlineUntil {
        /// Up to the last byte of the answer. Streams and WebSockets are cut too.
        End = "end",
        /// Up to the head of the answer. Streams and WebSockets then last as long as they like.
        Head = "head",
    }
}
