"""Where a listener listens, and the options of its sockets: from protobuf to values."""

import ipaddress
import socket
from dataclasses import dataclass
from typing import Any

from weft.api.problems import Where
from weft.proxy.address import Address

PREBIND = 0
BOUND = 1
LISTENING = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class SocketOption:
    level: int
    name: int
    value: int | bytes
    state: int = PREBIND
    """When it is set: PREBIND, BOUND or LISTENING."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenAddress:
    """One place to listen at."""

    address: Address
    mode: int = 0
    """Permissions of a Unix socket; 0 leaves what the umask gives."""
    ipv4_compat: bool = False
    """An IPv6 socket that takes IPv4 as well."""
    socket_options: tuple[SocketOption, ...] = ()
    """Of this address instead of the listener's."""

    @property
    def family(self) -> int:
        if not self.address.is_ip:
            return socket.AF_UNIX
        return socket.AF_INET6 if self.address.is_v6 else socket.AF_INET


def listen_address(message: Any, where: Where) -> ListenAddress | None:
    """From an ``envoy.config.core.v3.Address``; None after a problem."""
    kind = message.WhichOneof("address")
    if kind == "socket_address":
        return _socket_address(message.socket_address, where.field("socket_address"))
    if kind == "pipe":
        return _pipe(message.pipe, where.field("pipe"))
    if kind == "envoy_internal_address":
        where.problem("use internal_listener field instead of address for internal listeners")
    else:
        where.problem("address is necessary")
    return None


def _socket_address(message: Any, where: Where) -> ListenAddress | None:
    if message.resolver_name:
        where.field("resolver_name").problem(f"unknown address resolver: {message.resolver_name!r}")
        return None
    if message.network_namespace_filepath:
        where.field("network_namespace_filepath").problem(
            "not supported yet: listening in another network namespace"
        )
        return None
    if message.protocol == 1:
        where.field("protocol").problem("not supported yet: UDP listeners")
        return None
    if message.WhichOneof("port_specifier") == "named_port":
        where.field("named_port").problem("a listener needs a numeric port (port_value)")
        return None
    text: str = message.address
    try:
        parsed = ipaddress.ip_address(text)
    except ValueError:
        where.field("address").problem(f"malformed IP address: {text}")
        return None
    ip, compat = canonical_ip(parsed), bool(message.ipv4_compat)
    address = Address(ip, message.port_value)
    if compat and not (ip == "::" or ip.startswith("::ffff:")):
        where.field("ipv4_compat").problem(
            f"only the IPv6 address '::' or a valid IPv4-mapped IPv6 address can set ipv4_compat: {address.text}"
        )
    return ListenAddress(address=address, ipv4_compat=compat)


def canonical_ip(parsed: ipaddress.IPv4Address | ipaddress.IPv6Address) -> str:
    """One text for one address, as the socket library prints it (``::ffff:1.2.3.4``, not hexadecimal)."""
    if parsed.version == 4:
        return str(parsed)
    text = socket.inet_ntop(socket.AF_INET6, parsed.packed)
    zone = getattr(parsed, "scope_id", None)
    return f"{text}%{zone}" if zone else text


def _pipe(message: Any, where: Where) -> ListenAddress | None:
    path: str = message.path
    abstract = path.startswith("@")
    if "\0" in path and not abstract:
        where.field("path").problem("a Unix socket path cannot contain NUL")
        return None
    if len(path.encode()) >= 108:
        where.field("path").problem(f"path {path!r} exceeds the maximum Unix socket path size of 108")
        return None
    if abstract and message.mode:
        where.field("mode").problem("cannot set mode for abstract Unix sockets")
    return ListenAddress(address=Address(path=path), mode=message.mode)


def socket_options(messages: Any, where: Where) -> tuple[SocketOption, ...]:
    """From ``repeated SocketOption``; those for datagram sockets have no effect here and are left out."""
    options: list[SocketOption] = []
    for i, message in enumerate(messages):
        place = where.item(i)
        kind = message.WhichOneof("value")
        if kind is None:
            place.problem("a socket option needs int_value or buf_value")
            continue
        if (
            message.HasField("type")
            and not message.type.HasField("stream")
            and message.type.HasField("datagram")
        ):
            continue
        value = message.int_value if kind == "int_value" else bytes(message.buf_value)
        if isinstance(value, int) and not -(1 << 31) <= value < 1 << 31:
            place.field("int_value").problem(f"{value} does not fit a 32-bit socket option")
            continue
        options.append(SocketOption(level=message.level, name=message.name, value=value, state=message.state))
    return tuple(options)
