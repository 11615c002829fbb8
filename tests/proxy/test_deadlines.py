"""Deadlines on a virtual clock, against a model that remembers one time for each."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weft.proxy.deadlines import NEVER, Deadline, Deadlines
from weft.testing import VirtualLoop, run


class Bell(Deadline):
    """Notes when it rings."""

    def __init__(self, deadlines, loop):
        super().__init__(deadlines)
        self.loop = loop
        self.rung = []
        self.then = None

    def expired(self, now):
        self.rung.append(round(self.loop.time() - 1000, 6))
        if self.then is not None:
            self.then()


def bells(loop, count):
    deadlines = Deadlines(loop)
    return deadlines, [Bell(deadlines, loop) for _ in range(count)]


@pytest.mark.parametrize(
    ("moves", "rung"),
    [
        pytest.param([("set", 5)], [5], id="once"),
        pytest.param([("set", 5), ("set", 9)], [9], id="moved-later"),
        pytest.param([("set", 9), ("set", 5)], [5], id="moved-earlier"),
        pytest.param([("set", 9), ("set", 5), ("set", 7)], [7], id="earlier-then-later"),
        pytest.param([("set", 5), ("clear",)], [], id="cleared"),
        pytest.param([("set", 5), ("clear",), ("set", 3)], [3], id="cleared-and-set-earlier"),
        pytest.param([("set", 5), ("clear",), ("set", 8)], [8], id="cleared-and-set-later"),
        pytest.param([("set", 5), ("drop",)], [], id="dropped"),
        pytest.param([("set", 5), ("drop",), ("set", 5)], [5], id="dropped-and-set-again"),
        pytest.param([("set", 5), ("wait", 6), ("set", 8)], [5, 8], id="twice"),
        pytest.param([("wait", 4), ("set", 2)], [4], id="in-the-past"),
    ],
)
async def test_one_deadline(loop, moves, rung):
    deadlines, (bell,) = bells(loop, 1)
    begin = loop.time()
    for move in moves:
        if move[0] == "set":
            bell.set(begin + move[1])
        elif move[0] == "wait":
            await asyncio.sleep(move[1])
        else:
            getattr(bell, move[0])()
    await asyncio.sleep(20)

    assert bell.rung == rung
    assert bell.when == NEVER
    deadlines.close()


async def test_one_that_is_put_off_does_not_hold_up_the_others(loop):
    """The timer that serves the first is armed anew for him, but another is due before."""
    deadlines, (far, near) = bells(loop, 2)
    begin = loop.time()
    far.set(begin + 3)
    near.set(begin + 5)
    far.set(begin + 3600)  # looked at again in three seconds, and queued for an hour later
    await asyncio.sleep(10)

    assert near.rung == [5]
    deadlines.close()


async def test_one_that_rings_may_set_itself_and_others(loop):
    deadlines, (first, second, third) = bells(loop, 3)
    begin = loop.time()

    def again():
        first.then = None
        first.set(loop.time() + 100)
        second.set(loop.time() + 1)

    first.then = again
    first.set(begin + 1)
    third.set(begin + 4)
    await asyncio.sleep(200)

    assert (first.rung, second.rung, third.rung) == ([1, 101], [2], [4])
    deadlines.close()


@pytest.mark.leaks_allowed
async def test_one_that_raises_costs_the_others_nothing(loop):
    deadlines, (bad, good) = bells(loop, 2)

    def broken():
        raise ValueError("broken")

    bad.then = broken
    bad.set(loop.time() + 1)
    good.set(loop.time() + 1)
    await asyncio.sleep(2)

    assert good.rung == [1]
    assert len(loop.faults) == 1
    deadlines.close()


MOVES = st.lists(
    st.tuples(
        st.sampled_from(["set", "set", "set", "clear", "drop", "wait"]),
        st.integers(0, 4),
        st.integers(0, 30),
    ),
    max_size=60,
)


@given(MOVES)
@settings(max_examples=300, deadline=None)
def test_random_histories(moves):
    loop = VirtualLoop()

    async def main():
        deadlines, all_of_them = bells(loop, 5)
        due = [None] * 5
        expected = [[] for _ in range(5)]
        for what, which, amount in moves:
            now = loop.time() - 1000
            if what == "set":
                due[which] = now + amount
                all_of_them[which].set(1000 + now + amount)
            elif what == "wait":
                await asyncio.sleep(amount + 0.5)
                for i, when in enumerate(due):
                    if when is not None and when <= loop.time() - 1000:
                        expected[i].append(max(when, 0))
                        due[i] = None
            else:
                getattr(all_of_them[which], what)()
                due[which] = None
        await asyncio.sleep(100)
        for i, when in enumerate(due):
            if when is not None:
                expected[i].append(when)
        assert [bell.rung for bell in all_of_them] == expected
        deadlines.close()

    run(main, loop=loop)


async def test_connections_that_come_and_go_leave_nothing(loop):
    """Most deadlines are dropped long before they are due; the heap does not keep them."""
    deadlines = Deadlines(loop)
    most = 0
    alive = [Bell(deadlines, loop) for _ in range(100)]
    for bell in alive:
        bell.set(loop.time() + 300)
    for _ in range(20_000):
        bell = Bell(deadlines, loop)
        bell.set(loop.time() + 300)
        bell.drop()
        most = max(most, len(deadlines._heap))
    assert most <= 3 * 512
    await asyncio.sleep(301)
    assert [bell.rung for bell in alive] == [[300]] * 100
    assert deadlines._heap == []
    deadlines.close()


@pytest.mark.parametrize("step", [1e-5, 0.0, -1e-5], ids=["later", "same", "earlier"])
async def test_a_million_moves_cost_no_heap(loop, step):
    deadlines, (bell,) = bells(loop, 1)
    when = loop.time() + 100
    for _ in range(1_000_000 if step >= 0 else 10_000):
        when += step
        bell.set(when)

    assert len(deadlines._heap) <= (1 if step >= 0 else 1200)
    assert len(loop._scheduled) <= (2 if step >= 0 else 10_002)
    await asyncio.sleep(200)
    assert len(bell.rung) == 1
    deadlines.close()
