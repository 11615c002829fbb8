"""From a bootstrap to the settings of a whole proxy.

Each part turns its own messages into settings (``listener_settings``, ``cluster_settings``, ...);
here they come together, and what only the whole can show is checked: names given twice, addresses
claimed twice, routes to clusters that are not there.  Everything that is wrong is gathered; whoever
called raises it, once.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from weft.api.problems import Where
from weft.api.schema import parse
from weft.api.unpack import type_name, unpack
from weft.api.values import seconds
from weft.proxy.address import Address
from weft.proxy.context import Identity
from weft.proxy.listener.settings import ListenerSettings, check_addresses, listener_settings
from weft.proxy.observe.access_log import AccessLogSettings, access_logs
from weft.proxy.observe.logging import json_log_format
from weft.proxy.observe.tags import Matches, StatsSettings, TagSpec, stats_settings, string_matcher
from weft.proxy.process.options import Options
from weft.proxy.process.runtime_layers import RuntimeLayer, merged, runtime_layers
from weft.proxy.process.watchdog import WATCHDOG, WatchdogSettings, watchdog_settings
from weft.proxy.regex import DEFAULT_PROGRAM_SIZE, REGEX_LIMITS
from weft.proxy.route.route_matcher import routes_of
from weft.proxy.runtime import Runtime
from weft.proxy.upstream.settings import ClusterSettings, cluster_settings

if TYPE_CHECKING:
    from weft.proxy.route.table import RouteTable


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminSettings:
    """``admin`` of a bootstrap."""

    address: Address
    mode: int = 0
    """Of a Unix socket's file; 0 for the process's."""
    access_logs: tuple[AccessLogSettings, ...] = ()
    allow_paths: tuple[Matches, ...] = ()
    """Paths that are answered; none for all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """Everything a proxy runs by."""

    identity: Identity = field(default_factory=Identity)
    admin: AdminSettings | None = None
    """None: no admin server."""
    listeners: tuple[ListenerSettings, ...] = ()
    clusters: tuple[ClusterSettings, ...] = ()
    runtime: tuple[RuntimeLayer, ...] = ()
    """Later ones win."""
    stats: StatsSettings = field(default_factory=StatsSettings)
    stats_flush_interval: float = 5.0
    """Seconds; 0 when stats are only flushed on demand."""
    stats_server_version: int | None = None
    """``server.version`` instead of one made from our version."""
    main_watchdog: WatchdogSettings = WATCHDOG
    worker_watchdog: WatchdogSettings = WATCHDOG
    log_format: str = ""
    """The line pattern of ``application_log_config``; empty for none."""
    bootstrap: bytes = b""
    """The message, serialized deterministically."""


_NOT_YET: Final[dict[str, str]] = {
    "hds_config": "health discovery (HDS)",
    "tracing": "tracing",
    "default_config_source": "configuration by xDS",
    "xds_delegate_extension": "the xDS delegate",
    "xds_config_tracker_extension": "the xDS config tracker",
}
"""Bootstrap fields that would change what happens and are not there yet."""


def limit_patterns(runtime: Runtime) -> None:
    """To be called before anything with a pattern is read."""
    limit = runtime.integer("re2.max_program_size.error_level", DEFAULT_PROGRAM_SIZE)
    REGEX_LIMITS.max_program_size = limit


def first_runtime(bootstrap: Any) -> Runtime:
    """The runtime that a proxy would start with, as far as it can be read."""
    where = Where.nowhere()
    return Runtime(merged(_runtime(bootstrap, where, identity_of(bootstrap.node)), {}))


def server_settings(bootstrap: Any, where: Where, options: Options | None = None) -> ServerSettings:
    """The settings of a proxy; problems go to ``where``."""
    options = options or Options()
    identity = options.identity(identity_of(bootstrap.node))
    static = where.field("static_resources")
    runtime = _runtime(bootstrap, where, identity)
    limit_patterns(Runtime(merged(runtime, {})))
    clusters = _clusters(bootstrap, static.field("clusters"))
    listeners = _listeners(bootstrap, static.field("listeners"))
    names = {cluster.name for cluster in bootstrap.static_resources.clusters}
    unknown = any(not table.clusters() <= names for listener in listeners for table in _tables(listener))
    if unknown or where.problems.errors:
        # Which, and where, only the messages know; and they may be more than what became of them.
        for i, listener in enumerate(bootstrap.static_resources.listeners):
            for config, here in route_configs(listener, static.field("listeners").item(i)):
                if not config.HasField("validate_clusters") or config.validate_clusters.value:
                    check_clusters(config, here, names)
    main_watchdog, worker_watchdog = _watchdogs(bootstrap, where)
    interval = 5.0
    if bootstrap.HasField("stats_flush_interval"):
        if bootstrap.WhichOneof("stats_flush") == "stats_flush_on_admin":
            where.problem("Only one of stats_flush_interval or stats_flush_on_admin should be set!")
        interval = seconds(bootstrap.stats_flush_interval)
    elif bootstrap.WhichOneof("stats_flush") == "stats_flush_on_admin":
        interval = 0.0
    _check_the_rest(bootstrap, where, names)
    version = bootstrap.stats_server_version_override
    return ServerSettings(
        identity=identity,
        admin=_admin(bootstrap, where),
        listeners=listeners,
        clusters=clusters,
        runtime=runtime,
        stats=_stats(bootstrap, where, options),
        stats_flush_interval=interval,
        stats_server_version=version.value if bootstrap.HasField("stats_server_version_override") else None,
        main_watchdog=main_watchdog,
        worker_watchdog=worker_watchdog,
        log_format=_log_format(bootstrap, where),
        bootstrap=bootstrap.SerializeToString(deterministic=True),
    )


def identity_of(node: Any) -> Identity:
    """From ``node`` of a bootstrap."""
    return Identity(
        node_id=node.id,
        cluster=node.cluster,
        zone=node.locality.zone,
        region=node.locality.region,
        sub_zone=node.locality.sub_zone,
        metadata={key: _plain(value) for key, value in node.metadata.fields.items()},
    )


def _plain(value: Any) -> object:
    """A ``google.protobuf.Value`` as JSON has it."""
    kind = value.WhichOneof("kind")
    if kind == "struct_value":
        return {key: _plain(inner) for key, inner in value.struct_value.fields.items()}
    if kind == "list_value":
        return [_plain(inner) for inner in value.list_value.values]
    return None if kind in (None, "null_value") else getattr(value, kind)


# -- listeners and clusters ------------------------------------------------------------------------


def _clusters(bootstrap: Any, where: Where) -> tuple[ClusterSettings, ...]:
    """Every cluster, with the bind address of the cluster manager where it has none of its own."""
    out: list[ClusterSettings] = []
    seen: set[str] = set()
    common = bootstrap.cluster_manager
    for i, message in enumerate(bootstrap.static_resources.clusters):
        here = where.item(i)
        if message.name in seen:
            here.field("name").problem(f"duplicate cluster '{message.name}'")
            continue
        seen.add(message.name)
        if common.HasField("upstream_bind_config") and not message.HasField("upstream_bind_config"):
            copy = type(message)()
            copy.CopyFrom(message)
            copy.upstream_bind_config.CopyFrom(common.upstream_bind_config)
            message = copy
        out.append(cluster_settings(message, here))
    return tuple(out)


def _listeners(bootstrap: Any, where: Where) -> tuple[ListenerSettings, ...]:
    out: list[ListenerSettings] = []
    places: list[Where] = []
    names: set[str] = set()
    for i, message in enumerate(bootstrap.static_resources.listeners):
        here = where.item(i)
        if message.name and message.name in names:
            here.field("name").warn(f"a listener named '{message.name}' stands above: this one has no effect")
            continue
        names.add(message.name)
        if "envoy.stats_matcher" in message.metadata.typed_filter_metadata:
            here.field("metadata").problem("not supported yet: a stats matcher of one listener (envoy.stats_matcher)")
        settings = listener_settings(message, here)
        if settings is not None:
            out.append(settings)
            places.append(here)
    check_addresses(out, places)
    return tuple(out)


_HCM: Final = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"


def _tables(listener: ListenerSettings) -> "Iterator[RouteTable]":
    """The compiled route tables of a listener."""
    default = listener.default_filter_chain
    for chain in (*listener.filter_chains, *(() if default is None else (default,))):
        for network_filter in chain.filters:
            table = getattr(network_filter.settings, "route_table", None)  # of connection managers alone
            if table is not None:
                yield table


def route_configs(listener: Any, where: Where) -> Iterator[tuple[Any, Where]]:
    """The route tables written inside a listener."""
    chains = [(chain, where.field("filter_chains").item(i)) for i, chain in enumerate(listener.filter_chains)]
    if listener.HasField("default_filter_chain"):
        chains.append((listener.default_filter_chain, where.field("default_filter_chain")))
    for chain, at in chains:
        for i, network_filter in enumerate(chain.filters):
            if type_name(network_filter.typed_config) != _HCM:
                continue
            message = unpack(network_filter.typed_config, Where.nowhere())
            if message is not None and message.HasField("route_config"):
                place = at.field("filters").item(i).field("typed_config").field("route_config")
                yield message.route_config, place


def check_clusters(config: Any, where: Where, clusters: set[str]) -> None:
    """A problem for every cluster that a route of a RouteConfiguration names and that is not there."""
    of_table = False
    for i, host in enumerate(config.virtual_hosts):
        place = where.field("virtual_hosts").item(i)
        inherits = host.HasField("matcher")
        for j, route in enumerate(host.routes):
            if route.WhichOneof("action") != "route":
                continue
            action = route.route
            inherits = inherits or not action.request_mirror_policies
            for at, text in _missing(action, place.field("routes").item(j).field("route"), clusters):
                at.problem(text)
        if host.HasField("matcher"):
            # Envoy lets these through, and answers 503.
            for route, here in routes_of(host.matcher, place.field("matcher")):
                if route.WhichOneof("action") == "route":
                    for at, text in _missing(route.route, here.field("route"), clusters):
                        at.warn(text)
        if inherits:
            for at, text in _missing_mirrors(host.request_mirror_policies, place, clusters):
                at.problem(text)
            of_table = of_table or not host.request_mirror_policies
    if of_table:
        for at, text in _missing_mirrors(config.request_mirror_policies, where, clusters):
            at.problem(text)


def _missing(action: Any, at: Where, clusters: set[str]) -> Iterator[tuple[Where, str]]:
    if action.WhichOneof("cluster_specifier") == "cluster" and action.cluster not in clusters:
        yield at.field("cluster"), _unknown("unknown cluster", action.cluster, clusters)
    for k, weighted in enumerate(action.weighted_clusters.clusters):
        if weighted.name and weighted.name not in clusters:
            here = at.field("weighted_clusters").field("clusters").item(k).field("name")
            yield here, _unknown("unknown weighted cluster", weighted.name, clusters)
    yield from _missing_mirrors(action.request_mirror_policies, at, clusters)


def _missing_mirrors(policies: Any, where: Where, clusters: set[str]) -> Iterator[tuple[Where, str]]:
    for i, mirror in enumerate(policies):
        if mirror.cluster and mirror.cluster not in clusters:
            here = where.field("request_mirror_policies").item(i).field("cluster")
            yield here, _unknown("unknown shadow cluster", mirror.cluster, clusters)


def _unknown(what: str, name: str, known: set[str]) -> str:
    from difflib import get_close_matches

    near = get_close_matches(name, known, n=1)
    return f"{what} '{name}'" + (f"; did you mean '{near[0]}'?" if near else "")


# -- the rest of the bootstrap ---------------------------------------------------------------------


def _admin(bootstrap: Any, where: Where) -> AdminSettings | None:
    """None when there is no address, as in Envoy."""
    admin = bootstrap.admin
    if not admin.HasField("address"):
        return None
    here = where.field("admin")
    at = here.field("address")
    kind = admin.address.WhichOneof("address")
    if kind == "pipe":
        address = Address(path=admin.address.pipe.path)
    elif kind == "socket_address":
        socket = admin.address.socket_address
        address = Address(_ip(socket.address, at.field("socket_address").field("address")), socket.port_value)
        if socket.WhichOneof("port_specifier") == "named_port":
            at.field("socket_address").field("named_port").problem("not supported: give a port_value")
    else:
        at.problem(f"not supported yet: the admin server at a {kind}")
        address = Address("127.0.0.1", 0)
    logs = access_logs(admin.access_log, here.field("access_log"))
    if admin.access_log_path:
        here.field("access_log_path").problem("not supported: give an access_log with a file logger")
    allowed = tuple(
        string_matcher(matcher, here.field("allow_paths").item(i)) for i, matcher in enumerate(admin.allow_paths)
    )
    return AdminSettings(address=address, mode=admin.address.pipe.mode, access_logs=logs, allow_paths=allowed)


def _ip(text: str, where: Where) -> str:
    import ipaddress

    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        where.problem(f"malformed IP address: {text}")
        return "127.0.0.1"


def _stats(bootstrap: Any, where: Where, options: Options) -> StatsSettings:
    """``stats_config``, and the tags of the command line."""
    settings = stats_settings(bootstrap.stats_config, where.field("stats_config"))
    given = tuple(TagSpec(name=name, fixed=value) for name, value in options.stats_tags)
    return replace(settings, tags=settings.tags + given) if given else settings


def _runtime(bootstrap: Any, where: Where, identity: Identity) -> tuple[RuntimeLayer, ...]:
    if not bootstrap.HasField("layered_runtime"):
        return ()
    return runtime_layers(bootstrap.layered_runtime, where.field("layered_runtime"), identity)


def _watchdogs(bootstrap: Any, where: Where) -> tuple[WatchdogSettings, WatchdogSettings]:
    """(main's, the workers')."""
    if bootstrap.HasField("watchdog"):
        if bootstrap.HasField("watchdogs"):
            where.problem("Only one of watchdog or watchdogs should be set!")
        both = watchdog_settings(bootstrap.watchdog, where.field("watchdog"))
        return both, both
    two = bootstrap.watchdogs
    here = where.field("watchdogs")
    return (
        watchdog_settings(two.main_thread_watchdog, here.field("main_thread_watchdog")),
        watchdog_settings(two.worker_watchdog, here.field("worker_watchdog")),
    )


def _log_format(bootstrap: Any, where: Where) -> str:
    """The pattern of our own log, from ``application_log_config``."""
    log_format = bootstrap.application_log_config.log_format
    kind = log_format.WhichOneof("log_format")
    here = where.field("application_log_config").field("log_format")
    if kind == "text_format":
        pattern: str = log_format.text_format
        return pattern
    if kind == "json_format":
        try:
            return json_log_format({key: _plain(value) for key, value in log_format.json_format.fields.items()})
        except ValueError as error:
            here.field("json_format").problem(str(error))
    return ""


def _check_the_rest(bootstrap: Any, where: Where, clusters: set[str]) -> None:
    """Fields that ask for something which does not exist here are problems, not wishes unheard."""
    for name, what in _NOT_YET.items():
        if bootstrap.HasField(name):
            where.field(name).problem(f"not supported yet: {what}")
    dynamic = bootstrap.dynamic_resources
    for name in ("lds_config", "cds_config", "ads_config"):
        if dynamic.HasField(name):
            where.field("dynamic_resources").field(name).problem("not supported yet: configuration by xDS")
    for name in ("lds_resources_locator", "cds_resources_locator"):
        if getattr(dynamic, name):
            where.field("dynamic_resources").field(name).problem("not supported yet: configuration by xDS")
    for i, _ in enumerate(bootstrap.config_sources):
        where.field("config_sources").item(i).problem("not supported yet: configuration by xDS")
    shared = bootstrap.cluster_manager
    here = where.field("cluster_manager")
    if shared.local_cluster_name:
        at = here.field("local_cluster_name")
        if shared.local_cluster_name not in clusters:
            at.problem(f"local cluster '{shared.local_cluster_name}' must be defined")
        else:
            at.warn("not supported yet: zone-aware routing; every zone is treated alike")
    if shared.HasField("load_stats_config"):
        here.field("load_stats_config").problem("not supported yet: load reports (LRS)")
    if bootstrap.header_prefix not in ("", "x-envoy"):
        where.field("header_prefix").problem("not supported yet: a prefix other than x-envoy")
    for name, category in (("stats_sinks", "stats_sink"), ("bootstrap_extensions", "bootstrap")):
        for i, extension in enumerate(getattr(bootstrap, name)):
            _resolve(category, extension, where.field(name).item(i))
    for i, action in enumerate(bootstrap.fatal_actions):
        _resolve("fatal_action", action.config, where.field("fatal_actions").item(i).field("config"))
    overload = bootstrap.overload_manager
    for i, monitor in enumerate(overload.resource_monitors):
        _resolve(
            "resource_monitor", monitor, where.field("overload_manager").field("resource_monitors").item(i)
        )
    for name in ("actions", "loadshed_points"):
        for i, _ in enumerate(getattr(overload, name)):
            where.field("overload_manager").field(name).item(i).problem(
                "not supported yet: the overload manager"
            )
    _only(bootstrap, "default_regex_engine", where, ("envoy.extensions.regex_engines.v3.GoogleRE2",))
    _only(bootstrap, "listener_manager", where, ("envoy.config.listener.v3.ListenerManager",))
    _only(bootstrap, "typed_dns_resolver_config", where, _RESOLVERS, _check_resolver)
    if bootstrap.dns_resolution_config.resolvers:
        where.field("dns_resolution_config").field("resolvers").problem(
            "not supported yet: name servers other than the system's"
        )


_RESOLVERS: Final = (
    "envoy.extensions.network.dns_resolver.getaddrinfo.v3.GetAddrInfoDnsResolverConfig",
    "envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig",
)


def _only(bootstrap: Any, name: str, where: Where, types: tuple[str, ...], check: Callable[[Any, Where], None] | None = None) -> None:  # fmt: skip
    """An extension point of which only the given types are what happens here anyway."""
    if not bootstrap.HasField(name):
        return
    extension = getattr(bootstrap, name)
    here = where.field(name)
    if type_name(extension.typed_config) not in types:
        _resolve(name, extension, here)
    elif check is not None:
        message = unpack(extension.typed_config, here.field("typed_config"))
        if message is not None:
            check(message, here.field("typed_config"))


def _check_resolver(message: Any, where: Where) -> None:
    if "resolvers" in message.DESCRIPTOR.fields_by_name and message.resolvers:
        where.field("resolvers").problem("not supported yet: name servers other than the system's")


def _resolve(category: str, extension: Any, where: Where) -> None:
    from weft.proxy.extension_config import resolve

    resolve(category, extension, where)


def rest_of(bootstrap: bytes) -> bytes:
    """A bootstrap without listeners, clusters and runtime: a change of it needs a restart."""
    message = parse("envoy.config.bootstrap.v3.Bootstrap", bootstrap)
    del message.static_resources.listeners[:]
    del message.static_resources.clusters[:]
    message.ClearField("layered_runtime")
    data: bytes = message.SerializeToString(deterministic=True)
    return data
