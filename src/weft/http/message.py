"""Requests and responses: what filters, routes and logs see.

The four pseudo-headers of HTTP/2 are attributes here for every version of HTTP; :meth:`header`
resolves them by their HTTP/2 names, because header matchers and log operators name them so.
"""

from weft.http.headers import Headers


class Request:
    """The head of a request.  ``path`` is the target with its query, as it will be forwarded."""

    __slots__ = ("authority", "headers", "method", "path", "scheme", "version")

    def __init__(
        self,
        method: bytes,
        path: bytes,
        authority: bytes,
        scheme: bytes,
        headers: Headers,
        version: bytes = b"HTTP/1.1",
    ) -> None:
        self.method = method
        self.path = path
        self.authority = authority
        self.scheme = scheme
        self.headers = headers
        self.version = version

    def header(self, name: bytes) -> bytes | None:
        """The first value of ``name`` (lower-case), pseudo-headers and ``host`` included."""
        if name.startswith(b":"):
            if name == b":path":
                return self.path or None
            if name == b":method":
                return self.method
            if name == b":authority":
                return self.authority
            if name == b":scheme":
                return self.scheme
            return None
        if name == b"host":
            return self.authority
        return self.headers.find(name)

    def header_all(self, name: bytes) -> list[bytes]:
        """Every value of ``name`` (lower-case), pseudo-headers and ``host`` included."""
        if name.startswith(b":") or name == b"host":
            value = self.header(name)
            return [] if value is None else [value]
        return self.headers.find_all(name)

    def __repr__(self) -> str:
        return f"Request({self.method!r}, {self.authority!r}, {self.path!r})"


class Response:
    """The head of a response, and its body when the proxy itself made it."""

    __slots__ = ("body", "header_bytes", "headers", "status", "wire_bytes")

    def __init__(self, status: int, body: bytes = b"", headers: Headers | None = None) -> None:
        self.status: int = status
        self.body = body
        self.headers = Headers() if headers is None else headers
        self.header_bytes: int = 0
        """Of the header fields as received, as Envoy counts them; 0 when made here."""
        self.wire_bytes: int = 0
        """Of the whole head as received."""

    def header(self, name: bytes) -> bytes | None:
        """The first value of ``name`` (lower-case); ``:status`` is resolved."""
        if name == b":status":
            return b"%d" % self.status
        return self.headers.find(name)

    def header_all(self, name: bytes) -> list[bytes]:
        if name == b":status":
            return [b"%d" % self.status]
        return self.headers.find_all(name)

    def __repr__(self) -> str:
        return f"Response({self.status})"
