//! Limits: what is asked of the store for a request, in one round trip.

use std::sync::LazyLock;
use std::sync::atomic::Ordering;
use std::time::Instant;

use futures::future::join_all;
use redis::{RedisResult, Script, ScriptInvocation};

use super::link::Link;
use super::{Away, Store};
use crate::base::limiter::{Calendar, Rate};

static SPEND: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("spend.lua")));
static SETTLE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("settle.lua")));

/// How the store counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Meter {
    /// In whole microseconds: see `Rate::in_microseconds`.
    Rate(Rate),
    Calendar {
        calendar: Calendar,
        count: u64,
    },
}

/// One limit of a request.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    pub key: Vec<u8>,
    pub meter: Meter,
    /// Units that are wanted, and those that are enough.
    pub units: u64,
    pub least: u64,
    /// What this gateway itself knows was spent: microseconds ahead, or units used.
    pub known: u64,
    /// Only watched: it refuses nothing.
    pub shadow: bool,
}

/// What the store said, limit by limit.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answers {
    /// The first limit that refused. Nothing was spent then.
    pub refused: Option<usize>,
    pub each: Vec<Answer>,
}

/// What the store said of one limit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answer {
    /// Units spent; 0 when they were not there, or another limit refused.
    pub granted: u64,
    /// Microseconds ahead, or units used, afterwards.
    pub level: u64,
}

/// Units to add to what a key has spent, or below zero to give back.
#[derive(Clone, Debug)]
pub(crate) struct Settlement {
    pub key: Vec<u8>,
    pub meter: Meter,
    pub units: i64,
}

impl Meter {
    /// Kind, size and most, as the scripts take them.
    fn arguments(self) -> (&'static str, u64, u64) {
        match self {
            Self::Rate(rate) => ("r", rate.emission_ns() / 1000, rate.tolerance_ns() / 1000),
            Self::Calendar { calendar: Calendar::Day, count } => ("d", count, 0),
            Self::Calendar { calendar: Calendar::Month, count } => ("m", count, 0),
        }
    }
}

impl Store {
    /// Spends the units of all limits of a request, or of none.
    ///
    /// # Errors
    /// `Away` when the store does not answer in time, and at once while it is known to be away.
    pub(crate) async fn spend(&self, questions: &[Question]) -> Result<Answers, Away> {
        if !self.is_up() {
            return Err(Away);
        }
        let Some(link) = self.link.load_full() else { return Err(Away) };
        let began = Instant::now();
        let asked = tokio::time::timeout(self.settings.timeout, async {
            match &*link {
                Link::One(connection) => {
                    let asked = invocation(questions).invoke_async::<Vec<i64>>(&mut connection.clone()).await;
                    asked.map(|values| answers(&values))
                }
                Link::Cluster(_) => self.spend_apart(&link, questions).await,
            }
        });
        let outcome = asked.await.unwrap_or_else(|_| Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into()));
        self.metrics.seconds.observe(began.elapsed().as_secs_f64());
        match outcome {
            Ok(Some(answers)) => {
                self.timeouts.store(0, Ordering::Relaxed);
                Ok(answers)
            }
            Ok(None) => {
                self.metrics.failures.inc();
                Err(Away)
            }
            Err(error) => Err(self.failed(&error)),
        }
    }

    /// On a cluster every key has its own node: all are asked side by side, and what some gave is given back when one did not.
    async fn spend_apart(&self, link: &Link, questions: &[Question]) -> RedisResult<Option<Answers>> {
        let Link::Cluster(connection) = link else { return Ok(None) };
        let asked = questions.iter().map(async |question| {
            let invocation = invocation(std::slice::from_ref(question));
            invocation.invoke_async::<Vec<i64>>(&mut connection.clone()).await
        });
        let mut all = Answers::default();
        for (index, values) in join_all(asked).await.into_iter().enumerate() {
            let Some(one) = answers(&values?) else { return Ok(None) };
            if one.refused.is_some() && all.refused.is_none() {
                all.refused = Some(index);
            }
            all.each.extend(one.each);
        }
        if all.refused.is_some() {
            for (question, answer) in questions.iter().zip(&mut all.each).filter(|(_, answer)| answer.granted > 0) {
                let units = i64::try_from(answer.granted).unwrap_or(i64::MAX);
                self.settle(Settlement { key: question.key.clone(), meter: question.meter, units: -units });
                answer.granted = 0;
            }
        }
        Ok(Some(all))
    }

    /// Settles what a request has really cost, without waiting for it. What finds the queue full is counted.
    pub(crate) fn settle(&self, settlement: Settlement) {
        if self.settlements.try_send(settlement).is_err() {
            self.metrics.settlements_lost.inc();
        }
    }
}

fn invocation(questions: &[Question]) -> ScriptInvocation<'static> {
    let mut invocation = SPEND.prepare_invoke();
    for question in questions {
        let (kind, size, most) = question.meter.arguments();
        invocation.key(&question.key);
        invocation.arg(kind).arg(size).arg(most).arg(question.units).arg(question.least).arg(question.known);
        invocation.arg(u8::from(question.shadow));
    }
    invocation
}

/// `[refused, granted, level, granted, level, …]`, as `spend.lua` answers; `None` for anything else.
fn answers(values: &[i64]) -> Option<Answers> {
    let (refused, rest) = values.split_first()?;
    let (pairs, []) = rest.as_chunks::<2>() else { return None };
    let number = |value: i64| u64::try_from(value).ok();
    let each =
        pairs.iter().map(|[granted, level]| Some(Answer { granted: number(*granted)?, level: number(*level)? }));
    Some(Answers { refused: usize::try_from(*refused).ok()?.checked_sub(1), each: each.collect::<Option<_>>()? })
}

impl Settlement {
    pub(super) async fn send(&self, link: &Link) -> RedisResult<()> {
        let (kind, size, most) = self.meter.arguments();
        let mut invocation = SETTLE.key(&self.key);
        invocation.arg(kind).arg(size).arg(most).arg(self.units);
        match link.clone() {
            Link::One(mut connection) => invocation.invoke_async(&mut connection).await,
            Link::Cluster(mut connection) => invocation.invoke_async(&mut connection).await,
        }
    }
}
