"""Documents as trees of nodes that remember their places.

A node says what a value *is*, before any field has a say.  :mod:`weft.api.yaml_reader` and
:mod:`weft.api.json_reader` make them from text, :mod:`weft.api.upgrade` rewrites old ones, and
:mod:`weft.api.convert` turns them into messages.
"""

from typing import Final

NULL: Final = 0
BOOL: Final = 1
NUMBER: Final = 2
STRING: Final = 3
LIST: Final = 4
MAP: Final = 5

MAX_NESTING: Final = 400
"""Of YAML and JSON collections.  Messages have a limit of their own, lower than this."""


class DocumentError(Exception):
    """Text that cannot be read at all: what, and where (1-based)."""

    def __init__(self, text: str, line: int = 0, column: int = 0) -> None:
        super().__init__(text)
        self.text = text
        self.line = line
        self.column = column


class Node:
    """One value.  ``text`` is that of a scalar (of a number its digits, of a boolean true/false)."""

    __slots__ = ("column", "items", "kind", "line", "pairs", "repeated", "text")

    def __init__(self, kind: int, text: str, line: int, column: int) -> None:
        self.kind = kind
        self.text = text
        self.line = line
        """1-based; 0 for a node that was not read from text."""
        self.column = column
        self.items: list[Node] = [] if kind == LIST else _NO_ITEMS
        """Of a list."""
        self.pairs: list[tuple[Node, Node]] = [] if kind == MAP else _NO_PAIRS
        """Of a mapping: keys are strings."""
        self.repeated: list[Node] = _NO_ITEMS
        """Of a mapping: keys that were given more than once (YAML only; the last is in ``pairs``)."""

    @staticmethod
    def scalar(kind: int, text: str) -> "Node":
        return Node(kind, text, 0, 0)

    @staticmethod
    def mapping(pairs: "list[tuple[Node, Node]]") -> "Node":
        node = Node(MAP, "", 0, 0)
        node.pairs = pairs
        return node

    @staticmethod
    def sequence(items: "list[Node]") -> "Node":
        node = Node(LIST, "", 0, 0)
        node.items = items
        return node

    def get(self, name: str) -> "Node | None":
        """The value of a key of a mapping; the last one when there are several."""
        found = None
        for key, value in self.pairs:
            if key.text == name:
                found = value
        return found

    def describe(self) -> str:
        """For problems: ``the string 'x'``, ``a list``."""
        if self.kind == STRING:
            text = self.text if len(self.text) <= 40 else self.text[:37] + "..."
            return f"the string {text!r}"
        if self.kind in (NUMBER, BOOL):
            return f"the {'number' if self.kind == NUMBER else 'boolean'} {self.text}"
        return {NULL: "null", LIST: "a list", MAP: "a mapping"}[self.kind]

    def __repr__(self) -> str:
        return f"Node({self.line}:{self.column} {self.describe()})"


_NO_ITEMS: Final[list[Node]] = []
_NO_PAIRS: Final[list[tuple[Node, Node]]] = []
"""Shared by all nodes that have none; never changed."""
