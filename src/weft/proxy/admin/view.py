"""What the admin pages show, and what they can do: the seam between them and the running process.

:class:`AdminView` is implemented by whoever owns the workers (``proxy/process``).  Everything it
hands out is plain data, already added up over main and all workers; the pages under
``proxy/admin`` only render it.  :class:`ClusterStatus` crosses processes, hence ``plain`` and
``merge_clusters``.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from weft.proxy.context import Identity
from weft.proxy.observe.stats import Snapshot
from weft.proxy.observe.tags import StatsSettings

if TYPE_CHECKING:
    from weft.proxy.explain.tables import Sources

LIVE = "LIVE"
DRAINING = "DRAINING"
PRE_INITIALIZING = "PRE_INITIALIZING"
INITIALIZING = "INITIALIZING"

HEALTHY = "healthy"
"""``HostStatus.health`` of a host with nothing against it."""


@dataclass(slots=True, kw_only=True)
class HostStatus:
    """One host of a cluster, its counts added up over all workers."""

    address: str
    """As ``Address.text``."""
    hostname: str = ""
    flags: list[str] = field(default_factory=list)
    """What speaks against it, by Envoy's names: ``failed_active_hc``, ``failed_outlier_check``,
    ``failed_eds_health``, ``degraded_active_hc``, ``degraded_eds_health``, ``pending_dynamic_removal``,
    ``pending_active_hc``, ``excluded_via_immediate_hc_fail``, ``active_hc_timeout``, ``eds_status_draining``."""
    weight: int = 1
    region: str = ""
    zone: str = ""
    sub_zone: str = ""
    canary: bool = False
    priority: int = 0
    success_rate: float = -1.0
    """Percent, of outlier detection; -1 when there is none."""
    local_origin_success_rate: float = -1.0
    counters: dict[str, int] = field(default_factory=dict)
    """``cx_connect_fail cx_total rq_error rq_success rq_timeout rq_total``; a missing one is 0."""
    gauges: dict[str, int] = field(default_factory=dict)
    """``cx_active rq_active rq_pending_active``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitStatus:
    """Circuit-breaker limits of one priority, as configured."""

    max_connections: int = 1024
    max_pending_requests: int = 1024
    max_requests: int = 1024
    max_retries: int = 3
    retry_budget: bool = False
    """True when a retry budget decides; ``/clusters?format=json`` then leaves out max_retries."""


@dataclass(slots=True, kw_only=True)
class ClusterStatus:
    name: str
    observability_name: str = ""
    """``alt_stat_name``, else empty (the name)."""
    added_via_api: bool = False
    eds_service_name: str = ""
    default: LimitStatus = field(default_factory=LimitStatus)
    high: LimitStatus = field(default_factory=LimitStatus)
    outlier: bool = False
    """Outlier detection is configured: the success-rate lines are printed."""
    success_rate_average: float = -1.0
    success_rate_threshold: float = -1.0
    local_success_rate_average: float = -1.0
    local_success_rate_threshold: float = -1.0
    hosts: list[HostStatus] = field(default_factory=list)

    def plain(self) -> dict[str, Any]:
        """For the way from a worker to main (orjson, pickle); back by :func:`cluster_from_plain`."""
        return asdict(self)


def cluster_from_plain(plain: Mapping[str, Any]) -> ClusterStatus:
    values = dict(plain)
    values["default"] = LimitStatus(**values["default"])
    values["high"] = LimitStatus(**values["high"])
    values["hosts"] = [HostStatus(**host) for host in values["hosts"]]
    return ClusterStatus(**values)


def merge_clusters(parts: Iterable[Iterable[ClusterStatus]]) -> list[ClusterStatus]:
    """Clusters of several workers as one list: counts of the same host (by address) add up.

    Configuration and flags are the first worker's that knows the cluster or host.
    """
    merged: dict[str, ClusterStatus] = {}
    hosts: dict[tuple[str, int, str, str], HostStatus] = {}
    for clusters in parts:
        for cluster in clusters:
            target = merged.get(cluster.name)
            if target is None:
                merged[cluster.name] = cluster
                for host in cluster.hosts:
                    hosts[cluster.name, host.priority, host.address, host.hostname] = host
                continue
            for host in cluster.hosts:
                key = (cluster.name, host.priority, host.address, host.hostname)
                known = hosts.get(key)
                if known is None:
                    hosts[key] = host
                    target.hosts.append(host)
                    continue
                for counts, more in ((known.counters, host.counters), (known.gauges, host.gauges)):
                    for name, value in more.items():
                        counts[name] = counts.get(name, 0) + value
    return list(merged.values())


@dataclass(slots=True, kw_only=True)
class ListenerStatus:
    name: str
    addresses: list[str]
    """Bound addresses as text, the first being the main one, then the additional ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerInfo:
    version: str
    """As Envoy's: ``<revision>/<version>/<Clean|Modified>/<RELEASE|DEBUG>/<tls library>``."""
    state: str
    """``LIVE``, ``DRAINING``, ``PRE_INITIALIZING`` or ``INITIALIZING``."""
    uptime_current_epoch: float
    """Seconds since this process started."""
    uptime_all_epochs: float
    """Seconds since the first process of the hot-restart chain started."""
    hot_restart_version: str = "disabled"
    options: Mapping[str, object] = field(default_factory=dict)
    """``command_line_options`` by Envoy's names, in the order to print."""
    identity: Identity = field(default_factory=Identity)
    extensions: Mapping[str, list[tuple[str, str]]] = field(default_factory=dict)
    """Category -> (extension name, full name of its message)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """One resource of the configuration, for ``/config_dump``."""

    name: str
    message: Any
    """The protobuf message (Cluster, Listener, RouteConfiguration, ...)."""
    last_updated: float = 0.0
    """Wall-clock seconds when it came into effect."""
    static: bool = True
    version: str = ""
    """Version given by the control plane; empty for static ones."""
    state: str = "active"
    """``active``, ``warming`` or ``draining`` (listeners)."""
    error: str = ""
    """Why the newest version was refused; empty when it was not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """What runs, as messages."""

    bootstrap: Any
    bootstrap_updated: float = 0.0
    """Wall-clock seconds."""
    clusters: list[Resource] = field(default_factory=list)
    listeners: list[Resource] = field(default_factory=list)
    routes: list[Resource] = field(default_factory=list)
    """Route configurations, those inside a listener included (``static``)."""
    scoped_routes: list[Resource] = field(default_factory=list)
    endpoints: list[Resource] = field(default_factory=list)
    """ClusterLoadAssignments of dynamic endpoints; those of static ones are made from ``clusters()``."""
    secrets: list[Resource] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeEntry:
    final_value: str
    layer_values: list[str]
    """One for each layer of :class:`RuntimeStatus`, empty where the layer has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeStatus:
    layers: list[str]
    entries: dict[str, RuntimeEntry]
    modifiable: bool = False
    """There is an admin layer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryStatus:
    """Bytes, over main and all workers."""

    allocated: int
    heap_size: int
    pageheap_unmapped: int = 0
    pageheap_free: int = 0
    total_thread_cache: int = 0
    total_physical_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How an order ended, and the text for whoever gave it."""

    ok: bool
    text: str = ""


class AdminView(Protocol):
    """Everything the admin server asks of the process.  Methods that must hear from workers are async."""

    @property
    def stats_settings(self) -> StatsSettings:
        """``stats_config`` of the bootstrap (``weft.proxy.observe.tags.stats_settings``)."""
        ...

    def now(self) -> float:
        """Wall-clock seconds."""
        ...

    async def snapshot(self) -> Snapshot:
        """All stats, cumulative, main's and all workers' (dead workers' included)."""
        ...

    async def interval(self) -> Snapshot | None:
        """Histograms as they stood at the last two stats flushes: what was recorded between these.

        Made by ``weft.proxy.observe.intervals.Intervals``; None before the first flush.
        """
        ...

    async def clusters(self) -> list[ClusterStatus]: ...

    async def listeners(self) -> list[ListenerStatus]: ...

    async def configuration(self) -> Configuration: ...

    async def unready(self) -> list[tuple[str, list[str]]]:
        """``/init_dump``: (what, its targets that are not ready)."""
        ...

    def server_info(self) -> ServerInfo: ...

    async def memory(self) -> MemoryStatus: ...

    def runtime(self) -> RuntimeStatus: ...

    def route_sources(self) -> "Sources":
        """The route tables that run, and what else an explanation is made from."""
        ...

    async def modify_runtime(self, values: Mapping[str, str]) -> Outcome:
        """An empty value takes the override away."""
        ...

    def log_levels(self) -> dict[str, str]:
        """Component -> level (``trace debug info warning error critical off``)."""
        ...

    async def set_log_level(self, level: str, component: str = "") -> bool:
        """In main and all workers; every component when it is empty.  False: no such component or level."""
        ...

    async def reset_counters(self) -> None: ...

    async def healthcheck(self, *, fail: bool) -> None: ...

    async def drain_listeners(self, *, graceful: bool, inbound_only: bool, skip_exit: bool) -> Outcome: ...

    async def reopen_logs(self) -> None: ...

    async def reload(self, *, dry_run: bool) -> Outcome:
        """Read the configuration file again; with ``dry_run`` only tell what would change."""
        ...

    def quit(self) -> None:
        """Begin to end the process; the answer to the request is still written."""
        ...
