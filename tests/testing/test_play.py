import asyncio

import pytest

from weft.http.headers import Headers
from weft.http.message import Request, Response
from weft.proxy.http.filter import HttpFilter
from weft.testing import Leak
from weft.testing.play import play
from weft.testing.proxy import proxy


class Held(HttpFilter):
    """Waits, then answers or lets pass."""

    def __init__(self, delay, status):
        self.delay, self.status = delay, status

    async def on_request(self, request, stream):
        if self.delay:
            await asyncio.sleep(self.delay)
        return Response(self.status, b"no") if self.status else None


@pytest.mark.parametrize(
    ("delay", "status"),
    [
        pytest.param(0, None, id="passes"),
        pytest.param(0.25, None, id="held"),
        pytest.param(0.5, 401, id="answers-late"),
    ],
)
def test_fate_of_a_request(delay, status):
    played = play(Held(delay, status))

    assert played.elapsed == pytest.approx(delay)
    assert played.status == status
    assert played.response.status == (status or 200)
    assert (played.request is None) == bool(status)


def test_what_filters_change_shows_at_both_ends():
    class Marks(HttpFilter):
        def on_request(self, request, stream):
            request.headers["x-mark"] = "seen"

        def on_request_data(self, data, end, stream):
            return data.upper()

        def on_response(self, response, stream):
            response.headers["x-mood"] = "good"

    played = play(Marks(), b"POST /x HTTP/1.1\r\nhost: test\r\ncontent-length: 5\r\n\r\nhello")

    assert played.request.start == b"POST /x HTTP/1.1"
    assert played.request.values(b"x-mark") == [b"seen"]
    assert played.request.body == b"HELLO"
    assert played.response.values(b"x-mood") == [b"good"]
    assert played.details == "via_upstream"
    assert played.stats["http.main.downstream_rq_2xx"] == 1
    assert (
        play(Marks(), Request(b"GET", b"/x", b"test", b"http", Headers())).request.start == b"GET /x HTTP/1.1"
    )


def test_a_filter_that_raises_fails_the_test():
    class Broken(HttpFilter):
        def on_request(self, request, stream):
            raise ValueError("broken")

    with pytest.raises((Leak, AssertionError)):
        play(Broken())


async def test_a_wrong_configuration_is_refused():
    with pytest.raises(Exception, match="nonsense"):
        async with proxy("nonsense: 1"):
            pass
