"""``typed_per_filter_config``: what a route says to HTTP filters, by the filter's name in the chain.

The most specific place that names a filter wins whole (weighted cluster, route, virtual host,
table).  Filters that want them all ask for :meth:`~weft.proxy.route.table.Route.every_setting`.
"""

from typing import Any, Final

from weft.api.problems import Where
from weft.api.unpack import type_name, unpack
from weft.proxy import extensions
from weft.proxy.extensions import HttpFilterKind

FilterSettings = dict[str, Any]
"""Filter name -> its route settings, :data:`DISABLED` or :data:`ENABLED`."""


class Disabled:
    """The filter is left out for these requests."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "DISABLED"


class Enabled:
    """The filter runs as the chain configures it, even where the chain has it disabled."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "ENABLED"


DISABLED: Final = Disabled()
ENABLED: Final = Enabled()

_WRAPPER: Final = "envoy.config.route.v3.FilterConfig"
_HTTP: Final = "envoy.extensions.filters.http."
_OF_OTHER_FILTERS: Final = frozenset(
    (
        "adaptive_concurrency.v3.AdaptiveConcurrency", "admission_control.v3.AdmissionControl",
        "api_key_auth.v3.ApiKeyAuthPerRoute", "aws_lambda.v3.PerRouteConfig",
        "aws_request_signing.v3.AwsRequestSigningPerRoute", "bandwidth_limit.v3.BandwidthLimit",
        "bandwidth_share.v3.BandwidthShare", "basic_auth.v3.BasicAuthPerRoute", "buffer.v3.BufferPerRoute",
        "cdn_loop.v3.CdnLoopConfig", "composite.v3.CompositePerRoute", "compressor.v3.CompressorPerRoute",
        "cors.v3.CorsPolicy", "credential_injector.v3.CredentialInjector", "csrf.v3.CsrfPolicy",
        "custom_response.v3.CustomResponse", "decompressor.v3.Decompressor",
        "dynamic_forward_proxy.v3.PerRouteConfig", "dynamic_modules.v3.DynamicModuleFilterPerRoute",
        "ext_authz.v3.ExtAuthzPerRoute", "ext_proc.v3.ExtProcPerRoute", "fault.v3.HTTPFault",
        "file_server.v3.FileServerConfig", "file_system_buffer.v3.FileSystemBufferFilterConfig",
        "filter_chain.v3.FilterChainConfigPerRoute", "geoip.v3.Geoip",
        "grpc_field_extraction.v3.GrpcFieldExtractionConfig",
        "grpc_http1_reverse_bridge.v3.FilterConfigPerRoute",
        "grpc_json_reverse_transcoder.v3.GrpcJsonReverseTranscoder",
        "grpc_json_transcoder.v3.GrpcJsonTranscoder", "header_to_metadata.v3.Config",
        "health_check.v3.HealthCheck", "json_to_metadata.v3.JsonToMetadata", "jwt_authn.v3.PerRouteConfig",
        "local_ratelimit.v3.LocalRateLimit", "lua.v3.LuaPerRoute", "mcp.v3.McpOverride",
        "oauth2.v3.OAuth2PerRoute", "on_demand.v3.PerRouteConfig", "ratelimit.v3.RateLimitPerRoute",
        "rbac.v3.RBACPerRoute", "set_filter_state.v3.Config", "set_metadata.v3.Config",
        "sse_to_metadata.v3.SseToMetadata", "stateful_session.v3.StatefulSessionPerRoute", "tap.v3.Tap",
        "transform.v3.TransformConfig",
    )
)  # fmt: skip
"""Route settings of filters that Envoy has.  A chain with such a filter is refused where it names it,
so that what routes say to one that is not here changes nothing and need not be refused as well."""


def filter_settings(messages: Any, where: Where) -> FilterSettings:
    """From a map of filter name to Any."""
    found: FilterSettings = {}
    for name in messages:
        settings = _one(name, messages[name], where.key(name))
        if settings is not None:
            found[name] = settings
    return found


def _one(name: str, config: Any, where: Where) -> Any | None:
    optional = False
    if type_name(config) == _WRAPPER:
        wrapper = unpack(config, where)
        if wrapper is None:
            return None
        if wrapper.disabled:
            return DISABLED
        if not wrapper.HasField("config"):
            where.problem(f"Empty route/virtual host per filter configuration for {name} filter")
            return None
        optional = wrapper.is_optional
        config = wrapper.config
        where = where.field("config")
        if not config.type_url:
            return ENABLED
    wanted = type_name(config)
    kind = extensions.find_for_route(wanted)
    if kind is None:
        if wanted.startswith(_HTTP) and wanted[len(_HTTP) :] in _OF_OTHER_FILTERS:
            if unpack(config, where) is not None:
                where.warn(f"read, but without effect: this version of Weft has no filter for {wanted}")
        elif not optional:
            where.problem(
                f"Didn't find a registered implementation for '{name}' with type URL: '{wanted}' "
                "(not supported by this version of Weft)"
            )
        return None
    if not isinstance(kind, HttpFilterKind) or kind.route_settings is None:
        if not optional:
            where.problem(f"The filter {name} doesn't support virtual host or route specific configurations")
        return None
    message = unpack(config, where)
    return None if message is None else kind.route_settings(message, where)
