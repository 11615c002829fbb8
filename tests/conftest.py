"""``async def`` tests run on a virtual loop; what they leave behind fails them.

``@pytest.mark.seed(7)`` sets the seed, ``@pytest.mark.real_loop`` runs a test on asyncio's own loop (for
tests of real sockets and processes).  The fixture ``loop`` is the test's :class:`VirtualLoop`.
"""

import asyncio
import inspect

import pytest

from weft.testing import VirtualLoop, run


def pytest_configure(config):
    config.addinivalue_line("markers", "seed(number): the seed of the test's virtual loop")
    config.addinivalue_line("markers", "real_loop: run this async test on asyncio's own loop, in real time")
    config.addinivalue_line("markers", "leaks_allowed: do not fail for what the test leaves behind")


@pytest.fixture
def loop(request):
    """The virtual loop that the test runs on; set up its network before, or look at it inside."""
    marker = request.node.get_closest_marker("seed")
    made = VirtualLoop(marker.args[0] if marker else 0)
    yield made
    if not made.is_closed():
        made.close()


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem):
    function = pyfuncitem.obj
    if not inspect.iscoroutinefunction(function):
        return None
    names = pyfuncitem._fixtureinfo.argnames
    arguments = {name: pyfuncitem.funcargs[name] for name in names}
    if pyfuncitem.get_closest_marker("real_loop"):
        with asyncio.Runner() as runner:
            runner.run(function(**arguments))
        return True
    marker = pyfuncitem.get_closest_marker("seed")
    own = arguments.get("loop")
    if not isinstance(own, VirtualLoop):
        own = None
    leaks = pyfuncitem.get_closest_marker("leaks_allowed") is None
    run(lambda: function(**arguments), seed=marker.args[0] if marker else 0, loop=own, leaks=leaks)
    return True
