"""The plain transport socket: bytes go through as they are.

It needs no object: an asyncio transport *is* one.  The kind is here so that configurations may name it.
"""

from dataclasses import dataclass
from typing import Any, Final

from weft.api.problems import Where
from weft.proxy.extensions import Kind


@dataclass(frozen=True, slots=True)
class RawBufferSettings:
    """No settings."""


def raw_buffer_settings(message: Any, where: Where) -> RawBufferSettings:
    return RawBufferSettings()


RAW_BUFFER: Final = Kind(
    name="envoy.transport_sockets.raw_buffer",
    type="envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer",
    settings=raw_buffer_settings,
)
