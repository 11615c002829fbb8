"""Does this connection speak HTTP, and which version?

The counterpart of Envoy's ``envoy.filters.listener.http_inspector``: it sets the application protocol
that filter chains match on (``http/1.0``, ``http/1.1``, ``h2c``), and refuses nothing.
"""

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
_LONGEST_METHOD: Final = 64


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
    """``http/1.0``, ``http/1.1``, ``h2c``, NOT_HTTP, or UNDECIDED when more bytes are needed."""
    if data[: len(PREFACE)] == PREFACE[: len(data)]:
        return "h2c" if len(data) >= len(PREFACE) else UNDECIDED
    # Empty lines before a request line are allowed (RFC 9112 2.2).
    start = 0
    while data[start : start + 2] == b"\r\n":
        start += 2
    end = data.find(b"\n", start, MOST)
    if end < 0:
        if len(data) >= MOST:
            return NOT_HTTP
        space = data.find(b" ", start, start + _LONGEST_METHOD)
        method = data[start : start + _LONGEST_METHOD] if space < 0 else data[start:space]
        if method not in (b"", b"\r") and not _TOKEN.issuperset(method.rstrip(b"\r")):
            return NOT_HTTP
        if space < 0 and len(data) - start >= _LONGEST_METHOD:
            return NOT_HTTP
        return UNDECIDED
    parts = data[start:end].removesuffix(b"\r").split(b" ")
    if len(parts) != 3 or not parts[0] or not parts[1] or not _TOKEN.issuperset(parts[0]):
        return NOT_HTTP
    if parts[2] == b"HTTP/1.1":
        return "http/1.1"
    if parts[2] == b"HTTP/1.0":
        return "http/1.0"
    return NOT_HTTP


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


def _build(settings: HttpInspectorSettings, context: WorkerContext, scope: str) -> Callable[[], ListenerFilter]:
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
