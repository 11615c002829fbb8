"""Which streams are logged: the tree of ``AccessLogFilter``.

The same tree chooses among the mappers of local replies.
"""

from collections.abc import Callable
from random import Random
from typing import Any, Final

from weft.api.problems import Where
from weft.api.values import fraction, wrapped
from weft.http.headers import Headers
from weft.proxy.clock import Clock
from weft.proxy.matchers import HeaderMatcher, header_matcher
from weft.proxy.observe import flags
from weft.proxy.observe.commands_http import NO_STATUS, grpc_status
from weft.proxy.observe.stream_info import StreamInfo
from weft.proxy.runtime import Chance, Runtime
from weft.proxy.value_matchers import MetadataMatcher, metadata_matcher


class LogFilter:
    """Says yes or no to a stream.  This one says yes; see the subclasses."""

    def passes(self, info: StreamInfo, clock: Clock, runtime: Runtime, random: Random) -> bool:
        return True


EQUAL: Final = 0
AT_LEAST: Final = 1
AT_MOST: Final = 2
NOT_EQUAL: Final = 3


class Comparison:
    """A number against a limit that runtime may override; ``op`` as numbered by Envoy."""

    def __init__(self, op: int, limit: int, key: str) -> None:
        self._op = op
        self._limit = limit
        self._key = key

    def holds(self, number: int, runtime: Runtime) -> bool:
        limit = runtime.integer(self._key, self._limit) if self._key else self._limit
        op = self._op
        if op == EQUAL:
            return number == limit
        if op == AT_LEAST:
            return number >= limit
        if op == AT_MOST:
            return number <= limit
        return number != limit


class StatusFilter(LogFilter):
    def __init__(self, comparison: Comparison) -> None:
        self._comparison = comparison

    def passes(self, info: StreamInfo, clock: Clock, runtime: Runtime, random: Random) -> bool:
        return self._comparison.holds(info.status, runtime)


class DurationFilter(LogFilter):
    """Milliseconds from the start of the stream to its end, or to now."""

    def __init__(self, comparison: Comparison) -> None:
        self._comparison = comparison

    def passes(self, info: StreamInfo, clock: Clock, runtime: Runtime, random: Random) -> bool:
        duration = (info.end or clock.now()) - info.start
        return self._comparison.holds(int(duration * 1000 + 1e-6), runtime)


class NeverFilter(LogFilter):
    """Traced requests only, while nothing is traced; and whatever could not be understood."""

    def passes(self, info: StreamInfo, clock: Clock, runtime: Runtime, random: Random) -> bool:
        return False


class RuntimeFilter(LogFilter):
    """A share of the streams; by request id, so that every proxy on the way takes the same."""

    def __init__(self, chance: Chance, independent: bool) -> None:
        self._chance = chance
        self._independent = independent

    def passes(self, info: StreamInfo, clock: Clock, runtime: Runtime, random: Random) -> bool:
        if not self._independent and info.request is not None:
            request_id = info.request.headers.find(b"x-request-id")
            if request_id is not None and len(request_id) == 36:
                try:
                    return self._chance.hits_value(int(request_id[:8], 16), runtime)
                except ValueError:
                    pass
        return self._chance.hits(random, runtime)


class AndFilter(LogFilter):
    def __init__(self, filters: list[LogFilter]) -> None:
        self._filters = filters

    def passes(self, info: StreamInfo, clock: Clock, runtime: Runtime, random: Random) -> bool:
        for part in self._filters:  # noqa: SIM110 - no generator per stream
            if not part.passes(info, clock, runtime, random):
                return False
        return True


class OrFilter(LogFilter):
    def __init__(self, filters: list[LogFilter]) -> None:
        self._filters = filters

    def passes(self, info: StreamInfo, clock: Clock, runtime: Runtime, random: Random) -> bool:
        for part in self._filters:  # noqa: SIM110 - no generator per stream
            if part.passes(info, clock, runtime, random):
                return True
        return False


class HeaderFilter(LogFilter):
    """A header of the request."""

    def __init__(self, matcher: HeaderMatcher) -> None:
        self._matcher = matcher

    def passes(self, info: StreamInfo, clock: Clock, runtime: Runtime, random: Random) -> bool:
        request = info.request
        return self._matcher.matches_headers(Headers()) if request is None else self._matcher.matches(request)


class FlagFilter(LogFilter):
    """Any of some response flags."""

    def __init__(self, wanted: int) -> None:
        self._wanted = wanted

    def passes(self, info: StreamInfo, clock: Clock, runtime: Runtime, random: Random) -> bool:
        return info.flags & self._wanted != 0


class GrpcFilter(LogFilter):
    def __init__(self, statuses: frozenset[int], exclude: bool) -> None:
        self._statuses = statuses
        self._exclude = exclude

    def passes(self, info: StreamInfo, clock: Clock, runtime: Runtime, random: Random) -> bool:
        status = grpc_status(info)
        if status == NO_STATUS:
            status = 2
        return (status in self._statuses) != self._exclude


class MetadataFilter(LogFilter):
    def __init__(self, matcher: MetadataMatcher | None, otherwise: bool) -> None:
        self._matcher = matcher
        self._otherwise = otherwise
        """The verdict when the metadata is not there."""

    def passes(self, info: StreamInfo, clock: Clock, runtime: Runtime, random: Random) -> bool:
        matcher = self._matcher
        if matcher is None:
            return self._otherwise
        value: Any = info.dynamic_metadata
        for key in (matcher.namespace, *matcher.path):
            if not isinstance(value, dict) or key not in value:
                return self._otherwise
            value = value[key]
        return matcher.matches(info.dynamic_metadata)


class TypeFilter(LogFilter):
    """When the line is written: at the start, now and then, at the end (Envoy's AccessLogType)."""

    def __init__(self, types: frozenset[str], exclude: bool) -> None:
        self._types = types
        self._exclude = exclude

    def passes(self, info: StreamInfo, clock: Clock, runtime: Runtime, random: Random) -> bool:
        return ((info.access_log_type or "NotSet") in self._types) != self._exclude


def log_filter(message: Any, where: Where) -> LogFilter:
    """From ``envoy.config.accesslog.v3.AccessLogFilter``."""
    kind: str | None = message.WhichOneof("filter_specifier")
    build = _BUILDERS.get(kind or "")
    if build is None:
        where.problem(
            f"not supported yet: access log filter {kind}" if kind else "an access log filter without a kind"
        )
        return NeverFilter()
    return build(getattr(message, kind or ""), where.field(kind or ""))


def _comparison(message: Any) -> Comparison:
    comparison = message.comparison
    return Comparison(comparison.op, comparison.value.default_value, comparison.value.runtime_key)


def _runtime(message: Any, where: Where) -> LogFilter:
    share = fraction(message.percent_sampled)
    chance = Chance(share.numerator, share.denominator, message.runtime_key)
    return RuntimeFilter(chance, message.use_independent_randomness)


def _several(message: Any, where: Where) -> list[LogFilter]:
    here = where.field("filters")
    return [log_filter(part, here.item(i)) for i, part in enumerate(message.filters)]


def _flags(message: Any, where: Where) -> LogFilter:
    bits = {short: bit for bit, short, _ in flags.NAMES}
    wanted = 0
    for i, name in enumerate(message.flags):
        if name not in bits:
            where.field("flags").item(i).problem(f"unknown response flag '{name}'")
        wanted |= bits.get(name, 0)
    return FlagFilter(wanted if message.flags else -1)


def _metadata(message: Any, where: Where) -> LogFilter:
    matcher = (
        metadata_matcher(message.matcher, where.field("matcher")) if message.HasField("matcher") else None
    )
    return MetadataFilter(matcher, wrapped(message, "match_if_key_not_found", True))


def _types(message: Any, where: Where) -> LogFilter:
    names = message.DESCRIPTOR.fields_by_name["types"].enum_type.values_by_number
    known = frozenset(names[number].name for number in message.types if number in names)
    return TypeFilter(known, message.exclude)


_BUILDERS: Final[dict[str, Callable[[Any, Where], LogFilter]]] = {
    "status_code_filter": lambda message, where: StatusFilter(_comparison(message)),
    "duration_filter": lambda message, where: DurationFilter(_comparison(message)),
    # No request is a health check before there is a filter that answers them.
    "not_health_check_filter": lambda message, where: LogFilter(),
    "traceable_filter": lambda message, where: NeverFilter(),
    "runtime_filter": _runtime,
    "and_filter": lambda message, where: AndFilter(_several(message, where)),
    "or_filter": lambda message, where: OrFilter(_several(message, where)),
    "header_filter": lambda message, where: HeaderFilter(
        header_matcher(message.header, where.field("header"))
    ),
    "response_flag_filter": _flags,
    "grpc_status_filter": lambda message, where: GrpcFilter(frozenset(message.statuses), message.exclude),
    "metadata_filter": _metadata,
    "log_type_filter": _types,
}
