import asyncio
import socket
import struct

import pytest

from weft.testing import Deadlock, Leak, VirtualLoop, run
from weft.testing.network import Link, byte_by_byte, random_pieces
from weft.testing.peer import Client, Peer, Upstream, Waited


async def test_an_hour_passes_at_once(loop):
    before = loop.time()

    await asyncio.sleep(3600)

    assert loop.time() - before == 3600
    assert loop.wall() == 1767225600 + 3600


async def test_timers_fire_in_order_of_time_then_of_setting(loop):
    fired = []
    for when, name in [(2, "c"), (1, "a"), (1, "b"), (0, "now")]:
        loop.call_later(when, fired.append, name)

    await asyncio.sleep(3)

    assert fired == ["now", "a", "b", "c"]


def test_a_deadlock_names_who_waits():
    async def main():
        asyncio.create_task(stuck(), name="the-stuck-one")  # noqa: RUF006
        await asyncio.Event().wait()

    async def stuck():
        await asyncio.get_running_loop().create_future()

    with pytest.raises(Deadlock, match=r"(?s)main at .*test_loop.*the-stuck-one at .*in stuck"):
        run(main)


@pytest.mark.parametrize("kind", ["task", "server", "connection", "fault"])
def test_what_is_left_behind_fails(kind):
    kept = []

    async def main():
        loop = asyncio.get_running_loop()
        if kind == "task":
            kept.append(asyncio.create_task(asyncio.sleep(5)))
        elif kind == "server":
            await Upstream.listen()
        elif kind == "connection":
            upstream = await Upstream.listen()
            await Client.connect("127.0.0.1", upstream.port)
            upstream.stop_listening()
        else:
            loop.call_soon(lambda: 1 / 0)
            await asyncio.sleep(0)

    with pytest.raises(Leak, match={"fault": "ZeroDivisionError"}.get(kind, f"{kind} left")):
        run(main)


async def pair(**options):
    upstream = await Upstream.listen()
    client = await Client.connect("127.0.0.1", upstream.port, **options)
    peer = await upstream.accept()
    upstream.stop_listening()
    return client, peer


async def test_half_close_leaves_the_other_half_open():
    client, peer = await pair()

    client.send(b"all I have")
    client.send_eof()
    assert await peer.read_all() == b"all I have"
    peer.send(b"and an answer")
    assert await client.read(13) == b"and an answer"
    with pytest.raises(RuntimeError):
        client.send(b"more")
    peer.close()
    assert await client.closed() == "eof"
    client.close()


async def test_abort_is_a_reset_to_the_peer_after_what_was_sent():
    client, peer = await pair()

    client.send(b"first")
    client.reset()

    assert await peer.closed() == "reset"
    assert bytes(peer.received) == b"first"
    assert peer.lost


async def test_closing_with_unread_input_is_a_reset():
    client, peer = await pair()

    peer.pause()
    client.send(b"never read")
    await asyncio.sleep(1)
    peer.close()

    assert await client.closed() == "reset"


async def test_writing_to_one_who_is_gone_is_answered_by_a_reset():
    client, peer = await pair()

    peer.close()
    assert await client.closed() == "eof"
    client.send(b"too late")
    await asyncio.sleep(1)

    assert client.ended == "reset"
    assert client.lost


async def test_who_does_not_read_does_not_notice_a_reset_until_it_reads_or_writes():
    client, peer = await pair()

    client.pause()
    peer.reset()
    await asyncio.sleep(60)
    assert not client.lost
    client.resume()
    await asyncio.sleep(0.001)

    assert client.lost


async def test_a_linger_of_zero_makes_close_a_reset():
    client, peer = await pair()

    sock = peer.transport.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()

    assert await client.closed() == "reset"


async def test_back_pressure_reaches_the_writer(loop):
    loop.network.link = Link(capacity=1000)
    client, peer = await pair(reading=False)

    peer.transport.set_write_buffer_limits(high=2000)
    peer.send(b"x" * 900)
    assert (peer._writable, peer.transport.get_write_buffer_size()) == (True, 0)
    peer.send(b"x" * 10_000)
    assert (peer._writable, peer.transport.get_write_buffer_size()) == (False, 9_900)
    client.resume()
    await client.read(10_900)
    assert (peer._writable, peer.transport.get_write_buffer_size()) == (True, 0)
    client.close()
    peer.close()


async def test_close_flushes_first(loop):
    loop.network.link = Link(capacity=10)
    client, peer = await pair()

    peer.send(b"0123456789" * 100)
    peer.close()
    peer.transport.write(b"dropped")

    assert await client.read_all() == b"0123456789" * 100
    client.close()


async def test_latency_is_one_way_and_connecting_takes_a_round_trip(loop):
    loop.network.link = Link(latency=0.25)
    begin = loop.time()

    client, peer = await pair()
    assert loop.time() - begin == 0.5
    client.send(b"x")
    await peer.read(1)
    assert loop.time() - begin == 0.75
    client.close()
    peer.close()


@pytest.mark.parametrize(("chunks", "pieces"), [(byte_by_byte, 20_000), (random_pieces, None)])
async def test_deliveries_are_cut_as_told(loop, chunks, pieces):
    loop.network.link = Link(chunks=chunks)
    client, peer = await pair()

    client.send(bytes(range(250)) * 80)
    assert await peer.read(20_000) == bytes(range(250)) * 80

    assert len(peer.pieces) == pieces if pieces else 1 < len(peer.pieces) < 20_000
    client.close()
    peer.close()


def test_the_same_seed_cuts_the_same_way():
    async def main():
        asyncio.get_running_loop().network.link = Link(chunks=random_pieces)
        client, peer = await pair()
        client.send(b"x" * 20_000)
        await peer.read(20_000)
        client.close()
        peer.close()
        return [len(piece) for piece in peer.pieces]

    assert run(main, seed=1) == run(main, seed=1)
    assert run(main, seed=1) != run(main, seed=2)


async def test_who_does_not_listen_refuses_and_who_is_silent_never_answers(loop):
    with pytest.raises(ConnectionRefusedError):
        await Client.connect("10.0.0.1", 80)
    loop.network.silent.add(("10.0.0.1", 80))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(Client.connect("10.0.0.1", 80), 5)
    loop.network.failures["10.0.0.2", 80] = OSError(113, "No route to host")
    with pytest.raises(OSError, match="No route"):
        await Client.connect("10.0.0.2", 80)


async def test_names_come_from_a_table(loop):
    loop.network.names["a.test"] = ["10.0.0.1", "::2"]
    loop.network.names["b.test"] = socket.gaierror(socket.EAI_AGAIN, "try again")

    addresses = [info[4] for info in await loop.getaddrinfo("a.test", 80)]
    assert addresses == [("10.0.0.1", 80), ("::2", 80, 0, 0)]
    assert [info[4][0] for info in await loop.getaddrinfo("a.test", 80, family=socket.AF_INET6)] == ["::2"]
    for name in ("b.test", "c.test"):
        with pytest.raises(socket.gaierror):
            await loop.getaddrinfo(name, 80)
    assert loop.network.lookups == ["a.test", "a.test", "b.test", "c.test"]


async def test_servers_take_given_sockets_and_share_ports(loop):
    sock = loop.network.bind("0.0.0.0", 8080)
    seen = []
    for name in "ab":
        server = await loop.create_server(lambda name=name: seen.append(name) or Peer(), sock=sock)
        assert server.sockets[0].getsockname() == ("0.0.0.0", 8080)
    for _ in range(4):
        (await Client.connect("127.0.0.9", 8080)).close()
    await asyncio.sleep(0)

    assert sorted(seen) == ["a", "a", "b", "b"]
    for servers in list(loop.network.servers.values()):
        for server in list(servers):
            server.close()
    for transport in list(loop.network.transports.values()):
        transport.abort()
    with pytest.raises(OSError, match="in use"):
        await asyncio.gather(Upstream.listen(port=90), Upstream.listen(port=90))
    loop.network.servers["127.0.0.1", 90][0].close()


async def test_unix_sockets(loop):
    with pytest.raises(FileNotFoundError):
        await Client.connect(path="/run/x.sock")
    upstream = await Upstream.listen(path="/run/x.sock")
    client = await Client.connect(path="/run/x.sock")
    peer = await upstream.accept()
    client.send(b"hi")
    assert await peer.read(2) == b"hi"
    assert peer.transport.get_extra_info("sockname") == "/run/x.sock"
    assert client.transport.get_extra_info("peername") == "/run/x.sock"
    client.close()
    upstream.close()


async def test_addresses_of_both_ends():
    client, peer = await pair(local=("10.1.2.3", 555))

    assert (
        client.transport.get_extra_info("sockname")
        == peer.transport.get_extra_info("peername")
        == ("10.1.2.3", 555)
    )
    assert client.transport.get_extra_info("peername") == peer.transport.get_extra_info("sockname")
    client.close()
    peer.close()


async def test_asyncio_streams_work_on_it():
    async def serve(reader, writer):
        writer.write((await reader.readline()).upper())
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 7777)
    reader, writer = await asyncio.open_connection("localhost", 7777)
    writer.write(b"hello\n")
    assert await reader.read() == b"HELLO\n"
    writer.close()
    await writer.wait_closed()
    server.close()


def test_a_protocol_that_raises_loses_its_connection_and_fails_the_test():
    class Broken(Peer):
        def data_received(self, data):
            raise ValueError("broken")

    async def main():
        loop = asyncio.get_running_loop()
        server = await loop.create_server(Broken, "127.0.0.1", 80)
        client = await Client.connect("127.0.0.1", 80)
        client.send(b"x")
        assert await client.closed() == "reset"
        server.close()

    with pytest.raises(Leak, match="ValueError"):
        run(main)


async def test_a_peer_says_what_came_instead():
    client, peer = await pair()
    begin = asyncio.get_running_loop().time()

    peer.send(b"something else")
    with pytest.raises(Waited, match="something else"):
        await client.read_until(b"\r\n", within=5)
    assert asyncio.get_running_loop().time() - begin == 5
    peer.close()
    with pytest.raises(Waited, match="ended"):
        await client.read_until(b"\r\n")
    client.close()


@pytest.mark.real_loop
async def test_peers_work_on_a_real_loop():
    assert not isinstance(asyncio.get_running_loop(), VirtualLoop)
    client, peer = await pair()

    client.send(b"hi")
    assert await peer.read(2, within=5) == b"hi"
    peer.reset()
    assert await client.closed(within=5) == "reset"
    await asyncio.sleep(0)
