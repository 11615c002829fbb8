"""YAML and JSON as trees of nodes that remember their places.

A node says what a value *is* as Envoy understands it, before any field has a say.  For a plain YAML
scalar that means: ``y``, ``yes``, ``on``, ``true`` and their opposites are booleans, integers may
be hexadecimal or octal (``0x1f``, ``010``) and are numbers as long as they fit 32 bits, ``~`` and
``null`` are null, and everything else is a string: ``1.5`` too, which a number field reads all the
same.  Of a key that is given twice the last one counts; a key tagged ``!ignore`` is a place to put
anchors.  JSON follows protobuf's JSON parser, which is looser than the RFC (single quotes, bare
keys, a comma before the end).

The YAML events come from libyaml; the tree is built on a stack of our own, so no depth of nesting
can exhaust the C stack.  Aliases share nodes; how large the tree would be without sharing is
limited, so that a file of a kilobyte cannot mean a terabyte.
"""

import re
from typing import Any, Final

import yaml
from yaml.cyaml import CParser  # type: ignore[attr-defined]  # the stubs do not export it

NULL: Final = 0
BOOL: Final = 1
NUMBER: Final = 2
STRING: Final = 3
LIST: Final = 4
MAP: Final = 5

MAX_NESTING: Final = 400
"""Of YAML and JSON collections.  Messages have a limit of their own, lower than this."""

MAX_ALIAS_GROWTH: Final = 1_000_000
"""Nodes that expanding the aliases of one document may add."""


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

# -- YAML ------------------------------------------------------------------------------------------

_NULLS: Final = frozenset(("", "~", "null", "Null", "NULL"))
_BOOLS: Final = {
    form: text
    for text, names in (("true", ("y", "yes", "true", "on")), ("false", ("n", "no", "false", "off")))
    for name in names
    for form in (name, name.upper(), name.capitalize())
}
_INTEGER: Final = re.compile(r"[+-]?(?:0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*)", re.ASCII)
_INTEGER_STARTS: Final = frozenset("0123456789+-")


class _Open:
    """A collection whose end has not been seen."""

    __slots__ = ("ignored", "key", "node", "seen", "size")

    def __init__(self, node: Node) -> None:
        self.node = node
        self.key: Node | None = None
        self.ignored = False
        self.seen: dict[str, int] = {}
        self.size = 1


def parse_yaml(text: str) -> Node | None:
    """The first document of ``text``; None when there is none."""
    try:
        return _YamlReader(text).read()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        what = error.problem or error.context or "not YAML"
        if error.context and error.problem:
            what = f"{error.problem} ({error.context})"
        if mark is None:
            raise DocumentError(f"not YAML: {what}") from None
        raise DocumentError(f"not YAML: {what}", mark.line + 1, mark.column + 1) from None
    except yaml.reader.ReaderError as error:
        before = text[: error.position] if isinstance(error.position, int) else ""
        line = before.count("\n") + 1
        raise DocumentError(f"not YAML: {error.reason}", line, len(before) - before.rfind("\n")) from None


class _YamlReader:
    def __init__(self, text: str) -> None:
        self._text = text
        self._parser = CParser(text)
        self._stack: list[_Open] = []
        self._anchors: dict[str, tuple[Node, int, Any]] = {}
        self._count = 0

    def read(self) -> Node | None:
        root: Node | None = None
        stack = self._stack
        next_event = self._parser.get_event
        while True:
            event: Any = next_event()
            kind = type(event)
            if kind is yaml.ScalarEvent:
                top = stack[-1] if stack else None
                mark = event.start_mark
                self._count += 1
                if top is not None and top.key is None and top.node.kind == MAP:
                    node = _key(event, mark)
                    top.ignored = event.tag == "!ignore"
                else:
                    node = self._scalar(event, mark)
                size = 1
                if event.anchor is not None:
                    self._anchors[event.anchor] = (node, 1, event)
            elif kind is yaml.MappingStartEvent or kind is yaml.SequenceStartEvent:
                mark = event.start_mark
                if len(stack) >= MAX_NESTING:
                    raise DocumentError(
                        f"nested deeper than {MAX_NESTING} levels", mark.line + 1, mark.column + 1
                    )
                top = stack[-1] if stack else None
                if top is not None and top.key is None and top.node.kind == MAP:
                    raise DocumentError("a key must be a plain value", mark.line + 1, mark.column + 1)
                node = Node(
                    MAP if kind is yaml.MappingStartEvent else LIST, "", mark.line + 1, mark.column + 1
                )
                self._count += 1
                stack.append(_Open(node))
                if event.anchor is not None:
                    # Its size is not known before its end: an alias inside of it is refused by that.
                    self._anchors[event.anchor] = (node, -1, None)
                    stack[-1].node.text = event.anchor
                continue
            elif kind is yaml.MappingEndEvent or kind is yaml.SequenceEndEvent:
                done = stack.pop()
                node, size = done.node, done.size
                if node.text:
                    if node.text in self._anchors and self._anchors[node.text][0] is node:
                        self._anchors[node.text] = (node, size, None)
                    node.text = ""
                if size > self._count + MAX_ALIAS_GROWTH:
                    raise DocumentError("its aliases stand for too much", node.line, node.column)
            elif kind is yaml.AliasEvent:
                node, size = self._alias(event)
            elif kind is yaml.DocumentEndEvent:
                return root
            elif kind is yaml.StreamEndEvent or event is None:
                return None
            else:
                continue
            if not stack:
                root = node
                continue
            top = stack[-1]
            top.size += size
            if top.node.kind == LIST:
                top.node.items.append(node)
            elif top.key is None:
                top.key = node
            else:
                if not top.ignored:
                    _add_pair(top, top.key, node)
                top.key = None
                top.ignored = False

    def _scalar(self, event: Any, mark: Any) -> Node:
        text = event.value
        line, column = mark.line + 1, mark.column + 1
        if event.tag is None:
            if event.style:
                return Node(STRING, text, line, column)
            if text in _NULLS and not self._non_specific(mark):
                return Node(NULL, "null", line, column)
        truth = _BOOLS.get(text)
        if truth is not None and not self._non_specific(mark):
            return Node(BOOL, truth, line, column)
        if text and text[0] in _INTEGER_STARTS and _INTEGER.fullmatch(text) and not self._non_specific(mark):
            digits = text.lstrip("+-")
            if digits[:2] in ("0x", "0X"):
                value = int(digits, 16)
            elif digits[0] == "0":
                value = int(digits, 8)
            else:
                value = int(digits) if len(digits) < 20 else 1 << 64
            if text[0] == "-":
                value = -value
            if -(1 << 63) <= value < 1 << 63:
                kind = NUMBER if -(1 << 31) <= value < 1 << 31 else STRING
                return Node(kind, str(value), line, column)
        return Node(STRING, text, line, column)

    def _non_specific(self, mark: Any) -> bool:
        """Whether the value is tagged ``!``, which libyaml does not tell and which means a string."""
        return self._text[mark.index : mark.index + 2] in ("! ", "!\t", "!\n")

    def _alias(self, event: Any) -> tuple[Node, int]:
        mark = event.start_mark
        line, column = mark.line + 1, mark.column + 1
        found = self._anchors.get(event.anchor)
        if found is None:
            raise DocumentError(f"the alias *{event.anchor} has no anchor before it", line, column)
        node, size, scalar = found
        if size < 0:
            raise DocumentError(f"the alias *{event.anchor} stands inside of its own anchor", line, column)
        top = self._stack[-1] if self._stack else None
        is_key = top is not None and top.key is None and top.node.kind == MAP
        if scalar is not None:
            node = _key(scalar, mark) if is_key else self._scalar(scalar, scalar.start_mark)
            node.line, node.column = line, column
        elif is_key:
            raise DocumentError("a key must be a plain value", line, column)
        return node, size


def _key(event: Any, mark: Any) -> Node:
    text = event.value
    if not event.style and event.tag is None and text in _NULLS:
        text = "null"
    return Node(STRING, text, mark.line + 1, mark.column + 1)


def _add_pair(top: _Open, key: Node, value: Node) -> None:
    node = top.node
    at = top.seen.setdefault(key.text, len(node.pairs))
    if at < len(node.pairs):
        node.repeated = [*node.repeated, key]
        node.pairs[at] = (key, value)
    else:
        node.pairs.append((key, value))


# -- JSON ------------------------------------------------------------------------------------------

_SPACE: Final = re.compile(r"[ \t\r\n]*")
_PLAIN: Final = {
    '"': re.compile(r'[^"\\]*'),
    "'": re.compile(r"[^'\\]*"),
}
_NUMBER: Final = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?", re.ASCII)
_NUMBER_LIKE: Final = re.compile(r"[-+.\w]*", re.ASCII)
_WORD: Final = re.compile(r"[A-Za-z_$][\w$]*", re.ASCII)
_ESCAPES: Final = {
    '"': '"',
    "'": "'",
    "\\": "\\",
    "/": "/",
    "b": "\b",
    "f": "\f",
    "n": "\n",
    "r": "\r",
    "t": "\t",
}
_HEX: Final = re.compile(r"[0-9a-fA-F]{4}")


def parse_json(text: str) -> Node:
    """The one value of ``text``."""
    return _JsonReader(text).read()


class _JsonReader:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._line = 1
        self._line_start = 0
        self._lines_to = 0

    def read(self) -> Node:
        root = self._value(0)
        if self._peek():
            raise self._error("more text after the end of the value")
        return root

    def _value(self, depth: int) -> Node:
        char = self._peek()
        line, column = self._place()
        if char == "{" or char == "[":
            if depth >= MAX_NESTING:
                raise self._error(f"nested deeper than {MAX_NESTING} levels")
            self._at += 1
            node = Node(MAP if char == "{" else LIST, "", line, column)
            if char == "{":
                self._members(node, depth + 1)
            else:
                self._elements(node, depth + 1)
            return node
        if char == '"' or char == "'":
            return Node(STRING, self._string(), line, column)
        if char == "-" or char.isdigit():
            match = _NUMBER.match(self._text, self._at)
            end = _NUMBER_LIKE.match(self._text, self._at)
            assert end is not None
            if match is None or match.end() != end.end():
                raise self._error(f"{end.group()[:40]!r} is not a JSON number")
            self._at = match.end()
            return Node(NUMBER, match.group(), line, column)
        for word, kind in (("true", BOOL), ("false", BOOL), ("null", NULL)):
            if self._text.startswith(word, self._at):
                self._at += len(word)
                return Node(kind, word, line, column)
        raise self._error("expected a value")

    def _members(self, node: Node, depth: int) -> None:
        while self._peek() != "}":
            line, column = self._place()
            char = self._peek()
            if char == '"' or char == "'":
                name = self._string()
            else:
                match = _WORD.match(self._text, self._at)
                if match is None:
                    raise self._error("expected a field name")
                name = match.group()
                self._at = match.end()
            if self._peek() != ":":
                raise self._error("expected ':'")
            self._at += 1
            node.pairs.append((Node(STRING, name, line, column), self._value(depth)))
            if self._peek() == ",":
                self._at += 1
            elif self._peek() != "}":
                raise self._error("expected ',' or '}'")
        self._at += 1

    def _elements(self, node: Node, depth: int) -> None:
        while self._peek() != "]":
            node.items.append(self._value(depth))
            if self._peek() == ",":
                self._at += 1
            elif self._peek() != "]":
                raise self._error("expected ',' or ']'")
        self._at += 1

    def _string(self) -> str:
        text = self._text
        start = self._at
        quote = text[start]
        plain = _PLAIN[quote]
        parts: list[str] = []
        self._at += 1
        while True:
            match = plain.match(text, self._at)
            assert match is not None
            self._at = match.end()
            parts.append(match.group())
            char = text[self._at : self._at + 1]
            if char == quote:
                self._at += 1
                return "".join(parts)
            if not char:
                self._at = start
                raise self._error("a string without an end")
            escape = text[self._at + 1 : self._at + 2]
            if escape == "u":
                parts.append(self._unicode())
            elif escape in _ESCAPES and escape:
                parts.append(_ESCAPES[escape])
                self._at += 2
            else:
                raise self._error(f"unknown escape \\{escape}")

    def _unicode(self) -> str:
        code = self._code_unit()
        if 0xD800 <= code < 0xDC00:
            low = self._code_unit() if self._text.startswith("\\u", self._at) else 0
            if not 0xDC00 <= low < 0xE000:
                raise self._error("half of a surrogate pair")
            code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00)
        elif 0xDC00 <= code < 0xE000:
            raise self._error("half of a surrogate pair")
        return chr(code)

    def _code_unit(self) -> int:
        match = _HEX.match(self._text, self._at + 2)
        if match is None:
            raise self._error("\\u needs four hexadecimal digits")
        self._at = match.end()
        return int(match.group(), 16)

    def _peek(self) -> str:
        match = _SPACE.match(self._text, self._at)
        assert match is not None
        self._at = match.end()
        return self._text[self._at : self._at + 1]

    def _place(self) -> tuple[int, int]:
        newlines = self._text.count("\n", self._lines_to, self._at)
        if newlines:
            self._line += newlines
            self._line_start = self._text.rfind("\n", 0, self._at) + 1
        self._lines_to = self._at
        return self._line, self._at - self._line_start + 1

    def _error(self, text: str) -> DocumentError:
        if self._at >= len(self._text):
            text = f"{text}, not the end of the text"
        return DocumentError(f"not JSON: {text}", *self._place())
