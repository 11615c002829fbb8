"""Connecting: outcomes, words, stats and the place in the limits."""

import asyncio
import errno

import pytest

from weft.proxy.address import Address
from weft.proxy.upstream.connect import CONNECTED, OVER, Failure, Reason, connect_host, failure_of
from weft.proxy.upstream.directory import Clusters
from weft.testing import VirtualLoop, run


class Protocol:
    """The least a caller owes: tell the link."""

    def __init__(self, tell: bool = True):
        self.link = None
        self.tell = tell
        self.transport = None
        self.lost = None
        self.remote = False
        self.data = b""

    def connection_made(self, transport):
        self.transport = transport
        if self.tell:
            self.link.connected(transport)

    def data_received(self, data):
        self.data += data

    def eof_received(self):
        self.remote = True
        return False

    def connection_lost(self, exc):
        self.lost = exc
        self.link.closed(local=not self.remote)

    def pause_writing(self):
        pass

    def resume_writing(self):
        pass


class Try:
    """One connection to the first host of a cluster."""

    def __init__(self, kit, address="10.0.0.1", tell=True, **more):
        self.loop = kit.loop
        self.clusters = Clusters([kit.settings(kit.locality(address), **more)])
        self.context = kit.worker(self.clusters, kit.loop)
        self.cluster = self.clusters.get("web")
        self.host = self.cluster.pick()
        self.failures: list[Failure] = []
        self.protocol = Protocol(tell)
        self.link = connect_host(
            self.context, self.cluster, self.host, lambda: self.protocol, self.failures.append
        )
        self.protocol.link = self.link

    def stats(self):
        """What is not zero, without the names that every cluster has."""
        snapshot = self.context.stats.snapshot()
        prefix = "cluster.web.upstream_cx_"
        numbers = {**snapshot.counters, **snapshot.gauges}
        return {name.removeprefix(prefix): n for name, n in numbers.items() if name.startswith(prefix) and n}


@pytest.fixture
def loop_kit(kit):
    class WithLoop(kit):
        loop = VirtualLoop()

    return WithLoop


def server(loop, address="10.0.0.1", port=80):
    accepted = []

    class Sink(Protocol):
        def connection_made(self, transport):
            self.transport = transport
            accepted.append(self)

        def connection_lost(self, exc):
            self.lost = exc

    return loop.create_server(Sink, address, port), accepted


def test_a_connection_is_counted_from_start_to_end(loop_kit):
    loop = loop_kit.loop
    loop.network.link.latency = 0.010

    async def main():
        coming, accepted = server(loop)
        listening = await coming
        one = Try(loop_kit)
        assert (one.cluster.limits[0].connections, one.host.stats.cx_active) == (1, 1)
        assert one.stats() == {"total": 1, "active": 1}
        await asyncio.sleep(0.1)
        assert one.link.state == CONNECTED
        assert one.cluster.stats.upstream_cx_connect_ms.total == 20
        accepted[0].transport.close()
        await asyncio.sleep(1)
        assert one.link.state == OVER
        assert one.stats() == {"total": 1, "destroy": 1, "destroy_remote": 1}
        assert (one.cluster.limits[0].connections, one.host.stats.cx_active, one.host.stats.cx_total) == (
            0,
            0,
            1,
        )
        assert one.cluster.stats.upstream_cx_length_ms.count == 1
        assert one.failures == []
        listening.close()

    run(main, loop=loop)


@pytest.mark.parametrize(
    ("address", "error", "reason", "text"),
    [
        pytest.param(
            "10.0.0.1",
            ConnectionRefusedError(errno.ECONNREFUSED, "x"),
            Reason.REFUSED,
            "delayed connect error: Connection refused",
            id="refused",
        ),
        pytest.param(
            "10.0.0.1",
            OSError(errno.EHOSTUNREACH, "x"),
            Reason.UNREACHABLE,
            "delayed connect error: No route to host",
            id="no-route-to-host",
        ),
        pytest.param(
            "2001:db8::1",
            OSError(errno.ENETUNREACH, "x"),
            Reason.UNREACHABLE,
            "immediate connect error: Network is unreachable|remote address:[2001:db8::1]:80",
            id="network-unreachable",
        ),
        pytest.param(
            "/run/none.sock",
            FileNotFoundError(errno.ENOENT, "x"),
            Reason.OTHER,
            "immediate connect error: No such file or directory|remote address:/run/none.sock",
            id="no-such-socket",
        ),
        pytest.param(
            "10.0.0.1",
            OSError(errno.EADDRNOTAVAIL, "error while attempting to bind on address ('1.2.3.4', 0)"),
            Reason.LOCAL,
            "failed to bind to 1.2.3.4:0: Cannot assign requested address",
            id="bind",
        ),
    ],
)
def test_failures_in_envoys_words(address, error, reason, text):
    where = Address(path=address) if address.startswith("/") else Address(address, 80)
    source = Address("1.2.3.4") if reason is Reason.LOCAL else None

    assert failure_of(error, where, source) == Failure(reason, text)


def test_a_refused_connection_leaves_nothing_behind(loop_kit):
    async def main():
        one = Try(loop_kit)
        assert one.failures == []  # never from inside connect_host
        await asyncio.sleep(0.1)
        (failure,) = one.failures
        assert failure.reason is Reason.REFUSED
        assert failure.reset_reason == "remote connection failure"
        assert one.stats() == {"total": 1, "connect_fail": 1, "destroy": 1, "destroy_remote": 1}
        assert (one.cluster.limits[0].connections, one.host.stats.cx_active) == (0, 0)
        assert one.host.stats.cx_connect_fail == 1
        assert one.cluster.stats.upstream_cx_connect_ms.count == 0
        assert one.cluster.stats.upstream_cx_length_ms.count == 1

    run(main, loop=loop_kit.loop)


def test_a_source_address_that_is_not_ours(loop_kit):
    loop = loop_kit.loop
    loop.network.failures["10.0.0.1", 80] = OSError(errno.EADDRNOTAVAIL, "x")

    async def main():
        one = Try(
            loop_kit, upstream_bind_config={"source_address": {"address": "203.0.113.1", "port_value": 0}}
        )
        await asyncio.sleep(0.1)
        (failure,) = one.failures
        assert failure == Failure(
            Reason.LOCAL, "failed to bind to 203.0.113.1:0: Cannot assign requested address"
        )
        assert failure.reset_reason == "local connection failure"
        assert one.stats() == {"total": 1, "connect_fail": 1, "destroy": 1, "destroy_local": 1}
        assert one.cluster.stats.bind_errors == 1

    run(main, loop=loop)


def test_the_connect_timeout(loop_kit):
    loop = loop_kit.loop
    loop.network.silent.add(("10.0.0.1", 80))

    async def main():
        one = Try(loop_kit, connect_timeout="0.3s")
        began = loop.time()
        await asyncio.sleep(0.29)
        assert one.failures == []
        await asyncio.sleep(0.02)
        assert one.failures == [Failure(Reason.TIMEOUT, "")]
        assert one.failures[0].reset_reason == "connection timeout"
        assert loop.time() - began == pytest.approx(0.31)
        assert one.stats() == {
            "total": 1,
            "connect_fail": 1,
            "connect_timeout": 1,
            "destroy": 1,
            "destroy_local": 1,
        }
        assert one.cluster.limits[0].connections == 0

    run(main, loop=loop)


def test_nobody_wants_it_any_more(loop_kit):
    loop = loop_kit.loop
    loop.network.silent.add(("10.0.0.1", 80))

    async def main():
        one = Try(loop_kit)
        await asyncio.sleep(0.1)
        one.link.cancel()
        one.link.cancel()
        await asyncio.sleep(60)
        assert one.failures == []
        assert one.stats() == {"total": 1, "destroy": 1, "destroy_local": 1}
        assert one.cluster.limits[0].connections == 0

    run(main, loop=loop)


def test_a_protocol_that_forgets_to_tell_is_still_counted(loop_kit):
    loop = loop_kit.loop

    async def main():
        coming, accepted = server(loop)
        listening = await coming
        one = Try(loop_kit, tell=False)
        await asyncio.sleep(60)
        assert one.link.state == CONNECTED
        assert one.failures == []
        accepted[0].transport.close()
        await asyncio.sleep(1)
        assert one.stats()["destroy"] == 1
        listening.close()

    run(main, loop=loop)


def test_closing_with_a_request_under_way_is_told_apart(loop_kit):
    loop = loop_kit.loop

    async def main():
        one = Try(loop_kit)
        one.link.closed(local=False, active=True)
        assert one.stats() == {
            "total": 1,
            "destroy": 1,
            "destroy_remote": 1,
            "destroy_with_active_rq": 1,
            "destroy_remote_with_active_rq": 1,
        }
        one.link.closed(local=True)
        assert one.stats()["destroy"] == 1
        await asyncio.sleep(1)

    run(main, loop=loop)


def test_the_source_address_is_used(loop_kit):
    loop = loop_kit.loop

    async def main():
        coming, accepted = server(loop)
        listening = await coming
        one = Try(loop_kit, upstream_bind_config={"source_address": {"address": "10.9.9.9", "port_value": 0}})
        await asyncio.sleep(0.1)
        assert one.failures == []
        assert accepted[0].transport.get_extra_info("peername")[0] == "10.9.9.9"
        one.protocol.transport.close()
        await asyncio.sleep(1)
        listening.close()

    run(main, loop=loop)
