"""How far is a predicate from holding, and what small difference is it?

A difference is a number from 0 (holds) to 1 (something else altogether).  Small ones are found by asking
the predicate itself again about a value with one thing changed: its case, its trailing slash, its port.
"""

from difflib import SequenceMatcher
from typing import Final
from urllib.parse import unquote_to_bytes

from weft.http.message import Request
from weft.http.path import merge_slashes, normalize, without_parameters, without_query
from weft.proxy.explain.explanation import Failure
from weft.proxy.matchers import (
    Contains,
    Exact,
    HeaderMatcher,
    MatchesRegex,
    Prefix,
    StringMatcher,
    Suffix,
)
from weft.proxy.observe.stream_info import StreamInfo
from weft.proxy.regex import Regex
from weft.proxy.route.match import (
    CONNECT,
    EXACT,
    PREFIX,
    SEPARATED,
    Condition,
    CookieCondition,
    FilterStateAddressCondition,
    FilterStateCondition,
    GrpcCondition,
    HeaderCondition,
    MetadataCondition,
    PathMatch,
    QueryCondition,
    ShareCondition,
    TlsCondition,
    shown,
)
from weft.proxy.runtime import Runtime

DETAIL: Final = 0.1
"""Case, a trailing slash, white space."""
WRONG_VALUE: Final = 0.4
MISSING: Final = 0.5
UNLIKE: Final = 1.0
NEAR: Final = 0.35
"""Paths further apart than this are about something else."""

_KINDS: Final[dict[type, str]] = {
    HeaderCondition: "header",
    QueryCondition: "query parameter",
    CookieCondition: "cookie",
    ShareCondition: "share",
    GrpcCondition: "grpc",
    TlsCondition: "client certificate",
    MetadataCondition: "metadata",
    FilterStateCondition: "filter state",
    FilterStateAddressCondition: "filter state",
}

Judged = tuple[float, Failure]

_CASE: Final = "it differs only in case"


def unlikeness(one: str | bytes, other: str | bytes, most: float = UNLIKE) -> float:
    """0 for equal texts; UNLIKE for any that are further apart than ``most``."""
    matcher: SequenceMatcher[str] = SequenceMatcher(None, _short(one), _short(other), False)
    least = 1.0 - most
    if matcher.real_quick_ratio() < least or matcher.quick_ratio() < least:
        return UNLIKE
    return 1.0 - matcher.ratio()


def _short(text: str | bytes) -> str:
    """Comparing takes the square of the length."""
    return (text if isinstance(text, str) else text.decode("latin-1"))[:200]


# -- paths -----------------------------------------------------------------------------------------


Found = tuple[str, str]
"""(what the small difference is, what would do away with it)"""


def path_difference(match: PathMatch, path: bytes) -> float:
    """Cheap: for every route of a long list.  Patterns are left to :func:`judged_path`."""
    if match.kind > SEPARATED or not path:
        return UNLIKE
    bare = without_query(path).lower()
    wanted = match.text.lower()
    if b"%" in bare:
        bare = unquote_to_bytes(bare)
    if match.kind != EXACT:
        bare = bare[: len(wanted)]
    if bare == wanted or bare.rstrip(b"/") == wanted.rstrip(b"/"):
        return DETAIL
    return unlikeness(bare, wanted, NEAR)


def judged_path(match: PathMatch, path: bytes, method: bytes) -> Judged:
    """Of a path predicate that does not hold."""
    found = _variant(match, path, method)
    difference = path_difference(match, path) if found is None else DETAIL
    hint, remedy = found or ("", f"{match.describe()} has to fit the path")
    if match.kind == CONNECT:
        remedy = "use the method CONNECT"
    seen = shown(match.seen(path, method))
    return difference, Failure(kind="path", wanted=match.describe(), seen=(seen,), hint=hint, remedy=remedy)


def _variant(match: PathMatch, path: bytes, method: bytes) -> Found | None:
    """The one thing to change about the path, or about the predicate."""
    if match.kind == CONNECT or not path:
        return None
    bare = without_query(path)
    if _any_case(match, bare, method):
        return _CASE, "ask in the route's case, or set case_sensitive: false"
    if match.kind == EXACT and bare.startswith(match.text) and bare[len(match.text) :] != b"/":
        below = match.text.endswith(b"/") or bare[len(match.text) : len(match.text) + 1] == b"/"
        if below and match.text != b"/":
            return (
                "it is below that path",
                "path_separated_prefix in place of path takes what is below it, too",
            )
    toggled = bare[:-1] if bare.endswith(b"/") else bare + b"/"
    if toggled and match.matches(toggled, method):
        hint = (
            "there is a trailing slash too many"
            if len(toggled) < len(bare)
            else "a trailing slash is missing"
        )
        return hint, f"ask for {shown(toggled)}, or let the route take both"
    for changed, hint, remedy in (
        (merge_slashes(bare), "a slash is doubled", "set merge_slashes in the connection manager"),
        (normalize(bare), "it is not in its normal form", "set normalize_path in the connection manager"),
        (without_parameters(bare), "it has ;parameters", "set ignore_path_parameters_in_path_matching"),
        (unquote_to_bytes(bare), "it has %-escapes, and is compared as it was sent", "ask without escapes"),
    ):
        if changed and changed != bare and match.matches(changed, method):
            return hint, remedy
    if match.regex is not None and match.template is None:
        return _longer_than_the_pattern(match, bare, method)
    return None


def _any_case(match: PathMatch, bare: bytes, method: bytes) -> bool:
    if match.kind in (PREFIX, EXACT, SEPARATED):
        return not match.ignore_case and PathMatch(match.kind, match.text, ignore_case=True).matches(
            bare, method
        )
    regex = _folded(match.regex)
    return regex is not None and regex.matches(bare)


def _folded(regex: Regex | None) -> Regex | None:
    """The same in any case."""
    if regex is None:
        return None
    try:
        return Regex(f"(?i:{regex.pattern})", limited=False)
    except ValueError:
        return None


def _longer_than_the_pattern(match: PathMatch, bare: bytes, method: bytes) -> Found | None:
    at = len(bare)
    for _ in range(8):
        at = bare.rfind(b"/", 0, at)
        if at <= 0:
            return None
        if match.matches(bare[:at], method) or match.matches(bare[: at + 1], method):
            hint = f"a pattern has to match the whole path, and this one ends at {shown(bare[:at])}"
            return hint, "end the pattern in .*"
    return None


# -- conditions ------------------------------------------------------------------------------------


def judged_condition(
    condition: Condition, request: Request, info: StreamInfo, random_value: int, runtime: Runtime
) -> Judged:
    """Of a condition that does not hold."""
    seen = condition.seen(request, info, random_value, runtime)
    difference, hint = (WRONG_VALUE if seen else MISSING), ""
    remedy = f"it wants that {condition.describe()}"
    if isinstance(condition, HeaderCondition):
        header = condition.matcher
        difference, hint = _header(header, request)
        remedy = _sending(header) or remedy
    elif isinstance(condition, QueryCondition):
        parameter = condition.matcher
        difference, hint = _value(parameter.matcher, parameter.seen(request.path), difference)
        if not seen:
            hint = _misnamed(shown(parameter.name), _parameters(request.path))
    elif isinstance(condition, CookieCondition) and not condition.matcher.invert:
        difference, hint = _value(
            condition.matcher.matcher, condition.matcher.seen(request.headers), difference
        )
    elif isinstance(condition, ShareCondition):
        hint, remedy = "chance", "nothing but luck: the same request is taken here at another time"
    elif isinstance(condition, GrpcCondition):
        remedy = "send content-type: application/grpc"
    if hint == _CASE:
        remedy += ", or set ignore_case: true"
    kind = _KINDS.get(type(condition), "condition")
    failure = Failure(kind=kind, wanted=condition.describe(), seen=tuple(seen), hint=hint, remedy=remedy)
    return difference, failure


def _header(matcher: HeaderMatcher, request: Request) -> tuple[float, str]:
    values = matcher.seen(request)
    if not values:
        known = [shown(field.name) for field in request.headers.fields]
        return MISSING, _misnamed(shown(matcher.name), known)
    if matcher.invert or matcher.matcher is None:
        return WRONG_VALUE, ""
    return _value(matcher.matcher, values, WRONG_VALUE)


def _sending(matcher: HeaderMatcher) -> str:
    """The header line that would do; empty where it is not one."""
    name = shown(matcher.name)
    if matcher.matcher is None:
        return f"send header {name}" if matcher.present != matcher.invert else f"leave out header {name}"
    if matcher.invert or not isinstance(matcher.matcher, Exact):
        return ""
    text = shown(matcher.matcher.text)
    return f"use the method {text}" if name == ":method" else f"send {name}: {text}"


def _value(matcher: StringMatcher | None, values: list[bytes], difference: float) -> tuple[float, str]:
    if matcher is None:
        return difference, ""
    for value in values:
        if _in_any_case(matcher, value):
            return DETAIL, _CASE
        stripped = value.strip(b" \t\"'")
        if stripped != value and matcher.matches(stripped):
            return DETAIL, "white space or quotes around the value are a part of it"
        unquoted = unquote_to_bytes(value)
        if unquoted != value and matcher.matches(unquoted):
            return DETAIL, "it has %-escapes, and is compared as it was sent"
        if isinstance(matcher, MatchesRegex) and _inside(matcher.regex, value):
            return DETAIL, "a pattern has to match the whole value, and this one matches a part of it"
    return difference, ""


def _inside(regex: Regex, value: bytes) -> bool:
    try:
        return Regex(f"(?s:.*(?:{regex.pattern}).*)", limited=False).matches(value)
    except ValueError:
        return False


def _in_any_case(matcher: StringMatcher, value: bytes) -> bool:
    if isinstance(matcher, MatchesRegex):
        folded = _folded(matcher.regex)
        return folded is not None and folded.matches(value)
    if isinstance(matcher, Exact):
        return Exact(matcher.text, True).matches(value)
    if isinstance(matcher, Prefix):
        return Prefix(matcher.text, True).matches(value)
    if isinstance(matcher, Suffix):
        return Suffix(matcher.text, True).matches(value)
    return isinstance(matcher, Contains) and Contains(matcher.text, True).matches(value)


def _misnamed(wanted: str, known: list[str]) -> str:
    for name in known:
        if name != wanted and unlikeness(name, wanted, 0.25) <= 0.25:
            return f"the request has {name}: is that a slip?"
    return ""


def _parameters(path: bytes) -> list[str]:
    query = path.partition(b"?")[2]
    return [shown(part.partition(b"=")[0]) for part in query.split(b"&") if part]


def remedy(failures: tuple[Failure, ...]) -> str:
    """One sentence."""
    return "; and ".join([failure.remedy for failure in failures])
