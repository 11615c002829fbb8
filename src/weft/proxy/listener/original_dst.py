"""Where the client wanted to go before iptables redirected it here (``SO_ORIGINAL_DST``).

The counterpart of Envoy's ``envoy.filters.listener.original_dst``.  The address comes from the
kernel's connection tracking alone, never from bytes that the peer sent.
"""

import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from weft.api.problems import Where
from weft.proxy.address import Address
from weft.proxy.context import WorkerContext
from weft.proxy.extensions import ListenerFilterKind
from weft.proxy.listener.filter import CONTINUE, Accepted, ListenerFilter

_SO_ORIGINAL_DST: Final = 80
"""The same number for IPv4 (linux/netfilter_ipv4.h) and IPv6 (linux/netfilter_ipv6/ip6_tables.h)."""


@dataclass(frozen=True, slots=True)
class OriginalDstSettings:
    """No settings."""


def original_dst_settings(message: Any, where: Where) -> OriginalDstSettings:
    return OriginalDstSettings()


class OriginalDstFilter(ListenerFilter):
    """Keeps no state: one for all connections."""

    def on_accept(self, accepted: Accepted) -> int:
        if accepted.info.direct_local.is_ip:
            original = original_destination(accepted.transport.get_extra_info("socket"))
            if original is not None:
                accepted.info.local = original
                accepted.info.local_restored = True
        return CONTINUE


def original_destination(sock: Any) -> Address | None:
    """What connection tracking knows of ``sock``; None when it was not redirected."""
    if sock is None:
        return None
    try:
        if sock.family == socket.AF_INET6:
            raw = sock.getsockopt(socket.IPPROTO_IPV6, _SO_ORIGINAL_DST, 28)
            if len(raw) >= 24:
                return Address(
                    socket.inet_ntop(socket.AF_INET6, raw[8:24]), struct.unpack_from("!H", raw, 2)[0]
                )
        raw = sock.getsockopt(socket.IPPROTO_IP, _SO_ORIGINAL_DST, 16)
    except OSError:
        return None
    if len(raw) < 8:
        return None
    return Address(socket.inet_ntop(socket.AF_INET, raw[4:8]), struct.unpack_from("!H", raw, 2)[0])


def _build(settings: OriginalDstSettings, context: WorkerContext, scope: str) -> Callable[[], ListenerFilter]:
    only = OriginalDstFilter()
    return lambda: only


ORIGINAL_DST: Final = ListenerFilterKind(
    name="envoy.filters.listener.original_dst",
    type="envoy.extensions.filters.listener.original_dst.v3.OriginalDst",
    settings=original_dst_settings,
    build=_build,
)
