"""What an HTTP filter is.

A filter is a class with the phases it cares for, all plain methods; the chain is compiled once, so
a phase that a filter does not have costs nothing.  ``on_request`` may be ``async def``: then the
stream waits for it, and only that stream pays.

======================  ==========================================================================
``on_request``          the head arrived; return a :class:`~weft.http.message.Response` to answer
``on_request_data``     a piece of the body; return what is to go on
``on_request_trailers`` trailers arrived
``on_response``         the response head, on its way back (reverse order)
``on_response_data``    a piece of the response body; return what is to go on
``on_response_trailers``
``on_complete``         the stream is over, the access log is about to be written
======================  ==========================================================================
"""

from collections.abc import Awaitable
from typing import TYPE_CHECKING

from mypy_extensions import mypyc_attr

from weft.http.headers import Headers
from weft.http.message import Request, Response

if TYPE_CHECKING:
    from weft.proxy.http.stream import Stream


@mypyc_attr(allow_interpreted_subclasses=True)
class HttpFilter:
    """Subclass and override.  One object per stream."""

    name: str = ""
    """As configured; the key of ``typed_per_filter_config`` (``stream.filter_settings(self.name)``)."""

    def on_request(
        self, request: Request, stream: "Stream"
    ) -> Response | Awaitable[Response | None] | None:
        return None

    def on_request_data(self, data: bytes, end: bool, stream: "Stream") -> bytes:
        return data

    def on_request_trailers(self, trailers: Headers, stream: "Stream") -> None:
        return None

    def on_response(self, response: Response, stream: "Stream") -> None:
        return None

    def on_response_data(self, data: bytes, end: bool, stream: "Stream") -> bytes:
        return data

    def on_response_trailers(self, trailers: Headers, stream: "Stream") -> None:
        return None

    def on_complete(self, stream: "Stream") -> None:
        return None
