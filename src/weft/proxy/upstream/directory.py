"""The clusters of a worker, by name.

What is configured is kept as settings; a :class:`~weft.proxy.upstream.cluster.Cluster` is built
when somebody first asks for it, so a sidecar that knows 5 000 services and calls five runs five.
Only clusters that have to resolve names start at once.

Stats: every cluster shows all its names from the beginning.  Those that do not run yet are shown
through one borrowed group, filled in as it is read.  What belongs to the cluster and not to one
worker's use of it (membership, limits, DNS updates) is shown by the first worker only, because the
values of all workers are added up.
"""

import asyncio
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar

from weft.proxy.context import WorkerContext
from weft.proxy.observe.stats import StatGroup, rows
from weft.proxy.upstream.cluster import Cluster
from weft.proxy.upstream.dns import Resolver, SystemResolver
from weft.proxy.upstream.host import DEGRADED, UNHEALTHY, Host
from weft.proxy.upstream.limits import PRIORITIES, Limits, LimitStats, RemainingStats, SharedRows, Thresholds
from weft.proxy.upstream.policy import PolicySettings
from weft.proxy.upstream.settings import ClusterSettings
from weft.proxy.upstream.stats import ClusterStats


class DirectoryStats(StatGroup):
    """``cluster_manager.*``"""

    STATS: ClassVar[tuple[tuple[str, str, int], ...]] = rows(
        "cluster_added",
        "cluster_modified",
        "cluster_removed",
        "cluster_updated",
        "cluster_updated_via_merge",
        "update_merge_cancelled",
        "update_out_of_merge_window",
        gauges=("active_clusters", "warming_clusters"),
    )

    def __init__(self) -> None:
        self.cluster_added: int = 0
        self.cluster_modified: int = 0
        self.cluster_removed: int = 0
        self.cluster_updated: int = 0
        self.cluster_updated_via_merge: int = 0
        self.update_merge_cancelled: int = 0
        self.update_out_of_merge_window: int = 0
        self.active_clusters: int = 0
        self.warming_clusters: int = 0


class InflatedStats(StatGroup):
    """``thread_local_cluster_manager.worker_<n>.``"""

    STATS: ClassVar[tuple[tuple[str, str, int], ...]] = rows(gauges=("clusters_inflated",))

    def __init__(self, running: dict[str, Cluster]) -> None:
        self._running = running

    @property
    def clusters_inflated(self) -> int:
        return len(self._running)


class Clusters:
    """``get`` a cluster; ``apply`` and ``remove`` are for whoever brings configuration.

    The worker's context needs its clusters and clusters need the context: :meth:`start` gives it.
    """

    def __init__(
        self,
        settings: Iterable[ClusterSettings] = (),
        rows: SharedRows | None = None,
        resolver: Resolver | None = None,
    ) -> None:
        self.stats = DirectoryStats()
        self._settings: dict[str, ClusterSettings] = {}
        self._slots: dict[str, int] = {}
        self._running: dict[str, Cluster] = {}
        self._rows = rows
        self._resolver = resolver
        self._context: WorkerContext | None = None
        self._ready: asyncio.Future[None] | None = None
        self._groups: dict[str, list[tuple[str, StatGroup]]] = {}
        """What is registered in the store, by cluster."""
        for entry in settings:
            self._settings[entry.name] = entry
            if rows is not None:
                self._slots[entry.name] = rows.slot(entry.name)
        self.stats.cluster_added = len(self._settings)
        self.stats.active_clusters = len(self._settings)

    def start(self, context: WorkerContext) -> None:
        """Begin: register stats, start resolving."""
        self._context = context
        if self._resolver is None:
            self._resolver = SystemResolver(context.loop)
        if context.index == 0:
            context.stats.register("cluster_manager.", self.stats)
        context.stats.register(
            f"thread_local_cluster_manager.worker_{context.index}.", InflatedStats(self._running)
        )
        context.stats.add_source(self.idle_groups)
        for name, settings in self._settings.items():
            if settings.type.resolves:
                self._run(name, settings)

    async def ready(self) -> None:
        """Until every cluster that start-up waits for has been resolved once, well or not."""
        assert self._context is not None, "start() first"
        while self._cold():
            self._ready = self._context.loop.create_future()
            await self._ready

    def warming(self) -> list[str]:
        """Names of clusters that are not resolved yet."""
        return [name for name, cluster in self._running.items() if not cluster.warm]

    # -- for the data path --------------------------------------------------------------------

    def get(self, name: str) -> Cluster | None:
        cluster = self._running.get(name)
        if cluster is not None:
            return cluster
        settings = self._settings.get(name)
        return None if settings is None else self._run(name, settings)

    def names(self) -> list[str]:
        return list(self._settings)

    def __contains__(self, name: object) -> bool:
        return name in self._settings

    def settings(self, name: str) -> ClusterSettings | None:
        return self._settings.get(name)

    # -- for configuration --------------------------------------------------------------------

    def apply(self, settings: ClusterSettings, slot: int = -1) -> bool:
        """Add or change a cluster; false when nothing has changed.  ``slot``: as main gave it."""
        name = settings.name
        old = self._settings.get(name)
        if old is not None and old.message_bytes == settings.message_bytes and old == settings:
            return False
        self._settings[name] = settings
        if slot >= 0:
            self._slots[name] = slot
        self.stats.active_clusters = len(self._settings)
        running = self._running.get(name)
        if old is None:
            self.stats.cluster_added += 1
        else:
            self.stats.cluster_modified += 1
        if running is not None:
            before = _registered_by(running.settings)
            running.update(settings)
            if _registered_by(settings) != before:
                self._forget(running)
                self._register(running)
        elif settings.type.resolves and self._context is not None:
            self._run(name, settings)
        self._count_warming()
        return True

    def remove(self, name: str) -> bool:
        """Forget a cluster; what is under way in it finishes.  False when there is none."""
        if self._settings.pop(name, None) is None:
            return False
        self._slots.pop(name, None)
        self.stats.cluster_removed += 1
        self.stats.active_clusters = len(self._settings)
        running = self._running.pop(name, None)
        if running is not None:
            running.close()
            self._forget(running)
        self._warmed()
        return True

    def close(self) -> None:
        for cluster in self._running.values():
            cluster.close()

    def _run(self, name: str, settings: ClusterSettings) -> Cluster:
        assert self._context is not None, "start() first"
        assert self._resolver is not None
        cluster = Cluster(settings, self._context, self._resolver, self._rows, self._slots.get(name, -1))
        self._running[name] = cluster
        self._register(cluster)
        cluster.on_hosts = self._hosts_changed
        if not cluster.warm:
            cluster.on_warm = self._warmed
            self._count_warming()
        return cluster

    def _register(self, cluster: Cluster) -> None:
        context = self._context
        assert context is not None
        groups: list[tuple[str, StatGroup]] = [(cluster.settings.stat_prefix, cluster.stats)]
        if context.index == 0:
            prefix = cluster.settings.stat_prefix
            groups.extend(_limit_groups(prefix, cluster.limits))
            groups.extend((prefix + name, group) for name, group in cluster.balancer_stats())
        for prefix, group in groups:
            context.stats.register(prefix, group)
        self._groups[cluster.name] = groups

    def _forget(self, cluster: Cluster) -> None:
        context = self._context
        assert context is not None
        for prefix, group in self._groups.pop(cluster.name, []):
            context.stats.forget(prefix, group)

    def _hosts_changed(self) -> None:
        self.stats.cluster_updated += 1

    def _cold(self) -> bool:
        return any(not cluster.warm and cluster.settings.wait_for_warm for cluster in self._running.values())

    def _warmed(self) -> None:
        self._count_warming()
        if self._ready is not None and not self._ready.done() and not self._cold():
            self._ready.set_result(None)

    def _count_warming(self) -> None:
        self.stats.warming_clusters = sum(1 for cluster in self._running.values() if not cluster.warm)

    # -- for whoever looks --------------------------------------------------------------------

    def idle_groups(self) -> Iterator[tuple[str, StatGroup]]:
        """The stats of every cluster that does not run, for :meth:`Store.add_source`.

        The group is the same for all; it is to be read before the next one is asked for.
        """
        context = self._context
        if context is None or context.index != 0:
            return
        idle = ClusterStats()
        for name, settings in self._settings.items():
            if name in self._running:
                continue
            total, healthy, degraded = _membership(settings)
            idle.membership_change = 1 if total else 0
            idle.default__total_match_count = idle.membership_total = total
            idle.membership_healthy, idle.membership_degraded = healthy, degraded
            yield settings.stat_prefix, idle
            slot = self._slots.get(name, -1)
            default, high = settings.thresholds
            limits = (
                Limits(default, name, 0, context.runtime, self._rows, 0, slot),
                Limits(high, name, 1, context.runtime, self._rows, 0, slot),
            )
            yield from _limit_groups(settings.stat_prefix, limits)

    def status(self) -> Iterator[dict[str, Any]]:
        """Clusters and hosts for admin ``/clusters``: plain values, in the shape of its ``ClusterStatus``."""
        for settings in list(self._settings.values()):
            yield self._status(settings)

    def _status(self, settings: ClusterSettings) -> dict[str, Any]:
        cluster = self._running.get(settings.name)
        default, high = settings.thresholds
        return {
            "name": settings.name,
            "observability_name": settings.alt_stat_name,
            "added_via_api": False,
            "eds_service_name": "",
            "default": _limits_status(default),
            "high": _limits_status(high),
            "hosts": [
                _host_status(host) for host in (_idle_hosts(settings) if cluster is None else cluster.hosts)
            ],
        }


def _idle_hosts(settings: ClusterSettings) -> Iterator[Host]:
    """What the hosts of a STATIC cluster that does not run would be."""
    for group in settings.assignment.localities:
        for endpoint in group.endpoints:
            host = Host(endpoint.address, endpoint.hostname, group.priority, group.locality)
            host.assign(endpoint.weight, endpoint.metadata, endpoint.health)
            yield host


def _registered_by(settings: ClusterSettings) -> tuple[str, tuple[bool, bool], PolicySettings]:
    """What decides which groups of stats a cluster has, and how they are named."""
    return settings.stat_prefix, _tracks(settings), settings.policy


def _tracks(settings: ClusterSettings) -> tuple[bool, bool]:
    default, high = settings.thresholds
    return default.track_remaining, high.track_remaining


def _limit_groups(prefix: str, limits: tuple[Limits, Limits]) -> list[tuple[str, StatGroup]]:
    return [
        (
            f"{prefix}circuit_breakers.{priority}.",
            RemainingStats(entry) if entry.thresholds.track_remaining else LimitStats(entry),
        )
        for entry, priority in zip(limits, PRIORITIES, strict=True)
    ]


def _membership(settings: ClusterSettings) -> tuple[int, int, int]:
    """Hosts, healthy ones, degraded ones of a STATIC cluster that does not run."""
    total = healthy = degraded = 0
    for group in settings.assignment.localities:
        for endpoint in group.endpoints:
            total += 1
            if not endpoint.health & (UNHEALTHY | DEGRADED):
                healthy += 1
            elif not endpoint.health & UNHEALTHY:
                degraded += 1
    return total, healthy, degraded


def _limits_status(thresholds: Thresholds) -> dict[str, Any]:
    return {
        "max_connections": thresholds.max_connections,
        "max_pending_requests": thresholds.max_pending,
        "max_requests": thresholds.max_requests,
        "max_retries": thresholds.max_retries,
        "retry_budget": thresholds.retry_budget is not None,
    }


def _host_status(host: Host) -> dict[str, Any]:
    stats = host.stats
    return {
        "address": host.address.text,
        "hostname": host.hostname,
        "flags": host.flags(),
        "weight": host.weight,
        "region": host.locality.region,
        "zone": host.locality.zone,
        "sub_zone": host.locality.sub_zone,
        "canary": host.canary,
        "priority": host.priority,
        "counters": {
            "cx_connect_fail": stats.cx_connect_fail,
            "cx_total": stats.cx_total,
            "rq_error": stats.rq_error,
            "rq_success": stats.rq_success,
            "rq_timeout": stats.rq_timeout,
            "rq_total": stats.rq_total,
        },
        "gauges": {
            "cx_active": stats.cx_active,
            "rq_active": stats.rq_active,
            "rq_pending_active": stats.rq_pending_active,
        },
    }
