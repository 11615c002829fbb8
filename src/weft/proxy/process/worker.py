"""A worker: the clusters and listeners of one configuration, running on one event loop.

It is the same object whether it has a process of its own (:mod:`weft.proxy.process.child`), shares
main's (``--concurrency 1``), or lives in a test on a loop with a virtual clock.  Nothing here is
global; whoever makes it gives it its loop, its time and its chance.
"""

import asyncio
import resource
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from random import Random

from weft.proxy.admin.view import ClusterStatus, cluster_from_plain
from weft.proxy.assemble import ServerSettings
from weft.proxy.clock import Clock
from weft.proxy.context import WorkerContext
from weft.proxy.deadlines import Deadline, Deadlines
from weft.proxy.listener.directory import Listeners
from weft.proxy.observe.files import LogFiles
from weft.proxy.observe.logging import logger, reopen, set_level
from weft.proxy.observe.stats import Snapshot, Store
from weft.proxy.process.changes import Changes
from weft.proxy.process.options import Options
from weft.proxy.process.runtime_layers import merged
from weft.proxy.runtime import Runtime, Value
from weft.proxy.upstream.directory import Clusters
from weft.proxy.upstream.dns import Resolver
from weft.proxy.upstream.limits import SharedRows
from weft.proxy.worker_counts import WorkerCounts
from weft.steps import Steps, at_once

_LOG = logger("main")

Sockets = Mapping[str, Sequence[socket.socket]]
"""Listening sockets by name of their listener, in the order of its addresses."""


class Worker:
    """``index`` counts from 0; ``rows`` are shared with the other workers, None for one alone."""

    def __init__(
        self,
        settings: ServerSettings,
        loop: asyncio.AbstractEventLoop,
        *,
        options: Options | None = None,
        index: int = 0,
        rows: SharedRows | None = None,
        random: Random | None = None,
        wall: Callable[[], float] = time.time,
        resolver: Resolver | None = None,
        runtime: Mapping[str, Value] | None = None,
        connections: WorkerCounts | None = None,
        healthcheck_failed: bool = False,
    ) -> None:
        options = options or Options()
        self.index = index
        self.stats = Store()
        self.clock = Clock(loop, wall)
        self.deadlines = Deadlines(loop)
        self._loop = loop
        self._settings = settings
        self._drain_time = options.drain_time
        self.runtime = Runtime(merged(settings.runtime, {}) if runtime is None else runtime)
        self._log_files = LogFiles(
            self.deadlines,
            self.stats,
            flush_interval=options.file_flush_interval,
            flush_size=options.file_flush_min_size,
        )
        self._clusters = Clusters(settings.clusters, rows, resolver)
        self.context = WorkerContext(
            loop=loop,
            clock=self.clock,
            deadlines=self.deadlines,
            random=random or Random(),
            stats=self.stats,
            runtime=self.runtime,
            clusters=self._clusters,
            log_files=self._log_files,
            identity=settings.identity,
            index=index,
        )
        self.stats.register("http.async-client.", self.context.shadows)
        self.listeners = Listeners(self.context, drain_time=self._drain_time, global_connections=connections)
        self._politely = _Politely(self)
        if healthcheck_failed:
            self.fail_healthcheck(True)

    # -- life --------------------------------------------------------------------------------------

    async def start(self, sockets: Sockets) -> None:
        """Resolve what clusters need, then accept.  Raises OSError when a listener cannot be had."""
        self._clusters.start(self.context)
        await self._clusters.ready()
        for settings in self._settings.listeners:
            await self.listeners.apply(settings, sockets.get(settings.name, ()))

    async def apply(self, changes: Changes, sockets: Sockets, slots: Mapping[str, int] | None = None) -> None:
        """Put changes into effect, clusters before the listeners that lead to them, and gone ones last.

        ``sockets`` are those of listeners that are new or have new addresses; the others keep theirs.
        """
        for cluster in (*changes.added_clusters, *changes.changed_clusters):
            self._clusters.apply(cluster, (slots or {}).get(cluster.name, -1))
        for name in changes.gone_listeners:
            self.listeners.remove(name)
        for listener in (*changes.added_listeners, *changes.changed_listeners):
            await self.listeners.apply(listener, sockets.get(listener.name, ()))
        for name in changes.gone_clusters:
            self._clusters.remove(name)

    async def drain(self, seconds: float) -> None:
        """Stop accepting, let what is under way end; what has not ended in time is left to ``stop``."""
        self.listeners.drain()
        until = self._loop.time() + seconds
        while (self.listeners.connections or self.context.shadows.active) and self._loop.time() < until:
            await asyncio.sleep(0.02)

    async def stop(self) -> None:
        """Close everything now."""
        await self.listeners.stop()
        self.context.shadows.close()
        self._clusters.close()
        self._log_files.close()
        self.deadlines.close()

    @property
    def connections(self) -> int:
        """Downstream connections."""
        return self.listeners.connections

    # -- orders ------------------------------------------------------------------------------------

    def replace_runtime(self, values: Mapping[str, Value]) -> None:
        """All layers as one."""
        self.runtime.replace(values)

    def set_log_level(self, level: str, component: str) -> None:
        set_level(level, component)

    def reset_counters(self) -> None:
        self.stats.reset_counters()

    def reopen_logs(self) -> None:
        self._log_files.reopen()
        reopen()

    def fail_healthcheck(self, failed: bool) -> None:
        """``/healthcheck/fail``: connections are asked to go elsewhere, those to come too."""
        self._politely.healthcheck_failed = failed
        self._politely.begin()

    def stop_listeners(self, *, inbound_only: bool, graceful: bool, skip_exit: bool) -> None:
        """``/drain_listeners``: accept no more; ``graceful``ly, ask connections to go for the drain
        time first, and with ``skip_exit`` go on accepting after that."""
        if not graceful:
            self.listeners.stop_accepting(inbound_only=inbound_only)
            return
        self._politely.inbound_only = inbound_only
        self._politely.draining = True
        self._politely.begin()
        if not skip_exit:
            self._loop.call_later(self._drain_time, lambda: self.listeners.stop_accepting(inbound_only=inbound_only))

    # -- for whoever looks -------------------------------------------------------------------------

    def snapshot(self) -> Snapshot:
        return self.stats.snapshot()

    async def snapshot_gently(self) -> Snapshot:
        """The same, giving the traffic its turns."""
        out = Snapshot()
        try:
            for unfinished in self.stats.snapshots():
                out = unfinished
                await asyncio.sleep(0)
        except RuntimeError:  # clusters came or went meanwhile
            return self.stats.snapshot()
        return out

    async def pack_gently(self) -> bytes:
        """:meth:`snapshot_gently` for main."""
        packed = b""
        try:
            for part in self.stats.packs():
                packed = part
                await asyncio.sleep(0)
        except RuntimeError:
            return self.stats.pack()
        return packed

    def histograms(self) -> Snapshot:
        """Only what was recorded, only of what runs: cheap enough for every flush."""
        out = Snapshot()
        for prefix in self.stats.prefixes():
            for group in self.stats.groups_of(prefix):
                for attribute, name, unit in type(group).HISTOGRAMS:
                    histogram = getattr(group, attribute)
                    if histogram.count:
                        part = Snapshot()
                        part.histograms[prefix + name] = (unit, histogram)
                        out.add(part)
        return out

    def clusters(self) -> list[ClusterStatus]:
        return at_once(self.clusters_in_steps())

    def clusters_in_steps(self) -> Steps[list[ClusterStatus]]:
        out: list[ClusterStatus] = []
        for plain in self._clusters.status():
            out.append(cluster_from_plain(plain))
            yield 10
        return out

    def warming(self) -> list[str]:
        """Clusters that are not resolved yet."""
        return self._clusters.warming()

    def memory(self) -> dict[str, int]:
        return memory_of_this_process()


class _Politely(Deadline):
    """Asks connections to end once a second, for as long as there is a reason to."""

    def __init__(self, worker: Worker) -> None:
        super().__init__(worker.deadlines)
        self._worker = worker
        self.healthcheck_failed = False
        self.draining = False
        self.inbound_only = False

    def begin(self) -> None:
        self.expired(self._worker.clock.now())

    def expired(self, now: float) -> None:
        if not (self.healthcheck_failed or self.draining):
            return
        for listener in self._worker.listeners.all():
            settings = listener.settings
            asked = self.draining and (not self.inbound_only or settings.traffic_direction == "INBOUND")
            if asked or (self.healthcheck_failed and not settings.drain_only_on_change):
                for connection in list(listener.open.values()):
                    if not connection.drained:
                        connection.drain()
        self.set(now + 1.0)


def memory_of_this_process() -> dict[str, int]:
    """``allocated``: bytes of private memory; ``physical``: all resident pages, shared ones included."""
    page = resource.getpagesize()
    try:
        with open("/proc/self/statm") as statm:
            resident, shared = (int(word) for word in statm.read().split()[1:3])
    except OSError:
        resident, shared = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 // page, 0
    return {"allocated": (resident - shared) * page, "physical": resident * page}
