//! `overload_manager`: what is watched, and what is done about it.
//!
//! An action or monitor that is not there is refused: whoever configured it counts on it.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use xds_proto::pb::envoy::config::overload::v3 as pb;
use xds_proto::pb::envoy::config::overload::v3::resource_monitor::ConfigType;
use xds_proto::pb::envoy::config::overload::v3::scale_timers_overload_action_config::ScaleTimer;
use xds_proto::pb::envoy::config::overload::v3::scale_timers_overload_action_config::TimerType;
use xds_proto::pb::envoy::config::overload::v3::scale_timers_overload_action_config::scale_timer::OverloadAdjust;
use xds_proto::pb::envoy::config::overload::v3::trigger::TriggerOneof;
use xds_proto::pb::envoy::extensions::resource_monitors::cgroup_memory::v3::CgroupMemoryConfig;
use xds_proto::pb::envoy::extensions::resource_monitors::cpu_utilization::v3::CpuUtilizationConfig;
use xds_proto::pb::envoy::extensions::resource_monitors::cpu_utilization::v3::cpu_utilization_config::UtilizationComputeStrategy;
use xds_proto::pb::envoy::extensions::resource_monitors::downstream_connections::v3::DownstreamConnectionsConfig;
use xds_proto::pb::envoy::extensions::resource_monitors::fixed_heap::v3::FixedHeapConfig;
use xds_proto::pb::envoy::extensions::resource_monitors::injected_resource::v3::InjectedResourceConfig;
use xds_proto::pb::google::protobuf::Any;

use crate::config::overload::Action;
use crate::config::overload::ActionRule;
use crate::config::overload::Least;
use crate::config::overload::Level;
use crate::config::overload::Monitor;
use crate::config::overload::MonitorKind;
use crate::config::overload::Overload;
use crate::config::overload::PointRule;
use crate::config::overload::ShedPoint;
use crate::config::overload::Timeout;
use crate::config::overload::Triggers;
use crate::xds::decode::Context;
use crate::xds::decode::extension;
use crate::xds::decode::unsupported;
use crate::xds::decode::value;

/// Envoy's default.
const REFRESH: Duration = Duration::from_secs(1);

/// Looking more often would cost more than it tells.
const REFRESH_MIN: Duration = Duration::from_millis(10);

/// Envoy's bounds: less than a kilobyte is not worth it, and more does not fit eight classes.
const POWERS: RangeInclusive<u32> = 10..=56;

/// A monitor, or the limit that another one stands for.
enum Watched {
    Monitor(Monitor),
    Connections(usize),
}

/// Reads it.
pub(super) fn decode(context: &mut Context, manager: pb::OverloadManager) -> Option<Overload> {
    let pb::OverloadManager {
        refresh_interval,
        resource_monitors,
        actions,
        loadshed_points,
        buffer_factory_config,
    } = manager;
    let power = context.field("buffer_factory_config", |context| {
        tracked_from(context, buffer_factory_config)
    });
    let interval = value::positive_duration(context, "refresh_interval", refresh_interval);
    let mut monitors: Vec<Monitor> = Vec::new();
    let mut connections_max = None;
    context.each(
        "resource_monitors",
        resource_monitors,
        |context, watched| {
            match monitor(context, watched)? {
                Watched::Connections(max) => connections_max = Some(max),
                Watched::Monitor(monitor) if monitors.iter().any(|m| m.name == monitor.name) => {
                    context.reject("name", "is there twice");
                }
                Watched::Monitor(monitor) => monitors.push(monitor),
            }
            Some(())
        },
    );
    let mut rules: Vec<ActionRule> = Vec::new();
    let mut timeouts = Vec::new();
    context.each("actions", actions, |context, action| {
        let (rule, reduced) = self::action(context, action, &monitors)?;
        timeouts.extend(reduced);
        if rules.iter().any(|known| known.action == rule.action) {
            context.reject("name", "is there twice");
        }
        if rule.action == Action::ResetStreams && power.is_none() {
            let reason = "needs buffer_factory_config.minimum_account_to_track_power_of_two";
            context.reject("name", reason);
        }
        rules.push(rule);
        Some(())
    });
    let mut points: Vec<PointRule> = Vec::new();
    context.each("loadshed_points", loadshed_points, |context, point| {
        let rule = self::point(context, point, &monitors)?;
        if points.iter().any(|known| known.point == rule.point) {
            context.reject("name", "is there twice");
        }
        points.push(rule);
        Some(())
    });
    Some(Overload {
        refresh_interval: interval.unwrap_or(REFRESH).max(REFRESH_MIN),
        monitors,
        actions: rules,
        points,
        timeouts,
        connections_max,
        tracked_from_power: power.unwrap_or_default(),
    })
}

/// The power of two from which on it matters what a stream holds.
fn tracked_from(context: &mut Context, config: Option<pb::BufferFactoryConfig>) -> Option<u32> {
    let pb::BufferFactoryConfig {
        minimum_account_to_track_power_of_two: power,
    } = config?;
    if !POWERS.contains(&power) {
        context.reject(
            "minimum_account_to_track_power_of_two",
            "must be between 10 and 56",
        );
    }
    Some(power)
}

fn monitor(context: &mut Context, monitor: pb::ResourceMonitor) -> Option<Watched> {
    let pb::ResourceMonitor { name, config_type } = monitor;
    if name.is_empty() {
        context.reject("name", "must not be empty");
    }
    let Some(ConfigType::TypedConfig(any)) = config_type else {
        context.reject_missing("typed_config");
        return None;
    };
    let kind = context.field("typed_config", |context| kind(context, &any))?;
    Some(match kind {
        Kind::Connections(max) => Watched::Connections(max),
        Kind::Monitor(kind) => Watched::Monitor(Monitor {
            name: name.into(),
            kind,
        }),
    })
}

enum Kind {
    Connections(usize),
    Monitor(MonitorKind),
}

fn kind(context: &mut Context, any: &Any) -> Option<Kind> {
    if extension::holds::<FixedHeapConfig>(any) {
        let FixedHeapConfig {
            max_heap_size_bytes,
            max_heap_size_bytes_runtime,
        } = extension::unpack(context, any)?;
        unsupported!(context, reject: max_heap_size_bytes_runtime);
        if max_heap_size_bytes == 0 {
            context.reject("max_heap_size_bytes", "must be greater than zero");
        }
        let bytes_max = max_heap_size_bytes;
        return Some(Kind::Monitor(MonitorKind::FixedHeap { bytes_max }));
    }
    if extension::holds::<CgroupMemoryConfig>(any) {
        let CgroupMemoryConfig { max_memory_bytes } = extension::unpack(context, any)?;
        let bytes_max = Some(max_memory_bytes).filter(|max| *max > 0);
        return Some(Kind::Monitor(MonitorKind::CgroupMemory { bytes_max }));
    }
    if extension::holds::<CpuUtilizationConfig>(any) {
        let CpuUtilizationConfig { mode } = extension::unpack(context, any)?;
        let mode: UtilizationComputeStrategy = value::enumeration(context, "mode", mode)?;
        let of_container = mode == UtilizationComputeStrategy::Container;
        return Some(Kind::Monitor(MonitorKind::Cpu { of_container }));
    }
    if extension::holds::<InjectedResourceConfig>(any) {
        let InjectedResourceConfig { filename } = extension::unpack(context, any)?;
        if filename.is_empty() {
            context.reject("filename", "must not be empty");
        }
        let file = PathBuf::from(filename).into();
        return Some(Kind::Monitor(MonitorKind::Injected { file }));
    }
    if extension::holds::<DownstreamConnectionsConfig>(any) {
        let DownstreamConnectionsConfig {
            max_active_downstream_connections: max,
        } = extension::unpack(context, any)?;
        let Some(max) = usize::try_from(max).ok().filter(|max| *max > 0) else {
            context.reject(
                "max_active_downstream_connections",
                "must be greater than zero",
            );
            return None;
        };
        return Some(Kind::Connections(max));
    }
    extension::unknown(context, any, false);
    None
}

/// An action, and what it does to timeouts.
fn action(
    context: &mut Context,
    action: pb::OverloadAction,
    monitors: &[Monitor],
) -> Option<(ActionRule, Vec<(Timeout, Least)>)> {
    let pb::OverloadAction {
        name,
        triggers,
        typed_config,
    } = action;
    let found = Action::ALL.into_iter().find(|known| known.as_str() == name);
    let Some(action) = found else {
        context.reject_unsupported("name", format!("{name:?} is not supported"));
        return None;
    };
    let timeouts = if action == Action::ReduceTimeouts {
        let Some(any) = typed_config else {
            context.reject_missing("typed_config");
            return None;
        };
        context.field("typed_config", |context| timeouts(context, &any))?
    } else {
        unsupported!(context, reject: typed_config);
        Vec::new()
    };
    let triggers = self::triggers(context, triggers, monitors, action.scales());
    Some((ActionRule { action, triggers }, timeouts))
}

fn point(
    context: &mut Context,
    point: pb::LoadShedPoint,
    monitors: &[Monitor],
) -> Option<PointRule> {
    let pb::LoadShedPoint { name, triggers } = point;
    let mut all = ShedPoint::ALL.into_iter();
    let Some(point) = all.find(|known| known.as_str() == name) else {
        context.reject_unsupported("name", format!("{name:?} is not supported"));
        return None;
    };
    let triggers = self::triggers(context, triggers, monitors, true);
    Some(PointRule { point, triggers })
}

fn timeouts(context: &mut Context, any: &Any) -> Option<Vec<(Timeout, Least)>> {
    if !extension::holds::<pb::ScaleTimersOverloadActionConfig>(any) {
        extension::unknown(context, any, false);
        return None;
    }
    let pb::ScaleTimersOverloadActionConfig {
        timer_scale_factors,
    } = extension::unpack(context, any)?;
    let mut known = Vec::new();
    let field = "timer_scale_factors";
    if timer_scale_factors.is_empty() {
        context.reject(field, "must not be empty");
    }
    let timeouts = context.each(field, timer_scale_factors, |context, scaled| {
        let (timeout, least) = timeout(context, scaled)?;
        if known.contains(&timeout) {
            context.reject("timer", "is there twice");
        }
        known.push(timeout);
        Some((timeout, least))
    });
    Some(timeouts)
}

fn timeout(context: &mut Context, scaled: ScaleTimer) -> Option<(Timeout, Least)> {
    let ScaleTimer {
        timer,
        overload_adjust,
    } = scaled;
    let timeout = match value::enumeration(context, "timer", timer)? {
        TimerType::HttpDownstreamConnectionIdle => Timeout::ConnectionIdle,
        TimerType::HttpDownstreamConnectionMax => Timeout::ConnectionMax,
        TimerType::HttpDownstreamStreamIdle => Timeout::StreamIdle,
        TimerType::TransportSocketConnect => Timeout::TransportConnect,
        TimerType::HttpDownstreamStreamFlush => Timeout::StreamFlush,
        TimerType::Unspecified => return context.missing("timer"),
    };
    let least = match overload_adjust {
        None => return context.missing("min_timeout"),
        Some(OverloadAdjust::MinTimeout(time)) => {
            Least::Time(value::duration(context, "min_timeout", Some(time))?)
        }
        Some(OverloadAdjust::MinScale(percent)) => {
            Least::Part(context.field("min_scale", |context| value::share(context, percent))?)
        }
    };
    Some((timeout, least))
}

/// `scales`: it may be done by halves.
fn triggers(
    context: &mut Context,
    triggers: Vec<pb::Trigger>,
    monitors: &[Monitor],
    scales: bool,
) -> Triggers {
    if triggers.is_empty() {
        context.reject("triggers", "must not be empty");
    }
    context.each("triggers", triggers, |context, trigger| {
        let (place, level) = self::trigger(context, trigger, monitors)?;
        if !scales && matches!(level, Level::Between(..)) {
            context.reject("scaled", "this action has no half measures, use threshold");
        }
        Some((place, level))
    })
}

fn trigger(
    context: &mut Context,
    trigger: pb::Trigger,
    monitors: &[Monitor],
) -> Option<(usize, Level)> {
    let pb::Trigger {
        name,
        trigger_oneof,
    } = trigger;
    let place = monitors.iter().position(|monitor| *monitor.name == *name);
    if place.is_none() {
        context.reject("name", format!("no resource monitor is called {name:?}"));
    }
    let level = match trigger_oneof {
        None => {
            context.reject_missing("threshold");
            return None;
        }
        Some(TriggerOneof::Threshold(pb::ThresholdTrigger { value })) => {
            context.field("threshold", |context| part(context, "value", value));
            Level::From(value)
        }
        Some(TriggerOneof::Scaled(pb::ScaledTrigger {
            scaling_threshold: begin,
            saturation_threshold: full,
        })) => {
            context.field("scaled", |context| {
                part(context, "scaling_threshold", begin);
                part(context, "saturation_threshold", full);
                if begin >= full {
                    context.reject(
                        "scaling_threshold",
                        "must be less than saturation_threshold",
                    );
                }
            });
            Level::Between(begin, full)
        }
    };
    Some((place?, level))
}

fn part(context: &mut Context, field: &str, value: f64) {
    if !(0.0..=1.0).contains(&value) {
        context.reject(field, "must be between 0 and 1");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(manager: &str) -> Result<Option<Overload>, String> {
        let text = format!("{{overload_manager: {manager}}}");
        let loaded = crate::bootstrap::load("b.yaml".as_ref(), &text);
        match loaded {
            Ok(bootstrap) => Ok(bootstrap.overload),
            Err(errors) => Err(errors
                .iter()
                .map(|e| format!("{}: {}\n", e.field, e.message))
                .collect()),
        }
    }

    const HEAP: &str = "{name: heap, typed_config: {'@type': type.googleapis.com/envoy.extensions.resource_monitors.fixed_heap.v3.FixedHeapConfig, max_heap_size_bytes: 1000}}";

    #[test]
    fn monitors_and_actions_are_read() {
        let typed = |name: &str, rest: &str| {
            let (package, message) = name.split_once(' ').unwrap();
            format!(
                "{{name: {package}, typed_config: {{'@type': type.googleapis.com/envoy.extensions.resource_monitors.{package}.v3.{message}{rest}}}}}"
            )
        };
        let monitors = [
            HEAP.to_owned(),
            typed("cgroup_memory CgroupMemoryConfig", ", max_memory_bytes: 5"),
            typed("cpu_utilization CpuUtilizationConfig", ", mode: CONTAINER"),
            typed(
                "injected_resource InjectedResourceConfig",
                ", filename: /pressure",
            ),
            typed(
                "downstream_connections DownstreamConnectionsConfig",
                ", max_active_downstream_connections: 7",
            ),
        ];
        let text = format!(
            "{{refresh_interval: 0.25s, buffer_factory_config: {{minimum_account_to_track_power_of_two: 20}}, resource_monitors: [{}], actions: [
              {{name: envoy.overload_actions.shrink_heap, triggers: [{{name: heap, threshold: {{value: 0.9}}}}]}},
              {{name: envoy.overload_actions.stop_accepting_requests, triggers: [{{name: cgroup_memory, scaled: {{scaling_threshold: 0.5, saturation_threshold: 1}}}}, {{name: heap, threshold: {{value: 1}}}}]}},
              {{name: envoy.overload_actions.reset_high_memory_stream, triggers: [{{name: heap, threshold: {{value: 1}}}}]}}]}}",
            monitors.join(", ")
        );
        let overload = load(&text).unwrap().unwrap();
        assert_eq!(overload.refresh_interval, Duration::from_millis(250));
        let kinds: Vec<_> = overload.monitors.iter().map(|m| m.kind.clone()).collect();
        let expected = [
            MonitorKind::FixedHeap { bytes_max: 1000 },
            MonitorKind::CgroupMemory { bytes_max: Some(5) },
            MonitorKind::Cpu { of_container: true },
            MonitorKind::Injected {
                file: PathBuf::from("/pressure").into(),
            },
        ];
        assert_eq!(kinds, expected);
        assert_eq!(overload.connections_max, Some(7));
        assert_eq!(overload.tracked_from_power, 20);
        assert_eq!(
            overload.actions,
            [
                ActionRule {
                    action: Action::ShrinkHeap,
                    triggers: vec![(0, Level::From(0.9))],
                },
                ActionRule {
                    action: Action::StopAcceptingRequests,
                    triggers: vec![(1, Level::Between(0.5, 1.0)), (0, Level::From(1.0))],
                },
                ActionRule {
                    action: Action::ResetStreams,
                    triggers: vec![(0, Level::From(1.0))],
                },
            ]
        );
    }

    #[test]
    fn what_cannot_be_done_is_refused_with_its_path() {
        let check = |manager: &str, field: &str| {
            let told = load(manager).unwrap_err();
            assert!(told.contains(field), "{told}");
        };
        let action = |name: &str, trigger: &str| {
            format!(
                "{{resource_monitors: [{HEAP}], actions: [{{name: envoy.overload_actions.{name}, triggers: [{trigger}]}}]}}"
            )
        };
        let at = "{name: heap, threshold: {value: 0.5}}";
        check(
            &action("reset_high_memory_stream", at),
            "overload_manager.actions[0].name",
        );
        check(
            &action("reduce_timeouts", at),
            "overload_manager.actions[0].typed_config",
        );
        check(
            &action("close_idle_http_connections", at),
            "overload_manager.actions[0].name",
        );
        check(
            "{buffer_factory_config: {minimum_account_to_track_power_of_two: 9}}",
            "buffer_factory_config.minimum_account_to_track_power_of_two",
        );
        check(
            &action("shrink_heap", "{name: other, threshold: {value: 0.5}}"),
            "actions[0].triggers[0].name",
        );
        check(
            &action("shrink_heap", "{name: heap, threshold: {value: 2}}"),
            "triggers[0].threshold.value",
        );
        check(
            &action(
                "shrink_heap",
                "{name: heap, scaled: {scaling_threshold: 0.5, saturation_threshold: 0.9}}",
            ),
            "triggers[0].scaled",
        );
        check(
            &format!(
                "{{resource_monitors: [{HEAP}], loadshed_points: [{{name: x, triggers: [{at}]}}]}}"
            ),
            "loadshed_points[0].name",
        );
        check(
            &format!("{{resource_monitors: [{HEAP}, {HEAP}]}}"),
            "resource_monitors[1].name",
        );
    }
    #[test]
    fn timeouts_are_reduced_as_far_as_is_said() {
        let at = "{name: heap, threshold: {value: 0.5}}";
        let reduced = |timers: &str| {
            format!(
                "{{resource_monitors: [{HEAP}], actions: [{{name: envoy.overload_actions.reduce_timeouts, triggers: [{at}], typed_config: {{'@type': type.googleapis.com/envoy.config.overload.v3.ScaleTimersOverloadActionConfig, timer_scale_factors: [{timers}]}}}}]}}"
            )
        };
        let factors = "actions[0].typed_config.timer_scale_factors";
        let both = "{timer: HTTP_DOWNSTREAM_STREAM_IDLE, min_scale: {value: 10}}, {timer: TRANSPORT_SOCKET_CONNECT, min_timeout: 2s}";
        let overload = load(&reduced(both)).unwrap().unwrap();
        let expected = [
            (Timeout::StreamIdle, Least::Part(0.1)),
            (
                Timeout::TransportConnect,
                Least::Time(Duration::from_secs(2)),
            ),
        ];
        assert_eq!(overload.timeouts, expected);
        let check = |manager: &str, field: &str| {
            let told = load(manager).unwrap_err();
            assert!(told.contains(field), "{told}");
        };
        check(&reduced(""), factors);
        check(
            &reduced("{min_timeout: 1s}"),
            &format!("{factors}[0].timer"),
        );
        check(
            &reduced("{timer: HTTP_DOWNSTREAM_STREAM_IDLE}"),
            &format!("{factors}[0].min_timeout"),
        );
        check(
            &reduced("{timer: HTTP_DOWNSTREAM_STREAM_IDLE, min_scale: {value: 101}}"),
            &format!("{factors}[0].min_scale.value"),
        );
    }
}
