//! Circuit: a model server that has failed several times in a row is left alone for a while.
//!
//! For: answers that come from elsewhere at once, instead of after a timeout each. May touch: the clock, metrics.
//! Promises: while it is half open, one request probes the server and no other; a probe whose request goes away, for
//! whatever reason, makes room for the next one, because its permit does so when it is dropped.
//! Read next: `failover.rs`.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use common::clock::Clock;

use crate::base::metrics::Metrics;
use crate::base::model_metrics::CircuitState;
use crate::config;

/// Whether one model server is asked.
pub(super) struct Circuit {
    model: String,
    settings: config::Circuit,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    state: Mutex<State>,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// Asked, after so many failures in a row.
    Closed { failures: u32 },
    /// Left alone until this moment of the steady clock.
    Open { until_ns: u64 },
    /// One request is on its way.
    HalfOpen,
}

/// Leave to ask the server once. What came of it is told by one of its methods, or is nothing, when it is dropped.
pub(super) struct Permit {
    circuit: Arc<Circuit>,
    is_probe: bool,
    told: bool,
}

/// The server is left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LeftAlone {
    /// When it may be asked again.
    pub(super) retry_after: Duration,
}

impl Circuit {
    pub(super) fn new(model: String, settings: config::Circuit, clock: Arc<dyn Clock>, metrics: Metrics) -> Self {
        // Published from the start, so that an alert can tell "closed" from "not there".
        metrics.models().circuit(&model, CircuitState::Closed);
        Self { model, settings, clock, metrics, state: Mutex::new(State::Closed { failures: 0 }) }
    }

    /// Leave to ask.
    ///
    /// # Errors
    /// `LeftAlone` while the circuit is open, or while a probe is on its way.
    pub(super) fn enter(self: &Arc<Self>) -> Result<Permit, LeftAlone> {
        let now_ns = self.clock.steady_ns();
        let mut state = self.lock();
        let is_probe = match *state {
            State::Closed { .. } => false,
            State::Open { until_ns } if until_ns <= now_ns => {
                self.turn(&mut state, State::HalfOpen);
                true
            }
            State::Open { until_ns } => {
                return Err(LeftAlone { retry_after: Duration::from_nanos(until_ns - now_ns) });
            }
            State::HalfOpen => return Err(LeftAlone { retry_after: self.settings.open_for }),
        };
        Ok(Permit { circuit: Arc::clone(self), is_probe, told: false })
    }

    /// How it stands, for lists. An open circuit stays open until somebody asks.
    pub(super) fn state(&self) -> CircuitState {
        state_of(*self.lock())
    }

    fn turn(&self, state: &mut State, next: State) {
        let (before, after) = (state_of(*state), state_of(next));
        *state = next;
        if before != after {
            self.metrics.models().circuit(&self.model, after);
            tracing::warn!(model = self.model, from = before.as_str(), to = after.as_str(), "a circuit has turned");
        }
    }

    fn open(&self, state: &mut State) {
        let open_ns = u64::try_from(self.settings.open_for.as_nanos()).unwrap_or(u64::MAX);
        self.turn(state, State::Open { until_ns: self.clock.steady_ns().saturating_add(open_ns) });
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A state is one value: it is whole, even if somebody panicked while holding it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn state_of(state: State) -> CircuitState {
    match state {
        State::Closed { .. } => CircuitState::Closed,
        State::Open { .. } => CircuitState::Open,
        State::HalfOpen => CircuitState::HalfOpen,
    }
}

impl Permit {
    /// The server has begun to answer. That is all a probe wants to know.
    pub(super) fn answering(&mut self) {
        if self.is_probe {
            self.is_probe = false;
            let mut state = self.circuit.lock();
            self.circuit.turn(&mut state, State::Closed { failures: 0 });
        }
    }

    /// The server has answered.
    pub(super) fn succeed(&mut self) {
        self.answering();
        self.told = true;
        let mut state = self.circuit.lock();
        // Who asked before the circuit opened does not close it: a probe does.
        if matches!(*state, State::Closed { .. }) {
            *state = State::Closed { failures: 0 };
        }
    }

    /// The server has failed.
    pub(super) fn fail(&mut self) {
        self.told = true;
        let mut state = self.circuit.lock();
        match *state {
            State::HalfOpen if self.is_probe => self.circuit.open(&mut state),
            State::Closed { failures } if failures.saturating_add(1) >= self.circuit.settings.failures_max => {
                self.circuit.open(&mut state);
            }
            State::Closed { failures } => *state = State::Closed { failures: failures + 1 },
            State::Open { .. } | State::HalfOpen => {}
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.is_probe && !self.told {
            let mut state = self.circuit.lock();
            // Nothing was learned. The next request may try at once.
            self.circuit.turn(&mut state, State::Open { until_ns: 0 });
        }
    }
}

#[cfg(test)]
mod tests {
    use common::clock::ManualClock;

    use super::*;

    const OPEN_FOR: Duration = Duration::from_secs(10);

    fn circuit() -> (Arc<Circuit>, Arc<ManualClock>) {
        let clock = Arc::new(ManualClock::at(1));
        let settings = config::Circuit { failures_max: 3, open_for: OPEN_FOR };
        let metrics = Metrics::new().expect("the metrics register");
        let circuit = Circuit::new("m".into(), settings, Arc::clone(&clock) as Arc<dyn Clock>, metrics);
        (Arc::new(circuit), clock)
    }

    fn fail(circuit: &Arc<Circuit>) {
        circuit.enter().expect("it may be asked").fail();
    }

    #[test]
    fn it_opens_after_failures_in_a_row_and_only_then() {
        let (circuit, _) = circuit();
        fail(&circuit);
        fail(&circuit);
        circuit.enter().expect("it may be asked").succeed();
        fail(&circuit);
        fail(&circuit);
        assert_eq!(circuit.state(), CircuitState::Closed);
        fail(&circuit);
        assert_eq!(circuit.state(), CircuitState::Open);
        assert_eq!(circuit.enter().err(), Some(LeftAlone { retry_after: OPEN_FOR }));
    }

    #[test]
    fn one_probe_decides() {
        let (circuit, clock) = circuit();
        for _ in 0..3 {
            fail(&circuit);
        }
        clock.advance(OPEN_FOR);
        let mut probe = circuit.enter().expect("the probe");
        assert_eq!(circuit.state(), CircuitState::HalfOpen);
        assert!(circuit.enter().is_err(), "one probe at a time");
        probe.fail();
        drop(probe);
        assert_eq!(circuit.state(), CircuitState::Open);
        assert!(circuit.enter().is_err(), "for as long as before");

        clock.advance(OPEN_FOR);
        let mut probe = circuit.enter().expect("the next probe");
        probe.answering();
        assert_eq!(circuit.state(), CircuitState::Closed);
        assert!(circuit.enter().is_ok(), "others need not wait for its end");
        probe.succeed();
    }

    #[test]
    fn a_probe_that_goes_away_makes_room_for_the_next() {
        let (circuit, clock) = circuit();
        for _ in 0..3 {
            fail(&circuit);
        }
        clock.advance(OPEN_FOR);
        drop(circuit.enter().expect("the probe"));
        assert_eq!(circuit.state(), CircuitState::Open);
        assert!(circuit.enter().is_ok(), "the next one may try at once");
    }

    #[test]
    fn who_asked_before_it_opened_does_not_close_it() {
        let (circuit, clock) = circuit();
        let mut slow = circuit.enter().expect("it may be asked");
        let mut slower = circuit.enter().expect("it may be asked");
        for _ in 0..3 {
            fail(&circuit);
        }
        slow.succeed();
        assert_eq!(circuit.state(), CircuitState::Open);
        clock.advance(OPEN_FOR);
        let _probe = circuit.enter().expect("the probe");
        slower.fail();
        assert_eq!(circuit.state(), CircuitState::HalfOpen);
    }
}
