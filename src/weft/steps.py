"""Long work in steps, so that what shares the event loop with it gets its turns.

The work is a generator: it yields how much it has done since it last yielded, in units of roughly two
microseconds, and returns its result.  Whoever runs it decides whether to pause; amounts and not times
decide, so that a run on a virtual clock is the same every time.
"""

import asyncio
from collections.abc import Generator
from typing import Final, TypeVar

T = TypeVar("T")
Steps = Generator[int, None, T]

_PAUSE: Final = 1000
"""Units between two pauses: two or three milliseconds."""


def at_once(steps: Steps[T]) -> T:
    """The result, without a pause."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: T = end.value
            return result


async def patiently(steps: Steps[T]) -> T:
    """The result, with a turn for others in between."""
    done = 0
    while True:
        try:
            done += next(steps)
        except StopIteration as end:
            result: T = end.value
            return result
        if done >= _PAUSE:
            done = 0
            await asyncio.sleep(0)
