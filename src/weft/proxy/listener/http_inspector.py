"""Does this connection speak HTTP, and which version?

The counterpart of Envoy's ``envoy.filters.listener.http_inspector``: it sets the application protocol
that filter chains match on (``http/1.0``, ``http/1.1``, ``h2c``), and refuses nothing.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from weft.api.problems import Where
from weft.proxy.context import WorkerContext
from weft.proxy.extensions import ListenerFilterKind
from weft.proxy.listener.filter import CONTINUE, WAIT, Accepted, ListenerFilter
from weft.proxy.observe.stats import StatGroup, rows

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
MOST: Final = 64 * 1024
"""Bytes of a request line looked at (Envoy's ``MAX_INSPECT_SIZE``)."""
_TOKEN: Final = frozenset(b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")


class HttpInspectorStats(StatGroup):
    """``http_inspector.``"""

    STATS = rows("http10_found", "http11_found", "http2_found", "http_not_found", "read_error")

    def __init__(self) -> None:
        self.http10_found: int = 0
        self.http11_found: int = 0
        self.http2_found: int = 0
        self.http_not_found: int = 0
        self.read_error: int = 0


@dataclass(frozen=True, slots=True)
class HttpInspectorSettings:
    """No settings."""


def http_inspector_settings(message: Any, where: Where) -> HttpInspectorSettings:
    return HttpInspectorSettings()


UNDECIDED: Final = "undecided"
NOT_HTTP: Final = ""


def protocol_of(data: bytes) -> str:
    """``http/1.0``, ``http/1.1``, ``h2c``, NOT_HTTP, or UNDECIDED when more bytes are needed.

    As lenient as Envoy: words may be far apart, and a line with another version, or none, is HTTP/1.0.
    """
    if data[: len(PREFACE)] == PREFACE[: len(data)]:
        return "h2c" if len(data) >= len(PREFACE) else UNDECIDED
    end = data.find(b"\n", 0, MOST)
    if end < 0:
        if len(data) >= MOST:
            return NOT_HTTP
        # The beginning is judged by a bounded piece: it is looked at again for every packet.
        method = _METHOD_END.split(data[:_METHOD_LOOKED_AT], maxsplit=1)[0]
        return UNDECIDED if _TOKEN.issuperset(method) and data[:1] not in b" \t\r" else NOT_HTTP
    line = data[:end]
    words = line.split()
    if not 2 <= len(words) <= 3 or not _TOKEN.issuperset(words[0]) or line[:1].isspace():
        return NOT_HTTP
    if not _is_target(words[0], words[1]):
        return NOT_HTTP
    if len(words) == 2:
        return "http/1.0"
    version = words[2]
    if len(version) != 8 or not version.startswith(b"HTTP/") or version[6:7] != b".":
        return NOT_HTTP
    if not (version[5:6].isdigit() and version[7:8].isdigit()):
        return NOT_HTTP
    return "http/1.1" if version == b"HTTP/1.1" else "http/1.0"


_METHOD_LOOKED_AT: Final = 256
_METHOD_END: Final = re.compile(rb"[ \t\r]")


def _is_target(method: bytes, target: bytes) -> bool:
    """Origin form, ``*``, absolute form, or, of CONNECT, an authority."""
    if target.startswith((b"/", b"*")) or method == b"CONNECT":
        return True
    scheme, separator, _ = target.partition(b"://")
    return bool(separator) and scheme.isalpha()


class HttpInspector(ListenerFilter):
    """Keeps no state: one for all connections."""

    def __init__(self, stats: HttpInspectorStats) -> None:
        self._stats = stats

    def on_accept(self, accepted: Accepted) -> int:
        # What TLS carries is not for us to see.
        return CONTINUE if accepted.info.transport_protocol == "tls" else WAIT

    def on_data(self, accepted: Accepted) -> int:
        protocol = protocol_of(accepted.buffer)
        if protocol == UNDECIDED:
            return WAIT
        stats = self._stats
        if protocol == "http/1.1":
            stats.http11_found += 1
        elif protocol == "http/1.0":
            stats.http10_found += 1
        elif protocol == "h2c":
            stats.http2_found += 1
        else:
            stats.http_not_found += 1
            return CONTINUE
        accepted.info.application_protocols = [protocol]
        return CONTINUE


def _build(
    settings: HttpInspectorSettings, context: WorkerContext, scope: str
) -> Callable[[], ListenerFilter]:
    stats = HttpInspectorStats()
    context.stats.register("http_inspector.", stats)
    only = HttpInspector(stats)
    return lambda: only


HTTP_INSPECTOR: Final = ListenerFilterKind(
    name="envoy.filters.listener.http_inspector",
    type="envoy.extensions.filters.listener.http_inspector.v3.HttpInspector",
    settings=http_inspector_settings,
    build=_build,
)
