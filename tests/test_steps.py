"""Long work in steps."""

import asyncio

from weft.steps import at_once, patiently


def work(steps, weight):
    for _ in range(steps):
        yield weight
    return "done"


def test_at_once():
    assert at_once(work(3, 1)) == "done"


def test_others_get_a_turn_for_so_much_work():
    turns = 0

    async def others():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def main():
        beside = asyncio.ensure_future(others())
        assert await patiently(work(50, 100)) == "done"
        beside.cancel()

    asyncio.run(main())
    assert turns == 5
