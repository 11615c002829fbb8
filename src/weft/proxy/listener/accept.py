"""From an accepted socket to a filter chain.

One :class:`AcceptedConnection` per connection is the first protocol of its transport.  It runs the
listener filters on the first bytes, has the listener choose the chain, and then the chain's
terminal is the protocol.  Without listener filters all of this happens inside ``connection_made``.

What is left of it then is the connection's place in the listener's counts.
"""

from typing import TYPE_CHECKING, Any, Final

from weft.proxy.deadlines import Deadline
from weft.proxy.listener.filter import CLOSE, CONTINUE, WAIT, Accepted, ListenerFilter
from weft.proxy.network.connection import Connection, reset
from weft.proxy.observe.flags import NO_ROUTE_FOUND
from weft.proxy.observe.logging import logger
from weft.proxy.observe.stream_info import ConnectionInfo

if TYPE_CHECKING:
    from weft.proxy.listener.chain import RunningChain
    from weft.proxy.listener.listener import Listener

_LOG: Final = logger("connection")

MOST_PEEKED: Final = 128 * 1024
"""Bytes that listener filters may hold back; the built-in ones decide long before."""

# What the object is at the moment.
FILTERING: Final = 0
"""Listener filters are at work."""
CARRIED: Final = 1
"""The terminal has the connection, or a network filter keeps it."""
OVER: Final = 2


class FiltersTimeout(Deadline):
    """``listener_filters_timeout`` of one connection whose filters wait for bytes."""

    def __init__(self, accepted: "AcceptedConnection") -> None:
        super().__init__(accepted.listener.context.deadlines)
        self._accepted = accepted

    def expired(self, now: float) -> None:
        self._accepted.timed_out()


class AcceptedConnection(Accepted):
    """The protocol of a transport that has no filter chain yet."""

    def __init__(self, listener: "Listener") -> None:
        super().__init__(_NOT_YET, None)
        self.listener = listener
        self.state: int = FILTERING
        self.connection: Connection | None = None
        self.chain: RunningChain | None = None
        self._filters: tuple[ListenerFilter, ...] = ()
        self._at: int = 0
        """The filter that is waiting."""
        self._handed_off: bool = False
        self._timeout: FiltersTimeout | None = None

    # -- what the transport calls ----------------------------------------------------------------

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        listener = self.listener
        if not listener.admit():
            self.state = OVER
            transport.close()
            return
        self.info = listener.describe(transport)
        if listener.filters:
            self._begin()
        else:
            self._attach()

    def data_received(self, data: bytes) -> None:
        if self.state == FILTERING:
            self.buffer = self.buffer + data if self.buffer else data
            if self._timeout is not None:
                self._go_on()
        else:
            # A network filter keeps the connection (or it is closing): what comes is not wanted.
            self.transport.pause_reading()

    def eof_received(self) -> bool:
        """An end before the filters are through is the end."""
        if self.state == FILTERING:
            self.listener.stats.downstream_listener_filter_remote_close += 1
            self._leave_filters()
            self._drop()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        if self.state == FILTERING:
            if exc is None:
                self.listener.stats.downstream_listener_filter_remote_close += 1
            else:
                self.listener.stats.downstream_listener_filter_error += 1
            self._leave_filters()
            self.listener.release()
        self.state = OVER
        if self.connection is not None:
            self.connection.closed()

    def pause_writing(self) -> None:
        """Nothing is written from here."""

    def resume_writing(self) -> None:
        """Nothing is written from here."""

    # -- listener filters ------------------------------------------------------------------------

    def _begin(self) -> None:
        """Start with the first filter of ``self.listener``."""
        listener = self.listener
        listener.stats.downstream_pre_cx_active += 1
        self.traffic_direction = listener.settings.traffic_direction
        self._filters = listener.filters_for(self.info)
        self._at = 0
        self._run(False)

    def _go_on(self) -> None:
        """More bytes for the filter that waits."""
        self._run(True)

    def _run(self, resumed: bool) -> None:
        filters = self._filters
        while self._at < len(filters):
            filter = filters[self._at]
            try:
                verdict = filter.on_data(self) if resumed else filter.on_accept(self)
                if verdict == WAIT and not resumed and self.buffer:
                    verdict = filter.on_data(self)
            except Exception:
                _LOG.exception(
                    "a listener filter failed; the connection from %s is closed", self.info.remote.text
                )
                self.listener.stats.downstream_listener_filter_error += 1
                verdict = CLOSE
            if verdict == WAIT and len(self.buffer) <= MOST_PEEKED:
                if self._timeout is None:
                    self._timeout = FiltersTimeout(self)
                    seconds = self.listener.settings.filters_timeout
                    if seconds > 0:
                        self._timeout.set(self.listener.context.clock.now() + seconds)
                return
            if verdict != CONTINUE:
                self._leave_filters()
                self._drop()
                return
            resumed = False
            self._at += 1
        self._leave_filters()
        self._hand_off_or_attach()

    def timed_out(self) -> None:
        """The filters have waited too long."""
        if self.state != FILTERING:
            return
        settings = self.listener.settings
        self.listener.stats.downstream_pre_cx_timeout += 1
        self._leave_filters()
        if settings.continue_on_filters_timeout:
            self._hand_off_or_attach()
        else:
            self._drop()

    def _leave_filters(self) -> None:
        self.listener.stats.downstream_pre_cx_active -= 1
        if self._timeout is not None:
            self._timeout.clear()
            self._timeout = None

    def _drop(self) -> None:
        """Refuse the connection; who refuses has counted it."""
        self.state = OVER
        self.listener.release()
        if self.buffer:
            reset(self.transport)  # as from whoever closes a socket with unread bytes
        else:
            self.transport.close()

    # -- the filter chain ------------------------------------------------------------------------

    def _hand_off_or_attach(self) -> None:
        listener = self.listener
        if listener.settings.hand_off and self.info.local_restored and not self._handed_off:
            other = listener.listener_of(self.info.local)
            if other is not None and other is not listener:
                self._handed_off = True
                listener.release()
                self.listener = other
                if not other.admit():
                    self.state = OVER
                    self.transport.close()
                    return
                other.name_in(self.info)
                if other.filters:
                    self._begin()
                    return
        self._attach()

    def _attach(self) -> None:
        """Choose the filter chain and hand over."""
        listener, info = self.listener, self.info
        if not info.transport_protocol:
            info.transport_protocol = "raw_buffer"
        chain = listener.choose(info)
        if chain is None:
            listener.stats.no_filter_chain_match += 1
            listener.log(info, None, NO_ROUTE_FOUND, "filter_chain_not_found")
            self._drop()
            return
        self.state = CARRIED
        self.chain = chain
        info.filter_chain_name = chain.name
        data, self.buffer = self.buffer, b""
        transport = self.transport
        limit = listener.settings.buffer_limit
        if limit:
            transport.set_write_buffer_limits(high=limit, low=limit // 2)
        connection = Connection(info, transport, limit)
        self.connection = connection
        connection.on_closed.append(self._gone)
        stats = listener.stats
        stats.downstream_cx_total += 1
        stats.downstream_cx_active += 1
        listener.open[info.id] = connection
        chain.connections[info.id] = connection
        try:
            chain.carry(connection, data)
        except Exception:
            _LOG.exception("a network filter failed; the connection from %s is closed", info.remote.text)
            transport.close()

    def _gone(self) -> None:
        """The connection is over: take it out of all counts."""
        listener, info = self.listener, self.info
        stats = listener.stats
        stats.downstream_cx_active -= 1
        stats.downstream_cx_destroy += 1
        stats.downstream_cx_length_ms.record(int((listener.context.clock.now() - info.start) * 1000.0))
        if listener.logs:
            listener.log(info, self.connection.stream_info if self.connection is not None else None)
        listener.release()
        listener.open.pop(info.id, None)
        chain = self.chain
        if chain is not None:
            chain.connections.pop(info.id, None)
            if chain.drains is not None and not chain.connections:
                chain.drains.emptied()
        if listener.on_empty is not None and not listener.open:
            listener.on_empty()


def _nobody() -> ConnectionInfo:
    from weft.proxy.address import NOWHERE

    return ConnectionInfo(0, 0.0, NOWHERE, NOWHERE)


_NOT_YET: Final = _nobody()
"""Stands in until ``connection_made``; never written to."""
