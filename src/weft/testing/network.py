"""A network in memory: names, listening addresses, connections and the links under them.

One connection is two :class:`MemoryTransport` ends and a :class:`Link`.  What an end writes goes to
its own write buffer, from there as far as the link's ``capacity`` allows into the peer's inbox, and
after the link's ``latency`` to the peer's protocol, cut as the ``chunks`` of the link say.  The
rules of TCP hold: ``write_eof`` closes one half; closing with unread input, writing to an end that
is gone, ``abort`` and ``SO_LINGER 0`` are a reset to the peer; an end that does not read and has
nothing to write notices nothing.

:mod:`weft.testing.loop` makes the connections.
"""

import asyncio
import itertools
import socket
import struct
import sys
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from random import Random
from types import FrameType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from weft.testing.loop import VirtualLoop

Chunks = Callable[[Random, int], int]
"""From a generator and the number of bytes at hand (> 0) to how many are delivered next."""

SocketAddress = tuple[Any, ...] | str
READ_SIZE = 256 * 1024
"""The most that one ``data_received`` gets, as with uvloop."""


def whole(random: Random, available: int) -> int:
    """Everything that has arrived, in one piece."""
    return min(available, READ_SIZE)


def byte_by_byte(random: Random, available: int) -> int:
    return 1


def random_pieces(random: Random, available: int) -> int:
    """Small and large pieces alike, so that boundaries fall everywhere."""
    return min(available, max(1, int(2 ** random.uniform(0, 12))))


@dataclass(slots=True, kw_only=True)
class Link:
    """What lies between two ends."""

    latency: float = 0.0
    """Seconds one way; connecting takes a round trip."""
    capacity: int = 256 * 1024
    """Bytes that fit between one end's write buffer and the other end's protocol."""
    chunks: Chunks = whole


@dataclass(slots=True)
class Network:
    """The tables of the network; tests set them."""

    loop: "VirtualLoop"
    link: Link = field(default_factory=Link)
    """Of connections to addresses that ``links`` does not name."""
    links: dict[SocketAddress, Link] = field(default_factory=dict)
    names: dict[str, list[str] | Exception] = field(default_factory=lambda: {"localhost": ["127.0.0.1"]})
    """What ``getaddrinfo`` answers, or fails with; a name that is not here does not exist."""
    resolve_latency: float = 0.0
    lookups: list[str] = field(default_factory=list)
    """Every name that was asked for, in order."""
    failures: dict[SocketAddress, Exception] = field(default_factory=dict)
    """What connecting to an address fails with."""
    silent: set[SocketAddress] = field(default_factory=set)
    """Addresses that never answer, so that connecting to them never ends."""
    accepted_options: dict[tuple[int, int], bytes | int] = field(default_factory=dict)
    """Socket options that accepted connections begin with (``SO_ORIGINAL_DST`` and the like)."""
    transports: "dict[int, MemoryTransport]" = field(default_factory=dict)
    """Every end that has not seen ``connection_lost``."""
    servers: "dict[SocketAddress, list[MemoryServer]]" = field(default_factory=dict)
    in_flight: int = 0
    """Deliveries that wait for the clock."""
    connections: int = 0
    """How many were ever made."""
    _numbers: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1))
    _ports: "itertools.count[int]" = field(default_factory=lambda: itertools.count(40000))
    _turn: int = 0

    # -- names and addresses -----------------------------------------------------------------

    def next_port(self) -> int:
        return next(self._ports)

    def bind(self, host: str = "127.0.0.1", port: int = 0, *, path: str = "") -> "MemorySocket":
        """A bound socket for ``create_server(sock=...)``; port 0 takes a free one."""
        if path:
            return MemorySocket(socket.AF_UNIX, path, "")
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        port = port or self.next_port()
        return MemorySocket(family, (host, port) if family == socket.AF_INET else (host, port, 0, 0), "")

    def resolve(self, host: str, port: int, family: int) -> list[tuple[int, int, int, str, tuple[Any, ...]]]:
        ips: list[str]
        if is_ip(host):
            ips = [host]
        else:
            self.lookups.append(host)
            known = self.names.get(host)
            if isinstance(known, Exception):
                raise known
            if known is None:
                raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
            ips = known
        found: list[tuple[int, int, int, str, tuple[Any, ...]]] = []
        for ip in ips:
            own: int = socket.AF_INET6 if ":" in ip else socket.AF_INET
            if family in (0, own):
                address = (ip, port, 0, 0) if own == socket.AF_INET6 else (ip, port)
                found.append((own, socket.SOCK_STREAM, 6, "", address))
        if not found:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return found

    # -- servers -------------------------------------------------------------------------------

    def listen(self, server: "MemoryServer", address: SocketAddress) -> None:
        present = self.servers.setdefault(key_of(address), [])
        if present and not (server.reuse_port and all(other.reuse_port for other in present)):
            raise OSError(98, f"Address already in use: {address!r}")
        present.append(server)

    def unlisten(self, server: "MemoryServer", address: SocketAddress) -> None:
        present = self.servers.get(key_of(address), [])
        if server in present:
            present.remove(server)
        if not present:
            self.servers.pop(key_of(address), None)

    def server_at(self, address: SocketAddress) -> "MemoryServer | None":
        keys: list[SocketAddress] = [key_of(address)]
        if isinstance(address, tuple):
            port = address[1]
            keys += [("::", port)] if ":" in address[0] else [("0.0.0.0", port), ("::", port)]
        for key in keys:
            servers = [server for server in self.servers.get(key, []) if server.is_serving()]
            if servers:
                self._turn += 1
                return servers[self._turn % len(servers)]
        return None

    # -- connections ---------------------------------------------------------------------------

    async def connect(
        self, factory: Callable[[], Any], address: SocketAddress, local: SocketAddress | None = None
    ) -> "tuple[MemoryTransport, Any]":
        key = key_of(address)
        link = self.links.get(key, self.link)
        if key in self.silent:
            await self.loop.create_future()
        if link.latency:
            await asyncio.sleep(2 * link.latency)
        else:
            await asyncio.sleep(0)
        failure = self.failures.get(key)
        if failure is not None:
            raise failure
        server = self.server_at(address)
        if server is None:
            if isinstance(address, str):
                raise FileNotFoundError(2, f"No such file or directory: {address!r}")
            raise ConnectionRefusedError(111, f"Connect call failed {address!r}")
        if local is None:
            local = "" if isinstance(address, str) else self._local_for(address)
        family = _family(address)
        link = replace(link)
        near = MemoryTransport(self, link, MemorySocket(family, local, address), factory())
        far = MemoryTransport(self, link, MemorySocket(family, address, local), server.factory())
        far.socket.options.update(self.accepted_options)
        near.peer, far.peer = far, near
        far.server = server
        server.connections.add(far)
        self.connections += 1
        self.loop.call_soon(far.begin)
        waiter: asyncio.Future[None] = self.loop.create_future()
        self.loop.call_soon(near.begin, waiter)
        try:
            await waiter
        except BaseException:
            near.close()
            raise
        return near, near.get_protocol()

    def _local_for(self, address: tuple[Any, ...]) -> tuple[Any, ...]:
        if ":" in address[0]:
            return ("::1", self.next_port(), 0, 0)
        return ("127.0.0.1", self.next_port())


class MemorySocket:
    """What ``get_extra_info("socket")`` gives: addresses and options, no file descriptor."""

    def __init__(self, family: int, local: SocketAddress, remote: SocketAddress) -> None:
        self.family = family
        self.type = int(socket.SOCK_STREAM)
        self.proto = 0
        self.local = local
        self.remote = remote
        self.options: dict[tuple[int, int], bytes | int] = {}

    def getsockname(self) -> SocketAddress:
        return self.local

    def getpeername(self) -> SocketAddress:
        if not self.remote and self.family != socket.AF_UNIX:
            raise OSError(107, "Transport endpoint is not connected")
        return self.remote

    def setsockopt(self, level: int, option: int, value: bytes | int, *rest: int) -> None:
        self.options[level, option] = value

    def getsockopt(self, level: int, option: int, size: int = 0) -> bytes | int:
        value = self.options.get((level, option))
        if value is None:
            if size:
                raise OSError(92, "Protocol not available")
            return 0
        return value

    def fileno(self) -> int:
        return -1

    def setblocking(self, flag: bool) -> None:
        pass

    def listen(self, backlog: int = 0) -> None:
        pass

    def close(self) -> None:
        pass

    def lingers_never(self) -> bool:
        value = self.options.get((socket.SOL_SOCKET, socket.SO_LINGER))
        return isinstance(value, bytes) and len(value) == 8 and struct.unpack("ii", value) == (1, 0)


class MemoryServer(asyncio.AbstractServer):
    """What ``create_server`` gives."""

    def __init__(
        self,
        network: Network,
        factory: Callable[[], Any],
        sockets: "list[MemorySocket]",
        *,
        reuse_port: bool = False,
    ) -> None:
        self.network = network
        self.factory = factory
        self.reuse_port = reuse_port
        self.connections: set[MemoryTransport] = set()
        self._sockets = sockets
        self._serving = False
        self._open = True
        done: list[MemorySocket] = []
        try:
            for sock in sockets:
                network.listen(self, sock.getsockname())
                done.append(sock)
        except OSError:
            for sock in done:
                network.unlisten(self, sock.getsockname())
            raise

    @property
    def sockets(self) -> "tuple[MemorySocket, ...]":
        return tuple(self._sockets) if self._open else ()

    @property
    def port(self) -> int:
        address = self._sockets[0].getsockname()
        return int(address[1]) if isinstance(address, tuple) else 0

    def get_loop(self) -> asyncio.AbstractEventLoop:
        return self.network.loop

    def is_serving(self) -> bool:
        return self._serving

    async def start_serving(self) -> None:
        self._serving = True

    def begin(self) -> None:
        self._serving = True

    async def serve_forever(self) -> None:
        self._serving = True
        try:
            await self.network.loop.create_future()
        finally:
            self.close()

    def close(self) -> None:
        if self._open:
            self._open = self._serving = False
            for sock in self._sockets:
                self.network.unlisten(self, sock.getsockname())
                sock.close()

    async def wait_closed(self) -> None:
        await asyncio.sleep(0)

    def __repr__(self) -> str:
        return f"<MemoryServer {[sock.getsockname() for sock in self._sockets]}>"


class MemoryTransport(asyncio.Transport):
    """One end of a connection."""

    def __init__(self, network: Network, link: Link, sock: MemorySocket, protocol: Any) -> None:
        super().__init__()
        self.network = network
        self.link = link
        self.socket = sock
        self.peer: MemoryTransport = self
        self.server: MemoryServer | None = None
        self.number = next(network._numbers)
        self.made_at = _caller()
        self.dropped_writes = 0
        """Writes to a connection that was gone already."""
        self.most_buffered = 0
        """The largest write buffer there ever was."""
        self._protocol = protocol
        self._high, self._low = 64 * 1024, 16 * 1024
        self._out: deque[bytes] = deque()
        self._out_size = 0
        self._eof_written = False
        self._eof_sent = False
        self._protocol_paused = False
        self._inbox = bytearray()
        self._travelling = 0
        """Bytes on the link towards this end."""
        self._eof_arrived = False
        self._eof_seen = False
        self._reset_arrived: Exception | None = None
        self._reading = True
        self._delivery_due = False
        self._begun = False
        self._closing = False
        self._gone = False
        """No more input and output; ``connection_lost`` has been or is about to be called."""
        self._lost = False
        network.transports[self.number] = self

    def __repr__(self) -> str:
        state = "gone" if self._gone else "closing" if self._closing else "open"
        return (
            f"<MemoryTransport {self.number} {self.socket.local}->{self.socket.remote} {state} "
            f"unsent={self._out_size} unread={len(self._inbox)} protocol={type(self._protocol).__name__}>"
        )

    def begin(self, waiter: "asyncio.Future[None] | None" = None) -> None:
        if not self._gone:
            self._begun = True
            try:
                self._protocol.connection_made(self)
            except Exception as error:
                self._fault("connection_made() failed", error)
        if waiter is not None and not waiter.done():
            waiter.set_result(None)
        if self._inbox or self._eof_arrived or self._reset_arrived is not None:
            self._schedule()

    # -- what asyncio.Transport promises -------------------------------------------------------

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        if name == "sockname":
            return self.socket.local
        if name == "peername":
            return self.socket.remote
        if name == "socket":
            return self.socket
        return default

    def get_protocol(self) -> Any:
        return self._protocol

    def set_protocol(self, protocol: Any) -> None:
        self._protocol = protocol

    def is_closing(self) -> bool:
        return self._closing

    def is_reading(self) -> bool:
        return self._reading and not self._closing

    def pause_reading(self) -> None:
        if not self._closing:
            self._reading = False

    def resume_reading(self) -> None:
        if not self._closing and not self._reading:
            self._reading = True
            self._schedule()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        if high is None:
            high = 64 * 1024 if low is None else 4 * low
        if low is None:
            low = high // 4
        if not high >= low >= 0:
            raise ValueError(f"high ({high!r}) must be >= low ({low!r}) must be >= 0")
        self._high, self._low = high, low
        self._watch_high()

    def get_write_buffer_size(self) -> int:
        return self._out_size

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._low, self._high

    def can_write_eof(self) -> bool:
        return True

    def write(self, data: Any) -> None:
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise TypeError(f"data argument must be a bytes-like object, not {type(data).__name__!r}")
        if self._eof_written:
            raise RuntimeError("Cannot call write() after write_eof()")
        if not data:
            return
        if self._gone or self._closing:
            self.dropped_writes += 1
            return
        self._out.append(bytes(data))
        self._out_size += len(data)
        self._pump()
        self.most_buffered = max(self.most_buffered, self._out_size)
        self._watch_high()

    def writelines(self, list_of_data: Iterable[Any]) -> None:
        self.write(b"".join(list_of_data))

    def write_eof(self) -> None:
        if self._closing or self._eof_written:
            return
        self._eof_written = True
        self._pump()

    def close(self) -> None:
        if self._closing:
            return
        self._closing = True
        if self.socket.lingers_never():
            self._vanish(None, reset=True)
        elif not self._out:
            self._vanish(None)

    def abort(self) -> None:
        self._closing = True
        self._vanish(None, reset=True)

    # -- output ----------------------------------------------------------------------------------

    def _pump(self) -> None:
        """Move what the link takes; called when there is output or room."""
        if self._gone:
            return
        peer = self.peer
        if self._reset_arrived is not None and (self._out or self._eof_written):
            self._vanish(self._reset_arrived)
            return
        while self._out:
            room = self.link.capacity - peer._travelling - len(peer._inbox)
            if room <= 0:
                break
            data = self._out.popleft()
            if len(data) > room:
                self._out.appendleft(data[room:])
                data = data[:room]
            self._out_size -= len(data)
            self._send(data)
        if self._protocol_paused and self._out_size <= self._low:
            self._protocol_paused = False
            self.network.loop.call_soon(self._tell_resume)
        if not self._out:
            if self._closing:
                self._vanish(None)
            elif self._eof_written and not self._eof_sent:
                self._eof_sent = True
                self._later(peer._arrived_eof)

    def _tell_resume(self) -> None:
        if not self._protocol_paused and not self._gone:
            self._protocol.resume_writing()

    def _send(self, data: bytes) -> None:
        peer = self.peer
        peer._travelling += len(data)
        self._later(peer._arrived, data)

    def _later(self, callback: Callable[..., None], *args: Any) -> None:
        network = self.network
        network.in_flight += 1
        if self.link.latency:
            network.loop.call_later(self.link.latency, self._land, callback, *args)
        else:
            network.loop.call_soon(self._land, callback, *args)

    def _land(self, callback: Callable[..., None], *args: Any) -> None:
        self.network.in_flight -= 1
        callback(*args)

    def _watch_high(self) -> None:
        if self._out_size > self._high and not self._protocol_paused and not self._gone:
            self._protocol_paused = True
            try:
                self._protocol.pause_writing()
            except Exception as error:
                self._fault("pause_writing() failed", error)

    # -- input -----------------------------------------------------------------------------------

    def _arrived(self, data: bytes) -> None:
        self._travelling -= len(data)
        if self._gone:
            # The kernel answers data for a socket that is gone with a reset.
            self._later(self.peer._arrived_reset)
            return
        self._inbox += data
        self._deliver()

    def _arrived_eof(self) -> None:
        self._eof_arrived = True
        self._deliver()

    def _arrived_reset(self) -> None:
        if self._gone or self._reset_arrived is not None:
            return
        self._reset_arrived = ConnectionResetError(104, "Connection reset by peer")
        if self._out:
            self._vanish(self._reset_arrived)
        else:
            self._deliver()

    def _schedule(self) -> None:
        if not self._delivery_due:
            self._delivery_due = True
            self.network.loop.call_soon(self._continue)

    def _continue(self) -> None:
        self._delivery_due = False
        self._deliver()

    def _deliver(self) -> None:
        """Give the protocol one piece of what is there."""
        if not self._begun or self._gone or not self._reading or self._closing:
            return
        if self._inbox:
            size = self.link.chunks(self.network.loop.random, len(self._inbox))
            data = bytes(self._inbox[:size])
            del self._inbox[:size]
            self.network.loop.call_soon(self.peer._pump)
            try:
                self._receive(data)
            except Exception as error:
                self._fault("data_received() failed", error)
                return
            if self._inbox or self._eof_arrived or self._reset_arrived is not None:
                self._schedule()
        elif self._reset_arrived is not None:
            self._vanish(self._reset_arrived)
        elif self._eof_arrived and not self._eof_seen:
            self._eof_seen = True
            try:
                keep = self._protocol.eof_received()
            except Exception as error:
                self._fault("eof_received() failed", error)
                return
            if not keep:
                self.close()

    def _receive(self, data: bytes) -> None:
        protocol = self._protocol
        if not hasattr(protocol, "get_buffer"):
            protocol.data_received(data)
            return
        while data:
            buffer = protocol.get_buffer(len(data))
            size = min(len(buffer), len(data))
            buffer[:size] = data[:size]
            data = data[size:]
            protocol.buffer_updated(size)

    # -- the end -----------------------------------------------------------------------------------

    def _vanish(self, reason: Exception | None, *, reset: bool = False) -> None:
        """The socket is closed: tell the peer, and the protocol soon."""
        if self._gone:
            return
        self._gone = self._closing = True
        unread = bool(self._inbox)
        self._out.clear()
        self._out_size = 0
        self._inbox.clear()
        if reason is None:
            if reset or unread:
                self._later(self.peer._arrived_reset)
            elif not self._eof_sent:
                self._eof_sent = True
                self._later(self.peer._arrived_eof)
        self.network.loop.call_soon(self.peer._pump)
        self.network.loop.call_soon(self._tell_lost, reason)

    def _tell_lost(self, reason: Exception | None) -> None:
        if self._lost:
            return
        self._lost = True
        self.network.transports.pop(self.number, None)
        if self.server is not None:
            self.server.connections.discard(self)
        if self._begun:
            self._protocol.connection_lost(reason)

    def _fault(self, message: str, error: Exception) -> None:
        """A protocol raised: report as asyncio does, and drop the connection."""
        self.network.loop.call_exception_handler(
            {
                "message": f"Fatal error: protocol.{message}",
                "exception": error,
                "transport": self,
                "protocol": self._protocol,
            }
        )
        self._vanish(error, reset=True)
        self._later(self.peer._arrived_reset)


def key_of(address: SocketAddress) -> SocketAddress:
    """An address as the tables of the network name it: ``(ip, port)`` or a path."""
    return (str(address[0]), int(address[1])) if isinstance(address, tuple) else address


def is_ip(host: str) -> bool:
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, host)
        except OSError:
            continue
        return True
    return False


def _family(address: SocketAddress) -> int:
    if isinstance(address, str):
        return socket.AF_UNIX
    return socket.AF_INET6 if ":" in address[0] else socket.AF_INET


def _caller() -> str:
    """The nearest line outside this package and asyncio: who opened a connection."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        name = frame.f_code.co_filename
        if "/asyncio/" not in name and "/weft/testing/" not in name:
            return f"{name}:{frame.f_lineno}"
        frame = frame.f_back
    return "?"
