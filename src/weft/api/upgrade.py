"""Old names (the v2 style of 2018 to 2020) to v3 ones, on the nodes of a document.

Only documents that are unmistakably old are touched: those in which no ``@type`` names a v3 type.
There, whatever v3 has no field for but v2 had is rewritten, with a warning for each; a document
written for v3 means what it says, mistakes included.  The walk follows the v3 types, so an old name
is found wherever its message may stand.
"""

import functools
from collections.abc import Callable
from typing import Any, Final

from weft.api.document import BOOL, LIST, MAP, NULL, STRING, Node
from weft.api.paths import Path
from weft.api.schema import find_type, is_map, schema

Report = Callable[[Path, Node, str, bool], None]

BOOTSTRAP: Final = "envoy.config.bootstrap.v3.Bootstrap"
_HOST: Final = "type.googleapis.com/"
_EXTENSIONS: Final = "envoy.extensions."
_MAX_DEPTH: Final = 200


def upgrade_bootstrap(root: Node, report: Report) -> Node:
    """``root`` with old names replaced, in place."""
    if not _names_v3(root, set()):
        upgrade = _Upgrade(report)
        upgrade.walk(root, find_type(BOOTSTRAP), None)
        upgrade.drop_empty_sources(root)
    return root


def _names_v3(node: Node, seen: set[int]) -> bool:
    """Whether any ``@type`` in the tree is of v3 (or of something that v2 never had)."""
    if node.kind == LIST:
        if id(node) in seen:
            return False
        seen.add(id(node))
        return any(_names_v3(item, seen) for item in node.items)
    if node.kind != MAP or id(node) in seen:
        return False
    seen.add(id(node))
    for key, value in node.pairs:
        if key.text == "@type" and ".v3" in value.text:
            return True
        if value.kind >= LIST and _names_v3(value, seen):
            return True
    return False


class _Upgrade:
    def __init__(self, report: Report) -> None:
        self._report = report
        self._done: set[int] = set()
        self._depth = 0
        self.count = 0

    def walk(self, node: Node, descriptor: Any, path: Path) -> None:
        """Upgrade a mapping that stands for a message, and everything in it."""
        if node.kind != MAP or id(node) in self._done or self._depth > _MAX_DEPTH:
            return
        self._done.add(id(node))
        self._depth += 1
        name = descriptor.full_name
        if name == "google.protobuf.Any":
            self._any(node, path)
        else:
            for change in _CHANGES.get(name, ()):
                change(self, node, path)
            kinds = _NAMES.get(name)
            if kinds is not None:
                self._extension(node, kinds, path)
            self._fields(node, descriptor, path)
        self._depth -= 1

    def _fields(self, node: Node, descriptor: Any, path: Path) -> None:
        fields = _message_fields(descriptor)
        for key, value in node.pairs:
            found = fields.get(key.text)
            if found is None or value.kind < LIST:
                continue
            field, inner = found
            here = (path, field.name)
            if is_map(field):
                if value.kind == MAP:
                    for entry_key, entry in value.pairs:
                        self.walk(entry, inner, (here, f'["{entry_key.text}"]'))
            elif value.kind == LIST:
                for number, item in enumerate(value.items):
                    self.walk(item, inner, (here, f"[{number}]"))
            else:
                self.walk(value, inner, here)

    def _any(self, node: Node, path: Path) -> None:
        type_node = node.get("@type")
        if type_node is None or type_node.kind != STRING:
            return
        old = type_node.text.rpartition("/")[2]
        name = _previous_names().get(old, old)
        if name != old:
            self.warn((path, "@type"), type_node, f"the old type {old!r}", name)
            type_node.text = _HOST + name
        descriptor = find_type(name)
        if descriptor is not None and not name.startswith("google.protobuf."):
            for change in _CHANGES.get(name, ()):
                change(self, node, path)
            self._fields(node, descriptor, path)

    def _extension(self, node: Node, kinds: "dict[str, tuple[str, str]]", path: Path) -> None:
        """``{name, config}`` or a bare old name: give it the typed_config it stands for."""
        name = node.get("name")
        if name is None or name.kind != STRING or name.text not in kinds:
            return
        if node.get("typed_config") is not None or node.get("typedConfig") is not None:
            return
        if node.get("config_discovery") is not None:
            return
        new_name, type_name = kinds[name.text]
        if name.text == new_name and node.get("config") is None and not self.count:
            return  # nothing here is old
        config = _take(node, "config")
        key, value = config or (_text("typed_config", name), _mapping([], name))
        if value.kind == NULL:
            value = _mapping([], value)
        if value.kind != MAP:
            node.pairs.append((key, value))  # the conversion will say what is wrong
            return
        if config is not None:
            self.warn((path, "config"), key, "the old field 'config'", f"typed_config of {type_name}")
        elif name.text == new_name:
            self.warn((path, "name"), name, "no typed_config", f"one of {type_name}")
        if name.text != new_name:
            self.warn((path, "name"), name, f"the old name {name.text!r}", new_name)
            name.text = new_name
        value.pairs.insert(0, (_text("@type", key), _text(_HOST + type_name, key)))
        node.pairs.append((_text("typed_config", key), value))

    def drop_empty_sources(self, root: Node) -> None:
        """``cds_config: {}``, which said nothing, where the rest of the document is old as well."""
        dynamic = root.get("dynamic_resources")
        if not self.count or dynamic is None or dynamic.kind != MAP:
            return
        for name in ("cds_config", "lds_config"):
            source = dynamic.get(name)
            if source is not None and source.kind == MAP and not source.pairs:
                found = _take(dynamic, name)
                assert found is not None
                self.warn(((None, "dynamic_resources"), name), found[0], f"the empty {name}", "absent")

    def warn(self, path: Path, node: Node, old: str, new: str) -> None:
        self.count += 1
        self._report(path, node, f"{old} is read as {new}", True)


@functools.cache
def _previous_names() -> dict[str, str]:
    return schema().previous_names()


@functools.cache
def _message_fields(descriptor: Any) -> dict[str, tuple[Any, Any]]:
    """Field names in both styles -> (field, type of the message in it)."""
    fields: dict[str, tuple[Any, Any]] = {}
    for field in descriptor.fields:
        inner = (
            field.message_type.fields_by_name["value"].message_type if is_map(field) else field.message_type
        )
        if inner is not None:
            fields[field.name] = fields[field.json_name] = (field, inner)
    return fields


# -- nodes -----------------------------------------------------------------------------------------


def _take(node: Node, name: str) -> tuple[Node, Node] | None:
    """Remove a key of a mapping: (key, value), or None when it is not there."""
    for number, pair in enumerate(node.pairs):
        if pair[0].text == name:
            del node.pairs[number]
            return pair
    return None


def _text(text: str, place: Node, kind: int = STRING) -> Node:
    return Node(kind, text, place.line, place.column)


def _mapping(pairs: list[tuple[str, Node]], place: Node) -> Node:
    node = Node(MAP, "", place.line, place.column)
    node.pairs = [(_text(name, place), value) for name, value in pairs]
    return node


def _list(items: list[Node], place: Node) -> Node:
    node = Node(LIST, "", place.line, place.column)
    node.items = items
    return node


def _items(node: Node) -> list[Node]:
    return node.items if node.kind == LIST else [node]


# -- changes ---------------------------------------------------------------------------------------

Change = Callable[[_Upgrade, Node, Path], None]


def _renamed(old: str, new: str, form: Callable[[Node], Node] = lambda value: value) -> Change:
    """A field with a new name, and its value in the form that is due now."""

    def change(upgrade: _Upgrade, node: Node, path: Path) -> None:
        found = _take(node, old)
        if found is None:
            return
        key, value = found
        upgrade.warn((path, old), key, f"the old field {old!r}", new)
        node.pairs.append((_text(new, key), form(value)))

    return change


def _dropped(name: str, only_empty: bool = False) -> Change:
    """A field that has no effect any more."""

    def change(upgrade: _Upgrade, node: Node, path: Path) -> None:
        value = node.get(name)
        if value is None or (only_empty and (value.kind not in (LIST, MAP) or value.items or value.pairs)):
            return
        found = _take(node, name)
        assert found is not None
        upgrade.warn((path, name), found[0], f"the old field {name!r}", "absent: it has no effect")

    return change


def _regex(value: Node) -> Node:
    return _mapping([("regex", value)], value)


def _wrapped_in(name: str) -> Callable[[Node], Node]:
    return lambda value: _mapping([(name, value)], value)


def _each(form: Callable[[Node], Node]) -> Callable[[Node], Node]:
    return lambda value: _list([form(item) for item in _items(value)], value)


def _origin(value: Node) -> Node:
    return (
        _mapping([("safe_regex", _regex(_text(".*", value)))], value)
        if value.text == "*"
        else _mapping([("exact", value)], value)
    )


def _percent(value: Node) -> Node:
    """``{default_value: 10, runtime_key: x}`` of whole percents as a fraction."""
    default = value.get("default_value") if value.kind == MAP else None
    if default is not None and default.kind != MAP:
        _take(value, "default_value")
        value.pairs.append((_text("default_value", default), _mapping([("numerator", default)], default)))
    return value


def _typed(type_name: str, name: str) -> Callable[[Node], Node]:
    """An inline message as an extension ``{name, typed_config}``."""

    def form(value: Node) -> Node:
        if value.kind == MAP:
            value.pairs.insert(0, (_text("@type", value), _text(_HOST + type_name, value)))
        return _mapping([("name", _text(name, value)), ("typed_config", value)], value)

    return form


def _hosts(upgrade: _Upgrade, node: Node, path: Path) -> None:
    found = _take(node, "hosts")
    if found is None:
        return
    key, hosts = found
    upgrade.warn((path, "hosts"), key, "the old field 'hosts'", "load_assignment")
    endpoints = [
        _mapping([("endpoint", _mapping([("address", host)], host))], host) for host in _items(hosts)
    ]
    name = node.get("name")
    node.pairs.append(
        (
            _text("load_assignment", key),
            _mapping(
                [
                    ("cluster_name", name if name is not None else _text("", key)),
                    (
                        "endpoints",
                        _list([_mapping([("lb_endpoints", _list(endpoints, hosts))], hosts)], hosts),
                    ),
                ],
                hosts,
            ),
        )
    )


def _original_dst_lb(upgrade: _Upgrade, node: Node, path: Path) -> None:
    policy = node.get("lb_policy")
    if policy is not None and policy.text.upper() == "ORIGINAL_DST_LB":
        upgrade.warn((path, "lb_policy"), policy, "the old value ORIGINAL_DST_LB", "CLUSTER_PROVIDED")
        policy.text = "CLUSTER_PROVIDED"


def _query_parameter(upgrade: _Upgrade, node: Node, path: Path) -> None:
    value, is_regex = _take(node, "value"), _take(node, "regex")
    if value is None:
        return
    regex = is_regex is not None and is_regex[1].text == "true"
    upgrade.warn((path, "value"), value[0], "the old field 'value'", "string_match")
    form = _mapping([("safe_regex", _regex(value[1]))] if regex else [("exact", value[1])], value[1])
    node.pairs.append((_text("string_match", value[0]), form))


def _idle_timeout(upgrade: _Upgrade, node: Node, path: Path) -> None:
    found = _take(node, "idle_timeout")
    if found is None:
        return
    key, value = found
    upgrade.warn(
        (path, "idle_timeout"),
        key,
        "the old field 'idle_timeout'",
        "common_http_protocol_options.idle_timeout",
    )
    options = node.get("common_http_protocol_options")
    if options is not None and options.kind == MAP:
        options.pairs.append((_text("idle_timeout", key), value))
    else:
        node.pairs.append(
            (_text("common_http_protocol_options", key), _mapping([("idle_timeout", value)], key))
        )


def _health_check_http2(upgrade: _Upgrade, node: Node, path: Path) -> None:
    found = _take(node, "use_http2")
    if found is None:
        return
    key, value = found
    upgrade.warn((path, "use_http2"), key, "the old field 'use_http2'", "codec_client_type")
    if value.kind == BOOL and value.text == "true":
        node.pairs.append((_text("codec_client_type", key), _text("HTTP2", value)))


def _access_log_path(upgrade: _Upgrade, node: Node, path: Path) -> None:
    if node.get("access_log") is None and node.get("access_log_path") is not None:
        form = _typed(_EXTENSIONS + "access_loggers.file.v3.FileAccessLog", "envoy.access_loggers.file")
        _renamed("access_log_path", "access_log", lambda value: form(_mapping([("path", value)], value)))(
            upgrade, node, path
        )


def _runtime(upgrade: _Upgrade, node: Node, path: Path) -> None:
    found = _take(node, "runtime")
    if found is None:
        return
    key, old = found
    upgrade.warn((path, "runtime"), key, "the old field 'runtime'", "layered_runtime")
    if old.kind != MAP:
        node.pairs.append((key, old))
        return
    layers: list[Node] = []

    def layer(name: str, kind: str, value: Node) -> None:
        layers.append(_mapping([("name", _text(name, value)), (kind, value)], value))

    base, root = old.get("base"), old.get("symlink_root")
    if base is not None:
        layer("base", "static_layer", base)
    if root is not None:
        for name, part in (("root", "subdirectory"), ("override", "override_subdirectory")):
            folder = old.get(part)
            if folder is not None:
                disk = [("symlink_root", root), ("subdirectory", folder)]
                if name == "override":
                    disk.append(("append_service_cluster", _text("true", folder, BOOL)))
                layer(name, "disk_layer", _mapping(disk, folder))
    layer("admin", "admin_layer", _mapping([], key))
    node.pairs.append((_text("layered_runtime", key), _mapping([("layers", _list(layers, key))], key)))


def _per_filter_config(upgrade: _Upgrade, node: Node, path: Path) -> None:
    found = _take(node, "per_filter_config")
    if found is None:
        return
    key, old = found
    upgrade.warn(
        (path, "per_filter_config"), key, "the old field 'per_filter_config'", "typed_per_filter_config"
    )
    if old.kind != MAP:
        node.pairs.append((key, old))
        return
    new = _mapping([], old)
    for name, value in old.pairs:
        known = _HTTP_FILTERS.get(name.text)
        if known is not None and value.kind == MAP:
            type_name = _PER_ROUTE.get(known[1], known[1])
            value.pairs.insert(0, (_text("@type", name), _text(_HOST + type_name, name)))
            name = _text(known[0], name)
        new.pairs.append((name, value))
    node.pairs.append((_text("typed_per_filter_config", key), new))


_HCM: Final = "filters.network.http_connection_manager.v3.HttpConnectionManager"
_ROUTE: Final = "envoy.config.route.v3."
_TLS: Final = _EXTENSIONS + "transport_sockets.tls.v3."

_CHANGES: Final[dict[str, tuple[Change, ...]]] = {
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
        _renamed("allow_origin_regex", "allow_origin_string_match", _each(lambda value: _mapping([("safe_regex", _regex(value))], value))),
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

_NAMES: Final[dict[str, dict[str, tuple[str, str]]]] = {
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
