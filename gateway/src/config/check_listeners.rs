//! Check listeners: what must hold between keys of `listeners`, and between them and others.
//!
//! For: raw → checked. May touch: raw sections. Promises: as `check.rs`. Read next: `raw/listeners.rs`.

use std::collections::HashMap;
use std::net::SocketAddr;

use common::settings::{At, Decoder, Named, Position};

use super::check_acme::{check_acme, check_orders};
use super::checked::{CertificateFiles, CertificateUse, Listener, ListenerKind, ListenerTls};
use super::raw::listeners::{self, Suite, TlsVersion};
use super::raw::server::ClientIp;
use super::raw::{self, routes};

pub(super) fn check_listeners(
    named: &Named<listeners::Listener>,
    client_ip: &ClientIp,
    decoder: &mut Decoder,
) -> Vec<Listener> {
    if named.names().next().is_none() {
        decoder.inside("listeners", |decoder| {
            let advice = "none is declared; write at least one, such as http: { bind: 127.0.0.1:8080 }";
            decoder.mistake(Position::START, advice);
        });
    }
    check_orders(named, decoder);
    let has_tls = named.items.iter().any(|(_, listener)| listener.tls.is_some());
    let mut taken: HashMap<SocketAddr, &str> = HashMap::new();
    let mut checked = Vec::with_capacity(named.items.len());
    for (name, listener) in &named.items {
        let bind = listener.bind.value.0;
        // Port 0 asks the system for a free one, so two of them never collide.
        if let Some(other) = (bind.port() != 0).then(|| taken.insert(bind, &name.value)).flatten() {
            decoder.mistake_at(&listener.bind, format!("{bind} is taken by listener {other:?}"));
        }
        let proxy_protocol = listener.proxy_protocol.value;
        if proxy_protocol && client_ip.trusted_proxies.is_empty() {
            let advice = "nobody could connect: client_ip.trusted_proxies names no one who may send the header";
            decoder.mistake_at(&listener.proxy_protocol, advice);
        }
        if let Some(kind) = listener_kind(listener, has_tls, decoder) {
            checked.push(Listener { name: name.value.as_str().into(), bind, proxy_protocol, kind });
        }
    }
    checked
}

fn listener_kind(listener: &listeners::Listener, has_tls: bool, decoder: &mut Decoder) -> Option<ListenerKind> {
    match (&listener.tls, &listener.redirect) {
        (None, None) => Some(ListenerKind::Plain),
        (Some(_), Some(redirect)) => {
            decoder.mistake_at(redirect, "a TLS listener cannot redirect to https; drop redirect or tls");
            None
        }
        (None, Some(redirect)) => {
            if !has_tls && listener.redirect_port.is_none() {
                decoder.mistake_at(redirect, "there is no TLS listener to redirect to; name a redirect_port");
            }
            Some(ListenerKind::RedirectToHttps { port: listener.redirect_port })
        }
        (Some(tls), None) => {
            if tls.certificates.is_empty() && tls.acme.is_none() {
                decoder.mistake_at(&listener.bind, "a TLS listener needs a pair in tls.certificates, or tls.acme");
            }
            check_suites(&tls.suites, tls.min_version, decoder);
            let certificates = tls.certificates.iter();
            let certificates = certificates
                .map(|pair| CertificateFiles { cert: pair.cert.clone(), key: pair.key.clone() })
                .collect();
            Some(ListenerKind::Tls(Box::new(ListenerTls {
                certificates,
                acme: tls.acme.as_ref().and_then(|acme| check_acme(acme, decoder)),
                min_version: tls.min_version,
                suites: tls.suites.iter().map(|suite| suite.value).collect(),
                client_auth: tls.client_auth.clone(),
            })))
        }
    }
}

fn check_suites(suites: &[At<Suite>], min_version: TlsVersion, decoder: &mut Decoder) {
    for (index, suite) in suites.iter().enumerate() {
        if suites[..index].contains(suite) {
            decoder.mistake_at(suite, format!("{} is listed twice", suite.value.word()));
        }
        if min_version == TlsVersion::V1_3 && !suite.value.is_tls13() {
            decoder.mistake_at(suite, format!("{} is for TLS 1.2, and min_version is 1.3", suite.value.word()));
        }
    }
}

/// Whoever wants client certificates needs a listener that asks for them.
pub(super) fn check_certificates(file: &raw::File, decoder: &mut Decoder) {
    const ADVICE: &str = "no listener asks clients for a certificate; write tls.client_auth at one of them";
    let asks = |listener: &listeners::Listener| listener.tls.as_ref().is_some_and(|tls| tls.client_auth.is_some());
    let listeners = &file.listeners;
    // A listener that could not be read may be the one.
    let all_read = listeners.names().count() == listeners.items.len();
    if !all_read || listeners.items.iter().any(|(_, listener)| asks(listener)) {
        return;
    }
    for (name, _) in file.auth.items.iter().filter(|(_, scheme)| scheme.client_certificate.is_some()) {
        decoder.mistake_at(name, ADVICE);
    }
    for route in &file.routes {
        if let Some(demand) = &route.client_certificate {
            decoder.mistake_at(demand, ADVICE);
        }
        if route.pass_client_certificate.value {
            decoder.mistake_at(&route.pass_client_certificate, ADVICE);
        }
    }
}

pub(super) fn certificate_use(route: &routes::Route) -> CertificateUse {
    CertificateUse { required: route.client_certificate.is_some(), passed_on: route.pass_client_certificate.value }
}
