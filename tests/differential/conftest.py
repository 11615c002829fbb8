"""Real Envoy beside Weft; see :mod:`weft.testing.pair` for what a suite is.

``WEFT_ENVOY`` names Envoy's program.  ``WEFT_DIFFERENTIAL=envoy`` plays Envoy against itself, which finds
scripts that do not give the same twice.
"""

import asyncio
import os
import sys
from pathlib import Path

import pytest

import weft
from weft.testing.pair import NotStarted, Pair

ORACLE = Path(__file__).parent.parent / ".oracle" / "bin" / "envoy"
SOURCE = str(Path(weft.__file__).parent.parent)
MAIN = f"import sys; sys.path.insert(0, {SOURCE!r}); from weft.cli.main import main; sys.exit(main())"
WEFT = [sys.executable, "-c", MAIN, "proxy"]


class Pairs:
    """The pair of the suite that is being played; the one before is stopped."""

    def __init__(self):
        self.envoy = os.environ.get("WEFT_ENVOY") or str(ORACLE)
        self.runner = asyncio.Runner()
        self.suite = None
        self.pair = None
        self.failure = None

    def begin(self, suite):
        """Have the pair of ``suite`` running."""
        if not Path(self.envoy).exists():
            pytest.skip(
                f"no Envoy to compare with: nothing at {self.envoy}, and WEFT_ENVOY does not name one"
            )
        if suite is not self.suite:
            self.start(suite)
        if self.failure is not None:
            pytest.fail(str(self.failure), pytrace=False)

    def observe(self, suite, exchange):
        self.begin(suite)
        try:
            return self.runner.run(self.pair.observe(exchange))
        except NotStarted as error:
            pytest.fail(str(error), pytrace=False)

    def start(self, suite):
        self.stop()
        self.suite = suite
        itself = os.environ.get("WEFT_DIFFERENTIAL") == "envoy"
        envoy = [self.envoy, "--disable-hot-restart"]
        self.pair = Pair(envoy, envoy if itself else [*WEFT, "--disable-hot-restart"])
        self.failure = None
        try:
            self.runner.run(self.pair.start(suite["config"]))
        except NotStarted as error:
            self.failure = error

    def stop(self):
        if self.pair is not None:
            self.pair.stop()
            self.runner.run(asyncio.sleep(0.01))
            self.pair = None

    def close(self):
        self.stop()
        self.runner.close()


@pytest.fixture(scope="session")
def pairs():
    made = Pairs()
    yield made
    made.close()
