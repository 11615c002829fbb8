"""Text protobuf: protobuf's own parser, told of more than one problem, and of reserved names.

The parser stops at the first field it does not know.  Such a field is blanked out and the text read
again, so that every unknown field is told.  One whose name the type has *reserved* (it had such a
field once) is skipped without a problem, as the C++ parser does it.
"""

import difflib
import re
from typing import Any, Final

from google.protobuf import text_format

from weft.api.schema import find_type, schema

MAX_UNKNOWN: Final = 100
"""Unknown fields that are told of one text."""

_EXPANDED_ANY: Final = re.compile(r"\[[^\]\[/]+/\s*([\w.]+)\s*\]")
_NO_FIELD: Final = re.compile(r'Message type "([^"]+)" has no field named "([^"]+)"')
_PLACE: Final = re.compile(r"^\d+:\d+ : ")
_TOKEN: Final = re.compile(
    r"""(?P<space>(?:\s|\#[^\n]*)+)"""
    r"""|(?P<string>"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')"""
    r"""|(?P<open>[{<\[])|(?P<close>[}>\]])|(?P<word>[^\s"'#{}<>\[\]:,;]+)|(?P<other>.)""",
    re.DOTALL,
)

Finding = tuple[str, int, int, bool]
"""Text, line, column (1-based), whether it is a warning."""


def parse_text(text: str, message: Any) -> list[Finding]:
    """Fill ``message`` from ``text``; what is wrong with it."""
    for name in set(_EXPANDED_ANY.findall(text)):
        find_type(name)  # so that the pool knows it
    findings: list[Finding] = []
    while len(findings) < MAX_UNKNOWN:
        try:
            message.Clear()
            text_format.Parse(text, message, descriptor_pool=schema().pool)
            return findings
        except text_format.ParseError as error:
            line, column = error.GetLine() or 0, error.GetColumn() or 0
            unknown = _NO_FIELD.search(str(error))
            end = _end_of_field(text, line, column) if unknown else None
            if unknown is None or end is None:
                what = _PLACE.sub("", str(error)).partition("\n")[0]
                return [*findings, (f"not a text protobuf: {what}", line, column, False)]
            findings.append((*_unknown(unknown.group(1), unknown.group(2), line, column),))
            text = _blanked(text, *end)
        except (RecursionError, ValueError, TypeError, KeyError) as error:
            return [*findings, (f"not a text protobuf: {error}", 0, 0, False)]
    return findings


def _unknown(type_name: str, name: str, line: int, column: int) -> Finding:
    descriptor = find_type(type_name)
    names: list[str] = []
    if descriptor is not None:
        from google.protobuf import descriptor_pb2

        proto = descriptor_pb2.DescriptorProto()
        descriptor.CopyToProto(proto)
        if name in proto.reserved_name:
            return f"the old field {name!r} of {type_name} is skipped", line, column, True
        names = [field.name for field in descriptor.fields]
    near = difflib.get_close_matches(name, names, 1, 0.6)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"unknown field {name!r} in {type_name}{hint}", line, column, False


def _end_of_field(text: str, line: int, column: int) -> tuple[int, int] | None:
    """From where to where the field goes that begins (or whose name ends) at a place."""
    start = 0
    for _ in range(line - 1):
        start = text.find("\n", start) + 1
    start += column - 1
    at, depth, value, first = start, 0, False, True
    while at < len(text):
        token = _TOKEN.match(text, at)
        if token is None:
            return None
        kind = token.lastgroup
        if kind == "close":
            depth -= 1
            if depth < 0:
                return (start, at) if value else None
            if depth == 0:
                return start, token.end()
        elif kind == "open":
            depth += 1
            value = True
        elif kind in ("string", "word") and depth == 0:
            if value and not (kind == "string" and text[at - 1 : at] in " \t\n\"'"):
                return start, at
            value = not first
        elif kind == "other" and depth == 0 and token.group() in ",;":
            return (start, at) if value else None
        if kind != "space":
            first = False
        at = token.end()
    return (start, at) if value and depth == 0 else None


def _blanked(text: str, start: int, end: int) -> str:
    """Spaces in place of a part; lines stay where they are."""
    return text[:start] + re.sub(r"[^\n]", " ", text[start:end]) + text[end:]
