"""What a table makes of one request: the route, and the message heads after its rules.

:func:`play` does in order what the router does with a request (``proxy/http/router``), as far as
that needs neither a cluster nor a connection.
"""

from typing import Any, Final

from weft.http.headers import Field, Headers
from weft.http.joined import JOINED_IN_REQUESTS, JOINED_IN_RESPONSES
from weft.http.message import Request, Response
from weft.proxy.address import NOWHERE, Address
from weft.proxy.clock import Clock
from weft.proxy.observe.stream_info import ConnectionInfo, StreamInfo
from weft.proxy.route.header_rules import HeaderRules, append_joined
from weft.proxy.route.metadata import plain_struct
from weft.proxy.route.table import DirectResponse, Forward, Redirect, Route, Target
from weft.proxy.route_check.files import Checked

CLIENT: Final = Address("127.0.0.1", 0)
"""Whom every request comes from."""

_FORWARDING_TIMEOUT: Final = 15.0
_NO_PLACE: Final = Redirect()
"""Says where a direct response's request already is: the URL it asked for."""


class Outcome:
    """A request that has been through the table."""

    __slots__ = (
        "bug",
        "cluster",
        "location",
        "request",
        "response",
        "response_status",
        "route",
        "status",
        "timeout",
    )

    def __init__(self, request: Request, response: Headers) -> None:
        self.request: Request = request
        """As it would be forwarded."""
        self.response: Headers = response
        """The header fields of the response as the client would see them."""
        self.response_status: bytes | None = None
        """``:status`` of the response; None when the test gives none and the table answers none."""
        self.route: Route | None = None
        self.cluster: str | None = None
        """None when nothing is forwarded."""
        self.timeout: float = 0.0
        """Seconds, of what is forwarded."""
        self.status: int | None = None
        """What a redirect or a direct response answers with; None for anything else."""
        self.location: bytes = b""
        self.bug: str = ""
        """What a cluster specifier plugin raised."""

    @property
    def forwards(self) -> bool:
        return self.cluster is not None

    @property
    def answers(self) -> bool:
        """Whether it is a redirect or a direct response."""
        return self.status is not None


def play(checked: Checked, given: Any, clock: Clock) -> Outcome:
    """``given`` is a ``ValidationInput``."""
    request = _request(given)
    outcome = Outcome(request, Headers())
    for header in given.additional_response_headers:
        _add_to_response(outcome, header.key.lower().encode(), header.value.encode())
    now = clock.current
    info = StreamInfo(ConnectionInfo(1, now, CLIENT, NOWHERE), now)
    info.request = request
    info.protocol = "HTTP/1.1"
    info.original_path = request.path
    if given.dynamic_metadata:
        info.dynamic_metadata = _metadata(given.dynamic_metadata)
    random_value = _signed(given.random_value)
    runtime = checked.runtime(given.runtime)
    route = checked.table.find(request, info, random_value, runtime)
    if route is None:
        return outcome
    outcome.route = info.route = route
    info.virtual_host = route.virtual_host
    action = route.action
    if isinstance(action, Forward):
        # The key that a test enables is for fractions; weights have none, or the bootstrap's.
        try:
            target = action.choose(request, random_value, checked.values, info)
        except Exception as error:
            outcome.bug = f"{type(error).__name__}: {error}"
            target = Target("")
        outcome.cluster = info.cluster_name = target.cluster
        outcome.timeout = action.timeout
        _forward(outcome, route, action, target, info, clock)
    elif isinstance(action, Redirect):
        _answer(outcome, action.status, b"", [])
        outcome.location = action.location(request, info, clock)
        _finish(outcome, route, info, clock)
    elif isinstance(action, DirectResponse):
        _answer(outcome, action.status, action.body, action.fields)
        outcome.location = _NO_PLACE.location(request)
        _finish(outcome, route, info, clock)
    else:
        # A route that is not for forwarding is a route to nowhere.
        outcome.cluster = ""
        outcome.timeout = _FORWARDING_TIMEOUT
        if route.request_headers is not None:
            route.request_headers.apply(request.headers, info, clock)
        _finish(outcome, route, info, clock)
    return outcome


def _forward(
    outcome: Outcome, route: Route, action: Forward, target: Target, info: StreamInfo, clock: Clock
) -> None:
    route.change_request(outcome.request, action, target, info, clock)
    _finish(outcome, route, info, clock, target.response_headers)


def _answer(outcome: Outcome, status: int, body: bytes, fields: list[Field]) -> None:
    """The head of a local reply, over what the test says is there already."""
    outcome.status = status
    _add_to_response(outcome, b":status", b"%d" % status)
    for field in fields:
        outcome.response.put(field)
    if body:
        _add_to_response(outcome, b"content-length", b"%d" % len(body))
        if all(field.name != b"content-type" for field in fields):
            _add_to_response(outcome, b"content-type", b"text/plain")


def _finish(
    outcome: Outcome, route: Route, info: StreamInfo, clock: Clock, first: HeaderRules | None = None
) -> None:
    info.response = Response(outcome.status or 0, b"", outcome.response)
    if first is not None:
        first.apply(outcome.response, info, clock)
    if route.response_headers is not None:
        route.response_headers.apply(outcome.response, info, clock)


# -- from the test ---------------------------------------------------------------------------------


def _request(given: Any) -> Request:
    scheme = b"https" if given.ssl else b"http"
    headers = Headers([Field(b"x-forwarded-proto", scheme)])
    headers.mask = headers.fields[0].bit
    request = Request(given.method.encode(), given.path.encode(), given.authority.encode(), scheme, headers)
    if given.internal:
        headers.append(Field(b"x-envoy-internal", b"true"))
    for header in given.additional_request_headers:
        _add_to_request(request, header.key.lower().encode(), header.value.encode())
    return request


def _add_to_request(request: Request, name: bytes, value: bytes) -> None:
    """As a second field of that name would arrive: where there may be one only, it joins the first."""
    if name == b":path":
        request.path += b"," + value
    elif name in (b":authority", b"host"):
        request.authority += b"," + value
    elif name == b":method":
        request.method += b"," + value
    elif name == b":scheme":
        request.scheme += b"," + value
    elif name in JOINED_IN_REQUESTS:
        append_joined(request.headers, Field(name, value))
    else:
        request.headers.append(Field(name, value))


def _add_to_response(outcome: Outcome, name: bytes, value: bytes) -> None:
    if name == b":status":
        status = outcome.response_status
        outcome.response_status = value if status is None else status + b"," + value
    elif name in JOINED_IN_RESPONSES:
        append_joined(outcome.response, Field(name, value))
    else:
        outcome.response.append(Field(name, value))


def _metadata(given: Any) -> dict[str, Any]:
    """By the rules of the filter ``set_metadata``: what is there stays unless it may be overwritten."""
    found: dict[str, Any] = {}
    for entry in given:
        if entry.metadata_namespace not in found or entry.allow_overwrite:
            found[entry.metadata_namespace] = plain_struct(entry.value)
    return found


def _signed(value: int) -> int:
    """Envoy's tool passes the number through a C ``int``; so that the same cluster is drawn."""
    value &= 0xFFFFFFFF
    return value if value < 1 << 31 else value + (1 << 64) - (1 << 32)
