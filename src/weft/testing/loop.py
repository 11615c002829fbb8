"""An asyncio event loop with a virtual clock and a network in memory.

When nothing is ready the clock jumps to the next timer; when there is no timer either, whoever
waits waits for ever, and :class:`Deadlock` says who.  Nothing touches a socket, a file descriptor or
a thread, and order follows from the program and the seed alone.

:func:`run` is how tests use it: it runs one coroutine function and fails on what is left behind.
"""

import asyncio
import heapq
import socket
import sys
from collections.abc import Callable, Coroutine, Sequence
from contextvars import Context
from random import Random
from typing import Any, TypeVar

from weft.testing.network import MemoryServer, MemorySocket, MemoryTransport, Network

T = TypeVar("T")

BEGIN = 1000.0
"""Loop time at the start; not 0, which the proxy uses for *never*."""
WALL_BEGIN = 1767225600.0
"""What the wall clock shows at the start: 2026-01-01T00:00:00Z."""


class Deadlock(Exception):
    """Nothing is ready and nothing is due, yet somebody waits."""


class Leak(AssertionError):
    """A test left connections, servers or tasks behind, or an exception that nobody saw."""


class _Timer(asyncio.TimerHandle):
    """Timers of the same time fire in the order in which they were set."""

    def __init__(self, number: int, *args: Any) -> None:
        super().__init__(*args)
        self._number = number

    def enter(self) -> None:
        self._scheduled = True

    def __lt__(self, other: Any) -> bool:
        return (self.when(), self._number) < (other.when(), other._number)


class VirtualLoop(asyncio.BaseEventLoop):
    """``network`` holds the tables of the network; ``random`` is seeded; ``faults`` gathers what asyncio
    would only log."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.random = Random(seed)
        self.network = Network(self)
        self.faults: list[dict[str, Any]] = []
        self._now = BEGIN
        self._timers = 0
        inner: Any = self  # BaseEventLoop keeps its queues to itself; its subclasses share them
        inner._selector = self
        inner._clock_resolution = 1e-9
        self._inner = inner
        self.set_exception_handler(_gather)

    # -- time ------------------------------------------------------------------------------------

    def time(self) -> float:
        return self._now

    def wall(self) -> float:
        """Seconds since the epoch; the ``wall`` argument of a proxy's clock."""
        return WALL_BEGIN + (self._now - BEGIN)

    def call_at(  # type: ignore[override]  # typeshed's, without type variable tuples
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        self._timers += 1
        timer = _Timer(self._timers, when, callback, args, self, context)
        heapq.heappush(self._inner._scheduled, timer)
        timer.enter()
        return timer

    def select(self, timeout: float | None) -> list[Any]:
        """Called by BaseEventLoop in place of a selector: waiting moves the clock."""
        if timeout is None:
            raise Deadlock(self._who_waits())
        if timeout > 0:
            self._now = max(self._now, min(self._inner._scheduled[0]._when, self._now + timeout))
        return []

    def _process_events(self, event_list: list[Any]) -> None:
        pass

    def _write_to_self(self) -> None:
        pass

    def _who_waits(self) -> str:
        lines = [f"nothing is ready and nothing is due at virtual second {self._now - BEGIN:g}; waiting:"]
        for task in sorted(asyncio.all_tasks(self), key=lambda task: task.get_name()):
            lines.append(f"  {describe_task(task)}")
        lines += [f"  {transport!r}" for transport in self.network.transports.values()]
        return "\n".join(lines)

    def settle(self) -> None:
        """Run what is ready and what is under way on the network, without waiting for other timers."""
        for _ in range(100_000):
            if not self._inner._ready and not self.network.in_flight:
                return
            if not self._inner._ready and self._inner._scheduled:
                self._now = max(self._now, self._inner._scheduled[0]._when)
            self.call_soon(self.stop)
            self.run_forever()
        raise Leak("the loop never comes to rest")

    # -- threads: none, so that order is certain ---------------------------------------------------

    def run_in_executor(  # type: ignore[override]  # typeshed's, without type variable tuples
        self, executor: Any, func: Callable[..., Any], *args: Any
    ) -> Any:
        """The function runs at once, on this thread."""
        future: asyncio.Future[Any] = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:
            future.set_exception(error)
        return future

    def add_signal_handler(  # type: ignore[override]  # as above
        self, sig: int, callback: Callable[..., object], *args: Any
    ) -> None:
        """Signals never come."""

    def remove_signal_handler(self, sig: int) -> bool:
        return False

    # -- network -----------------------------------------------------------------------------------

    async def getaddrinfo(
        self, host: Any, port: Any, *, family: int = 0, type: int = 0, proto: int = 0, flags: int = 0
    ) -> list[Any]:
        if self.network.resolve_latency:
            await asyncio.sleep(self.network.resolve_latency)
        name = host.decode() if isinstance(host, bytes) else str(host or "0.0.0.0")
        return self.network.resolve(name, int(port or 0), family)

    async def create_server(  # type: ignore[override]  # the overloads of typeshed, in one
        self,
        protocol_factory: Callable[[], Any],
        host: str | Sequence[str] | None = None,
        port: int | None = None,
        *,
        sock: Any = None,
        reuse_port: bool | None = None,
        start_serving: bool = True,
        **_: Any,
    ) -> MemoryServer:
        if sock is not None:
            name = sock.getsockname()
            own = sock if isinstance(sock, MemorySocket) else MemorySocket(int(sock.family), name, "")
            server = MemoryServer(self.network, protocol_factory, [own], reuse_port=True)
        else:
            hosts = [host or "0.0.0.0"] if host is None or isinstance(host, str) else list(host)
            sockets = [self.network.bind(one, port or 0) for one in hosts]
            server = MemoryServer(self.network, protocol_factory, sockets, reuse_port=bool(reuse_port))
        if start_serving:
            server.begin()
        return server

    async def create_unix_server(  # type: ignore[override]  # as above
        self,
        protocol_factory: Callable[[], Any],
        path: Any = None,
        *,
        sock: Any = None,
        start_serving: bool = True,
        **_: Any,
    ) -> MemoryServer:
        address = str(path) if sock is None else str(sock.getsockname())
        own = MemorySocket(socket.AF_UNIX, address, "")
        server = MemoryServer(self.network, protocol_factory, [own])
        if start_serving:
            server.begin()
        return server

    async def create_connection(
        self,
        protocol_factory: Callable[[], Any],
        host: str | None = None,
        port: int | None = None,
        *,
        family: int = 0,
        sock: Any = None,
        local_addr: Any = None,
        ssl: Any = None,
        **_: Any,
    ) -> tuple[MemoryTransport, Any]:
        if ssl is not None:
            raise NotImplementedError("the network in memory has no TLS yet")
        if sock is not None:
            if not isinstance(sock, MemorySocket) or not sock.remote:
                raise NotImplementedError("the network in memory connects no real sockets")
            return await self.network.connect(protocol_factory, sock.remote, sock.local or None)
        infos = await self.getaddrinfo(host, port, family=family)
        errors: list[OSError] = []
        for info in infos:
            try:
                return await self.network.connect(protocol_factory, info[4], local_addr)
            except OSError as error:
                errors.append(error)
        raise errors[0]

    async def create_unix_connection(
        self,
        protocol_factory: Callable[[], Any],
        path: Any = None,
        *,
        sock: Any = None,
        ssl: Any = None,
        **_: Any,
    ) -> tuple[MemoryTransport, Any]:
        return await self.network.connect(protocol_factory, str(path))


def run(
    main: Callable[[], Coroutine[Any, Any, T]],
    *,
    seed: int = 0,
    loop: VirtualLoop | None = None,
    leaks: bool = True,
) -> T:
    """Run ``main()`` on a virtual loop to its end.

    Raises what it raises; else :class:`Leak` when tasks, servers or connections are left, or when an
    exception was seen by nobody (``leaks=False`` does without).
    """
    own = VirtualLoop(seed) if loop is None else loop
    asyncio.set_event_loop(own)
    try:
        result = own.run_until_complete(_named(main()))
        own.settle()
        if leaks:
            _check_leaks(own)
        return result
    finally:
        _close(own)


async def _named(main: Coroutine[Any, Any, T]) -> T:
    task = asyncio.current_task()
    if task is not None:
        task.set_name("main")
    return await main


def _check_leaks(loop: VirtualLoop) -> None:
    left = [f"task left: {describe_task(task)}" for task in asyncio.all_tasks(loop)]
    for servers in loop.network.servers.values():
        left += [f"server left: {server!r}" for server in servers]
    for transport in loop.network.transports.values():
        left.append(f"connection left: {transport!r}, opened at {transport.made_at}")
    left += [describe_fault(context) for context in loop.faults]
    if left:
        raise Leak("\n".join(left))


def _close(loop: VirtualLoop) -> None:
    try:
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        if tasks:
            loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        loop.run_until_complete(loop.shutdown_asyncgens())
    except Deadlock:
        pass  # a task that refuses to be cancelled has been reported as a leak
    finally:
        for servers in list(loop.network.servers.values()):
            for server in list(servers):
                server.close()
        asyncio.set_event_loop(None)
        loop.close()


def describe_task(task: "asyncio.Task[Any]") -> str:
    """The name of a task, and the innermost line of ours where it waits."""
    place = "?"
    coroutine: Any = task.get_coro()
    while coroutine is not None:
        frame = getattr(coroutine, "cr_frame", None) or getattr(coroutine, "ag_frame", None)
        if frame is not None and "/asyncio/" not in frame.f_code.co_filename:
            place = f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_name}"
        coroutine = getattr(coroutine, "cr_await", None)
    return f"{task.get_name()} at {place}"


def describe_fault(context: dict[str, Any]) -> str:
    error = context.get("exception")
    text = f"unhandled: {context.get('message')}: {error!r}"
    if isinstance(error, BaseException) and error.__traceback__ is not None:
        trace = error.__traceback__
        while trace.tb_next is not None:
            trace = trace.tb_next
        text += f" at {trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"
    return text


def _gather(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    assert isinstance(loop, VirtualLoop)
    loop.faults.append(context)
    print(describe_fault(context), file=sys.stderr)
