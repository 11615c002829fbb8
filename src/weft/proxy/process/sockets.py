"""Main's listening sockets: bound before there are workers, kept for those to come.

A worker gets the sockets of its number.  As main keeps them open, connections that wait to be
accepted by a worker that died are accepted by the next of that number.
"""

import contextlib
import os
import socket
from collections.abc import Iterable, Sequence

from weft.proxy.listener.settings import ListenerSettings
from weft.proxy.listener.sockets import BindError, bind, for_worker


class ListeningSockets:
    """``workers`` is how many there are."""

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._sockets: dict[str, list[socket.socket]] = {}
        self._settings: dict[str, ListenerSettings] = {}

    def open(self, listeners: Iterable[ListenerSettings]) -> None:
        """Bind all of them, or raise BindError and have none of them."""
        opened: dict[str, list[socket.socket]] = {}
        try:
            for settings in listeners:
                opened[settings.name] = bind(settings, self._workers)
                self._settings[settings.name] = settings
        except BindError:
            _close_all(opened.values())
            raise
        for name, sockets in opened.items():
            _close_all([self._sockets.get(name, [])])
            self._sockets[name] = sockets

    def keep(self, settings: ListenerSettings) -> None:
        """A listener has changed and keeps its sockets."""
        self._settings[settings.name] = settings

    def close(self, name: str) -> None:
        _close_all([self._sockets.pop(name, [])])
        settings = self._settings.pop(name, None)
        if settings is not None:
            _unlink(settings)

    def close_all(self) -> None:
        for name in list(self._settings):
            self.close(name)

    def of_worker(self, index: int) -> dict[str, list[socket.socket]]:
        return {name: self.of_listener(name, index) for name in self._sockets}

    def of_listener(self, name: str, index: int) -> list[socket.socket]:
        return for_worker(self._settings[name], self._sockets[name], index)

    def addresses(self, settings: ListenerSettings) -> list[str]:
        """As the admin page prints them: with the port that 0 has become."""
        own = self.of_listener(settings.name, 0) if self._sockets.get(settings.name) else []
        if not own:
            return [item.address.text for item in settings.addresses]
        return [
            _text(sock) if item.address.is_ip else item.address.text
            for sock, item in zip(own, settings.addresses, strict=True)
        ]


def _text(sock: socket.socket) -> str:
    name = sock.getsockname()
    return f"[{name[0]}]:{name[1]}" if ":" in name[0] else f"{name[0]}:{name[1]}"


def _close_all(rows: Iterable[Sequence[socket.socket]]) -> None:
    for sockets in rows:
        for sock in sockets:
            sock.close()


def _unlink(settings: ListenerSettings) -> None:
    """A Unix socket's file goes with its listener."""
    for item in settings.addresses:
        path = item.address.path
        if settings.bind_to_port and path and not path.startswith("@"):
            with contextlib.suppress(OSError):  # gone already, or not ours any more
                os.unlink(path)
