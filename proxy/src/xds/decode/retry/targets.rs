//! Which members and priorities another attempt avoids.

use xds_proto::pb::envoy::config::route::v3::retry_policy::RetryHostPredicate;
use xds_proto::pb::envoy::config::route::v3::retry_policy::RetryPriority;
use xds_proto::pb::envoy::config::route::v3::retry_policy::retry_host_predicate::ConfigType;
use xds_proto::pb::envoy::config::route::v3::retry_policy::retry_priority::ConfigType as PriorityConfigType;
use xds_proto::pb::envoy::extensions::retry::host::omit_canary_hosts::v3::OmitCanaryHostsPredicate;
use xds_proto::pb::envoy::extensions::retry::host::omit_host_metadata::v3::OmitHostMetadataConfig;
use xds_proto::pb::envoy::extensions::retry::host::previous_hosts::v3::PreviousHostsPredicate;
use xds_proto::pb::envoy::extensions::retry::priority::previous_priorities::v3::PreviousPrioritiesConfig;
use xds_proto::pb::google::protobuf::Any;

use crate::config::limits;
use crate::config::retry::Avoid;
use crate::xds::decode::Context;
use crate::xds::decode::extension;
use crate::xds::decode::labels;

/// Reads the predicates.
pub(super) fn avoid(context: &mut Context, predicates: Vec<RetryHostPredicate>) -> Option<Avoid> {
    let mut avoid = Avoid::default();
    context.each("retry_host_predicate", predicates, |context, predicate| {
        let RetryHostPredicate {
            name: _, // the type of typed_config decides
            config_type,
        } = predicate;
        let Some(ConfigType::TypedConfig(any)) = config_type else {
            return context.missing("typed_config");
        };
        context.field("typed_config", |context| one(context, &any, &mut avoid))
    });
    Some(avoid)
}

fn one(context: &mut Context, any: &Any, avoid: &mut Avoid) -> Option<()> {
    if extension::holds::<PreviousHostsPredicate>(any) {
        let PreviousHostsPredicate {} = extension::unpack(context, any)?;
        avoid.previous_hosts = true;
        return Some(());
    }
    if extension::holds::<OmitCanaryHostsPredicate>(any) {
        let OmitCanaryHostsPredicate {} = extension::unpack(context, any)?;
        avoid.canaries = true;
        return Some(());
    }
    if extension::holds::<OmitHostMetadataConfig>(any) {
        let OmitHostMetadataConfig { metadata_match } = extension::unpack(context, any)?;
        let labels = context.optional("metadata_match", metadata_match, labels::avoided);
        // As with Envoy, nothing to compare avoids nobody.
        avoid
            .labels
            .extend(labels.filter(|labels| !labels.is_empty()));
        return Some(());
    }
    extension::unknown(context, any, false);
    None
}

/// Reads after how many attempts it is looked at which priorities were tried.
pub(super) fn priority(context: &mut Context, priority: RetryPriority) -> Option<u32> {
    let RetryPriority {
        name: _, // the type of typed_config decides
        config_type,
    } = priority;
    let Some(PriorityConfigType::TypedConfig(any)) = config_type else {
        return context.missing("typed_config");
    };
    context.field("typed_config", |context| {
        if !extension::holds::<PreviousPrioritiesConfig>(&any) {
            extension::unknown(context, &any, false);
            return None;
        }
        let PreviousPrioritiesConfig { update_frequency } = extension::unpack(context, &any)?;
        let every = u32::try_from(update_frequency).ok();
        let every = every.filter(|every| *every > 0);
        every.or_else(|| context.refuse("update_frequency", "must be greater than 0"))
    })
}

/// How often another member is looked for; 0 is Envoy's way to say nothing.
pub(super) fn host_attempts(context: &mut Context, attempts: i64) -> Option<u32> {
    let most = limits::RETRY_HOST_ATTEMPTS_MAX;
    let attempts = u32::try_from(attempts).ok().map(|attempts| attempts.max(1));
    let attempts = attempts.filter(|attempts| *attempts <= most);
    if attempts.is_none() {
        let reason = format!("is not within 0 and {most}");
        context.reject("host_selection_retry_max_attempts", reason);
    }
    attempts
}
