"""Main's workers, each a process of its own.

Main holds every listening socket (one per worker with SO_REUSEPORT), so a worker that is replaced
inherits its predecessor's and what waits in the accept queue is not lost.  A worker that ends
without being told to is replaced; one that ends again and again is given longer and longer pauses.
"""

import asyncio
import contextlib
import gc
import os
import random
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence

import orjson

from weft.proxy.admin.view import ClusterStatus, cluster_from_plain
from weft.proxy.assemble import ServerSettings
from weft.proxy.observe.logging import logger
from weft.proxy.observe.stats import Snapshot, decode
from weft.proxy.process import child, messages
from weft.proxy.process.carriers import StartError
from weft.proxy.process.changes import Changes
from weft.proxy.process.channel import Channel
from weft.proxy.process.flush import overlay
from weft.proxy.process.options import Options
from weft.proxy.process.sockets import ListeningSockets
from weft.proxy.process.succession import Succession
from weft.proxy.process.watchdog import Touches, Watched, to_kill
from weft.proxy.runtime import Value
from weft.proxy.upstream.limits import SharedRows
from weft.proxy.worker_counts import WorkerCounts

_LOG = logger("main")

ANSWER_TIMEOUT = 1.0
"""Seconds that a worker has to answer a question; a stuck one is then left out."""
START_TIMEOUT = 60.0
_PAUSES = (0.0, 0.1, 0.5, 1.0, 2.0, 5.0)
"""Seconds before a worker that died at once (within a second) is replaced, by how often in a row."""


class _Process:
    """One worker as main sees it."""

    def __init__(self, index: int, pid: int, channel: Channel, born: float) -> None:
        self.index = index
        self.pid = pid
        self.channel = channel
        self.born = born
        self.known = Snapshot()
        """Its counts as last told."""
        self.expected_end = False
        self.failure = ""
        self.started: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        """Its result is why it could not, or empty."""
        self.questions: dict[int, asyncio.Future[bytes]] = {}


class ForkedWorkers:
    """All of them.  ``settings`` and ``sockets`` are main's newest: a replacement begins with those."""

    def __init__(self, options: Options, settings: ServerSettings, sockets: ListeningSockets, succession: Succession) -> None:  # fmt: skip
        count = options.concurrency
        self._options = options
        self.settings = settings
        self._sockets = sockets
        self._succession = succession
        self._loop = asyncio.get_running_loop()
        self.rows = SharedRows(count)
        self.touches = Touches(count)
        self._connections = WorkerCounts()
        self.watched = [Watched(f"worker_{index}") for index in range(count)]
        self.dead = Snapshot()
        """Counts of workers that are no more."""
        self.runtime: dict[str, Value] = {}
        self.healthcheck_failed = False
        self.on_death: Callable[[], None] = lambda: None
        self._processes: dict[int, _Process] = {}
        """By index."""
        self._quick_deaths = [0] * count
        self._tag = 0
        self._ending = False
        self._all_ended = asyncio.Event()
        for cluster in settings.clusters:
            self.rows.slot(cluster.name)

    # -- birth and death ---------------------------------------------------------------------------

    async def start(self) -> None:
        """Raises StartError when one of them cannot."""
        self._loop.add_signal_handler(signal.SIGCHLD, self._reap)
        # What lives now lives as long as main: out of the collector's sight, so that no collection
        # in a worker writes to these pages and makes copies of them.
        gc.collect()
        gc.freeze()
        gc.enable()
        for index in range(self._options.concurrency):
            self._spawn(index)
        starting = [process.started for process in self._processes.values()]
        _, late = await asyncio.wait(starting, timeout=START_TIMEOUT)
        if late:
            raise StartError("a worker does not start")
        for future in starting:
            if future.result():
                raise StartError(future.result())

    def _spawn(self, index: int) -> None:
        ours, theirs = socket.socketpair()
        self.touches.touch(index, time.monotonic())
        self.rows.clear(index)
        sys.stdout.flush()
        sys.stderr.flush()
        # No signal may run main's handlers in the child before it has its own.
        before = signal.pthread_sigmask(
            signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)
        )
        pid = os.fork()
        if pid == 0:
            os._exit(self._be_born(index, ours, theirs))
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()
        self._processes[index] = _Process(index, pid, self._channel(index, ours), time.monotonic())

    def _channel(self, index: int, sock: socket.socket) -> Channel:
        def hear(kind: int, tag: int, body: bytes, fds: list[int]) -> None:
            self._hear(self._processes[index], kind, tag, body)

        return Channel(sock, self._loop, hear, lambda: None)

    def _be_born(self, index: int, ours: socket.socket, theirs: socket.socket) -> int:
        """In the fork: the exit status.  Never returns to main's code."""
        try:
            sockets = self._sockets.of_worker(index)
            keep = {sock.fileno() for own in sockets.values() for sock in own} | {theirs.fileno()}
            child.forget_main(self._loop, keep)
            inheritance = child.Inheritance(
                index=index,
                settings=self.settings,
                options=self._options,
                sockets=sockets,
                channel=theirs,
                touches=self.touches,
                rows=self.rows,
                connections=self._connections,
                runtime=self.runtime,
                healthcheck_failed=self.healthcheck_failed,
                succession=self._succession,
            )
            return child.live(inheritance)
        except BaseException:
            traceback.print_exc()
            return 70
        finally:
            with contextlib.suppress(Exception):
                sys.stdout.flush()
                sys.stderr.flush()

    def _reap(self) -> None:
        for process in list(self._processes.values()):
            pid, status = os.waitpid(process.pid, os.WNOHANG)
            if pid:
                self._ended(process, os.waitstatus_to_exitcode(status))

    def _ended(self, process: _Process, code: int) -> None:
        process.channel.drain_input()
        process.channel.close()
        del self._processes[process.index]
        self.dead.add(_lasting(process.known))
        self.rows.clear(process.index)
        for question in process.questions.values():
            if not question.done():
                question.cancel()
        if not process.started.done():
            process.started.set_result(
                process.failure or f"worker {process.index} {_how(code)} while starting"
            )
        elif not self._ending:
            self._replace(process, code)
        if not self._processes:
            self._all_ended.set()

    def _replace(self, process: _Process, code: int) -> None:
        lived = time.monotonic() - process.born
        deaths = self._quick_deaths[process.index] + 1 if lived < 1.0 else 0
        self._quick_deaths[process.index] = deaths
        pause = _PAUSES[min(deaths, len(_PAUSES) - 1)]
        if code == 0:
            _LOG.info("worker %d (pid %d) has ended; another takes its place", process.index, process.pid)
        else:
            self.on_death()
            _LOG.error(
                "worker %d (pid %d) %s after %.1f s; its connections are lost, another takes its place%s",
                process.index, process.pid, _how(code), lived, f" in {pause} s" if pause else "",
            )  # fmt: skip
        if pause:
            self._loop.call_later(pause, self._spawn_again, process.index)
        else:
            self._spawn_again(process.index)

    def _spawn_again(self, index: int) -> None:
        if self._ending:
            return
        try:
            self._spawn(index)
        except OSError as error:  # no memory, or no more processes, for now
            _LOG.error("worker %d cannot be replaced now: %s", index, error)
            self._loop.call_later(_PAUSES[-1], self._spawn_again, index)

    # -- talk --------------------------------------------------------------------------------------

    def _hear(self, process: _Process, kind: int, tag: int, body: bytes) -> None:
        if kind == messages.ANSWER:
            question = process.questions.pop(tag, None)
            if question is not None and not question.done():
                question.set_result(body)
        elif kind == messages.FLUSH:
            overlay(process.known, decode(body))
        elif kind == messages.STARTED:
            if not process.started.done():
                process.started.set_result("")
        elif kind == messages.FAILED:
            process.failure = body.decode()

    def order(self, kind: int, body: bytes = b"") -> None:
        """To all of them."""
        for process in self._processes.values():
            process.channel.send(kind, body)

    async def _ask(self, kind: int) -> list[tuple[_Process, bytes | None]]:
        """None for a worker that does not answer in time, or has gone."""
        asked: list[tuple[_Process, asyncio.Future[bytes]]] = []
        for process in self._processes.values():
            self._tag += 1
            future: asyncio.Future[bytes] = self._loop.create_future()
            stuck = time.monotonic() - self.touches.last(process.index)
            # One that is stuck would find all questions when it wakes, and nobody who waits for answers.
            if stuck < self.settings.worker_watchdog.megamiss and len(process.questions) < 100:
                process.questions[self._tag] = future
                process.channel.send(kind, b"", self._tag)
            else:
                future.cancel()
            asked.append((process, future))
        if asked:
            await asyncio.wait([future for _, future in asked], timeout=ANSWER_TIMEOUT)
        for process in self._processes.values():
            process.questions = {tag: future for tag, future in process.questions.items() if not future.done()}
        answers: list[tuple[_Process, bytes | None]] = []
        for process, future in asked:
            done = future.done() and not future.cancelled()
            answers.append((process, future.result() if done else None))
            if not done:
                future.cancel()
        return answers

    async def snapshots(self) -> list[Snapshot]:
        """Of every worker; of one that does not answer what it last told."""
        out: list[Snapshot] = []
        for process, body in await self._ask(messages.STATS):
            if body is None:
                last = Snapshot()
                last.add(process.known)
                out.append(last)
            else:
                told = decode(body)
                process.known.counters.update(told.counters)
                process.known.histograms.update(told.histograms)
                out.append(told)
        gone = Snapshot()
        gone.add(self.dead)
        return [*out, gone]

    async def clusters(self) -> list[list[ClusterStatus]]:
        return [
            [cluster_from_plain(plain) for plain in orjson.loads(body)]
            for _, body in await self._ask(messages.CLUSTERS)
            if body is not None
        ]

    async def warming(self) -> list[str]:
        """Only while starting; a worker answers once it has started."""
        return [f"worker_{process.index}" for process in self._processes.values() if not process.started.done()]

    async def memory(self) -> list[dict[str, int]]:
        return [orjson.loads(body) for _, body in await self._ask(messages.MEMORY) if body is not None]

    async def histograms(self) -> Snapshot:
        """As last told, of the living and the dead."""
        out = Snapshot()
        for known in (self.dead, *(process.known for process in self._processes.values())):
            part = Snapshot()
            part.histograms = known.histograms
            out.add(part)
        return out

    # -- orders ------------------------------------------------------------------------------------

    async def apply(self, changes: Changes, new_sockets: Sequence[str]) -> None:
        """``new_sockets``: listeners whose sockets the workers do not have yet."""
        clusters = (*changes.added_clusters, *changes.changed_clusters)
        body = messages.encode_update(
            messages.Update(
                clusters=[cluster.message_bytes for cluster in clusters],
                listeners=[one.message_bytes for one in (*changes.added_listeners, *changes.changed_listeners)],
                gone_clusters=changes.gone_clusters,
                gone_listeners=changes.gone_listeners,
                slots={cluster.name: self.rows.slot(cluster.name) for cluster in clusters},
            )
        )
        for process in self._processes.values():
            for name in new_sockets:
                fds = [sock.fileno() for sock in self._sockets.of_listener(name, process.index)]
                process.channel.send(messages.SOCKET, name.encode(), fds=fds)
            process.channel.send(messages.UPDATE, body)

    def set_log_level(self, level: str, component: str) -> None:
        self.order(messages.LOG_LEVEL, orjson.dumps([level, component]))

    def reset_counters(self) -> None:
        self.dead = Snapshot()
        for process in self._processes.values():
            process.known = Snapshot()
        self.order(messages.RESET_COUNTERS)

    def reopen_logs(self) -> None:
        self.order(messages.REOPEN_LOGS)

    def replace_runtime(self, values: Mapping[str, Value]) -> None:
        self.runtime = dict(values)
        self.order(messages.RUNTIME, orjson.dumps(self.runtime))

    def fail_healthcheck(self, failed: bool) -> None:
        self.healthcheck_failed = failed
        self.order(messages.HEALTHCHECK, orjson.dumps(failed))

    def stop_listeners(self, *, inbound_only: bool, graceful: bool, skip_exit: bool) -> None:
        words = {"inbound_only": inbound_only, "graceful": graceful, "skip_exit": skip_exit}
        self.order(messages.STOP_LISTENERS, orjson.dumps(words))

    # -- the watchdog ------------------------------------------------------------------------------

    def look(self, late: float) -> list[tuple[int, bool, bool]]:
        """(worker, a new miss, a new mega miss) of those that missed; ends who is to be ended."""
        settings = self.settings.worker_watchdog
        if late >= settings.miss:
            return []  # main itself was held up, so the whole machine may have been: look again soon
        now = time.monotonic()
        stuck = [
            now - self.touches.last(index) if index in self._processes else 0.0
            for index in range(len(self.watched))
        ]
        out: list[tuple[int, bool, bool]] = []
        for index, seconds in enumerate(stuck):
            miss, mega = self.watched[index].look(seconds, settings)
            if miss or mega:
                out.append((index, miss, mega))
        for index in to_kill(stuck, settings, random.random()):
            process = self._processes[index]
            _LOG.critical(
                "worker %d (pid %d) is stuck for %.1f s and is ended", index, process.pid, stuck[index]
            )
            self.touches.touch(index, now)
            self._signal(process, signal.SIGABRT)
            # One that is stopped, not busy, does not hear that.
            self._loop.call_later(1.0, self._kill, process)
        return out

    def _kill(self, process: _Process) -> None:
        if self._processes.get(process.index) is process:
            self._signal(process, signal.SIGKILL)

    def _signal(self, process: _Process, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, number)

    # -- the end -----------------------------------------------------------------------------------

    async def drain(self, seconds: float) -> None:
        """Let them finish; those that take longer than ``seconds`` are ended."""
        self._ending = True
        self.order(messages.DRAIN)
        await self._wait(seconds + 1.0)

    async def stop(self) -> None:
        """End them now."""
        self._ending = True
        self.order(messages.STOP)
        await self._wait(1.0)
        for process in list(self._processes.values()):
            self._kill(process)
        await self._wait(5.0)
        self._loop.remove_signal_handler(signal.SIGCHLD)

    async def _wait(self, seconds: float) -> None:
        if self._processes:
            self._all_ended.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._all_ended.wait(), seconds)

    @property
    def pids(self) -> list[int]:
        return [process.pid for process in self._processes.values()]


def _lasting(known: Snapshot) -> Snapshot:
    """What stays true of a worker that is gone: not what its successor counts anew from the start."""
    out = Snapshot()
    out.counters = {
        name: value
        for name, value in known.counters.items()
        if not name.startswith(("listener_manager.", "cluster_manager."))
    }
    out.histograms = known.histograms
    return out


def _how(code: int) -> str:
    if code < 0:
        with contextlib.suppress(ValueError):
            return f"was killed by {signal.Signals(-code).name}"
        return f"was killed by signal {-code}"
    return f"ended with status {code}"
