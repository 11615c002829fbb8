"""A running cluster: its hosts, its balancer, its limits and its stats, in one worker.

It is made from :class:`~weft.proxy.upstream.settings.ClusterSettings` when it is first needed, and
changed in place when these change: whoever holds a cluster (a stream, a connection) holds the
right one.  A host whose address stays is the same object before and after.
"""

from collections.abc import Callable
from typing import Any, Final

from weft.proxy.address import Address
from weft.proxy.context import WorkerContext
from weft.proxy.observe.stats import StatGroup
from weft.proxy.observe.stream_info import StreamInfo
from weft.proxy.route.hash_policy import NO_HASH, HashPolicy
from weft.proxy.upstream.balancer import Balancer
from weft.proxy.upstream.discovery import ClusterType
from weft.proxy.upstream.dns import Name, Resolver
from weft.proxy.upstream.endpoints import EndpointSettings, LocalitySettings
from weft.proxy.upstream.host import Host, HostSet, Locality
from weft.proxy.upstream.limits import Limits, SharedRows
from weft.proxy.upstream.policy import Algorithm
from weft.proxy.upstream.settings import ClusterSettings
from weft.proxy.upstream.stats import ClusterStats


class Cluster:
    """``pick`` a host, ask and count ``limits`` (by priority: default, high), count in ``stats``."""

    def __init__(
        self,
        settings: ClusterSettings,
        context: WorkerContext,
        resolver: Resolver,
        rows: SharedRows | None = None,
        slot: int = -1,
    ) -> None:
        self.name = settings.name
        self.settings = settings
        self.stats = ClusterStats()
        self.hosts: list[Host] = []
        """Of all priorities."""
        self.sets: list[HostSet] = []
        """By priority."""
        default, high = settings.thresholds
        runtime, worker = context.runtime, context.index
        self.limits: tuple[Limits, Limits] = (
            Limits(default, settings.name, 0, runtime, rows, worker, slot),
            Limits(high, settings.name, 1, runtime, rows, worker, slot),
        )
        self.warm: bool = False
        """The first resolution of every name is over (at once, without names)."""
        self.on_warm: Callable[[], None] | None = None
        self.on_hosts: Callable[[], None] | None = None
        """The set of hosts has changed, after the first time."""
        self._speaks: bool = context.index == 0
        """The first worker tells what all workers know alike; stats of all workers are added up."""
        self._context = context
        self._resolver = resolver
        self._names: list[tuple[LocalitySettings, Name]] = []
        self._holding: bool = False
        """Hosts of the settings before stay until every name of the new ones was asked once."""
        self._balancer = Balancer(settings.policy, self.stats, context.random, runtime)
        self.hashes: bool = settings.policy.hashes
        self._find_hosts()

    def balancer_stats(self) -> list[tuple[str, StatGroup]]:
        """What the balancer shows besides the cluster's own stats: (name below its prefix, group)."""
        algorithm = self.settings.policy.algorithm
        if algorithm is Algorithm.RING_HASH:
            return [("ring_hash_lb.", self._balancer.ring_stats)]
        if algorithm is Algorithm.MAGLEV:
            return [("maglev_lb.", self._balancer.maglev_stats)]
        return []

    @property
    def metadata(self) -> dict[str, Any]:
        return self.settings.metadata

    def pick(self, info: StreamInfo | None = None, hash_policy: HashPolicy | None = None) -> Host | None:
        """The host of one request or connection; None (counted) when there is none.

        ``hash_policy`` is what the route says; only a balancer that hashes looks at it.
        """
        if self.hashes:
            own = self.settings.policy.hash_policy
            policy = hash_policy if own is None else own
            value = NO_HASH if policy is None or info is None else policy.hash(info.request, info)
            host = self._balancer.pick_for(value)
        else:
            host = self._balancer.pick()
        if host is None:
            self.stats.upstream_cx_none_healthy += 1
        return host

    def can_connect(self, host: Host, priority: int = 0) -> bool:
        """Whether one more connection to ``host`` is within the limits of the cluster and of a host."""
        limits = self.limits[priority]
        return limits.can_connect() and host.stats.cx_active < limits.thresholds.max_host_connections

    def update(self, settings: ClusterSettings) -> None:
        """Take changed settings of the same name; connections made by the old ones finish and close."""
        old, self.settings = self.settings, settings
        for limits, thresholds in zip(self.limits, settings.thresholds, strict=True):
            limits.update(thresholds)
        if settings.policy != old.policy:
            self._balancer = Balancer(
                settings.policy, self.stats, self._context.random, self._context.runtime
            )
            self.hashes = settings.policy.hashes
        if (settings.http, settings.bind, settings.keepalive, settings.per_connection_buffer_limit) != (
            old.http,
            old.bind,
            old.keepalive,
            old.per_connection_buffer_limit,
        ):
            for host in self.hosts:
                drain(host)
        self._find_hosts()

    def rebalance(self) -> None:
        """A host's health has changed (``Host.health`` is already set), or a runtime value did."""
        self.sets = [HostSet(old.hosts, old.locality_weights, old.factor) for old in self.sets]
        self._settle(False)

    def close(self) -> None:
        """Out of the directory: no new picks, what is under way finishes."""
        for _, name in self._names:
            name.stop()
        self._names = []
        for host in self.hosts:
            host.removed = True
            drain(host)

    # -- finding hosts ----------------------------------------------------------------------

    def _find_hosts(self) -> None:
        settings = self.settings
        for _, name in self._names:
            name.stop()
        self._names = []
        if not settings.type.resolves:
            self._set_hosts(
                [(group, endpoint, [endpoint.address]) for group, endpoint in _endpoints(settings)]
            )
            self._warmed()
            return
        single = settings.type is ClusterType.LOGICAL_DNS
        self._names = [
            (
                group,
                Name(
                    self._context,
                    self._resolver,
                    settings.dns,
                    endpoint,
                    self._told(),
                    self._on_answer,
                    single,
                ),
            )
            for group, endpoint in _endpoints(settings)
        ]
        self._holding = bool(self.hosts)
        if not self._names:
            self._set_hosts([])
            self._warmed()
        for _, name in self._names:
            name.start()

    def _on_answer(self, changed: bool) -> None:
        """One name was resolved, well or not."""
        complete = all(name.resolved for _, name in self._names)
        if self._holding and not complete:
            return
        if self.settings.type is ClusterType.LOGICAL_DNS:
            self._set_logical(changed)
        elif changed or self._holding:
            self._set_hosts(
                [
                    (group, name.endpoint, [Address(ip, name.endpoint.port) for ip in name.addresses])
                    for group, name in self._names
                ]
            )
        self._holding = False
        if complete:
            self._warmed()

    def _set_logical(self, changed: bool) -> None:
        """One host, whose address moves; connections to the old address stay as they are."""
        group, name = self._names[0]
        if not name.addresses or not changed:
            return
        address = Address(name.addresses[0], name.endpoint.port)
        if len(self.hosts) == 1 and not self._holding:
            self.hosts[0].address = address
        else:
            self._set_hosts([(group, name.endpoint, [address])])

    def _set_hosts(self, found: list[tuple[LocalitySettings, EndpointSettings, list[Address]]]) -> None:
        """Bring the hosts to what was found, keeping the objects of those that stay."""
        known: dict[tuple[str, int, Locality], list[Host]] = {}
        for host in self.hosts:
            known.setdefault((host.address.text, host.priority, host.locality), []).append(host)
        hosts: list[Host] = []
        added = 0
        resolves = self.settings.type.resolves
        for group, endpoint, addresses in found:
            for address in addresses:
                key = (address.text, group.priority, group.locality)
                same = known.get(key)
                if same:
                    host = same.pop(0)
                    host.assign(endpoint.weight, endpoint.metadata, endpoint.health)
                else:
                    hostname = endpoint.hostname or (endpoint.name if resolves else "")
                    host = Host(address, hostname, group.priority, group.locality)
                    host.assign(endpoint.weight, endpoint.metadata, endpoint.health)
                    added += 1
                hosts.append(host)
        gone = [host for same in known.values() for host in same]
        for host in gone:
            host.removed = True
            drain(host)
        changed = bool(added or gone)
        if changed and self.settings.close_on_change:
            for host in hosts:
                drain(host)
        self.hosts = hosts
        self._told().default__total_match_count += added
        self._sort()
        self._settle(changed)

    def _sort(self) -> None:
        """Into sets by priority."""
        assignment = self.settings.assignment
        count = 1 + max([group.priority for group in assignment.localities], default=0)
        hosts: list[list[Host]] = [[] for _ in range(count)]
        weights: list[dict[Locality, int]] = [{} for _ in range(count)]
        for host in self.hosts:
            hosts[host.priority].append(host)
        for group in assignment.localities:
            weights[group.priority][group.locality] = group.weight
        self.sets = [HostSet(hosts[i], weights[i], assignment.overprovisioning) for i in range(count)]

    def _settle(self, changed: bool) -> None:
        stats = self._told()
        stats.membership_total = len(self.hosts)
        stats.membership_healthy = sum(len(hosts.healthy) for hosts in self.sets)
        stats.membership_degraded = sum(len(hosts.degraded) for hosts in self.sets)
        stats.membership_excluded = sum(hosts.excluded for hosts in self.sets)
        if self.settings.type is ClusterType.STRICT_DNS:
            stats.max_host_weight = max([host.weight for host in self.hosts], default=1)
        self._balancer.rebuild(self.sets, self.settings.assignment.weighted_priority_health)
        if changed:
            stats.membership_change += 1
            if self.on_hosts is not None and self.warm:
                self.on_hosts()

    def _told(self) -> ClusterStats:
        return self.stats if self._speaks else _UNTOLD

    def _warmed(self) -> None:
        if not self.warm:
            self.warm = True
            if self.on_warm is not None:
                self.on_warm()


_UNTOLD: Final = ClusterStats()
"""Where workers that do not speak for the cluster count."""


def _endpoints(settings: ClusterSettings) -> list[tuple[LocalitySettings, EndpointSettings]]:
    return [(group, endpoint) for group in settings.assignment.localities for endpoint in group.endpoints]


def drain(host: Host) -> None:
    """Let the pools of ``host`` finish what is under way; the next request makes new ones."""
    pool: Any
    for pool in (host.http1_pool, host.tcp_pool):
        if pool is not None:
            pool.drain()
    host.http1_pool = None
    host.tcp_pool = None
