"""Matchers of JSON-like values, as dynamic metadata holds them."""

from typing import Any, Final

from weft.api.problems import Where
from weft.proxy.matchers import StringMatcher, string_matcher

ABSENT: Final = object()


class ValueMatcher:
    """A condition on a JSON-like value.  This one says no; see :func:`value_matcher`."""

    __slots__ = ()

    def matches(self, value: Any) -> bool:
        return False

    def describe(self) -> str:
        return "is impossible"


class IsNull(ValueMatcher):
    __slots__ = ()

    def matches(self, value: Any) -> bool:
        return value is None

    def describe(self) -> str:
        return "is null"


class IsPresent(ValueMatcher):
    __slots__ = ("present",)

    def __init__(self, present: bool) -> None:
        self.present: bool = present

    def matches(self, value: Any) -> bool:
        return self.present and value is not ABSENT

    def describe(self) -> str:
        return "is present" if self.present else "never"


class IsBool(ValueMatcher):
    __slots__ = ("wanted",)

    def __init__(self, wanted: bool) -> None:
        self.wanted: bool = wanted

    def matches(self, value: Any) -> bool:
        return isinstance(value, bool) and value == self.wanted

    def describe(self) -> str:
        return f"is {'true' if self.wanted else 'false'}"


class IsNumber(ValueMatcher):
    """Equal to ``exact``, or in ``[start, end)`` when that is None."""

    __slots__ = ("end", "exact", "start")

    def __init__(self, exact: float | None, start: float, end: float) -> None:
        self.exact: float | None = exact
        self.start: float = start
        self.end: float = end

    def matches(self, value: Any) -> bool:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return False
        number = float(value)
        return number == self.exact if self.exact is not None else self.start <= number < self.end

    def describe(self) -> str:
        return f"is {self.exact}" if self.exact is not None else f"is in [{self.start}, {self.end})"


class IsString(ValueMatcher):
    __slots__ = ("matcher",)

    def __init__(self, matcher: StringMatcher) -> None:
        self.matcher: StringMatcher = matcher

    def matches(self, value: Any) -> bool:
        return isinstance(value, str) and self.matcher.matches(value.encode("utf-8", "surrogateescape"))

    def describe(self) -> str:
        return self.matcher.describe()


class HasItem(ValueMatcher):
    __slots__ = ("matcher",)

    def __init__(self, matcher: ValueMatcher) -> None:
        self.matcher: ValueMatcher = matcher

    def matches(self, value: Any) -> bool:
        if not isinstance(value, list):
            return False
        return any(self.matcher.matches(item) for item in value)

    def describe(self) -> str:
        return f"has an item that {self.matcher.describe()}"


class AnyOf(ValueMatcher):
    __slots__ = ("matchers",)

    def __init__(self, matchers: tuple[ValueMatcher, ...]) -> None:
        self.matchers: tuple[ValueMatcher, ...] = matchers

    def matches(self, value: Any) -> bool:
        return any(matcher.matches(value) for matcher in self.matchers)

    def describe(self) -> str:
        return " or ".join([matcher.describe() for matcher in self.matchers])


def value_matcher(message: Any, where: Where) -> ValueMatcher:
    """From an ``envoy.type.matcher.v3.ValueMatcher``."""
    kind = message.WhichOneof("match_pattern")
    if kind == "null_match":
        return IsNull()
    if kind == "present_match":
        return IsPresent(message.present_match)
    if kind == "bool_match":
        return IsBool(message.bool_match)
    if kind == "double_match":
        number = message.double_match
        if number.WhichOneof("match_pattern") == "exact":
            return IsNumber(number.exact, 0.0, 0.0)
        return IsNumber(None, number.range.start, number.range.end)
    if kind == "string_match":
        return IsString(string_matcher(message.string_match, where.field("string_match")))
    if kind == "list_match":
        return HasItem(value_matcher(message.list_match.one_of, where.field("list_match").field("one_of")))
    if kind == "or_match":
        place = where.field("or_match").field("value_matchers")
        return AnyOf(
            tuple(value_matcher(m, place.item(i)) for i, m in enumerate(message.or_match.value_matchers))
        )
    where.problem("a value matcher needs a pattern")
    return ValueMatcher()


class MetadataMatcher:
    """A condition on dynamic metadata: ``filter`` is the namespace, ``path`` the keys below it."""

    __slots__ = ("invert", "matcher", "namespace", "path")

    def __init__(
        self, namespace: str, path: tuple[str, ...], matcher: ValueMatcher, *, invert: bool = False
    ) -> None:
        self.namespace: str = namespace
        self.path: tuple[str, ...] = path
        self.matcher: ValueMatcher = matcher
        self.invert: bool = invert

    def matches(self, metadata: dict[str, Any] | None) -> bool:
        return self.matcher.matches(self._value(metadata)) != self.invert

    def seen(self, metadata: dict[str, Any] | None) -> list[Any]:
        """The value that :meth:`matches` looks at; empty when there is none."""
        value = self._value(metadata)
        return [] if value is ABSENT else [value]

    def _value(self, metadata: dict[str, Any] | None) -> Any:
        value: Any = ABSENT if metadata is None else metadata.get(self.namespace, ABSENT)
        for key in self.path:
            if not isinstance(value, dict):
                return ABSENT
            value = value.get(key, ABSENT)
        return value

    def describe(self) -> str:
        verdict = f"metadata {':'.join((self.namespace, *self.path))} {self.matcher.describe()}"
        return f"not ({verdict})" if self.invert else verdict


def metadata_matcher(message: Any, where: Where) -> MetadataMatcher:
    """From an ``envoy.type.matcher.v3.MetadataMatcher``."""
    return MetadataMatcher(
        message.filter,
        tuple(segment.key for segment in message.path),
        value_matcher(message.value, where.field("value")),
        invert=message.invert,
    )
