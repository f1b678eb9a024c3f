//! Export: spans from a queue to the collector, in batches, on a thread of its own.
//!
//! For: telling spans without a request ever waiting for it. May touch: the collector, by HTTP; the log.
//! Promises: the queue is bounded; a batch is tried for the set time and then dropped and counted; that the collector is
//! away is logged once, and once that it is back; at the end what is left is told, for as long as it is waited for.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};
use std::thread::Thread;
use std::time::Duration;

use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_otlp::{
    ExporterBuildError, Protocol, RetryPolicy, SpanExporter, WithExportConfig as _, WithHttpConfig as _,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SpanData, SpanExporter as _};
use tokio::runtime::Runtime;

use super::settings::Settings;
use super::span::{Inner, Tracer};
use crate::http_client;

/// Spans that are told at once.
const BATCH_SPANS_MAX: usize = 512;

/// How often the queue is looked at. A request that had to wake a sleeping thread would pay for it.
const INTERVAL: Duration = Duration::from_millis(200);

/// How long a connection to the collector may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Counts spans that are lost.
pub type OnLost = Arc<dyn Fn(u64) + Send + Sync>;

/// Whose spans they are.
#[derive(Clone, Copy, Debug)]
pub struct Service {
    /// Such as `gateway`.
    pub name: &'static str,
    /// Of the program.
    pub version: &'static str,
}

/// Traces cannot be told.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The HTTP client cannot be built.
    #[error("the client for the collector cannot be built")]
    Client(#[from] reqwest::Error),
    /// The exporter refuses its settings.
    #[error("the exporter cannot be built")]
    Exporter(#[from] ExporterBuildError),
    /// The system gave no thread or runtime.
    #[error("the system refused")]
    System(#[from] io::Error),
}

/// The telling, to be ended.
#[derive(Debug)]
pub struct Delivery {
    ending: Arc<AtomicBool>,
    thread: Thread,
    ended: Receiver<()>,
}

/// Starts telling. The collector need not be there yet.
///
/// # Errors
/// When the client cannot be built, or the system gives no thread.
pub fn start(service: Service, settings: &Settings, on_lost: OnLost) -> Result<(Tracer, Delivery), StartError> {
    let exporter = exporter(service, settings)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (queue, spans) = sync_channel(settings.queue_max);
    let (done, ended) = sync_channel(1);
    let ending = Arc::new(AtomicBool::new(false));
    let courier = Courier {
        exporter,
        runtime,
        spans,
        timeout: settings.timeout,
        on_lost: Arc::clone(&on_lost),
        ending: Arc::clone(&ending),
        is_away: false,
    };
    let thread = std::thread::Builder::new().name("traces".into()).spawn(move || {
        courier.run();
        // When nobody waits any more, the process is being ended without this.
        let _ = done.send(());
    })?;
    let scope = InstrumentationScope::builder(service.name).with_version(service.version).build();
    let inner = Inner { queue, sampling: settings.sampling, scope, on_lost };
    Ok((Tracer { inner: Arc::new(inner) }, Delivery { ending, thread: thread.thread().clone(), ended }))
}

impl Delivery {
    /// Tells what is left, and waits for that; `false` when it takes longer than `limit`.
    #[must_use]
    pub fn finish(self, limit: Duration) -> bool {
        self.ending.store(true, Ordering::Release);
        self.thread.unpark();
        self.ended.recv_timeout(limit).is_ok()
    }
}

fn exporter(service: Service, settings: &Settings) -> Result<SpanExporter, StartError> {
    let client = http_client::for_server(&settings.endpoint, CONNECT_TIMEOUT)
        .timeout(settings.timeout)
        // Kept by the client, where they are marked as secrets; the exporter would show and decode them.
        .default_headers(settings.headers.clone());
    let mut exporter = SpanExporter::builder()
        .with_http()
        .with_http_client(client.build()?)
        .with_retry_policy(RetryPolicy::recommended())
        .with_endpoint(settings.endpoint.as_str())
        .with_protocol(Protocol::HttpBinary)
        .with_timeout(settings.timeout)
        .build()?;
    let resource = Resource::builder_empty().with_attributes([
        KeyValue::new("service.name", service.name),
        KeyValue::new("service.version", service.version),
        KeyValue::new("service.instance.id", format!("{:032x}", rand::random::<u128>())),
    ]);
    exporter.set_resource(&resource.build());
    Ok(exporter)
}

/// Carries spans to the collector.
struct Courier {
    exporter: SpanExporter,
    runtime: Runtime,
    spans: Receiver<SpanData>,
    timeout: Duration,
    on_lost: OnLost,
    ending: Arc<AtomicBool>,
    /// Whether the last batch was not accepted.
    is_away: bool,
}

impl Courier {
    fn run(mut self) {
        loop {
            // Read before the queue is: what was handed over before the end was called is still told.
            let ending = self.ending.load(Ordering::Acquire);
            let abandoned = self.deliver_all();
            if ending || abandoned {
                return;
            }
            std::thread::park_timeout(INTERVAL);
        }
    }

    /// Tells what is in the queue; whether nothing more can come.
    fn deliver_all(&mut self) -> bool {
        loop {
            let mut batch = Vec::new();
            let mut abandoned = false;
            while batch.len() < BATCH_SPANS_MAX {
                match self.spans.try_recv() {
                    Ok(span) => batch.push(span),
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => {
                        abandoned = true;
                        break;
                    }
                }
            }
            let is_last = batch.len() < BATCH_SPANS_MAX;
            if !batch.is_empty() {
                self.deliver(batch);
            }
            if is_last {
                return abandoned;
            }
        }
    }

    fn deliver(&mut self, batch: Vec<SpanData>) {
        let count = batch.len() as u64;
        let (exporter, limit) = (&self.exporter, self.timeout);
        // Made inside, where the runtime's clock is at hand.
        let told = self.runtime.block_on(async { tokio::time::timeout(limit, exporter.export(batch)).await });
        let trouble = match told {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some(format!("no answer within {limit:?}")),
        };
        if trouble.is_some() {
            (self.on_lost)(count);
        }
        match (trouble, self.is_away) {
            (Some(error), false) => {
                tracing::warn!(error, "traces are not accepted; spans are dropped until they are");
                self.is_away = true;
            }
            (None, true) => {
                tracing::info!("traces are accepted again");
                self.is_away = false;
            }
            (Some(_), true) | (None, false) => {}
        }
    }
}
