//! All of one cluster: a task for each host that is checked, what workers have to tell, and building the
//! set of hosts anew when verdicts change.

use std::cell::Cell;
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::checker::Plan;
use super::flags::HealthFlags;
use super::monitor::Task;
use super::outlier::ward::Ward;
use super::session::Session;
use super::state::Care;
use super::watch;
use crate::upstream::ClusterHandle;
use crate::upstream::Host;
use crate::upstream::UpstreamCluster;
use crate::xds::resource::CheckAnswer;

/// Building a set of hosts takes no more than one part in so many of this thread's time: with ten
/// thousand hosts and a hash ring it is long, and verdicts come one by one.
const BUILD_SHARE: u32 = 10;

/// Verdicts do not wait longer than this for that reason.
const BUILD_WAIT_MAX: Duration = Duration::from_secs(1);

/// What the tasks of a cluster share.
#[derive(Debug, Default)]
pub(super) struct Desk {
    /// Rung when there is something to do.
    bell: Notify,
    /// Verdicts have changed.
    is_stale: Cell<bool>,
    /// Ejected hosts of which checks say that they are fit.
    restored: RefCell<Vec<Arc<Host>>>,
}

impl Desk {
    /// A host was checked; if `changed`, something else is said of it now.
    pub(super) fn tell(&self, changed: bool) {
        if changed {
            self.is_stale.set(true);
        }
        self.bell.notify_one();
    }

    /// A check says that an ejected host is fit.
    pub(super) fn restore(&self, host: &Arc<Host>) {
        self.restored.borrow_mut().push(Arc::clone(host));
        self.bell.notify_one();
    }
}

/// A host that is checked.
struct Patient {
    session: Rc<RefCell<Session>>,
    _task: Task,
}

struct Supervisor {
    cluster: ClusterHandle,
    /// Told once, when every host was checked.
    warmed: Option<mpsc::Sender<CheckAnswer>>,
    desk: Rc<Desk>,
    /// When the thread began.
    began: Instant,
    patients: HashMap<u64, Patient>,
    /// What was looked at last.
    seen: Option<Arc<UpstreamCluster>>,
    plan: Option<Rc<Plan>>,
    ward: Option<Ward>,
    /// No set of hosts is built before.
    build_at: Instant,
}

/// Looks after a cluster until it is dropped; its thread `began` then.
pub(super) async fn run(
    cluster: ClusterHandle,
    warmed: Option<mpsc::Sender<CheckAnswer>>,
    began: Instant,
) {
    let mut supervisor = Supervisor {
        cluster,
        warmed,
        desk: Rc::default(),
        began,
        patients: HashMap::new(),
        seen: None,
        plan: None,
        ward: None,
        build_at: Instant::now(),
    };
    supervisor.run().await;
}

impl Supervisor {
    async fn run(&mut self) {
        let cluster = self.cluster.clone();
        let mut is_told = true;
        loop {
            let current = cluster.load_full();
            self.meet(&current);
            if std::mem::take(&mut is_told) {
                self.hear(&current);
            }
            self.judge(&current);
            self.build();
            self.tell_warmed(&current).await;
            let none = Notify::new();
            let care = current.care.as_ref();
            let bell = care.map_or(&none, |care| &care.bell);
            let build = async {
                if self.desk.is_stale.get() {
                    tokio::time::sleep_until(self.build_at).await;
                } else {
                    std::future::pending::<()>().await;
                }
            };
            let look_at = self.ward.as_ref().map(Ward::look_at);
            let look = async {
                match look_at {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = look => {}
                () = cluster.changed() => {}
                () = bell.notified() => is_told = true,
                () = self.desk.bell.notified() => {}
                () = build => {}
            }
        }
    }

    /// Begins with hosts that are new, ends with those that are gone.
    fn meet(&mut self, current: &Arc<UpstreamCluster>) {
        let is_known = self
            .seen
            .as_ref()
            .is_some_and(|seen| Arc::ptr_eq(seen, current));
        if is_known {
            return;
        }
        let Some(care) = &current.care else {
            self.patients.clear();
            self.ward = None;
            self.seen = Some(Arc::clone(current));
            return;
        };
        self.keep_plan(care);
        if !self.ward.as_ref().is_some_and(|ward| ward.is_of(care)) {
            self.ward = Ward::new(care);
        }
        if let Some(ward) = &mut self.ward {
            ward.meet(current);
        }
        let mut old = std::mem::take(&mut self.patients);
        for member in current.hosts.members() {
            let id = member.host.id;
            if self.patients.contains_key(&id) {
                continue; // it stands in several localities
            }
            if let Some(patient) = old.remove(&id) {
                self.patients.insert(id, patient);
            } else if let Some(plan) = &self.plan
                && member.host.is_checked()
            {
                let session = Rc::new(RefCell::new(Session::default()));
                let watching = watch::run(watch::Parts {
                    cluster: self.cluster.clone(),
                    host: Arc::clone(&member.host),
                    plan: Rc::clone(plan),
                    desk: Rc::clone(&self.desk),
                    session: Rc::clone(&session),
                });
                let task = tokio::task::spawn_local(watching).abort_handle();
                let patient = Patient {
                    session,
                    _task: Task(task),
                };
                self.patients.insert(id, patient);
            }
        }
        self.seen = Some(Arc::clone(current));
        self.record(current, care);
    }

    fn keep_plan(&mut self, care: &Care) {
        let config = care.config.check.as_ref();
        let is_same = match (&self.plan, config) {
            (Some(plan), Some(config)) => Arc::ptr_eq(&plan.config, config),
            (plan, config) => plan.is_none() && config.is_none(),
        };
        if !is_same {
            let plan = |config| Plan::new(self.cluster.clone(), Arc::clone(config), self.began);
            self.plan = config.map(|config| Rc::new(plan(config)));
        }
    }

    /// Who returns because of a check, or because it is time.
    fn judge(&mut self, current: &UpstreamCluster) {
        let restored = self.desk.restored.take();
        if let Some(ward) = &mut self.ward {
            let mut changed = ward.look(current);
            for host in restored {
                changed |= ward.restore(&host);
            }
            if changed {
                self.desk.is_stale.set(true);
            }
        }
    }

    /// Takes in what workers have to tell.
    fn hear(&mut self, current: &UpstreamCluster) {
        if let Some(ward) = &mut self.ward
            && ward.hear(current)
        {
            self.desk.is_stale.set(true);
        }
        for member in current.hosts.members() {
            let host = &member.host;
            if let Some(health) = host.health.as_deref()
                && health.take_said_unfit()
                && let Some(patient) = self.patients.get(&host.id)
                && let Some(plan) = &self.plan
            {
                let mut session = patient.session.borrow_mut();
                if watch::say_unfit(host, health, plan, &mut session) {
                    self.desk.tell(true);
                }
            }
        }
    }

    /// Builds the set of hosts anew, if verdicts have changed and it is not too soon.
    fn build(&mut self) {
        let began = Instant::now();
        if began < self.build_at || !self.desk.is_stale.replace(false) {
            return;
        }
        self.cluster.refresh_health();
        let took = began.elapsed();
        self.build_at = began + (took * BUILD_SHARE).min(BUILD_WAIT_MAX);
        let current = self.cluster.load_full();
        self.meet(&current);
    }

    async fn tell_warmed(&mut self, current: &UpstreamCluster) {
        if self.warmed.is_none() {
            return;
        }
        let mut hosts = current.hosts.members().iter().map(|member| &member.host);
        if hosts.any(|host| host.health_flags().has(HealthFlags::UNCHECKED)) {
            return;
        }
        if self.desk.is_stale.replace(false) {
            self.cluster.refresh_health(); // whoever uses it now must not find them unfit
        }
        if let Some(warmed) = self.warmed.take() {
            let cluster = Arc::clone(&current.config);
            let _ = warmed.send(CheckAnswer { cluster }).await; // nobody asks any more while stopping
        }
    }

    /// How many are what, for the statistics.
    fn record(&self, current: &UpstreamCluster, care: &Care) {
        let Some(stats) = &care.checks else { return };
        let checked = || {
            let members = current.hosts.members().iter();
            members.filter(|member| member.host.is_checked())
        };
        let flags = checked().map(|member| member.host.health_flags());
        let healthy = flags
            .clone()
            .filter(|flags| !flags.has(HealthFlags::FAILED_CHECK));
        stats.healthy().set_count(healthy.count());
        let degraded = flags.filter(|flags| flags.has(HealthFlags::DEGRADED));
        stats.degraded().set_count(degraded.count());
    }
}
