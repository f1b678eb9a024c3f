//! Cases: requests that the operator wrote down, with what must become of them.
//!
//! For: `tests` of the file, raw → checked, and the request line that `gateway explain` takes too. May touch: raw sections.
//! Promises: what a case names is there; a request line is one that a client could send. Read next: `raw/cases.rs`, then
//! `../explain/cases.rs`, which runs them.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;

use common::code::Code;
use common::settings::{At, Decode, Decoder, Named, Node, Shape, from_text};
use http::{HeaderName, HeaderValue, Method};

use super::check::resolve;
use super::fields::FieldValue;
use super::raw::cases as raw;

/// Method and target of a request, as it is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RequestLine {
    pub method: Method,
    /// Whether by TLS; `None` where only a path was written.
    pub encrypted: Option<bool>,
    /// Host and port, where a URL was written.
    pub authority: Option<String>,
    /// Path and query.
    pub target: String,
}

/// The address that a request comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SenderAddress(pub IpAddr);

/// A request, and what must become of it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Case {
    pub send: At<RequestLine>,
    pub headers: Vec<(HeaderName, HeaderValue)>,
    pub from: IpAddr,
    /// `None` where the credentials among the headers are judged.
    pub sender: Option<Assumed>,
    pub expect: Expect,
}

/// A caller who needs no credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Assumed {
    pub subject: String,
    pub permissions: Vec<String>,
    pub roles: Vec<String>,
}

/// What must become of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Expect {
    pub status: Option<u16>,
    pub route: Option<String>,
    pub code: Option<Code>,
    pub upstream: Option<String>,
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

impl RequestLine {
    /// Reads `GET /path` or `GET https://host/path`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let expected = || {
            format!(
                "{text:?} is not a method with a URL or path, such as \"GET /health\" or \"GET https://api.example.org/v1/models\""
            )
        };
        let (method, url) = text.trim().split_once(' ').ok_or_else(expected)?;
        let method = method.parse::<Method>().map_err(|_| expected())?;
        let url = url.trim_start();
        // Everything else may stand in a target: whether it is sound, the gateway says.
        if url.bytes().any(|byte| byte <= b' ' || byte == 0x7f) {
            return Err(expected());
        }
        let schemes = [("https://", true), ("http://", false)];
        let absolute = schemes.iter().find_map(|(scheme, encrypted)| Some((url.strip_prefix(scheme)?, *encrypted)));
        let (encrypted, authority, target) = match absolute {
            Some((rest, encrypted)) => {
                let (authority, target) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
                (Some(encrypted), Some(authority.to_owned()), target)
            }
            None => (None, None, url),
        };
        let sound = |authority: &str| !authority.is_empty() && authority.bytes().all(|byte| byte.is_ascii_graphic());
        if !authority.as_deref().map_or_else(|| target.starts_with('/'), sound) {
            return Err(expected());
        }
        // What stands behind "#" is never sent.
        let target = target.split('#').next().unwrap_or(target);
        let slash = if target.starts_with('/') { "" } else { "/" };
        Ok(Self { method, encrypted, authority, target: format!("{slash}{target}") })
    }
}

/// Method and URL, or path, in the form in which they are written.
impl fmt::Display for RequestLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.encrypted {
            Some(true) => "https://",
            Some(false) => "http://",
            None => "",
        };
        write!(f, "{} {scheme}{}{}", self.method, self.authority.as_deref().unwrap_or_default(), self.target)
    }
}

impl Assumed {
    /// What is wrong with it: what could not be told to an upstream is nobody (see `Identity`).
    pub(crate) fn mistakes(&self) -> Vec<&'static str> {
        let visible = |text: &str| text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
        let sound = |word: &String, separator: char| !word.is_empty() && visible(word) && !word.contains(separator);
        let mut mistakes = Vec::new();
        if self.subject.is_empty() || !visible(&self.subject) {
            mistakes.push("a subject is plain text on one line");
        }
        if !self.permissions.iter().all(|word| sound(word, ' ')) || !self.roles.iter().all(|word| sound(word, ',')) {
            mistakes.push("a permission holds no space, a role no comma, and neither is empty");
        }
        mistakes
    }
}

impl Decode for RequestLine {
    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        from_text(node, decoder, Self::parse)
    }

    fn shape() -> Shape {
        Shape::text("method and URL or path")
    }
}

impl Decode for SenderAddress {
    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        from_text(node, decoder, |text| {
            text.parse().map(Self).map_err(|_| format!("{text:?} is not an IP address, such as 203.0.113.7"))
        })
    }

    fn shape() -> Shape {
        Shape::text("IP address")
    }
}

/// What cases may name.
pub(super) struct Known<'a> {
    pub routes: &'a HashMap<String, usize>,
    pub upstreams: &'a HashMap<String, usize>,
}

/// Every case.
pub(super) fn check_cases(cases: Vec<raw::Case>, known: &Known<'_>, decoder: &mut Decoder) -> Vec<Case> {
    cases.into_iter().map(|case| check_case(case, known, decoder)).collect()
}

fn check_case(case: raw::Case, known: &Known<'_>, decoder: &mut Decoder) -> Case {
    let sender = case.r#as.map(|assumed| check_assumed(assumed, decoder));
    let expect = check_expect(case.expect, &case.send, known, decoder);
    Case { headers: fields(&case.headers, decoder), send: case.send, from: case.from.0, sender, expect }
}

fn check_assumed(assumed: raw::Assumed, decoder: &mut Decoder) -> Assumed {
    let raw::Assumed { subject, permissions, roles } = assumed;
    let assumed = Assumed { subject: subject.value.clone(), permissions, roles };
    for mistake in assumed.mistakes() {
        decoder.mistake_at(&subject, mistake);
    }
    assumed
}

fn check_expect(expect: raw::Expect, send: &At<RequestLine>, known: &Known<'_>, decoder: &mut Decoder) -> Expect {
    let headers = fields(&expect.headers, decoder);
    let names = [&expect.route, &expect.code, &expect.upstream];
    if expect.status.is_none() && headers.is_empty() && names.iter().all(|name| name.is_none()) {
        decoder.mistake_at(send, "expects nothing; name a status, route, code, upstream or headers");
    }
    if let Some(status) = expect.status.as_ref().filter(|status| !(200..=599).contains(&status.value)) {
        decoder.mistake_at(status, "a status is 200 to 599");
    }
    if let Some(route) = &expect.route {
        resolve(route, "route", known.routes, decoder);
    }
    if let Some(upstream) = &expect.upstream {
        resolve(upstream, "upstream", known.upstreams, decoder);
    }
    let code = expect.code.as_ref().and_then(|code| {
        let found = Code::ALL.iter().copied().find(|known| known.name() == code.value);
        if found.is_none() {
            let names = Code::ALL.iter().map(|code| code.name());
            decoder.mistake_at(code, code.unknown_name("code", &code.value, names));
        }
        found
    });
    Expect {
        status: expect.status.map(|status| status.value),
        route: expect.route.map(|route| route.value),
        code,
        upstream: expect.upstream.map(|upstream| upstream.value),
        headers,
    }
}

fn fields(named: &Named<FieldValue>, decoder: &mut Decoder) -> Vec<(HeaderName, HeaderValue)> {
    let mut fields = Vec::with_capacity(named.items.len());
    for (name, value) in &named.items {
        match HeaderName::try_from(name.value.as_str()) {
            Ok(field) => fields.push((field, value.0.clone())),
            Err(_) => decoder.mistake_at(name, format!("{:?} is not a header name", name.value)),
        }
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_lines_are_read_as_they_are_sent() {
        let cases = [
            ("GET /health", None, None, "/health"),
            ("GET  /a%2Fb?x=1#top", None, None, "/a%2Fb?x=1"),
            ("PUT https://A.test:8443/x//../y", Some(true), Some("A.test:8443"), "/x//../y"),
            ("GET http://a.test", Some(false), Some("a.test"), "/"),
            ("GET http://a.test?x", Some(false), Some("a.test"), "/?x"),
        ];
        for (text, encrypted, authority, target) in cases {
            let line = RequestLine::parse(text).expect(text);
            assert_eq!(
                (line.encrypted, line.authority.as_deref(), line.target.as_str()),
                (encrypted, authority, target),
                "{text}"
            );
            assert_eq!(RequestLine::parse(&line.to_string()).as_ref(), Ok(&line), "{text} as {line}");
        }
        let no_method = ["", "GET", "/health", "G\u{e9}T /"];
        let no_url = ["GET health", "GET ftp://a/", "GET https:///x", "GET /a b", "GET http://\u{e9}/"];
        for wrong in no_method.into_iter().chain(no_url) {
            assert!(RequestLine::parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
