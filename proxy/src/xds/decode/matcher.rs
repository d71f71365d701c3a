//! String, header and query predicates.

use xds_proto::pb::envoy::config::common::matcher::v3 as common;
use xds_proto::pb::envoy::config::common::matcher::v3::match_predicate::MatchSet;
use xds_proto::pb::envoy::config::common::matcher::v3::match_predicate::Rule;
use xds_proto::pb::envoy::config::route::v3 as route;
use xds_proto::pb::envoy::config::route::v3::header_matcher::HeaderMatchSpecifier;
use xds_proto::pb::envoy::config::route::v3::query_parameter_matcher::QueryParameterMatchSpecifier;
use xds_proto::pb::envoy::r#type::matcher::v3 as pb;
use xds_proto::pb::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use xds_proto::pb::envoy::r#type::v3::Int64Range;

use super::Context;
use super::value;
use crate::config::matcher::HeaderMatch;
use crate::config::matcher::HeaderMatchName;
use crate::config::matcher::HeaderValueMatch;
use crate::config::matcher::ResponseMatch;
use crate::config::matcher::StringMatch;
use crate::config::matcher::StringPattern;
use crate::config::route::QueryMatch;

/// Bytes of a query parameter's name, Envoy's bound.
const QUERY_NAME_BYTES_MAX: usize = 1024;

/// Reads a predicate on one string.
pub(crate) fn string(context: &mut Context, matcher: pb::StringMatcher) -> Option<StringMatch> {
    let pb::StringMatcher {
        ignore_case,
        match_pattern,
    } = matcher;
    let fold = |text: String| {
        if ignore_case {
            text.to_ascii_lowercase()
        } else {
            text
        }
    };
    let pattern = match match_pattern {
        Some(MatchPattern::Exact(text)) => StringPattern::Exact(fold(text).into()),
        Some(MatchPattern::Prefix(text)) => {
            StringPattern::Prefix(fold(not_empty(context, "prefix", text)?).into())
        }
        Some(MatchPattern::Suffix(text)) => {
            StringPattern::Suffix(fold(not_empty(context, "suffix", text)?).into())
        }
        Some(MatchPattern::Contains(text)) => {
            StringPattern::Contains(fold(not_empty(context, "contains", text)?).into())
        }
        Some(MatchPattern::SafeRegex(regex)) => {
            unsupported!(context, warn "a regular expression keeps its own case": ignore_case);
            let regex = context.field("safe_regex", |context| value::regex(context, regex))?;
            return Some(StringMatch {
                pattern: StringPattern::Regex(regex),
                ignore_case: false,
            });
        }
        Some(MatchPattern::Custom(_)) => return context.unsupported("custom", "not supported"),
        None => return context.refuse("", "needs a pattern"),
    };
    Some(StringMatch {
        pattern,
        ignore_case,
    })
}

/// Reads a predicate on one header.
pub(crate) fn header(context: &mut Context, matcher: route::HeaderMatcher) -> Option<HeaderMatch> {
    let route::HeaderMatcher {
        name,
        invert_match,
        treat_missing_header_as_empty,
        header_match_specifier,
    } = matcher;
    let name = header_name(context, "name", &name);
    let value = match header_match_specifier {
        Some(specifier) => header_value(context, specifier)?,
        None => HeaderValueMatch::Present(true),
    };
    Some(HeaderMatch {
        name: name?,
        value,
        invert: invert_match,
        treat_missing_as_empty: treat_missing_header_as_empty,
    })
}

/// Reads a predicate on the head of a response.
pub(crate) fn response(
    context: &mut Context,
    predicate: common::MatchPredicate,
) -> Option<ResponseMatch> {
    let common::MatchPredicate { rule } = predicate;
    let only = "not supported: of a response, only its head is looked at";
    match rule {
        None => context.missing("http_response_headers_match"),
        Some(Rule::OrMatch(set)) => set_of(context, "or_match", set).map(ResponseMatch::Any),
        Some(Rule::AndMatch(set)) => set_of(context, "and_match", set).map(ResponseMatch::All),
        Some(Rule::NotMatch(inner)) => {
            let inner = context.field("not_match", |context| response(context, *inner))?;
            Some(ResponseMatch::Not(Box::new(inner)))
        }
        Some(Rule::AnyMatch(true)) => Some(ResponseMatch::Always),
        Some(Rule::AnyMatch(false)) => context.refuse("any_match", "must be true"),
        Some(Rule::HttpResponseHeadersMatch(common::HttpHeadersMatch { headers })) => {
            let field = "http_response_headers_match";
            let headers = context.field(field, |context| context.each("headers", headers, header));
            Some(ResponseMatch::Headers(headers))
        }
        Some(Rule::HttpRequestHeadersMatch(_)) => {
            context.unsupported("http_request_headers_match", only)
        }
        Some(Rule::HttpRequestTrailersMatch(_)) => {
            context.unsupported("http_request_trailers_match", only)
        }
        Some(Rule::HttpResponseTrailersMatch(_)) => {
            context.unsupported("http_response_trailers_match", only)
        }
        Some(Rule::HttpRequestGenericBodyMatch(_)) => {
            context.unsupported("http_request_generic_body_match", only)
        }
        Some(Rule::HttpResponseGenericBodyMatch(_)) => {
            context.unsupported("http_response_generic_body_match", only)
        }
    }
}

fn set_of(context: &mut Context, field: &str, set: MatchSet) -> Option<Vec<ResponseMatch>> {
    let MatchSet { rules } = set;
    context.field(field, |context| {
        // Envoy's bound.
        if rules.len() < 2 {
            return context.refuse("rules", "needs two rules at least");
        }
        Some(context.each("rules", rules, response))
    })
}

/// Reads the name of a header, or of a part of a request that Envoy calls one.
pub(crate) fn header_name(
    context: &mut Context,
    field: &str,
    name: &str,
) -> Option<HeaderMatchName> {
    Some(match name {
        ":authority" => HeaderMatchName::Authority,
        ":method" => HeaderMatchName::Method,
        ":path" => HeaderMatchName::Path,
        ":scheme" => HeaderMatchName::Scheme,
        ":status" => HeaderMatchName::Status,
        // The request's Host is its authority on every protocol.
        name if name.eq_ignore_ascii_case("host") => HeaderMatchName::Authority,
        name => HeaderMatchName::Header(value::header_name(context, field, name)?),
    })
}

fn header_value(
    context: &mut Context,
    specifier: HeaderMatchSpecifier,
) -> Option<HeaderValueMatch> {
    // All but four are deprecated in favor of string_match.
    let pattern = match specifier {
        HeaderMatchSpecifier::StringMatch(matcher) => {
            let matcher = context.field("string_match", |context| string(context, matcher))?;
            return Some(HeaderValueMatch::String(matcher));
        }
        HeaderMatchSpecifier::PresentMatch(present) => {
            return Some(HeaderValueMatch::Present(present));
        }
        HeaderMatchSpecifier::RangeMatch(Int64Range { start, end }) => {
            return Some(HeaderValueMatch::Range { start, end });
        }
        HeaderMatchSpecifier::SafeRegexMatch(regex) => StringPattern::Regex(
            context.field("safe_regex_match", |context| value::regex(context, regex))?,
        ),
        HeaderMatchSpecifier::ExactMatch(text) => StringPattern::Exact(text.into()),
        HeaderMatchSpecifier::PrefixMatch(text) => {
            StringPattern::Prefix(not_empty(context, "prefix_match", text)?.into())
        }
        HeaderMatchSpecifier::SuffixMatch(text) => {
            StringPattern::Suffix(not_empty(context, "suffix_match", text)?.into())
        }
        HeaderMatchSpecifier::ContainsMatch(text) => {
            StringPattern::Contains(not_empty(context, "contains_match", text)?.into())
        }
    };
    Some(HeaderValueMatch::String(StringMatch {
        pattern,
        ignore_case: false,
    }))
}

/// Reads a predicate on one query parameter.
pub(crate) fn query(
    context: &mut Context,
    matcher: route::QueryParameterMatcher,
) -> Option<QueryMatch> {
    let route::QueryParameterMatcher {
        name,
        query_parameter_match_specifier,
    } = matcher;
    let name = not_empty(context, "name", name);
    if name
        .as_ref()
        .is_some_and(|name| name.len() > QUERY_NAME_BYTES_MAX)
    {
        context.reject(
            "name",
            format!("is longer than {QUERY_NAME_BYTES_MAX} bytes"),
        );
    }
    let value = match query_parameter_match_specifier {
        Some(QueryParameterMatchSpecifier::StringMatch(matcher)) => {
            Some(context.field("string_match", |context| string(context, matcher))?)
        }
        Some(QueryParameterMatchSpecifier::PresentMatch(true)) | None => None,
        Some(QueryParameterMatchSpecifier::PresentMatch(false)) => {
            return context.unsupported("present_match", "false is not supported");
        }
    };
    Some(QueryMatch {
        name: name?.into(),
        value,
    })
}

fn not_empty(context: &mut Context, field: &str, text: String) -> Option<String> {
    if text.is_empty() {
        return context.refuse(field, "must not be empty");
    }
    Some(text)
}
