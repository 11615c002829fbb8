"""A whole worker on the running loop, from the text of a bootstrap.

    async with proxy(YAML) as running:
        client = await running.connect("main")

What the configuration names lives on the loop's network: clusters are :class:`~weft.testing.peer.Upstream`
objects that the test lets listen on the same addresses.  Everything is the worker that production runs.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from random import Random
from typing import Any

from weft.api.load import load_bootstrap
from weft.proxy.assemble import server_settings
from weft.proxy.extensions import HttpFilterKind
from weft.proxy.http.filter import HttpFilter
from weft.proxy.http.settings import HcmSettings, HttpFilterSettings
from weft.proxy.listener.chain_settings import FilterChainSettings
from weft.proxy.listener.settings import ListenerSettings
from weft.proxy.process.options import Options
from weft.proxy.process.worker import Worker
from weft.testing.loop import Leak, VirtualLoop
from weft.testing.peer import WITHIN, Client


class _Bugs(logging.Handler):
    """What the proxy logs with a traceback: by its own rule that is a bug."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and record.exc_info[1] is not None:
            self.found.append(logging.Formatter().format(record))


class RunningProxy:
    def __init__(self, worker: Worker, loop: VirtualLoop, bugs: list[str]) -> None:
        self.worker = worker
        self.loop = loop
        self.bugs = bugs
        """Tracebacks that were logged; what is in here at the end fails the test."""

    def address(self, listener: str) -> tuple[str, int]:
        for one in self.worker.listeners.all():
            if one.name == listener:
                name = one.sockets[0].getsockname()
                return str(name[0]), int(name[1])
        raise KeyError(f"no listener {listener!r}: {[one.name for one in self.worker.listeners.all()]}")

    async def connect(
        self,
        listener: str,
        *,
        local: tuple[str, int] | None = None,
        within: float = WITHIN,
        reading: bool = True,
    ) -> Client:
        host, port = self.address(listener)
        return await Client.connect(host, port, local=local, within=within, reading=reading)

    @property
    def connections(self) -> int:
        """Downstream connections."""
        return self.worker.connections

    def stats(self) -> dict[str, int]:
        """Counters and gauges by name; those at 0 are left out."""
        snapshot = self.worker.snapshot()
        both = {**snapshot.counters, **snapshot.gauges}
        return {name: value for name, value in both.items() if value}

    def stat(self, name: str) -> int:
        snapshot = self.worker.snapshot()
        return snapshot.counters.get(name, snapshot.gauges.get(name, 0))


@asynccontextmanager
async def proxy(
    text: str,
    *,
    seed: int = 0,
    options: Options | None = None,
    runtime: dict[str, Any] | None = None,
    http_filters: Sequence[Callable[[], HttpFilter]] = (),
) -> AsyncIterator[RunningProxy]:
    """Start; at the end stop at once.  ``http_filters`` come first in every connection manager.

    Raises ConfigError for a configuration that cannot be used, and :class:`Leak` at the end when the proxy
    met a bug of its own.
    """
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop), "needs a VirtualLoop, see weft.testing.run"
    loaded = load_bootstrap(None, text)
    settings = server_settings(loaded.bootstrap, loaded.problems.where, options)
    loaded.problems.raise_if_any()
    if http_filters:
        settings = replace(
            settings, listeners=tuple(_with_filters(one, http_filters) for one in settings.listeners)
        )
    worker = Worker(settings, loop, options=options, random=Random(seed), wall=loop.wall, runtime=runtime)
    bugs = _Bugs()
    log = logging.getLogger()
    log.addHandler(bugs)
    try:
        await worker.start({})
        yield RunningProxy(worker, loop, bugs.found)
    finally:
        await worker.stop()
        await asyncio.sleep(0)
        log.removeHandler(bugs)
    if bugs.found:
        raise Leak("the proxy met bugs:\n" + "\n".join(bugs.found))


def _with_filters(
    listener: ListenerSettings, http_filters: Sequence[Callable[[], HttpFilter]]
) -> ListenerSettings:
    added = tuple(
        HttpFilterSettings(name=f"test-{i}", kind=_kind_of(build), settings=None)
        for i, build in enumerate(http_filters)
    )

    def changed(chain: FilterChainSettings) -> FilterChainSettings:
        filters = []
        for one in chain.filters:
            if isinstance(one.settings, HcmSettings):
                one = replace(one, settings=replace(one.settings, filters=added + one.settings.filters))
            filters.append(one)
        return replace(chain, filters=tuple(filters))

    return replace(listener, filter_chains=tuple(changed(chain) for chain in listener.filter_chains))


def _kind_of(build: Callable[[], HttpFilter]) -> HttpFilterKind:
    """A kind that has no configuration: its factory is given."""
    return HttpFilterKind(
        name="test",
        type="",
        settings=lambda message, where: None,
        build=lambda settings, context, prefix: build,
    )
