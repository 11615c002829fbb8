"""Small readers of well-known messages: durations, wrappers, fractions, percentages."""

from collections.abc import Iterable
from typing import Any, Final, NamedTuple, TypeVar

from weft.api.problems import Where

T = TypeVar("T")


def seconds(duration: Any) -> float:
    """A ``google.protobuf.Duration`` in seconds."""
    return float(duration.seconds) + float(duration.nanos) / 1_000_000_000


def optional_seconds(message: Any, field: str) -> float | None:
    """The Duration field ``field`` in seconds; None when it is not set."""
    return seconds(getattr(message, field)) if message.HasField(field) else None


def wrapped(message: Any, field: str, default: T) -> T:
    """The value of a wrapper field (``UInt32Value``, ``BoolValue``, ...); ``default`` when unset."""
    if not message.HasField(field):
        return default
    value: T = getattr(message, field).value
    return value


def without_effect(message: Any, names: Iterable[str], where: Where) -> None:
    """Warn of fields that are set and change nothing in this version.

    For what a configuration can do without (a hint, a fine point of accounting).  Anything that
    would change what happens to traffic is a problem instead.
    """
    for name in names:
        if name not in message.DESCRIPTOR.fields_by_name:
            continue
        value = getattr(message, name)
        descriptor = message.DESCRIPTOR.fields_by_name[name]
        given = message.HasField(name) if descriptor.has_presence else bool(value)
        if given:
            where.field(name).warn("read, but without effect in this version of Weft")


class Fraction(NamedTuple):
    """``numerator`` out of ``denominator`` (100, 10 000 or 1 000 000)."""

    numerator: int
    denominator: int


_DENOMINATORS: Final = (100, 10_000, 1_000_000)
"""By number of ``envoy.type.v3.FractionalPercent.DenominatorType``."""


def fraction(percent: Any) -> Fraction:
    """An ``envoy.type.v3.FractionalPercent``."""
    number = percent.denominator
    # A number that the enum does not have is for the rules to refuse.
    return Fraction(percent.numerator, _DENOMINATORS[number] if 0 <= number < 3 else 100)
