"""A whole check: every test of a file, played through a table and compared."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from weft.api.problems import Problems
from weft.proxy.clock import Clock
from weft.proxy.route_check.compare import Assertions, Failure
from weft.proxy.route_check.coverage import Coverage
from weft.proxy.route_check.files import Checked
from weft.proxy.route_check.outcome import play


@dataclass(frozen=True, slots=True)
class Result:
    """One test."""

    name: str
    failures: list[Failure]
    number: int
    """From 0, in the order of the file."""

    @property
    def passed(self) -> bool:
        return not self.failures


@dataclass(frozen=True, slots=True)
class Report:
    """All tests, and what they cover."""

    results: list[Result]
    coverage: Coverage

    @property
    def failed(self) -> list[Result]:
        return [result for result in self.results if not result.passed]


def check(checked: Checked, tests: Any, problems: Problems) -> Report:
    """Run ``tests`` (a ``Validation``).

    A test that cannot be understood is a problem of ``problems``; then none is run, and ConfigError
    raised.
    """
    place = problems.where.field("tests")
    expected = [
        Assertions(test.validate, place.item(number).field("validate"))
        for number, test in enumerate(tests.tests)
    ]
    problems.raise_if_any()
    coverage = Coverage(checked.config, checked.table)
    results = []
    with _clock() as clock:
        for number, test in enumerate(tests.tests):
            outcome = play(checked, test.input, clock)
            results.append(Result(test.test_name, expected[number].failures(outcome, coverage), number))
    return Report(results, coverage)


@contextmanager
def _clock() -> Iterator[Clock]:
    """Header rules may write the time, which is an event loop's."""
    loop = asyncio.new_event_loop()
    try:
        yield Clock(loop)
    finally:
        loop.close()
