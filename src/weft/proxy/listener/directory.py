"""The listeners of one worker: by name, and by the address that they answer for.

``apply`` takes a new or changed listener, ``remove`` one that is gone.  What was replaced drains: it
accepts no more, its connections have the drain time to end, and are closed then.
"""

import resource
import socket
from collections.abc import Sequence
from typing import Final

from weft.proxy.address import Address
from weft.proxy.context import WorkerContext
from weft.proxy.deadlines import Deadline
from weft.proxy.listener.listener import Listener
from weft.proxy.listener.settings import ListenerSettings
from weft.proxy.listener.stats import ListenerManagerStats
from weft.proxy.network.stats import shared_group
from weft.proxy.worker_counts import WorkerCounts

DRAIN_TIME: Final = 600.0
"""Seconds, Envoy's default of ``--drain-time-s``."""
GLOBAL_LIMIT_KEY: Final = "overload.global_downstream_max_connections"
_RESERVED_DESCRIPTORS: Final = 128
"""For the admin page, logs, main and upstream connections that stand."""


class ListenerDrain(Deadline):
    """A replaced listener; what is left of its connections at the deadline is closed."""

    def __init__(self, listener: Listener, listeners: "Listeners") -> None:
        super().__init__(listener.context.deadlines)
        self.listener = listener
        self._listeners = listeners

    def emptied(self) -> None:
        """The last connection is gone."""
        self.clear()
        self._listeners.drained(self)

    def expired(self, now: float) -> None:
        self.listener.on_empty = None
        self.listener.stop()
        self._listeners.drained(self)


class Listeners:
    """``global_connections`` counts those of all workers; main makes it before it forks."""

    def __init__(
        self,
        context: WorkerContext,
        *,
        drain_time: float = DRAIN_TIME,
        global_connections: WorkerCounts | None = None,
    ) -> None:
        self.context = context
        self.drain_time = drain_time
        # All workers know the same, and their stats are added up: only the first one tells.
        self.stats = ListenerManagerStats()
        if context.index == 0:
            self.stats = shared_group(context.stats, "listener_manager.", ListenerManagerStats)
            self.stats.workers_started = 1
        self._by_name: dict[str, Listener] = {}
        self._by_address: dict[str, Listener] = {}
        self._draining: list[ListenerDrain] = []
        self._mine = 0
        """Connections of this worker that count towards the global limit."""
        self._all = global_connections
        if global_connections is not None:
            global_connections.begin(context.index)
        self._most = _descriptor_limit()

    # -- life ------------------------------------------------------------------------------------

    async def apply(self, settings: ListenerSettings, sockets: Sequence[socket.socket] = ()) -> Listener:
        """Start a new listener, or bring the one of that name to ``settings``.

        ``sockets`` stay the caller's.  A changed listener of the same addresses needs none: it
        goes on with those of its predecessor.  Raises OSError, having changed nothing.
        """
        old = self._by_name.get(settings.name)
        if old is not None:
            if old.settings.message_bytes == settings.message_bytes and settings.message_bytes:
                return old
            if old.settings.changed_only_in_chains(settings):
                old.update(settings, self.drain_time)
                self.stats.listener_in_place_updated += 1
                self.count_draining()
                return old
        listener = Listener(settings, self.context, self)
        inherited: list[socket.socket] = []
        try:
            if old is not None and not sockets and settings.addresses == old.settings.addresses:
                inherited = [_dup(sock) for sock in old.sockets if hasattr(sock, "dup")]
                if not inherited:
                    old.stop_accepting()  # a memory network knows no second socket of one address
            await listener.start(*(sockets or inherited))
        except OSError:
            listener.stop()
            self.stats.listener_create_failure += 1
            raise
        finally:
            for sock in inherited:
                sock.close()
        if old is not None:
            listener.follow(old)
            self._retire(old)
            self.stats.listener_modified += 1
        else:
            self.stats.listener_added += 1
        self.stats.listener_create_success += 1
        self._by_name[settings.name] = listener
        for item in settings.addresses:
            self._by_address[item.address.text] = listener
        self._count()
        return listener

    def remove(self, name: str) -> bool:
        """Drain the listener ``name``; false when there is none."""
        listener = self._by_name.pop(name, None)
        if listener is None:
            return False
        self._retire(listener)
        listener.forget()
        self.stats.listener_removed += 1
        self._count()
        return True

    def drain(self, *, inbound_only: bool = False) -> None:
        """Accept no more anywhere, and ask all connections to end."""
        for listener in self._by_name.values():
            if inbound_only and listener.settings.traffic_direction != "INBOUND":
                continue
            if listener.accepting and listener.settings.bind_to_port:
                self.stats.listener_stopped += 1
            listener.drain()

    def stop_accepting(self, *, inbound_only: bool = False) -> None:
        """Accept no more; connections go on."""
        for listener in self._by_name.values():
            if not inbound_only or listener.settings.traffic_direction == "INBOUND":
                if listener.accepting and listener.settings.bind_to_port:
                    self.stats.listener_stopped += 1
                listener.stop_accepting()

    async def stop(self) -> None:
        """Close everything now."""
        for listener in self.all():
            listener.stop()
        for drain in self._draining:
            drain.clear()
            drain.listener.on_empty = None
            drain.listener.stop()
        self._draining.clear()

    def _retire(self, listener: Listener) -> None:
        for item in listener.settings.addresses:
            if self._by_address.get(item.address.text) is listener:
                del self._by_address[item.address.text]
        listener.drain()
        if listener.connections:
            drain = ListenerDrain(listener, self)
            self._draining.append(drain)
            listener.on_empty = drain.emptied
            drain.set(self.context.clock.now() + self.drain_time)

    def drained(self, drain: ListenerDrain) -> None:
        """From its deadline."""
        if drain in self._draining:
            self._draining.remove(drain)
        self.count_draining()

    # -- finding ---------------------------------------------------------------------------------

    def get(self, name: str) -> Listener | None:
        return self._by_name.get(name)

    def names(self) -> list[str]:
        return list(self._by_name)

    def all(self) -> list[Listener]:
        return list(self._by_name.values())

    def find_by_address(self, address: Address) -> Listener | None:
        """The listener of exactly ``address``, else that of its port on any address."""
        listener = self._by_address.get(address.text)
        if listener is not None or not address.is_ip:
            return listener
        if address.is_v6:
            return self._by_address.get(f"[::]:{address.port}")
        listener = self._by_address.get(f"0.0.0.0:{address.port}")
        if listener is None:
            listener = self._by_address.get(f"[::]:{address.port}")
            if listener is not None and not any(item.ipv4_compat for item in listener.settings.addresses):
                return None
        return listener

    @property
    def connections(self) -> int:
        """Downstream connections of this worker, those of draining listeners included."""
        return sum(listener.connections for listener in self._by_name.values()) + sum(
            drain.listener.connections for drain in self._draining
        )

    # -- for connections -------------------------------------------------------------------------

    def has_room(self) -> bool:
        """Below the global limit, and below what the worker has descriptors for."""
        if self._mine >= self._most:
            return False
        values = self.context.runtime.values
        if values and GLOBAL_LIMIT_KEY in values:
            limit = self.context.runtime.integer(GLOBAL_LIMIT_KEY, -1)
            if limit >= 0:
                return (self._mine if self._all is None else self._all.total()) < limit
        return True

    def connection_began(self) -> None:
        self._mine += 1
        if self._all is not None:
            self._all.count(self.context.index, 1)

    def connection_ended(self) -> None:
        self._mine -= 1
        if self._all is not None:
            self._all.count(self.context.index, -1)

    # -- stats -----------------------------------------------------------------------------------

    def _count(self) -> None:
        self.stats.total_listeners_active = len(self._by_name)
        self.count_draining()

    def count_draining(self) -> None:
        self.stats.total_listeners_draining = len(self._draining)
        self.stats.total_filter_chains_draining = sum(
            len(listener.draining_chains) for listener in self._by_name.values()
        )


def _descriptor_limit() -> int:
    """Connections that one worker may accept: the file descriptors it may have, less a reserve."""
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if soft == resource.RLIM_INFINITY:
        return 1 << 40
    return max(16, soft - _RESERVED_DESCRIPTORS)


def _dup(sock: socket.socket) -> socket.socket:
    return sock.dup()
