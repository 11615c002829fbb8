"""Settings of the HTTP connection manager: the protobuf, decided.

The only module of ``proxy/http`` that sees the connection manager's configuration message.
Whatever Envoy's connection manager knows and Weft does not do yet is a problem that names it.
"""

from dataclasses import dataclass
from typing import Any, Final

from weft.api.problems import Where
from weft.api.values import optional_seconds, without_effect, wrapped
from weft.codec.http1 import Http1Options
from weft.proxy.extension_config import resolve
from weft.proxy.extensions import HttpFilterKind
from weft.proxy.http.local_reply import LocalReplySettings, local_reply_settings
from weft.proxy.observe.access_log import AccessLogSettings, access_logs
from weft.proxy.route.table import RouteTable, route_table

OVERWRITE: Final = 0
APPEND_IF_ABSENT: Final = 1
PASS_THROUGH: Final = 2

ALLOW: Final = 0
REJECT: Final = 1
DROP: Final = 2

STRIP_NO_PORT: Final = 0
STRIP_MATCHING_PORT: Final = 1
STRIP_ANY_PORT: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpFilterSettings:
    """One entry of ``http_filters``."""

    name: str
    kind: HttpFilterKind
    settings: Any
    disabled: bool = False
    """Off unless a route turns it on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UpgradeSettings:
    """One entry of ``upgrade_configs``."""

    enabled: bool
    """Unless the route says otherwise."""
    filters: tuple[HttpFilterSettings, ...] | None = None
    """Without the router; None: those of every request."""
    router: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HcmSettings:
    """Durations in seconds, 0 for none; defaults are Envoy's."""

    stat_prefix: str
    route_table: RouteTable
    filters: tuple[HttpFilterSettings, ...]
    """Without the router."""
    router: Any
    options: Http1Options
    server_name: bytes = b"envoy"
    server_mode: int = OVERWRITE
    via: bytes = b""
    scheme_override: bytes = b""
    use_remote_address: bool = False
    xff_num_trusted_hops: int = 0
    skip_xff_append: bool = False
    append_x_forwarded_port: bool = False
    internal_cidrs: tuple[str, ...] = ()
    forward_client_cert: bool = False
    generate_request_id: bool = True
    preserve_external_request_id: bool = False
    always_set_request_id: bool = False
    add_user_agent: bool = False
    normalize_path: bool = False
    merge_slashes: bool = False
    escaped_slashes: int = 0
    """One of ``weft.http.path``: KEEP, REJECT_ESCAPED, UNESCAPE_AND_REDIRECT, UNESCAPE_AND_FORWARD."""
    strip_port: int = STRIP_NO_PORT
    strip_trailing_host_dot: bool = False
    underscores: int = ALLOW
    proxy_100_continue: bool = False
    stream_error_on_invalid: bool = False
    allow_absolute_url: bool = True
    """Take the host of an absolute-form target; else such a request is refused."""
    upgrades: dict[bytes, UpgradeSettings]
    """By upgrade type, lower-case; ``connect`` is the method."""
    idle_timeout: float = 3600.0
    max_connection_duration: float = 0.0
    max_stream_duration: float = 0.0
    stream_idle_timeout: float = 300.0
    request_timeout: float = 0.0
    request_headers_timeout: float = 0.0
    drain_timeout: float = 5.0
    delayed_close_timeout: float = 1.0
    max_requests_per_connection: int = 0
    access_logs: tuple[AccessLogSettings, ...] = ()
    local_reply: LocalReplySettings


_NOT_YET: Final = (
    "rds",
    "scoped_routes",
    "tracing",
    "original_ip_detection_extensions",
    "early_header_mutation_extensions",
    "proxy_status_config",
    "typed_header_validation_config",
    "path_normalization_options",
    "forward_client_cert_matcher",
    "access_log_flush_interval",
)
_NO_EFFECT: Final = (
    "stream_flush_timeout",
    "represent_ipv4_remote_address_as_ipv4_mapped_ipv6",
    "http1_safe_max_connection_duration",
    "drain_timeout_jitter",
    "forward_proto_config",
    "record_route_resolution_stats",
    "append_local_overload",
)
_UUID: Final = "envoy.extensions.request_id.uuid.v3.UuidRequestIdConfig"


def hcm_settings(message: Any, where: Where) -> HcmSettings:
    """From ``HttpConnectionManager``; problems go to ``where``."""
    _not_yet(message, where)
    filters, router = _filters(message.http_filters, where.field("http_filters"))
    common = message.common_http_protocol_options
    use_remote = wrapped(message, "use_remote_address", False)
    if message.HasField("internal_address_config"):
        config = message.internal_address_config
        cidrs = tuple(f"{entry.address_prefix}/{entry.prefix_len.value}" for entry in config.cidr_ranges)
    else:
        cidrs = ()
    if message.strip_matching_host_port and message.strip_any_host_port:
        where.problem("strip_matching_host_port and strip_any_host_port exclude each other")
    return HcmSettings(
        stat_prefix=message.stat_prefix,
        route_table=route_table(message.route_config, where.field("route_config")),
        filters=filters,
        router=router,
        options=_http1_options(message),
        server_name=(message.server_name or "envoy").encode(),
        server_mode=message.server_header_transformation,
        via=message.via.encode(),
        scheme_override=message.scheme_header_transformation.scheme_to_overwrite.encode(),
        use_remote_address=use_remote,
        xff_num_trusted_hops=message.xff_num_trusted_hops,
        skip_xff_append=message.skip_xff_append,
        append_x_forwarded_port=message.append_x_forwarded_port,
        internal_cidrs=cidrs,
        forward_client_cert=message.forward_client_cert_details == 4,
        generate_request_id=wrapped(message, "generate_request_id", True),
        preserve_external_request_id=message.preserve_external_request_id,
        always_set_request_id=message.always_set_request_id_in_response,
        add_user_agent=wrapped(message, "add_user_agent", False),
        normalize_path=wrapped(message, "normalize_path", False),
        merge_slashes=message.merge_slashes,
        escaped_slashes=max(0, message.path_with_escaped_slashes_action - 1),
        strip_port=STRIP_ANY_PORT
        if message.strip_any_host_port
        else STRIP_MATCHING_PORT
        if message.strip_matching_host_port
        else STRIP_NO_PORT,
        strip_trailing_host_dot=message.strip_trailing_host_dot,
        underscores=common.headers_with_underscores_action,
        proxy_100_continue=message.proxy_100_continue,
        allow_absolute_url=wrapped(message.http_protocol_options, "allow_absolute_url", True),
        stream_error_on_invalid=wrapped(
            message.http_protocol_options,
            "override_stream_error_on_invalid_http_message",
            wrapped(message, "stream_error_on_invalid_http_message", False),
        ),
        upgrades=_upgrades(message.upgrade_configs, where.field("upgrade_configs")),
        idle_timeout=_duration(common, "idle_timeout", 3600.0),
        max_connection_duration=_duration(common, "max_connection_duration", 0.0),
        max_stream_duration=_duration(common, "max_stream_duration", 0.0),
        stream_idle_timeout=_duration(message, "stream_idle_timeout", 300.0),
        request_timeout=_duration(message, "request_timeout", 0.0),
        request_headers_timeout=_duration(message, "request_headers_timeout", 0.0),
        drain_timeout=_duration(message, "drain_timeout", 5.0),
        delayed_close_timeout=_duration(message, "delayed_close_timeout", 1.0),
        max_requests_per_connection=wrapped(common, "max_requests_per_connection", 0),
        access_logs=access_logs(message.access_log, where.field("access_log")),
        local_reply=local_reply_settings(message.local_reply_config, where.field("local_reply_config")),
    )


def _duration(message: Any, field: str, default: float) -> float:
    value = optional_seconds(message, field)
    return default if value is None else value


def _not_yet(message: Any, where: Where) -> None:
    without_effect(message, _NO_EFFECT, where)
    without_effect(
        message.http_protocol_options, ("ignore_http_11_upgrade",), where.field("http_protocol_options")
    )
    without_effect(
        message.common_http_protocol_options,
        ("max_connection_duration_jitter",),
        where.field("common_http_protocol_options"),
    )
    largest = wrapped(message.http2_protocol_options, "max_header_field_size_kb", 0)
    if largest > wrapped(message, "max_request_headers_kb", 60):
        where.field("http2_protocol_options").field("max_header_field_size_kb").problem(
            "max_header_field_size_kb must not exceed max_request_headers_kb"
        )
    for name in _NOT_YET:
        descriptor = message.DESCRIPTOR.fields_by_name[name]
        if len(getattr(message, name)) if descriptor.is_repeated else message.HasField(name):
            where.field(name).problem(f"not supported yet: {name} of the HTTP connection manager")
    if message.codec_type not in (0, 1):
        where.field("codec_type").problem("not supported yet: only HTTP1 and AUTO (which is HTTP/1 here)")
    options = message.http_protocol_options
    if options.HasField("header_key_format"):
        where.field("http_protocol_options").field("header_key_format").problem(
            "not supported yet: header names are forwarded in lower case"
        )
    if message.forward_client_cert_details not in (0, 4):
        # Without TLS there is no certificate: these behave as SANITIZE, as in Envoy.
        pass
    if message.request_id_extension.HasField("typed_config"):
        type_name = message.request_id_extension.typed_config.type_url.rpartition("/")[2]
        if type_name != _UUID:
            where.field("request_id_extension").problem(
                f"not supported yet: request id extension {type_name}"
            )
    if message.access_log_options.HasField("access_log_flush_interval") or (
        message.access_log_options.flush_access_log_on_new_request or message.flush_access_log_on_new_request
    ):
        where.field("access_log_options").problem("not supported yet: access logs before the end of a stream")


def _filters(entries: Any, where: Where, chain: str = "http") -> tuple[tuple[HttpFilterSettings, ...], Any]:
    out: list[HttpFilterSettings] = []
    router: Any = None
    last = len(entries) - 1
    for i, entry in enumerate(entries):
        place = where.item(i)
        found = resolve("http_filter", entry, place)
        if found is None:
            continue
        kind, settings = found
        if not isinstance(kind, HttpFilterKind):
            place.problem(f"'{entry.name}' is not an HTTP filter")
            continue
        if kind.terminal:
            if i != last:
                place.problem(
                    f"Error: terminal filter named {entry.name} of type {kind.name} must be the last filter in a {chain} filter chain."
                )
            if entry.disabled:
                place.problem(f"terminal filter {entry.name} cannot be disabled")
            router = settings
            continue
        if i == last:
            place.problem(
                f"Error: non-terminal filter named {entry.name} of type {kind.name} is the last filter in a {chain} filter chain."
            )
        out.append(HttpFilterSettings(name=entry.name, kind=kind, settings=settings, disabled=entry.disabled))
    return tuple(out), router


def _http1_options(message: Any) -> Http1Options:
    options = message.http_protocol_options
    common = message.common_http_protocol_options
    return Http1Options(
        max_head=wrapped(message, "max_request_headers_kb", 60) * 1024,
        max_fields=wrapped(common, "max_headers_count", 100),
        allow_chunked_length=options.allow_chunked_length,
        allow_http_10=options.accept_http_10,
        default_host=options.default_host_for_http_10.encode(),
        allow_custom_methods=options.allow_custom_methods,
        keep_trailers=options.enable_trailers,
    )


def _upgrades(configs: Any, where: Where) -> dict[bytes, UpgradeSettings]:
    out: dict[bytes, UpgradeSettings] = {}
    for i, config in enumerate(configs):
        place = where.item(i)
        name = config.upgrade_type.lower().encode()
        if name in out:
            place.problem(f"Error: multiple upgrade configs with the same name: '{config.upgrade_type}'")
        if name == b"connect-udp":
            place.field("upgrade_type").problem("not supported yet: CONNECT-UDP")
        filters: tuple[HttpFilterSettings, ...] | None = None
        router: Any = None
        if len(config.filters):
            filters, router = _filters(config.filters, place.field("filters"), "http upgrade")
        out[name] = UpgradeSettings(enabled=wrapped(config, "enabled", True), filters=filters, router=router)
    return out
