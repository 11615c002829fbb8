"""The endpoints of a cluster as configured: localities, priorities, addresses or names.

From ``envoy.config.endpoint.v3.ClusterLoadAssignment``; the same settings come from a bootstrap
and, later, from EDS.  What becomes a :class:`~weft.proxy.upstream.host.Host` at once (an address)
and what has to be resolved first (a name) is the cluster type's business.
"""

import ipaddress
from dataclasses import dataclass
from typing import Any, Final

from weft.api.problems import Where
from weft.api.values import seconds, wrapped
from weft.proxy.address import Address
from weft.proxy.upstream import host as host_states
from weft.proxy.upstream.host import NO_LOCALITY, Locality

MAX_PRIORITY: Final = 128

_HEALTH: Final = {
    "UNKNOWN": 0,
    "HEALTHY": 0,
    "UNHEALTHY": host_states.FAILED_ASSIGNED,
    "DRAINING": host_states.FAILED_ASSIGNED | host_states.DRAINING,
    "TIMEOUT": host_states.FAILED_ASSIGNED,
    "DEGRADED": host_states.DEGRADED_ASSIGNED,
}
"""``lb_endpoint.health_status`` as bits of ``Host.health``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointSettings:
    """One ``lb_endpoint``."""

    name: str = ""
    """An IP address or a DNS name; empty for a Unix socket."""
    port: int = 0
    path: str = ""
    """Of a Unix socket."""
    hostname: str = ""
    weight: int = 1
    health: int = 0
    """Bits of ``Host.health``."""
    metadata: dict[str, Any]

    @property
    def address(self) -> Address:
        """Where it is, if ``name`` is an IP address."""
        if self.path:
            return Address(path=self.path)
        # IPv4 has one way of writing; IPv6 is brought to its shortest.
        return Address(plain_ip(self.name) if ":" in self.name else self.name, self.port)


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalitySettings:
    """Endpoints of one place and priority (``LocalityLbEndpoints``)."""

    locality: Locality = NO_LOCALITY
    priority: int = 0
    weight: int = 0
    """For locality-weighted balancing; 0 gives it no traffic."""
    endpoints: tuple[EndpointSettings, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """All endpoints of a cluster, and the policy that goes with them."""

    localities: tuple[LocalitySettings, ...] = ()
    overprovisioning: int = 140
    """Percent: a priority is taken as whole while 100 / 1.4 % of its hosts are healthy."""
    weighted_priority_health: bool = False
    """Count health by host weight, not by host."""
    drop_overload: float = 0.0
    """Share of requests to refuse at once, 0 to 1."""


EMPTY: Final = Assignment()


def plain_ip(text: str) -> str:
    """``text`` in its shortest form when it is an IP address, else empty."""
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return ""


def plain_metadata(message: Any) -> dict[str, Any]:
    """``envoy.config.core.v3.Metadata`` as namespace -> plain value."""
    if not message.filter_metadata:
        return _NO_METADATA
    from google.protobuf.json_format import MessageToDict

    return {name: MessageToDict(value) for name, value in message.filter_metadata.items()}


_NO_METADATA: Final[dict[str, Any]] = {}


def assignment(message: Any, where: Where) -> Assignment:
    """From ``ClusterLoadAssignment``; needs the cluster type to be judged wholly (names or addresses)."""
    localities = [
        _locality(group, where.field("endpoints").item(i)) for i, group in enumerate(message.endpoints)
    ]
    policy = message.policy
    dropped = 0.0
    for i, overload in enumerate(policy.drop_overloads):
        place = where.field("policy").field("drop_overloads").item(i)
        share = (
            overload.drop_percentage.numerator
            / (100, 10_000, 1_000_000)[overload.drop_percentage.denominator]
        )
        if share > 1.0:
            place.problem("a drop_percentage above 100 %")
        elif share > 0.0:
            place.problem("not supported yet: drop_overloads")
        dropped = max(dropped, share)
    if message.named_endpoints:
        where.field("named_endpoints").problem("not supported yet: named_endpoints")
    if policy.HasField("endpoint_stale_after") and seconds(policy.endpoint_stale_after) <= 0:
        where.field("policy").field("endpoint_stale_after").problem("must be greater than 0 s")
    return Assignment(
        localities=tuple(localities),
        overprovisioning=wrapped(policy, "overprovisioning_factor", 140),
        weighted_priority_health=policy.weighted_priority_health,
        drop_overload=dropped,
    )


def _locality(message: Any, where: Where) -> LocalitySettings:
    endpoints = [
        _endpoint(endpoint, where.field("lb_endpoints").item(i))
        for i, endpoint in enumerate(message.lb_endpoints)
    ]
    if message.HasField("leds_cluster_locality_config"):
        where.field("leds_cluster_locality_config").problem("not supported yet: LEDS")
    if message.HasField("load_balancer_endpoints"):
        where.field("load_balancer_endpoints").problem("not supported yet: load_balancer_endpoints")
    if message.priority > MAX_PRIORITY:
        where.field("priority").problem(f"{message.priority} is more than {MAX_PRIORITY}")
    place = message.locality
    locality = Locality(place.region, place.zone, place.sub_zone)
    return LocalitySettings(
        locality=locality if locality != NO_LOCALITY else NO_LOCALITY,
        priority=message.priority,
        weight=wrapped(message, "load_balancing_weight", 0),
        endpoints=tuple(endpoints),
    )


def _endpoint(message: Any, where: Where) -> EndpointSettings:
    endpoint = message.endpoint
    place = where.field("endpoint").field("address")
    name, port, path = "", 0, ""
    address = endpoint.address
    kind = address.WhichOneof("address")
    if message.WhichOneof("host_identifier") == "endpoint_name":
        where.field("endpoint_name").problem("not supported yet: endpoint_name")
    elif kind == "pipe":
        path = address.pipe.path
    elif kind == "socket_address":
        socket = address.socket_address
        name, port = socket.address, socket.port_value
        if socket.network_namespace_filepath:
            place.field("socket_address").field("network_namespace_filepath").problem(
                "hosts cannot specify network namespaces with their address"
            )
    elif kind == "envoy_internal_address":
        place.field("envoy_internal_address").problem("not supported yet: internal listeners as upstreams")
    if endpoint.additional_addresses:
        where.field("endpoint").field("additional_addresses").problem(
            "not supported yet: additional_addresses"
        )
    health = message.DESCRIPTOR.fields_by_name["health_status"].enum_type.values_by_number
    return EndpointSettings(
        name=name,
        port=port,
        path=path,
        hostname=endpoint.hostname,
        weight=wrapped(message, "load_balancing_weight", 1),
        health=_HEALTH.get(health[message.health_status].name, 0),
        metadata=plain_metadata(message.metadata),
    )
