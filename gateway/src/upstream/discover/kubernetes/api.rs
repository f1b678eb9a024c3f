//! API: how the API server of Kubernetes is asked.
//!
//! For: lists and watches of `EndpointSlices`. May touch: the network, and the files that the settings name. Promises: HTTPS alone,
//! verified against the authorities of the settings and nobody else; every answer has a deadline and a largest size; the token
//! goes to no other host. Read next: `mod.rs`.

use std::path::Path;
use std::time::Duration;

use bytes::BytesMut;
use common::body;
use common::secret::SecretRef;
use url::Url;

use super::KubernetesError;
use super::slices::{Event, Page, SLICES_MAX, Slices, Status};
use crate::base::http_client;
use crate::config::checked::Kubernetes as Settings;

/// Where a pod finds its own namespace.
const NAMESPACE_FILE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";

/// Slices on one page of a list, and pages that are read.
const PAGE_SLICES: usize = 128;
const PAGES_MAX: usize = 2 * SLICES_MAX / PAGE_SLICES;

/// The size of one page: as many endpoints as there may be, of some 500 bytes each, twice.
const PAGE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The size of one line of a watch: more than an object may have in Kubernetes.
const LINE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// The size of a refusal.
const REFUSAL_BYTES_MAX: usize = 64 * 1024;

/// How long one page of a list may take.
const LIST_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a watch lasts before the server ends it, in seconds; more by up to a fifth, so that a fleet does not ask in step.
const WATCH_SECONDS: u64 = 240;

/// How much longer to wait for that end.
const WATCH_GRACE: Duration = Duration::from_secs(15);

/// After so long without a word on the wire it is asked whether the other side is still there.
const KEEPALIVE: Duration = Duration::from_secs(15);

/// An API server, and the slices of one service there.
pub(super) struct Api {
    client: reqwest::Client,
    slices: Url,
    selector: String,
    token: SecretRef,
}

/// Changes, one after the other.
pub(super) struct Watch {
    answer: reqwest::Response,
    unread: BytesMut,
    /// How much of `unread` is known to hold no end of a line.
    searched: usize,
}

impl Api {
    /// Reads the authorities and the namespace. Blocks on files.
    ///
    /// # Errors
    /// When they cannot be used.
    pub(super) fn open(settings: &Settings) -> Result<Self, KubernetesError> {
        let pem = read(&settings.ca.value)?;
        let authorities = reqwest::Certificate::from_pem_bundle(&pem).map_err(KubernetesError::Client)?;
        if authorities.is_empty() {
            return Err(KubernetesError::NoAuthority(settings.ca.value.display().to_string()));
        }
        // One connection is held for the watch; that it lives is found out below HTTP.
        let builder = http_client::builder().https_only(true).http1_only().tcp_keepalive(KEEPALIVE);
        let client = builder.tls_certs_only(authorities).build().map_err(KubernetesError::Client)?;
        let namespace = namespace(settings)?;
        let mut slices = settings.server.clone();
        let path = ["apis", "discovery.k8s.io", "v1", "namespaces", namespace.as_str(), "endpointslices"];
        slices.path_segments_mut().map_err(|()| KubernetesError::Url)?.pop_if_empty().extend(path);
        let selector = format!("kubernetes.io/service-name={}", settings.service.value);
        Ok(Self { client, slices, selector, token: settings.token.value.clone() })
    }

    /// Every slice of the service, page by page.
    ///
    /// # Errors
    /// When the server refuses, is silent or says too much.
    pub(super) async fn list(&self) -> Result<Slices, KubernetesError> {
        let mut slices = Slices::default();
        let mut next: Option<String> = None;
        for _ in 0..PAGES_MAX {
            let mut query = vec![("limit", PAGE_SLICES.to_string())];
            query.extend(next.map(|next| ("continue", next)));
            let answer = self.ask(&query, LIST_TIMEOUT).await?;
            let page = body::read(answer, PAGE_BYTES_MAX).await?;
            let page: Page = serde_json::from_slice(&page).map_err(KubernetesError::Form)?;
            for slice in page.items.into_iter().flatten() {
                slices.put(slice)?;
            }
            next = page.metadata.r#continue.filter(|next| !next.is_empty());
            if next.is_none() {
                slices.version = page.metadata.resource_version;
                return Ok(slices);
            }
        }
        Err(KubernetesError::TooMany)
    }

    /// The changes since a version.
    ///
    /// # Errors
    /// When the server refuses or is silent; `Gone` when it does not know so old a version any more.
    pub(super) async fn watch(&self, version: &str) -> Result<Watch, KubernetesError> {
        let seconds = WATCH_SECONDS + rand::random::<u64>() % (WATCH_SECONDS / 5);
        let query = [
            ("watch", "true".to_owned()),
            ("allowWatchBookmarks", "true".to_owned()),
            ("resourceVersion", version.to_owned()),
            ("timeoutSeconds", seconds.to_string()),
        ];
        let answer = self.ask(&query, Duration::from_secs(seconds) + WATCH_GRACE).await?;
        Ok(Watch { answer, unread: BytesMut::new(), searched: 0 })
    }

    async fn ask(&self, query: &[(&str, String)], timeout: Duration) -> Result<reqwest::Response, KubernetesError> {
        let mut url = self.slices.clone();
        url.query_pairs_mut().append_pair("labelSelector", &self.selector);
        for (key, value) in query {
            url.query_pairs_mut().append_pair(key, value);
        }
        let token = self.token.clone();
        let token = tokio::task::spawn_blocking(move || token.resolve()).await?.map_err(KubernetesError::Token)?;
        let asked = self.client.get(url).timeout(timeout).bearer_auth(token.expose());
        let asked = asked.header(http::header::ACCEPT, "application/json");
        let answer = asked.send().await.map_err(KubernetesError::Ask)?;
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        let said = body::read(answer, REFUSAL_BYTES_MAX).await?;
        // Not every refusal has the form: one of a proxy in between is text.
        let said: Status = serde_json::from_slice(&said).unwrap_or_default();
        Err(said.into_error(status.as_u16()))
    }
}

impl Watch {
    /// The next change; `None` when the watch has ended.
    ///
    /// # Errors
    /// When the connection breaks, or a line is no event or too long.
    pub(super) async fn next(&mut self) -> Result<Option<Event>, KubernetesError> {
        loop {
            if let Some(found) = self.unread[self.searched..].iter().position(|byte| *byte == b'\n') {
                let line = self.unread.split_to(self.searched + found + 1);
                self.searched = 0;
                if line.trim_ascii().is_empty() {
                    continue;
                }
                return serde_json::from_slice(&line).map(Some).map_err(KubernetesError::Form);
            }
            self.searched = self.unread.len();
            if self.searched > LINE_BYTES_MAX {
                return Err(KubernetesError::TooLong(LINE_BYTES_MAX));
            }
            match self.answer.chunk().await.map_err(KubernetesError::Ask)? {
                Some(chunk) => self.unread.extend_from_slice(&chunk),
                // Half a line is told again by the next watch.
                None => return Ok(None),
            }
        }
    }
}

/// The namespace of the settings, or that of the pod this runs in. Blocks on a file.
///
/// # Errors
/// When there is neither.
pub(super) fn namespace(settings: &Settings) -> Result<String, KubernetesError> {
    match &settings.namespace {
        Some(namespace) => Ok(namespace.clone()),
        None => Ok(String::from_utf8_lossy(&read(Path::new(NAMESPACE_FILE))?).trim().to_owned()),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, KubernetesError> {
    std::fs::read(path).map_err(|source| KubernetesError::File { path: path.display().to_string(), source })
}
