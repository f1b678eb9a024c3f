//! Check of models, streams, the answer cache, playbooks and the sandbox.
//!
//! For: `check.rs`, which has the tools. May touch: secret references.
//! Promises: a fallback names another model of the file, and no model twice. Read next: `../checked/query.rs`.

use std::collections::HashSet;

use common::settings::{At, Decoder};
use url::Url;

use super::{bounded, lasting, secret, size, unique_name};
use crate::config::checked::{Cache, Circuit, Model, Playbooks, SANDBOX_ID, Sandbox, Streams};
use crate::config::raw;

/// What a client calls a model that the router shall choose.
const AUTO: &str = "auto";

/// The most fallbacks of one model.
const FALLBACKS_MAX: usize = 8;

/// The most attempts on one model.
const ATTEMPTS_MAX: u32 = 5;

pub(super) fn models(raw: Vec<raw::Model>, decoder: &mut Decoder) -> Option<Vec<Model>> {
    let mut seen = HashSet::new();
    let ids: Vec<String> = raw.iter().map(|model| model.id.value.clone()).collect();
    let checked: Vec<Option<Model>> =
        raw.into_iter().map(|model| check_model(model, &ids, &mut seen, decoder)).collect();
    checked.into_iter().collect()
}

fn check_model(raw: raw::Model, ids: &[String], seen: &mut HashSet<String>, decoder: &mut Decoder) -> Option<Model> {
    let id = unique_name(&raw.id, "model", seen, decoder);
    if raw.id.value == AUTO {
        decoder.mistake_at(&raw.id, "\"auto\" is what clients say when the router shall choose");
    }
    let key = match &raw.key {
        Some(reference) => secret(reference, decoder).map(Some),
        None => Some(None),
    };
    let timeout = lasting(&raw.timeout, decoder);
    let connect_timeout = lasting(&raw.connect_timeout, decoder);
    let first_token_timeout = lasting(&raw.first_token_timeout, decoder);
    let token_timeout = lasting(&raw.token_timeout, decoder);
    let answer_bytes_max = size(&raw.answer_max, decoder);
    let tokens_max = bounded(&raw.tokens_max, 1, 10_000_000, decoder);
    let attempts_max = bounded(&raw.attempts_max, 1, ATTEMPTS_MAX, decoder);
    let retry_wait_max = lasting(&raw.retry_wait_max, decoder);
    let fallbacks = fallbacks(&raw.id, raw.fallbacks, ids, decoder);
    let circuit = circuit(&raw.circuit, decoder);
    let mut completions_url = raw.url.0;
    let path = format!("{}/chat/completions", completions_url.path().trim_end_matches('/'));
    completions_url.set_path(&path);
    let id = id?;
    Some(Model {
        upstream_name: raw.model.unwrap_or_else(|| id.clone()),
        id,
        size: raw.size,
        completions_url,
        key: key?,
        timeout: timeout?,
        connect_timeout: connect_timeout?,
        first_token_timeout: first_token_timeout?,
        token_timeout: token_timeout?,
        answer_bytes_max: answer_bytes_max?,
        tokens_max: tokens_max?,
        attempts_max: attempts_max?,
        retry_wait_max: retry_wait_max?,
        fallbacks,
        circuit: circuit?,
    })
}

/// The fallbacks that are sound. What is wrong with the others is reported.
fn fallbacks(id: &At<String>, raw: Vec<At<String>>, ids: &[String], decoder: &mut Decoder) -> Vec<String> {
    let mut sound: Vec<String> = Vec::new();
    for name in raw {
        if name.value == id.value {
            decoder.mistake_at(&name, "is the model itself");
        } else if !ids.contains(&name.value) {
            let known = ids.iter().map(String::as_str).filter(|known| *known != id.value);
            let message = name.unknown_name("model", &name.value, known);
            decoder.mistake_at(&name, message);
        } else if sound.contains(&name.value) {
            decoder.mistake_at(&name, format!("{:?} stands here twice", name.value));
        } else if sound.len() == FALLBACKS_MAX {
            decoder.mistake_at(&name, format!("a model has {FALLBACKS_MAX} fallbacks at most"));
        } else {
            sound.push(name.value);
        }
    }
    sound
}

fn circuit(raw: &raw::Circuit, decoder: &mut Decoder) -> Option<Circuit> {
    let failures_max = bounded(&raw.failures_max, 1, 1_000_000, decoder);
    let open_for = lasting(&raw.open_for, decoder);
    Some(Circuit { failures_max: failures_max?, open_for: open_for? })
}

pub(super) fn cache(raw: &raw::Cache, decoder: &mut Decoder) -> Option<Cache> {
    let answers_max = bounded(&raw.answers_max, 1, 10_000_000, decoder);
    let bytes_max = size(&raw.bytes_max, decoder);
    let ttl = lasting(&raw.ttl, decoder);
    Some(Cache { answers_max: answers_max?, bytes_max: bytes_max? as u64, ttl: ttl?, public: raw.public })
}

pub(super) fn streams(raw: &raw::Streams, decoder: &mut Decoder) -> Option<Streams> {
    let open_max = bounded(&raw.open_max, 1, 1_000_000, decoder);
    let heartbeat = lasting(&raw.heartbeat, decoder);
    Some(Streams { open_max: usize::try_from(open_max?).ok()?, heartbeat: heartbeat? })
}

pub(super) fn playbooks(raw: raw::Playbooks, decoder: &mut Decoder) -> Option<Playbooks> {
    let score_min = bounded(&raw.score_min, 1, 1_000, decoder);
    Some(Playbooks { path: raw.path, score_min: score_min? })
}

/// `None` where no sandbox is configured, and also after a mistake, which is reported.
pub(super) fn sandbox(raw: raw::Sandbox, decoder: &mut Decoder) -> Option<Sandbox> {
    let key = match &raw.key {
        Some(reference) => secret(reference, decoder).map(Some),
        None => Some(None),
    };
    let timeout = lasting(&raw.timeout, decoder);
    let output_bytes_max = size(&raw.output_max, decoder);
    let template = unique_name(&raw.template, "template", &mut HashSet::new(), decoder);
    let run_at = match raw.run_at {
        Some(at) => run_at(at, decoder).map(Some),
        None => Some(None),
    };
    Some(Sandbox {
        protocol: raw.protocol,
        url: raw.url.0,
        key: key?,
        template: template?,
        run_at: run_at?,
        internet: raw.internet,
        timeout: timeout?,
        output_bytes_max: output_bytes_max?,
    })
}

/// The address of a sandbox, with a place for its id.
fn run_at(at: At<String>, decoder: &mut Decoder) -> Option<String> {
    let named = at.value.replace(SANDBOX_ID, "x");
    let is_web = |url: Url| matches!(url.scheme(), "http" | "https") && url.has_host();
    if named == at.value || !named.parse().is_ok_and(is_web) {
        decoder.mistake_at(
            &at,
            "is not an http or https address with {id} in it, such as https://49999-{id}.e2b.example",
        );
        return None;
    }
    Some(at.value)
}
