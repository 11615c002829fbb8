"""What was called otherwise in v2: fields, values and extensions, by the v3 type they stand in.

Each change takes a mapping of a document that stands for a message of its type, and rewrites it in
place; :mod:`weft.api.upgrade` walks the document and calls them.
"""

from collections.abc import Callable
from typing import Final

from weft.api.document import BOOL, LIST, MAP, STRING, Node
from weft.api.paths import Path

BOOTSTRAP: Final = "envoy.config.bootstrap.v3.Bootstrap"
HOST: Final = "type.googleapis.com/"
_EXTENSIONS: Final = "envoy.extensions."

# -- nodes ----------------------------------------------------------------------------------------


def take(node: Node, name: str) -> tuple[Node, Node] | None:
    """Remove a key of a mapping: (key, value), or None when it is not there."""
    for number, pair in enumerate(node.pairs):
        if pair[0].text == name:
            del node.pairs[number]
            return pair
    return None


def new_text(text: str, place: Node, kind: int = STRING) -> Node:
    return Node(kind, text, place.line, place.column)


def new_mapping(pairs: list[tuple[str, Node]], place: Node) -> Node:
    node = Node(MAP, "", place.line, place.column)
    node.pairs = [(new_text(name, place), value) for name, value in pairs]
    return node


def _list(items: list[Node], place: Node) -> Node:
    node = Node(LIST, "", place.line, place.column)
    node.items = items
    return node


def _items(node: Node) -> list[Node]:
    return node.items if node.kind == LIST else [node]


# -- changes --------------------------------------------------------------------------------------

Warn = Callable[[Path, Node, str, str], None]
"""Takes (path, node, what is old, what it is read as)."""

Change = Callable[[Warn, Node, Path], None]


def _renamed(old: str, new: str, form: Callable[[Node], Node] = lambda value: value) -> Change:
    """A field with a new name, and its value in the form that is due now."""

    def change(warn: Warn, node: Node, path: Path) -> None:
        found = take(node, old)
        if found is None:
            return
        key, value = found
        warn((path, old), key, f"the old field {old!r}", new)
        node.pairs.append((new_text(new, key), form(value)))

    return change


def _dropped(name: str, only_empty: bool = False) -> Change:
    """A field that has no effect any more."""

    def change(warn: Warn, node: Node, path: Path) -> None:
        value = node.get(name)
        if value is None or (only_empty and (value.kind not in (LIST, MAP) or value.items or value.pairs)):
            return
        found = take(node, name)
        assert found is not None
        warn((path, name), found[0], f"the old field {name!r}", "absent: it has no effect")

    return change


def _regex(value: Node) -> Node:
    return new_mapping([("regex", value)], value)


def _wrapped_in(name: str) -> Callable[[Node], Node]:
    return lambda value: new_mapping([(name, value)], value)


def _each(form: Callable[[Node], Node]) -> Callable[[Node], Node]:
    return lambda value: _list([form(item) for item in _items(value)], value)


def _origin(value: Node) -> Node:
    return (
        new_mapping([("safe_regex", _regex(new_text(".*", value)))], value)
        if value.text == "*"
        else new_mapping([("exact", value)], value)
    )


def _percent(value: Node) -> Node:
    """``{default_value: 10, runtime_key: x}`` of whole percents as a fraction."""
    default = value.get("default_value") if value.kind == MAP else None
    if default is not None and default.kind != MAP:
        take(value, "default_value")
        value.pairs.append(
            (new_text("default_value", default), new_mapping([("numerator", default)], default))
        )
    return value


def _typed(type_name: str, name: str) -> Callable[[Node], Node]:
    """An inline message as an extension ``{name, typed_config}``."""

    def form(value: Node) -> Node:
        if value.kind == MAP:
            value.pairs.insert(0, (new_text("@type", value), new_text(HOST + type_name, value)))
        return new_mapping([("name", new_text(name, value)), ("typed_config", value)], value)

    return form


def _hosts(warn: Warn, node: Node, path: Path) -> None:
    found = take(node, "hosts")
    if found is None:
        return
    key, hosts = found
    warn((path, "hosts"), key, "the old field 'hosts'", "load_assignment")
    endpoints = [
        new_mapping([("endpoint", new_mapping([("address", host)], host))], host) for host in _items(hosts)
    ]
    name = node.get("name")
    node.pairs.append(
        (
            new_text("load_assignment", key),
            new_mapping(
                [
                    ("cluster_name", name if name is not None else new_text("", key)),
                    (
                        "endpoints",
                        _list([new_mapping([("lb_endpoints", _list(endpoints, hosts))], hosts)], hosts),
                    ),
                ],
                hosts,
            ),
        )
    )


def _original_dst_lb(warn: Warn, node: Node, path: Path) -> None:
    policy = node.get("lb_policy")
    if policy is not None and policy.text.upper() == "ORIGINAL_DST_LB":
        warn((path, "lb_policy"), policy, "the old value ORIGINAL_DST_LB", "CLUSTER_PROVIDED")
        policy.text = "CLUSTER_PROVIDED"


def _query_parameter(warn: Warn, node: Node, path: Path) -> None:
    value, is_regex = take(node, "value"), take(node, "regex")
    if value is None:
        return
    regex = is_regex is not None and is_regex[1].text == "true"
    warn((path, "value"), value[0], "the old field 'value'", "string_match")
    form = new_mapping([("safe_regex", _regex(value[1]))] if regex else [("exact", value[1])], value[1])
    node.pairs.append((new_text("string_match", value[0]), form))


def _idle_timeout(warn: Warn, node: Node, path: Path) -> None:
    found = take(node, "idle_timeout")
    if found is None:
        return
    key, value = found
    warn(
        (path, "idle_timeout"),
        key,
        "the old field 'idle_timeout'",
        "common_http_protocol_options.idle_timeout",
    )
    options = node.get("common_http_protocol_options")
    if options is not None and options.kind == MAP:
        options.pairs.append((new_text("idle_timeout", key), value))
    else:
        node.pairs.append(
            (new_text("common_http_protocol_options", key), new_mapping([("idle_timeout", value)], key))
        )


def _health_check_http2(warn: Warn, node: Node, path: Path) -> None:
    found = take(node, "use_http2")
    if found is None:
        return
    key, value = found
    warn((path, "use_http2"), key, "the old field 'use_http2'", "codec_client_type")
    if value.kind == BOOL and value.text == "true":
        node.pairs.append((new_text("codec_client_type", key), new_text("HTTP2", value)))


def _access_log_path(warn: Warn, node: Node, path: Path) -> None:
    if node.get("access_log") is None and node.get("access_log_path") is not None:
        form = _typed(_EXTENSIONS + "access_loggers.file.v3.FileAccessLog", "envoy.access_loggers.file")
        change = _renamed(
            "access_log_path", "access_log", lambda value: form(new_mapping([("path", value)], value))
        )
        change(warn, node, path)


def _runtime(warn: Warn, node: Node, path: Path) -> None:
    found = take(node, "runtime")
    if found is None:
        return
    key, old = found
    warn((path, "runtime"), key, "the old field 'runtime'", "layered_runtime")
    if old.kind != MAP:
        node.pairs.append((key, old))
        return
    layers: list[Node] = []

    def layer(name: str, kind: str, value: Node) -> None:
        layers.append(new_mapping([("name", new_text(name, value)), (kind, value)], value))

    base, root = old.get("base"), old.get("symlink_root")
    if base is not None:
        layer("base", "static_layer", base)
    if root is not None:
        for name, part in (("root", "subdirectory"), ("override", "override_subdirectory")):
            folder = old.get(part)
            if folder is not None:
                disk = [("symlink_root", root), ("subdirectory", folder)]
                if name == "override":
                    disk.append(("append_service_cluster", new_text("true", folder, BOOL)))
                layer(name, "disk_layer", new_mapping(disk, folder))
    layer("admin", "admin_layer", new_mapping([], key))
    node.pairs.append((new_text("layered_runtime", key), new_mapping([("layers", _list(layers, key))], key)))


def _per_filter_config(warn: Warn, node: Node, path: Path) -> None:
    found = take(node, "per_filter_config")
    if found is None:
        return
    key, old = found
    warn((path, "per_filter_config"), key, "the old field 'per_filter_config'", "typed_per_filter_config")
    if old.kind != MAP:
        node.pairs.append((key, old))
        return
    new = new_mapping([], old)
    for name, value in old.pairs:
        known = _HTTP_FILTERS.get(name.text)
        if known is not None and value.kind == MAP:
            type_name = _PER_ROUTE.get(known[1], known[1])
            value.pairs.insert(0, (new_text("@type", name), new_text(HOST + type_name, name)))
            name = new_text(known[0], name)
        new.pairs.append((name, value))
    node.pairs.append((new_text("typed_per_filter_config", key), new))


_HCM: Final = "filters.network.http_connection_manager.v3.HttpConnectionManager"
_ROUTE: Final = "envoy.config.route.v3."
_TLS: Final = _EXTENSIONS + "transport_sockets.tls.v3."

CHANGES: Final[dict[str, tuple[Change, ...]]] = {
    BOOTSTRAP: (_runtime,),
    "envoy.config.bootstrap.v3.Admin": (_access_log_path,),
    "envoy.config.core.v3.Node": (_dropped("build_version"),),
    "envoy.config.core.v3.HealthCheck.HttpHealthCheck": (
        _health_check_http2,
        _renamed("service_name", "service_name_matcher", _wrapped_in("prefix")),
    ),
    "envoy.config.cluster.v3.Cluster": (
        _hosts,
        _renamed("tls_context", "transport_socket", _typed(_TLS + "UpstreamTlsContext", "envoy.transport_sockets.tls")),
        _original_dst_lb,
    ),
    "envoy.config.listener.v3.FilterChain": (
        _renamed("tls_context", "transport_socket", _typed(_TLS + "DownstreamTlsContext", "envoy.transport_sockets.tls")),
    ),
    "envoy.config.listener.v3.FilterChainMatch": (_renamed("sni_domains", "server_names"),),
    _TLS + "CertificateValidationContext": (
        _renamed("verify_subject_alt_name", "match_subject_alt_names", _each(_wrapped_in("exact"))),
    ),
    _EXTENSIONS + _HCM: (_dropped("clusters", only_empty=True), _idle_timeout),
    _EXTENSIONS + _HCM + ".Tracing": (_dropped("operation_name"),),
    _ROUTE + "VirtualHost": (_per_filter_config,),
    _ROUTE + "Route": (_per_filter_config,),
    _ROUTE + "WeightedCluster.ClusterWeight": (_per_filter_config,),
    _ROUTE + "RouteMatch": (
        _renamed("regex", "safe_regex", _regex),
        _renamed("runtime", "runtime_fraction", _percent),
    ),
    _ROUTE + "HeaderMatcher": (_renamed("regex_match", "safe_regex_match", _regex),),
    _ROUTE + "QueryParameterMatcher": (_query_parameter,),
    _ROUTE + "VirtualCluster": (_dropped("method"),),
    _ROUTE + "RouteAction": (
        _renamed("host_rewrite", "host_rewrite_literal"),
        _renamed("auto_host_rewrite_header", "host_rewrite_header"),
        _renamed("request_mirror_policy", "request_mirror_policies"),
    ),
    _ROUTE + "CorsPolicy": (
        _renamed("allow_origin", "allow_origin_string_match", _each(_origin)),
        _renamed("allow_origin_regex", "allow_origin_string_match", _each(lambda value: new_mapping([("safe_regex", _regex(value))], value))),
        _dropped("enabled"),
    ),
    "envoy.type.matcher.v3.StringMatcher": (_renamed("regex", "safe_regex", _regex),),
}  # fmt: skip
"""Full name of a v3 type -> what may be old in it."""


def _names(prefix: str, *rows: tuple[str, str, str]) -> dict[str, tuple[str, str]]:
    """From old and new extension names to (new name, type)."""
    table = {}
    for old, name, type_name in rows:
        new = prefix + name
        table[old] = table[new] = (new, type_name)
    return table


def _in(folder: str) -> Callable[[str], str]:
    return lambda name: f"{_EXTENSIONS}{folder}.{name}"


_http, _network, _listener, _log = map(
    _in, ("filters.http", "filters.network", "filters.listener", "access_loggers")
)

_HTTP_FILTERS: Final = _names(
    "envoy.filters.http.",
    ("envoy.buffer", "buffer", _http("buffer.v3.Buffer")),
    ("envoy.cors", "cors", _http("cors.v3.Cors")),
    ("envoy.csrf", "csrf", _http("csrf.v3.CsrfPolicy")),
    ("envoy.ext_authz", "ext_authz", _http("ext_authz.v3.ExtAuthz")),
    ("envoy.fault", "fault", _http("fault.v3.HTTPFault")),
    ("envoy.grpc_http1_bridge", "grpc_http1_bridge", _http("grpc_http1_bridge.v3.Config")),
    (
        "envoy.grpc_json_transcoder",
        "grpc_json_transcoder",
        _http("grpc_json_transcoder.v3.GrpcJsonTranscoder"),
    ),
    ("envoy.grpc_web", "grpc_web", _http("grpc_web.v3.GrpcWeb")),
    ("envoy.health_check", "health_check", _http("health_check.v3.HealthCheck")),
    ("envoy.ip_tagging", "ip_tagging", _http("ip_tagging.v3.IPTagging")),
    ("envoy.lua", "lua", _http("lua.v3.Lua")),
    ("envoy.rate_limit", "ratelimit", _http("ratelimit.v3.RateLimit")),
    ("envoy.router", "router", _http("router.v3.Router")),
    ("envoy.rbac", "rbac", _http("rbac.v3.RBAC")),
    ("envoy.header_to_metadata", "header_to_metadata", _http("header_to_metadata.v3.Config")),
    ("envoy.jwt_authn", "jwt_authn", _http("jwt_authn.v3.JwtAuthentication")),
)
_PER_ROUTE: Final = {
    _http("buffer.v3.Buffer"): _http("buffer.v3.BufferPerRoute"),
    _http("ext_authz.v3.ExtAuthz"): _http("ext_authz.v3.ExtAuthzPerRoute"),
    _http("lua.v3.Lua"): _http("lua.v3.LuaPerRoute"),
    _http("rbac.v3.RBAC"): _http("rbac.v3.RBACPerRoute"),
}
"""Where the type of per-route configuration is another than the filter's."""

NAMES: Final[dict[str, dict[str, tuple[str, str]]]] = {
    "envoy.extensions.filters.network.http_connection_manager.v3.HttpFilter": _HTTP_FILTERS,
    "envoy.config.listener.v3.Filter": _names(
        "envoy.filters.network.",
        ("envoy.echo", "echo", _network("echo.v3.Echo")),
        ("envoy.ext_authz", "ext_authz", _network("ext_authz.v3.ExtAuthz")),
        ("envoy.http_connection_manager", "http_connection_manager", _EXTENSIONS + _HCM),
        ("envoy.mongo_proxy", "mongo_proxy", _network("mongo_proxy.v3.MongoProxy")),
        ("envoy.ratelimit", "ratelimit", _network("ratelimit.v3.RateLimit")),
        ("envoy.rbac", "rbac", _network("rbac.v3.RBAC")),
        ("envoy.redis_proxy", "redis_proxy", _network("redis_proxy.v3.RedisProxy")),
        ("envoy.sni_cluster", "sni_cluster", _network("sni_cluster.v3.SniCluster")),
        ("envoy.tcp_proxy", "tcp_proxy", _network("tcp_proxy.v3.TcpProxy")),
        ("envoy.thrift_proxy", "thrift_proxy", _network("thrift_proxy.v3.ThriftProxy")),
    ),
    "envoy.config.listener.v3.ListenerFilter": _names(
        "envoy.filters.listener.",
        ("envoy.listener.http_inspector", "http_inspector", _listener("http_inspector.v3.HttpInspector")),
        ("envoy.listener.original_dst", "original_dst", _listener("original_dst.v3.OriginalDst")),
        ("envoy.listener.original_src", "original_src", _listener("original_src.v3.OriginalSrc")),
        ("envoy.listener.proxy_protocol", "proxy_protocol", _listener("proxy_protocol.v3.ProxyProtocol")),
        ("envoy.listener.tls_inspector", "tls_inspector", _listener("tls_inspector.v3.TlsInspector")),
    ),
    "envoy.config.accesslog.v3.AccessLog": _names(
        "envoy.access_loggers.",
        ("envoy.file_access_log", "file", _log("file.v3.FileAccessLog")),
        ("envoy.http_grpc_access_log", "http_grpc", _log("grpc.v3.HttpGrpcAccessLogConfig")),
        ("envoy.tcp_grpc_access_log", "tcp_grpc", _log("grpc.v3.TcpGrpcAccessLogConfig")),
    ),
    "envoy.config.metrics.v3.StatsSink": _names(
        "envoy.stat_sinks.",
        ("envoy.statsd", "statsd", "envoy.config.metrics.v3.StatsdSink"),
        ("envoy.dog_statsd", "dog_statsd", "envoy.config.metrics.v3.DogStatsdSink"),
        ("envoy.metrics_service", "metrics_service", "envoy.config.metrics.v3.MetricsServiceConfig"),
        ("envoy.stat_sinks.hystrix", "hystrix", "envoy.config.metrics.v3.HystrixSink"),
    ),
    "envoy.config.trace.v3.Tracing.Http": _names(
        "envoy.tracers.",
        ("envoy.zipkin", "zipkin", "envoy.config.trace.v3.ZipkinConfig"),
        ("envoy.lightstep", "lightstep", "envoy.config.trace.v3.LightstepConfig"),
    ),
    "envoy.config.core.v3.TransportSocket": _names(
        "envoy.transport_sockets.",
        ("raw_buffer", "raw_buffer", "envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer"),
    ),
}  # fmt: skip
"""Full name of the message that names an extension -> the names known there."""
