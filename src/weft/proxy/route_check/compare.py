"""What came out against what was expected, in the words of Envoy's tool.

:class:`Assertions` is one ``ValidationAssert``, its header matchers compiled.  Every kind of
assertion that is wrong makes a :class:`Failure`; one that is right is told to the coverage.
"""

from dataclasses import dataclass
from typing import Any, Final

from weft.api.problems import Where
from weft.api.values import seconds
from weft.http.message import Response
from weft.proxy.matchers import HeaderMatcher, header_matcher
from weft.proxy.route_check.coverage import Coverage
from weft.proxy.route_check.outcome import Outcome

NOTHING: Final = "NULL"
"""How the tool writes a header that is not there."""


@dataclass(frozen=True, slots=True)
class Failure:
    """One assertion that does not hold."""

    test_type: str
    """Such as ``cluster_name`` or ``request_header_matches.string_match.exact``."""
    actual: str
    expected: str | None = None
    """None where the matcher that was given says it, and not a text."""
    wanted: bool = True
    """False when ``actual`` is what should not have come out."""

    def __str__(self) -> str:
        actual = f"actual: {'' if self.wanted else 'NOT '}[{self.actual}], test type: {self.test_type}"
        return actual if self.expected is None else f"expected: [{self.expected}], {actual}"


class Assertions:
    """What one test expects."""

    def __init__(self, message: Any, where: Where) -> None:
        """``message`` is a ``ValidationAssert``; a matcher that cannot be compiled is a problem."""
        self._message = message
        self._request = _matchers(message.request_header_matches, where.field("request_header_matches"))
        self._response = _matchers(message.response_header_matches, where.field("response_header_matches"))

    def failures(self, outcome: Outcome, coverage: Coverage) -> list[Failure]:
        """What does not hold, in the order in which the tool looks."""
        found: list[Failure] = []
        if outcome.bug:
            found.append(Failure("cluster_specifier", outcome.bug))
        for name, actual in _texts(self._message, outcome):
            expected = str(getattr(self._message, name).value)
            if actual == expected:
                coverage.mark(outcome, name)
            else:
                found.append(Failure(name, actual, expected))
        if self._message.HasField("timeout"):
            wanted, got = (
                str(round(seconds(self._message.timeout) * 1000)),
                str(round(outcome.timeout * 1000)),
            )
            if wanted != got:
                found.append(Failure("timeout", got, wanted))
        for wanted_value in self._message.route_metadata:
            _check_metadata(wanted_value, outcome, found)
        self._check_request(outcome, found)
        self._check_response(outcome, found)
        return found

    def _check_request(self, outcome: Outcome, found: list[Failure]) -> None:
        request = outcome.request
        for message, matcher in self._request:
            if not matcher.matches(request):
                found.append(_mismatch("request_header_matches", message, request.header(matcher.name)))
        for field in self._message.request_header_fields:
            _check_field("request_header_fields", field, request.header(field.key.lower().encode()), found)

    def _check_response(self, outcome: Outcome, found: list[Failure]) -> None:
        head = Response(0, b"", outcome.response)
        for message, matcher in self._response:
            special = matcher.name == b":status"
            value = outcome.response_status if special else head.headers.find(matcher.name)
            if not (matcher.accepts(value) if special else matcher.matches_response(head)):
                found.append(_mismatch("response_header_matches", message, value))
        for field in self._message.response_header_fields:
            name = field.key.lower().encode()
            value = outcome.response_status if name == b":status" else head.headers.find(name)
            _check_field("response_header_fields", field, value, found)


def _texts(message: Any, outcome: Outcome) -> list[tuple[str, str]]:
    """The assertions that are given, each with what came out."""
    forwards, request, route = outcome.forwards, outcome.request, outcome.route
    given: list[tuple[str, str]] = []
    if message.HasField("cluster_name"):
        given.append(("cluster_name", outcome.cluster or ""))
    if message.HasField("virtual_cluster_name"):
        counted = route is not None and forwards
        # Asked of the request as it is by now: rewritten.
        given.append(
            ("virtual_cluster_name", route.virtual_host.virtual_cluster(request) if route and counted else "")
        )
    if message.HasField("virtual_host_name"):
        given.append(("virtual_host_name", route.virtual_host.name if route is not None and forwards else ""))
    if message.HasField("path_rewrite"):
        given.append(("path_rewrite", _text(request.path) if forwards else ""))
    if message.HasField("host_rewrite"):
        given.append(("host_rewrite", _text(request.authority) if forwards else ""))
    if message.HasField("path_redirect"):
        given.append(("path_redirect", _text(outcome.location) if outcome.answers else ""))
    if message.HasField("code_redirect"):
        given.append(("code_redirect", str(outcome.status or 0)))
    return given


def _check_metadata(wanted: Any, outcome: Outcome, found: list[Failure]) -> None:
    """One text of the route's metadata."""
    metadata = outcome.route.metadata if outcome.route is not None else None
    value = (metadata or {}).get(wanted.namespace, {}).get(wanted.key)
    if value != wanted.value:
        name = f"{wanted.namespace}.{wanted.key}"
        actual = f"{name}: {NOTHING if value is None else value}"
        found.append(Failure("route_metadata", actual, f"{name}: {wanted.value}"))


def _check_field(kind: str, field: Any, value: bytes | None, found: list[Failure]) -> None:
    actual = "" if value is None else _text(value)
    if actual != field.value:
        found.append(Failure(kind, actual, field.value))


def _mismatch(kind: str, message: Any, value: bytes | None) -> Failure:
    """How a matcher (an ``envoy.config.route.v3.HeaderMatcher``) did not match."""
    form = message.WhichOneof("header_match_specifier") or "present_match"
    name = message.name
    if form == "present_match":
        there, wanted = ("true", "false") if message.invert_match else ("false", "true")
        return Failure(f"{kind}.present_match", f"has({name}):{there}", f"has({name}):{wanted}")
    actual = f"{name}: {NOTHING if value is None else _text(value)}"
    if form == "string_match":
        pattern = message.string_match.WhichOneof("match_pattern") or "match_pattern_not_set"
        form = f"string_match.{pattern}"
        if pattern == "exact":
            expected = f"{name}: {message.string_match.exact}"
            return Failure(f"{kind}.{form}", actual, expected, wanted=not message.invert_match)
    return Failure(f"{kind}.{form}", actual)


def _matchers(messages: Any, where: Where) -> list[tuple[Any, HeaderMatcher]]:
    return [(message, header_matcher(message, where.item(i))) for i, message in enumerate(messages)]


def _text(value: bytes) -> str:
    return value.decode("utf-8", "replace")
