"""Main: it decides, workers carry.

It owns the configuration, the listening sockets, the workers, the admin server and the signals, and
never touches a request.  Life: bind, start workers, live, drain, end; a reload in between reads
everything anew, checks all of it, and only then touches what is different.
"""

import asyncio
import os
import signal
import time
from collections.abc import Awaitable
from dataclasses import replace
from random import Random

from weft.api.problems import ConfigError, Problem
from weft.proxy.assemble import ServerSettings
from weft.proxy.clock import Clock
from weft.proxy.context import WorkerContext
from weft.proxy.deadlines import Deadlines
from weft.proxy.listener.sockets import BindError
from weft.proxy.observe.files import LogFiles
from weft.proxy.observe.intervals import Intervals
from weft.proxy.observe.logging import logger, reopen
from weft.proxy.observe.stats import Snapshot, Store
from weft.proxy.process.carriers import Carriers, StartError
from weft.proxy.process.changes import Changes, changes
from weft.proxy.process.options import Options
from weft.proxy.process.run import load
from weft.proxy.process.runtime_layers import merged
from weft.proxy.process.server_stats import (
    DRAINING,
    INITIALIZING,
    LIVE,
    BindStats,
    RuntimeStats,
    ServerStats,
    WatchdogStats,
)
from weft.proxy.process.sockets import ListeningSockets
from weft.proxy.process.succession import Succession
from weft.proxy.process.version import version_number
from weft.proxy.process.watchdog import Watched
from weft.proxy.process.worker import memory_of_this_process
from weft.proxy.runtime import Runtime
from weft.proxy.upstream.directory import Clusters

_LOG = logger("main")
_CONFIG_LOG = logger("config")


class Server:
    """``started``: ``time.monotonic()`` of the process's beginning."""

    def __init__(self, options: Options, settings: ServerSettings, started: float) -> None:
        self.options = options
        self.settings = settings
        self.born = time.time()
        """Wall-clock seconds."""
        self.updated: dict[str, float] = {}
        """When a listener or cluster came into effect, by ``listener/NAME`` or ``cluster/NAME``."""
        self.healthcheck_failed = False
        self.overrides: dict[str, str] = {}
        """What operators have set over the admin page."""
        self.sockets = ListeningSockets(options.concurrency)
        self.stats = Store()
        self.server_stats = ServerStats(options.concurrency)
        self.runtime_stats = RuntimeStats()
        self.bind_stats = BindStats()
        self.intervals = Intervals()
        self.context = self._make_context()
        """For what main itself runs: the access log of the admin server."""
        self._started = started
        self._loop = asyncio.get_running_loop()
        self._end = asyncio.Event()
        self._hurry = asyncio.Event()
        self._reloading = asyncio.Lock()
        self._tasks: set[asyncio.Task[object]] = set()
        self._main_watched = Watched("main_thread")
        self._looked = self._loop.time()
        self._watchdogs: list[tuple[WatchdogStats, WatchdogStats]] = []
        self._succession = Succession(options.base_id, options.config_path)
        self.workers: Carriers = self._make_workers()
        self._register()

    def _make_workers(self) -> Carriers:
        if self.options.concurrency == 1:
            from weft.proxy.process.sole import SoleWorker

            return SoleWorker(self.options, self.settings, self.sockets)
        from weft.proxy.process.forked import ForkedWorkers

        workers = ForkedWorkers(self.options, self.settings, self.sockets, self._succession)
        workers.on_death = self._count_death
        return workers

    def _make_context(self) -> WorkerContext:
        loop = asyncio.get_running_loop()
        deadlines = Deadlines(loop)
        return WorkerContext(
            loop=loop,
            clock=Clock(loop),
            deadlines=deadlines,
            random=Random(),
            stats=self.stats,
            runtime=Runtime(),
            clusters=Clusters(),
            log_files=LogFiles(
                deadlines,
                self.stats,
                flush_interval=self.options.file_flush_interval,
                flush_size=self.options.file_flush_min_size,
            ),
            identity=self.settings.identity,
        )

    def _register(self) -> None:
        stats = self.server_stats
        stats.hot_restart_epoch = self.options.restart_epoch
        override = self.settings.stats_server_version
        stats.version = version_number() if override is None else override
        self.stats.register("server.", stats)
        self.stats.register("runtime.", self.runtime_stats)
        self.stats.register("listener_manager.", self.bind_stats)
        names = ["main_thread", *(watched.name for watched in self.workers.watched)]
        together = {"main_thread": WatchdogStats(), "workers": WatchdogStats()}
        for name, group in together.items():
            self.stats.register(f"{name}.", group)
        for name in names:
            own = WatchdogStats()
            self.stats.register(f"server.{name}.", own)
            self._watchdogs.append((own, together["main_thread" if name == "main_thread" else "workers"]))

    # -- life --------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Bind everything and start the workers.  Raises StartError."""
        self.server_stats.state = INITIALIZING
        self.server_stats.live = 1
        try:
            self.sockets.open(self.settings.listeners)
        except BindError as error:
            raise StartError(f"error adding listener: {error}") from error
        self._put_runtime()
        for number, act in (
            (signal.SIGTERM, self._told_to_end),
            (signal.SIGINT, self._told_to_end),
            (signal.SIGHUP, self._told_to_reload),
            (signal.SIGUSR1, self._told_to_reopen),
        ):
            self._loop.add_signal_handler(number, act, number)
        _LOG.info("all dependencies initialized. starting workers")
        starting = self._loop.create_task(self.workers.start())
        ended = self._loop.create_task(self._end.wait())
        await asyncio.wait((starting, ended), return_when=asyncio.FIRST_COMPLETED)
        ended.cancel()
        if not starting.done():
            starting.cancel()  # told to end before they were all there
            return
        await starting
        self._succession.claim(self._loop)
        self.server_stats.state = LIVE
        self.server_stats.initialization_time_ms.record(int((time.monotonic() - self._started) * 1000))
        self._looked = self._loop.time()
        self._loop.call_later(self.settings.main_watchdog.interval, self._look)
        if self.settings.stats_flush_interval:
            self._loop.call_later(self.settings.stats_flush_interval, self._flush)

    async def live(self) -> None:
        """Until told to end; then drain and stop."""
        _LOG.info("starting main dispatch loop")
        await self._end.wait()
        _LOG.info("shutting down server instance")
        self.server_stats.state = DRAINING
        draining = self._loop.create_task(self.workers.drain(self.options.stop_time))
        await asyncio.sleep(0)  # the order is out: now the kernel may refuse what comes
        self.sockets.close_all()
        hurry = self._loop.create_task(self._hurry.wait())
        await asyncio.wait((draining, hurry), return_when=asyncio.FIRST_COMPLETED)
        for task in (draining, hurry):
            task.cancel()
        await asyncio.gather(draining, hurry, return_exceptions=True)
        await self.stop()
        _LOG.info("main dispatch loop exited")

    async def stop(self) -> None:
        """Let go of everything."""
        for task in list(self._tasks):
            task.cancel()
        await self.workers.stop()
        self.sockets.close_all()
        self.context.log_files.close()
        self._succession.leave(self._loop)

    def end(self) -> None:
        """As SIGTERM does: drain, then end.  A second call ends the draining."""
        if self._end.is_set():
            self._hurry.set()
        self._end.set()

    def _told_to_end(self, number: int) -> None:
        _LOG.warning("caught %s", signal.Signals(number).name)
        self.end()

    def _told_to_reload(self, number: int) -> None:
        _LOG.warning("caught %s", signal.Signals(number).name)
        if self.server_stats.state == LIVE:
            self._spawn(self.reload())

    def _told_to_reopen(self, number: int) -> None:
        _LOG.info("caught %s, reopening logs", signal.Signals(number).name)
        self.reopen_logs()

    def _spawn(self, work: Awaitable[object]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # -- reload ------------------------------------------------------------------------------------

    async def reload(self, *, dry_run: bool = False) -> tuple[bool, str]:
        """Read the configuration again and put what changed into effect: (whether it is good, what
        changed or what is wrong).  A configuration with a problem changes nothing."""
        async with self._reloading:
            try:
                settings, warnings = await self._load()
                return await self._adopt(settings, warnings, dry_run)
            except ConfigError as error:
                for problem in error.problems:
                    _log_problem(problem)
                _CONFIG_LOG.error("reload: %d problems, nothing was changed", len(error.problems))
                return False, str(error)
            except BindError as error:
                self.bind_stats.listener_create_failure += 1
                _CONFIG_LOG.error("reload: %s; nothing was changed", error)
                return False, str(error)
            except Exception as error:
                _CONFIG_LOG.exception("reload: a defect of this program; the last configuration goes on")
                return False, repr(error)

    async def _load(self) -> tuple[ServerSettings, list[Problem]]:
        if self.options.concurrency > 1:
            return load(self.options)  # nobody's traffic waits for main
        return await asyncio.to_thread(load, self.options)

    async def _adopt(self, settings: ServerSettings, warnings: list[Problem], dry_run: bool) -> tuple[bool, str]:
        difference = changes(self.settings, settings)
        if dry_run:
            return True, str(difference)
        for problem in warnings:
            _log_problem(problem)
        old = {listener.name: listener for listener in self.settings.listeners}
        rebound = [
            listener
            for listener in (*difference.added_listeners, *difference.changed_listeners)
            if listener.name not in old or old[listener.name].frame_bytes != listener.frame_bytes
        ]
        self.sockets.open(rebound)
        for listener in difference.changed_listeners:
            self.sockets.keep(listener)
        self.settings = self.workers.settings = settings
        self._put_runtime()
        await self.workers.apply(difference, [listener.name for listener in rebound])
        for name in difference.gone_listeners:
            self.sockets.close(name)
        self._note(difference)
        _CONFIG_LOG.info("reload: %s", difference)
        return True, str(difference)

    def _note(self, difference: Changes) -> None:
        now = time.time()
        for kind, resources in (
            ("listener", (*difference.added_listeners, *difference.changed_listeners)),
            ("cluster", (*difference.added_clusters, *difference.changed_clusters)),
        ):
            for one in resources:
                self.updated[f"{kind}/{one.name}"] = now

    # -- runtime and logs --------------------------------------------------------------------------

    def override_runtime(self, values: dict[str, str]) -> None:
        """Over the admin page; an empty value takes an override away."""
        for key, value in values.items():
            if value:
                self.overrides[key] = value
            else:
                self.overrides.pop(key, None)
        self._put_runtime()

    def _put_runtime(self) -> None:
        values = merged(self.settings.runtime, self.overrides)
        self.workers.replace_runtime(values)
        stats = self.runtime_stats
        stats.load_success += 1
        if sum(layer.disk for layer in self.settings.runtime) > 1:
            stats.override_dir_exists += 1
        else:
            stats.override_dir_not_exists += 1
        stats.num_keys = len(values)
        stats.num_layers = len(self.settings.runtime)
        stats.admin_overrides_active = 1 if self.overrides else 0

    def reopen_logs(self) -> None:
        reopen()
        self.context.log_files.reopen()
        self.workers.reopen_logs()

    def drain_listeners(self, *, graceful: bool, inbound_only: bool, skip_exit: bool) -> None:
        """As an operator orders it."""
        self.workers.stop_listeners(inbound_only=inbound_only, graceful=graceful, skip_exit=skip_exit)
        if graceful and not skip_exit:
            self._loop.call_later(self.options.drain_time, self._forget_listeners, inbound_only)
        elif not graceful:
            self._forget_listeners(inbound_only)

    def _forget_listeners(self, inbound_only: bool) -> None:
        """Let go of main's sockets, or the kernel would go on taking connections for nobody; and a
        worker that is replaced must not open them again."""
        left = [one for one in self.settings.listeners if inbound_only and one.traffic_direction != "INBOUND"]
        for listener in self.settings.listeners:
            if listener not in left:
                self.sockets.close(listener.name)
        self.workers.settings = replace(self.settings, listeners=tuple(left))

    # -- looking after workers and stats -----------------------------------------------------------

    def _count_death(self) -> None:
        self.server_stats.worker_died += 1

    def _look(self) -> None:
        interval = self.settings.main_watchdog.interval
        now = self._loop.time()
        late = now - self._looked - interval
        self._looked = now
        missed = self._main_watched.look(late, self.settings.main_watchdog)
        for group in self._watchdogs[0]:
            group.count(*missed)
        self._main_watched.look(0.0, self.settings.main_watchdog)
        for index, miss, mega in self.workers.look(late):
            for group in self._watchdogs[index + 1]:
                group.count(miss, mega)
            if mega:
                _LOG.warning("worker %d has not turned its loop for %.1f s", index, self.settings.worker_watchdog.megamiss)
        self._loop.call_later(interval, self._look)

    def _flush(self) -> None:
        self._spawn(self._flush_histograms())
        self._loop.call_later(self.settings.stats_flush_interval, self._flush)

    async def _flush_histograms(self) -> None:
        histograms = await self.workers.histograms()
        own = self.server_stats.initialization_time_ms
        if own.count:
            histograms.histograms["server.initialization_time_ms"] = ("ms", own.copy())
        self.intervals.flush(histograms)

    async def snapshot(self) -> Snapshot:
        """Main's and all workers' stats, the dead ones' counts included."""
        parts = await self.workers.snapshots()
        memory = memory_of_this_process()
        stats = self.server_stats
        stats.uptime = int(time.time() - self.born)
        stats.memory_allocated = memory["allocated"]
        stats.memory_heap_size = stats.memory_physical_size = memory["physical"]
        out = Snapshot()
        for part in parts:
            out.add(part)
            await asyncio.sleep(0)
        stats.total_connections = sum(
            value
            for name, value in out.gauges.items()
            if name.startswith("listener.") and name.endswith(".downstream_cx_active") and ".worker_" not in name
        )
        await asyncio.sleep(0)
        out.add(self.stats.snapshot())
        if not self.settings.stats_flush_interval:
            self.intervals.flush(out)
        return out


def write_file(path: str, text: str) -> None:
    """Whole or not at all: somebody may be waiting for it to appear."""
    temporary = f"{path}.{os.getpid()}"
    with open(temporary, "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(temporary, path)


def _log_problem(problem: Problem) -> None:
    if problem.warning:
        _CONFIG_LOG.warning("%s", problem)
    else:
        _CONFIG_LOG.error("%s", problem)
