//! `overload_manager`: what is watched, and what is done about it.
//!
//! An action or monitor that is not there is refused: whoever configured it counts on it.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use xds_proto::pb::envoy::config::overload::v3 as pb;
use xds_proto::pb::envoy::config::overload::v3::resource_monitor::ConfigType;
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
use crate::config::overload::Level;
use crate::config::overload::Monitor;
use crate::config::overload::MonitorKind;
use crate::config::overload::Overload;
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
    unsupported!(context, reject: loadshed_points);
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
    context.each("actions", actions, |context, action| {
        let rule = self::action(context, action, &monitors)?;
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
    Some(Overload {
        refresh_interval: interval.unwrap_or(REFRESH).max(REFRESH_MIN),
        monitors,
        actions: rules,
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

fn action(
    context: &mut Context,
    action: pb::OverloadAction,
    monitors: &[Monitor],
) -> Option<ActionRule> {
    let pb::OverloadAction {
        name,
        triggers,
        typed_config,
    } = action;
    unsupported!(context, reject: typed_config);
    let found = Action::ALL.into_iter().find(|known| known.as_str() == name);
    let Some(action) = found else {
        context.reject_unsupported("name", format!("{name:?} is not supported"));
        return None;
    };
    if triggers.is_empty() {
        context.reject("triggers", "must not be empty");
    }
    let triggers = context.each("triggers", triggers, |context, trigger| {
        let (place, level) = self::trigger(context, trigger, monitors)?;
        if !action.scales() && matches!(level, Level::Between(..)) {
            context.reject("scaled", "this action has no half measures, use threshold");
        }
        Some((place, level))
    });
    Some(ActionRule { action, triggers })
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
            "{loadshed_points: [{name: x, triggers: [{name: a, threshold: {value: 1}}]}]}",
            "loadshed_points",
        );
        check(
            &format!("{{resource_monitors: [{HEAP}, {HEAP}]}}"),
            "resource_monitors[1].name",
        );
    }
}
