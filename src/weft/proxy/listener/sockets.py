"""The sockets of a listener, made by main before there are workers.

Binding is the one place where the proxy touches the system's sockets outside an event loop.
"""

import os
import socket
import struct
from contextlib import suppress
from typing import Final

from weft.proxy.listener.addresses import BOUND, LISTENING, PREBIND, ListenAddress, SocketOption
from weft.proxy.listener.settings import ListenerSettings

_IP_FREEBIND: Final = 15
_IPV6_FREEBIND: Final = 78
_IP_TRANSPARENT: Final = 19
_IPV6_TRANSPARENT: Final = 75
_IPPROTO_MPTCP: Final = 262


class BindError(Exception):
    """A listener cannot have its address.  The text says which, and the system's reason."""

    def __init__(
        self, settings: ListenerSettings, item: ListenAddress, error: OSError, what: str = "bind"
    ) -> None:
        reason = os.strerror(error.errno) if error.errno else str(error)
        super().__init__(f"listener '{settings.name}': cannot {what} '{item.address.text}': {reason}")
        self.address = item.address
        self.error = error


def bind(settings: ListenerSettings, count: int) -> list[socket.socket]:
    """Listening sockets for ``count`` workers, or none for a listener that is not bound.

    Worker after worker, each with one socket per address, when there is a socket per worker
    (``settings.reuse_port``); else one per address, for all.  :func:`for_worker` picks.
    Raises BindError, having closed what was open.
    """
    if not settings.bind_to_port:
        return []
    sockets: list[socket.socket] = []
    ports: dict[int, int] = {}
    try:
        for _ in range(count if settings.reuse_port else 1):
            for i, item in enumerate(settings.addresses):
                sock = _listening(settings, item, ports.get(i, item.address.port))
                sockets.append(sock)
                if item.address.is_ip:
                    ports[i] = sock.getsockname()[1]  # the next worker joins the port that 0 has become
    except BindError:
        for sock in sockets:
            sock.close()
        raise
    return sockets


def for_worker(settings: ListenerSettings, sockets: list[socket.socket], index: int) -> list[socket.socket]:
    """Those of :func:`bind`'s sockets that worker ``index`` listens on."""
    each = len(settings.addresses)
    if not settings.reuse_port:
        return sockets
    return sockets[index * each : (index + 1) * each]


def _listening(settings: ListenerSettings, item: ListenAddress, port: int) -> socket.socket:
    what = "open a socket for"
    try:
        protocol = _IPPROTO_MPTCP if settings.mptcp else 0
        sock = socket.socket(
            item.family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, protocol
        )
    except OSError as error:
        raise BindError(settings, item, error, what) from error
    try:
        what = "set the options of"
        _prebind(settings, item, sock, port)
        _set(sock, item, settings, PREBIND)
        what = "bind"
        _bind(item, sock, port)
        if settings.reuse_port and item.address.is_ip and not port:
            # Not before: asked for any port, the kernel may give one that another proxy of this user
            # shares already, and the two would take each other's connections.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        what = "set the options of"
        _set(sock, item, settings, BOUND)
        if settings.tcp_fast_open is not None and item.address.is_ip:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_FASTOPEN, settings.tcp_fast_open)
        what = "listen on"
        sock.listen(settings.backlog)
        what = "set the options of"
        _set(sock, item, settings, LISTENING)
    except OSError as error:
        sock.close()
        raise BindError(settings, item, error, what) from error
    return sock


def _prebind(settings: ListenerSettings, item: ListenAddress, sock: socket.socket, port: int) -> None:
    if not item.address.is_ip:
        return
    v6 = item.address.is_v6
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if settings.reuse_port and port:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    if v6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if item.ipv4_compat else 1)
    if settings.transparent:
        _set_for_family(sock, v6, _IP_TRANSPARENT, _IPV6_TRANSPARENT)
    if settings.freebind:
        _set_for_family(sock, v6, _IP_FREEBIND, _IPV6_FREEBIND)


def _set_for_family(sock: socket.socket, v6: bool, option: int, option_v6: int) -> None:
    if v6:
        sock.setsockopt(socket.IPPROTO_IPV6, option_v6, 1)
    else:
        sock.setsockopt(socket.IPPROTO_IP, option, 1)


def _set(sock: socket.socket, item: ListenAddress, settings: ListenerSettings, state: int) -> None:
    options: tuple[SocketOption, ...] = item.socket_options or settings.socket_options
    for option in options:
        if option.state == state:
            value = option.value if isinstance(option.value, bytes) else struct.pack("i", option.value)
            sock.setsockopt(option.level, option.name, value)


def _bind(item: ListenAddress, sock: socket.socket, port: int) -> None:
    address = item.address
    if address.is_ip:
        ip, _, zone = address.ip.partition("%")
        if address.is_v6:
            scope = 0
            if zone:
                scope = int(zone) if zone.isdigit() else socket.if_nametoindex(zone)
            sock.bind((ip, port, 0, scope))
        else:
            sock.bind((ip, port))
        return
    if address.path.startswith("@"):
        sock.bind("\0" + address.path[1:])
        return
    # What a former process left behind would refuse the address for ever.
    with suppress(FileNotFoundError):
        os.unlink(address.path)
    sock.bind(address.path)
    if item.mode:
        os.chmod(address.path, item.mode)
