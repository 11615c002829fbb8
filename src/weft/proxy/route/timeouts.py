"""Timeouts of a route that the caller of a gRPC method has a say in.

A gRPC client tells in ``grpc-timeout`` how long it waits.  A route may honour that in one of two ways.
``max_stream_duration.grpc_timeout_header_max`` makes it the longest that the stream may take, from its
first byte (:class:`StreamLimit`, armed by ``proxy/http/stream``).  The older ``max_grpc_timeout`` makes
it the time the upstream has to answer (:class:`GrpcTimeout`, used by ``proxy/http/router``).  Either way
the upstream is told what is left of it.  Here times are whole milliseconds, as in Envoy, and 0 is
*no limit* only where it says so.
"""

from typing import Any, Final

from weft.api.values import optional_seconds
from weft.http.headers import Field

_MOST: Final = 99_999_999
"""A ``grpc-timeout`` has at most eight digits (gRPC over HTTP/2, Requests)."""
_PER_UNIT: Final[dict[bytes, int]] = {b"H": 3_600_000, b"M": 60_000, b"S": 1000, b"m": 1}
_PER_MILLISECOND: Final[dict[bytes, int]] = {b"u": 1000, b"n": 1_000_000}
_UNITS: Final = ((b"S", 1000), (b"M", 60), (b"H", 60))
_LONGEST_NUMBER: Final = 20
"""Digits of the largest 64-bit number: what is longer is not even converted (security S20)."""


def unsigned(text: bytes) -> int | None:
    """A number of 64 bits as Envoy reads one in a header: white space around it, and a plus, are allowed."""
    digits = text.strip(b" \t")
    if digits[:1] == b"+":
        digits = digits[1:]
    if not digits.isdigit():
        return None
    digits = digits.lstrip(b"0")
    if len(digits) > _LONGEST_NUMBER:
        return None
    value = int(digits) if digits else 0
    return value if value < 1 << 64 else None


def parse_grpc_timeout(value: bytes | None) -> int | None:
    """Milliseconds, fractions rounded up; None where there is no value, or no valid one."""
    if not value:
        return None
    number = unsigned(value[:-1])
    if number is None or number > _MOST:
        return None
    unit = value[-1:]
    factor = _PER_UNIT.get(unit)
    if factor is not None:
        return number * factor
    parts = _PER_MILLISECOND.get(unit)
    return None if parts is None else (number + parts - 1) // parts


def grpc_timeout_field(milliseconds: int) -> Field:
    """The header that says so, in the smallest unit that has room for it."""
    number, unit = milliseconds, b"m"
    for larger, factor in _UNITS:
        if number <= _MOST:
            break
        number //= factor
        unit = larger
    return Field(b"grpc-timeout", b"%d%s" % (min(number, _MOST), unit))


class StreamLimit:
    """``max_stream_duration`` of a route."""

    __slots__ = ("duration", "most", "offset")

    def __init__(self, duration: int | None, most: int | None, offset: int) -> None:
        self.duration: int | None = duration
        """Of requests that say nothing; 0 for no limit, None for the connection manager's."""
        self.most: int | None = most
        """The longest ``grpc-timeout`` that is honoured, 0 for any; None: the header is not looked at."""
        self.offset: int = offset
        """Taken off the ``grpc-timeout``, so that we give up before the client does."""

    def longest(self, asked: int | None, default: int) -> int | None:
        """How long the stream may take; None for no limit, and 0 really means no time at all.

        ``asked`` is the parsed ``grpc-timeout``, ``default`` the connection manager's (0 for none).
        """
        most = self.most
        if asked is None or most is None:
            duration = default if self.duration is None else self.duration
            return duration if duration else None
        if most and asked > most:
            asked = most
        return max(asked - self.offset, 0)


class GrpcTimeout:
    """``max_grpc_timeout`` and ``grpc_timeout_offset``."""

    __slots__ = ("most", "offset")

    def __init__(self, most: int, offset: int) -> None:
        self.most: int = most
        """0 for any."""
        self.offset: int = offset

    def timeout(self, asked: int | None) -> int:
        """Of a gRPC request; 0 for no limit, which is also what a client wants that says nothing."""
        timeout = asked or 0
        if self.offset < timeout:
            timeout -= self.offset
        if self.most and (not timeout or timeout > self.most):
            timeout = self.most
        return timeout


# -- from configuration ----------------------------------------------------------------------------


def stream_limit(message: Any) -> StreamLimit | None:
    """From the ``max_stream_duration`` of a ``RouteAction``."""
    if not message.HasField("max_stream_duration"):
        return None
    duration = message.max_stream_duration
    return StreamLimit(
        _milliseconds(duration, "max_stream_duration"),
        _milliseconds(duration, "grpc_timeout_header_max"),
        _milliseconds(duration, "grpc_timeout_header_offset") or 0,
    )


def grpc_timeout(message: Any) -> GrpcTimeout | None:
    """From a ``RouteAction``; ``max_stream_duration``, where it is given, takes the place of these."""
    most = _milliseconds(message, "max_grpc_timeout")
    if most is None or message.HasField("max_stream_duration"):
        return None
    return GrpcTimeout(most, _milliseconds(message, "grpc_timeout_offset") or 0)


def _milliseconds(message: Any, field: str) -> int | None:
    value = optional_seconds(message, field)
    return None if value is None else int(value * 1000 + 0.000001)
