//! Hosts: by which names this program may be asked.
//!
//! For: the middleware. May touch: nothing. Promises: where names are listed, a request is served only when every name
//! that it carries is one of them, so that a page that points its own name at this address gets nothing.
//! Read next: `middleware.rs`.

use axum::extract::Request;
use http::header::HOST;

/// Whether the request names this program, with any port. Every name does, if none are listed.
pub(super) fn is_trusted(request: &Request, trusted: &[String]) -> bool {
    if trusted.is_empty() {
        return true;
    }
    let is_listed = |name: &str| trusted.iter().any(|host| host.eq_ignore_ascii_case(name));
    let target = request.uri().host().map(is_listed);
    let fields = request.headers().get_all(HOST).iter();
    let fields = fields.map(|value| value.to_str().is_ok_and(|text| is_listed(name_of(text))));
    let mut named = target.into_iter().chain(fields);
    // HTTP/2 has the name in the target, HTTP/1.1 in the field, and HTTP/1.0 may have none.
    named.next().is_some_and(|first| first && named.all(|is_ours| is_ours))
}

/// The name without the port.
fn name_of(host: &str) -> &str {
    match host.find(']') {
        Some(end) => host.split_at(end + 1).0,
        None => host.split(':').next().unwrap_or(host),
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    #[test]
    fn every_name_of_a_request_must_be_listed() {
        let trusted = ["api.example.org".to_owned(), "[::1]".to_owned()];
        let cases: [(&str, &[&str], bool); 8] = [
            ("/", &["api.example.org"], true),
            ("/", &["API.example.org:8443"], true),
            ("/", &["[::1]:8000"], true),
            ("http://api.example.org/", &[], true),
            ("http://api.example.org/", &["evil.example"], false),
            ("/", &["api.example.org.evil.example"], false),
            ("/", &["api.example.org", "evil.example"], false),
            ("/", &[], false),
        ];
        for (target, fields, expected) in cases {
            let mut request = http::Request::builder().uri(target);
            for field in fields {
                request = request.header(HOST, *field);
            }
            let request = request.body(Body::empty()).expect("a request");
            assert_eq!(is_trusted(&request, &trusted), expected, "{target} {fields:?}");
            assert!(is_trusted(&request, &[]), "{target} {fields:?}");
        }
    }
}
