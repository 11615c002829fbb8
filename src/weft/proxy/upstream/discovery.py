"""How a cluster comes by its hosts: its type, and the settings of those types that resolve names.

``type: STRICT_DNS`` and ``cluster_type: {name: envoy.cluster.dns, ...}`` are two ways to say the
same; both end here.  :mod:`weft.proxy.upstream.dns` does the resolving.
"""

from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, Final

from weft.api.problems import Where
from weft.api.values import optional_seconds, seconds


class ClusterType(Enum):
    STATIC = "STATIC"
    STRICT_DNS = "STRICT_DNS"
    """Every address of every name is a host."""
    LOGICAL_DNS = "LOGICAL_DNS"
    """One name is one host, connected to by the first address it has just now."""

    @property
    def resolves(self) -> bool:
        return self is not ClusterType.STATIC


class Family(Enum):
    """Which addresses of a name are wanted."""

    AUTO = "AUTO"
    """IPv6, and IPv4 only where there is none."""
    V4_ONLY = "V4_ONLY"
    V6_ONLY = "V6_ONLY"
    V4_PREFERRED = "V4_PREFERRED"
    """IPv4, and IPv6 only where there is none."""
    ALL = "ALL"


@dataclass(frozen=True, slots=True, kw_only=True)
class DnsSettings:
    refresh: float = 5.0
    """Seconds between resolutions."""
    failure_base: float = 0.0
    """Seconds: window of the first retry after a failure, doubled each time; 0: as ``refresh``."""
    failure_max: float = 0.0
    """Seconds: where the doubling ends."""
    jitter: float = 0.0
    """Seconds: at most so much later, by chance."""
    respect_ttl: bool = False
    """Refresh when the answer's time to live is over, if the resolver tells it."""
    family: Family = Family.AUTO


DEFAULT_DNS: Final = DnsSettings()

_NAMED: Final = {
    "envoy.cluster.static": ClusterType.STATIC,
    "envoy.cluster.strict_dns": ClusterType.STRICT_DNS,
    "envoy.cluster.logical_dns": ClusterType.LOGICAL_DNS,
    "envoy.cluster.dns": ClusterType.STRICT_DNS,
}
_DNS_CLUSTER: Final = "envoy.extensions.clusters.dns.v3.DnsCluster"


def cluster_type(message: Any, where: Where) -> tuple[ClusterType, DnsSettings] | None:
    """From the ``Cluster`` message; None after a problem with the type itself."""
    if message.WhichOneof("cluster_discovery_type") == "cluster_type":
        return _custom(message, where.field("cluster_type"), where)
    name = message.DESCRIPTOR.enum_types_by_name["DiscoveryType"].values_by_number[message.type].name
    if name == "STATIC":
        found = ClusterType.STATIC
    elif name == "STRICT_DNS":
        found = ClusterType.STRICT_DNS
    elif name == "LOGICAL_DNS":
        found = ClusterType.LOGICAL_DNS
    else:
        where.field("type").problem(f"not supported yet: cluster type {name}")
        return None
    if message.HasField("eds_cluster_config"):
        where.field("eds_cluster_config").problem("cannot be set with a cluster type other than EDS")
    return found, _from_cluster(message, where) if found.resolves else DEFAULT_DNS


def _custom(message: Any, place: Where, where: Where) -> tuple[ClusterType, DnsSettings] | None:
    from weft.api.unpack import type_name, unpack

    custom = message.cluster_type
    wanted = type_name(custom.typed_config) if custom.HasField("typed_config") else ""
    if wanted == _DNS_CLUSTER:
        inner = unpack(custom.typed_config, place.field("typed_config"))
        if inner is None:
            return None
        single = inner.all_addresses_in_single_endpoint
        settings = _from_extension(inner, place.field("typed_config"))
        return ClusterType.LOGICAL_DNS if single else ClusterType.STRICT_DNS, settings
    found = _NAMED.get(custom.name)
    if found is None:
        told = f" (type {wanted})" if wanted else ""
        place.problem(f"not supported yet: cluster type '{custom.name}'{told}")
        return None
    return found, _from_cluster(message, where) if found.resolves else DEFAULT_DNS


def _from_cluster(message: Any, where: Where) -> DnsSettings:
    family = message.DESCRIPTOR.enum_types_by_name["DnsLookupFamily"].values_by_number[
        message.dns_lookup_family
    ]
    if message.use_tcp_for_dns_lookups:
        where.field("use_tcp_for_dns_lookups").warn("the system's resolver decides between UDP and TCP")
    if message.dns_resolvers:
        where.field("dns_resolvers").problem(
            "not supported yet: own DNS servers (the system's resolver is asked)"
        )
    if message.HasField("dns_resolution_config") and message.dns_resolution_config.resolvers:
        where.field("dns_resolution_config").problem(
            "not supported yet: own DNS servers (the system's resolver is asked)"
        )
    return _settings(message, Family[family.name], where)


def _from_extension(message: Any, where: Where) -> DnsSettings:
    field = message.DESCRIPTOR.fields_by_name["dns_lookup_family"]
    name = field.enum_type.values_by_number[message.dns_lookup_family].name
    return _settings(message, Family.AUTO if name == "UNSPECIFIED" else Family[name], where)


def _settings(message: Any, family: Family, where: Where) -> DnsSettings:
    settings = DnsSettings(
        family=family,
        refresh=seconds(message.dns_refresh_rate) if message.HasField("dns_refresh_rate") else 5.0,
        jitter=optional_seconds(message, "dns_jitter") or 0.0,
        respect_ttl=message.respect_dns_ttl,
    )
    if message.respect_dns_ttl:
        where.field("respect_dns_ttl").warn(
            "the system's resolver does not tell the time to live: dns_refresh_rate is used"
        )
    if settings.jitter < 0:
        where.field("dns_jitter").problem("expected a positive duration")
    if message.HasField("dns_failure_refresh_rate"):
        rate = message.dns_failure_refresh_rate
        base = seconds(rate.base_interval)
        longest = seconds(rate.max_interval) if rate.HasField("max_interval") else base * 10
        if longest < base:
            where.field("dns_failure_refresh_rate").problem(
                "dns_failure_refresh_rate must have max_interval greater than or equal to the base_interval"
            )
        settings = replace(settings, failure_base=base, failure_max=longest)
    _resolver(message, where)
    return settings if settings != DEFAULT_DNS else DEFAULT_DNS


_SYSTEM: Final = (
    "envoy.extensions.network.dns_resolver.getaddrinfo.v3.GetAddrInfoDnsResolverConfig",
    "envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig",
    "envoy.extensions.network.dns_resolver.apple.v3.AppleDnsResolverConfig",
)


def _resolver(message: Any, where: Where) -> None:
    """``typed_dns_resolver_config``: fine as long as the system's resolver can stand in for it."""
    from weft.api.unpack import type_name, unpack

    if not message.HasField("typed_dns_resolver_config"):
        return
    place = where.field("typed_dns_resolver_config")
    given = message.typed_dns_resolver_config
    wanted = type_name(given.typed_config)
    if wanted not in _SYSTEM:
        place.problem(f"not supported yet: DNS resolver '{given.name}' (type {wanted or 'unknown'})")
        return
    inner = unpack(given.typed_config, place.field("typed_config"))
    if inner is not None and "resolvers" in inner.DESCRIPTOR.fields_by_name and inner.resolvers:
        place.field("typed_config").field("resolvers").problem(
            "not supported yet: own DNS servers (the system's resolver is asked)"
        )
