"""A host: one address of a cluster, and the sets that hosts are kept in.

A :class:`Host` lives as long as its address stays in the cluster, whatever else changes around it:
its stats and its connection pools survive every re-resolution.  :class:`HostSet` is one priority,
sorted by state and locality once per change, so that a balancer only ever reads lists.
"""

from dataclasses import dataclass
from typing import Any, Final

from weft.proxy.address import Address
from weft.proxy.upstream.stats import HostStats

FAILED_ACTIVE: Final = 1 << 0
FAILED_OUTLIER: Final = 1 << 1
FAILED_ASSIGNED: Final = 1 << 2
DEGRADED_ACTIVE: Final = 1 << 3
DEGRADED_ASSIGNED: Final = 1 << 4
PENDING_REMOVAL: Final = 1 << 5
PENDING_ACTIVE: Final = 1 << 6
EXCLUDED: Final = 1 << 7
"""By an immediate health-check failure: counted neither as host nor as failed one."""
ACTIVE_TIMEOUT: Final = 1 << 8
DRAINING: Final = 1 << 9

UNHEALTHY: Final = FAILED_ACTIVE | FAILED_OUTLIER | FAILED_ASSIGNED
DEGRADED: Final = DEGRADED_ACTIVE | DEGRADED_ASSIGNED

ASSIGNED: Final = FAILED_ASSIGNED | DEGRADED_ASSIGNED | DRAINING
"""Bits that the configuration sets (``lb_endpoint.health_status``)."""

FLAG_NAMES: Final[tuple[tuple[int, str], ...]] = (
    (FAILED_ACTIVE, "failed_active_hc"),
    (FAILED_OUTLIER, "failed_outlier_check"),
    (FAILED_ASSIGNED, "failed_eds_health"),
    (DEGRADED_ACTIVE, "degraded_active_hc"),
    (DEGRADED_ASSIGNED, "degraded_eds_health"),
    (PENDING_REMOVAL, "pending_dynamic_removal"),
    (PENDING_ACTIVE, "pending_active_hc"),
    (EXCLUDED, "excluded_via_immediate_hc_fail"),
    (ACTIVE_TIMEOUT, "active_hc_timeout"),
    (DRAINING, "eds_status_draining"),
)
"""Bits of ``Host.health`` by the names that admin prints, in its order."""


@dataclass(frozen=True, slots=True)
class Locality:
    region: str = ""
    zone: str = ""
    sub_zone: str = ""


NO_LOCALITY: Final = Locality()
_NOTHING: Final[dict[str, Any]] = {}


class Host:
    """One address that requests can go to."""

    def __init__(self, address: Address, hostname: str, priority: int, locality: Locality) -> None:
        self.address = address
        self.hostname = hostname
        """As configured (``endpoint.hostname``, or the DNS name); empty for none."""
        self.weight: int = 1
        self.priority: int = priority
        self.locality = locality
        self.metadata: dict[str, Any] = _NOTHING
        """Namespace -> plain value; shared, never written."""
        self.health: int = 0
        """Bits above; 0 is healthy."""
        self.stats = HostStats()
        self.removed: bool = False
        """Set when the address left the cluster: what is under way may finish."""
        self.http1_pool: object | None = None
        """The HTTP/1 pools to this host, kept here by the HTTP side.  The directory calls its ``drain()``."""
        self.tcp_pool: object | None = None

    def assign(self, weight: int, metadata: dict[str, Any], health: int) -> None:
        """What the configuration says of it.  What health checks have found stays."""
        self.weight = weight
        self.metadata = metadata
        self.health = (self.health & ~ASSIGNED) | health

    @property
    def healthy(self) -> bool:
        return not self.health & (UNHEALTHY | DEGRADED)

    @property
    def degraded(self) -> bool:
        return not self.health & UNHEALTHY and self.health & DEGRADED != 0

    @property
    def canary(self) -> bool:
        lb = self.metadata.get("envoy.lb")
        return isinstance(lb, dict) and lb.get("canary") is True

    def flags(self) -> list[str]:
        """Names of what speaks against this host; empty for healthy."""
        return [name for bit, name in FLAG_NAMES if self.health & bit]

    def __repr__(self) -> str:
        return f"Host({self.address.text}, weight={self.weight}, {'/'.join(self.flags()) or 'healthy'})"


class HostSet:
    """The hosts of one priority.  Frozen by convention: a change makes a new one."""

    def __init__(self, hosts: list[Host], locality_weights: dict[Locality, int], factor: int) -> None:
        self.hosts = hosts
        self.healthy = [host for host in hosts if host.healthy]
        self.degraded = [host for host in hosts if host.degraded]
        self.excluded = sum(1 for host in hosts if host.health & EXCLUDED)
        self.locality_weights = locality_weights
        self.factor = factor
        """Overprovisioning, in percent: 140 bears 28 % of failed hosts before spilling over."""

    def by_locality(self, hosts: list[Host]) -> dict[Locality, list[Host]]:
        out: dict[Locality, list[Host]] = {}
        for host in hosts:
            out.setdefault(host.locality, []).append(host)
        return out
