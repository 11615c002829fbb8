"""The line between main and a worker: framed messages over a socket pair, with file descriptors.

A frame is a head (length, kind, tag, number of descriptors) and its body.  Descriptors travel with
the first bytes of their frame (SCM_RIGHTS) and are handed over with it.  Kinds are numbers of
:mod:`weft.proxy.process.messages`; the tag joins an answer to its question (0: none is due).

Works on any loop that has ``add_reader`` and ``add_writer``; nothing here blocks.
"""

import array
import asyncio
import socket
import struct
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

_HEAD: Final = struct.Struct("<IHIH")
_READ: Final = 256 * 1024
_MOST_FDS: Final = 250
"""Linux takes 253 in one message (SCM_MAX_FD)."""

OnMessage = Callable[[int, int, bytes, list[int]], None]
"""``(kind, tag, body, descriptors)``; the descriptors belong to the callee."""


class Channel:
    """One end.  ``on_closed`` is called once, when the other end is gone; not after :meth:`close`."""

    def __init__(self, sock: socket.socket, loop: asyncio.AbstractEventLoop, on_message: OnMessage, on_closed: Callable[[], None]) -> None:  # fmt: skip
        self._sock = sock
        self._loop = loop
        self._on_message = on_message
        self._on_closed = on_closed
        self._incoming = bytearray()
        self._descriptors: deque[int] = deque()
        self._outgoing: deque[tuple[bytes, Sequence[int]]] = deque()
        self._writing = False
        self._taken = 0
        """Bytes read in all."""
        self.closed = False
        sock.setblocking(False)
        loop.add_reader(sock.fileno(), self._readable)

    @property
    def waiting(self) -> int:
        """Frames that the other end has not taken yet."""
        return len(self._outgoing)

    def send(self, kind: int, body: bytes = b"", tag: int = 0, fds: Sequence[int] = ()) -> None:
        """Never blocks; what cannot be written now is kept.  Descriptors are duplicated by the kernel,
        so they must stay open until they are sent (``waiting`` is 0)."""
        if self.closed:
            return
        if len(fds) > _MOST_FDS:
            raise ValueError(f"{len(fds)} descriptors in one message")
        self._outgoing.append((_HEAD.pack(len(body), kind, tag, len(fds)) + body, fds))
        if not self._writing:
            self._write()

    def close(self) -> None:
        """What waits is lost."""
        if self.closed:
            return
        self.closed = True
        self._loop.remove_reader(self._sock.fileno())
        if self._writing:
            self._loop.remove_writer(self._sock.fileno())
        self._sock.close()
        self._outgoing.clear()
        for fd in self._descriptors:
            socket.close(fd)
        self._descriptors.clear()

    def drain_input(self) -> None:
        """Take what the other end, which is gone, has still written."""
        while not self.closed:
            before = self._taken
            self._readable()
            if self._taken == before:
                return

    def _lost(self) -> None:
        if not self.closed:
            self.close()
            self._on_closed()

    def _write(self) -> None:
        while self._outgoing:
            data, fds = self._outgoing[0]
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
            try:
                sent = self._sock.sendmsg([data], rights)
            except (BlockingIOError, InterruptedError):
                break
            except OSError:
                self._lost()
                return
            if sent < len(data):
                self._outgoing[0] = (data[sent:], ())
            else:
                self._outgoing.popleft()
        writing = bool(self._outgoing)
        if writing and not self._writing:
            self._loop.add_writer(self._sock.fileno(), self._write)
        elif self._writing and not writing:
            self._loop.remove_writer(self._sock.fileno())
        self._writing = writing

    def _readable(self) -> None:
        try:
            data, ancillary, _, _ = self._sock.recvmsg(_READ, socket.CMSG_SPACE(_MOST_FDS * 4))
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data, ancillary = b"", []
        for level, kind, content in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds = array.array("i")
                fds.frombytes(content[: len(content) - len(content) % fds.itemsize])
                self._descriptors.extend(fds)
        if not data:
            self._lost()
            return
        self._taken += len(data)
        self._incoming += data
        while not self.closed and len(self._incoming) >= _HEAD.size:
            length, kind, tag, count = _HEAD.unpack_from(self._incoming)
            if len(self._incoming) < _HEAD.size + length:
                return
            body = bytes(self._incoming[_HEAD.size : _HEAD.size + length])
            del self._incoming[: _HEAD.size + length]
            self._on_message(kind, tag, body, [self._descriptors.popleft() for _ in range(count)])
