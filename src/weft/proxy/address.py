"""Addresses of sockets: an IP and a port, or the path of a Unix socket."""

import ipaddress
from collections.abc import Sequence
from typing import Any, Final


class Address:
    """Where one end of a connection is.  Equal by text; immutable by convention."""

    __slots__ = ("ip", "path", "port", "text")

    def __init__(self, ip: str = "", port: int = 0, path: str = "") -> None:
        self.ip = ip
        """Textual IPv4 or IPv6 address (no brackets); empty for a Unix socket."""
        self.port = port
        self.path = path
        """Path of a Unix socket; ``@name`` for an abstract one."""
        self.text: str = path if not ip else (f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}")
        """As Envoy prints it: ``1.2.3.4:80``, ``[::1]:80``, ``/run/x.sock``."""

    @property
    def is_ip(self) -> bool:
        return bool(self.ip)

    @property
    def is_v6(self) -> bool:
        return ":" in self.ip

    @staticmethod
    def of(sockname: Any) -> "Address":
        """From what ``getsockname``, ``getpeername`` or a transport's extra info give."""
        if isinstance(sockname, tuple):
            ip = str(sockname[0])
            if ip.startswith("::ffff:") and "." in ip:
                ip = ip[7:]
            return Address(ip, int(sockname[1]))
        if isinstance(sockname, bytes):
            sockname = "@" + sockname[1:].decode("utf-8", "replace") if sockname[:1] == b"\0" else sockname.decode()
        return Address(path=str(sockname or ""))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Address) and other.text == self.text

    def __hash__(self) -> int:
        return hash(self.text)

    def __repr__(self) -> str:
        return f"Address({self.text})"


NOWHERE: Final = Address()

_INTERNAL: Final = [
    ipaddress.ip_network(net)
    for net in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "127.0.0.0/8", "::1/128", "fd00::/8")
]


def is_private(ip: str) -> bool:
    """RFC 1918, RFC 4193 and loopback, as Envoy's default for internal addresses counts them."""
    try:
        parsed = ipaddress.ip_address(ip)
    except ValueError:
        return False
    return any(parsed in net for net in _INTERNAL if net.version == parsed.version)


def is_local(remote: Address, local: Address) -> bool:
    """Same address at both ends, loopback, or no IP at all."""
    ip = remote.ip
    return not ip or ip.startswith("127.") or ip == "::1" or ip == local.ip


class CidrSet:
    """Addresses by prefix.  ``prefixes`` are textual networks such as ``10.0.0.0/8``."""

    __slots__ = ("_v4", "_v6")

    def __init__(self, prefixes: Sequence[str]) -> None:
        self._v4: dict[int, set[int]] = {}
        self._v6: dict[int, set[int]] = {}
        for prefix in prefixes:
            net = ipaddress.ip_network(prefix, strict=False)
            table = self._v4 if net.version == 4 else self._v6
            shift = net.max_prefixlen - net.prefixlen
            table.setdefault(shift, set()).add(int(net.network_address) >> shift)

    def __contains__(self, ip: object) -> bool:
        try:
            parsed = ipaddress.ip_address(str(ip))
        except ValueError:
            return False
        number = int(parsed)
        table = self._v4 if parsed.version == 4 else self._v6
        return any(number >> shift in nets for shift, nets in table.items())
