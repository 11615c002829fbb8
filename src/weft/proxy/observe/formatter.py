"""Format strings: from ``%REQ(:path)% %RESPONSE_CODE%`` to bytes, compiled once.

The grammar is Envoy's: ``%%`` is a percent sign; anything else that starts with ``%`` must be a
command, ``%NAME%``, ``%NAME(parameter)%``, ``%NAME:length%`` or ``%NAME(parameter):length%``; the
rest is literal.  The parameter reaches to the first ``)`` that a ``%`` or a ``:length%`` follows.
Commands are in ``commands_*``; ``json_format`` puts formats together to JSON.

Used by access logs, by header rules of routes, and by the bodies of local replies.
"""

import json
import re
from collections.abc import Sequence
from typing import Any, Final

from weft.api.problems import Where
from weft.proxy.clock import Clock
from weft.proxy.observe import commands_http, commands_metadata, commands_stream, commands_time
from weft.proxy.observe.commands import (
    LENGTH,
    REQUIRED,
    Command,
    FormatError,
    Operator,
    Plain,
    Table,
    truncated,
)
from weft.proxy.observe.stream_info import StreamInfo

DEFAULT_FORMAT: Final = (
    '[%START_TIME%] "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" '
    "%RESPONSE_CODE% %RESPONSE_FLAGS% %BYTES_RECEIVED% %BYTES_SENT% %DURATION% "
    '%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "%REQ(X-FORWARDED-FOR)%" "%REQ(USER-AGENT)%" '
    '"%REQ(X-REQUEST-ID)%" "%REQ(:AUTHORITY)%" "%UPSTREAM_HOST%"\n'
)
"""What an access log writes when its configuration does not say."""

_COMMAND: Final = re.compile(r"%([A-Z0-9_]+)(?:\((.*?)\))?(?::([0-9]+))?%")
_GREATEST_LENGTH: Final = 2**64 - 1

_Bytes = bytes


class LineFormat:
    """What makes the bytes of a log line (or of a body) from a stream."""

    def __init__(self) -> None:
        self.operators: list[Operator] = []
        """Every operator in it."""

    def bytes(self, info: StreamInfo, clock: Clock) -> _Bytes:
        raise NotImplementedError


class Format(LineFormat):
    """A compiled format string."""

    def __init__(self, pieces: Sequence[_Bytes | Operator], omit_empty: bool = False) -> None:
        super().__init__()
        self.literal: _Bytes | None = None
        """The whole text, when no operator is in it."""
        self.single: Operator | None = None
        """The operator that is the whole format, if it is."""
        self._empty = b"" if omit_empty else b"-"
        self._template: list[_Bytes] = []
        self._slots: list[int] = []
        for piece in pieces:
            if isinstance(piece, Operator):
                self._slots.append(len(self._template))
                self.operators.append(piece)
                self._template.append(b"")
            else:
                self._template.append(piece)
        if not self.operators:
            self.literal = b"".join(self._template)
        elif len(self._template) == 1:
            self.single = self.operators[0]

    def text(self, info: StreamInfo, clock: Clock) -> str:
        return self.bytes(info, clock).decode("utf-8", "replace")

    def value(self, info: StreamInfo, clock: Clock) -> Plain:
        """As a JSON value: typed when one operator is the whole format, else a string's bytes."""
        single = self.single
        return self.bytes(info, clock) if single is None else single.value(info, clock)

    def bytes(self, info: StreamInfo, clock: Clock) -> _Bytes:
        literal = self.literal
        if literal is not None:
            return literal
        out = self._template.copy()
        slots = self._slots
        empty = self._empty
        for at, operator in enumerate(self.operators):
            raw = operator.raw(info, clock)
            out[slots[at]] = empty if raw is None else raw
        return b"".join(out)


def compile_format(
    text: str, where: Where, *, omit_empty: bool = False, extensions: Sequence[Table] = ()
) -> Format:
    """The format of ``text``; a wrong one is a problem at ``where`` and gives a harmless format.

    ``omit_empty`` writes nothing, instead of ``-``, for what has nothing to say (header rules do).
    ``extensions`` are more commands, of the formatters that the configuration names.
    """
    try:
        return Format(parse(text, extensions), omit_empty)
    except FormatError as error:
        where.problem(str(error))
        return Format([text.encode()])


def parse(text: str, extensions: Sequence[Table] = ()) -> list[_Bytes | Operator]:
    """Literals and operators in order; raises FormatError."""
    pieces: list[_Bytes | Operator] = []
    literal = ""
    at = 0
    while at < len(text):
        percent = text.find("%", at)
        if percent < 0:
            break
        literal += text[at:percent]
        if text.startswith("%%", percent):
            literal += "%"
            at = percent + 2
            continue
        found = _COMMAND.match(text, percent)
        length = None if found is None or found.group(3) is None else int(found.group(3)[:21])
        if found is None or (length is not None and length > _GREATEST_LENGTH):
            place = len(text[:percent].encode())
            raise FormatError(
                f"Incorrect configuration: {text}. Couldn't find valid command at position {place}"
            )
        if literal:
            pieces.append(literal.encode())
            literal = ""
        pieces.append(operator(found.group(1), found.group(2) or "", length, extensions))
        at = found.end()
    literal += text[at:]
    if literal or not pieces:
        pieces.append(literal.encode())
    return pieces


def operator(name: str, parameter: str, length: int | None, extensions: Sequence[Table] = ()) -> Operator:
    """The operator of one command; raises FormatError."""
    for table in extensions:
        if name in table:
            return table[name].operator(name, parameter, length)
    command = _COMMANDS.get(name)
    if command is None:
        raise FormatError(f"Not supported field in StreamInfo: {name}")
    return command.operator(name, parameter, length)


class _Coalesce(Operator):
    """The first of several operators that gives anything but nothing."""

    def __init__(self, operators: Sequence[Operator]) -> None:
        self.operators = operators

    def raw(self, info: StreamInfo, clock: Clock) -> _Bytes | None:
        for candidate in self.operators:
            raw = candidate.raw(info, clock)
            if raw:
                return raw
        return None

    def value(self, info: StreamInfo, clock: Clock) -> Plain:
        for candidate in self.operators:
            value = candidate.value(info, clock)
            if value is not None and value not in ("", b""):
                return value
        return None


def _coalesce(parameter: str, length: int | None) -> Operator:
    try:
        settings = json.loads(parameter)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"COALESCE: failed to parse JSON configuration: {error}") from None
    if not isinstance(settings, dict) or "operators" not in settings:
        raise FormatError("COALESCE: JSON configuration must contain 'operators' array")
    entries = settings["operators"]
    if not isinstance(entries, list):
        raise FormatError("COALESCE: 'operators' must be an array")
    if not entries:
        raise FormatError("COALESCE: 'operators' array must not be empty")
    operators: list[Operator] = []
    for index, entry in enumerate(entries):
        try:
            operators.append(_coalesced(entry))
        except FormatError as error:
            raise FormatError(f"COALESCE: failed to parse operator at index {index}: {error}") from None
    return truncated(_Coalesce(operators), length)


def _coalesced(entry: Any) -> Operator:
    name: Any
    parameter: Any
    length: Any
    if isinstance(entry, str):
        name, parameter, length = entry, "", None
    elif isinstance(entry, dict):
        name, parameter, length = entry.get("command"), entry.get("param", ""), entry.get("max_length")
        if not isinstance(name, str):
            raise FormatError("operator object must have 'command' field")
        if not isinstance(parameter, str):
            raise FormatError("'param' field must be a string")
        if length is not None and (not isinstance(length, int) or isinstance(length, bool)):
            raise FormatError("'max_length' field must be an integer")
        if length is not None and length <= 0:
            raise FormatError("'max_length' must be a positive integer")
    else:
        raise FormatError(
            "operator entry must be either a string (command name) or an object with 'command' field"
        )
    if name not in _COMMANDS:
        raise FormatError(f"unknown command: '{name}'")
    return operator(name, parameter, length)


def _cel(parameter: str, length: int | None) -> Operator:
    raise FormatError("not supported yet: CEL")


_COMMANDS: Final[dict[str, Command]] = {
    **commands_http.TABLE,
    **commands_time.TABLE,
    **commands_stream.TABLE,
    **commands_metadata.TABLE,
    "COALESCE": Command(REQUIRED | LENGTH, _coalesce),
    "CEL": Command(LENGTH | 1, _cel),
    "TYPED_CEL": Command(LENGTH | 1, _cel),
}
