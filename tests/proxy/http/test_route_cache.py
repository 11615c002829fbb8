"""The route of a stream: found before the filters run, cleared by them, found again when it is needed."""

import pytest

from weft.http.message import Response
from weft.proxy.http.filter import HttpFilter
from weft.proxy.route.table import RouteTable

ROUTES = [
    {
        "name": "blue",
        "match": {"prefix": "/", "headers": [{"name": "x-kind", "string_match": {"exact": "blue"}}]},
        "direct_response": {"status": 200, "body": {"inline_string": "blue"}},
    },
    {
        "name": "green",
        "match": {"prefix": "/green"},
        "direct_response": {"status": 200, "body": {"inline_string": "green"}},
    },
]
ASK = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"


class Paint(HttpFilter):
    """Makes requests blue, and clears the route ``clears`` times."""

    def __init__(self, clears, answers=False):
        self.clears = clears
        self.answers = answers
        self.before = self.after = "-"

    def on_request(self, request, stream):
        self.before = stream.route.name
        request.headers["x-kind"] = "blue"
        for _ in range(self.clears):
            stream.clear_route()
        if self.answers:
            return Response(204)
        return None

    def on_complete(self, stream):
        self.after = stream.route.name if stream.route is not None else "none"


async def painted(world, paint):
    async with world(routes=ROUTES, filters=[lambda: paint]) as running:
        client = await running.client()
        return await running.ask(client, ASK.replace(b" / ", b" /green "))


@pytest.mark.parametrize(
    ("clears", "body", "after"), [(0, b"green", "green"), (1, b"blue", "blue"), (3, b"blue", "blue")]
)
async def test_a_filter_that_clears_the_route_gets_another(world, clears, body, after):
    paint = Paint(clears)
    response = await painted(world, paint)
    assert (response.body, paint.before, paint.after) == (body, "green", after)


async def test_nobody_asks_nobody_finds(world):
    """The route is not looked for when the filter answers."""
    paint = Paint(1, answers=True)
    assert (await painted(world, paint)).status == 204
    assert paint.after == "none"


class Asking(HttpFilter):
    """Clears, asks twice, and has the manager take another table in between."""

    def on_request(self, request, stream):
        stream.clear_route()
        assert stream.route is None
        before = stream.manager.route_table
        stream.manager.route_table = RouteTable("another")
        try:
            first = stream.current_route()
            assert stream.current_route() is first
            assert stream.route is first
        finally:
            stream.manager.route_table = before
        return Response(200, first.name.encode())


async def test_it_is_found_in_the_table_that_the_stream_began_with(world):
    async with world(routes=ROUTES, filters=[Asking]) as running:
        client = await running.client()
        assert (await running.ask(client, ASK.replace(b" / ", b" /green "))).body == b"green"


@pytest.mark.parametrize(("clears", "after"), [(0, 2), (1, 7)])
async def test_the_timeouts_of_a_route_go_with_it(world, loop, clears, after):
    routes = [
        {
            "match": {"prefix": "/", "headers": [{"name": "x-kind", "string_match": {"exact": "blue"}}]},
            "route": {"cluster": "u", "timeout": "0s"},
        },
        {
            "match": {"prefix": "/green"},
            "route": {
                "cluster": "u",
                "idle_timeout": "1s",
                "max_stream_duration": {"max_stream_duration": "2s"},
            },
        },
    ]
    hcm = {"stream_idle_timeout": "0s", "common_http_protocol_options": {"max_stream_duration": "7s"}}
    if not clears:
        routes[1]["route"]["idle_timeout"] = "0s"
    async with world(hcm=hcm, routes=routes, filters=[lambda: Paint(clears)]) as running:
        client = await running.client()
        begin = loop.time()
        client.send(ASK.replace(b" / ", b" /green "))
        await client.until(lambda: bool(client.received), "an answer")
        assert loop.time() - begin == pytest.approx(after, abs=0.01)
