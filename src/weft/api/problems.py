"""Problems of a configuration: gathered with their places, raised once.

A :class:`Where` is a place in a configuration (a path in proto field names, snake_case, such as
``static_resources.listeners[0].filter_chains[2]``) together with the list that problems go to.
Everything that turns protobuf into settings takes one and hands a longer one down::

    for i, chain in enumerate(listener.filter_chains):
        chain_settings(chain, where.field("filter_chains").item(i))
"""

from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong, and where."""

    path: str
    """In proto field names; empty for the whole file."""
    text: str
    file: str = ""
    line: int = 0
    """1-based; 0 when the file has no lines (binary) or the place is unknown."""
    column: int = 0
    warning: bool = False

    def __str__(self) -> str:
        place = self.file
        if self.line:
            place += f":{self.line}:{self.column}"
        return ": ".join(part for part in (place, self.path, self.text) if part)


class ConfigError(Exception):
    """A configuration that cannot be used.  ``problems`` is never empty."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = problems


Locate = Callable[[str], tuple[str, int, int]]
"""From a path to the file, line and column of the nearest known ancestor."""


@dataclass(slots=True)
class Problems:
    """The list that a whole load gathers into."""

    locate: Locate | None = None
    items: list[Problem] = field(default_factory=list)

    def add(self, path: str, text: str, *, warning: bool = False) -> None:
        file, line, column = self.locate(path) if self.locate else ("", 0, 0)
        self.items.append(Problem(path, text, file, line, column, warning))

    @property
    def errors(self) -> list[Problem]:
        return [item for item in self.items if not item.warning]

    def raise_if_any(self) -> None:
        if self.errors:
            raise ConfigError(self.errors)

    @property
    def where(self) -> "Where":
        return Where("", self)


class Where:
    """A place in a configuration, and the list its problems go to.

    Thousands are made for each one that is asked where it is: a place only knows its last step.
    """

    __slots__ = ("_outer", "_step", "problems")

    def __init__(self, path: str, problems: Problems, outer: "Where | None" = None) -> None:
        """``path`` is written below ``outer``, with its dot or bracket."""
        self._step: str = path
        self._outer: Where | None = outer
        self.problems: Problems = problems

    @property
    def path(self) -> str:
        steps = []
        place: Where | None = self
        while place is not None:
            steps.append(place._step)
            place = place._outer
        steps.reverse()
        return "".join(steps).removeprefix(".")

    def field(self, name: str) -> "Where":
        return Where("." + name, self.problems, self)

    def item(self, index: int) -> "Where":
        return Where(f"[{index}]", self.problems, self)

    def key(self, key: str) -> "Where":
        """An entry of a map field."""
        return Where(f'["{key}"]', self.problems, self)

    def problem(self, text: str) -> None:
        self.problems.add(self.path, text)

    def warn(self, text: str) -> None:
        self.problems.add(self.path, text, warning=True)

    @staticmethod
    def nowhere() -> "Where":
        """For resources that come from no file; problems still gather in ``.problems``."""
        return Where("", Problems())
