"""YAML as Envoy understands it.

Of a plain scalar: ``y``, ``yes``, ``on``, ``true`` and their opposites are booleans, integers may be
hexadecimal or octal (``0x1f``, ``010``) and are numbers as long as they fit 32 bits, ``~`` and
``null`` are null, and everything else is a string: ``1.5`` too, which a number field reads all the
same.  Of a key that is given twice the last one counts; a key tagged ``!ignore`` is a place to put
anchors; there are no merge keys.

The events come from libyaml; the tree is built on a stack of our own, so no depth of nesting can
exhaust the C stack.  Aliases share nodes; how large the tree would be without sharing is limited,
so that a file of a kilobyte cannot mean a terabyte.
"""

import re
from typing import Any, Final

import yaml
from yaml.cyaml import CParser  # type: ignore[attr-defined]  # the stubs do not export it

from weft.api.document import BOOL, LIST, MAP, MAX_NESTING, NULL, NUMBER, STRING, DocumentError, Node

MAX_ALIAS_GROWTH: Final = 1_000_000
"""Nodes that expanding the aliases of one document may add."""

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
