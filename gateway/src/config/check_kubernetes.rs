//! Check, Kubernetes: what must hold for the endpoints of a service to be followed.
//!
//! For: raw → checked, for `discovery.kubernetes`. May touch: raw sections; the two environment variables by which a pod is told
//! where the API server is. Promises: as `check.rs`; in a program that was built without Kubernetes the key is refused.
//! Read next: `../upstream/discover/kubernetes/mod.rs`.

use std::net::Ipv6Addr;

use common::settings::Decoder;
use url::Url;

use super::check_upstreams::WITHOUT_KUBERNETES;
use super::checked::Kubernetes;
use super::raw::upstreams;
use super::values::is_label;

/// A service to follow.
pub(super) fn check_kubernetes(settings: &upstreams::Kubernetes, decoder: &mut Decoder) -> Option<Box<Kubernetes>> {
    if !cfg!(feature = "kubernetes") {
        decoder.mistake_at(&settings.service, WITHOUT_KUBERNETES);
    }
    for name in [Some(&settings.service), settings.namespace.as_ref()].into_iter().flatten() {
        if !is_label(&name.value) {
            decoder.mistake_at(name, format!("{:?} is not a name in Kubernetes", name.value));
        }
    }
    Some(Box::new(Kubernetes {
        service: settings.service.clone(),
        namespace: settings.namespace.as_ref().map(|namespace| namespace.value.clone()),
        port: settings.port.clone(),
        server: check_server(settings, decoder)?,
        ca: settings.ca.clone(),
        token: settings.token.clone(),
    }))
}

fn check_server(settings: &upstreams::Kubernetes, decoder: &mut Decoder) -> Option<Url> {
    let Some(server) = &settings.server else {
        let variable = |name| std::env::var(name).ok();
        let port = variable("KUBERNETES_SERVICE_PORT_HTTPS").or_else(|| variable("KUBERNETES_SERVICE_PORT"));
        let found = in_cluster(variable("KUBERNETES_SERVICE_HOST"), port);
        if found.is_none() {
            let advice = "KUBERNETES_SERVICE_HOST is not set, so this is no pod; say where the server is";
            decoder.mistake_at(&settings.service, advice);
        }
        return found;
    };
    let url = &server.value.0;
    if url.scheme() != "https" {
        decoder.mistake_at(server, "the API server is asked by https, so that the token stays a secret");
    }
    if !url.username().is_empty() || url.password().is_some() || url.query().is_some() || url.fragment().is_some() {
        decoder.mistake_at(server, "a server has no user name, query or fragment; the token has a key of its own");
    }
    Some(url.clone())
}

/// The URL that a pod's variables make.
fn in_cluster(host: Option<String>, port: Option<String>) -> Option<Url> {
    let host = host.filter(|host| !host.is_empty())?;
    let host = if host.parse::<Ipv6Addr>().is_ok() { format!("[{host}]") } else { host };
    let port: u16 = port.map_or(Some(443), |port| port.parse().ok())?;
    Url::parse(&format!("https://{host}:{port}")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_of_the_cluster_is_where_the_variables_say() {
        let found = |host: Option<&str>, port: Option<&str>| {
            in_cluster(host.map(str::to_owned), port.map(str::to_owned)).map(|url| url.to_string())
        };
        assert_eq!(found(Some("10.0.0.1"), Some("6443")).as_deref(), Some("https://10.0.0.1:6443/"));
        assert_eq!(found(Some("fd00::1"), Some("443")).as_deref(), Some("https://[fd00::1]/"));
        assert_eq!(found(Some("kubernetes.default.svc"), None).as_deref(), Some("https://kubernetes.default.svc/"));
        for (host, port) in [(None, Some("443")), (Some(""), None), (Some("a"), Some("x")), (Some("a b"), None)] {
            assert_eq!(found(host, port), None, "{host:?} {port:?}");
        }
    }

    #[test]
    fn names() {
        assert!(is_label("api") && is_label("a-1") && is_label(&"a".repeat(63)));
        for wrong in ["", "A", "a.b", "a/b", "-a", "a-", "é", &"a".repeat(64)] {
            assert!(!is_label(wrong), "{wrong:?}");
        }
    }
}
