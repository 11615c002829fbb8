"""Who is stuck, counted once; and who is to be ended for it."""

import os

import pytest

from weft.proxy.process.watchdog import Touches, WatchdogSettings, Watched, to_kill

SETTINGS = WatchdogSettings(miss=0.2, megamiss=1.0)


@pytest.mark.parametrize(
    ("stuck", "counted"),
    [
        pytest.param([0.0, 0.1, 0.2], (0, 0), id="touches-in-time"),
        pytest.param([0.3], (1, 0), id="late"),
        pytest.param([0.3, 0.5, 0.9], (1, 0), id="once-while-it-lasts"),
        pytest.param([0.3, 0.9, 1.1, 1.3, 5.0], (1, 1), id="mega-once-too"),
        pytest.param([2.0], (1, 1), id="both-at-once"),
        pytest.param([0.3, 0.0, 0.3, 0.1, 2.0], (3, 1), id="again-after-it-moved"),
    ],
)
def test_misses(stuck, counted):
    watched = Watched("worker_0")
    new = [watched.look(seconds, SETTINGS) for seconds in stuck]

    assert (watched.misses, watched.mega_misses) == counted
    assert (sum(miss for miss, _ in new), sum(mega for _, mega in new)) == counted


@pytest.mark.parametrize(
    ("settings", "stuck", "killed"),
    [
        pytest.param({}, [9.0, 9.0], [], id="off-by-default"),
        pytest.param({"kill": 1.0}, [0.5, 1.5], [1], id="kill"),
        pytest.param({"kill": 1.0, "kill_jitter": 1.0}, [1.4, 1.6], [1], id="kill-with-jitter"),
        pytest.param({"multikill": 1.0}, [2.0, 0.0, 0.0], [], id="multikill-needs-two"),
        pytest.param({"multikill": 1.0}, [2.0, 0.0, 2.0], [0, 2], id="multikill"),
        pytest.param({"multikill": 1.0, "multikill_threshold": 60.0}, [2.0, 2.0, 0.0, 0.0], [], id="below-share"),
        pytest.param({"multikill": 1.0, "multikill_threshold": 50.0}, [2.0, 2.0, 0.0, 0.0], [0, 1], id="at-share"),
    ],
)
def test_who_is_ended(settings, stuck, killed):
    assert to_kill(stuck, WatchdogSettings(**settings), jitter=0.5) == killed


@pytest.mark.parametrize(
    ("settings", "interval"),
    [({}, 0.2), ({"miss": 3.0, "megamiss": 2.0}, 2.0), ({"miss": 0.2, "kill": 0.1}, 0.1)],
)
def test_looked_at_as_often_as_the_shortest_timeout(settings, interval):
    assert WatchdogSettings(**settings).interval == interval


def test_touches_are_shared_with_a_fork():
    touches = Touches(3)
    touches.touch(0, 1.5)
    pid = os.fork()
    if pid == 0:
        touches.touch(2, 2.5)
        os._exit(0)
    os.waitpid(pid, 0)

    assert [touches.last(worker) for worker in range(3)] == [1.5, 0.0, 2.5]
    touches.close()
