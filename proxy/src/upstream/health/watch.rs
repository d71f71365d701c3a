//! One host, asked again and again.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use std::time::SystemTime;

use super::checker::Checker;
use super::checker::Peer;
use super::checker::Plan;
use super::event_log;
use super::flags::HealthFlags;
use super::session;
use super::session::Failure;
use super::session::Outcome;
use super::session::Session;
use super::session::Transition;
use super::state::HostHealth;
use super::supervisor::Desk;
use super::timeline::Event;
use super::timeline::What;
use crate::telemetry::stats::HealthCheckStats;
use crate::upstream::ClusterHandle;
use crate::upstream::Host;

/// What is needed to watch a host.
pub(super) struct Parts {
    pub(super) cluster: ClusterHandle,
    pub(super) host: Arc<Host>,
    pub(super) plan: Rc<Plan>,
    pub(super) desk: Rc<Desk>,
    pub(super) session: Rc<RefCell<Session>>,
}

/// Asks until it is dropped.
pub(super) async fn run(parts: Parts) {
    let Parts {
        cluster,
        host,
        plan,
        desk,
        session,
    } = parts;
    let Some((health, checked)) = host
        .health
        .as_deref()
        .and_then(|health| Some((health, health.checked.as_ref()?)))
    else {
        return;
    };
    let config = Arc::clone(&plan.config);
    let how = (health.said.as_deref(), checked);
    let peer = || Peer::new(Rc::clone(&plan), Arc::clone(&host), how);
    let mut checker = Checker::new(peer());
    sleep(&plan, session::first_wait(&config, fastrand::u64(..))).await;
    loop {
        count(health, |stats| stats.attempt().inc());
        // Boxed, so that a host that waits for its next check costs little.
        let asked = tokio::time::timeout(config.timeout, Box::pin(checker.ask())).await;
        let outcome = asked.unwrap_or_else(|_| {
            checker = Checker::new(peer()); // nothing of what was late is used again
            Outcome::Bad(Failure::Timeout)
        });
        if outcome == Outcome::Bad(Failure::Ours) {
            tracing::warn!(host = %host.label, "no descriptor or port is left for a health check");
            sleep(&plan, config.interval).await;
            continue;
        }
        let is_first = health.flags().has(HealthFlags::UNCHECKED);
        let transition = {
            let session = &mut session.borrow_mut();
            conclude(&host, health, &plan, session, outcome)
        };
        let changed = transition == Transition::Changed;
        if changed || is_first {
            desk.tell(changed);
        }
        let flags = health.flags();
        let is_fit =
            matches!(outcome, Outcome::Good { .. }) && !flags.has(HealthFlags::FAILED_CHECK);
        if is_fit && flags.has(HealthFlags::EJECTED) {
            desk.restore(&host);
        }
        let went_well = matches!(outcome, Outcome::Good { .. });
        let had_traffic = cluster.had_traffic();
        let wait = (went_well, transition);
        let wait = session::wait(&config, wait, had_traffic, fastrand::u64(..));
        sleep(&plan, wait).await;
    }
}

/// Waits until the next check; together with others, if that makes little difference.
async fn sleep(plan: &Plan, wait: Duration) {
    let due = session::due(plan.began.elapsed(), wait);
    tokio::time::sleep_until(plan.began + due).await;
}

/// An ordinary answer says that the host is unfit; returns whether that is news.
pub(super) fn say_unfit(
    host: &Host,
    health: &HostHealth,
    plan: &Plan,
    session: &mut Session,
) -> bool {
    let outcome = Outcome::Bad(Failure::Passive);
    conclude(host, health, plan, session, outcome) == Transition::Changed
}

/// Takes in how a check ended: flags, statistics, what is written down.
fn conclude(
    host: &Host,
    health: &HostHealth,
    plan: &Plan,
    session: &mut Session,
    outcome: Outcome,
) -> Transition {
    let before = health.flags();
    let (after, transition) = session.take(outcome, before, &plan.config);
    health.set_flags(after);
    match outcome {
        Outcome::Good { .. } => count(health, |stats| stats.success().inc()),
        Outcome::Bad(failure) => count(health, |stats| count_failure(stats, failure)),
    }
    for what in events(outcome, before, after) {
        event_log::write(host, plan, &what, (before, after));
        #[expect(
            clippy::disallowed_methods,
            reason = "the timeline tells the time of day"
        )]
        let at = SystemTime::now();
        health.write_down(Event { at, what });
    }
    event_log::write_routine(host, plan, outcome, (before, after));
    transition
}

fn count(health: &HostHealth, count: impl FnOnce(&HealthCheckStats)) {
    if let Some(stats) = &health.care().checks {
        count(stats);
    }
}

fn count_failure(stats: &HealthCheckStats, failure: Failure) {
    stats.failure().inc();
    if failure.is_network() {
        stats.network_failure().inc();
    } else if failure == Failure::Passive {
        stats.passive_failure().inc();
    }
}

/// What is worth to be remembered of a check.
fn events(outcome: Outcome, before: HealthFlags, after: HealthFlags) -> Vec<What> {
    let is_first = before.has(HealthFlags::UNCHECKED);
    let has_changed = |flag| before.has(flag) != after.has(flag);
    let mut events = Vec::new();
    if has_changed(HealthFlags::FAILED_CHECK) || is_first {
        events.push(match outcome {
            Outcome::Bad(failure) => What::CheckFailed { failure, is_first },
            Outcome::Good { .. } => What::CheckPassed { is_first },
        });
    }
    if has_changed(HealthFlags::DEGRADED) {
        events.push(What::Degraded(after.has(HealthFlags::DEGRADED)));
    }
    events
}
