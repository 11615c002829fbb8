"""A cluster as configured: from ``envoy.config.cluster.v3.Cluster`` to frozen settings.

Every field of the message is looked at: acted upon, or without effect here, or a problem that
names it.  :class:`~weft.proxy.upstream.cluster.Cluster` is what runs.
"""

from dataclasses import dataclass, field
from typing import Any, Final

from weft.api.problems import Where
from weft.api.values import seconds, wrapped
from weft.codec.http1 import Http1Options
from weft.proxy.upstream.bind import BindSettings, KeepaliveSettings, bind_settings, keepalive_settings
from weft.proxy.upstream.discovery import DEFAULT_DNS, ClusterType, DnsSettings, cluster_type
from weft.proxy.upstream.endpoints import EMPTY, Assignment, assignment, plain_ip, plain_metadata
from weft.proxy.upstream.http_options import DEFAULT as DEFAULT_HTTP
from weft.proxy.upstream.http_options import HttpSettings, http_settings
from weft.proxy.upstream.limits import DEFAULT, RetryBudget, Thresholds
from weft.proxy.upstream.policy import ROUND_ROBIN, PolicySettings, policy_settings


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterSettings:
    """Everything a worker needs to run a cluster."""

    name: str
    alt_stat_name: str = ""
    connect_timeout: float = 5.0
    """Seconds."""
    per_connection_buffer_limit: int = 1 << 20
    """Bytes an upstream connection may buffer before it pushes back; 0 for no limit."""
    type: ClusterType = ClusterType.STATIC
    dns: DnsSettings = DEFAULT_DNS
    policy: PolicySettings = ROUND_ROBIN
    assignment: Assignment = EMPTY
    thresholds: tuple[Thresholds, Thresholds] = (DEFAULT, DEFAULT)
    """By priority: default, high."""
    http: HttpSettings = DEFAULT_HTTP
    bind: BindSettings | None = None
    keepalive: KeepaliveSettings | None = None
    close_on_change: bool = False
    """Drain every connection whenever the set of hosts changes."""
    wait_for_warm: bool = True
    """Start-up waits for this cluster's first resolution."""
    metadata: dict[str, Any] = field(default_factory=dict)
    """Namespace -> plain value."""
    message_bytes: bytes = b""
    """The message itself, for dumps and for seeing what changed."""

    # What the HTTP side reads most, without a hop.

    @property
    def max_requests_per_connection(self) -> int:
        """0 for no limit."""
        return self.http.max_requests_per_connection

    @property
    def idle_timeout(self) -> float:
        """Seconds without a request after which a connection is closed; 0 for never."""
        return self.http.idle_timeout

    @property
    def max_connection_duration(self) -> float:
        """Seconds; 0 for no limit."""
        return self.http.max_connection_duration

    @property
    def max_headers_count(self) -> int:
        return self.http.max_headers_count

    @property
    def max_response_headers_kb(self) -> int:
        return self.http.max_response_headers_kb

    @property
    def http1_options(self) -> Http1Options:
        """For the codec; made anew at each call."""
        http = self.http
        return Http1Options(
            max_head=http.max_response_headers_kb * 1024,
            max_fields=http.max_headers_count,
            allow_chunked_length=http.allow_chunked_length,
            keep_trailers=http.enable_trailers,
        )

    @property
    def observability_name(self) -> str:
        """What stats and ``%UPSTREAM_CLUSTER%`` call it."""
        return self.alt_stat_name or self.name

    @property
    def stat_prefix(self) -> str:
        """``cluster.<name>.``; Envoy puts ``_`` for ``:``."""
        return f"cluster.{(self.alt_stat_name or self.name).replace(':', '_')}."


_NO_EFFECT: Final = frozenset(
    (
        "cleanup_interval",  # ORIGINAL_DST
        "close_connections_on_host_health_failure",  # needs health checks
        "ignore_health_on_host_removal",  # needs health checks
        "eds_cluster_config",  # EDS; Envoy refuses it elsewhere
        "lrs_report_endpoint_metrics",  # needs lrs_server
        "protocol_selection",  # HTTP/1 is the only downstream protocol there is
        "upstream_http_protocol_options",  # SNI and SAN: needs TLS
    )
)


_LARGEST_SUM: Final = 2**32 - 1


def _check_weights(assignment: Assignment, where: Where) -> None:
    """Tables of hashing balancers are made of shares; Envoy adds weights up in 32 bits for them."""
    by_priority: dict[int, int] = {}
    for group in assignment.localities:
        if sum(endpoint.weight for endpoint in group.endpoints) > _LARGEST_SUM:
            where.problem(f"The sum of weights of all upstream hosts in a locality exceeds {_LARGEST_SUM}")
        by_priority[group.priority] = by_priority.get(group.priority, 0) + group.weight
    if any(total > _LARGEST_SUM for total in by_priority.values()):
        where.problem(f"The sum of weights of all localities at the same priority exceeds {_LARGEST_SUM}")


def cluster_settings(message: Any, where: Where) -> ClusterSettings:
    """From ``envoy.config.cluster.v3.Cluster``."""
    found = cluster_type(message, where)
    type, dns = (ClusterType.STATIC, DEFAULT_DNS) if found is None else found
    endpoints = EMPTY
    if message.HasField("load_assignment"):
        endpoints = assignment(message.load_assignment, where.field("load_assignment"))
    if found is not None:
        _check_addresses(type, message.load_assignment, where.field("load_assignment"))
    if message.common_lb_config.consistent_hashing_lb_config.use_hostname_for_hashing:
        if found is not None and type is not ClusterType.STRICT_DNS:
            where.field("common_lb_config").field("consistent_hashing_lb_config").problem(
                f"Cannot use hostname for consistent hashing loadbalancing for cluster of type: {type.name}"
            )
    _unsupported(message, where)
    policy = policy_settings(message, where, provided=found is None)
    if policy.hashes:
        _check_weights(endpoints, where.field("load_assignment"))
    return ClusterSettings(
        name=message.name,
        alt_stat_name=message.alt_stat_name,
        connect_timeout=seconds(message.connect_timeout) if message.HasField("connect_timeout") else 5.0,
        per_connection_buffer_limit=wrapped(message, "per_connection_buffer_limit_bytes", 1 << 20),
        type=type,
        dns=dns,
        policy=policy,
        assignment=endpoints,
        thresholds=_thresholds(message.circuit_breakers, where.field("circuit_breakers")),
        http=http_settings(message, where),
        bind=bind_settings(message.upstream_bind_config, where.field("upstream_bind_config"))
        if message.HasField("upstream_bind_config")
        else None,
        keepalive=keepalive_settings(message.upstream_connection_options),
        close_on_change=message.common_lb_config.close_connections_on_host_set_change,
        wait_for_warm=wrapped(message, "wait_for_warm_on_init", True),
        metadata=plain_metadata(message.metadata),
        message_bytes=message.SerializeToString(deterministic=True),
    )


def _check_addresses(type: ClusterType, load_assignment: Any, where: Where) -> None:
    """Whether the endpoints are what the type of the cluster can use."""
    for i, group in enumerate(load_assignment.endpoints):
        for j, entry in enumerate(group.lb_endpoints):
            address = entry.endpoint.address
            place = (
                where.field("endpoints")
                .item(i)
                .field("lb_endpoints")
                .item(j)
                .field("endpoint")
                .field("address")
            )
            which = address.WhichOneof("address")
            if type.resolves:
                if which != "socket_address" or not address.socket_address.address:
                    place.warn(
                        f"a {type.value} cluster resolves names, and this has none: it never becomes a host"
                    )
                elif address.socket_address.WhichOneof("port_specifier") == "named_port":
                    place.field("socket_address").field("named_port").warn(
                        "ports are not resolved: it will be 0"
                    )
                if address.socket_address.resolver_name:
                    place.field("socket_address").field("resolver_name").problem(
                        f"{type.value} clusters must NOT have a custom resolver name set"
                    )
            elif which == "socket_address" or which is None:
                _check_static(address.socket_address, place.field("socket_address"))
    if type is ClusterType.LOGICAL_DNS:
        if [len(group.lb_endpoints) for group in load_assignment.endpoints] != [1]:
            where.problem("LOGICAL_DNS clusters must have a single host: one locality with one lb_endpoint")


def _check_static(address: Any, where: Where) -> None:
    if address.resolver_name not in ("", "envoy.ip"):
        where.field("resolver_name").problem(f"unknown address resolver: {address.resolver_name}")
    elif address.WhichOneof("port_specifier") == "named_port":
        where.field("named_port").problem("a port by name needs a resolver that knows it; give port_value")
    elif not plain_ip(address.address):
        where.field("address").problem(
            f"malformed IP address: {address.address}. Consider setting resolver_name or "
            "setting cluster type to 'STRICT_DNS' or 'LOGICAL_DNS'"
        )


def _thresholds(message: Any, where: Where) -> tuple[Thresholds, Thresholds]:
    out = [DEFAULT, DEFAULT]
    seen = set()
    for entry in message.thresholds:
        # As in Envoy, the first entry of a priority counts.
        if entry.priority in seen or entry.priority > 1:
            continue
        seen.add(entry.priority)
        budget = None
        if entry.HasField("retry_budget"):
            given = entry.retry_budget
            budget = RetryBudget(
                percent=given.budget_percent.value if given.HasField("budget_percent") else 20.0,
                minimum=wrapped(given, "min_retry_concurrency", 3),
            )
        out[entry.priority] = Thresholds(
            max_connections=wrapped(entry, "max_connections", DEFAULT.max_connections),
            max_pending=wrapped(entry, "max_pending_requests", DEFAULT.max_pending),
            max_requests=wrapped(entry, "max_requests", DEFAULT.max_requests),
            max_retries=wrapped(entry, "max_retries", DEFAULT.max_retries),
            max_connection_pools=wrapped(entry, "max_connection_pools", DEFAULT.max_connection_pools),
            max_host_connections=_per_host(message, entry.priority),
            retry_budget=budget,
            track_remaining=entry.track_remaining,
        )
    for i, entry in enumerate(message.per_host_thresholds):
        for name in (
            "max_pending_requests",
            "max_requests",
            "max_retries",
            "max_connection_pools",
            "retry_budget",
        ):
            if entry.HasField(name):
                where.field("per_host_thresholds").item(i).problem("Unsupported field in per_host_thresholds")
                break
        if entry.priority not in seen and entry.priority <= 1:
            seen.add(entry.priority)
            out[entry.priority] = Thresholds(max_host_connections=_per_host(message, entry.priority))
    return out[0], out[1]


def _per_host(message: Any, priority: int) -> int:
    for entry in message.per_host_thresholds:
        if entry.priority == priority:
            return wrapped(entry, "max_connections", DEFAULT.max_host_connections)
    return DEFAULT.max_host_connections


def _unsupported(message: Any, where: Where) -> None:
    """Everything that would change what happens and that nobody here does."""
    for name in ("health_checks", "filters"):
        if getattr(message, name):
            where.field(name).item(0).problem(f"not supported yet: {name}")
    for name in ("outlier_detection", "lrs_server", "transport_socket_matcher"):
        if message.HasField(name):
            where.field(name).problem(f"not supported yet: {name}")
    if message.connection_pool_per_downstream_connection:
        where.field("connection_pool_per_downstream_connection").problem(
            "not supported yet: connection_pool_per_downstream_connection"
        )
    _transport_sockets(message, where)
    _upstream_config(message, where)
    if message.track_timeout_budgets:
        where.field("track_timeout_budgets").warn("these stats are not counted yet")
    if message.HasField("track_cluster_stats"):
        where.field("track_cluster_stats").warn("these stats are not counted yet")
    preconnect = message.preconnect_policy
    for name in ("per_upstream_preconnect_ratio", "predictive_preconnect_ratio"):
        if wrapped(preconnect, name, 1.0) > 1.0:
            where.field("preconnect_policy").field(name).warn(
                "connections are not made ahead of requests yet"
            )
    if message.upstream_connection_options.set_local_interface_name_on_upstream_connections:
        where.field("upstream_connection_options").field(
            "set_local_interface_name_on_upstream_connections"
        ).warn("the name of the local interface is not looked up yet")


def _transport_sockets(message: Any, where: Where) -> None:
    """Only raw_buffer; anything else is a problem that ``resolve`` names."""
    from weft.proxy.extension_config import resolve

    if message.HasField("transport_socket"):
        resolve("transport_socket", message.transport_socket, where.field("transport_socket"))
    for i, match in enumerate(message.transport_socket_matches):
        if match.HasField("transport_socket"):
            place = where.field("transport_socket_matches").item(i).field("transport_socket")
            resolve("transport_socket", match.transport_socket, place)


_HTTP_UPSTREAMS: Final = (
    "envoy.extensions.upstreams.http.generic.v3.GenericConnectionPoolProto",
    "envoy.extensions.upstreams.http.http.v3.HttpConnectionPoolProto",
)
"""Both mean what happens anyway: HTTP over HTTP."""


def _upstream_config(message: Any, where: Where) -> None:
    from weft.api.unpack import type_name

    if not message.HasField("upstream_config"):
        return
    wanted = type_name(message.upstream_config.typed_config)
    if wanted not in _HTTP_UPSTREAMS:
        where.field("upstream_config").problem(
            f"not supported yet: upstream '{message.upstream_config.name}' (type {wanted or 'unknown'})"
        )
