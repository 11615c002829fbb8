"""One connection to a host: from the first SYN to its end, as limits and stats see it.

:func:`connect_host` starts it through the loop and returns a :class:`Link`, which outlives the
connecting: it holds the connection's place in the limits and in the ``cx`` stats until somebody
says that it is over.  The protocol that carries the bytes belongs to the caller (an HTTP/1 codec,
``tcp_proxy``), which owes the link two calls::

    def connection_made(self, transport):
        self.link.connected(transport)
    def connection_lost(self, exc):
        self.link.closed(local=self.closing, active=self.busy)

Expected outcomes are values: a connection, or a :class:`Failure` handed to ``on_failure`` (never
from inside ``connect_host``).  There are no retries and no second address here.
"""

import asyncio
import errno
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

from weft.proxy.address import Address
from weft.proxy.context import WorkerContext
from weft.proxy.deadlines import Deadline
from weft.proxy.upstream.host import Host

if TYPE_CHECKING:
    from weft.proxy.upstream.bind import BindSettings, KeepaliveSettings
    from weft.proxy.upstream.cluster import Cluster


class Reason(Enum):
    """Why there is no connection."""

    TIMEOUT = "timeout"
    REFUSED = "refused"
    UNREACHABLE = "unreachable"
    LOCAL = "local"
    """Our own side: the source address could not be bound."""
    OTHER = "other"


RESET_REASONS: Final[dict[Reason, str]] = {
    Reason.TIMEOUT: "connection timeout",
    Reason.REFUSED: "remote connection failure",
    Reason.UNREACHABLE: "remote connection failure",
    Reason.LOCAL: "local connection failure",
    Reason.OTHER: "remote connection failure",
}
"""As local replies and response-code details name it (``reset reason: ...``)."""


@dataclass(frozen=True, slots=True)
class Failure:
    """How connecting failed."""

    reason: Reason
    text: str
    """Envoy's ``%UPSTREAM_TRANSPORT_FAILURE_REASON%``; empty for a timeout."""

    @property
    def reset_reason(self) -> str:
        return RESET_REASONS[self.reason]


TIMED_OUT: Final = Failure(Reason.TIMEOUT, "")

CONNECTING: Final = 0
CONNECTED: Final = 1
OVER: Final = 2


def connect_host(
    context: WorkerContext,
    cluster: "Cluster",
    host: Host,
    protocol_factory: Callable[[], Any],
    on_failure: Callable[[Failure], None],
    priority: int = 0,
) -> "Link":
    """Start connecting to ``host``; count it.  Ask ``cluster.limits[priority].can_connect()`` first.

    ``protocol_factory`` is the loop's: called once, maybe before the connection stands.
    """
    link = Link(context, cluster, host, protocol_factory, on_failure, priority)
    link.start()
    return link


class Link(Deadline):
    """A connection's place in limits and stats.  As a deadline it is the connect timeout."""

    def __init__(
        self,
        context: WorkerContext,
        cluster: "Cluster",
        host: Host,
        protocol_factory: Callable[[], Any],
        on_failure: Callable[[Failure], None],
        priority: int,
    ) -> None:
        super().__init__(context.deadlines)
        self.context = context
        self.cluster = cluster
        self.host = host
        self.limits = cluster.limits[priority]
        self.state: int = CONNECTING
        self.began: float = context.clock.now()
        """Loop time of the first SYN."""
        self._protocol_factory = protocol_factory
        self._on_failure = on_failure
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        stats, host = self.cluster.stats, self.host.stats
        stats.upstream_cx_total += 1
        stats.upstream_cx_active += 1
        host.cx_total += 1
        host.cx_active += 1
        self.limits.connection_began()
        self.set(self.began + self.cluster.settings.connect_timeout)
        self._task = self.context.loop.create_task(self._connect())

    def connected(self, transport: Any) -> None:
        """From ``connection_made``: the connection stands."""
        if self.state != CONNECTING:
            return
        self.state = CONNECTED
        self.drop()
        settings = self.cluster.settings
        now = self.context.clock.now()
        self.cluster.stats.upstream_cx_connect_ms.record(_milliseconds(now - self.began))
        limit = settings.per_connection_buffer_limit
        transport.set_write_buffer_limits(high=limit if limit else 1 << 40)
        if settings.keepalive is not None:
            _keep_alive(transport, settings.keepalive)

    def closed(self, local: bool, active: bool = False) -> None:
        """From ``connection_lost``: it is over.  ``local``: we closed it; ``active``: with a request under way."""
        if self.state == OVER:
            return
        self.state = OVER
        self.drop()
        stats, host = self.cluster.stats, self.host.stats
        stats.upstream_cx_destroy += 1
        if local:
            stats.upstream_cx_destroy_local += 1
        else:
            stats.upstream_cx_destroy_remote += 1
        if active:
            stats.upstream_cx_destroy_with_active_rq += 1
            if local:
                stats.upstream_cx_destroy_local_with_active_rq += 1
            else:
                stats.upstream_cx_destroy_remote_with_active_rq += 1
        stats.upstream_cx_active -= 1
        host.cx_active -= 1
        stats.upstream_cx_length_ms.record(_milliseconds(self.context.clock.now() - self.began))
        self.limits.connection_ended()

    def cancel(self) -> None:
        """Nobody wants it any more.  Does nothing once it stands: then close the transport."""
        if self.state == CONNECTING:
            self._stop()
            self.closed(local=True)

    def expired(self, now: float) -> None:
        """The connect timeout has run out."""
        if self.state == CONNECTING:
            self._stop()
            self._fail(TIMED_OUT)

    def _stop(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def _fail(self, failure: Failure) -> None:
        stats = self.cluster.stats
        stats.upstream_cx_connect_fail += 1
        self.host.stats.cx_connect_fail += 1
        if failure is TIMED_OUT:
            stats.upstream_cx_connect_timeout += 1
        elif failure.reason is Reason.LOCAL:
            stats.bind_errors += 1
        self.closed(local=failure is TIMED_OUT or failure.reason is Reason.LOCAL)
        self._on_failure(failure)

    async def _connect(self) -> None:
        address = self.host.address
        bind = self.cluster.settings.bind
        try:
            if not address.is_ip:
                path = "\0" + address.path[1:] if address.path.startswith("@") else address.path
                transport, _ = await self.context.loop.create_unix_connection(self._protocol_factory, path)
            elif bind is None:
                transport, _ = await self.context.loop.create_connection(
                    self._protocol_factory, address.ip, address.port
                )
            else:
                transport, _ = await self._connect_bound(bind)
        except OSError as error:
            if self.state == CONNECTING:
                source = bind.source_for(address) if bind is not None and address.is_ip else None
                self._fail(failure_of(error, address, source))
            return
        finally:
            self._task = None
        if self.state == CONNECTING:
            self.connected(transport)

    async def _connect_bound(self, bind: "BindSettings") -> Any:
        """From a given source address, or with socket options that must be there before the SYN."""
        loop, address = self.context.loop, self.host.address
        source = bind.source_for(address)
        if not bind.socket_options:
            local = (source.ip, source.port) if source is not None else None
            return await loop.create_connection(
                self._protocol_factory, address.ip, address.port, local_addr=local
            )
        sock = socket.socket(socket.AF_INET6 if address.is_v6 else socket.AF_INET, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for option in bind.socket_options:
                sock.setsockopt(option.level, option.name, option.value)
            if source is not None:
                try:
                    sock.bind((source.ip, source.port))
                except OSError as error:
                    raise OSError(error.errno, f"{_BIND} {source.text}") from error
            await loop.sock_connect(sock, (address.ip, address.port))
            return await loop.create_connection(self._protocol_factory, sock=sock)
        except BaseException:
            sock.close()
            raise


_BIND: Final = "error while attempting to bind on address"
"""How the loops, and we, say that it is the source address that cannot be used."""
_DELAYED: Final = frozenset(
    (errno.ECONNREFUSED, errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ECONNRESET, errno.ECONNABORTED)
)
"""What the network answers later; everything else the kernel says at once."""


def failure_of(error: OSError, address: Address, source: Address | None = None) -> Failure:
    """From what the loop raised to why, in Envoy's words.  ``source``: the address we were to bind."""
    number = error.errno or 0
    text = os.strerror(number) if number else str(error)
    if source is not None and (number == errno.EADDRNOTAVAIL or _BIND in str(error)):
        # uvloop finds out only when it connects.
        return Failure(Reason.LOCAL, f"failed to bind to {source.text}: {text}")
    if number == errno.ECONNREFUSED:
        reason = Reason.REFUSED
    elif number in (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EHOSTDOWN):
        reason = Reason.UNREACHABLE
    else:
        reason = Reason.OTHER
    if address.is_ip and number in _DELAYED:
        return Failure(reason, f"delayed connect error: {text}")
    return Failure(reason, f"immediate connect error: {text}|remote address:{address.text}")


def _milliseconds(seconds: float) -> int:
    """Whole ones; a difference of two times that should be 20 ms may be a hair less."""
    return int(seconds * 1000.0 + 0.001)


def _keep_alive(transport: Any, keepalive: "KeepaliveSettings") -> None:
    sock = transport.get_extra_info("socket")
    if sock is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if keepalive.probes is not None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, keepalive.probes)
    if keepalive.time is not None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, keepalive.time)
    if keepalive.interval is not None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, keepalive.interval)
