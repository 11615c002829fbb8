"""A listener at work in one worker.

Its sockets belong to the event loop; what it knows is which connections it has, which chain a new
one enters, and how many there may be.  It ends in two steps: :meth:`Listener.drain` stops accepting
and asks its connections to come to an end, :meth:`Listener.stop` closes what is left.
"""

import asyncio
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from weft.proxy.address import Address
from weft.proxy.context import WorkerContext
from weft.proxy.listener.accept import AcceptedConnection
from weft.proxy.listener.chain import ChainDrain, RunningChain
from weft.proxy.listener.filter import ListenerFilter
from weft.proxy.listener.filter_chain_match import ChainChooser, FilterChainMatcher
from weft.proxy.listener.filter_chain_tree import NO_CHAIN, ChainTree
from weft.proxy.listener.settings import ListenerFilterSettings, ListenerSettings
from weft.proxy.listener.stats import ListenerStats, WorkerListenerStats, stat_name
from weft.proxy.network.connection import Connection
from weft.proxy.network.stats import shared_group
from weft.proxy.observe.access_log import AccessLog, open_access_logs
from weft.proxy.observe.stream_info import ConnectionInfo, StreamInfo

if TYPE_CHECKING:
    from weft.proxy.listener.directory import Listeners


class Listener:
    def __init__(self, settings: ListenerSettings, context: WorkerContext, listeners: "Listeners") -> None:
        self.settings = settings
        self.context = context
        self.name = settings.name
        self.open: dict[int, Connection] = {}
        """Connections by number."""
        self.logs: list[AccessLog] = (
            open_access_logs(settings.access_logs, context) if settings.access_logs else []
        )
        self._listeners = listeners
        self._stat_prefix = f"listener.{stat_name(settings.stat_prefix or settings.address.address.text)}."
        self.stats: ListenerStats = shared_group(context.stats, self._stat_prefix, ListenerStats)
        self._register_worker_stats()
        self.filters: tuple[_Filter, ...] = tuple(
            _Filter(item, context, self._stat_prefix) for item in settings.listener_filters
        )
        self._any_disabled = any(item.disabled is not None for item in settings.listener_filters)
        self._chains: list[RunningChain] = []
        self._default: RunningChain | None = None
        self._only: RunningChain | None = None
        """The chain of every connection, when there is just one without criteria."""
        self._chooser = ChainChooser()
        self.draining_chains: list[ChainDrain] = []
        self._servers: list[asyncio.AbstractServer] = []
        self._paths: list[str] = []
        self._limit_key = f"envoy.resource_limits.listener.{settings.name}.connection_limit"
        self._fixed_local: Address | None = _fixed_local(settings)
        self._counts = settings.connections
        self._counts.begin(context.index)
        self.on_empty: Callable[[], None] | None = None
        """Called when the last connection of a retired listener is gone."""
        self._build_chains(settings)

    def __repr__(self) -> str:
        return f"Listener({self.name!r}, {self.settings.address.address.text}, connections={len(self.open)})"

    # -- life ------------------------------------------------------------------------------------

    async def start(self, *sockets: socket.socket) -> None:
        """Accept on ``sockets`` (one per address); without any, on sockets that the loop opens itself."""
        if not self.settings.bind_to_port:
            return
        loop = self.context.loop
        backlog = self.settings.backlog
        if sockets:
            for sock in sockets:
                # The loop closes what it is given; the giver keeps its own.
                own = sock.dup()
                own.setblocking(False)
                make = loop.create_unix_server if own.family == socket.AF_UNIX else loop.create_server
                self._servers.append(await make(self.accepted, sock=own, backlog=backlog))
            return
        for item in self.settings.addresses:
            address = item.address
            if address.is_ip:
                server = await loop.create_server(
                    self.accepted,
                    address.ip,
                    address.port,
                    backlog=backlog,
                    reuse_port=self.settings.reuse_port,
                )
            else:
                path = "\0" + address.path[1:] if address.path.startswith("@") else address.path
                server = await loop.create_unix_server(self.accepted, path, backlog=backlog)
            self._servers.append(server)

    def accepted(self) -> Any:
        """The loop's protocol factory."""
        return AcceptedConnection(self)

    @property
    def accepting(self) -> bool:
        return bool(self._servers) or not self.settings.bind_to_port

    @property
    def connections(self) -> int:
        return len(self.open)

    @property
    def sockets(self) -> list[Any]:
        """Listening sockets, for whoever wants to know the ports."""
        return [sock for server in self._servers for sock in getattr(server, "sockets", ())]

    def follow(self, predecessor: "Listener") -> None:
        """Count connections together with the listener that this one replaces, in all workers."""
        self._counts = predecessor._counts

    def stop_accepting(self) -> None:
        for server in self._servers:
            server.close()
        self._servers.clear()

    def drain(self) -> None:
        """Accept no more, and ask the connections to end when they can do so politely."""
        self.stop_accepting()
        for connection in list(self.open.values()):
            connection.drain()

    def stop(self) -> None:
        """Close everything now."""
        self.stop_accepting()
        for connection in list(self.open.values()):
            connection.end("listener_closed")
        for draining in self.draining_chains:
            draining.clear()
        self.draining_chains.clear()

    def forget(self) -> None:
        """Out of the directory: the worker's own stats go, the totals stay."""
        for group in self.context.stats.groups_of(self._worker_prefix()):
            self.context.stats.forget(self._worker_prefix(), group)

    # -- filter chains ---------------------------------------------------------------------------

    def update(self, settings: ListenerSettings, drain_time: float = 600.0) -> int:
        """Take new filter chains (``settings.changed_only_in_chains``); unchanged ones are not touched.

        Connections of chains that are gone have ``drain_time`` seconds to end.  Returns how many
        chains drain.
        """
        if not self.settings.changed_only_in_chains(settings):
            raise ValueError(f"listener '{self.name}' has changed in more than its filter chains")
        old = [*self._chains, *([self._default] if self._default is not None else [])]
        self._build_chains(settings)
        self.settings = settings
        kept = {id(chain) for chain in (*self._chains, self._default)}
        until = self.context.clock.now() + drain_time
        gone = [chain for chain in old if id(chain) not in kept]
        for chain in gone:
            if not chain.connections:
                continue
            draining = ChainDrain(chain, self.context, self._drained)
            self.draining_chains.append(draining)
            draining.begin(until)
        return len(gone)

    def _drained(self, draining: ChainDrain) -> None:
        draining.clear()
        if draining in self.draining_chains:
            self.draining_chains.remove(draining)
        self._listeners.count_draining()

    def _build_chains(self, settings: ListenerSettings) -> None:
        """Reuse what runs; all or nothing, so that a chain that cannot be built changes nothing."""
        known = {
            chain.settings.message_bytes: chain for chain in self._chains if chain.settings.message_bytes
        }
        chains = [
            known.get(item.message_bytes) or RunningChain(item, self.context)
            for item in settings.filter_chains
        ]
        default = self._default
        wanted = settings.default_filter_chain
        if wanted is None:
            default = None
        elif (
            default is None
            or default.settings.message_bytes != wanted.message_bytes
            or not wanted.message_bytes
        ):
            default = RunningChain(wanted, self.context)
        self._chains, self._default = chains, default
        self._chooser = self._chooser_of(settings)
        if self._chooser.catch_all >= 0:
            self._only = chains[0]
        else:
            self._only = default if not chains and settings.chain_tree is None else None

    def _chooser_of(self, settings: ListenerSettings) -> ChainChooser:
        chains = settings.filter_chains
        if settings.chain_tree is not None:
            names = tuple(item.name for item in chains)
            return ChainTree(settings.chain_tree, names, self.context.runtime)
        return FilterChainMatcher(tuple(item.match for item in chains))

    def choose(self, info: ConnectionInfo) -> RunningChain | None:
        """The chain of a new connection; None when it matches none."""
        if self._only is not None:
            return self._only
        index = self._chooser.find(info)
        if index >= 0:
            return self._chains[index]
        return None if index == NO_CHAIN else self._default

    # -- for connections -------------------------------------------------------------------------

    def admit(self) -> bool:
        """Whether there is room for one more connection; counts it when there is."""
        context, settings = self.context, self.settings
        if not settings.ignore_global_limit and not self._listeners.has_room():
            self.stats.downstream_global_cx_overflow += 1
            return False
        values = context.runtime.values
        if values and self._limit_key in values:
            limit = context.runtime.integer(self._limit_key, -1)
            if limit >= 0 and self._counts.total() >= limit:
                self.stats.downstream_cx_overflow += 1
                return False
        self._counts.count(context.index, 1)
        if not settings.ignore_global_limit:
            self._listeners.connection_began()
        return True

    def release(self) -> None:
        """A connection that was admitted is over, or goes to another listener."""
        self._counts.count(self.context.index, -1)
        if not self.settings.ignore_global_limit:
            self._listeners.connection_ended()

    def describe(self, transport: Any) -> ConnectionInfo:
        """What is known of a connection when it has just been accepted."""
        remote = Address.of(transport.get_extra_info("peername"))
        local = self._fixed_local
        if local is None:
            local = self._local_of(transport.get_extra_info("sockname"))
        info = ConnectionInfo(self.context.numbers.next(), self.context.clock.now(), remote, local)
        self.name_in(info)
        return info

    def name_in(self, info: ConnectionInfo) -> None:
        settings = self.settings
        info.listener_name = settings.name
        info.listener_address = settings.address.address.text
        info.listener_metadata = settings.metadata
        info.listener_stat_prefix = self._stat_prefix
        info.traffic_direction = settings.traffic_direction

    def _local_of(self, sockname: Any) -> Address:
        if not self.settings.address.address.is_ip and not sockname:
            return self.settings.address.address
        return Address.of(sockname)

    def filters_for(self, info: ConnectionInfo) -> tuple[ListenerFilter, ...]:
        if not self._any_disabled:
            return tuple([filter.factory() for filter in self.filters])
        port = info.local.port
        return tuple(
            [
                filter.factory()
                for filter in self.filters
                if filter.settings.disabled is None or not filter.settings.disabled.matches(port)
            ]
        )

    def listener_of(self, address: Address) -> "Listener | None":
        """The listener of an original destination."""
        return self._listeners.find_by_address(address)

    def log(self, info: ConnectionInfo, stream: StreamInfo | None, flag: int = 0, details: str = "") -> None:
        """The listener's own access log, when a connection ends; ``stream`` if it was one."""
        if not self.logs:
            return
        if stream is None:
            stream = StreamInfo(info, info.start)
            stream.bytes_received = stream.wire_received = info.bytes_received
            stream.bytes_sent = stream.wire_sent = info.bytes_sent
            stream.flags = flag
            stream.details = details
        stream.end = self.context.clock.now()
        stream.access_log_type = "NotSet"
        for log in self.logs:
            log.log(stream)

    # -- stats -----------------------------------------------------------------------------------

    def _worker_prefix(self) -> str:
        return f"{self._stat_prefix}worker_{self.context.index}."

    def _register_worker_stats(self) -> None:
        prefix = self._worker_prefix()
        if not self.context.stats.groups_of(prefix):
            self.context.stats.register(prefix, WorkerListenerStats(self.stats))


class _Filter:
    """A listener filter, built for this worker."""

    __slots__ = ("factory", "settings")

    def __init__(self, settings: ListenerFilterSettings, context: WorkerContext, scope: str) -> None:
        self.settings = settings
        self.factory: Callable[[], ListenerFilter] = settings.kind.build(settings.settings, context, scope)


def _fixed_local(settings: ListenerSettings) -> Address | None:
    """The local address of every connection, where it does not depend on the connection."""
    if len(settings.addresses) > 1:
        return None
    address = settings.address.address
    if not address.is_ip:
        return address
    if settings.transparent or not address.port or address.ip in ("0.0.0.0", "::") or "%" in address.ip:
        return None
    return None if address.ip.startswith("::ffff:") else address
