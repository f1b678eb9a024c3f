//! Check ACME: what must hold for a certificate to be ordered.
//!
//! For: raw → checked, for `tls.acme` of a listener. May touch: raw sections. Promises: as `check.rs`.
//! Read next: `check_listeners.rs`.

use std::collections::HashMap;
use std::sync::Arc;

use common::settings::{At, Decoder, Named};

use super::checked::Acme;
use super::raw::listeners::{self, Listener};
use super::values::is_label;

/// Names of one certificate: what the best known authorities allow.
const NAMES_MAX: usize = 100;

/// Length of a DNS name (RFC 1035 §2.3.4).
const NAME_BYTES_MAX: usize = 253;

/// What holds over all listeners: there is one where proofs can be shown, and a name is ordered in one way.
pub(super) fn check_orders(named: &Named<Listener>, decoder: &mut Decoder) {
    let items = &named.items;
    let all_read = named.names().count() == items.len();
    let has_plain = items.iter().any(|(_, listener)| listener.tls.is_none());
    let mut ordered: HashMap<String, (&str, &listeners::Acme)> = HashMap::new();
    for (listener, settings) in items {
        let Some(acme) = settings.tls.as_ref().and_then(|tls| tls.acme.as_ref()) else { continue };
        if all_read && !has_plain {
            let advice = "there is no listener without TLS, where the authority could ask for its proof";
            decoder.mistake_at(&acme.terms_agreed, advice);
        }
        let clash = acme.names.iter().find_map(|name| {
            let (other, settings) = ordered.get(&name.value.to_ascii_lowercase())?;
            (*settings != acme).then_some((name, *other))
        });
        if let Some((name, other)) = clash {
            decoder.mistake_at(name, format!("{} is ordered otherwise by listener {other:?}", name.value));
        }
        for name in &acme.names {
            ordered.insert(name.value.to_ascii_lowercase(), (listener.value.as_str(), acme));
        }
    }
}

/// One order.
pub(super) fn check_acme(acme: &listeners::Acme, decoder: &mut Decoder) -> Option<Acme> {
    let names = checked_names(acme, decoder);
    if !acme.terms_agreed.value {
        let advice = "nothing is ordered before you agree to the authority's terms of service";
        decoder.mistake_at(&acme.terms_agreed, advice);
    }
    if acme.directory.value.0.scheme() != "https" {
        decoder.mistake_at(&acme.directory, "a directory is asked by https (RFC 8555 §6.1)");
    }
    for contact in &acme.contact {
        if !contact.value.strip_prefix("mailto:").is_some_and(|address| address.contains('@')) {
            decoder.mistake_at(contact, "a contact is written as mailto:NAME@HOST");
        }
    }
    let renew_before = acme.renew_before.value.duration();
    if renew_before.as_secs() == 0 {
        decoder.mistake_at(&acme.renew_before, "renew_before is at least 1s");
    }
    Some(Acme {
        names: names?,
        directory: acme.directory.value.0.clone(),
        contact: acme.contact.iter().map(|contact| contact.value.clone()).collect(),
        ca: acme.ca.clone(),
        storage: acme.storage.clone(),
        renew_before,
        key_type: acme.key_type,
    })
}

fn checked_names(acme: &listeners::Acme, decoder: &mut Decoder) -> Option<Vec<Arc<str>>> {
    if acme.names.is_empty() {
        decoder.mistake_at(&acme.terms_agreed, "names is empty; list at least one");
        return None;
    }
    if acme.names.len() > NAMES_MAX {
        decoder.mistake_at(&acme.terms_agreed, format!("a certificate has at most {NAMES_MAX} names"));
        return None;
    }
    let mut names: Vec<Arc<str>> = Vec::with_capacity(acme.names.len());
    for name in &acme.names {
        let lower = name.value.to_ascii_lowercase();
        if !is_dns_name(&lower) {
            told(name, "is no DNS name; wildcards and addresses cannot be proved by HTTP-01", decoder);
        } else if names.iter().any(|known| **known == *lower) {
            told(name, "is listed twice", decoder);
        } else {
            names.push(lower.into());
        }
    }
    Some(names)
}

fn told(name: &At<String>, what: &str, decoder: &mut Decoder) {
    decoder.mistake_at(name, format!("{:?} {what}", name.value));
}

/// Whether a name, in lower case, has two labels at least and nothing else in it. All digits at the end would be an address.
fn is_dns_name(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or_default();
    name.len() <= NAME_BYTES_MAX
        && name.contains('.')
        && name.split('.').all(is_label)
        && !last.bytes().all(|byte| byte.is_ascii_digit())
}
