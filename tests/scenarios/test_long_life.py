"""An hour and more of one worker's life, in moments."""

import asyncio
import contextlib

import pytest

from weft.testing.network import Link, random_pieces
from weft.testing.transcript import read_message

REQUEST = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"


@contextlib.asynccontextmanager
async def in_background(*coroutines):
    tasks = [asyncio.create_task(coroutine) for coroutine in coroutines]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def ask(client, request=REQUEST):
    client.send(request)
    return await read_message(client, request=False)


async def test_an_hour_of_keep_alive(world, serving, loop):
    async with world() as (running, one, two), in_background(serving(one), serving(two)):
        client = await running.connect("http")
        for _ in range(360):
            assert (await ask(client)).status == 200
            await asyncio.sleep(10)

        assert running.stat("http.http.downstream_cx_total") == 1
        assert running.stat("cluster.u.upstream_rq_200") == 360
        # Round robin over two hosts: each connection is used every 20 seconds and none is opened twice.
        assert running.stat("cluster.u.upstream_cx_total") == 2
        assert (len(one.peers), len(two.peers)) == (1, 1)
        client.close()


async def test_idle_connections_end_on_both_sides(world, serving, loop):
    async with world(idle="60s") as (running, one, two), in_background(serving(one), serving(two)):
        client = await running.connect("http")
        assert (await ask(client)).status == 200
        begin = loop.time()
        assert await client.closed(within=100) == "eof"
        assert 60 <= loop.time() - begin <= 66
        assert running.stat("http.http.downstream_cx_idle_timeout") == 1
        assert running.connections == 0

        assert running.stat("cluster.u.upstream_cx_active") == 1
        await asyncio.sleep(3601)
        assert running.stat("cluster.u.upstream_cx_active") == 0
        assert running.stat("cluster.u.upstream_cx_idle_timeout") == 1
        client.close()


@pytest.mark.seed(3)
async def test_many_clients_on_a_bad_network(world, serving, loop):
    async with world() as (running, one, two), in_background(serving(one), serving(two)):
        loop.network.link = Link(latency=0.03, capacity=2000, chunks=random_pieces)
        answered = []

        async def visitor(number):
            await asyncio.sleep(loop.random.uniform(0, 60))
            client = await running.connect("http")
            for _ in range(loop.random.randrange(1, 6)):
                body = b"x" * loop.random.randrange(0, 5000)
                head = b"POST /%d HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n" % (number, len(body))
                answered.append((await ask(client, head + body)).status)
                await asyncio.sleep(loop.random.uniform(0, 20))
            client.close()

        await asyncio.gather(*(visitor(number) for number in range(100)))
        await asyncio.sleep(1)

        assert len(answered) > 200
        assert set(answered) == {200}
        assert running.stat("cluster.u.upstream_rq_200") == len(answered)
        assert running.connections == 0
        for name in (
            "http.http.downstream_rq_active",
            "cluster.u.upstream_rq_active",
            "cluster.u.upstream_rq_pending_active",
        ):
            assert running.stat(name) == 0


async def test_a_dead_host_costs_its_requests_only(world, serving, loop):
    async with world() as (running, one, two), in_background(serving(two)):
        one.stop_listening()
        statuses = []
        client = await running.connect("http")
        for _ in range(10):
            statuses.append((await ask(client)).status)

        assert sorted(statuses) == [200] * 5 + [503] * 5
        assert running.stat("cluster.u.upstream_cx_connect_fail") == 5
        assert running.stat("http.http.downstream_cx_total") == 1
        client.close()


async def test_a_silent_host_costs_the_connect_timeout(world, serving, loop):
    async with world() as (running, _, two), in_background(serving(two)):
        loop.network.silent.add(("10.0.0.1", 81))
        took = []
        client = await running.connect("http")
        for _ in range(4):
            begin = loop.time()
            status = (await ask(client)).status
            took.append((status, round(loop.time() - begin, 2)))

        assert sorted(took) == [(200, 0.0), (200, 0.0), (503, 1.0), (503, 1.0)]
        assert running.stat("cluster.u.upstream_cx_connect_timeout") == 2
        client.close()


async def test_an_upstream_dies_under_load(world, serving, loop):
    async with world() as (running, one, two):
        clients = [await running.connect("http") for _ in range(20)]
        for client in clients:
            client.send(REQUEST)
        await asyncio.sleep(0.1)
        assert (len(one.peers), len(two.peers)) == (10, 10)
        for peer in one.peers:
            peer.reset()
        for peer in two.peers:
            await read_message(peer, request=True)
            peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")

        statuses = sorted([(await read_message(client, request=False)).status for client in clients])

        assert statuses == [200] * 10 + [503] * 10
        assert running.stat("cluster.u.upstream_cx_destroy_remote") == 10
        assert running.stat("cluster.u.upstream_rq_active") == 0
        for client in clients:
            assert not client.ended
            client.close()


async def test_clients_that_never_finish_a_head(world, loop):
    """Slowloris: nothing but the idle timeout of the stream ends them, and they cost little."""
    async with world(stream_idle="30s") as (running, one, two):
        clients = []
        for number in range(50):
            client = await running.connect("http")
            client.send(b"GET /%d HTTP/1.1\r\nhost: a\r\nx-" % number)
            clients.append(client)
        begin = loop.time()
        for client in clients:
            await client.closed(within=4000)
            client.close()
        assert loop.time() - begin == pytest.approx(30, abs=0.1)
        await asyncio.sleep(1)
        assert running.connections == 0
        assert running.stat("http.http.downstream_rq_idle_timeout") == 50
        assert not one.peers + two.peers


async def test_the_same_seed_gives_the_same_life(world, serving):
    async def life():
        async with world() as (running, one, two), in_background(serving(one), serving(two)):
            client = await running.connect("http")
            ids = []
            for _ in range(3):
                await ask(client)
            ids = [running.stats()]
            client.close()
        return ids

    assert await life() == await life()
