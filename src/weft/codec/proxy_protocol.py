"""The PROXY protocol, versions 1 and 2: a connection's true ends, told by a proxy in front.

Source: https://www.haproxy.org/download/2.9/doc/proxy-protocol.txt.  What is left open there is
decided as Envoy decides it: only stream and datagram over IPv4 and IPv6 are known, addresses must be
unicast, a ``LOCAL`` header may carry anything, and a TLV that does not end inside the header refuses
the whole header (CVE-2026-47692: what is cut off there would be read as the client's first bytes).

:func:`parse` is called with everything received so far and is cheap until the header is complete,
so a peer that sends one byte at a time costs little.
"""

import socket
from typing import Final

from weft.codec.errors import PeerError

SIGNATURE_V1: Final = b"PROXY "
SIGNATURE_V2: Final = b"\r\n\r\n\x00\r\nQUIT\n"
MAX_V1: Final = 108
"""Bytes of a version 1 line with its CRLF (107 in the specification; Envoy takes one more)."""
MAX_V2: Final = 16 + 65535

_INET: Final = 1
_INET6: Final = 2
_PORTS: Final = 65536


class ProxyHeader:
    """A complete header.  ``length`` bytes of the stream are taken by it."""

    __slots__ = (
        "command_local",
        "destination",
        "destination_port",
        "length",
        "source",
        "source_port",
        "tlvs",
        "version",
    )

    def __init__(self, version: int, length: int) -> None:
        self.version = version
        self.length = length
        self.command_local: bool = True
        """The connection is the proxy's own (or of an unknown kind): the socket's ends are true."""
        self.source: str = ""
        self.source_port: int = 0
        self.destination: str = ""
        self.destination_port: int = 0
        self.tlvs: list[tuple[int, bytes]] = []
        """(type, value), in order."""


def could_be(data: bytes) -> bool:
    """Whether ``data`` is, or may become, the beginning of a header of any version."""
    return version_of(data) != 0


def version_of(data: bytes) -> int:
    """1 or 2 once the signature is complete, -1 when it may still become one, else 0."""
    if data.startswith(SIGNATURE_V1):
        return 1
    if data.startswith(SIGNATURE_V2):
        return 2
    if SIGNATURE_V1.startswith(data) or SIGNATURE_V2.startswith(data):
        return -1
    return 0


def parse(data: bytes) -> ProxyHeader | None:
    """The header that ``data`` begins with; None when there is not enough yet.

    Raises PeerError when there is no header, or a wrong one.
    """
    version = version_of(data)
    if version == 1:
        return _parse_v1(data)
    if version == 2:
        return _parse_v2(data)
    if version == 0:
        raise PeerError("proxy_protocol_not_found", "no PROXY protocol header")
    return None


def _parse_v1(data: bytes) -> ProxyHeader | None:
    end = data.find(b"\r\n", 0, MAX_V1)
    if end < 0:
        if len(data) >= MAX_V1:
            raise PeerError(
                "proxy_protocol_v1_too_long",
                "the line of a PROXY protocol header does not end within 108 bytes",
            )
        if b"\n" in data:
            raise PeerError(
                "proxy_protocol_v1_bare_lf", "the line of a PROXY protocol header ends in LF without CR"
            )
        return None
    line = data[:end]
    header = ProxyHeader(1, end + 2)
    if line == b"PROXY UNKNOWN" or line.startswith(b"PROXY UNKNOWN "):
        return header
    parts = line.removesuffix(b" ").split(b" ")
    if len(parts) != 6:
        raise PeerError(
            "proxy_protocol_v1_malformed", "a PROXY protocol line needs family, two addresses and two ports"
        )
    if parts[1] == b"TCP4":
        family = socket.AF_INET
    elif parts[1] == b"TCP6":
        family = socket.AF_INET6
    else:
        raise PeerError(
            "proxy_protocol_v1_unknown_family",
            "the family of a PROXY protocol line is none of TCP4, TCP6, UNKNOWN",
        )
    header.source = _textual(family, parts[2])
    header.destination = _textual(family, parts[3])
    header.source_port = _port(parts[4])
    header.destination_port = _port(parts[5])
    header.command_local = False
    return header


def _textual(family: int, text: bytes) -> str:
    """A textual address in its canonical form."""
    # The zone of a link-local address says something about the sender's interfaces, nothing here.
    try:
        packed = socket.inet_pton(
            family,
            text.partition(b"%")[0].decode("ascii") if family == socket.AF_INET6 else text.decode("ascii"),
        )
    except (OSError, ValueError):
        raise PeerError(
            "proxy_protocol_bad_address",
            "an address in a PROXY protocol header is no unicast address of its family",
        ) from None
    return _unicast(family, packed)


def _unicast(family: int, packed: bytes) -> str:
    first = packed[0]
    if family == socket.AF_INET:
        bad = packed == b"\0\0\0\0" or packed == b"\xff\xff\xff\xff" or 224 <= first <= 239
    else:
        bad = packed == b"\0" * 16 or first == 0xFF
    if bad:
        raise PeerError(
            "proxy_protocol_bad_address",
            "an address in a PROXY protocol header is no unicast address of its family",
        )
    return socket.inet_ntop(family, packed)


def _port(text: bytes) -> int:
    digits = text.removeprefix(b"+")
    # isdigit before int(): int() takes underscores, and time quadratic in the length.
    if not digits.isdigit() or len(digits) > 20:
        raise PeerError("proxy_protocol_bad_port", "a port in a PROXY protocol line is no number up to 65535")
    port = int(digits)
    if port >= _PORTS:
        raise PeerError("proxy_protocol_bad_port", "a port in a PROXY protocol line is no number up to 65535")
    return port


def _parse_v2(data: bytes) -> ProxyHeader | None:
    if len(data) < 16:
        return None
    version_and_command = data[12]
    family_and_transport = data[13]
    length = (data[14] << 8) | data[15]
    command = version_and_command & 0xF
    if version_and_command >> 4 != 2:
        raise PeerError(
            "proxy_protocol_v2_bad_version", "the version of a binary PROXY protocol header is not 2"
        )
    if command > 1:
        raise PeerError(
            "proxy_protocol_v2_bad_command",
            "the command of a PROXY protocol header is neither LOCAL nor PROXY",
        )
    header = ProxyHeader(2, 16 + length)
    if command == 0:
        return header if len(data) >= header.length else None
    if family_and_transport & 0xF not in (1, 2):
        raise PeerError(
            "proxy_protocol_v2_unknown_transport",
            "the transport of a PROXY protocol header is neither stream nor datagram",
        )
    family_number = family_and_transport >> 4
    if family_number == _INET:
        family, size = socket.AF_INET, 4
    elif family_number == _INET6:
        family, size = socket.AF_INET6, 16
    else:
        raise PeerError(
            "proxy_protocol_v2_unknown_family",
            "the family of a PROXY protocol header is neither IPv4 nor IPv6",
        )
    addresses = 2 * size + 4
    if length < addresses:
        raise PeerError(
            "proxy_protocol_v2_too_short", "a PROXY protocol header is too short for its addresses"
        )
    if len(data) < header.length:
        return None
    header.source = _unicast(family, data[16 : 16 + size])
    header.destination = _unicast(family, data[16 + size : 16 + 2 * size])
    at = 16 + 2 * size
    header.source_port = (data[at] << 8) | data[at + 1]
    header.destination_port = (data[at + 2] << 8) | data[at + 3]
    header.tlvs = _parse_tlvs(data, at + 4, header.length)
    header.command_local = False
    return header


def _parse_tlvs(data: bytes, at: int, end: int) -> list[tuple[int, bytes]]:
    tlvs: list[tuple[int, bytes]] = []
    while at < end:
        if at + 3 > end:
            raise PeerError(
                "proxy_protocol_v2_bad_tlv", "a TLV of a PROXY protocol header does not end inside it"
            )
        size = (data[at + 1] << 8) | data[at + 2]
        if at + 3 + size > end:
            raise PeerError(
                "proxy_protocol_v2_bad_tlv", "a TLV of a PROXY protocol header does not end inside it"
            )
        tlvs.append((data[at], data[at + 3 : at + 3 + size]))
        at += 3 + size
    return tlvs


def format_v1(source: str, source_port: int, destination: str, destination_port: int) -> bytes:
    """A version 1 line."""
    family = "TCP6" if ":" in source else "TCP4"
    return f"PROXY {family} {source} {destination} {source_port} {destination_port}\r\n".encode("ascii")


def format_v2(
    source: str, source_port: int, destination: str, destination_port: int, tlvs: list[tuple[int, bytes]]
) -> bytes:
    """A version 2 header of a proxied stream."""
    family = socket.AF_INET6 if ":" in source else socket.AF_INET
    body = socket.inet_pton(family, source) + socket.inet_pton(family, destination)
    body += source_port.to_bytes(2, "big") + destination_port.to_bytes(2, "big")
    for kind, value in tlvs:
        body += bytes([kind]) + len(value).to_bytes(2, "big") + value
    number = _INET6 if family == socket.AF_INET6 else _INET
    return SIGNATURE_V2 + bytes([0x21, number << 4 | 1]) + len(body).to_bytes(2, "big") + body
