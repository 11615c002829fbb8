"""A filter chain at work in one worker: its filters built, its connections known."""

from collections.abc import Callable
from typing import Any

from weft.proxy.context import WorkerContext
from weft.proxy.deadlines import Deadline
from weft.proxy.listener.chain_settings import FilterChainSettings
from weft.proxy.network.connection import Connection, NetworkFilter, Terminal
from weft.proxy.network.filtered import FilteredTransport, sees_data


class RunningChain:
    """Built once; a changed chain is a new one, and this one drains."""

    def __init__(self, settings: FilterChainSettings, context: WorkerContext) -> None:
        self.settings = settings
        self.name = settings.name
        self.connections: dict[int, Connection] = {}
        self.drains: ChainDrain | None = None
        self.terminal: Terminal | None = None
        """None: the chain has no filters, and no connection lives in it."""
        self._factories: list[Callable[[], NetworkFilter]] = []
        for filter in settings.filters:
            built: Any = filter.kind.build(filter.settings, context)
            if filter.kind.terminal:
                self.terminal = built
            else:
                self._factories.append(built)

    def carry(self, connection: Connection, data: bytes) -> bool:
        """Hand ``connection`` to the filters and then to the terminal; false when a filter keeps it."""
        terminal = self.terminal
        if terminal is None:
            connection.transport.close()
            return False
        if self._factories and not self._filter(connection):
            return False
        terminal.take(connection, data)
        return True

    def _filter(self, connection: Connection) -> bool:
        """Run the filters before the terminal; those that want to see bytes go below it."""
        seeing: list[NetworkFilter] = []
        for factory in self._factories:
            filter = factory()
            connection.on_closed.append(_Farewell(filter, connection).say)
            if not filter.on_new_connection(connection):
                return False
            if sees_data(filter):
                seeing.append(filter)
        if seeing:
            connection.transport = FilteredTransport(connection, seeing)
        return True

    def drain(self) -> None:
        for connection in list(self.connections.values()):
            connection.drain()

    def close(self, reason: str) -> None:
        for connection in list(self.connections.values()):
            connection.end(reason)


class _Farewell:
    """Tells a filter that its connection is gone."""

    __slots__ = ("_connection", "_filter")

    def __init__(self, filter: NetworkFilter, connection: Connection) -> None:
        self._filter = filter
        self._connection = connection

    def say(self) -> None:
        self._filter.on_closed(self._connection)


class ChainDrain(Deadline):
    """A chain that no new connection enters; what is left at the deadline is closed."""

    def __init__(
        self, chain: RunningChain, context: WorkerContext, over: "Callable[[ChainDrain], None]"
    ) -> None:
        super().__init__(context.deadlines)
        self.chain = chain
        self._over = over

    def begin(self, until: float) -> None:
        self.chain.drains = self
        self.set(until)
        self.chain.drain()

    def emptied(self) -> None:
        """The last connection is gone."""
        self._over(self)

    def expired(self, now: float) -> None:
        self.chain.drains = None
        self.chain.close("filter_chain_removed")
        self._over(self)
