"""The one worker of ``--concurrency 1``: in main's process, on main's loop.

A sidecar has one core and little memory; isolation between main and worker is not worth a second
interpreter there.  To main it looks like :class:`~weft.proxy.process.forked.ForkedWorkers`.
"""

import asyncio
import faulthandler
import gc
from collections.abc import Mapping, Sequence
from typing import Final

from weft.proxy.admin.view import ClusterStatus
from weft.proxy.assemble import ServerSettings
from weft.proxy.observe.stats import Snapshot
from weft.proxy.process.changes import Changes
from weft.proxy.process.options import Options
from weft.proxy.process.sockets import ListeningSockets
from weft.proxy.process.watchdog import Watched
from weft.proxy.process.worker import Worker
from weft.proxy.runtime import Value
from weft.steps import patiently

SETTLED: Final = 0.5
"""Seconds after the start at which its garbage is collected: not while somebody waits for it."""


def settle() -> None:
    """What is left now lives as long as the process: out of the collector's sight."""
    gc.collect()
    gc.freeze()
    gc.enable()


class SoleWorker:
    def __init__(self, options: Options, settings: ServerSettings, sockets: ListeningSockets) -> None:
        self.settings = settings
        self._options = options
        self._sockets = sockets
        self._loop = asyncio.get_running_loop()
        self.runtime: dict[str, Value] = {}
        self._worker = Worker(settings, self._loop, options=options)
        self.watched = [Watched("worker_0")]

    async def start(self) -> None:
        await self._worker.start(self._sockets.of_worker(0))
        self._loop.call_later(SETTLED, settle)

    async def snapshots(self) -> list[Snapshot]:
        return [await self._worker.snapshot_gently()]

    async def clusters(self) -> list[list[ClusterStatus]]:
        return [await patiently(self._worker.clusters_in_steps())]

    async def warming(self) -> list[str]:
        return self._worker.warming()

    async def memory(self) -> list[dict[str, int]]:
        return []  # main's process, which main counts

    async def histograms(self) -> Snapshot:
        return self._worker.histograms()

    async def apply(self, changes: Changes, new_sockets: Sequence[str]) -> None:
        await self._worker.apply(changes, {name: self._sockets.of_listener(name, 0) for name in new_sockets})

    def set_log_level(self, level: str, component: str) -> None:
        """Main has set its own, which is this worker's."""

    def reset_counters(self) -> None:
        self._worker.reset_counters()

    def reopen_logs(self) -> None:
        self._worker.reopen_logs()

    def replace_runtime(self, values: Mapping[str, Value]) -> None:
        self.runtime = dict(values)
        self._worker.replace_runtime(values)

    def fail_healthcheck(self, failed: bool) -> None:
        self._worker.fail_healthcheck(failed)

    def stop_listeners(self, *, inbound_only: bool, graceful: bool, skip_exit: bool) -> None:
        self._worker.stop_listeners(inbound_only=inbound_only, graceful=graceful, skip_exit=skip_exit)

    def look(self, late: float) -> list[tuple[int, bool, bool]]:
        """How late the look comes is how long the loop was stuck."""
        settings = self.settings.worker_watchdog
        miss, mega = self.watched[0].look(late, settings)
        self.watched[0].look(0.0, settings)
        if settings.kill > 0:
            # Nobody else can end this process when its loop hangs: a thread of the interpreter
            # does, and writes down where it hung.
            faulthandler.dump_traceback_later(settings.kill, exit=True)
        return [(0, miss, mega)] if miss or mega else []

    async def drain(self, seconds: float) -> None:
        await self._worker.drain(seconds)

    async def stop(self) -> None:
        faulthandler.cancel_dump_traceback_later()
        await self._worker.stop()
