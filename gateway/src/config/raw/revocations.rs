//! Keys of `revocations`: where to ask what was withdrawn before its end.

use common::secret::SecretRef;
use common::section;
use common::settings::{At, Millis};

use crate::config::values::HttpUrl;

section! {
    /// A feed of what was withdrawn before its end: tokens by their `jti`, everything of a subject that was issued until then,
    /// API keys by their id. It works on all gateways within the interval. What `POST /revocations` on the admin listener
    /// withdraws needs no feed; gateways share it by `stores.redis`.
    pub(crate) struct Revocations {
        /// Where to ask; the next is asked when one does not answer.
        pub urls: Vec<HttpUrl> => "list at least one URL",
        /// Bearer secret by which the gateway shows that it may ask.
        pub secret: Option<At<SecretRef>> = "null",
        /// Time between two questions.
        pub every: Millis = "500ms",
        /// How long a question may take.
        pub timeout: Millis = "2s",
    }
}
