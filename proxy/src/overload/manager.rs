//! From pressure to action. It reads monitors when it is told to, and writes [`Loads`].

use std::sync::Arc;

use crate::config::overload::Action;
use crate::config::overload::ActionRule;
use crate::config::overload::Overload;
use crate::config::overload::PointRule;
use crate::config::overload::Timeout;
use crate::config::overload::Triggers;
use crate::overload::Loads;
use crate::overload::held::Order;
use crate::overload::monitor::Gauge;
use crate::telemetry::stats::OverloadActionStats;
use crate::telemetry::stats::OverloadResourceStats;
use crate::telemetry::stats::Registry;
use crate::telemetry::stats::ShedPointStats;

/// The control side's part.
#[derive(Debug)]
pub struct Manager {
    gauges: Vec<Watched>,
    rules: Vec<Rule>,
    points: Vec<(PointRule, Arc<ShedPointStats>)>,
    /// Timeouts are others than at the last look.
    retimed: bool,
    loads: Arc<Loads>,
    tracked_from_power: u32,
}

#[derive(Debug)]
struct Watched {
    gauge: Gauge,
    stats: Arc<OverloadResourceStats>,
    /// The last that could be read.
    pressure: f64,
    has_failed: bool,
}

#[derive(Debug)]
struct Rule {
    rule: ActionRule,
    stats: Arc<OverloadActionStats>,
    strength: f64,
}

impl Manager {
    /// Writes what is to be done to `loads`.
    pub fn new(config: &Overload, loads: Arc<Loads>, registry: &Registry) -> Self {
        let watched = config.monitors.iter().map(|monitor| Watched {
            gauge: Gauge::new(monitor.kind.clone()),
            stats: registry.overload_resource(&monitor.name),
            pressure: 0.0,
            has_failed: false,
        });
        let rules = config.actions.iter().map(|rule| Rule {
            rule: rule.clone(),
            stats: registry.overload_action(rule.action.as_str()),
            strength: 0.0,
        });
        let points = config.points.iter().map(|rule| {
            let stats = registry.shed_point(rule.point.as_str());
            if let Some(point) = loads.points.get(rule.point.place()) {
                let _ = point.stats.set(Arc::clone(&stats)); // each point is there once
            }
            (rule.clone(), stats)
        });
        let points = points.collect();
        if !config.timeouts.is_empty() {
            let _ = loads.timeouts.set(Timeout::ALL.map(|timeout| {
                let mut all = config.timeouts.iter();
                all.find(|(known, _)| *known == timeout)
                    .map(|(_, least)| *least)
            })); // there is one manager
        }
        let gauges: Vec<Watched> = watched.collect();
        let limits = gauges
            .iter()
            .filter_map(|watched| watched.gauge.memory_bytes());
        if let Some(least) = limits.min() {
            loads.bound(least);
        }
        Self {
            gauges,
            rules: rules.collect(),
            points,
            retimed: false,
            loads,
            tracked_from_power: config.tracked_from_power,
        }
    }

    /// Which streams are to be reset now, if any.
    pub fn resets(&self) -> Option<Order> {
        let mut rules = self.rules.iter();
        let rule = rules.find(|rule| rule.rule.action == Action::ResetStreams)?;
        (rule.strength > 0.0).then(|| Order {
            strength: rule.strength,
            power: self.tracked_from_power,
            stats: Arc::clone(&rule.stats),
        })
    }

    /// Looks at every resource, and decides; true if memory is to be given back now.
    pub fn look(&mut self) -> bool {
        for watched in &mut self.gauges {
            watched.look();
        }
        let pressures: Vec<f64> = self.gauges.iter().map(|watched| watched.pressure).collect();
        self.decide(&pressures)
    }

    /// Whether timeouts have changed by the last look.
    pub fn has_retimed(&self) -> bool {
        self.retimed
    }

    fn decide(&mut self, pressures: &[f64]) -> bool {
        self.retimed = false;
        for rule in &mut self.rules {
            let before = rule.strength;
            rule.decide(pressures, &self.loads);
            #[expect(clippy::float_cmp, reason = "any change is one")]
            let has_changed = rule.strength != before;
            self.retimed |= rule.rule.action == Action::ReduceTimeouts && has_changed;
        }
        for (rule, stats) in &self.points {
            let strength = strength(&rule.triggers, pressures);
            self.loads.shed(rule.point, strength);
            stats.scale_percent().set(percent(strength));
        }
        self.loads.is_full(Action::ShrinkHeap)
    }
}

impl Watched {
    fn look(&mut self) {
        match self.gauge.pressure() {
            Ok(pressure) => {
                self.pressure = pressure;
                self.has_failed = false;
                self.stats.pressure().set(percent(pressure));
            }
            Err(error) => {
                self.stats.failed_updates().inc();
                if !std::mem::replace(&mut self.has_failed, true) {
                    tracing::warn!(gauge = ?self.gauge, %error, "a resource cannot be looked at");
                }
            }
        }
    }
}

impl Rule {
    fn decide(&mut self, pressures: &[f64], loads: &Loads) {
        let strength = strength(&self.rule.triggers, pressures);
        let action = self.rule.action;
        if let Some(action) = loads.action(action) {
            action.set(strength);
        }
        self.stats.active().set(i64::from(strength >= 1.0));
        self.stats.scale_percent().set(percent(strength));
        if (strength > 0.0) != (self.strength > 0.0) {
            let action = action.as_str();
            if strength > 0.0 {
                tracing::warn!(action, "overloaded");
            } else {
                tracing::info!(action, "no longer overloaded");
            }
        }
        self.strength = strength;
    }
}

/// That of the strongest trigger.
fn strength(triggers: &Triggers, pressures: &[f64]) -> f64 {
    let strengths = triggers.iter().map(|(place, level)| {
        let pressure = pressures.get(*place).copied().unwrap_or_default();
        level.at(pressure)
    });
    strengths.fold(0.0, f64::max)
}

fn percent(part: f64) -> i64 {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "it saturates, and is a hundred or a little more"
    )]
    let percent = (part * 100.0) as i64;
    percent
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::overload::Level;
    use crate::config::overload::Monitor;
    use crate::config::overload::MonitorKind;
    use crate::config::overload::ShedPoint;
    use crate::telemetry::stats::Group as _;
    use crate::telemetry::stats::Reading;

    #[test]
    fn actions_come_in_their_order_and_go_by_themselves() {
        let rule = |action, level| ActionRule {
            action,
            triggers: vec![(0, level)],
        };
        let config = Overload {
            refresh_interval: Duration::from_secs(1),
            monitors: vec![Monitor {
                name: "heap".into(),
                kind: MonitorKind::FixedHeap { bytes_max: 1 },
            }],
            actions: vec![
                rule(Action::ShrinkHeap, Level::From(0.8)),
                rule(Action::DisableKeepalive, Level::From(0.85)),
                rule(Action::StopAcceptingRequests, Level::Between(0.9, 0.95)),
                rule(Action::StopAcceptingConnections, Level::From(0.98)),
                rule(Action::ResetStreams, Level::Between(1.0, 1.5)),
            ],
            points: vec![PointRule {
                point: ShedPoint::Headers,
                triggers: vec![(0, Level::From(0.9))],
            }],
            timeouts: Vec::new(),
            connections_max: None,
            tracked_from_power: 20,
        };
        let loads = Arc::<Loads>::default();
        assert_eq!(loads.held_max(), crate::config::limits::HELD_BYTES_TOTAL);
        let registry = Registry::new(1);
        let mut manager = Manager::new(&config, Arc::clone(&loads), &registry);
        let stats = registry.shed_point(ShedPoint::Headers.as_str());
        assert_eq!(loads.held_max(), 0, "a quarter of one byte");
        let count = || match stats.read(1) {
            Some(Reading::Counter(count)) => count,
            other => panic!("{other:?}"),
        };
        let mut at = |pressure: f64| {
            manager.decide(&[pressure]);
            let before = count();
            let sheds = loads.sheds(ShedPoint::Headers);
            assert_eq!(sheds, pressure >= 0.9);
            assert_eq!(count() - before, u64::from(sheds));
            assert!(!loads.sheds(ShedPoint::Routed), "each is its own");
            let full = Action::ALL
                .into_iter()
                .filter(|action| loads.is_full(*action));
            full.collect::<Vec<_>>()
        };
        assert!(at(0.7).is_empty());
        assert_eq!(at(0.8), [Action::ShrinkHeap]);
        assert_eq!(at(0.9), [Action::DisableKeepalive, Action::ShrinkHeap]);
        assert_eq!(at(0.96).len(), 3);
        assert_eq!(at(1.2).len(), 4);
        assert!(at(0.5).is_empty());
        assert!(manager.look(), "the process has more than one byte");
    }
}
