import asyncio

from weft.proxy.clock import Clock


async def test_the_loop_s_time_and_the_wall(loop):
    clock = Clock(loop, wall=loop.wall)
    begin = clock.now()
    assert begin == loop.time() == clock.current
    assert clock.date(begin) == b"Thu, 01 Jan 2026 00:00:00 GMT"
    assert clock.date(begin) is clock.date(begin + 0.5)
    await asyncio.sleep(61.5)
    assert clock.current == begin
    assert clock.now() == clock.current == begin + 61.5
    assert clock.wall(clock.current) == loop.wall()
    assert clock.date(clock.current) == b"Thu, 01 Jan 2026 00:01:01 GMT"


async def test_a_wall_clock_that_is_set_is_followed_within_a_second(loop):
    ahead = 0.0
    clock = Clock(loop, wall=lambda: loop.wall() + ahead)
    before = clock.wall(clock.now())
    ahead = 3600.0
    await asyncio.sleep(1.5)
    assert clock.wall(clock.now()) == before + 1.5 + 3600
