"""The seam between whoever asks and the connection that answers.

A :class:`ResponseReader` (the router's attempt) asks a pool for a connection; when it has one it
writes through the :class:`RequestWriter` and is called back with the response.  Both sides are
plain calls: no queue, no task.  A reason why it did not work is one of the numbers below; what
follows from it (status, flag, text) is one table.
"""

from typing import Final

from mypy_extensions import mypyc_attr

from weft.http.headers import Headers
from weft.http.message import Request, Response
from weft.proxy.address import Address
from weft.proxy.observe import flags

OVERFLOW: Final = 0
LOCAL_CONNECTION_FAILURE: Final = 1
REMOTE_CONNECTION_FAILURE: Final = 2
CONNECTION_TIMEOUT: Final = 3
CONNECTION_TERMINATION: Final = 4
PROTOCOL_ERROR: Final = 5
LOCAL_RESET: Final = 6
REMOTE_RESET: Final = 7


class Reason:
    """What a failed attempt means for the client."""

    def __init__(self, text: str, status: int, flag: int) -> None:
        self.text = text
        """Envoy's words, part of the local reply's body and of the details."""
        self.status: int = status
        self.flag: int = flag


REASONS: Final[tuple[Reason, ...]] = (
    Reason("overflow", 503, flags.UPSTREAM_OVERFLOW),
    Reason("local connection failure", 503, flags.UPSTREAM_CONNECTION_FAILURE),
    Reason("remote connection failure", 503, flags.UPSTREAM_CONNECTION_FAILURE),
    Reason("connection timeout", 503, flags.UPSTREAM_CONNECTION_FAILURE),
    Reason("connection termination", 503, flags.UPSTREAM_CONNECTION_TERMINATION),
    Reason("protocol error", 502, flags.UPSTREAM_PROTOCOL_ERROR),
    Reason("local reset", 503, flags.LOCAL_RESET),
    Reason("remote reset", 503, flags.UPSTREAM_REMOTE_RESET),
)


@mypyc_attr(allow_interpreted_subclasses=True)
class RequestWriter:
    """One request on one upstream connection, of any protocol."""

    id: int
    local: Address
    protocol: str
    header_sent: int
    """Bytes of the header fields of the request under way, on the wire."""
    wire_sent: int
    """Bytes written for the request under way."""
    blocked: bool
    """The host does not take what is written."""

    def send(self, request: Request, data: bytes, end: bool, upgrade: bool) -> None:
        """The head and, when ``data`` or ``end`` say so, (a part of) the body."""
        raise NotImplementedError

    def send_data(self, data: bytes, end: bool) -> None:
        raise NotImplementedError

    def send_trailers(self, trailers: Headers) -> None:
        raise NotImplementedError

    def reset(self) -> None:
        """Give the request up; nothing more is called back."""
        raise NotImplementedError

    def pause(self) -> None:
        """Stop reading the response: the client does not take it."""
        raise NotImplementedError

    def resume(self) -> None:
        raise NotImplementedError


@mypyc_attr(allow_interpreted_subclasses=True)
class ResponseReader:
    """Who asked."""

    def on_ready(self, writer: RequestWriter, now: float) -> None:
        """A connection is there."""
        raise NotImplementedError

    def on_failure(self, reason: int, text: str) -> None:
        """There will be no connection; ``text`` is the transport's own reason or empty."""
        raise NotImplementedError

    def on_interim(self, status: int, headers: Headers) -> None:
        """A 1xx response other than 101."""
        raise NotImplementedError

    def on_response(self, response: Response, data: bytes, end: bool, now: float) -> None:
        """The head, with as much of the body as came with it."""
        raise NotImplementedError

    def on_data(self, data: bytes, end: bool, now: float) -> None:
        raise NotImplementedError

    def on_trailers(self, trailers: Headers, now: float) -> None:
        raise NotImplementedError

    def on_reset(self, reason: int, text: str) -> None:
        """The response will not be completed."""
        raise NotImplementedError

    def on_blocked(self) -> None:
        """The upstream takes no more for now."""
        raise NotImplementedError

    def on_writable(self) -> None:
        raise NotImplementedError
