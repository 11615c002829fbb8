"""IP prefixes: looking addresses up by the longest one, and all that match.

Addresses are numbers here, IPv4 and IPv6 apart.  Tables are one dict per prefix length, longest
first, so the cost grows with the number of different lengths and not with that of the prefixes.
"""

import ipaddress
import socket
from typing import Any, Final, Generic, TypeVar

from weft.api.problems import Where

NO_PREFIX: Final = ""
"""In place of a prefix: no criterion, matches both families."""
ALL_PREFIXES: Final = ("0.0.0.0/0", "::/0")

UNKNOWN: Final = (0xFFFFFFFF, False)
"""Envoy looks up 255.255.255.255 for what is no IP address."""

T = TypeVar("T")


class PrefixTable(Generic[T]):
    """Longest-prefix match: what belongs to the most specific prefix."""

    __slots__ = ("_v4", "_v6")

    def __init__(self, entries: dict[str, T]) -> None:
        v4: dict[int, dict[int, T]] = {}
        v6: dict[int, dict[int, T]] = {}
        for prefix in sorted(entries):  # NO_PREFIX comes first, so that a written 0.0.0.0/0 wins over it
            for text in (prefix,) if prefix else ALL_PREFIXES:
                net = ipaddress.ip_network(text)
                shift = net.max_prefixlen - net.prefixlen
                table = v4 if net.version == 4 else v6
                table.setdefault(shift, {})[int(net.network_address) >> shift] = entries[prefix]
        self._v4: list[tuple[int, dict[int, T]]] = sorted(v4.items(), key=lambda item: item[0])
        self._v6: list[tuple[int, dict[int, T]]] = sorted(v6.items(), key=lambda item: item[0])

    def find(self, number: int, v6: bool) -> T | None:
        for shift, table in self._v6 if v6 else self._v4:
            found = table.get(number >> shift)
            if found is not None:
                return found
        return None

    def find_all(self, number: int, v6: bool) -> list[T]:
        """What belongs to every prefix that matches, the longest first."""
        every = []
        for shift, table in self._v6 if v6 else self._v4:
            found = table.get(number >> shift)
            if found is not None:
                every.append(found)
        return every


def number_of(ip: str) -> tuple[int, bool]:
    """A textual address as (number, is it IPv6); the empty text of a Unix socket is *unknown*."""
    if not ip:
        return UNKNOWN
    try:
        if ":" in ip:
            return int.from_bytes(socket.inet_pton(socket.AF_INET6, ip.partition("%")[0]), "big"), True
        return int.from_bytes(socket.inet_aton(ip), "big"), False
    except (OSError, ValueError):
        return UNKNOWN


def parsed(text: bytes) -> tuple[int, bool] | None:
    """The same for a text that somebody sent: strictly an address, or None."""
    try:
        if b":" in text:
            return int.from_bytes(socket.inet_pton(socket.AF_INET6, text.decode("ascii")), "big"), True
        return int.from_bytes(socket.inet_pton(socket.AF_INET, text.decode("ascii")), "big"), False
    except (OSError, ValueError):
        return None


def canonical(message: Any, where: Where) -> str | None:
    """The canonical network (``10.0.0.0/8``) of a ``CidrRange``; None after a problem."""
    try:
        address = ipaddress.ip_address(message.address_prefix)
    except ValueError:
        where.problem(f"malformed IP address: {message.address_prefix}")
        return None
    # An unset length is 0, and one that is too long is the whole address, as in Envoy.
    length = min(message.prefix_len.value if message.HasField("prefix_len") else 0, address.max_prefixlen)
    base = (int(address), length) if address.version == 4 else (address.packed, length)
    return str(ipaddress.ip_network(base, strict=False))


def canonical_all(messages: Any, where: Where) -> tuple[str, ...]:
    """Those of ``repeated CidrRange`` that are right; the others are problems."""
    found = [canonical(message, where.item(i)) for i, message in enumerate(messages)]
    return tuple([network for network in found if network is not None])
