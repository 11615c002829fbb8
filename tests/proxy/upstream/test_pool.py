"""The HTTP/1 pool of a host: who gets a connection, who waits, who is told that there is none."""

import asyncio

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from weft.http.headers import Headers
from weft.http.message import Request
from weft.proxy.upstream.directory import Clusters
from weft.proxy.upstream.pool import Http1Pools, pool_of
from weft.proxy.upstream.stream import (
    CONNECTION_TERMINATION,
    CONNECTION_TIMEOUT,
    OVERFLOW,
    PROTOCOL_ERROR,
    REMOTE_CONNECTION_FAILURE,
    ResponseReader,
)
from weft.testing import VirtualLoop, run
from weft.testing.peer import Upstream

ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
NUMBERS = ("cx_active", "rq_active", "rq_pending_active")


class Asker(ResponseReader):
    """Asks for ``/``, and notes what it is told."""

    def __init__(self, pool, context, body=b"", end=True):
        self.pool = pool
        self.context = context
        self.body, self.end = body, end
        self.writer = None
        self.told = []
        self.state = "waiting"
        self.data = b""
        pool.acquire(self, context.clock.now())

    def on_ready(self, writer, now):
        assert self.state == "waiting"
        self.state, self.writer = "active", writer
        self.told.append("ready")
        writer.send(Request(b"POST", b"/", b"a", b"http", Headers()), self.body, self.end, False)

    def on_failure(self, reason, text):
        assert self.state == "waiting"
        self.state = "failed"
        self.told.append(reason)

    def on_interim(self, status, headers):
        self.told.append(status)

    def on_response(self, response, data, end, now):
        assert self.state == "active"
        self.told.append(response.status)
        self.on_data(data, end, now)

    def on_data(self, data, end, now):
        assert self.state == "active"
        self.data += data
        if end:
            self.state = "done"

    def on_trailers(self, trailers, now):
        self.told.append(trailers.items())
        self.state = "done"

    def on_reset(self, reason, text):
        assert self.state == "active"
        self.state = "failed"
        self.told.append(("reset", reason))

    def on_blocked(self):
        self.told.append("blocked")

    def on_writable(self):
        self.told.append("writable")

    def give_up(self):
        if self.state == "waiting":
            self.pool.cancel(self)
        elif self.state == "active":
            self.writer.reset()
        self.state = "gone"


class World:
    """One cluster of one host, its pool, and the host."""

    def __init__(self, kit, loop, upstream, **more):
        self.loop = loop
        self.upstream = upstream
        self.clusters = Clusters([kit.settings(kit.locality("10.0.0.1"), **more)])
        self.context = kit.worker(self.clusters, loop)
        self.cluster = self.clusters.get("web")
        self.host = self.cluster.pick()
        self.pool = pool_of(self.context, self.cluster, self.host, 0)
        self.askers = []

    def ask(self, **more):
        self.askers.append(Asker(self.pool, self.context, **more))
        return self.askers[-1]

    def states(self):
        return [asker.state for asker in self.askers]

    def stat(self, name):
        return getattr(self.cluster.stats, "upstream_" + name)

    def gauges(self):
        return tuple(self.stat(name) for name in NUMBERS)

    def used(self):
        limits = self.cluster.limits[0]
        return (limits.connections, limits.requests, limits.pending)

    async def rest(self):
        """Until everything that is ready has happened: only then the clock moves."""
        await asyncio.sleep(1e-6)

    async def asks(self, count):
        for _ in range(count):
            self.ask()
        await self.rest()

    async def answer(self, index, data=ANSWER):
        peer = self.upstream.peers[index]
        await peer.read_until(b"\r\n\r\n")
        peer.send(data)
        await self.rest()

    def end(self):
        for connection in list(self.pool.connections):
            connection.close()


@pytest.fixture
def worlds(kit):
    async def make(**more):
        return World(kit, asyncio.get_running_loop(), await Upstream.listen("10.0.0.1", 80), **more)

    return make


def thresholds(**limits):
    return {"circuit_breakers": {"thresholds": [limits]}}


async def finish(world):
    """Everything ends, and nothing is left in any gauge or limit."""
    for asker in world.askers:
        if asker.state in ("waiting", "active"):
            asker.give_up()
    world.end()
    world.upstream.close()
    await world.rest()
    assert world.gauges() == (0, 0, 0)
    assert world.used() == (0, 0, 0)
    assert (world.host.stats.cx_active, world.host.stats.rq_active) == (0, 0)
    assert (world.pool.connections, world.pool.ready, world.pool.connecting) == (set(), [], 0)
    assert world.stat("cx_total") == world.stat("cx_destroy")
    world.context.deadlines.close()


async def test_a_request_waits_for_its_connection_and_leaves_it(worlds):
    world = await worlds()
    asker = world.ask()
    assert (asker.state, world.gauges(), world.used()) == ("waiting", (1, 0, 1), (1, 0, 1))
    await world.rest()
    assert (asker.state, world.gauges(), world.used()) == ("active", (1, 1, 0), (1, 1, 0))
    await world.answer(0)
    assert (asker.state, asker.data, asker.told) == ("done", b"ok", ["ready", 200])
    assert (world.gauges(), len(world.pool.ready)) == ((1, 0, 0), 1)

    again = world.ask()
    assert again.state == "active", "a ready connection is taken at once"
    await world.answer(0)
    assert (world.stat("cx_total"), world.stat("rq_total"), world.stat("rq_pending_total")) == (1, 2, 1)
    await finish(world)


async def test_the_connection_used_last_is_used_next(worlds):
    """So that the others become idle and end."""
    world = await worlds()
    await world.asks(3)
    for index in (0, 2, 1):
        await world.answer(index)
    assert world.ask().writer is world.askers[1].writer
    await finish(world)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
async def test_whoever_waits_longest_is_served_first(worlds, order):
    world = await worlds(**thresholds(max_connections=2))
    await world.asks(5)
    assert world.states() == ["active"] * 2 + ["waiting"] * 3
    assert world.gauges() == (2, 2, 3)
    await world.answer(order[0])
    assert world.states()[2:] == ["active", "waiting", "waiting"]
    await world.answer(order[1])
    assert world.states()[2:] == ["active", "active", "waiting"]
    assert world.stat("cx_total") == 2
    assert world.stat("cx_overflow") == 3
    await finish(world)


async def test_a_connection_belongs_to_nobody_until_it_stands(worlds):
    """A request that waits for its own connection takes another that becomes free before."""
    world = await worlds()
    await world.asks(1)
    world.loop.network.link.latency = 0.1
    second = world.ask()
    await world.answer(0)
    assert second.state == "active"
    assert second.writer is world.askers[0].writer
    await asyncio.sleep(3)
    assert len(world.pool.ready) == 1, "the one that came too late waits for the next"
    world.loop.network.link.latency = 0.0
    await finish(world)


@pytest.mark.parametrize(("limit", "made"), [(0, 1), (1, 1), (2, 2)])
async def test_the_first_connection_is_always_allowed(worlds, limit, made):
    world = await worlds(**thresholds(max_connections=limit))
    await world.asks(3)
    assert world.stat("cx_total") == made
    assert world.states().count("active") == made
    assert world.stat("cx_overflow") == 3 - min(3, limit)
    await finish(world)


async def test_too_many_wait(worlds):
    world = await worlds(**thresholds(max_connections=1, max_pending_requests=2))
    await world.asks(1)
    await world.asks(4)
    assert world.states() == ["active", "waiting", "waiting", "failed", "failed"]
    assert world.askers[3].told == [OVERFLOW]
    assert world.stat("rq_pending_overflow") == 2
    await finish(world)


async def test_too_many_requests(worlds):
    world = await worlds(**thresholds(max_requests=2))
    await world.asks(4)
    assert world.states() == ["active", "active", "failed", "failed"]
    assert world.stat("rq_pending_overflow") == 2
    # Also where a connection is ready.
    assert len(world.pool.ready) == 2
    assert world.ask().told == [OVERFLOW]
    await world.answer(0)
    assert world.ask().state == "active"
    await finish(world)


@pytest.mark.parametrize(
    ("how", "reason", "stat"),
    [
        ("refused", REMOTE_CONNECTION_FAILURE, "cx_connect_fail"),
        ("silent", CONNECTION_TIMEOUT, "cx_connect_timeout"),
    ],
)
async def test_everybody_who_waits_hears_of_a_failure(worlds, loop, how, reason, stat):
    world = await worlds(**thresholds(max_connections=1))
    if how == "refused":
        world.upstream.stop_listening()
    else:
        loop.network.silent.add(("10.0.0.1", 80))
    for _ in range(3):
        world.ask()
    await asyncio.sleep(2)
    assert [asker.told for asker in world.askers] == [[reason]] * 3
    assert world.stat(stat) == 1
    assert world.stat("rq_pending_failure_eject") == 3
    assert (world.gauges(), world.used()) == ((0, 0, 0), (0, 0, 0))
    await finish(world)


async def test_who_gave_up_waiting_is_not_served(worlds):
    world = await worlds(**thresholds(max_connections=1))
    await world.asks(3)
    world.askers[1].give_up()
    assert (world.gauges(), world.stat("rq_cancelled")) == ((1, 1, 1), 1)
    await world.answer(0)
    assert world.states() == ["done", "gone", "active"]
    assert world.askers[1].told == []
    await finish(world)


async def test_all_who_waited_gave_up(worlds):
    world = await worlds()
    world.ask().give_up()
    await world.rest()
    assert (len(world.pool.ready), world.gauges()) == (1, (1, 0, 0))
    world.pool.cancel(world.askers[0])
    assert world.gauges() == (1, 0, 0), "once is enough"
    await finish(world)


async def test_a_connection_under_way_is_enough_for_one(worlds):
    world = await worlds()
    world.ask().give_up()
    world.ask()
    assert world.stat("cx_total") == 1
    world.ask()
    assert world.stat("cx_total") == 2
    await finish(world)


async def test_who_gives_up_under_way_costs_the_connection(worlds):
    world = await worlds(**thresholds(max_connections=1))
    await world.asks(2)
    world.askers[0].give_up()
    await world.rest()
    assert world.states() == ["gone", "active"]
    assert (world.stat("cx_total"), world.stat("cx_destroy_local_with_active_rq")) == (2, 1)
    assert world.askers[0].told == ["ready"]
    await finish(world)


@pytest.mark.parametrize("most", [1, 2, 3])
async def test_max_requests_per_connection(worlds, most):
    world = await worlds(max_requests_per_connection=most)
    for number in range(6):
        world.ask()
        await world.rest()
        await world.answer(number // most)
        await world.rest()
    assert world.states() == ["done"] * 6
    assert world.stat("cx_total") == 6 // most
    assert world.stat("cx_max_requests") == 6 // most
    assert world.cluster.stats.upstream_rq_per_cx.count == 6 // most
    await finish(world)


CLOSERS = [
    pytest.param(
        b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok", "cx_close_notify", id="close"
    ),
    pytest.param(b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok", "cx_close_notify", id="http-1.0"),
    pytest.param(ANSWER + b"more", "cx_protocol_error", id="bytes-left-over"),
]


@pytest.mark.parametrize(("answer", "stat"), CLOSERS)
async def test_answers_after_which_the_connection_is_not_used(worlds, answer, stat):
    world = await worlds()
    await world.asks(1)
    await world.answer(0, answer)
    assert (world.states(), world.askers[0].data) == (["done"], b"ok")
    assert world.gauges() == (0, 0, 0)
    assert world.stat(stat) == 1
    await finish(world)


async def test_an_answer_before_the_end_of_the_request(worlds):
    world = await worlds()
    world.ask(body=b"begun", end=False)
    await world.rest()
    await world.answer(0)
    assert (world.states(), world.gauges()) == (["done"], (0, 0, 0))
    await finish(world)


async def test_a_response_until_the_end_of_the_connection(worlds):
    world = await worlds()
    await world.asks(1)
    await world.answer(0, b"HTTP/1.1 200 OK\r\n\r\nso")
    assert world.askers[0].state == "active"
    world.upstream.peers[0].send(b" far")
    world.upstream.peers[0].close()
    await world.rest()
    assert (world.askers[0].state, world.askers[0].data) == ("done", b"so far")
    assert world.stat("cx_protocol_error") == 0
    await finish(world)


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        (b"", [("reset", CONNECTION_TERMINATION)]),
        (b"HTTP/1.1 2", [("reset", PROTOCOL_ERROR)]),
        (b"HTTP/1.1 100 Continue\r\n\r\n", [100, ("reset", CONNECTION_TERMINATION)]),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\no", [200, ("reset", PROTOCOL_ERROR)]),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok", [200, ("reset", PROTOCOL_ERROR)]),
        (b"nonsense", [("reset", PROTOCOL_ERROR)]),
    ],
)
@pytest.mark.parametrize("end", ["close", "reset"])
async def test_a_connection_that_breaks(worlds, sent, told, end):
    world = await worlds(**thresholds(max_connections=1))
    await world.asks(2)
    peer = world.upstream.peers[0]
    await peer.read_until(b"\r\n\r\n")
    peer.send(sent)
    await world.rest()
    getattr(peer, end)()
    await world.rest()
    assert world.askers[0].told == ["ready", *told]
    assert world.askers[1].state == "active", "who waits gets a new connection"
    await finish(world)


async def test_bytes_without_a_request_end_the_connection(worlds):
    world = await worlds()
    await world.asks(1)
    await world.answer(0)
    world.upstream.peers[0].send(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
    await world.rest()
    assert (world.gauges(), world.pool.ready, world.stat("cx_protocol_error")) == ((0, 0, 0), [], 1)
    await finish(world)


async def test_no_request_goes_to_a_connection_that_ends(worlds):
    """The host has closed, and we know, but the transport has not told yet that it is gone."""
    world = await worlds()
    await world.asks(1)
    await world.answer(0)
    connection = world.askers[0].writer
    assert world.pool.ready == [connection]
    connection.eof_received()
    assert world.ask().state == "waiting"
    connection.close()
    await world.rest()
    assert world.askers[1].state == "active"
    assert world.stat("cx_total") == 2
    await finish(world)


async def test_idle_connections_end(worlds):
    world = await worlds(
        typed_extension_protocol_options={
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "common_http_protocol_options": {"idle_timeout": "10s"},
                "explicit_http_config": {"http_protocol_options": {}},
            }
        }
    )
    await world.asks(1)
    await asyncio.sleep(30)
    assert world.gauges() == (1, 1, 0), "not while a request is under way"
    await world.answer(0)
    await asyncio.sleep(9)
    world.ask()
    await world.answer(0)
    await asyncio.sleep(9)
    assert world.gauges() == (1, 0, 0)
    await asyncio.sleep(2)
    assert world.gauges() == (0, 0, 0)
    assert world.stat("cx_idle_timeout") == 1
    await finish(world)


async def test_old_connections_end_after_their_request(worlds):
    world = await worlds(
        typed_extension_protocol_options={
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "common_http_protocol_options": {"max_connection_duration": "10s"},
                "explicit_http_config": {"http_protocol_options": {}},
            }
        }
    )
    await world.asks(2)
    await world.answer(0)
    await asyncio.sleep(11)
    assert world.gauges() == (1, 1, 0), "the idle one has ended"
    await world.answer(1)
    assert world.states() == ["done", "done"]
    assert world.gauges() == (0, 0, 0)
    assert world.stat("cx_max_duration_reached") == 2
    await finish(world)


async def test_a_pool_that_drains(worlds, loop):
    world = await worlds(**thresholds(max_connections=2))
    await world.asks(2)
    await world.answer(0)
    assert isinstance(world.host.http1_pool, Http1Pools)
    world.host.http1_pool.drain()
    await world.rest()
    assert world.gauges() == (1, 1, 0), "what is idle ends at once"
    await world.answer(1)
    assert (world.states(), world.gauges()) == (["done", "done"], (0, 0, 0))
    await finish(world)


async def test_a_pool_that_drains_while_it_connects(worlds):
    world = await worlds()
    first, second = world.ask(), world.ask()
    second.give_up()
    world.pool.drain()
    await world.rest()
    assert first.state == "active"
    assert world.gauges() == (1, 1, 0), "what nobody waits for is not kept"
    await world.answer(0)
    assert (first.state, world.gauges()) == ("done", (0, 0, 0))
    await finish(world)


async def test_a_host_that_takes_nothing_is_not_waited_for(worlds, loop):
    loop.network.link.capacity = 1000
    world = await worlds(per_connection_buffer_limit_bytes=4000)
    world.upstream.reading = False
    asker = world.ask(body=b"x" * 100_000, end=False)
    await world.rest()
    assert asker.told == ["ready", "blocked"]
    assert asker.writer.blocked
    asker.give_up()
    await world.rest()
    assert world.gauges() == (0, 0, 0)
    await finish(world)


# -- random histories -------------------------------------------------------------------------------

STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ["ask", "ask", "ask", "answer", "answer", "half", "close-notify", "break", "reset", "give-up",
             "refuse", "accept", "wait", "noise", "rest", "rest"]
        ),
        st.integers(0, 5),
    ),
    max_size=40,
)  # fmt: skip


@given(
    steps=STEPS,
    connections=st.integers(0, 3),
    pending=st.integers(0, 3),
    requests=st.integers(1, 4),
    per=st.integers(0, 3),
)
@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_random_histories(kit, steps, connections, pending, requests, per):
    loop = VirtualLoop()

    async def main():
        more = thresholds(max_connections=connections, max_pending_requests=pending, max_requests=requests)
        if per:
            more["max_requests_per_connection"] = per
        upstream = await Upstream.listen("10.0.0.1", 80)
        world = World(kit, loop, upstream, **more)
        for what, number in steps:
            peers = [peer for peer in upstream.peers if not peer.ended and not peer.lost]
            peer = peers[number % len(peers)] if peers else None
            if what == "ask":
                world.ask()
            elif what == "rest":
                await world.rest()
            elif what == "wait":
                await asyncio.sleep(number)
            elif what == "refuse":
                upstream.stop_listening()
            elif what == "accept":
                if not upstream._server.is_serving():
                    upstream._server = (await Upstream.listen("10.0.0.1", 80))._server
                    upstream._server.factory = upstream._made
            elif what == "give-up":
                waiting = [asker for asker in world.askers if asker.state in ("waiting", "active")]
                if waiting:
                    waiting[number % len(waiting)].give_up()
            elif peer is not None:
                if what == "noise":
                    peer.send(b"nonsense")
                elif what in ("break", "reset"):
                    peer.close() if what == "break" else peer.reset()
                elif peer.received:
                    peer.take()
                    if what == "close-notify":
                        peer.send(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
                    else:
                        peer.send(ANSWER if what == "answer" else ANSWER[:-1])
            check(world, connections, pending, requests)
        await world.rest()
        check(world, connections, pending, requests)
        # At rest whoever waits has a reason.
        if "waiting" in world.states() and not world.pool.connecting:
            assert len(world.pool.connections) >= max(1, connections)
            assert not world.pool.ready
        assert world.stat("rq_total") == sum("ready" in asker.told for asker in world.askers)
        await finish(world)

    run(main, loop=loop)


def check(world, connections, pending, requests):
    """What is counted is what is there."""
    states = world.states()
    waiting, active = states.count("waiting"), states.count("active")
    stats, pool = world.cluster.stats, world.pool
    assert waiting == len(pool.pending) == stats.upstream_rq_pending_active == world.cluster.limits[0].pending
    assert (
        active == stats.upstream_rq_active == world.cluster.limits[0].requests == world.host.stats.rq_active
    )
    assert stats.upstream_cx_active == world.host.stats.cx_active == world.cluster.limits[0].connections
    assert stats.upstream_cx_active == len(pool.connections)
    assert not (pool.ready and pool.pending), "ready connections and waiting requests at once"
    assert waiting <= pending
    assert active <= requests
    assert len(pool.connections) <= max(1, connections)
    assert 0 <= pool.connecting <= len(pool.connections)
    assert len(set(pool.ready)) == len(pool.ready)
    assert set(pool.ready) <= pool.connections
