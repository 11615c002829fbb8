"""The loop's time, the wall's, and dates."""

from email.utils import formatdate

import pytest

from weft.proxy.clock import Clock, http_date


class Loop:
    def __init__(self):
        self.at = 0.0

    def time(self):
        return self.at


@pytest.mark.parametrize("second", [0, 1, 86399, 951782400, 1709164800, 1763683199, 4102444799])
def test_dates_are_those_of_the_standard_library(second):
    assert http_date(second) == formatdate(second, usegmt=True).encode()


def test_current_is_what_now_said_last():
    loop = Loop()
    clock = Clock(loop, wall=lambda: 0.0)
    loop.at = 5.0
    assert clock.current == 0.0
    assert (clock.now(), clock.current) == (5.0, 5.0)


def test_the_wall_is_looked_at_once_a_second():
    loop, wall = Loop(), [1000.0]
    clock = Clock(loop, wall=lambda: wall[0])
    wall[0] = 2000.0
    assert clock.wall(0.5) == 1000.5
    loop.at = 2.0
    assert clock.wall(2.0) == 2000.0


def test_a_date_is_made_once_a_second():
    clock = Clock(Loop(), wall=lambda: 0.0)
    first = clock.date(0.2)
    assert clock.date(0.9) is first
    assert clock.date(1.0) != first
