"""What a ``%COMMAND%`` of a format string is.

A format is compiled once: every command becomes an :class:`Operator`, a small object that knows
how to get one fact out of a :class:`~weft.proxy.observe.stream_info.StreamInfo`.  The tables of
commands live in the modules ``commands_*``, by what they look at; ``formatter`` puts them together
and parses the strings.

Bytes stay bytes: an operator gives the bytes of its fact as they go into a line, or None when
there is nothing to say (then the format writes ``-``, or nothing where empty values are omitted).
For JSON it gives a plain value, in which numbers are numbers.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from weft.proxy.clock import Clock
from weft.proxy.observe.stream_info import StreamInfo

Plain = Any
"""A value of JSON: None, bool, int, float, str, list or dict; or the bytes of a string."""


class FormatError(Exception):
    """A format string that cannot be compiled; the text says why."""


class Operator:
    """One fact of a stream.  Subclasses override :meth:`raw`, and :meth:`value` for non-strings."""

    def raw(self, info: StreamInfo, clock: Clock) -> bytes | None:
        """The fact as text; None when there is nothing to say."""
        raise NotImplementedError

    def value(self, info: StreamInfo, clock: Clock) -> Plain:
        """The fact as a JSON value; a string may be given as its bytes."""
        return self.raw(info, clock)


class Unchecked(Operator):
    """A string that nobody checked on its way in; override :meth:`found`.

    In text its control characters are escaped; JSON escapes by itself.
    """

    def found(self, info: StreamInfo, clock: Clock) -> bytes | None:
        raise NotImplementedError

    def raw(self, info: StreamInfo, clock: Clock) -> bytes | None:
        found = self.found(info, clock)
        return None if found is None else printable(found)

    def value(self, info: StreamInfo, clock: Clock) -> Plain:
        return self.found(info, clock)


class Number(Operator):
    """A whole number; override :meth:`number`.  Negative: nothing to say."""

    def number(self, info: StreamInfo, clock: Clock) -> int:
        raise NotImplementedError

    def raw(self, info: StreamInfo, clock: Clock) -> bytes | None:
        number = self.number(info, clock)
        return None if number < 0 else b"%d" % number

    def value(self, info: StreamInfo, clock: Clock) -> Plain:
        number = self.number(info, clock)
        return None if number < 0 else number


class Constant(Operator):
    """The same for every stream."""

    def __init__(self, text: bytes) -> None:
        self._text = text

    def raw(self, info: StreamInfo, clock: Clock) -> bytes | None:
        return self._text


class ConstantNumber(Number):
    """A number that is the same for every stream."""

    def __init__(self, number: int) -> None:
        self._number = number

    def number(self, info: StreamInfo, clock: Clock) -> int:
        return self._number


class Nothing(Operator):
    """A fact that this proxy cannot know (yet)."""

    def raw(self, info: StreamInfo, clock: Clock) -> bytes | None:
        return None


class Truncated(Operator):
    """At most ``length`` bytes of another operator (``%COMMAND:length%``)."""

    def __init__(self, operator: Operator, length: int) -> None:
        self._operator = operator
        self._length = length

    def raw(self, info: StreamInfo, clock: Clock) -> bytes | None:
        raw = self._operator.raw(info, clock)
        return None if raw is None else raw[: self._length]

    def value(self, info: StreamInfo, clock: Clock) -> Plain:
        value = self._operator.value(info, clock)
        return value[: self._length] if isinstance(value, str | bytes) else value


def truncated(operator: Operator, length: int | None) -> Operator:
    return operator if length is None else Truncated(operator, length)


# How a command may be written, as Envoy checks it before it looks at the parameter.
ALONE: Final = 0
"""``%COMMAND%`` (or with empty parentheses)."""
OPTIONAL: Final = 1
"""``%COMMAND%`` or ``%COMMAND(x)%``."""
REQUIRED: Final = 2
"""``%COMMAND(x)%``."""
LENGTH: Final = 4
"""Or-ed: ``:n`` may follow."""
UNCHECKED: Final = 8
"""The command looks itself."""

Build = Callable[[str, int | None], Operator]
"""From the parameter (empty for none) and the length; raises :class:`FormatError`."""


@dataclass(frozen=True, slots=True)
class Command:
    syntax: int
    build: Build

    def operator(self, name: str, parameter: str, length: int | None) -> Operator:
        """The operator of ``%name(parameter):length%``, with Envoy's words for what is wrong."""
        syntax = self.syntax
        if not syntax & UNCHECKED:
            if syntax == ALONE and (parameter or length is not None):
                raise FormatError(f"{name} does not take any parameters or length")
            if syntax & REQUIRED and not parameter:
                raise FormatError(f"{name} requires parameters")
            if not syntax & LENGTH and length is not None:
                raise FormatError(f"{name} does not allow length to be specified.")
        return self.build(parameter, length)


Table = dict[str, Command]


def alone(operator: Callable[[], Operator]) -> Command:
    """A command without parameters."""
    return Command(ALONE, lambda parameter, length: operator())


def nothing(syntax: int = ALONE) -> Command:
    """A command that this proxy knows but has nothing to say to (TLS, QUIC, tracing)."""
    return Command(syntax, lambda parameter, length: Nothing())


_CONTROLS: Final = bytes([*range(32), 127])


def printable(raw: bytes) -> bytes:
    """``raw`` with control characters written as ``\\xNN``.

    For facts that nobody has checked on their way in (metadata, decoded query parameters, server
    names): a line feed in them would forge a log line, or a header.
    """
    if len(raw.translate(None, _CONTROLS)) == len(raw):
        return raw
    return b"".join(
        [b"\\x%02x" % byte if byte < 32 or byte == 127 else raw[i : i + 1] for i, byte in enumerate(raw)]
    )
