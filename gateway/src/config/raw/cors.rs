//! Keys of `cors`: whose pages may read answers.

use common::section;
use common::settings::{At, Millis};

use crate::config::fields::{FieldName, Origin};
use crate::config::values::RouteMethod;

section! {
    /// Whose pages may call routes that name this, and read what they answer (CORS, <https://fetch.spec.whatwg.org/#http-cors-protocol>).
    /// The gateway answers preflights itself, before limits and before anybody is asked for a credential, and replaces what
    /// upstreams say about it. It protects browsers: a request from elsewhere is served, and its answer is not readable there.
    pub(crate) struct Cors {
        /// Origins, as browsers send them: `https://app.example.org`, `https://*.example.org` for all below a name, or `*`
        /// alone for every one.
        pub origins: Vec<At<Origin>> => "list the origins, such as origins: [https://app.example.org]",
        /// Methods that pages may use; empty for every one that has a route.
        pub methods: Vec<RouteMethod> = "[]",
        /// Fields that pages may send besides the harmless ones, such as `Authorization`; `*` for all but that one.
        pub headers: Vec<At<FieldName>> = "[]",
        /// Fields of answers that pages may read besides the harmless ones; `*` for all.
        pub expose: Vec<At<FieldName>> = "[]",
        /// Whether browsers may send cookies and read the answer all the same. Origins must be named then.
        pub credentials: At<bool> = "false",
        /// How long browsers may remember the answer to a preflight.
        pub max_age: Millis = "10m",
    }
}
