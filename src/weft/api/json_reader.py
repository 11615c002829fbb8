"""JSON as protobuf's JSON parser reads it for Envoy, which is looser than the RFC.

Single quotes, bare field names, a comma before the end and control characters in strings are taken;
comments, ``NaN`` and leading zeros are not.  Fields that are given twice stay in the tree twice:
what that means depends on the field.
"""

import json
import re
from typing import Any, Final

from weft.api.document import BOOL, LIST, MAP, MAX_NESTING, NULL, NUMBER, STRING, DocumentError, Node

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


def quick_json(text: str) -> Node | None:
    """The same tree without places, by the standard library's reader: several times as fast.

    None for what that reader does not read, or might read otherwise than :func:`parse_json`.
    """
    if "\\u" in text:
        return None
    try:
        return _quick_node(_QUICK.decode(text))
    except (ValueError, RecursionError):
        return None


def _quick_number(text: str) -> Node:
    return Node(NUMBER, text, 0, 0)


def _no_constant(text: str) -> Any:
    raise ValueError(f"{text} is no number")


def _quick_object(pairs: list[tuple[str, Any]]) -> Node:
    node = Node(MAP, "", 0, 0)
    node.pairs = [(_quick_key(key), _quick_node(value)) for key, value in pairs]
    return node


_KEYS: Final[dict[str, Node]] = {}


def _quick_key(text: str) -> Node:
    """The same names come again and again, and without a place one is like the other."""
    node = _KEYS.get(text)
    if node is None:
        if len(_KEYS) > 2000:
            _KEYS.clear()
        node = _KEYS[text] = Node(STRING, text, 0, 0)
    return node


def _quick_node(value: Any) -> Node:
    kind = type(value)
    if kind is str:
        return Node(STRING, value, 0, 0)
    if kind is Node:
        found: Node = value
        return found
    if kind is list:
        node = Node(LIST, "", 0, 0)
        node.items = [_quick_node(inner) for inner in value]
        return node
    if kind is bool:
        return Node(BOOL, "true" if value else "false", 0, 0)
    return Node(NULL, "null", 0, 0)


_QUICK: Final = json.JSONDecoder(
    object_pairs_hook=_quick_object,
    parse_int=_quick_number,
    parse_float=_quick_number,
    parse_constant=_no_constant,
)


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
