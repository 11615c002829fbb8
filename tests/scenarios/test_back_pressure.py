"""Whoever does not read stops whoever writes, and the proxy holds no more than its limits in between."""

import asyncio

import pytest

from weft.testing.network import Link
from weft.testing.transcript import read_message

BUFFER = 16 * 1024
LINK = 8 * 1024
PIECE = 4096
MEGABYTE = 1 << 20


def is_proxys(protocol):
    return type(protocol).__module__.startswith("weft.proxy")


@pytest.fixture
def held(loop):
    """The most that the proxy's transports ever had in their write buffers."""

    def most():
        own = [one for one in loop.network.transports.values() if is_proxys(one.get_protocol())]
        return max((transport.most_buffered for transport in own), default=0)

    return most


async def pour(peer, total):
    """Write in pieces for as long as the other side takes them; the bytes that were taken."""
    poured = 0
    while poured < total:
        if peer.transport.get_write_buffer_size():
            before = poured
            await asyncio.sleep(1)
            if peer.transport.get_write_buffer_size():
                return before
        peer.send(b"x" * PIECE)
        poured += PIECE
        await asyncio.sleep(0)
    return poured


async def test_a_client_that_does_not_read_a_response(world, loop, held):
    loop.network.link = Link(capacity=LINK)
    async with world(buffer=BUFFER) as (running, one, two):
        client = await running.connect("http", reading=False)
        client.send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        peer = await one.accept() if await arrived(one, two) else await two.accept()
        await read_message(peer, request=True)
        peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % MEGABYTE)

        taken = await pour(peer, MEGABYTE)
        # What was taken is in the two links, the proxy's buffer, and one read beyond the limit.
        assert taken <= 2 * LINK + BUFFER + 4 * LINK
        assert held() <= BUFFER + 2 * LINK
        assert running.stat("cluster.u.upstream_flow_control_paused_reading_total") >= 1

        client.resume()
        body = asyncio.create_task(read_message(client, request=False))
        rest = MEGABYTE - taken
        poured = 0
        while poured < rest:
            size = min(PIECE, rest - poured)
            await peer.send_all(b"x" * size)
            poured += size
        assert len((await body).body) == MEGABYTE
        assert held() <= BUFFER + 2 * LINK
        client.close()


async def arrived(one, two):
    """Whether the request came to ``one``."""
    while not one.peers and not two.peers:
        await asyncio.sleep(0.001)
    return bool(one.peers)


async def test_an_upstream_that_does_not_read_a_body(world, loop, held):
    loop.network.link = Link(capacity=LINK)
    async with world(buffer=BUFFER, timeout="0s", stream_idle="0s") as (running, one, two):
        one.reading = two.reading = False
        client = await running.connect("http")
        client.send(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n" % MEGABYTE)

        taken = await pour(client, MEGABYTE)
        assert taken <= 2 * LINK + BUFFER + 4 * LINK
        assert held() <= BUFFER + 2 * LINK
        assert running.stat("http.http.downstream_flow_control_paused_reading_total") >= 1

        peer = (one.peers + two.peers)[0]
        peer.resume()
        rest = MEGABYTE - taken
        while rest > 0:
            await client.send_all(b"x" * min(PIECE, rest))
            rest -= PIECE
        message = await read_message(peer, request=True)
        assert len(message.body) == MEGABYTE
        peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        assert (await read_message(client, request=False)).status == 200
        assert held() <= BUFFER + 2 * LINK
        client.close()


@pytest.mark.parametrize("slow", ["client", "upstream"])
async def test_tcp_in_both_directions(world, loop, held, slow):
    loop.network.link = Link(capacity=LINK)
    async with world(buffer=BUFFER) as (running, one, two):
        client = await running.connect("tcp")
        client.send(b"hello")
        peer = await one.accept() if await arrived(one, two) else await two.accept()
        assert await peer.read(5) == b"hello"
        writer, reader = (peer, client) if slow == "client" else (client, peer)
        reader.pause()

        taken = await pour(writer, MEGABYTE)
        assert taken <= 2 * LINK + BUFFER + 4 * LINK
        assert held() <= BUFFER + 2 * LINK

        reader.resume()
        before = reader.total
        await writer.send_all(b"y" * 100_000)
        await asyncio.sleep(1)
        assert reader.total - before >= 100_000
        client.close()
        peer.close()


async def test_pipelined_requests_of_a_client_that_does_not_read(world, loop, held):
    """Security S5: answers pile up neither in the proxy nor, as requests, before it."""
    loop.network.link = Link(capacity=LINK)
    async with world(buffer=BUFFER) as (running, _, _):
        client = await running.connect("http", reading=False)
        request = b"GET /nothing HTTP/1.1\r\nhost: a\r\nbad header\r\n\r\n"
        for _ in range(2000):
            client.send(request)
        await asyncio.sleep(5)
        assert held() <= BUFFER + 2 * LINK
        client.close()


async def test_pipelined_good_requests_are_taken_one_by_one(world, loop, held):
    loop.network.link = Link(capacity=LINK)
    async with world(buffer=BUFFER) as (running, one, two):
        client = await running.connect("http", reading=False)
        for _ in range(3000):
            client.send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        await asyncio.sleep(1)
        # One is upstream; the others are in the client's own buffer, the link, and one read of the proxy.
        assert running.stat("http.http.downstream_rq_active") == 1
        assert len(one.peers) + len(two.peers) == 1
        assert client.transport.get_write_buffer_size() >= 3000 * 27 - 2 * LINK - BUFFER - 64 * 1024
        client.reset()
