"""What a matcher tree did, told while it does it, for whoever wants to explain the outcome.

Carrying traffic passes no trace, which costs one test per predicate.
"""

from dataclasses import dataclass
from typing import Any, Final

NO: Final = 0
YES: Final = 1
UNDECIDED: Final = 2
"""A value is not known yet, or never will be at this point."""

_WORDS: Final = ("no", "yes", "undecided")
_LONGEST: Final = 200
"""Characters of a value that are shown."""


@dataclass(frozen=True, slots=True)
class Step:
    """One question that was asked."""

    depth: int
    """How many trees are around it; 0 for the outermost."""
    question: str
    """What was wanted: ``request header x-a is '1'``."""
    seen: str | None
    """The value that was there; None for none."""
    verdict: int
    """NO, YES or UNDECIDED."""

    def describe(self) -> str:
        seen = "absent" if self.seen is None else repr(self.seen)
        return f"{'  ' * self.depth}{self.question}: {_WORDS[self.verdict]}, it is {seen}"


class Trace:
    """Gathers steps, in the order in which they were taken."""

    __slots__ = ("depth", "skipped", "steps")

    def __init__(self) -> None:
        self.depth: int = 0
        self.steps: list[Step] = []
        self.skipped: list[Any] = []
        """Actions that matched under ``keep_matching``, which goes on all the same."""

    def asked(self, question: str, seen: Any, verdict: int) -> None:
        """``seen``: bytes, a JSON-like value, None for nothing (or not yet)."""
        text: str | None = None
        if isinstance(seen, bytes):
            text = seen.decode("utf-8", "replace")
        elif seen is not None and verdict != UNDECIDED:
            text = str(seen)
        if text is not None and len(text) > _LONGEST:
            text = text[:_LONGEST] + "..."
        self.steps.append(Step(self.depth, question, text, verdict))
