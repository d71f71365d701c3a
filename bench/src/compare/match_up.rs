//! One scenario among its contestants: the order of the runs, and what leaves a hole.

use std::collections::BTreeMap;

use bench::load::Pace;

use super::contestant::Contestant;
use super::outcome::{Hole, Outcome, Record, Run};
use super::report::Progress;
use super::scenario::{Kind, Metric, Scenario, Traffic};
use super::traffic::Stage;
use super::{Effort, endpoints, footprint};

/// Part of the slowest proxy's saturation at which latency is measured, for all alike.
const OPEN_LOAD: f64 = 0.5;

/// One scenario among its contestants.
#[derive(Debug)]
pub(crate) struct MatchUp<'a> {
    pub(crate) scenario: &'a Scenario,
    pub(crate) contestants: &'a [Contestant],
    pub(crate) effort: Effort,
}

impl MatchUp<'_> {
    /// Measures everything the scenario asks for.
    pub(crate) async fn play(
        &self,
        stage: &Stage<'_>,
        progress: &Progress,
    ) -> Result<Outcome, String> {
        let mut outcome = Outcome {
            scenario: self.scenario.name.to_owned(),
            title: self.scenario.title.to_owned(),
            records: self
                .contestants
                .iter()
                .map(|each| (*each, Record::default()))
                .collect(),
            ..Outcome::default()
        };
        match self.scenario.kind {
            Kind::Traffic(traffic) => {
                self.play_traffic(stage, &traffic, &mut outcome, progress)
                    .await?;
            }
            _ => self.play_values(stage, &mut outcome, progress).await,
        }
        Ok(outcome)
    }

    async fn play_traffic(
        &self,
        stage: &Stage<'_>,
        traffic: &Traffic,
        outcome: &mut Outcome,
        progress: &Progress,
    ) -> Result<(), String> {
        progress.step("direct", 0, 1);
        outcome.direct_rate = Some(stage.direct(traffic).await?);
        let rate = if let Some(rate) = traffic.rate {
            rate
        } else {
            let blocks = self.effort.closed_blocks;
            let plan = Blocks {
                traffic,
                pace: Pace::Closed,
                count: blocks,
            };
            for (contestant, runs) in self.blocks(stage, &plan, outcome, progress).await {
                if let Some(record) = outcome.records.get_mut(&contestant) {
                    record.closed = runs;
                }
            }
            let Some(slowest) = slowest_rate(outcome) else {
                return Ok(());
            };
            slowest * OPEN_LOAD
        };
        if !traffic.can_be_paced() || !self.wants_latency(traffic) {
            return Ok(());
        }
        outcome.open_rate = Some(rate);
        let pace = Pace::Open { rate, seed: 1 };
        let plan = Blocks {
            traffic,
            pace,
            count: self.effort.open_blocks,
        };
        for (contestant, runs) in self.blocks(stage, &plan, outcome, progress).await {
            if let Some(record) = outcome.records.get_mut(&contestant) {
                record.open = runs;
            }
        }
        Ok(())
    }

    /// Latency has runs of its own; a quick comparison makes them only where something rests on them.
    fn wants_latency(&self, traffic: &Traffic) -> bool {
        let mut goals = self.scenario.goals.iter();
        self.effort.all_latencies
            || traffic.rate.is_some()
            || goals.any(|goal| goal.metric == Metric::P999)
    }

    /// Runs blocks of A B B A; who fails leaves the scenario with a reason.
    async fn blocks(
        &self,
        stage: &Stage<'_>,
        plan: &Blocks<'_>,
        outcome: &mut Outcome,
        progress: &Progress,
    ) -> BTreeMap<Contestant, Vec<Vec<Run>>> {
        let mut runs: BTreeMap<Contestant, Vec<Vec<Run>>> = BTreeMap::new();
        for block in 0..plan.count {
            for contestant in self.order(block) {
                let Some(record) = outcome.records.get_mut(&contestant) else {
                    continue;
                };
                if record.hole.is_some() {
                    continue;
                }
                progress.step(contestant.name(), block, plan.count);
                let pace = reseeded(plan.pace, block as u64);
                match stage.run(contestant, plan.traffic, pace).await {
                    Ok(run) => {
                        let blocks = runs.entry(contestant).or_default();
                        blocks.resize(block + 1, Vec::new());
                        if let Some(current) = blocks.last_mut() {
                            current.push(run);
                        }
                    }
                    Err(hole) => record.hole = Some(hole),
                }
            }
        }
        runs
    }

    async fn play_values(&self, stage: &Stage<'_>, outcome: &mut Outcome, progress: &Progress) {
        for block in 0..self.effort.value_blocks {
            for (contestant, record) in &mut outcome.records {
                if record.hole.is_some() {
                    continue;
                }
                // Except where the relay keeps connections, it keeps nothing that a proxy has.
                let is_idle = matches!(self.scenario.kind, Kind::Idle(..));
                if *contestant == Contestant::Floor && !is_idle {
                    *record = Record::hole(Hole::absent("says nothing here"));
                    continue;
                }
                progress.step(contestant.name(), block, self.effort.value_blocks);
                match self.value(stage, *contestant).await {
                    Ok(value) => record.values.push(value),
                    Err(hole) => *record = Record::hole(hole),
                }
            }
        }
    }

    async fn value(&self, stage: &Stage<'_>, contestant: Contestant) -> Result<f64, Hole> {
        match self.scenario.kind {
            Kind::Idle(..) => {
                footprint::idle(stage, contestant, self.effort.idle_connections).await
            }
            Kind::EndpointChange(clusters) => endpoints::change(stage, contestant, clusters).await,
            Kind::Rest(_) => footprint::rest(stage, contestant).await,
            Kind::Start | Kind::Traffic(_) => footprint::start(stage, contestant).await,
        }
    }

    /// Random order there, the opposite order back; the block's number is the seed. Halves are the
    /// way there and the way back of the same order.
    pub(crate) fn order(&self, block: usize) -> Vec<Contestant> {
        let mut order = self.contestants.to_vec();
        let seed = if self.effort.halves { block / 2 } else { block };
        fastrand::Rng::with_seed(seed as u64).shuffle(&mut order);
        let back: Vec<Contestant> = order.iter().rev().copied().collect();
        match (self.effort.halves, block % 2) {
            (false, _) => order.into_iter().chain(back).collect(),
            (true, 0) => order,
            (true, _) => back,
        }
    }
}

/// Blocks of one kind of run.
struct Blocks<'a> {
    traffic: &'a Traffic,
    pace: Pace,
    count: usize,
}

/// The same arrivals for every proxy of a block, others in the next.
fn reseeded(pace: Pace, seed: u64) -> Pace {
    match pace {
        Pace::Closed => Pace::Closed,
        Pace::Open { rate, .. } => Pace::Open { rate, seed },
    }
}

/// The lowest saturation among the proxies.
fn slowest_rate(outcome: &Outcome) -> Option<f64> {
    outcome
        .records
        .iter()
        .filter(|(contestant, record)| **contestant != Contestant::Floor && record.hole.is_none())
        .filter_map(|(_, record)| Record::median(&record.closed, |run| run.requests_per_second))
        .min_by(f64::total_cmp)
}
