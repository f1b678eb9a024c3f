//! Slices: the `EndpointSlices` of one service, and whom they name.
//!
//! For: documents of the API server → targets. May touch: nothing. Promises: of all slices together, each address once, in an
//! order of their own, so that the same endpoints make the same targets. Read next: `api.rs`.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use serde::Deserialize;

use super::KubernetesError;
use crate::config::checked::{EndpointPort, Place, Target};

/// Slices of one service, at most. Kubernetes puts a hundred endpoints into each.
pub(super) const SLICES_MAX: usize = 1024;

/// Endpoints of all slices of one service, at most.
pub(super) const ENDPOINTS_MAX: usize = 16_384;

/// What is known of the slices, as of a version.
#[derive(Debug, Default)]
pub(super) struct Slices {
    known: HashMap<String, Slice>,
    /// The `resourceVersion` from which a watch goes on.
    pub version: String,
}

/// What an event changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// Who is an endpoint, or what is known of one.
    Endpoints,
    /// The version alone.
    Version,
}

/// One page of a list.
#[derive(Debug, Deserialize)]
pub(super) struct Page {
    pub metadata: ListMetadata,
    /// `null` where there is none.
    pub items: Option<Vec<Slice>>,
}

/// About a list.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ListMetadata {
    pub resource_version: String,
    /// What the next page is asked with; absent or empty on the last.
    pub r#continue: Option<String>,
}

/// One line of a watch.
#[derive(Debug, Deserialize)]
pub(super) struct Event {
    r#type: String,
    object: serde_json::Value,
}

/// What the API server says when something is wrong.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Status {
    pub code: Option<u16>,
    pub message: Option<String>,
}

/// The parts of an `EndpointSlice` that matter here. A bookmark has the metadata alone.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Slice {
    metadata: Metadata,
    address_type: Option<String>,
    endpoints: Option<Vec<Endpoint>>,
    ports: Option<Vec<Port>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    name: Option<String>,
    resource_version: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Endpoint {
    addresses: Option<Vec<String>>,
    conditions: Option<Conditions>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
struct Conditions {
    ready: Option<bool>,
    serving: Option<bool>,
    terminating: Option<bool>,
}

#[derive(Debug, Deserialize)]
struct Port {
    name: Option<String>,
    port: Option<u16>,
    protocol: Option<String>,
}

impl Slices {
    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.known.len()
    }

    /// Takes a slice in, in place of the one of the same name.
    ///
    /// # Errors
    /// When there are more than the bounds allow.
    pub(super) fn put(&mut self, slice: Slice) -> Result<(), KubernetesError> {
        self.known.insert(slice.metadata.name.clone().unwrap_or_default(), slice);
        let endpoints: usize = self.known.values().map(|slice| slice.endpoints.as_ref().map_or(0, Vec::len)).sum();
        if self.known.len() > SLICES_MAX || endpoints > ENDPOINTS_MAX {
            return Err(KubernetesError::TooMany);
        }
        Ok(())
    }

    /// Takes in what a watch tells.
    ///
    /// # Errors
    /// When the watch tells of an error, or there are more slices than the bounds allow.
    pub(super) fn apply(&mut self, event: Event) -> Result<Change, KubernetesError> {
        if event.r#type == "ERROR" {
            let status: Status = serde_json::from_value(event.object).map_err(KubernetesError::Form)?;
            return Err(status.into_error(500));
        }
        let slice: Slice = serde_json::from_value(event.object).map_err(KubernetesError::Form)?;
        if let Some(version) = &slice.metadata.resource_version {
            self.version.clone_from(version);
        }
        match event.r#type.as_str() {
            "ADDED" | "MODIFIED" => self.put(slice)?,
            "DELETED" => {
                self.known.remove(slice.metadata.name.as_deref().unwrap_or_default());
            }
            // BOOKMARK, and what later servers may add.
            _ => return Ok(Change::Version),
        }
        Ok(Change::Endpoints)
    }

    /// Where requests may go: to endpoints that are ready; when there is none, to those that are about to end and still serve.
    /// Of a service with both families IPv4 is taken, because each of its pods is listed in both.
    pub(super) fn targets(&self, wanted: Option<&EndpointPort>) -> Vec<Target> {
        let (mut ready, mut leaving) = (Vec::new(), Vec::new());
        for slice in self.known.values() {
            let Some(port) = slice.port(wanted) else { continue };
            for endpoint in slice.endpoints.iter().flatten() {
                let conditions = endpoint.conditions.unwrap_or_default();
                let Some(ip) = slice.ip(endpoint) else { continue };
                if conditions.is_ready() {
                    ready.push(SocketAddr::new(ip, port));
                } else if conditions.serves_its_last() {
                    leaving.push(SocketAddr::new(ip, port));
                }
            }
        }
        let mut found = if ready.is_empty() { leaving } else { ready };
        if found.iter().any(SocketAddr::is_ipv4) {
            found.retain(SocketAddr::is_ipv4);
        }
        found.sort_unstable();
        // While an endpoint moves from one slice to another it may be in both.
        found.dedup();
        found.into_iter().map(|address| Target { at: Place::Ip(address), weight: 1 }).collect()
    }
}

impl Slice {
    /// The number of the wanted port; without a wish, the only one.
    fn port(&self, wanted: Option<&EndpointPort>) -> Option<u16> {
        let ports = self.ports.iter().flatten();
        let ports = ports.filter(|port| port.protocol.as_deref().unwrap_or("TCP") == "TCP");
        let mut fitting = ports.filter(|port| match wanted {
            None => true,
            Some(EndpointPort::Name(name)) => port.name.as_deref() == Some(name.as_str()),
            Some(EndpointPort::Number(number)) => port.port == Some(*number),
        });
        let first = fitting.next()?;
        if wanted.is_none() && fitting.next().is_some() {
            return None;
        }
        first.port.filter(|port| *port > 0)
    }

    /// The first address, which is the only one with a meaning, when it is of the slice's family.
    fn ip(&self, endpoint: &Endpoint) -> Option<IpAddr> {
        let ip: IpAddr = endpoint.addresses.as_ref()?.first()?.parse().ok()?;
        match self.address_type.as_deref() {
            Some("IPv4") => ip.is_ipv4().then_some(ip),
            Some("IPv6") => ip.is_ipv6().then_some(ip),
            _ => None,
        }
    }
}

impl Conditions {
    /// Unknown counts as ready.
    fn is_ready(self) -> bool {
        self.ready.unwrap_or(true)
    }

    fn serves_its_last(self) -> bool {
        self.serving == Some(true) && self.terminating == Some(true)
    }
}

impl Status {
    /// The error it stands for; `status` where it names none itself.
    pub(super) fn into_error(self, status: u16) -> KubernetesError {
        match self.code.unwrap_or(status) {
            410 => KubernetesError::Gone,
            status => KubernetesError::Refused { status, message: self.message.unwrap_or_default() },
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn slice(name: &str, family: &str, endpoints: &Value, ports: &Value) -> Value {
        json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": { "name": name, "namespace": "shop", "resourceVersion": "7", "uid": "x" },
            "addressType": family, "endpoints": endpoints, "ports": ports,
        })
    }

    fn known(documents: &[Value]) -> Slices {
        let mut slices = Slices::default();
        for document in documents {
            slices.put(serde_json::from_value(document.clone()).expect("a slice")).expect("a few");
        }
        slices
    }

    fn at(slices: &Slices, wanted: Option<&EndpointPort>) -> Vec<String> {
        slices.targets(wanted).iter().map(|target| target.at.to_string()).collect()
    }

    fn event(kind: &str, object: &Value) -> Event {
        serde_json::from_value(json!({ "type": kind, "object": object })).expect("an event")
    }

    fn http() -> Value {
        json!([{ "name": "http", "port": 80, "protocol": "TCP" }])
    }

    #[test]
    fn slices_are_merged_and_each_address_is_taken_once() {
        let one = json!([
            { "addresses": ["10.0.0.2"], "conditions": { "ready": true, "serving": true, "terminating": false } },
            { "addresses": ["10.0.0.1", "10.0.0.9"], "zone": "a", "hints": { "forZones": [{ "name": "a" }] } },
            { "addresses": ["10.0.0.3"], "conditions": { "ready": false } },
        ]);
        let two = json!([{ "addresses": ["10.0.0.2"], "conditions": {} }, { "addresses": ["10.0.0.4"] }]);
        let other_port = json!([{ "name": "http", "port": 8080 }]);
        let empty = slice("d", "IPv4", &Value::Null, &Value::Null);
        let slices = known(&[
            slice("a", "IPv4", &one, &http()),
            slice("b", "IPv4", &two, &http()),
            slice("c", "IPv4", &json!([{ "addresses": ["10.0.0.1"] }]), &other_port),
            empty,
        ]);
        let expected = ["10.0.0.1:80", "10.0.0.1:8080", "10.0.0.2:80", "10.0.0.4:80"];
        assert_eq!(at(&slices, Some(&EndpointPort::Name("http".into()))), expected);
    }

    #[test]
    fn a_port_goes_by_its_name_its_number_or_by_being_the_only_one() {
        let endpoints = json!([{ "addresses": ["10.0.0.1"] }]);
        let both = json!([
            { "name": "http", "port": 80 }, { "name": "metrics", "port": 9100 },
            { "name": "dns", "port": 53, "protocol": "UDP" }, { "name": "all" },
        ]);
        let several = known(&[slice("a", "IPv4", &endpoints, &both)]);
        let single = known(&[slice("a", "IPv4", &endpoints, &json!([{ "name": "", "port": 81 }]))]);
        let name = |name: &str| EndpointPort::Name(name.to_owned());
        let cases: &[(&Slices, Option<EndpointPort>, &[&str])] = &[
            (&several, Some(name("metrics")), &["10.0.0.1:9100"]),
            (&several, Some(EndpointPort::Number(80)), &["10.0.0.1:80"]),
            (&several, Some(EndpointPort::Number(53)), &[]),
            (&several, Some(name("all")), &[]),
            (&several, Some(name("nothing")), &[]),
            (&several, None, &[]),
            (&single, None, &["10.0.0.1:81"]),
        ];
        for (slices, wanted, expected) in cases {
            assert_eq!(at(slices, wanted.as_ref()), *expected, "{wanted:?}");
        }
    }

    #[test]
    fn of_two_families_ipv4_is_taken_and_names_are_not() {
        let of = |name, family, address: &str| slice(name, family, &json!([{ "addresses": [address] }]), &http());
        let (v4, v6) = (of("a", "IPv4", "10.0.0.1"), of("b", "IPv6", "fd00::1"));
        let wrong = [of("c", "FQDN", "api.test"), of("d", "IPv4", "fd00::2"), of("e", "IPv6", "nonsense")];
        assert_eq!(at(&known(&[v4, v6.clone()]), None), ["10.0.0.1:80"]);
        assert_eq!(at(&known(&[v6]), None), ["[fd00::1]:80"]);
        assert!(at(&known(&wrong), None).is_empty());
    }

    #[test]
    fn who_is_about_to_end_serves_only_when_nobody_else_is_ready() {
        let leaving = json!({ "ready": false, "serving": true, "terminating": true });
        let ended = json!({ "ready": false, "serving": false, "terminating": true });
        let of = |ready: bool| {
            let endpoints = json!([
                { "addresses": ["10.0.0.1"], "conditions": { "ready": ready } },
                { "addresses": ["10.0.0.2"], "conditions": leaving },
                { "addresses": ["10.0.0.3"], "conditions": ended },
            ]);
            known(&[slice("a", "IPv4", &endpoints, &http())])
        };
        assert_eq!(at(&of(true), None), ["10.0.0.1:80"]);
        assert_eq!(at(&of(false), None), ["10.0.0.2:80"]);
    }

    #[test]
    fn events_change_what_is_known_and_move_the_version() {
        let of = |address: &str| slice("a", "IPv4", &json!([{ "addresses": [address] }]), &http());
        let mut slices = Slices::default();
        assert_eq!(slices.apply(event("ADDED", &of("10.0.0.1"))).ok(), Some(Change::Endpoints));
        assert_eq!((at(&slices, None), slices.version.as_str()), (vec!["10.0.0.1:80".to_owned()], "7"));
        assert_eq!(slices.apply(event("MODIFIED", &of("10.0.0.2"))).ok(), Some(Change::Endpoints));
        assert_eq!(at(&slices, None), ["10.0.0.2:80"]);
        let bookmark = json!({ "kind": "EndpointSlice", "metadata": { "resourceVersion": "9" }, "endpoints": null });
        assert_eq!(slices.apply(event("BOOKMARK", &bookmark)).ok(), Some(Change::Version));
        assert_eq!((slices.count(), slices.version.as_str()), (1, "9"));
        assert_eq!(slices.apply(event("DELETED", &of("10.0.0.2"))).ok(), Some(Change::Endpoints));
        assert!(slices.targets(None).is_empty());
    }

    #[test]
    fn errors_are_told_apart() {
        let status = |code: u16| json!({ "kind": "Status", "code": code, "message": "too old" });
        let mut slices = Slices::default();
        assert!(matches!(slices.apply(event("ERROR", &status(410))), Err(KubernetesError::Gone)));
        let refused = slices.apply(event("ERROR", &status(403)));
        assert!(matches!(refused, Err(KubernetesError::Refused { status: 403, .. })));
        assert!(matches!(slices.apply(event("ADDED", &json!([]))), Err(KubernetesError::Form(_))));
    }

    #[test]
    fn the_bounds_hold() {
        let mut slices = Slices::default();
        let mut put = |name: String, endpoints: usize| {
            let endpoints = vec![json!({ "addresses": ["10.0.0.1"] }); endpoints];
            slices.put(serde_json::from_value(slice(&name, "IPv4", &json!(endpoints), &http())).expect("a slice"))
        };
        assert!(matches!(put("a".to_owned(), ENDPOINTS_MAX + 1), Err(KubernetesError::TooMany)));
        assert!(put("a".to_owned(), 1).is_ok());
        for index in 1..SLICES_MAX {
            assert!(put(index.to_string(), 0).is_ok(), "{index}");
        }
        assert!(matches!(put("b".to_owned(), 0), Err(KubernetesError::TooMany)));
    }
}
