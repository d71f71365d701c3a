//! The driver without its I/O: what each event does to session, store, stage and status.

mod kept;
mod own;
mod secrets;

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use std::time::SystemTime;

use bytes::Bytes;
use tonic::Status;
use tracing::debug;
use tracing::info;
use tracing::warn;
use xds_proto::pb::envoy::service::discovery::v3::DiscoveryResponse;
use xds_proto::pb::google::protobuf::Any;

use crate::config::Name;
use crate::xds::file::FileContent;
use crate::xds::file::FileUpdate;
use crate::xds::resource::CheckAnswer;
use crate::xds::resource::Decoded;
use crate::xds::resource::Decoder;
use crate::xds::resource::DnsAnswer;
use crate::xds::resource::Refusal;
use crate::xds::resource::ResourceType;
use crate::xds::session::Interest;
use crate::xds::session::Lapse;
use crate::xds::session::Options;
use crate::xds::session::Response;
use crate::xds::session::Session;
use crate::xds::session::Update;
use crate::xds::session::clip;
use crate::xds::stage::Batch;
use crate::xds::stage::Stage;
use crate::xds::stage::StaticResources;
use crate::xds::status::XdsStatus;

/// Lines of what is waited for that are kept for `/ready?verbose`.
const WAITING_LINES_MAX: usize = 100;

/// Warnings about unsupported fields that are logged per response; all are in the store.
const WARNINGS_LOGGED_MAX: usize = 20;

/// Longest error text kept or logged, bytes: as long as a NACK's.
const ERROR_BYTES_MAX: usize = crate::xds::session::NACK_TEXT_BYTES_MAX;

pub(super) struct Core {
    /// Towards the control plane.
    pub(super) session: Session,
    pub(super) stage: Stage,
    /// Types that come from the control plane.
    pub(super) ads_types: Vec<ResourceType>,
    /// A file is treated as a control plane that sends everything each time.
    files: BTreeMap<ResourceType, Session>,
    decoder: Arc<dyn Decoder>,
    status: Arc<XdsStatus>,
    clock: fn() -> SystemTime,
    /// Last refusal logged, by type.
    logged: BTreeMap<ResourceType, String>,
    /// Clusters of the bootstrap that a stream for secrets may use.
    servers: BTreeSet<Name>,
    has_new_queries: bool,
    /// What was left out when it was last kept on disk.
    not_kept: Vec<(ResourceType, Name)>,
    /// What is asked of sources of secrets may have changed.
    has_new_secrets: bool,
}

/// What it is given from outside.
pub(super) struct Tools {
    pub(super) decoder: Arc<dyn Decoder>,
    pub(super) status: Arc<XdsStatus>,
    pub(super) clock: fn() -> SystemTime,
}

impl Core {
    pub(super) fn new(
        session: Session,
        stage: Stage,
        ads_types: Vec<ResourceType>,
        servers: BTreeSet<Name>,
        tools: Tools,
    ) -> Self {
        let Tools {
            decoder,
            status,
            clock,
        } = tools;
        Self {
            session,
            stage,
            ads_types,
            files: BTreeMap::new(),
            decoder,
            status,
            clock,
            logged: BTreeMap::new(),
            servers,
            has_new_queries: true,
            not_kept: Vec::new(),
            has_new_secrets: true,
        }
    }

    pub(super) fn on_opened(&mut self, target: &str) {
        info!(target, "connected to the control plane");
        self.session.on_stream_open();
        self.status.update(|f| {
            f.connected_state = true;
            f.stale_since = None;
            f.is_restored = false;
        });
    }

    /// The bootstrap says that the server is elsewhere.
    pub(super) fn on_moved(&mut self, target: &str) {
        info!(target, "the control plane is elsewhere, the stream ends");
        self.session.on_stream_closed();
        self.status.update(|f| f.connected_state = false);
    }

    /// Clusters of the bootstrap that a stream for secrets may use.
    pub(super) fn set_servers(&mut self, servers: BTreeSet<Name>) {
        self.servers = servers;
    }

    /// The server closed the stream in order.
    pub(super) fn on_ended(&mut self, target: &str, retry_in: Duration) {
        info!(target, ?retry_in, "the control plane closed the stream");
        self.on_closed();
    }

    /// The stream broke, or never stood.
    pub(super) fn on_failed(&mut self, target: &str, status: &Status, retry_in: Duration) {
        let code = status.code();
        let detail = clip(status.message(), ERROR_BYTES_MAX);
        warn!(
            target,
            ?code,
            detail,
            ?retry_in,
            "no stream to the control plane"
        );
        self.on_closed();
        for t in &self.ads_types {
            self.status.update_type(*t, |s| {
                s.update_attempt += 1;
                s.update_failure += 1;
                s.last_error = Some(format!("{code:?}: {detail}"));
            });
        }
    }

    /// What is in force is stale from now on, if a control plane had confirmed it.
    fn on_closed(&mut self) {
        self.session.on_stream_closed();
        let at = (self.clock)();
        self.status.update(|f| {
            if std::mem::take(&mut f.connected_state) {
                f.stale_since = Some(at);
            }
        });
    }

    pub(super) fn on_response(&mut self, response: Response, now: Duration) {
        let control_plane = match &response {
            Response::Delta(r) => &r.control_plane,
            Response::Sotw(r) => &r.control_plane,
        };
        if let Some(control_plane) = control_plane {
            let identifier = clip(&control_plane.identifier, 1024);
            self.status
                .update(|f| identifier.clone_into(&mut f.identifier));
        }
        let (stage, decoder, servers) = (&self.stage, &*self.decoder, &self.servers);
        let mut accept = |t, body: &Bytes| judge((stage, servers), decoder, t, body);
        match self.session.on_response(response, now, &mut accept) {
            Some(update) => self.on_update(update, now),
            None => debug!("response of a type that was not asked for"),
        }
    }

    pub(super) fn on_file(&mut self, update: FileUpdate, now: Duration) {
        let resource_type = update.resource_type;
        let content = match update.result {
            Ok(content) => content,
            Err(detail) => return self.on_file_error(resource_type, &detail, now),
        };
        let session = self
            .files
            .entry(resource_type)
            .or_insert_with(|| file_session(resource_type));
        let (stage, decoder, servers) = (&self.stage, &*self.decoder, &self.servers);
        let mut accept = |t, body: &Bytes| judge((stage, servers), decoder, t, body);
        let update = session.on_response(as_response(resource_type, content), now, &mut accept);
        // Nobody is there to hear the answer.
        while session.next_request(Duration::MAX).is_some() {}
        if let Some(update) = update {
            self.on_update(update, now);
        }
    }

    fn on_file_error(&mut self, resource_type: ResourceType, detail: &str, now: Duration) {
        let detail = clip(detail, ERROR_BYTES_MAX);
        warn!(%resource_type, detail, "file refused, what was good before stays");
        self.status.update_type(resource_type, |s| {
            s.update_attempt += 1;
            s.update_rejected += 1;
            s.last_error = Some(detail.to_owned());
        });
        // It has answered, if badly: starting does not wait for it any longer (C-77).
        self.apply(Batch::empty(resource_type), now);
    }

    pub(super) fn on_statics(&mut self, statics: StaticResources, now: Duration) {
        self.stage.replace_statics(statics, now);
        self.after_stage();
        self.give_what_is_there(now);
    }

    pub(super) fn on_dns_answer(&mut self, answer: DnsAnswer, now: Duration) {
        self.stage.on_dns_answer(answer, now);
        self.after_stage();
    }

    pub(super) fn on_checked(&mut self, answer: &CheckAnswer, now: Duration) {
        self.stage.on_checked(answer, now);
        self.after_stage();
    }

    pub(super) fn on_tick(&mut self, now: Duration) {
        for lapse in self.session.on_tick(now) {
            match lapse {
                Lapse::DoesNotExist(t, name) => {
                    info!(resource_type = %t, %name, "the control plane did not send it in time");
                    self.status.update_type(t, |s| s.init_fetch_timeout += 1);
                    self.status.update_store(|s| s.note_timeout(t, name));
                }
                Lapse::Expired(t, name) => {
                    info!(resource_type = %t, %name, "its time to live is over");
                    self.status.update_store(|s| s.expire(t, &name));
                    let mut batch = Batch::empty(t);
                    batch.expired.push(name);
                    self.stage.apply(batch, now);
                }
            }
        }
        self.stage.on_tick(now);
        self.after_stage();
    }

    pub(super) fn next_deadline(&self, now: Duration) -> Option<Duration> {
        let session = self.session.next_deadline(now);
        session
            .into_iter()
            .chain(self.stage.next_deadline(now))
            .min()
    }

    /// What is to be resolved may have changed since the last call.
    pub(super) fn take_new_queries(&mut self) -> bool {
        std::mem::take(&mut self.has_new_queries)
    }

    /// What is asked of sources of secrets may have changed since the last call.
    pub(super) fn take_new_secrets(&mut self) -> bool {
        std::mem::take(&mut self.has_new_secrets)
    }

    /// Brings subscriptions and readiness in line with the stage.
    pub(super) fn after_stage(&mut self) {
        let waiting = self.stage.waiting_for(WAITING_LINES_MAX);
        let is_initialized = self.stage.is_initialized() && !self.stage.has_change();
        self.status.update(|f| {
            f.is_initialized |= is_initialized; // once true it stays
            f.waiting_for = waiting;
        });
        if !self.stage.take_new_needs() {
            return;
        }
        self.has_new_queries = true;
        self.has_new_secrets = true;
        for &t in &self.ads_types {
            let interest = self.stage.interest(t);
            self.status.update_store(|s| s.retain(t, &interest));
            self.session.subscribe(t, interest);
        }
    }

    fn on_update(&mut self, update: Update<Decoded>, now: Duration) {
        let at = (self.clock)();
        self.note(&update, at);
        self.log(&update);
        self.has_new_secrets |= update.resource_type == ResourceType::Secret; // their files
        let batch = self.status.update_store(|s| s.file(update, at));
        self.apply(batch, now);
    }

    /// Counts a response.
    fn note(&self, update: &Update<Decoded>, at: SystemTime) {
        self.status.update_type(update.resource_type, |s| {
            s.update_attempt += 1;
            s.last_error.clone_from(&update.nack);
            if update.nack.is_some() {
                s.update_rejected += 1;
            } else {
                s.update_success += 1;
                update.version.clone_into(&mut s.version);
                s.update_time = Some(at);
            }
        });
    }

    fn apply(&mut self, batch: Batch, now: Duration) {
        self.stage.apply(batch, now);
        self.after_stage();
        self.give_what_is_there(now);
    }

    /// One line per response, and none for the same refusal again.
    fn log(&mut self, update: &Update<Decoded>) {
        let resource_type = update.resource_type;
        let (accepted, removed) = (update.accepted.len(), update.removed.len());
        let version = &*update.version;
        let Some(nack) = &update.nack else {
            self.logged.remove(&resource_type);
            info!(%resource_type, version, accepted, removed, "accepted");
            return;
        };
        if self.logged.get(&resource_type) == Some(nack) {
            let times = update.rejections;
            debug!(%resource_type, version, times, "refused again");
            return;
        }
        warn!(%resource_type, version, accepted, removed, nack, "refused");
        self.logged.insert(resource_type, nack.clone());
    }
}

/// Decodes one resource and checks it against what stands in the bootstrap.
fn judge(
    (stage, servers): (&Stage, &BTreeSet<Name>),
    decoder: &dyn Decoder,
    resource_type: ResourceType,
    body: &Bytes,
) -> Result<(Name, Decoded), Refusal> {
    let decoded = decoder.decode(resource_type, body)?;
    if let Some(detail) = secrets::objection(stage, servers, &decoded) {
        let name = decoded.name;
        return Err(Refusal { name, detail });
    }
    if stage.is_static(resource_type, &decoded.name) {
        return Err(Refusal {
            name: decoded.name,
            detail: "a resource of this name stands in the bootstrap".to_owned(),
        });
    }
    let name = decoded.name.clone();
    for warning in decoded.warnings.iter().take(WARNINGS_LOGGED_MAX) {
        debug!(%resource_type, %name, warning, "not supported");
    }
    Ok((name, decoded))
}

/// A session that wants all resources of one type and has said so.
pub(super) fn file_session(resource_type: ResourceType) -> Session {
    let mut session = Session::new(Options::default());
    session.subscribe(resource_type, Interest::wildcard());
    session.on_stream_open();
    let _ = session.next_request(Duration::ZERO);
    session
}

pub(super) fn as_response(resource_type: ResourceType, content: FileContent) -> Response {
    let type_url = resource_type.type_url().to_owned();
    let resources = content.bodies.into_iter().map(|body| Any {
        type_url: type_url.clone(),
        value: body.into(),
    });
    Response::Sotw(Box::new(DiscoveryResponse {
        version_info: content.version,
        resources: resources.collect(),
        type_url: type_url.clone(),
        ..Default::default()
    }))
}
