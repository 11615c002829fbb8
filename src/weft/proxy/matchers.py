"""Matchers of strings, headers, query parameters and cookies, as configurations write them.

Compiled once; matching is plain method calls on bytes, and never raises.  Each matcher can
``describe()`` what it wants and tell the values it has ``seen``, so that a route that does not match
can say why (:mod:`weft.proxy.explain`).  Regular expressions are in
:mod:`weft.proxy.regex`, metadata in :mod:`weft.proxy.value_matchers`.
"""

from typing import Any, Final

from weft.api.problems import Where
from weft.http.headers import Headers
from weft.http.joined import JOINED_IN_REQUESTS, JOINED_IN_RESPONSES
from weft.http.message import Request, Response
from weft.proxy.regex import Regex, compile_regex

# -- strings ---------------------------------------------------------------------------------------


class StringMatcher:
    """Says yes or no to a value.  This one says no; see the subclasses."""

    __slots__ = ()

    def matches(self, value: bytes) -> bool:
        return False

    def describe(self) -> str:
        return "nothing"


class Exact(StringMatcher):
    __slots__ = ("ignore_case", "text")

    def __init__(self, text: bytes, ignore_case: bool = False) -> None:
        self.text: bytes = text.lower() if ignore_case else text
        self.ignore_case: bool = ignore_case

    def matches(self, value: bytes) -> bool:
        return (value.lower() if self.ignore_case else value) == self.text

    def describe(self) -> str:
        return _described("is", self.text, self.ignore_case)


class Prefix(StringMatcher):
    __slots__ = ("ignore_case", "text")

    def __init__(self, text: bytes, ignore_case: bool = False) -> None:
        self.text: bytes = text.lower() if ignore_case else text
        self.ignore_case: bool = ignore_case

    def matches(self, value: bytes) -> bool:
        return (value.lower() if self.ignore_case else value).startswith(self.text)

    def describe(self) -> str:
        return _described("starts with", self.text, self.ignore_case)


class Suffix(StringMatcher):
    __slots__ = ("ignore_case", "text")

    def __init__(self, text: bytes, ignore_case: bool = False) -> None:
        self.text: bytes = text.lower() if ignore_case else text
        self.ignore_case: bool = ignore_case

    def matches(self, value: bytes) -> bool:
        return (value.lower() if self.ignore_case else value).endswith(self.text)

    def describe(self) -> str:
        return _described("ends with", self.text, self.ignore_case)


class Contains(StringMatcher):
    __slots__ = ("ignore_case", "text")

    def __init__(self, text: bytes, ignore_case: bool = False) -> None:
        self.text: bytes = text.lower() if ignore_case else text
        self.ignore_case: bool = ignore_case

    def matches(self, value: bytes) -> bool:
        return self.text in (value.lower() if self.ignore_case else value)

    def describe(self) -> str:
        return _described("contains", self.text, self.ignore_case)


class MatchesRegex(StringMatcher):
    __slots__ = ("regex",)

    def __init__(self, regex: Regex) -> None:
        self.regex: Regex = regex

    def matches(self, value: bytes) -> bool:
        return self.regex.matches(value)

    def describe(self) -> str:
        return f"matches /{self.regex.pattern}/"


class InRange(StringMatcher):
    """A decimal integer in ``[start, end)``."""

    __slots__ = ("end", "start")

    def __init__(self, start: int, end: int) -> None:
        self.start: int = start
        self.end: int = end

    def matches(self, value: bytes) -> bool:
        text = value.strip(b" \t\n\v\f\r")
        digits = text[1:] if text[:1] in (b"-", b"+") else text
        # int() of a long string costs quadratic time; 64 bits need 19 digits (leading zeros aside).
        if not digits.isdigit() or len(digits.lstrip(b"0")) > 19:
            return False
        number = int(digits.lstrip(b"0") or b"0")
        if text[:1] == b"-":
            number = -number
        return -(2**63) <= number < 2**63 and self.start <= number < self.end

    def describe(self) -> str:
        return f"is a number in [{self.start}, {self.end})"


def _described(verb: str, text: bytes, ignore_case: bool) -> str:
    return f"{verb} {text.decode('utf-8', 'replace')!r}" + (" in any case" if ignore_case else "")


NOTHING: Final = StringMatcher()


def string_matcher(message: Any, where: Where) -> StringMatcher:
    """From an ``envoy.type.matcher.v3.StringMatcher``."""
    kind = message.WhichOneof("match_pattern")
    ignore_case: bool = message.ignore_case
    if kind == "safe_regex":
        if ignore_case:
            where.field("ignore_case").problem("ignore_case has no effect for safe_regex.")
        compiled = compile_regex(message.safe_regex, where.field("safe_regex"))
        return NOTHING if compiled is None else MatchesRegex(compiled)
    if kind == "custom":
        where.field("custom").problem("not supported yet: custom string matchers")
        return NOTHING
    if kind is None:
        where.problem("a string matcher needs one of exact, prefix, suffix, safe_regex, contains")
        return NOTHING
    text = getattr(message, kind).encode()
    if kind == "exact":
        return Exact(text, ignore_case)
    if kind == "prefix":
        return Prefix(text, ignore_case)
    if kind == "suffix":
        return Suffix(text, ignore_case)
    return Contains(text, ignore_case)


# -- headers ---------------------------------------------------------------------------------------


class HeaderMatcher:
    """A condition on one header; without ``matcher`` only presence counts.

    Of several fields of that name one that matches is enough, and with ``invert`` one that matches
    is one too many: a second value can neither hide the first nor stretch it (CVE-2026-26308).
    """

    __slots__ = (
        "_one_in_requests", "_one_in_responses", "_special", "invert", "matcher", "missing_as_empty",
        "name", "present",
    )  # fmt: skip

    def __init__(
        self,
        name: bytes,
        matcher: StringMatcher | None = None,
        *,
        present: bool = True,
        invert: bool = False,
        missing_as_empty: bool = False,
    ) -> None:
        self.name: bytes = name.lower()
        self.matcher: StringMatcher | None = matcher
        self.present: bool = present
        self.invert: bool = invert
        self.missing_as_empty: bool = missing_as_empty
        self._special: bool = name.startswith(b":") or self.name == b"host"
        """The value is not among the header fields."""
        self._one_in_requests: bool = self.name in JOINED_IN_REQUESTS
        self._one_in_responses: bool = self.name in JOINED_IN_RESPONSES

    def matches(self, message: Request) -> bool:
        if self._special:
            return self.accepts(message.header(self.name))
        return self._look(message.headers, self._one_in_requests)

    def matches_response(self, message: Response) -> bool:
        if self._special:
            return self.accepts(message.header(self.name))
        return self._look(message.headers, self._one_in_responses)

    def matches_headers(self, headers: Headers) -> bool:
        """For trailers, and wherever there are header fields only."""
        return self._look(headers, False)

    def accepts(self, value: bytes | None) -> bool:
        """The verdict on a single value; None for a header that is not there."""
        if value is None and self.missing_as_empty:
            value = b""
        matcher = self.matcher
        if matcher is None:
            return (value is not None) == (self.present != self.invert)
        if value is None:
            return False
        return matcher.matches(value) != self.invert

    def _look(self, headers: Headers, joined: bool) -> bool:
        name = self.name
        matcher = self.matcher
        found: bytes | None = None
        for field in headers.fields:
            if field.name != name:
                continue
            if matcher is None:
                found = field.value
                break
            if joined:
                if not found:
                    found = field.value
                elif field.value:
                    found = found + b"," + field.value
            elif matcher.matches(field.value):
                return not self.invert
            else:
                found = field.value
        if joined or found is None or matcher is None:
            return self.accepts(found)
        return self.invert

    def seen(self, message: Request) -> list[bytes]:
        """The values that :meth:`matches` looks at."""
        values = message.header_all(self.name)
        if len(values) > 1 and self._one_in_requests:
            return [b",".join([value for value in values if value])]
        return values

    def describe(self) -> str:
        name = self.name.decode("latin-1")
        if self.matcher is None:
            return f"header {name} is {'present' if self.present != self.invert else 'absent'}"
        verdict = f"header {name} {self.matcher.describe()}"
        return f"not ({verdict})" if self.invert else verdict


def header_matcher(message: Any, where: Where) -> HeaderMatcher:
    """From an ``envoy.config.route.v3.HeaderMatcher``."""
    kind = message.WhichOneof("header_match_specifier")
    matcher: StringMatcher | None = None
    present = True
    if kind == "string_match":
        matcher = string_matcher(message.string_match, where.field("string_match"))
    elif kind == "safe_regex_match":
        compiled = compile_regex(message.safe_regex_match, where.field("safe_regex_match"))
        matcher = NOTHING if compiled is None else MatchesRegex(compiled)
    elif kind == "range_match":
        matcher = InRange(message.range_match.start, message.range_match.end)
    elif kind == "present_match":
        present = message.present_match
    elif kind == "exact_match":
        # An empty text is how the old API asked for presence.
        matcher = Exact(message.exact_match.encode()) if message.exact_match else None
    elif kind == "prefix_match":
        matcher = Prefix(message.prefix_match.encode())
    elif kind == "suffix_match":
        matcher = Suffix(message.suffix_match.encode())
    elif kind == "contains_match":
        matcher = Contains(message.contains_match.encode())
    return HeaderMatcher(
        message.name.encode(),
        matcher,
        present=present,
        invert=message.invert_match,
        missing_as_empty=message.treat_missing_header_as_empty,
    )


# -- query parameters and cookies ------------------------------------------------------------------


def query_parameter(path: bytes, name: bytes) -> bytes | None:
    """The first value of the query parameter ``name``, as it was sent; b"" when it has none."""
    at = path.find(b"?")
    if at < 0:
        return None
    for part in path[at + 1 :].split(b"&"):
        key, _, value = part.partition(b"=")
        if key == name:
            return value
    return None


class QueryParameterMatcher:
    """A condition on one query parameter; without ``matcher`` only presence counts."""

    __slots__ = ("matcher", "name", "present")

    def __init__(self, name: bytes, matcher: StringMatcher | None = None, *, present: bool = True) -> None:
        self.name: bytes = name
        self.matcher: StringMatcher | None = matcher
        self.present: bool = present

    def matches(self, path: bytes) -> bool:
        value = query_parameter(path, self.name)
        if self.matcher is None:
            return (value is not None) == self.present
        return value is not None and self.matcher.matches(value)

    def seen(self, path: bytes) -> list[bytes]:
        value = query_parameter(path, self.name)
        return [] if value is None else [value]

    def describe(self) -> str:
        name = self.name.decode("utf-8", "replace")
        if self.matcher is None:
            return f"query parameter {name} is {'present' if self.present else 'absent'}"
        return f"query parameter {name} {self.matcher.describe()}"


def query_parameter_matcher(message: Any, where: Where) -> QueryParameterMatcher:
    """From an ``envoy.config.route.v3.QueryParameterMatcher``."""
    kind = message.WhichOneof("query_parameter_match_specifier")
    matcher: StringMatcher | None = None
    if kind == "string_match":
        matcher = string_matcher(message.string_match, where.field("string_match"))
    present = message.present_match if kind == "present_match" else True
    return QueryParameterMatcher(message.name.encode(), matcher, present=present)


def cookie(headers: Headers, name: bytes) -> bytes | None:
    """The value of the first cookie ``name``, without surrounding quotes; None when there is none."""
    for field in headers.fields:
        if field.name != b"cookie":
            continue
        for part in field.value.split(b";"):
            key, separator, value = part.lstrip(b" \t").partition(b"=")
            if separator and key == name:
                if len(value) >= 2 and value.startswith(b'"') and value.endswith(b'"'):
                    return value[1:-1]
                return value
    return None


class CookieMatcher:
    """A condition on the value of one cookie."""

    __slots__ = ("invert", "matcher", "name")

    def __init__(self, name: bytes, matcher: StringMatcher, *, invert: bool = False) -> None:
        self.name: bytes = name
        self.matcher: StringMatcher = matcher
        self.invert: bool = invert

    def matches(self, headers: Headers) -> bool:
        value = cookie(headers, self.name)
        return (value is not None and self.matcher.matches(value)) != self.invert

    def seen(self, headers: Headers) -> list[bytes]:
        value = cookie(headers, self.name)
        return [] if value is None else [value]

    def describe(self) -> str:
        verdict = f"cookie {self.name.decode('utf-8', 'replace')} {self.matcher.describe()}"
        return f"not ({verdict})" if self.invert else verdict


def cookie_matcher(message: Any, where: Where) -> CookieMatcher:
    """From an ``envoy.config.route.v3.CookieMatcher``."""
    matcher = string_matcher(message.string_match, where.field("string_match"))
    return CookieMatcher(message.name.encode(), matcher, invert=message.invert_match)
