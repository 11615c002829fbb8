"""Resolving: families, answers, and when the next one is due."""

import asyncio
import itertools
import socket
from random import Random

import pytest

from weft.proxy.upstream.directory import Clusters
from weft.proxy.upstream.discovery import Family
from weft.proxy.upstream.dns import Answer, BackOff, SystemResolver, addresses_of
from weft.testing import VirtualLoop, run


class Table:
    """A resolver: family -> addresses, or what asking raises."""

    def __init__(self, v4=(), v6=()):
        self.tables = {False: v4, True: v6}
        self.asked = []

    async def resolve(self, name, *, v6):
        self.asked.append("v6" if v6 else "v4")
        answer = self.tables[v6]
        if isinstance(answer, OSError):
            raise answer
        return answer if isinstance(answer, Answer) else Answer(tuple(answer))


FOUR, SIX, BROKEN = ["1.1.1.1", "2.2.2.2"], ["::1"], OSError("no answer")


@pytest.mark.parametrize(
    ("family", "resolver", "found", "asked"),
    [
        pytest.param(Family.AUTO, Table(FOUR, SIX), SIX, ["v6"], id="auto-prefers-v6"),
        pytest.param(Family.AUTO, Table(FOUR), FOUR, ["v6", "v4"], id="auto-falls-back"),
        pytest.param(Family.V4_PREFERRED, Table(FOUR, SIX), FOUR, ["v4"], id="v4-preferred"),
        pytest.param(Family.V4_PREFERRED, Table((), SIX), SIX, ["v4", "v6"], id="v4-preferred-falls-back"),
        pytest.param(Family.V4_ONLY, Table((), SIX), [], ["v4"], id="v4-only"),
        pytest.param(Family.V6_ONLY, Table(FOUR, ()), [], ["v6"], id="v6-only"),
        pytest.param(Family.ALL, Table(FOUR, SIX), FOUR + SIX, ["v4", "v6"], id="all"),
        pytest.param(Family.ALL, Table(FOUR, BROKEN), FOUR, ["v4", "v6"], id="all-with-half-broken"),
        pytest.param(Family.ALL, Table((), BROKEN), BROKEN, ["v4", "v6"], id="all-broken"),
        pytest.param(Family.AUTO, Table(FOUR, BROKEN), BROKEN, ["v6"], id="a-failure-is-no-empty-answer"),
    ],
)
def test_families(family, resolver, found, asked):
    async def main():
        return list((await addresses_of("web.test", family, resolver)).addresses)

    if isinstance(found, OSError):
        with pytest.raises(OSError, match="no answer"):
            run(main)
    else:
        assert run(main) == found
    assert resolver.asked == asked


@pytest.mark.parametrize("family", Family)
def test_an_address_is_its_own_answer(family):
    async def main():
        return await addresses_of("10.0.0.1", family, Table(BROKEN, BROKEN))

    assert run(main) == Answer(("10.0.0.1",))


@pytest.mark.parametrize(
    ("entry", "outcome"),
    [
        pytest.param(["1.1.1.1", "1.1.1.1", "::1"], Answer(("1.1.1.1",)), id="addresses-once"),
        pytest.param(None, Answer(()), id="no-such-name"),
        pytest.param(socket.gaierror(socket.EAI_NODATA, "x"), Answer(()), id="no-data"),
        pytest.param(socket.gaierror(socket.EAI_AGAIN, "x"), OSError, id="try-again"),
        pytest.param(socket.gaierror(socket.EAI_FAIL, "x"), OSError, id="server-failure"),
        pytest.param(UnicodeEncodeError("idna", "x", 0, 1, "label too long"), OSError, id="no-dns-name"),
    ],
)
def test_the_systems_resolver(entry, outcome):
    loop = VirtualLoop()
    if entry is not None:
        loop.network.names["web.test"] = entry

    async def main():
        return await SystemResolver(loop).resolve("web.test", v6=False)

    if outcome is OSError:
        with pytest.raises(OSError):
            run(main, loop=loop)
    else:
        assert run(main, loop=loop) == outcome


def test_back_off_doubles_its_window_to_the_maximum():
    class Always(Random):
        def random(self):
            return 1.0

    waits = BackOff(2.0, 9.0)
    assert [waits.next(Always()) for _ in range(5)] == [2.0, 4.0, 8.0, 9.0, 9.0]
    waits.reset()
    assert waits.next(Always()) == 2.0


def times_of_attempts(kit, names, seconds, seed=0, resolver=None, **dns) -> list[float]:
    """When a STRICT_DNS cluster asked, in seconds from its start."""
    loop = VirtualLoop(seed)
    loop.network.names.update(names)
    attempts = []

    class Watched:
        def __init__(self, inner):
            self.inner = inner

        async def resolve(self, name, *, v6):
            attempts.append(round(loop.time() - began, 3))
            return await self.inner.resolve(name, v6=v6)

    began = loop.time()

    async def main():
        made = kit.settings(kit.locality("web.test"), type="STRICT_DNS", dns_lookup_family="V4_ONLY", **dns)
        clusters = Clusters([made], resolver=Watched(resolver or SystemResolver(loop)))
        context = kit.worker(clusters, loop, seed=seed)
        await asyncio.sleep(seconds)
        clusters.close()
        context.deadlines.close()

    run(main, loop=loop)
    return attempts


UP, DOWN = {"web.test": ["10.0.0.1"]}, {"web.test": socket.gaierror(socket.EAI_AGAIN, "x")}


def test_every_five_seconds_unless_told_otherwise(kit):
    assert times_of_attempts(kit, UP, 16) == [0, 5, 10, 15]
    assert times_of_attempts(kit, UP, 7, dns_refresh_rate="2s") == [0, 2, 4, 6]


def test_failures_are_tried_again_at_the_refresh_rate(kit):
    assert times_of_attempts(kit, DOWN, 11) == [0, 5, 10]


def test_failures_back_off_where_that_is_asked(kit):
    rate = {"base_interval": "1s", "max_interval": "8s"}
    attempts = times_of_attempts(kit, DOWN, 300, dns_failure_refresh_rate=rate)
    gaps = [later - before for before, later in itertools.pairwise(attempts)]

    assert gaps[0] <= 1.001
    assert gaps[1] <= 2.001
    assert max(gaps) > 4
    assert max(gaps) <= 8.001


def test_jitter_comes_on_top(kit):
    attempts = times_of_attempts(kit, UP, 200, dns_jitter="3s")
    gaps = [later - before for before, later in itertools.pairwise(attempts)]

    assert min(gaps) >= 4.999
    assert max(gaps) <= 8.001
    assert max(gaps) - min(gaps) > 1


@pytest.mark.parametrize(("respect", "expected"), [(True, [0, 2, 4, 6]), (False, [0, 5])])
def test_time_to_live_counts_where_a_resolver_tells_it_and_it_is_asked_for(kit, respect, expected):
    told = Table(v4=Answer(("10.0.0.1",), 2.0))

    assert times_of_attempts(kit, {}, 7, resolver=told, respect_dns_ttl=respect) == expected
