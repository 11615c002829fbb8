"""Where upstream connections come from: source addresses, socket options, TCP keep-alive."""

import socket
from dataclasses import dataclass
from typing import Any

from weft.api.problems import Where
from weft.api.values import wrapped
from weft.proxy.address import Address
from weft.proxy.upstream.endpoints import plain_ip


@dataclass(frozen=True, slots=True, kw_only=True)
class KeepaliveSettings:
    """None leaves it to the kernel."""

    probes: int | None = None
    time: int | None = None
    """Seconds idle before the first probe."""
    interval: int | None = None
    """Seconds between probes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SocketOptionSettings:
    level: int
    name: int
    value: int | bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class BindSettings:
    sources: tuple[Address, ...] = ()
    """At most one of each IP version."""
    socket_options: tuple[SocketOptionSettings, ...] = ()
    """Set before binding."""

    def source_for(self, address: Address) -> Address | None:
        """The source of the same IP version; None leaves the choice to the kernel."""
        for source in self.sources:
            if source.is_v6 == address.is_v6:
                return source
        return None


def bind_settings(message: Any, where: Where) -> BindSettings:
    """From ``envoy.config.core.v3.BindConfig``."""
    sources: list[Address] = []
    if message.HasField("source_address"):
        _source(message.source_address, where.field("source_address"), sources)
    if message.extra_source_addresses and message.additional_source_addresses:
        where.problem("can't specify both extra_source_addresses and additional_source_addresses")
    for name in ("extra_source_addresses", "additional_source_addresses"):
        entries = getattr(message, name)
        if entries and not message.HasField("source_address"):
            where.field(name).problem("needs source_address")
        if len(entries) > 1:
            where.field(name).problem("only one more source address is allowed")
        for i, entry in enumerate(entries):
            place = where.field(name).item(i)
            if name == "extra_source_addresses":
                if entry.HasField("socket_options"):
                    place.field("socket_options").problem(
                        "not supported yet: socket options of one source address"
                    )
                _source(entry.address, place.field("address"), sources)
            else:
                _source(entry, place, sources)
    if len(sources) == 2 and sources[0].is_v6 == sources[1].is_v6:
        where.problem("the two source addresses must be of different IP versions")
    if message.HasField("local_address_selector"):
        where.field("local_address_selector").problem("not supported yet: local_address_selector")
    options: list[SocketOptionSettings] = []
    if wrapped(message, "freebind", False):
        options.append(SocketOptionSettings(level=socket.IPPROTO_IP, name=15, value=1))  # IP_FREEBIND
    for i, option in enumerate(message.socket_options):
        settings = socket_option(option, where.field("socket_options").item(i))
        if settings is not None:
            options.append(settings)
    return BindSettings(sources=tuple(sources), socket_options=tuple(options))


def _source(message: Any, where: Where, sources: list[Address]) -> None:
    ip = plain_ip(message.address)
    if not ip:
        where.field("address").problem(f"malformed IP address: {message.address}")
        return
    if message.network_namespace_filepath:
        where.field("network_namespace_filepath").problem("not supported yet: network namespaces")
    sources.append(Address(ip, message.port_value))


def socket_option(message: Any, where: Where) -> SocketOptionSettings | None:
    """From ``envoy.config.core.v3.SocketOption``; None for one that never applies to an upstream."""
    if message.state == 2:  # STATE_LISTENING
        return None
    if message.HasField("type"):
        if message.type.HasField("datagram") and not message.type.HasField("stream"):
            return None
    which = message.WhichOneof("value")
    value = message.int_value if which == "int_value" else message.buf_value
    return SocketOptionSettings(level=message.level, name=message.name, value=value)


def keepalive_settings(message: Any) -> KeepaliveSettings | None:
    """From ``envoy.config.cluster.v3.UpstreamConnectionOptions``."""
    if not message.HasField("tcp_keepalive"):
        return None
    given = message.tcp_keepalive
    return KeepaliveSettings(
        probes=given.keepalive_probes.value if given.HasField("keepalive_probes") else None,
        time=given.keepalive_time.value if given.HasField("keepalive_time") else None,
        interval=given.keepalive_interval.value if given.HasField("keepalive_interval") else None,
    )
