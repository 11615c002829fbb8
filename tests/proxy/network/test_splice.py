"""The kernel carries on: real sockets, real pipes, on both loops."""

import asyncio
import hashlib
import json
import os
import socket
import struct
from contextlib import asynccontextmanager
from random import Random

import pytest
import uvloop

from weft.api.load import load_bootstrap
from weft.proxy.assemble import server_settings
from weft.proxy.network.splice import MOST_KEPT, PIPE_SIZE, Pipes, pipes
from weft.proxy.process.worker import Worker

TYPE = "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy"
BIG = 3 << 20

pytestmark = pytest.mark.skipif(not pipes().usable(), reason="the system grants no pipe of the size")


def on_each_loop(test):
    """Run an async test on asyncio's own loop and on uvloop."""

    @pytest.mark.parametrize(
        "make", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"]
    )
    def runner(make):
        with asyncio.Runner(loop_factory=make) as own:
            own.run(asyncio.wait_for(test(), 20))

    runner.__name__ = test.__name__
    return runner


@asynccontextmanager
async def running(serve, **fields):
    """A proxy before ``serve(reader, writer)``; yields (worker, port)."""
    upstream = await asyncio.start_server(serve, "127.0.0.1", 0)
    address = lambda port: {"socket_address": {"address": "127.0.0.1", "port_value": port}}  # noqa: E731
    tcp = {"name": "tcp", "typed_config": {"@type": TYPE, "stat_prefix": "t", "cluster": "up", **fields}}
    main = {"name": "main", "address": address(0), "filter_chains": [{"filters": [tcp]}]}
    endpoint = {"endpoint": {"address": address(upstream.sockets[0].getsockname()[1])}}
    cluster = {
        "name": "up",
        "load_assignment": {"cluster_name": "up", "endpoints": [{"lb_endpoints": [endpoint]}]},
    }
    loaded = load_bootstrap(
        None, json.dumps({"static_resources": {"listeners": [main], "clusters": [cluster]}})
    )
    settings = server_settings(loaded.bootstrap, loaded.problems.where)
    loaded.problems.raise_if_any()
    worker = Worker(settings, asyncio.get_running_loop())
    await worker.start({})
    try:
        yield worker, worker.listeners.get("main").sockets[0].getsockname()[1]
    finally:
        await worker.stop()
        upstream.close()
        await asyncio.sleep(0.01)


def session(worker):
    """The one session, by way of its log record."""
    (connection,) = worker.listeners.get("main").open.values()
    return connection


async def until(ready):
    while not ready():
        await asyncio.sleep(0.005)


def spliced(worker):
    return type(session(worker).transport).__name__ == "SplicedTransport"


def stat(worker, name):
    snapshot = worker.snapshot()
    return snapshot.counters.get(name, snapshot.gauges.get(name, 0))


async def echo(reader, writer):
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


@on_each_loop
async def test_every_byte_arrives_in_order_and_is_counted():
    random = Random(1)
    async with running(echo) as (worker, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        sent, received = hashlib.sha1(), hashlib.sha1()
        total = 0

        async def send():
            nonlocal total
            while total < BIG or not spliced(worker):
                piece = random.randbytes(random.choice((1, 100, 5000, 200_000)))
                sent.update(piece)
                total += len(piece)
                writer.write(piece)
                await writer.drain()
            writer.write_eof()

        async def receive():
            while data := await reader.read(100_000):
                received.update(data)

        await asyncio.gather(send(), receive())
        assert received.hexdigest() == sent.hexdigest()
        writer.close()
        await until(lambda: worker.connections == 0)
        assert stat(worker, "tcp.t.downstream_cx_rx_bytes_total") == total
        assert stat(worker, "tcp.t.downstream_cx_tx_bytes_total") == total
        assert stat(worker, "cluster.up.upstream_cx_tx_bytes_total") == total
        assert stat(worker, "cluster.up.upstream_cx_rx_bytes_total") == total
        assert stat(worker, "cluster.up.upstream_cx_active") == 0
        assert stat(worker, "cluster.up.upstream_cx_destroy") == 1


@on_each_loop
async def test_a_server_that_reads_only_what_it_can_answer_is_not_blocked():
    # Going over to the kernel must not wait for a moment that the peer waits to come.
    async with running(echo) as (worker, port):
        sock = socket.create_connection(("127.0.0.1", port))
        sock.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(sock, b"x" * 300_000)
        got = 0
        sending = loop.create_task(loop.sock_sendall(sock, b"y" * BIG))
        while got < 300_000 + BIG:
            got += len(await loop.sock_recv(sock, 1 << 20))
        await sending
        sock.close()
        await until(lambda: worker.connections == 0)


@on_each_loop
async def test_small_exchanges_stay_where_they_are():
    async with running(echo) as (worker, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"x" * 100_000)
        await reader.readexactly(100_000)
        assert not spliced(worker)
        writer.close()
        await until(lambda: worker.connections == 0)


@on_each_loop
async def test_a_slow_reader_holds_the_sender_back():
    async def firehose(reader, writer):
        try:
            while True:
                writer.write(b"z" * 65536)
                await writer.drain()
        except OSError:
            writer.close()

    async with running(firehose) as (worker, port):
        sock = socket.create_connection(("127.0.0.1", port))
        sock.setblocking(False)
        loop = asyncio.get_running_loop()
        for _ in range(40):
            await loop.sock_recv(sock, 65536)
        await until(lambda: spliced(worker))
        before = -1
        while before != (before := stat(worker, "tcp.t.downstream_cx_tx_bytes_total")):
            await asyncio.sleep(0.1)
        assert stat(worker, "cluster.up.upstream_flow_control_paused_reading_total") >= 1
        got = 0
        while got < before + BIG:  # it goes on where it stopped
            got += len(await loop.sock_recv(sock, 1 << 20))
        sock.close()
        await until(lambda: worker.connections == 0)
        assert stat(worker, "cluster.up.upstream_rq_active") == 0


@pytest.mark.parametrize("who", ["client", "upstream"])
@pytest.mark.parametrize("make", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_a_reset_goes_through(make, who):
    linger = struct.pack("ii", 1, 0)

    async def play():
        ended = asyncio.Event()

        async def serve(reader, writer):
            try:
                while data := await reader.read(65536):
                    writer.write(b"." * len(data))
                    if b"!" in data and who == "upstream":
                        writer.get_extra_info("socket").setsockopt(
                            socket.SOL_SOCKET, socket.SO_LINGER, linger
                        )
                        writer.transport.abort()
                        return
            except ConnectionResetError:
                ended.set()
            finally:
                writer.close()

        async with running(serve) as (worker, port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"x" * (1 << 20))
            await reader.readexactly(1 << 20)
            assert spliced(worker)
            if who == "upstream":
                writer.write(b"!")
                with pytest.raises(ConnectionResetError):
                    await reader.read()
                writer.close()
            else:
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                writer.transport.abort()
                await ended.wait()
            await until(lambda: worker.connections == 0)
            local = stat(worker, "cluster.up.upstream_cx_destroy_local")
            assert local == (who == "client")
            assert stat(worker, "cluster.up.upstream_cx_destroy") == 1

    with asyncio.Runner(loop_factory=make) as runner:
        runner.run(asyncio.wait_for(play(), 20))


@on_each_loop
async def test_an_idle_timeout_and_a_stop_still_end_it():
    async with running(echo, idle_timeout="0.2s") as (worker, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"x" * (1 << 20))
        await reader.readexactly(1 << 20)
        assert spliced(worker)
        assert await reader.read() == b""
        assert stat(worker, "tcp.t.idle_timeout") == 1
        writer.close()

        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"x" * (1 << 20))
        await reader.readexactly(1 << 20)
        worker.listeners.get("main").stop()
        assert await reader.read() == b""
        writer.close()
        await until(lambda: worker.connections == 0)


@on_each_loop
async def test_no_descriptor_is_left():
    async with running(echo) as (worker, port):

        def count():
            return len(os.listdir("/proc/self/fd")) - len(pipes()._free) * 2

        before = None
        for _ in range(4):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"x" * (1 << 20))
            await reader.readexactly(1 << 20)
            assert spliced(worker)
            writer.close()
            await writer.wait_closed()
            await until(lambda: worker.connections == 0)
            await asyncio.sleep(0.02)
            before = before or count()
        assert count() <= before


def test_pipes_are_shared_and_bounded():
    pool = Pipes()
    assert pool.usable()
    borrowed = [pool.borrow() for _ in range(MOST_KEPT + 3)]
    for pipe in borrowed:
        pool.give_back(pipe)
    assert len(pool._free) == MOST_KEPT
    assert os.write(pool._free[0].write_end, b"x" * PIPE_SIZE) == PIPE_SIZE
    pool.close()
