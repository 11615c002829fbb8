"""Commands about time: when a stream began, when the line was written, and how long things took.

Patterns are ``strftime``'s with the additions of Envoy (``%3f``, ``%s``) and of its time library
(``%E3S``, ``%Ez``).  A pattern is cut once into pieces that change with the second and fractions
that change always, so that within one second only the fractions are made anew.
"""

import re
import time
from typing import Final

from weft.proxy.clock import Clock
from weft.proxy.observe.commands import (
    OPTIONAL,
    REQUIRED,
    Command,
    FormatError,
    Number,
    Operator,
    Table,
    alone,
    nothing,
)
from weft.proxy.observe.stream_info import StreamInfo

_PIECE: Final = re.compile(r"%(?:([1-9])?f|s|E(\d+|\*)([Sf])|(E\*?z|:{1,3}z|z)|ET|E4Y|%)")
_LINE_FEED: Final = re.compile(r"%[-_0^#]*[1-9]*(?:E|O)?n")

_SECOND: Final = 0
_DIGITS: Final = 1
_SHORTEST: Final = 2


class TimePattern:
    """A compiled pattern; ``render`` takes seconds since the epoch."""

    def __init__(self, pattern: str, local: bool) -> None:
        self._local = local
        self._pieces: list[tuple[int, str, int]] = []
        """(kind, strftime pattern or text put before a shortest fraction, digits)."""
        self._compile(pattern)
        self._second = -1
        self._texts: list[str] = []

    def _compile(self, pattern: str) -> None:
        pending = ""
        at = 0
        for found in _PIECE.finditer(pattern):
            pending += pattern[at : found.start()]
            at = found.end()
            token = found.group()
            digits, precision, kind, zone = found.groups()
            if token == "%%":
                pending += "%%"
            elif token == "%s":
                pending += "\0s"
            elif token == "%ET":
                pending += "T"
            elif token == "%E4Y":
                pending += "%Y"
            elif zone is not None:
                pending += f"\0{zone}\0"
            elif precision is not None:
                if kind == "S":
                    pending += "%S"
                if precision == "*":
                    self._pieces += [(_SECOND, pending, 0), (_SHORTEST, "." if kind == "S" else "", 0)]
                elif int(precision) == 0:
                    continue
                else:
                    self._pieces += [
                        (_SECOND, pending + ("." if kind == "S" else ""), 0),
                        (_DIGITS, "", min(int(precision), 15)),
                    ]
                pending = ""
            else:
                self._pieces += [(_SECOND, pending, 0), (_DIGITS, "", int(digits or "9"))]
                pending = ""
        pending += pattern[at:]
        if pending:
            self._pieces.append((_SECOND, pending, 0))

    def render(self, wall: float) -> str:
        second, fraction = divmod(int(wall * 1_000_000 + 0.5), 1_000_000)
        if second != self._second:
            self._renew(second)
        micros = f"{fraction:06d}"
        out: list[str] = []
        for (kind, prefix, digits), text in zip(self._pieces, self._texts, strict=True):
            if kind == _SECOND:
                out.append(text)
            elif kind == _DIGITS:
                out.append(micros[:digits] if digits <= 6 else micros + "0" * (digits - 6))
            else:
                shortest = micros.rstrip("0")
                out.append(prefix + shortest if shortest else ("" if prefix else "0"))
        return "".join(out)

    def _renew(self, second: int) -> None:
        parts = time.localtime(second) if self._local else time.gmtime(second)
        offset = parts.tm_gmtoff if self._local else 0
        self._texts = [
            self._strftime(text, parts, second, offset) if kind == _SECOND else ""
            for kind, text, _ in self._pieces
        ]
        self._second = second

    @staticmethod
    def _strftime(pattern: str, parts: time.struct_time, second: int, offset: int) -> str:
        if "\0" in pattern:
            pattern = pattern.replace("\0s", str(second))
            for mark in ("E*z", ":::z", "::z", "Ez", ":z", "z"):
                if f"\0{mark}\0" in pattern:
                    pattern = pattern.replace(f"\0{mark}\0", _zone(mark, offset))
        if "%Z" in pattern and not parts.tm_gmtoff and parts.tm_zone == "GMT":
            pattern = pattern.replace("%Z", "UTC")
        return time.strftime(pattern, parts)


def _zone(mark: str, offset: int) -> str:
    sign = "-" if offset < 0 else "+"
    hours, rest = divmod(abs(offset), 3600)
    minutes, seconds = divmod(rest, 60)
    if mark == "z":
        return f"{sign}{hours:02d}{minutes:02d}"
    if mark in ("Ez", ":z"):
        return f"{sign}{hours:02d}:{minutes:02d}"
    if mark in ("E*z", "::z"):
        return f"{sign}{hours:02d}:{minutes:02d}:{seconds:02d}"
    out = f"{sign}{hours:02d}"  # as short as it can be
    if minutes or seconds:
        out += f":{minutes:02d}"
    if seconds:
        out += f":{seconds:02d}"
    return out


class DefaultTime:
    """``2026-01-02T03:04:05.678Z``: the pattern of nearly every log, made once a millisecond."""

    def __init__(self) -> None:
        self._second = -1
        self._head = ""
        self._millis = -1
        self._text = b""

    def render(self, wall: float) -> bytes:
        millis = int(wall * 1000.0 + 0.0005)  # half a microsecond: what a float of today is good for
        if millis != self._millis:
            self._millis = millis
            second = millis // 1000
            if second != self._second:
                self._head = time.strftime("%Y-%m-%dT%H:%M:%S.", time.gmtime(second))
                self._second = second
            self._text = f"{self._head}{millis - second * 1000:03d}Z".encode()
        return self._text


class _StartTime(Operator):
    def __init__(self) -> None:
        self._time = DefaultTime()

    def raw(self, info: StreamInfo, clock: Clock) -> bytes | None:
        return self._time.render(clock.wall(info.start))


class _EmitTime(Operator):
    def __init__(self) -> None:
        self._time = DefaultTime()

    def raw(self, info: StreamInfo, clock: Clock) -> bytes | None:
        return self._time.render(clock.wall(clock.now()))


class _PatternedStart(Operator):
    def __init__(self, pattern: TimePattern) -> None:
        self._pattern = pattern

    def raw(self, info: StreamInfo, clock: Clock) -> bytes | None:
        return self._pattern.render(clock.wall(info.start)).encode()


class _PatternedEmit(Operator):
    def __init__(self, pattern: TimePattern) -> None:
        self._pattern = pattern

    def raw(self, info: StreamInfo, clock: Clock) -> bytes | None:
        return self._pattern.render(clock.wall(clock.now())).encode()


_LOCAL_DEFAULT: Final = "%Y-%m-%dT%H:%M:%E3S%z"


def _checked(pattern: str) -> str:
    if _LINE_FEED.search(pattern):
        raise FormatError("Invalid header configuration. Format string contains newline.")
    return pattern


def _start_time(parameter: str, length: int | None) -> Operator:
    return _PatternedStart(TimePattern(_checked(parameter), False)) if parameter else _StartTime()


def _start_time_local(parameter: str, length: int | None) -> Operator:
    return _PatternedStart(TimePattern(_checked(parameter) or _LOCAL_DEFAULT, True))


def _emit_time(parameter: str, length: int | None) -> Operator:
    return _PatternedEmit(TimePattern(_checked(parameter), False)) if parameter else _EmitTime()


def _emit_time_local(parameter: str, length: int | None) -> Operator:
    return _PatternedEmit(TimePattern(_checked(parameter) or _LOCAL_DEFAULT, True))


def _certificate_time(parameter: str, length: int | None) -> Operator:
    _checked(parameter)
    return nothing().build("", None)


# -- durations ------------------------------------------------------------------------------

DS_RX_BEG: Final = 0
DS_RX_END: Final = 1
US_CX_BEG: Final = 2
US_CX_END: Final = 3
US_TX_BEG: Final = 4
US_TX_END: Final = 5
US_RX_BEG: Final = 6
US_RX_END: Final = 7
DS_TX_BEG: Final = 8
DS_TX_END: Final = 9
DS_CX_BEG: Final = 10
DS_CX_END: Final = 11
NOW: Final = 12
UNKNOWN: Final = 13

_POINTS: Final = {
    "DS_RX_BEG": DS_RX_BEG,
    "DS_RX_END": DS_RX_END,
    "US_CX_BEG": US_CX_BEG,
    "US_CX_END": US_CX_END,
    "US_TX_BEG": US_TX_BEG,
    "US_TX_END": US_TX_END,
    "US_RX_BEG": US_RX_BEG,
    "US_RX_END": US_RX_END,
    "DS_TX_BEG": DS_TX_BEG,
    "DS_TX_END": DS_TX_END,
    "DS_CX_BEG": DS_CX_BEG,
    "DS_CX_END": DS_CX_END,
}


def _point(info: StreamInfo, clock: Clock, point: int) -> float:
    """A moment of a stream in loop time; 0.0 when it has not come."""
    if point == DS_RX_BEG:
        return info.start
    if point == DS_RX_END:
        return info.request_end
    if point == US_RX_BEG:
        return info.first_upstream_received
    if point == US_RX_END:
        return info.last_upstream_received
    if point == DS_TX_BEG:
        return info.first_downstream_sent
    if point == DS_TX_END:
        return info.last_downstream_sent
    if point == US_TX_BEG:
        return info.first_upstream_sent
    if point == US_TX_END:
        return info.last_upstream_sent
    if point == US_CX_BEG:
        return info.upstream_connect_start
    if point == US_CX_END:
        return info.upstream_connect_end
    if point == DS_CX_BEG:
        return info.connection.start
    if point == DS_CX_END:
        return info.end if info.request is None else 0.0
    if point == NOW:
        return info.end or clock.now()
    return 0.0


class _Between(Number):
    """From one moment to another, in whole units of ``1 / per_second`` seconds."""

    def __init__(self, begin: int, end: int, per_second: int = 1000) -> None:
        self._begin = begin
        self._end = end
        self._per_second = per_second

    def number(self, info: StreamInfo, clock: Clock) -> int:
        end = _point(info, clock, self._end)
        begin = _point(info, clock, self._begin)
        if (end == 0.0 and self._end != NOW) or (begin == 0.0 and self._begin not in (DS_RX_BEG, DS_CX_BEG)):
            return -1
        if end < begin:
            return -1
        # Loop times are sums of floats: 0.3 s must not come out as 299 ms.
        return int((end - begin) * self._per_second + 1e-6)


class _Duration(Number):
    def number(self, info: StreamInfo, clock: Clock) -> int:
        return int(((info.end or clock.now()) - info.start) * 1000 + 1e-6)


def _common_duration(parameter: str, length: int | None) -> Operator:
    parts = parameter.split(":")
    if not 2 <= len(parts) <= 3:
        raise FormatError(f"Invalid common duration configuration: {parameter}.")
    per_second = {"ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
    precision = parts[2] if len(parts) == 3 else "ms"
    if precision not in per_second:
        raise FormatError(f"Invalid common duration precision: {precision}.")
    return _Between(_POINTS.get(parts[0], UNKNOWN), _POINTS.get(parts[1], UNKNOWN), per_second[precision])


TABLE: Final[Table] = {
    "START_TIME": Command(OPTIONAL, _start_time),
    "START_TIME_LOCAL": Command(OPTIONAL, _start_time_local),
    "EMIT_TIME": Command(OPTIONAL, _emit_time),
    "EMIT_TIME_LOCAL": Command(OPTIONAL, _emit_time_local),
    "DOWNSTREAM_PEER_CERT_V_START": Command(OPTIONAL, _certificate_time),
    "DOWNSTREAM_PEER_CERT_V_END": Command(OPTIONAL, _certificate_time),
    "UPSTREAM_PEER_CERT_V_START": Command(OPTIONAL, _certificate_time),
    "UPSTREAM_PEER_CERT_V_END": Command(OPTIONAL, _certificate_time),
    "DURATION": alone(_Duration),
    "COMMON_DURATION": Command(REQUIRED, _common_duration),
    "REQUEST_DURATION": alone(lambda: _Between(DS_RX_BEG, DS_RX_END)),
    "REQUEST_TX_DURATION": alone(lambda: _Between(DS_RX_BEG, US_TX_END)),
    "RESPONSE_DURATION": alone(lambda: _Between(DS_RX_BEG, US_RX_BEG)),
    "RESPONSE_TX_DURATION": alone(lambda: _Between(US_RX_BEG, DS_TX_END)),
    "UPSTREAM_CONNECTION_POOL_READY_DURATION": alone(lambda: _Between(DS_RX_BEG, US_TX_BEG)),
    "DOWNSTREAM_HANDSHAKE_DURATION": nothing(),
    "ROUNDTRIP_DURATION": nothing(),
}
