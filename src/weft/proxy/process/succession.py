"""How workers that outlived their main learn that a new one has come.

A main listens on an abstract Unix socket whose name is made of what makes it *this* proxy: the
user, the base id and the configuration file.  The kernel frees the name when main dies.  An orphan
knocks once a second; when somebody opens, a successor carries the traffic and the orphan drains.
"""

import asyncio
import contextlib
import os
import socket
import struct
from collections.abc import Callable

_INTERVAL = 1.0


class Succession:
    """``base_id`` and ``path`` of the configuration name the proxy."""

    def __init__(self, base_id: int, path: str) -> None:
        # Not hash(): it differs from process to process.
        import hashlib

        identity = f"{os.getuid()}:{base_id}:{os.path.realpath(path) if path else ''}"
        self._name = "\0weft-main-" + hashlib.sha256(identity.encode()).hexdigest()[:32]
        self._socket: socket.socket | None = None

    def claim(self, loop: asyncio.AbstractEventLoop) -> None:
        """Main: be the one that orphans find.  A second main of the same name goes without."""
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            listening.bind(self._name)
            listening.listen(64)
        except OSError:
            listening.close()
            return
        self._socket = listening
        loop.add_reader(listening.fileno(), self._open)

    def _open(self) -> None:
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.accept()[0].close()

    def leave(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._socket is not None:
            loop.remove_reader(self._socket.fileno())
            self._socket.close()
            self._socket = None

    def watch(self, loop: asyncio.AbstractEventLoop, on_successor: Callable[[], None]) -> None:
        """An orphan: call ``on_successor`` once a new main is there."""
        if self._knock():
            on_successor()
        else:
            loop.call_later(_INTERVAL, self.watch, loop, on_successor)

    def _knock(self) -> bool:
        knocking = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            knocking.connect(self._name)
            credentials = knocking.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
            return struct.unpack("3i", credentials)[1] in (os.getuid(), 0)
        except OSError:
            return False
        finally:
            knocking.close()
