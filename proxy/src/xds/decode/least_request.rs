//! Least request, in both spellings: `least_request_lb_config` and the typed `LeastRequest`.

use xds_proto::pb::envoy::config::cluster::v3::cluster::LeastRequestLbConfig;
use xds_proto::pb::envoy::config::core::v3::RuntimeDouble;
use xds_proto::pb::envoy::extensions::load_balancing_policies::least_request::v3::LeastRequest as Typed;
use xds_proto::pb::envoy::extensions::load_balancing_policies::least_request::v3::least_request::SelectionMethod;
use xds_proto::pb::google::protobuf::UInt32Value;

use super::Context;
use super::locality_lb;
use super::slow_start;
use super::value;
use crate::config::limits;
use crate::config::load_balancing::LbPolicy;
use crate::config::load_balancing::LeastRequest;
use crate::config::load_balancing::LoadBalancing;
use crate::config::load_balancing::Selection;
use crate::config::load_balancing::SlowStart;

/// Envoy's default for `choice_count`.
const CHOICES: u32 = 2;

/// Reads the old form.
pub(super) fn legacy(
    context: &mut Context,
    config: LeastRequestLbConfig,
) -> Option<(LbPolicy, Option<SlowStart>)> {
    let LeastRequestLbConfig {
        choice_count,
        active_request_bias,
        slow_start_config,
    } = config;
    let slow_start = slow_start::legacy(context, slow_start_config);
    let choices = choices(context, choice_count);
    let bias = bias(context, active_request_bias);
    let policy = LbPolicy::LeastRequest(LeastRequest {
        selection: Selection::Choices(choices?),
        bias: bias?,
    });
    Some((policy, slow_start))
}

/// Reads the typed form.
pub(super) fn typed(context: &mut Context, config: Typed) -> Option<LoadBalancing> {
    #[expect(deprecated, reason = "every field is used or named")]
    let Typed {
        choice_count,
        active_request_bias,
        slow_start_config,
        locality_lb_config,
        enable_full_scan,
        selection_method,
    } = config;
    let slow_start = slow_start::typed(context, slow_start_config);
    let method = value::enumeration(context, "selection_method", selection_method);
    let choices = choices(context, choice_count);
    let bias = bias(context, active_request_bias);
    let selection = match method? {
        SelectionMethod::NChoices if value::is_true(enable_full_scan) => Selection::FullScan,
        SelectionMethod::NChoices => Selection::Choices(choices?),
        SelectionMethod::FullScan => {
            choices?;
            Selection::FullScan
        }
    };
    let policy = LbPolicy::LeastRequest(LeastRequest {
        selection,
        bias: bias?,
    });
    Some(LoadBalancing {
        slow_start,
        ..locality_lb::typed(context, locality_lb_config, policy)
    })
}

fn choices(context: &mut Context, value: Option<UInt32Value>) -> Option<u32> {
    let Some(value) = value else {
        return Some(CHOICES);
    };
    let count = value::number(context, "choice_count", Some(value), (CHOICES, u32::MAX))?;
    if count > limits::LB_CHOICES_MAX {
        let most = limits::LB_CHOICES_MAX;
        context.warn("choice_count", format!("at most {most} are compared"));
    }
    Some(count.min(limits::LB_CHOICES_MAX))
}

fn bias(context: &mut Context, value: Option<RuntimeDouble>) -> Option<f64> {
    let Some(value) = value else {
        return Some(1.0);
    };
    context.field("active_request_bias", |context| {
        let RuntimeDouble {
            default_value,
            runtime_key,
        } = value;
        unsupported!(context, warn: runtime_key);
        if !default_value.is_finite() || default_value < 0.0 {
            return context.refuse("default_value", "must be a finite number of at least 0");
        }
        Some(default_value)
    })
}
