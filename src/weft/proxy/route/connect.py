"""CONNECT that ends here: what ``connect_config`` of a route says.

Without it a CONNECT request is forwarded, and the host opens the tunnel or does not.  With it the tunnel
ends in this proxy, and its payload goes to a host of the cluster as plain TCP (``upstream/tunnel``).
"""

from dataclasses import dataclass
from typing import Any, Final

from weft.api.problems import Where
from weft.api.values import wrapped
from weft.codec.proxy_protocol import format_v1, format_v2
from weft.proxy.address import Address

CONNECT: Final = b"connect"
CONNECT_UDP: Final = b"connect-udp"


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectSettings:
    """Set where CONNECT requests of the route end here."""

    allow_post: bool = False
    """POST does the same, with its body as what goes into the tunnel."""
    proxy_protocol: int = 0
    """Version of the PROXY protocol header that tells the host who the client is; 0 for none."""

    def ends_here(self, method: bytes) -> bool:
        return method == b"CONNECT" or (self.allow_post and method == b"POST")

    def preface(self, remote: Address, local: Address) -> bytes:
        """What the host hears before the client's first byte."""
        if not self.proxy_protocol or not remote.is_ip or not local.is_ip:
            return b""
        if self.proxy_protocol == 1:
            return format_v1(remote.ip, remote.port, local.ip, local.port)
        return format_v2(remote.ip, remote.port, local.ip, local.port, [])


def upgrades(message: Any, where: Where) -> tuple[dict[bytes, bool], ConnectSettings | None]:
    """From the ``upgrade_configs`` of a ``RouteAction``: what is allowed, and whether CONNECT ends here."""
    allowed: dict[bytes, bool] = {}
    connect: ConnectSettings | None = None
    for i, config in enumerate(message.upgrade_configs):
        place = where.item(i)
        kind = config.upgrade_type.lower().encode()
        if kind in allowed:
            place.problem(f"Duplicate upgrade {config.upgrade_type}")
        if kind == CONNECT_UDP:
            place.field("upgrade_type").problem("not supported yet: CONNECT-UDP")
        elif config.HasField("connect_config"):
            if kind == CONNECT:
                connect = _connect(config.connect_config, place.field("connect_config"))
            else:
                place.problem(f"Non-CONNECT upgrade type {config.upgrade_type} has ConnectConfig")
        allowed[kind] = wrapped(config, "enabled", True)
    return allowed, connect


def _connect(message: Any, where: Where) -> ConnectSettings:
    version = 0
    if message.HasField("proxy_protocol_config"):
        config = message.proxy_protocol_config
        place = where.field("proxy_protocol_config")
        version = config.version + 1
        for name in ("pass_through_tlvs", "added_tlvs"):
            descriptor = config.DESCRIPTOR.fields_by_name.get(name)
            if descriptor is None:
                continue
            if len(getattr(config, name)) if descriptor.is_repeated else config.HasField(name):
                place.field(name).problem(f"not supported yet: {name}")
    return ConnectSettings(allow_post=message.allow_post, proxy_protocol=version)
