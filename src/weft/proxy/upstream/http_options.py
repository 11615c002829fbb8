"""HTTP towards a cluster: protocol, limits and times of its connections.

Today's place is ``typed_extension_protocol_options``; the older fields of the cluster message say
the same things and count where that is missing.  ``headers_with_underscores_action`` and
``override_stream_error_on_invalid_http_message`` are about clients: towards an upstream Envoy gives
them no effect either.
"""

from dataclasses import dataclass
from typing import Any, Final

from weft.api.problems import Where
from weft.api.values import optional_seconds, wrapped


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpSettings:
    idle_timeout: float = 3600.0
    """Seconds without a request after which a connection is closed; 0 for never."""
    max_connection_duration: float = 0.0
    """Seconds; 0 for no limit."""
    max_headers_count: int = 100
    """Of a response."""
    max_response_headers_kb: int = 60
    max_requests_per_connection: int = 0
    """0 for no limit."""
    enable_trailers: bool = False
    allow_chunked_length: bool = False


DEFAULT: Final = HttpSettings()
_OPTIONS: Final = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


def http_settings(cluster: Any, where: Where) -> HttpSettings:
    """From the ``Cluster`` message."""
    from weft.api.unpack import type_name, unpack

    found: HttpSettings | None = None
    place = where.field("typed_extension_protocol_options")
    for name, packed in cluster.typed_extension_protocol_options.items():
        wanted = type_name(packed)
        if wanted != _OPTIONS:
            place.key(name).problem(
                f"not supported yet: protocol options '{name}' (type {wanted or 'unknown'})"
            )
            continue
        if name != _OPTIONS:
            place.key(name).problem(
                f"no protocol options are known by the name '{name}'; is '{_OPTIONS}' meant?"
            )
            continue
        message = unpack(packed, place.key(name))
        if message is not None:
            found = _from_options(message, cluster, place.key(name))
    if found is not None:
        return found
    if cluster.HasField("http2_protocol_options"):
        where.field("http2_protocol_options").problem("HTTP/2 upstream is not supported yet")
    return _build(cluster.common_http_protocol_options, cluster.http_protocol_options, cluster, where)


def _from_options(message: Any, cluster: Any, where: Where) -> HttpSettings:
    which = message.WhichOneof("upstream_protocol_options")
    http1 = message.explicit_http_config.http_protocol_options
    place = where
    if which == "explicit_http_config":
        place = where.field("explicit_http_config")
        protocol = message.explicit_http_config.WhichOneof("protocol_config")
        if protocol == "http2_protocol_options":
            place.field(protocol).problem("HTTP/2 upstream is not supported yet")
        elif protocol == "http3_protocol_options":
            place.field(protocol).problem("HTTP/3 upstream is not supported yet")
    elif which == "use_downstream_protocol_config":
        # Downstream is HTTP/1 only, so the HTTP/1 options are the ones that count.
        place = where.field("use_downstream_protocol_config")
        http1 = message.use_downstream_protocol_config.http_protocol_options
    elif which == "auto_config":
        where.field("auto_config").problem("not supported yet: auto_config (it needs a TLS transport socket)")
        http1 = message.auto_config.http_protocol_options
    else:
        where.problem(
            "one of explicit_http_config, use_downstream_protocol_config and auto_config is required"
        )
    for i, http_filter in enumerate(message.http_filters):
        if not http_filter.typed_config.type_url.endswith(".upstream_codec.v3.UpstreamCodec"):
            where.field("http_filters").item(i).problem(
                f"not supported yet: upstream HTTP filter '{http_filter.name}'"
            )
    for name in ("header_validation_config", "outlier_detection", "retry_policy"):
        if message.HasField(name):
            where.field(name).problem(f"not supported yet: {name}")
    for name in ("request_mirror_policies", "hash_policy"):
        if getattr(message, name):
            where.field(name).problem(f"not supported yet: {name}")
    return _build(message.common_http_protocol_options, http1, cluster, where, place)


def _build(common: Any, http1: Any, cluster: Any, where: Where, place: Where | None = None) -> HttpSettings:
    """``where`` is the parent of the common options, ``place`` of the HTTP/1 ones."""
    if optional_seconds(common, "max_stream_duration"):
        at = where.field("common_http_protocol_options").field("max_stream_duration")
        at.problem("not supported yet: max_stream_duration of a cluster; routes and listeners have one")
    _check_http1(http1, (place or where).field("http_protocol_options"))
    requests: int = wrapped(common, "max_requests_per_connection", -1)
    if requests < 0:
        requests = wrapped(cluster, "max_requests_per_connection", 0)
    elif cluster.HasField("max_requests_per_connection"):
        where.problem(
            "only one of max_requests_per_connection from Cluster or HttpProtocolOptions can be specified"
        )
    idle = optional_seconds(common, "idle_timeout")
    settings = HttpSettings(
        idle_timeout=DEFAULT.idle_timeout if idle is None else idle,
        max_connection_duration=optional_seconds(common, "max_connection_duration") or 0.0,
        max_headers_count=wrapped(common, "max_headers_count", DEFAULT.max_headers_count),
        max_response_headers_kb=wrapped(common, "max_response_headers_kb", DEFAULT.max_response_headers_kb),
        max_requests_per_connection=requests,
        enable_trailers=http1.enable_trailers,
        allow_chunked_length=http1.allow_chunked_length,
    )
    return settings if settings != DEFAULT else DEFAULT


def _check_http1(http1: Any, where: Where) -> None:
    which = http1.header_key_format.WhichOneof("header_format")
    if which is not None:
        where.field("header_key_format").field(which).problem(f"not supported yet: {which}")
    if http1.send_fully_qualified_url:
        where.field("send_fully_qualified_url").problem("not supported yet: send_fully_qualified_url")
