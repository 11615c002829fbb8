"""The life of a worker in a process of its own.

It begins as a fork of main, with everything main has built (settings, schema, compiled matchers)
shared with it by the kernel until somebody writes.  First it forgets what is main's: signal
handlers, the event loop, the sockets of its siblings.  Then it serves on its own loop, hears orders
over its channel, and touches its word so that main knows it is alive.

When main dies it goes on serving what it has, an orphan, until it is told to end (SIGTERM) or until
a new main of the same proxy has come (:mod:`weft.proxy.process.succession`).
"""

import asyncio
import contextlib
import gc
import os
import random
import signal
import socket
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence, Set
from dataclasses import dataclass

import orjson

from weft.api.problems import Where
from weft.api.schema import parse
from weft.proxy.assemble import ServerSettings
from weft.proxy.listener.settings import listener_settings
from weft.proxy.observe.logging import logger
from weft.proxy.process import messages
from weft.proxy.process.changes import Changes
from weft.proxy.process.channel import Channel
from weft.proxy.process.flush import Flush
from weft.proxy.process.options import Options
from weft.proxy.process.succession import Succession
from weft.proxy.process.watchdog import Touches
from weft.proxy.process.worker import Worker
from weft.proxy.runtime import Value
from weft.proxy.upstream.limits import SharedRows
from weft.proxy.upstream.settings import cluster_settings
from weft.proxy.worker_counts import WorkerCounts

_LOG = logger("main")

_CLUSTER = "envoy.config.cluster.v3.Cluster"
_LISTENER = "envoy.config.listener.v3.Listener"

FLUSH_INTERVAL = 1.0
"""Seconds between two rounds of telling main what changed."""
_STEP = 0.01
"""Seconds between two parts of such a round."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inheritance:
    """What a worker gets from main at its birth."""

    index: int
    settings: ServerSettings
    options: Options
    sockets: Mapping[str, Sequence[socket.socket]]
    """Its listening sockets by listener."""
    channel: socket.socket
    touches: Touches
    rows: SharedRows
    connections: WorkerCounts
    """Of all workers together."""
    runtime: Mapping[str, Value]
    """All layers as one."""
    healthcheck_failed: bool
    succession: Succession


def forget_main(loop: asyncio.AbstractEventLoop, keep: Set[int]) -> None:
    """Called first in a fork: nothing of main's may be reachable here but what is in ``keep``.

    A copy of main's end of a connection would keep that connection open after main has closed it,
    and a copy of a sibling's listening socket would take its connections.  So every socket, epoll
    set and the like is closed, by number: main's Python objects are neither asked (they would reach
    into the epoll set, which a fork shares) nor ever freed (they would close their number again,
    when it has become somebody else's).
    """
    _MAINS.append(loop)
    gc.freeze()
    asyncio._set_running_loop(None)
    asyncio.set_event_loop(None)
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    for name in os.listdir("/proc/self/fd"):
        fd = int(name)
        if fd in keep or fd <= 2:
            continue
        try:
            target = os.readlink(f"/proc/self/fd/{fd}")
        except OSError:
            continue  # the listing's own
        if target.startswith(("socket:", "anon_inode:")):
            os.close(fd)
    random.seed()


_MAINS: list[asyncio.AbstractEventLoop] = []
"""What must never be freed in this process."""


def live(inheritance: Inheritance) -> int:
    """Run a worker to its end; the exit status of the process."""
    import uvloop

    with contextlib.suppress(OSError), open("/proc/self/comm", "w") as comm:
        comm.write(f"weft:worker_{inheritance.index}")
    gc.enable()
    loop = uvloop.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        return loop.run_until_complete(_Child(inheritance, loop).run())
    finally:
        loop.close()


class _Child:
    def __init__(self, inheritance: Inheritance, loop: asyncio.AbstractEventLoop) -> None:
        self._inheritance = inheritance
        self._index = inheritance.index
        self._loop = loop
        self._over = asyncio.Event()
        self._status = 0
        self._draining = False
        self._waiting: list[tuple[int, int, bytes, list[int]]] | None = []
        """What main said before the worker had started; None since."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._sockets: dict[str, list[socket.socket]] = {}
        """Came with SOCKET, wait for their UPDATE."""
        self._channel = Channel(inheritance.channel, loop, self._hear, self._main_died)
        self._worker = Worker(
            inheritance.settings,
            loop,
            options=inheritance.options,
            index=inheritance.index,
            rows=inheritance.rows,
            connections=inheritance.connections,
            runtime=inheritance.runtime,
            healthcheck_failed=inheritance.healthcheck_failed,
        )
        self._flush = Flush(self._worker.stats)
        self._timers: list[asyncio.TimerHandle] = []
        self._orders: dict[int, Callable[[bytes], None]] = {
            messages.UPDATE: self._update,
            messages.DRAIN: self._drain,
            messages.STOP: self._stop,
            messages.LOG_LEVEL: lambda body: self._worker.set_log_level(*orjson.loads(body)),
            messages.RESET_COUNTERS: lambda _: self._worker.reset_counters(),
            messages.REOPEN_LOGS: lambda _: self._worker.reopen_logs(),
            messages.RUNTIME: lambda body: self._worker.replace_runtime(orjson.loads(body)),
            messages.HEALTHCHECK: lambda body: self._worker.fail_healthcheck(orjson.loads(body)),
            messages.STOP_LISTENERS: lambda body: self._worker.stop_listeners(**orjson.loads(body)),
        }
        self._questions: dict[int, Callable[[], bytes]] = {
            messages.CLUSTERS: lambda: orjson.dumps([cluster.plain() for cluster in self._worker.clusters()]),
            messages.MEMORY: lambda: orjson.dumps(self._worker.memory()),
        }

    async def run(self) -> int:
        loop = self._loop
        loop.add_signal_handler(signal.SIGTERM, self._drain, b"")
        loop.add_signal_handler(signal.SIGUSR1, self._worker.reopen_logs)
        for number in (signal.SIGINT, signal.SIGHUP):
            # A terminal sends these to the whole group; main decides what they mean.
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        self._touch()
        starting = loop.create_task(self._worker.start(self._inheritance.sockets))
        ended = loop.create_task(self._over.wait())
        await asyncio.wait((starting, ended), return_when=asyncio.FIRST_COMPLETED)
        ended.cancel()
        if self._over.is_set():
            return 0
        try:
            await starting
        except OSError as error:
            self._channel.send(messages.FAILED, str(error).encode())
            self._channel.close()
            return 1
        _close(self._inheritance.sockets)  # the listeners have their own
        self._channel.send(messages.STARTED)
        waiting, self._waiting = self._waiting or [], None
        for message in waiting:
            self._hear(*message)
        self._later(FLUSH_INTERVAL, self._begin_flush)
        await self._over.wait()
        self._tell_all()
        await self._worker.stop()
        for timer in self._timers:
            timer.cancel()
        self._channel.close()
        return self._status

    def _later(self, delay: float, callback: Callable[[], None]) -> None:
        self._timers = [timer for timer in self._timers if timer.when() > self._loop.time()]
        self._timers.append(self._loop.call_later(delay, callback))

    def _touch(self) -> None:
        self._inheritance.touches.touch(self._index, time.monotonic())
        self._later(self._inheritance.settings.worker_watchdog.interval / 2, self._touch)

    # -- what main says ----------------------------------------------------------------------------

    def _hear(self, kind: int, tag: int, body: bytes, fds: list[int]) -> None:
        if self._waiting is not None and kind != messages.STOP:
            # An update put into effect now would be undone by the rest of the start.
            self._waiting.append((kind, tag, body, fds))
            return
        if kind == messages.SOCKET:
            self._sockets[body.decode()] = [socket.socket(fileno=fd) for fd in fds]
            return
        if kind == messages.STATS:
            self._spawn(self._tell_stats(tag))
            return
        question = self._questions.get(kind)
        if question is not None:
            self._channel.send(messages.ANSWER, question(), tag)
            return
        try:
            self._orders[kind](body)
        except Exception:
            # Main checked the order; what goes wrong now is our bug and must not cost the traffic.
            _LOG.exception("an order of main could not be carried out (kind %d)", kind)

    def _update(self, body: bytes) -> None:
        update = messages.decode_update(body)
        sockets, self._sockets = self._sockets, {}
        where = Where.nowhere()  # main has found no problem in these bytes; neither will we
        clusters = [cluster_settings(parse(_CLUSTER, data), where) for data in update.clusters]
        listeners = [listener_settings(parse(_LISTENER, data), where) for data in update.listeners]
        changes = Changes(
            changed_clusters=tuple(clusters),
            changed_listeners=tuple(settings for settings in listeners if settings is not None),
            gone_clusters=tuple(update.gone_clusters),
            gone_listeners=tuple(update.gone_listeners),
        )
        self._spawn(self._apply(changes, sockets, update.slots))

    async def _apply(self, changes: Changes, sockets: dict[str, list[socket.socket]], slots: Mapping[str, int]) -> None:
        try:
            await self._worker.apply(changes, sockets, slots)
        finally:
            _close(sockets)

    def _drain(self, _: bytes) -> None:
        if not self._draining:
            self._draining = True
            self._spawn(self._end_when_drained())

    async def _end_when_drained(self) -> None:
        await self._worker.drain(self._inheritance.options.stop_time)
        self._over.set()

    def _stop(self, _: bytes) -> None:
        self._over.set()

    def _spawn(self, work: Awaitable[None]) -> None:
        async def guarded() -> None:
            try:
                await work
            except Exception:
                _LOG.exception("an order of main could not be carried out")

        task = self._loop.create_task(guarded())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # -- what main hears ---------------------------------------------------------------------------

    def _begin_flush(self) -> None:
        if self._channel.waiting < 10:  # main is busy or stopped: it gets the newest later
            self._flush.begin()
            self._step_flush()
        self._later(FLUSH_INTERVAL, self._begin_flush)

    def _step_flush(self) -> None:
        changed = self._flush.step()
        if changed:
            self._channel.send(messages.FLUSH, changed)
        if not self._flush.done:
            self._later(_STEP, self._step_flush)

    async def _tell_stats(self, tag: int) -> None:
        self._channel.send(messages.ANSWER, await self._worker.pack_gently(), tag)

    def _tell_all(self) -> None:
        self._flush.begin()
        while not self._flush.done:
            changed = self._flush.step()
            if changed:
                self._channel.send(messages.FLUSH, changed)

    def _main_died(self) -> None:
        if self._over.is_set():
            return
        _LOG.error("main is gone; worker %d goes on with what it has", self._index)
        self._inheritance.succession.watch(self._loop, lambda: self._drain(b""))


def _close(sockets: Mapping[str, Sequence[socket.socket]]) -> None:
    """What another listener shares is closed twice without harm."""
    for own in sockets.values():
        for sock in own:
            sock.close()
