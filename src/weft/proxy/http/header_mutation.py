"""Change headers, trailers and query parameters: ``envoy.filters.http.header_mutation``.

The same edits as the header rules of routes, but in the order in which they are written, and at the
filter's place in the chain.  Every place of the route table that configures the filter takes part
after the filter's own edits: most specific first, or last with
``most_specific_header_mutations_wins`` (the last edit wins).
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from weft.api.problems import Where
from weft.http.headers import Headers
from weft.http.joined import JOINED_IN_REQUESTS, JOINED_IN_RESPONSES
from weft.http.message import Request, Response
from weft.proxy.clock import Clock
from weft.proxy.context import WorkerContext
from weft.proxy.extensions import HttpFilterKind
from weft.proxy.http.filter import HttpFilter
from weft.proxy.observe.formatter import Format, compile_format
from weft.proxy.observe.stream_info import StreamInfo
from weft.proxy.route.header_mutations import HeaderMutation, header_mutations_of, mutate
from weft.proxy.route.header_rules import ADD_IF_ABSENT, APPEND, OVERWRITE
from weft.proxy.route.supported import items, only

if TYPE_CHECKING:
    from weft.proxy.http.stream import Stream


@dataclass(frozen=True, slots=True)
class ParameterMutation:
    """One edit of the query: ``value`` to set, or none to remove ``name``."""

    name: bytes
    action: int = APPEND
    value: Format | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutations:
    request: tuple[HeaderMutation, ...] = ()
    query: tuple[ParameterMutation, ...] = ()
    request_trailers: tuple[HeaderMutation, ...] = ()
    response: tuple[HeaderMutation, ...] = ()
    response_trailers: tuple[HeaderMutation, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class HeaderMutationSettings:
    mutations: Mutations
    most_specific_wins: bool = False


class HeaderMutationFilter(HttpFilter):
    def __init__(self, settings: HeaderMutationSettings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._all: tuple[Mutations, ...] | None = None

    def on_request(self, request: Request, stream: "Stream") -> Response | None:
        for mutations in self._places(stream):
            if mutations.request:
                mutate(request.headers, mutations.request, JOINED_IN_REQUESTS, stream, self._clock)
            if mutations.query:
                request.path = mutate_query(request.path, mutations.query, stream, self._clock)
        return None

    def on_request_trailers(self, trailers: Headers, stream: "Stream") -> None:
        for mutations in self._places(stream):
            mutate(trailers, mutations.request_trailers, JOINED_IN_REQUESTS, stream, self._clock)

    def on_response(self, response: Response, stream: "Stream") -> None:
        for mutations in self._places(stream):
            if mutations.response:
                mutate(response.headers, mutations.response, JOINED_IN_RESPONSES, stream, self._clock)

    def on_response_trailers(self, trailers: Headers, stream: "Stream") -> None:
        for mutations in self._places(stream):
            mutate(trailers, mutations.response_trailers, JOINED_IN_RESPONSES, stream, self._clock)

    def _places(self, stream: "Stream") -> tuple[Mutations, ...]:
        """The filter's own edits and the route's; the route is asked once per stream."""
        places = self._all
        if places is None:
            places = (self._settings.mutations, *self._of_route(stream))
            self._all = places
        return places

    def _of_route(self, stream: "Stream") -> list[Mutations]:
        if self.name not in stream.filter_table():
            return []
        found: list[Mutations] = stream.every_setting(self.name)
        if not self._settings.most_specific_wins:
            found.reverse()
        return found


def mutate_query(
    path: bytes, mutations: tuple[ParameterMutation, ...], info: StreamInfo, clock: Clock
) -> bytes:
    """The path with its query edited.  Parameters come out sorted by name, as Envoy writes them."""
    bare, _, query = path.partition(b"?")
    parameters: dict[bytes, list[bytes]] = {}
    for part in query.split(b"&") if query else ():
        name, _, value = part.partition(b"=")
        parameters.setdefault(_decoded(name), []).append(_decoded(value))
    for mutation in mutations:
        name = mutation.name
        if mutation.value is None:
            parameters.pop(name, None)
            continue
        value = mutation.value.bytes(info, clock)
        if mutation.action == APPEND:
            parameters.setdefault(name, []).append(value)
        elif mutation.action == ADD_IF_ABSENT:
            parameters.setdefault(name, [value])
        elif mutation.action != OVERWRITE or name in parameters:
            parameters[name] = [value]
    written = [
        _encoded(name) + b"=" + _encoded(value) for name in sorted(parameters) for value in parameters[name]
    ]
    return bare + b"?" + b"&".join(written) if written else bare


def _decoded(text: bytes) -> bytes:
    if b"%" not in text:
        return text
    from urllib.parse import unquote_to_bytes

    return unquote_to_bytes(text)


def _encoded(text: bytes) -> bytes:
    """Escaped where it has to be.

    Envoy writes what it decoded as it is, so that ``%26`` becomes a separator and ``%20`` ends the
    request line; a proxy must not be talked into that.
    """
    from urllib.parse import quote_from_bytes

    return quote_from_bytes(text, safe="-._~+!$'()*,:;@").encode()


# -- from configuration ----------------------------------------------------------------------------


def header_mutation_settings(message: Any, where: Where) -> HeaderMutationSettings:
    """From an ``envoy.extensions.filters.http.header_mutation.v3.HeaderMutation``."""
    return HeaderMutationSettings(
        mutations=route_mutations(message, where),
        most_specific_wins=message.most_specific_header_mutations_wins,
    )


_KNOWN: Final = frozenset(
    (
        "request_mutations", "query_parameter_mutations", "response_mutations",
        "response_trailers_mutations", "request_trailers_mutations",
    )
)  # fmt: skip


def route_mutations(message: Any, where: Where) -> Mutations:
    """From a HeaderMutationPerRoute, or any message with ``mutations``."""
    where = where.field("mutations")
    mutations = message.mutations
    only(mutations, _KNOWN, where)
    return Mutations(
        request=header_mutations_of(mutations, "request_mutations", where),
        query=_parameters(mutations, where),
        request_trailers=header_mutations_of(mutations, "request_trailers_mutations", where),
        response=header_mutations_of(mutations, "response_mutations", where),
        response_trailers=header_mutations_of(mutations, "response_trailers_mutations", where),
    )


def _parameters(message: Any, where: Where) -> tuple[ParameterMutation, ...]:
    where = where.field("query_parameter_mutations")
    found = []
    for i, mutation in enumerate(items(message, "query_parameter_mutations")):
        place = where.item(i)
        if mutation.HasField("append"):
            if mutation.remove:
                place.problem("Only one of 'append'/'remove' can be specified.")
            found.append(_parameter(mutation.append, place.field("append")))
        elif mutation.remove:
            found.append(ParameterMutation(mutation.remove.encode()))
        else:
            place.problem("One of 'append'/'remove' must be specified.")
    return tuple(found)


def _parameter(message: Any, where: Where) -> ParameterMutation:
    if message.HasField("record"):
        name = message.record.key
        if message.record.value.WhichOneof("kind") != "string_value":
            where.field("record").field("value").problem("only a string value can be set in a query")
        text = message.record.value.string_value
    else:
        name = message.entry.key
        text = message.entry.value.decode("utf-8", "replace")
    if not name:
        where.problem("a query parameter needs a key")
    value = compile_format(text, where, omit_empty=True)
    return ParameterMutation(name.encode(), message.action, value)


def build(
    settings: HeaderMutationSettings, context: WorkerContext, stat_prefix: str
) -> Callable[[], HttpFilter]:
    return functools.partial(HeaderMutationFilter, settings, context.clock)


HEADER_MUTATION: Final = HttpFilterKind(
    name="envoy.filters.http.header_mutation",
    type="envoy.extensions.filters.http.header_mutation.v3.HeaderMutation",
    settings=header_mutation_settings,
    build=build,
    route_settings=route_mutations,
    route_type="envoy.extensions.filters.http.header_mutation.v3.HeaderMutationPerRoute",
)
