"""Relaying by the kernel: bytes go from socket to socket through a pipe and never come here.

``splice(2)`` costs the proxy about half of what reading and writing costs it per gigabyte, but more
per small message, and moving a connection out of its transports has a price of its own; so only
connections that have carried a lot already come here (:class:`SplicedPair`).

The two sockets are duplicated, the transports closed (closing a descriptor does not shut down a
connection that has another), and from then on the event loop only says which of the two is ready.
A pipe holds bytes only while the receiving socket takes no more, so all pairs of a process share a
few of them (:class:`Pipes`).
"""

import fcntl
import os
import socket
import struct
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from weft.proxy.network.tcp_proxy import TcpSession

PIPE_SIZE: Final = 1 << 20
"""Bytes; the most that an unprivileged process gets.  Smaller pipes are no faster than relaying."""
_F_SETPIPE_SZ: Final = 1031
MOST_KEPT: Final = 16
"""Empty pipes that a process keeps."""
_ROUNDS: Final = 4
"""Splices for one readiness before other connections have their turn."""
_CHUNK: Final = PIPE_SIZE
_FLAGS: Final = getattr(os, "SPLICE_F_MOVE", 1) | getattr(os, "SPLICE_F_NONBLOCK", 2)


class Pipe:
    __slots__ = ("read_end", "write_end")

    def __init__(self) -> None:
        """Raises OSError when the system grants no pipe of PIPE_SIZE."""
        self.read_end, self.write_end = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            fcntl.fcntl(self.write_end, _F_SETPIPE_SZ, PIPE_SIZE)
        except OSError:
            self.close()
            raise

    def close(self) -> None:
        os.close(self.read_end)
        os.close(self.write_end)


class Pipes:
    """Empty pipes of one process, to be borrowed."""

    def __init__(self) -> None:
        self._free: list[Pipe] = []
        self._usable: bool = hasattr(os, "splice")

    def usable(self) -> bool:
        """Whether there is a pipe; the answer *no* is final."""
        if self._usable and not self._free:
            try:
                self._free.append(Pipe())
            except OSError:
                self._usable = False
        return self._usable

    def borrow(self) -> Pipe:
        return self._free.pop() if self._free else Pipe()

    def give_back(self, pipe: Pipe) -> None:
        """``pipe`` must be empty."""
        if len(self._free) < MOST_KEPT:
            self._free.append(pipe)
        else:
            pipe.close()

    def close(self) -> None:
        for pipe in self._free:
            pipe.close()
        self._free.clear()


_OF_PROCESS: list[tuple[int, Pipes]] = []


def pipes() -> Pipes:
    """Those of this process: a fork must not share pipes with its parent."""
    pid = os.getpid()
    if not _OF_PROCESS or _OF_PROCESS[0][0] != pid:
        for _, inherited in _OF_PROCESS:
            inherited.close()
        _OF_PROCESS[:] = [(pid, Pipes())]
    return _OF_PROCESS[0][1]


def descriptor_of(transport: Any) -> int:
    """The file descriptor below ``transport``, or -1 where there is none (memory, filters, TLS)."""
    sock = transport.get_extra_info("socket")
    return -1 if sock is None else int(sock.fileno())


def splice_worthwhile(one: Any, other: Any) -> bool:
    """Whether the kernel can relay between two transports."""
    return descriptor_of(one) >= 0 and descriptor_of(other) >= 0 and pipes().usable()


class Detached:
    """The protocol of a transport that has lost its connection to the kernel: nothing concerns it."""

    def data_received(self, data: bytes) -> None:
        """Reading was paused before."""

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection itself goes on."""

    def pause_writing(self) -> None:
        """Nothing is written any more."""

    def resume_writing(self) -> None:
        """Nothing is written any more."""


class SplicedTransport:
    """What is left of the downstream transport: whoever holds it can close the connection."""

    def __init__(self, pair: "SplicedPair", transport: Any) -> None:
        self._pair = pair
        self._known = {name: transport.get_extra_info(name) for name in ("peername", "sockname")}

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._known.get(name, default)

    def is_closing(self) -> bool:
        return self._pair.over

    def close(self) -> None:
        self._pair.close(False)

    def abort(self) -> None:
        self._pair.close(True)

    def pause_reading(self) -> None:
        """The pair stops by itself when the other side takes no more."""

    def resume_reading(self) -> None:
        """See pause_reading."""

    def get_write_buffer_size(self) -> int:
        return 0


class SplicedPair:
    """Two sockets, two directions, and the loop that wakes them."""

    def __init__(self, session: "TcpSession", downstream: Any, upstream: Any, loop: Any, pool: Pipes) -> None:
        self.session = session
        self.loop = loop
        self.pipes = pool
        self.over: bool = False
        self.transport: Any = SplicedTransport(self, downstream)
        self._downstream = _take_socket(downstream)
        self._upstream = _take_socket(upstream)
        self._up = Direction(self, self._downstream, self._upstream, True)
        self._down = Direction(self, self._upstream, self._downstream, False)

    def begin(self, data: bytes, towards_upstream: bool) -> None:
        """``data`` was received before and is sent first."""
        self._up.begin(data if towards_upstream else b"")
        if not self.over:
            self._down.begin(b"" if towards_upstream else data)

    def moved(self, size: int, towards_upstream: bool) -> None:
        if towards_upstream:
            self.session.received(size)
        else:
            self.session.sent(size)

    def ended(self, direction: "Direction") -> None:
        """Everything of a direction is through, its end included."""
        if not (self._up.done and self._down.done):
            if direction is self._up:
                self.session.downstream_ended = True
            else:
                self.session.upstream_ended = True
            return
        self._finish(False, local=direction is self._up)

    def failed(self, direction: "Direction", reading: bool) -> None:
        """A socket broke: the one a direction reads from, or the one it writes to."""
        upstream_failed = (direction is self._down) == reading
        if upstream_failed:
            _reset_on_close(self._downstream)
        else:
            _reset_on_close(self._upstream)
        self._finish(upstream_failed, local=not upstream_failed)

    def close(self, reset: bool) -> None:
        """We end it."""
        if self.over:
            return
        if reset:
            _reset_on_close(self._downstream)
        self._finish(False, local=True)

    def _finish(self, upstream_failed: bool, local: bool) -> None:
        if self.over:
            return
        self.over = True
        self._up.stop()
        self._down.stop()
        self._downstream.close()
        self._upstream.close()
        # Not from inside: whoever closes a transport is not called back before close() returns.
        self.loop.call_soon(self.session.splice_over, upstream_failed, local)


class Direction:
    """Bytes from one socket to the other."""

    def __init__(
        self, pair: SplicedPair, source: socket.socket, sink: socket.socket, towards_upstream: bool
    ) -> None:
        self._pair = pair
        self._source = source
        self._sink = sink
        self._from = source.fileno()
        self._to = sink.fileno()
        self._towards_upstream = towards_upstream
        self._pipe: Pipe | None = None
        """Ours while it holds bytes."""
        self._held: int = 0
        self._first: bytes = b""
        """Goes before what is in the pipe."""
        self._reading: bool = False
        self._writing: bool = False
        self.done: bool = False

    def begin(self, data: bytes) -> None:
        self._first = data
        self._reading = True
        self._pair.loop.add_reader(self._from, self.readable)
        if data:
            self._drain()

    def stop(self) -> None:
        self.done = True
        if self._reading:
            self._reading = False
            self._pair.loop.remove_reader(self._from)
        if self._writing:
            self._writing = False
            self._pair.loop.remove_writer(self._to)
        if self._pipe is not None:
            self._pipe.close()  # with what it holds
            self._pipe = None

    def readable(self) -> None:
        """The source has bytes, an end, or an error."""
        pair = self._pair
        pool = pair.pipes
        for _ in range(_ROUNDS):
            pipe = self._pipe
            if pipe is None:
                try:
                    pipe = self._pipe = pool.borrow()
                except OSError:  # no descriptors left: the connection is the price
                    pair.failed(self, True)
                    return
            try:
                size = os.splice(self._from, pipe.write_end, _CHUNK, flags=_FLAGS)
            except BlockingIOError:
                self._give_back()
                return
            except OSError:
                self._give_back()
                pair.failed(self, True)
                return
            if not size:
                self._give_back()
                self._end()
                return
            self._held = size
            pair.moved(size, self._towards_upstream)
            if not self._drain():
                return
            if size < _CHUNK // 8:
                return  # likely all there was; if not, the loop calls again

    def writable(self) -> None:
        """The sink takes bytes again."""
        if self._drain() and self._writing:
            self._writing = False
            self._reading = True
            pair = self._pair
            pair.loop.remove_writer(self._to)
            pair.loop.add_reader(self._from, self.readable)
            pair.session.flow_resumed(self._towards_upstream)

    def _drain(self) -> bool:
        """From the pipe to the sink; false when the sink takes no more or is broken."""
        pair = self._pair
        pipe = self._pipe
        while self._first or self._held:
            try:
                if self._first:
                    self._first = self._first[self._sink.send(self._first) :]
                elif pipe is not None:
                    self._held -= os.splice(pipe.read_end, self._to, self._held, flags=_FLAGS)
            except BlockingIOError:
                if not self._writing:
                    self._writing = True
                    self._reading = False
                    pair.loop.remove_reader(self._from)
                    pair.loop.add_writer(self._to, self.writable)
                    pair.session.flow_paused(self._towards_upstream)
                return False
            except OSError:
                pair.failed(self, False)
                return False
        self._give_back()
        return True

    def _give_back(self) -> None:
        if self._pipe is not None:
            self._pair.pipes.give_back(self._pipe)
            self._pipe = None

    def _end(self) -> None:
        """The source has closed its half: close ours of the sink."""
        self.stop()
        with suppress(OSError):  # gone already, which the other direction notices
            self._sink.shutdown(socket.SHUT_WR)
        self._pair.ended(self)


def _take_socket(transport: Any) -> socket.socket:
    """A socket of our own for the connection of ``transport``, which is closed."""
    sock = socket.socket(fileno=os.dup(descriptor_of(transport)))
    sock.setblocking(False)
    transport.set_protocol(Detached())
    transport.close()
    return sock


def _reset_on_close(sock: socket.socket) -> None:
    """Make the peer see a reset, as it would from an aborted transport."""
    with suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
