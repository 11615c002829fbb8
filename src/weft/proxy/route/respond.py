"""The route actions that answer by themselves: redirects, direct responses, and none at all."""

import os
from typing import Any, ClassVar, Final

from weft.api.problems import Where
from weft.http.headers import Field, Headers
from weft.http.message import Request
from weft.proxy.clock import Clock
from weft.proxy.observe.json_format import BodyFormat, substitution_format
from weft.proxy.observe.stream_info import StreamInfo
from weft.proxy.route.match import PathMatch
from weft.proxy.route.rewrite import FormatRewrite, PathRewrite, path_rewrite, rewrite_path
from weft.proxy.route.supported import only

REDIRECT: Final = 1
DIRECT: Final = 2
NON_FORWARDING: Final = 3

DEFAULT_BODY_LIMIT: Final = 4096
"""Bytes of a direct response's body (``max_direct_response_body_size_bytes``)."""


class Redirect:
    """Answer with another place to go."""

    kind: ClassVar[int] = REDIRECT

    def __init__(self, status: int = 301) -> None:
        self.status: int = status
        self.scheme: bytes = b""
        """Empty for the request's own; likewise the others."""
        self.host: bytes = b""
        self.port: int = 0
        self.path: bytes = b""
        """In place of the request's path; with a query of its own it replaces the request's."""
        self.path_rewrite: PathRewrite | None = None
        self.strip_query: bool = False

    def location(
        self,
        request: Request,
        info: StreamInfo | None = None,
        clock: Clock | None = None,
        *,
        original_path: bool = True,
    ) -> bytes:
        """Where to.  A rewrite of the path is applied to the request itself, so that logs see it.

        Not so ``path_rewrite``, a format: in Envoy, too, that one only writes the location.
        """
        written = b""
        rewrite = self.path_rewrite
        if isinstance(rewrite, FormatRewrite):
            written = rewrite.rewritten(request.path, info, clock)
        elif rewrite is not None:
            rewrite_path(request, rewrite, original_path, info, clock)
        scheme = self.scheme or request.scheme
        port = b":%d" % self.port if self.port else b""
        host = self.host or _request_host(request, scheme, bool(port))
        path = self.path or written or request.path
        own_query = b"?" in self.path
        if self.path and not own_query:
            at = request.path.find(b"?")
            if at >= 0:
                path += request.path[at:]
        if self.strip_query and not own_query:
            at = path.find(b"?")
            if at >= 0:
                path = path[:at]
        if not path.startswith(b"/"):
            path = b"/" + path  # or it would become part of the host
        return scheme + b"://" + host + port + path

    def describe(self) -> str:
        parts = [f"redirect with {self.status}"]
        for name in ("scheme", "host", "port", "path"):
            value = getattr(self, name)
            if value:
                parts.append(
                    f"{name} {value.decode('utf-8', 'replace') if isinstance(value, bytes) else value}"
                )
        if self.path_rewrite is not None:
            parts.append(self.path_rewrite.describe())
        return ", ".join(parts)


def _request_host(request: Request, scheme: bytes, new_port: bool) -> bytes:
    """The request's authority, without a port that no longer fits."""
    host = request.authority
    if host.startswith(b"["):
        at = host.rfind(b"]:")
        if at >= 0:
            at += 1
    else:
        at = host.rfind(b":")
    if at < 0:
        return host
    if new_port:
        return host[:at]
    # The protocol that the connection came by, not the URL's scheme, says which port was implied.
    protocol = request.headers.find(b"x-forwarded-proto") or request.scheme
    port = host[at:]
    if scheme != protocol and (
        (protocol == b"https" and port == b":443") or (protocol == b"http" and port == b":80")
    ):
        return host[:at]
    return host


class DirectResponse:
    """Answer with a fixed response, or one that tells of the request."""

    kind: ClassVar[int] = DIRECT

    def __init__(self, status: int, body: bytes = b"") -> None:
        self.status: int = status
        self.body: bytes = body
        self.fields: list[Field] = []
        """Header fields of the response's own, besides what header rules add."""
        self.format: BodyFormat | None = None
        """Makes the body of the request and of ``body``."""
        self.content_type: Field | None = None
        """Of the format, in place of what header rules say; None leaves it to them."""
        self.place: Redirect | None = Redirect() if status == 201 or 300 <= status < 400 else None
        """Where the response is to say it is (``location``): the request's own URL."""

    def own_fields(self, request: Request) -> list[Field]:
        """The fields of one response."""
        place = self.place
        if place is None:
            return self.fields
        return [Field(b"location", place.location(request)), *self.fields]

    @property
    def headers(self) -> Headers:
        headers = Headers()
        for field in self.fields:
            headers.append(field)
        return headers

    def describe(self) -> str:
        return f"answer {self.status} with {len(self.body)} bytes"


class NonForwarding:
    """Not for forwarding (a gRPC server's own routes): a proxy finds that it has no cluster."""

    kind: ClassVar[int] = NON_FORWARDING

    def describe(self) -> str:
        return "not for forwarding"


# -- from configuration ----------------------------------------------------------------------------

_STATUS: Final = (301, 302, 303, 307, 308)
"""By number of ``RedirectResponseCode``."""
_REDIRECT: Final = frozenset(
    (
        "https_redirect", "scheme_redirect", "host_redirect", "port_redirect", "path_redirect",
        "prefix_rewrite", "regex_rewrite", "path_rewrite", "response_code", "strip_query",
    )
)  # fmt: skip
_DIRECT: Final = frozenset(("status", "body", "body_format"))


def redirect(message: Any, match: PathMatch, where: Where) -> Redirect:
    """From an ``envoy.config.route.v3.RedirectAction``."""
    only(message, _REDIRECT, where)
    action = Redirect(_STATUS[message.response_code])
    scheme: str = message.scheme_redirect
    action.scheme = scheme.encode() or (b"https" if message.https_redirect else b"")
    action.host = message.host_redirect.encode()
    action.port = message.port_redirect
    action.path = message.path_redirect.encode()
    action.strip_query = message.strip_query
    action.path_rewrite = path_rewrite(message, match, where)
    return action


def direct_response(message: Any, body_limit: int, where: Where) -> DirectResponse:
    """From an ``envoy.config.route.v3.DirectResponseAction``."""
    only(message, _DIRECT, where)
    body = data_source(message.body, where.field("body"), body_limit) if message.HasField("body") else b""
    action = DirectResponse(message.status, body)
    if message.HasField("body_format"):
        body_format = message.body_format
        action.format = substitution_format(body_format, where.field("body_format"))
        if body_format.content_type or body_format.WhichOneof("format") == "json_format":
            action.content_type = Field(b"content-type", action.format.content_type)
    return action


def data_source(message: Any, where: Where, limit: int) -> bytes:
    """The bytes of an ``envoy.config.core.v3.DataSource``, read now; ``limit`` in bytes."""
    kind = message.WhichOneof("specifier")
    if message.HasField("watched_directory"):
        where.field("watched_directory").problem("not supported yet: watched_directory")
    if kind == "inline_string":
        data: bytes = message.inline_string.encode()
    elif kind == "inline_bytes":
        data = message.inline_bytes
    elif kind == "environment_variable":
        value = os.environ.get(message.environment_variable)
        if value is None:
            where.problem(f"Environment variable doesn't exist: {message.environment_variable}")
            return b""
        data = os.fsencode(value)
    elif kind == "filename":
        try:
            with open(message.filename, "rb") as file:
                data = file.read(limit + 1)
                size = os.fstat(file.fileno()).st_size
        except FileNotFoundError:
            where.problem(f"file {message.filename} does not exist")
            return b""
        except OSError as error:
            where.problem(f"cannot read {message.filename}: {error.strerror}")
            return b""
        if len(data) > limit:
            where.problem(f"file {message.filename} size is {size} bytes; maximum is {limit}")
            return b""
        return data
    else:
        where.problem(
            "a data source needs one of filename, inline_string, inline_bytes, environment_variable"
        )
        return b""
    if len(data) > limit:
        where.problem(f"response body size is {len(data)} bytes; maximum is {limit}")
        return b""
    return data
