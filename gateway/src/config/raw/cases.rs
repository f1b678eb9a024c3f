//! Keys of `tests`: requests, and what must become of them.

use common::section;
use common::settings::{At, Named};

use crate::config::cases::{RequestLine, SenderAddress};
use crate::config::fields::FieldValue;

section! {
    /// A request, and what must become of it. `gateway test` asks the configuration; nothing is sent, and `run` never looks here.
    pub(crate) struct Case {
        /// Method and URL, such as `GET https://api.example.org/v1/models?page=2`. A path alone is one of the host `localhost`, by
        /// TLS where a listener speaks it.
        pub send: At<RequestLine> => "say what is sent, such as send: GET /health",
        /// Its header fields.
        pub headers: Named<FieldValue> = "{}",
        /// The address it comes from.
        pub from: SenderAddress = "127.0.0.1",
        /// Who is taken to have sent it, in place of a credential. Without it, what is among `headers` is judged.
        pub r#as: Option<Assumed> = "null",
        /// What must become of it; one thing at least.
        pub expect: Expect => "say what must become of it, such as expect: { status: 401 }",
    }
}

section! {
    /// A caller who needs no credential here.
    pub(crate) struct Assumed {
        /// Who it is.
        pub subject: At<String> = "test",
        /// What it may do.
        pub permissions: Vec<String> = "[]",
        /// Its roles.
        pub roles: Vec<String> = "[]",
    }
}

section! {
    /// What must become of a request; what is not named does not matter.
    pub(crate) struct Expect {
        /// Status of the gateway's own answer. A request that would be sent on has none yet; see `upstream`.
        pub status: Option<At<u16>> = "null",
        /// Route that it takes.
        pub route: Option<At<String>> = "null",
        /// Code that it is refused with.
        pub code: Option<At<String>> = "null",
        /// Upstream that it would be sent to; of a split that is drawn for, one of those that may be drawn.
        pub upstream: Option<At<String>> = "null",
        /// Fields that what goes out must have: the request to the upstream, or the gateway's own answer.
        pub headers: Named<FieldValue> = "{}",
    }
}
