"""Runtime values: what operators may change without a new configuration.

A :class:`Runtime` is one frozen snapshot of all layers, later layers winning; whoever holds the
:class:`RuntimeSource` sees the newest.
"""

from collections.abc import Mapping
from random import Random

Value = str | int | float | bool


class Runtime:
    """Reads of one key each, with the default that the configuration gave.  Never raises."""

    def __init__(self, values: Mapping[str, Value] | None = None) -> None:
        self.values: dict[str, Value] = dict(values or {})

    def integer(self, key: str, default: int) -> int:
        value = self.values.get(key)
        if isinstance(value, bool) or value is None:
            return default
        try:
            return int(value)
        except ValueError:
            return default

    def number(self, key: str, default: float) -> float:
        value = self.values.get(key)
        if isinstance(value, bool) or value is None:
            return default
        try:
            return float(value)
        except ValueError:
            return default

    def boolean(self, key: str, default: bool) -> bool:
        value = self.values.get(key)
        if isinstance(value, bool):
            return value
        if isinstance(value, str) and value.lower() in ("true", "false"):
            return value.lower() == "true"
        return default

    def share(self, key: str) -> tuple[int, int] | None:
        """A share of requests, (numerator, denominator): a plain number always means per cent, and a
        FractionalPercent of a layer is kept as the text ``numerator/denominator``."""
        value = self.values.get(key)
        if isinstance(value, str) and "/" in value:
            numerator, _, denominator = value.partition("/")
            if numerator.isdigit() and denominator in ("100", "10000", "1000000"):
                return int(numerator[:10]), int(denominator)
            return None
        percent = self.integer(key, -1)
        return (percent, 100) if percent >= 0 else None

    def replace(self, values: Mapping[str, Value]) -> None:
        """Take a new snapshot, whole."""
        self.values = dict(values)


class Chance:
    """A share of requests: ``numerator`` of ``denominator`` (100, 10 000 or 1 000 000)."""

    __slots__ = ("denominator", "key", "numerator")

    def __init__(self, numerator: int, denominator: int = 100, key: str = "") -> None:
        self.numerator = numerator
        self.denominator = denominator
        self.key = key
        """Runtime key that overrides the numerator; empty for none."""

    def hits(self, random: Random, runtime: Runtime | None = None) -> bool:
        return self.hits_value(random.getrandbits(32), runtime)

    def hits_value(self, value: int, runtime: Runtime | None = None) -> bool:
        """Decide by a given random number, as Envoy does with a stream's stable one."""
        if self.key and runtime is not None and self.key in runtime.values:
            share = runtime.share(self.key)
            if share is not None:
                return value % share[1] < share[0]
        return value % self.denominator < self.numerator


ALWAYS = Chance(100)
NEVER = Chance(0)
