"""Does a route match?  A path predicate and a tuple of further conditions.

Both are compiled from ``RouteMatch`` and know nothing of protobuf.  The path predicate looks at the
path without its query, as Envoy does: what stands behind ``?`` is for query conditions.
"""

from typing import Any, Final

from weft.api.problems import Where
from weft.api.values import fraction, wrapped
from weft.http.message import Request
from weft.http.path import without_query
from weft.proxy.address import Address
from weft.proxy.matchers import (
    CookieMatcher,
    HeaderMatcher,
    QueryParameterMatcher,
    StringMatcher,
    cookie_matcher,
    header_matcher,
    query_parameter_matcher,
    string_matcher,
)
from weft.proxy.observe.stream_info import StreamInfo
from weft.proxy.prefixes import PrefixTable, canonical_all, parsed
from weft.proxy.regex import Regex, compile_regex
from weft.proxy.route.supported import has, items, only
from weft.proxy.route.template import PathTemplate, path_template
from weft.proxy.runtime import Chance, Runtime
from weft.proxy.value_matchers import MetadataMatcher, metadata_matcher

PREFIX: Final = 0
EXACT: Final = 1
SEPARATED: Final = 2
REGEX: Final = 3
CONNECT: Final = 4
NEVER: Final = 5
TEMPLATE: Final = 6

_NAMES: Final = (
    "prefix",
    "path",
    "path_separated_prefix",
    "safe_regex",
    "connect_matcher",
    "nothing",
    "path_template",
)
_ENDS: Final = b"?#"
_BREAKS: Final = b"/?#"


class PathMatch:
    """The path predicate: one of the kinds above."""

    __slots__ = ("ignore_case", "kind", "regex", "size", "template", "text")

    def __init__(
        self,
        kind: int,
        text: bytes = b"",
        *,
        ignore_case: bool = False,
        regex: Regex | None = None,
        template: PathTemplate | None = None,
    ) -> None:
        if kind in (PREFIX, EXACT, SEPARATED) and (b"?" in text or b"#" in text):
            kind = NEVER  # paths are compared without query and fragment
        self.kind: int = kind
        self.text: bytes = text.lower() if ignore_case else text
        self.size: int = len(text)
        """How much of a matching path a prefix rewrite replaces (prefix, path, separated prefix)."""
        self.ignore_case: bool = ignore_case
        self.regex: Regex | None = regex if template is None else template.regex
        self.template: PathTemplate | None = template

    def matches(self, path: bytes, method: bytes) -> bool:
        kind = self.kind
        if kind == CONNECT:
            return method == b"CONNECT"
        if not path:
            return False  # only CONNECT has no path
        if self.ignore_case:
            path = path.lower()
        if kind == PREFIX:
            return path.startswith(self.text)
        if kind == EXACT:
            if not path.startswith(self.text):
                return False
            return len(path) == self.size or path[self.size] in _ENDS
        if kind == SEPARATED:
            if not path.startswith(self.text):
                return False
            return len(path) == self.size or path[self.size] in _BREAKS
        if self.regex is not None:
            return self.regex.matches(without_query(path))
        return False

    def seen(self, path: bytes, method: bytes) -> bytes:
        """What :meth:`matches` looks at."""
        return method if self.kind == CONNECT else without_query(path)

    def matched(self, path: bytes) -> int:
        """How many bytes of ``path`` a prefix rewrite replaces.

        -1 when it matched without its path parameters only: what was matched does not stand in it.
        """
        if self.kind > SEPARATED:
            return len(without_query(path))
        if path.startswith(self.text) or (self.ignore_case and path.lower().startswith(self.text)):
            return self.size
        return -1

    def describe(self) -> str:
        if self.template is not None:
            return f"path_template {self.template.text}"
        if self.regex is not None:
            return f"safe_regex {self.regex.pattern}"
        name = _NAMES[self.kind]
        text = f"{name} {self.text.decode('utf-8', 'replace')}" if self.text else name
        return text + (" in any case" if self.ignore_case else "")


class Condition:
    """Something besides the path.  This one always holds; see the subclasses."""

    __slots__ = ()

    def holds(self, request: Request, info: StreamInfo, random_value: int, runtime: Runtime) -> bool:
        return True

    def seen(self, request: Request, info: StreamInfo, random_value: int, runtime: Runtime) -> list[str]:
        """The values that :meth:`holds` looks at, as text; empty when what it looks for is not there."""
        return []

    def describe(self) -> str:
        return "always"


class HeaderCondition(Condition):
    __slots__ = ("matcher",)

    def __init__(self, matcher: HeaderMatcher) -> None:
        self.matcher: HeaderMatcher = matcher

    def holds(self, request: Request, info: StreamInfo, random_value: int, runtime: Runtime) -> bool:
        return self.matcher.matches(request)

    def seen(self, request: Request, info: StreamInfo, random_value: int, runtime: Runtime) -> list[str]:
        return [shown(value) for value in self.matcher.seen(request)]

    def describe(self) -> str:
        return self.matcher.describe()


class QueryCondition(Condition):
    __slots__ = ("matcher",)

    def __init__(self, matcher: QueryParameterMatcher) -> None:
        self.matcher: QueryParameterMatcher = matcher

    def holds(self, request: Request, info: StreamInfo, random_value: int, runtime: Runtime) -> bool:
        return self.matcher.matches(request.path)

    def seen(self, request: Request, info: StreamInfo, random_value: int, runtime: Runtime) -> list[str]:
        return [shown(value) for value in self.matcher.seen(request.path)]

    def describe(self) -> str:
        return self.matcher.describe()


class CookieCondition(Condition):
    __slots__ = ("matcher",)

    def __init__(self, matcher: CookieMatcher) -> None:
        self.matcher: CookieMatcher = matcher

    def holds(self, request: Request, info: StreamInfo, random_value: int, runtime: Runtime) -> bool:
        return self.matcher.matches(request.headers)

    def seen(self, request: Request, info: StreamInfo, random_value: int, runtime: Runtime) -> list[str]:
        return [shown(value) for value in self.matcher.seen(request.headers)]

    def describe(self) -> str:
        return self.matcher.describe()


class ShareCondition(Condition):
    """``runtime_fraction``: a share of requests, by the stream's stable random number."""

    __slots__ = ("chance",)

    def __init__(self, chance: Chance) -> None:
        self.chance: Chance = chance

    def holds(self, request: Request, info: StreamInfo, random_value: int, runtime: Runtime) -> bool:
        return self.chance.hits_value(random_value, runtime)

    def seen(self, request: Request, info: StreamInfo, random_value: int, runtime: Runtime) -> list[str]:
        share = runtime.share(self.chance.key) if self.chance.key in runtime.values else None
        if share is None:
            return [f"{random_value % self.chance.denominator}"]
        return [f"{random_value % share[1]}, and runtime says {share[0]} of {share[1]}"]

    def describe(self) -> str:
        key = f" (runtime {self.chance.key})" if self.chance.key else ""
        return f"{self.chance.numerator} of {self.chance.denominator} requests{key}"


class GrpcCondition(Condition):
    __slots__ = ()

    def holds(self, request: Request, info: StreamInfo, random_value: int, runtime: Runtime) -> bool:
        return is_grpc(request.headers.find(b"content-type"))

    def seen(self, request: Request, info: StreamInfo, random_value: int, runtime: Runtime) -> list[str]:
        value = request.headers.find(b"content-type")
        return [] if value is None else [shown(value)]

    def describe(self) -> str:
        return "is gRPC"


class TlsCondition(Condition):
    """``tls_context``.  Connections have no client certificate yet, so nothing is ever presented."""

    __slots__ = ("presented", "validated")

    def __init__(self, presented: bool | None, validated: bool | None) -> None:
        self.presented: bool | None = presented
        self.validated: bool | None = validated

    def holds(self, request: Request, info: StreamInfo, random_value: int, runtime: Runtime) -> bool:
        return self.presented is not True and self.validated is not True

    def describe(self) -> str:
        return f"client certificate presented={self.presented} validated={self.validated}"


class MetadataCondition(Condition):
    __slots__ = ("matcher",)

    def __init__(self, matcher: MetadataMatcher) -> None:
        self.matcher: MetadataMatcher = matcher

    def holds(self, request: Request, info: StreamInfo, random_value: int, runtime: Runtime) -> bool:
        return self.matcher.matches(info.dynamic_metadata)

    def seen(self, request: Request, info: StreamInfo, random_value: int, runtime: Runtime) -> list[str]:
        return [str(value) for value in self.matcher.seen(info.dynamic_metadata)]

    def describe(self) -> str:
        return self.matcher.describe()


class FilterStateCondition(Condition):
    __slots__ = ("key", "matcher")

    def __init__(self, key: str, matcher: StringMatcher) -> None:
        self.key: str = key
        self.matcher: StringMatcher = matcher

    def holds(self, request: Request, info: StreamInfo, random_value: int, runtime: Runtime) -> bool:
        value = info.state(self.key)
        return value is not None and self.matcher.matches(str(value).encode("utf-8", "surrogateescape"))

    def seen(self, request: Request, info: StreamInfo, random_value: int, runtime: Runtime) -> list[str]:
        value = info.state(self.key)
        return [] if value is None else [str(value)]

    def describe(self) -> str:
        return f"filter state {self.key} {self.matcher.describe()}"


class FilterStateAddressCondition(Condition):
    """``address_match``; an object that is no address is in no range, inverted or not."""

    __slots__ = ("_table", "invert", "key", "prefixes")

    def __init__(self, key: str, prefixes: tuple[str, ...], invert: bool) -> None:
        self.key: str = key
        self.prefixes: tuple[str, ...] = prefixes
        self.invert: bool = invert
        self._table: PrefixTable[bool] = PrefixTable(dict.fromkeys(prefixes, True))

    def holds(self, request: Request, info: StreamInfo, random_value: int, runtime: Runtime) -> bool:
        value = info.state(self.key)
        if value is None:
            return False
        text: str = value.ip if isinstance(value, Address) else str(value)
        address = parsed(text.encode("utf-8", "surrogateescape"))
        return address is not None and (self._table.find(address[0], address[1]) is not None) != self.invert

    def seen(self, request: Request, info: StreamInfo, random_value: int, runtime: Runtime) -> list[str]:
        value = info.state(self.key)
        return [] if value is None else [str(value)]

    def describe(self) -> str:
        verb = "is outside of" if self.invert else "is in"
        return f"filter state {self.key} {verb} {', '.join(self.prefixes) or 'no range'}"


def shown(value: bytes) -> str:
    """Bytes of a request for people to read."""
    return value.decode("utf-8", "backslashreplace")


def is_grpc(content_type: bytes | None) -> bool:
    """``application/grpc`` or ``application/grpc+proto``, but not ``application/grpc-web``."""
    if content_type is None or not content_type.startswith(b"application/grpc"):
        return False
    return len(content_type) == 16 or content_type[16] == 0x2B


class RouteMatch:
    """All of what a route asks of a request."""

    __slots__ = ("conditions", "path")

    def __init__(self, path: PathMatch, conditions: tuple[Condition, ...] = ()) -> None:
        self.path: PathMatch = path
        self.conditions: tuple[Condition, ...] = conditions

    def matches(
        self, path: bytes, request: Request, info: StreamInfo, random_value: int, runtime: Runtime
    ) -> bool:
        """``path`` is the request's, possibly without path parameters."""
        if not self.path.matches(path, request.method):
            return False
        for condition in self.conditions:  # noqa: SIM110 - no generator per request
            if not condition.holds(request, info, random_value, runtime):
                return False
        return True

    @property
    def plain_prefix(self) -> bytes | None:
        """The prefix that is all there is to this match, for the short way; None for no such."""
        path = self.path
        if self.conditions or path.kind != PREFIX or path.ignore_case or not path.text:
            return None
        return path.text

    def describe(self) -> list[str]:
        return [self.path.describe(), *[condition.describe() for condition in self.conditions]]


# -- from configuration ----------------------------------------------------------------------------

_KNOWN: Final = frozenset(
    (
        "prefix", "path", "safe_regex", "path_separated_prefix", "connect_matcher", "path_match_policy", "case_sensitive",
        "runtime_fraction", "headers", "query_parameters", "cookies", "grpc", "tls_context",
        "dynamic_metadata", "filter_state",
    )
)  # fmt: skip


_PATHS: Final = frozenset(
    ("prefix", "path", "safe_regex", "path_separated_prefix", "connect_matcher", "path_match_policy", "case_sensitive")
)
"""Fields that ask for nothing but a path, as most matches do."""


def route_match(message: Any, where: Where) -> RouteMatch:
    """From an ``envoy.config.route.v3.RouteMatch``."""
    given = only(message, _KNOWN, where)
    conditions = () if given <= _PATHS else tuple(_conditions(message, where))
    return RouteMatch(_path_match(message, where), conditions)


def _conditions(message: Any, where: Where) -> list[Condition]:
    """All that is asked besides the path, in the order in which it is asked."""
    conditions: list[Condition] = []
    if message.HasField("runtime_fraction"):
        share = fraction(message.runtime_fraction.default_value)
        conditions.append(ShareCondition(Chance(*share, message.runtime_fraction.runtime_key)))
    if message.HasField("grpc"):
        conditions.append(GrpcCondition())
    place = where.field("headers")
    for i, header in enumerate(message.headers):
        conditions.append(HeaderCondition(header_matcher(header, place.item(i))))
    place = where.field("query_parameters")
    for i, parameter in enumerate(message.query_parameters):
        conditions.append(QueryCondition(query_parameter_matcher(parameter, place.item(i))))
    place = where.field("cookies")
    for i, cookie in enumerate(items(message, "cookies")):
        conditions.append(CookieCondition(cookie_matcher(cookie, place.item(i))))
    if message.HasField("tls_context"):
        context = message.tls_context
        presented = context.presented.value if context.HasField("presented") else None
        validated = context.validated.value if context.HasField("validated") else None
        conditions.append(TlsCondition(presented, validated))
    place = where.field("dynamic_metadata")
    for i, matcher in enumerate(message.dynamic_metadata):
        conditions.append(MetadataCondition(metadata_matcher(matcher, place.item(i))))
    place = where.field("filter_state")
    for i, state in enumerate(items(message, "filter_state")):
        conditions.append(_filter_state(state, place.item(i)))
    return conditions


def _path_match(message: Any, where: Where) -> PathMatch:
    kind = message.WhichOneof("path_specifier")
    ignore_case = not wrapped(message, "case_sensitive", True)
    if kind == "prefix":
        return PathMatch(PREFIX, message.prefix.encode(), ignore_case=ignore_case)
    if kind == "path":
        return PathMatch(EXACT, message.path.encode(), ignore_case=ignore_case)
    if kind == "path_separated_prefix":
        return PathMatch(SEPARATED, message.path_separated_prefix.encode(), ignore_case=ignore_case)
    if kind == "safe_regex":
        regex = compile_regex(message.safe_regex, where.field("safe_regex"))
        return PathMatch(NEVER) if regex is None else PathMatch(REGEX, regex=regex)
    if kind == "connect_matcher":
        return PathMatch(CONNECT)
    if kind == "path_match_policy":
        template = path_template(message.path_match_policy, where.field("path_match_policy"))
        return PathMatch(NEVER) if template is None else PathMatch(TEMPLATE, template=template)
    if kind is None:
        where.problem("a route match needs a path specifier (prefix, path, safe_regex, ...)")
    return PathMatch(NEVER)


def _filter_state(message: Any, where: Where) -> Condition:
    if has(message, "string_match"):
        return FilterStateCondition(
            message.key, string_matcher(message.string_match, where.field("string_match"))
        )
    if has(message, "address_match"):
        address = message.address_match
        place = where.field("address_match").field("ranges")
        return FilterStateAddressCondition(message.key, canonical_all(address.ranges, place), address.invert_match)
    where.problem("one of string_match, address_match is required")
    return Condition()
