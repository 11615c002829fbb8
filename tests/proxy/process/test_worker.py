"""A worker on a loop with a virtual clock and a network in memory: as in production, but for the edges."""

import asyncio
import random

import pytest

from weft.api.load import load_text
from weft.proxy.assemble import server_settings
from weft.proxy.process.changes import changes
from weft.proxy.process.options import Options
from weft.proxy.process.worker import Worker
from weft.testing.bootstraps import bootstrap, cluster, listener
from weft.testing.peer import Client, Upstream

GET = b"GET %s HTTP/1.1\r\nhost: a\r\n\r\n"


def _settings(text):
    loaded = load_text(text)
    settings = server_settings(loaded.bootstrap, loaded.problems.where)
    loaded.problems.raise_if_any()
    return settings


async def _start(text, **options):
    loop = asyncio.get_running_loop()
    worker = Worker(
        _settings(text), loop, options=Options(**options), random=random.Random(1), wall=lambda: 1e9 + loop.time()
    )
    await worker.start({})
    return worker


async def _ask(client, path=b"/"):
    client.send(GET % path)
    head = await client.read_until(b"\r\n\r\n")
    length = next(line for line in head.split(b"\r\n") if line.startswith(b"content-length: "))
    return head, await client.read(int(length[16:]))


async def test_a_drain_waits_for_what_is_under_way_and_no_longer():
    worker = await _start(bootstrap(listener("web", port=80, upstream="c"), clusters=[cluster("c", 90)]))
    loop = asyncio.get_running_loop()
    async with await Upstream.listen("127.0.0.1", 90) as upstream:
        idle = await Client.connect("127.0.0.1", 80)
        await _ask(idle)
        busy = await Client.connect("127.0.0.1", 80)
        busy.send(GET % b"/up")
        peer = await upstream.accept()
        await peer.read_until(b"\r\n\r\n")

        began = loop.time()
        draining = loop.create_task(worker.drain(5.0))
        await asyncio.sleep(2.0)
        assert not draining.done()
        assert worker.connections == 1  # the idle one went at once
        with pytest.raises(OSError):
            await Client.connect("127.0.0.1", 80)
        peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
        answer = await busy.read_all()
        assert b"connection: close" in answer
        assert answer.endswith(b"ok")
        await draining
        assert 2.0 <= loop.time() - began < 2.1
        await worker.stop()
        idle.close()
        busy.close()


async def test_a_drain_has_an_end():
    worker = await _start(bootstrap(listener("web", port=80, upstream="c"), clusters=[cluster("c", 90)]))
    loop = asyncio.get_running_loop()
    async with await Upstream.listen("127.0.0.1", 90) as upstream:
        busy = await Client.connect("127.0.0.1", 80)
        busy.send(GET % b"/up")
        await upstream.accept()
        began = loop.time()
        await worker.drain(5.0)

        assert 5.0 <= loop.time() - began < 5.1
        assert worker.connections == 1
        await worker.stop()
        await busy.closed()
        busy.close()


async def test_a_changed_listener_keeps_its_place_and_a_stranger_is_not_touched():
    before = bootstrap(listener("web", port=80, says="old"), listener("other", port=81), listener("gone", port=82))
    after = bootstrap(listener("web", port=80, says="new"), listener("other", port=81), listener("fresh", port=83, says="fresh"))
    worker = await _start(before)
    bystander = await Client.connect("127.0.0.1", 81)
    await _ask(bystander)
    await worker.apply(changes(_settings(before), _settings(after)), {})

    for port, says in ((80, b"new"), (83, b"fresh")):
        async with await Client.connect("127.0.0.1", port) as client:
            assert (await _ask(client))[1] == says
    assert (await _ask(bystander))[1] == b"hello"
    with pytest.raises(OSError):
        await Client.connect("127.0.0.1", 82)
    bystander.close()
    await worker.stop()


async def test_clusters_come_before_and_go_after_the_listeners_that_need_them():
    before = bootstrap(listener("web", port=80, upstream="a"), clusters=[cluster("a", 90)])
    after = bootstrap(listener("web", port=80, upstream="b"), clusters=[cluster("b", 91)])
    worker = await _start(before)
    async with await Upstream.listen("127.0.0.1", 91) as second:
        await worker.apply(changes(_settings(before), _settings(after)), {})
        async with await Client.connect("127.0.0.1", 80) as client:
            client.send(GET % b"/up")
            peer = await second.accept()
            peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
            assert (await client.read_until(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
    assert worker.context.clusters.names() == ["b"]
    await worker.stop()


async def test_a_failed_health_check_asks_connections_to_go():
    worker = await _start(bootstrap(listener("web", port=80)))
    old = await Client.connect("127.0.0.1", 80)
    await _ask(old)
    worker.fail_healthcheck(True)
    await old.closed()
    old.close()
    later = await Client.connect("127.0.0.1", 80)
    await asyncio.sleep(1.5)
    await later.closed()
    later.close()
    worker.fail_healthcheck(False)
    async with await Client.connect("127.0.0.1", 80) as client:
        await _ask(client)
        await asyncio.sleep(5)
        assert (await _ask(client))[1] == b"hello"
    await worker.stop()


@pytest.mark.parametrize(
    ("words", "accepts", "accepts_later"),
    [
        pytest.param({"graceful": False, "skip_exit": False, "inbound_only": False}, [False, False], [False, False], id="at-once"),
        pytest.param({"graceful": True, "skip_exit": False, "inbound_only": False}, [True, True], [False, False], id="gracefully"),
        pytest.param({"graceful": True, "skip_exit": True, "inbound_only": False}, [True, True], [True, True], id="only-asked"),
        pytest.param({"graceful": False, "skip_exit": False, "inbound_only": True}, [False, True], [False, True], id="inbound"),
    ],
)  # fmt: skip
async def test_listeners_are_drained_as_ordered(words, accepts, accepts_later):
    listeners = (listener("in", port=80, traffic_direction="INBOUND"), listener("out", port=81, traffic_direction="OUTBOUND"))
    worker = await _start(bootstrap(*listeners), drain_time=30.0)
    worker.stop_listeners(**words)
    assert [listener.accepting for listener in worker.listeners.all()] == accepts
    await asyncio.sleep(31)
    assert [listener.accepting for listener in worker.listeners.all()] == accepts_later
    await worker.stop()


async def test_access_logs_are_written_when_the_flags_say(tmp_path):
    log = tmp_path / "access.log"
    worker = await _start(
        bootstrap(listener("web", port=80, access_log=str(log))), file_flush_interval=3.0, file_flush_min_size=20
    )
    client = await Client.connect("127.0.0.1", 80)
    await _ask(client, b"/nine")
    await asyncio.sleep(2.9)
    assert log.read_text() == ""
    await asyncio.sleep(0.2)
    assert log.read_text() == "/nine\n"
    await _ask(client, b"/twenty-bytes-are-enough")
    await asyncio.sleep(0.1)

    assert log.read_text() == "/nine\n/twenty-bytes-are-enough\n"
    client.close()
    await worker.stop()
