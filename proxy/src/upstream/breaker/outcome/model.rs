//! A breaker beside a naive one that remembers every request, through the same history.

use proptest::prelude::*;

use super::tests::admit;
use super::*;
use crate::config::outcome_breaker::SlowRequests;

const WINDOW: Duration = Duration::from_secs(1);
const STEP: Duration = Duration::from_millis(100);
const SLOW: Duration = Duration::from_millis(50);

/// What happens next; a place chooses among the requests on their way.
#[derive(Clone, Debug)]
enum Event {
    Ask,
    End {
        place: usize,
        failed: bool,
        slow: bool,
    },
    GiveUp {
        place: usize,
    },
    Wait(u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Is {
    Closed,
    Open {
        until: Duration,
    },
    Trying {
        until: Duration,
        sent: u32,
        good: u32,
    },
}

/// The naive one. A request belongs to the round it was let pass in.
#[derive(Debug)]
struct Model {
    config: OutcomeBreaker,
    is: Is,
    round: u32,
    past: Vec<(u128, bool, bool)>,
}

impl Model {
    fn become_(&mut self, is: Is) {
        self.is = is;
        self.round += 1;
    }

    fn ask(&mut self, now: Duration) -> Option<u32> {
        let until = now + self.config.open_time;
        let sent = 1;
        match self.is {
            Is::Open { until } if now < until => return None,
            Is::Trying { until, sent, good } if sent < self.config.probes => {
                let sent = sent + 1;
                self.is = Is::Trying { until, sent, good };
            }
            Is::Trying { until, .. } if now < until => return None,
            Is::Closed => {}
            Is::Open { .. } | Is::Trying { .. } => self.become_(Is::Trying {
                until,
                sent,
                good: 0,
            }),
        }
        Some(self.round)
    }

    fn end(&mut self, round: u32, (failed, slow): (bool, bool), now: Duration) {
        if round != self.round {
            return;
        }
        let until = now + self.config.open_time;
        match self.is {
            Is::Closed => {
                let step = now.as_nanos() / STEP.as_nanos();
                self.past.push((step, failed, slow));
                self.past.retain(|(at, ..)| at + 10 > step);
                if self.has_enough() {
                    self.become_(Is::Open { until });
                }
            }
            Is::Trying { .. } if failed || slow => self.become_(Is::Open { until }),
            Is::Trying { good, .. } if good + 1 == self.config.probes => {
                self.past.clear();
                self.become_(Is::Closed);
            }
            Is::Trying { until, sent, good } => {
                let good = good + 1;
                self.is = Is::Trying { until, sent, good };
            }
            Is::Open { .. } => {}
        }
    }

    fn has_enough(&self) -> bool {
        let all = self.past.len() as f64;
        let failed = self.past.iter().filter(|(_, failed, _)| *failed).count();
        let slow = self.past.iter().filter(|(.., slow)| *slow).count() as f64;
        let many = self.past.len() >= self.config.requests_min as usize;
        let share = |part: f64, percent: Option<f64>| {
            percent.is_some_and(|percent| many && part > 0.0 && part / all * 100.0 >= percent)
        };
        let counted = |most: u32| failed >= most as usize;
        self.config.error_count.is_some_and(counted)
            || share(failed as f64, self.config.error_percent)
            || share(slow, self.config.slow.map(|rule| rule.percent))
    }

    fn give_up(&mut self, round: u32) {
        if let Is::Trying { sent, .. } = &mut self.is
            && round == self.round
        {
            *sent -= 1;
        }
    }
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        5 => Just(Event::Ask),
        4 => (any::<usize>(), any::<bool>(), prop::bool::weighted(0.2))
            .prop_map(|(place, failed, slow)| Event::End { place, failed, slow }),
        1 => any::<usize>().prop_map(|place| Event::GiveUp { place }),
        2 => (0_u64..400).prop_map(Event::Wait),
    ];
    prop::collection::vec(event, 1..200)
}

fn settings() -> impl Strategy<Value = OutcomeBreaker> {
    let percent = || prop::option::of(prop::sample::select(vec![25.0, 50.0, 100.0]));
    let limits = (percent(), prop::option::of(1_u32..6), percent());
    (limits, 1_u32..8, 1_u32..4).prop_map(
        |((error_percent, error_count, slow), requests_min, probes)| OutcomeBreaker {
            slow: slow.map(|percent| SlowRequests {
                slower_than: SLOW,
                percent,
            }),
            error_percent,
            error_count,
            window: WINDOW,
            requests_min,
            open_time: Duration::from_millis(300),
            probes,
            ..OutcomeBreaker::default()
        },
    )
}

fn is(state: State) -> Is {
    match state {
        State::Closed => Is::Closed,
        State::HalfOpen { until, sent, good } => Is::Trying { until, sent, good },
        State::Open { until } => Is::Open { until },
    }
}

proptest! {
    #[test]
    fn it_does_what_the_naive_one_does(config in settings(), events in events()) {
        let breaker = Arc::new(Breaker::new(Arc::new(config.clone())));
        // Without a rule for slow requests none is slow.
        let minds_slow = config.slow.is_some();
        let mut model = Model { config, is: Is::Closed, round: 0, past: Vec::new() };
        let mut on_their_way = Vec::new();
        let mut now = Duration::ZERO;
        for event in events {
            match event {
                Event::Wait(millis) => now += Duration::from_millis(millis),
                Event::Ask => {
                    let (found, wanted) = (admit(&breaker, now), model.ask(now));
                    prop_assert_eq!(found.is_ok(), wanted.is_some());
                    on_their_way.extend(found.ok().zip(wanted));
                }
                Event::End { .. } | Event::GiveUp { .. } if on_their_way.is_empty() => {}
                Event::End { place, failed, slow } => {
                    let (ticket, round) = on_their_way.swap_remove(place % on_their_way.len());
                    let took = if slow { SLOW * 2 } else { SLOW };
                    ticket.end(failed, || took, now);
                    model.end(round, (failed, slow && minds_slow), now);
                }
                Event::GiveUp { place } => {
                    let (ticket, round) = on_their_way.swap_remove(place % on_their_way.len());
                    drop(ticket);
                    model.give_up(round);
                }
            }
            prop_assert_eq!(is(breaker.report(now).state), model.is);
        }
    }
}
