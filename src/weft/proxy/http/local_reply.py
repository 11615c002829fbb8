"""Local replies: the responses that the proxy makes itself, and how operators may rewrite them.

``local_reply_config`` is a list of mappers (first match wins) that change status, headers and
body, and one body format for the rest.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote_from_bytes

from weft.api.problems import Where
from weft.api.values import wrapped
from weft.http.headers import CONTENT_TYPE, Field, Headers
from weft.http.message import Response
from weft.proxy.http.asked import is_grpc_call
from weft.proxy.observe.json_format import BodyFormat, substitution_format
from weft.proxy.observe.log_filter import LogFilter, log_filter
from weft.proxy.route.header_rules import HeaderEdits, header_edit

if TYPE_CHECKING:
    from weft.proxy.clock import Clock
    from weft.proxy.http.stream import Stream
    from weft.proxy.runtime import Runtime

_GRPC_STATUS: Final = {400: 13, 401: 16, 403: 7, 404: 12, 429: 14, 502: 14, 503: 14, 504: 14}
"""HTTP status -> gRPC status; others are UNKNOWN (2)."""
_DEADLINE_EXCEEDED: Final = 4
_GRPC_SAFE: Final = " !\"#$&'()*+,/:;<=>?@[\\]^`{|}"
"""What gRPC leaves unescaped in a message, besides what URLs do."""


_TEXT: Final = Field(b"content-type", b"text/plain")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mapper:
    """One ``ResponseMapper``."""

    filter: LogFilter
    status: int = 0
    """0 keeps the status."""
    body: bytes | None = None
    format: BodyFormat | None = None
    headers: HeaderEdits | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalReplySettings:
    mappers: tuple[Mapper, ...] = ()
    format: BodyFormat | None = None


def local_reply_settings(message: Any, where: Where) -> LocalReplySettings:
    mappers = []
    for i, entry in enumerate(message.mappers):
        place = where.field("mappers").item(i)
        mappers.append(
            Mapper(
                filter=log_filter(entry.filter, place.field("filter")),
                status=wrapped(entry, "status_code", 0),
                body=_data_source(entry.body, place.field("body")) if entry.HasField("body") else None,
                format=substitution_format(entry.body_format_override, place.field("body_format_override"))
                if entry.HasField("body_format_override")
                else None,
                headers=_edits(entry.headers_to_add, place.field("headers_to_add")),
            )
        )
    body_format = None
    if message.HasField("body_format"):
        body_format = substitution_format(message.body_format, where.field("body_format"))
    return LocalReplySettings(mappers=tuple(mappers), format=body_format)


def _edits(options: Any, where: Where) -> HeaderEdits | None:
    edits = [header_edit(option, where.item(i)) for i, option in enumerate(options)]
    return (
        HeaderEdits((), tuple([edit for edit in edits if edit is not None]), request=False) if edits else None
    )


def _data_source(source: Any, where: Where) -> bytes:
    which = source.WhichOneof("specifier")
    if which == "inline_string":
        return bytes(source.inline_string.encode())
    if which == "inline_bytes":
        return bytes(source.inline_bytes)
    if which == "filename":
        try:
            with open(source.filename, "rb") as file:
                return file.read()
        except OSError as error:
            where.problem(f"cannot read {source.filename!r}: {error.strerror}")
            return b""
    where.problem("not supported yet: bodies from environment variables")
    return b""


class LocalReply:
    def __init__(self, settings: LocalReplySettings, clock: "Clock", runtime: "Runtime") -> None:
        self.settings = settings
        self.clock = clock
        self.runtime = runtime
        self._plain: bool = not settings.mappers and settings.format is None

    def send(
        self,
        stream: "Stream",
        status: int,
        body: bytes,
        fields: list[Field] | None,
        own_type: Field | None = None,
    ) -> None:
        headers = Headers()
        for field in fields or ():
            headers.append(field)
        response = Response(status, b"", headers)
        route = stream.route
        if route is not None:
            if route.response_headers is not None:
                stream.response = response  # %RESP()% sees what is there so far
                route.response_headers.apply(headers, stream, self.clock)
            if own_type is not None:
                headers.drop(b"content-type")
                headers.append(own_type)
            if stream.attempts and route.virtual_host.attempt_count_in_response:
                headers.put(Field(b"x-envoy-attempt-count", b"%d" % stream.attempts))
        content_type = _TEXT
        if not self._plain:
            given = body
            said = headers.find(b"content-type")
            status, body, content_type = self._map(stream, response, body)
            response.status = status
            if said is not None and body != given and headers.find(b"content-type") == said:
                headers.put(content_type)  # it told of another body
        if stream.request is not None and is_grpc_call(stream.head.headers):
            self._grpc(stream, response, body)
            return
        if response.status == 204:
            body = b""  # RFC 9110 8.6: it has neither body nor length
        if body:
            headers.put(Field(b"content-length", b"%d" % len(body)))
            if not headers.mask & CONTENT_TYPE:
                headers.put(content_type)
        stream.respond(response, body if stream.head.method != b"HEAD" else b"", True)

    def _grpc(self, stream: "Stream", response: Response, body: bytes) -> None:
        """gRPC clients read the status of a call in headers, and only a 200 as theirs."""
        headers = response.headers
        headers.put(Field(b"content-type", b"application/grpc"))
        status = _GRPC_STATUS.get(response.status, 2)
        if stream.details == "max_duration_timeout":
            status = _DEADLINE_EXCEEDED
        headers.put(Field(b"grpc-status", b"%d" % status))
        if body:
            headers.put(Field(b"grpc-message", quote_from_bytes(body, _GRPC_SAFE).encode()))
        response.status = 200
        stream.respond(response, b"", True)

    def _map(self, stream: "Stream", response: Response, body: bytes) -> tuple[int, bytes, Field]:
        settings = self.settings
        stream.response = response
        stream.status = response.status
        chosen: Mapper | None = None
        for mapper in settings.mappers:
            if mapper.filter.passes(stream, self.clock, self.runtime, stream.manager.random):
                chosen = mapper
                break
        form = settings.format
        if chosen is not None:
            if chosen.headers is not None:
                chosen.headers.apply(response.headers, stream, self.clock)
            if chosen.status:
                response.status = chosen.status
                stream.status = chosen.status
            if chosen.body is not None:
                body = chosen.body
            if chosen.format is not None:
                form = chosen.format
        if form is None:
            return response.status, body, _TEXT
        return response.status, form.body(stream, self.clock, body), Field(b"content-type", form.content_type)
