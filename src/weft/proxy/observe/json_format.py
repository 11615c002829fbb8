"""Formats of whole messages: JSON, and ``SubstitutionFormatString`` with its choice of both.

A JSON format is an object whose strings are format strings.  A string that is exactly one command
gives a typed value; any other gives a string.  Keys come out sorted.
"""

import os
from collections.abc import Sequence
from typing import Any, Final

from weft.api.problems import Where
from weft.proxy.clock import Clock
from weft.proxy.observe.commands import Operator, Table
from weft.proxy.observe.commands_http import EXTENSIONS, LocalReplyBody
from weft.proxy.observe.formatter import Format, LineFormat, compile_format
from weft.proxy.observe.json_text import json_bytes, json_string
from weft.proxy.observe.stream_info import StreamInfo

_Bytes = bytes


class _Node:
    def json(self, info: StreamInfo, clock: Clock) -> bytes | None:
        """JSON text; None for null."""
        raise NotImplementedError


class _Leaf(_Node):
    def __init__(self, format: Format) -> None:
        self.format = format
        self._literal = None if format.literal is None else json_string(format.literal)

    def json(self, info: StreamInfo, clock: Clock) -> bytes | None:
        if self._literal is not None:
            return self._literal
        single = self.format.single
        if single is None:
            return json_string(self.format.bytes(info, clock))
        value = single.value(info, clock)
        if value is None:
            return None
        return json_string(value) if isinstance(value, bytes) else json_bytes(value)


class _Fixed(_Node):
    """A number, boolean or null of the configuration."""

    def __init__(self, value: Any) -> None:
        self._json = None if value is None else json_bytes(value)

    def json(self, info: StreamInfo, clock: Clock) -> bytes | None:
        return self._json


class _Object(_Node):
    def __init__(self, members: list[tuple[bytes, _Node]], omit_empty: bool) -> None:
        self._members = members
        """(``"key":``, node), sorted by key."""
        self._omit_empty = omit_empty

    def json(self, info: StreamInfo, clock: Clock) -> bytes | None:
        out: list[bytes] = []
        omit = self._omit_empty
        for key, node in self._members:
            text = node.json(info, clock)
            if text is None:
                if omit:
                    continue
                text = b"null"
            out.append(key + text)
        if omit and not out:
            return None
        return b"{" + b",".join(out) + b"}"


class _List(_Node):
    def __init__(self, items: list[_Node], omit_empty: bool) -> None:
        self._items = items
        self._omit_empty = omit_empty

    def json(self, info: StreamInfo, clock: Clock) -> bytes | None:
        out: list[bytes] = []
        for node in self._items:
            text = node.json(info, clock)
            if text is not None:
                out.append(text)
            elif not self._omit_empty:
                out.append(b"null")
        return b"[" + b",".join(out) + b"]"


class JsonFormat(LineFormat):
    """A compiled JSON format; ``bytes`` gives one line."""

    def __init__(self, root: _Node, operators: list[Operator]) -> None:
        super().__init__()
        self._root = root
        self.operators = operators

    def bytes(self, info: StreamInfo, clock: Clock) -> _Bytes:
        return (self._root.json(info, clock) or b"{}") + b"\n"


class _Compiler:
    """Walks a ``google.protobuf.Struct``; one per format."""

    def __init__(self, omit_empty: bool, extensions: Sequence[Table]) -> None:
        self._omit_empty = omit_empty
        self._extensions = extensions
        self.operators: list[Operator] = []

    def object(self, struct: Any, where: Where) -> _Node:
        members = [
            (json_string(key.encode()) + b":", self.node(struct.fields[key], where.key(key)))
            for key in sorted(struct.fields)
        ]
        return _Object(members, self._omit_empty)

    def node(self, value: Any, where: Where) -> _Node:
        kind = value.WhichOneof("kind")
        if kind == "string_value":
            format = compile_format(
                value.string_value, where, omit_empty=self._omit_empty, extensions=self._extensions
            )
            self.operators.extend(format.operators)
            return _Leaf(format)
        if kind == "struct_value":
            return self.object(value.struct_value, where)
        if kind == "list_value":
            items = [self.node(item, where.item(i)) for i, item in enumerate(value.list_value.values)]
            return _List(items, self._omit_empty)
        if kind == "number_value":
            return _Fixed(float(value.number_value))
        if kind == "bool_value":
            return _Fixed(bool(value.bool_value))
        return _Fixed(None)


def compile_json(
    struct: Any, where: Where, *, omit_empty: bool = False, extensions: Sequence[Table] = ()
) -> JsonFormat:
    """The format of a ``google.protobuf.Struct`` of format strings."""
    compiler = _Compiler(omit_empty, extensions)
    return JsonFormat(compiler.object(struct, where), compiler.operators)


class BodyFormat:
    """A compiled ``SubstitutionFormatString``: for log lines, and for bodies of local replies."""

    def __init__(self, format: LineFormat, content_type: bytes) -> None:
        self.format = format
        self.content_type = content_type
        """What a reply with this body declares."""
        self._local_bodies = [op for op in format.operators if isinstance(op, LocalReplyBody)]

    def body(self, info: StreamInfo, clock: Clock, local_body: bytes) -> bytes:
        """The body in place of ``local_body``, which ``%LOCAL_REPLY_BODY%`` stands for."""
        for operator in self._local_bodies:
            operator.body = local_body
        try:
            return self.format.bytes(info, clock)
        finally:
            for operator in self._local_bodies:
                operator.body = b""


_TEXT_TYPE: Final = b"text/plain"
_JSON_TYPE: Final = b"application/json"


def substitution_format(message: Any, where: Where) -> BodyFormat:
    """From ``envoy.config.core.v3.SubstitutionFormatString``."""
    extensions = _extensions(message.formatters, where.field("formatters"))
    omit_empty = bool(message.omit_empty_values)
    kind = message.WhichOneof("format")
    if kind == "json_format":
        json_format = compile_json(
            message.json_format, where.field("json_format"), omit_empty=omit_empty, extensions=extensions
        )
        return BodyFormat(json_format, message.content_type.encode() or _JSON_TYPE)
    if kind == "text_format_source":
        here = where.field("text_format_source")
        text = _source(message.text_format_source, here)
    else:
        here = where.field("text_format")
        text = message.text_format
    format = compile_format(text, here, omit_empty=omit_empty, extensions=extensions)
    return BodyFormat(format, message.content_type.encode() or _TEXT_TYPE)


def _extensions(formatters: Any, where: Where) -> list[Table]:
    from weft.api.unpack import type_name

    tables: list[Table] = []
    for i, formatter in enumerate(formatters):
        name = type_name(formatter.typed_config)
        table = EXTENSIONS.get(name)
        if table is None:
            where.item(i).problem(f"not supported yet: formatter '{formatter.name}' ({name})")
        else:
            tables.append(table)
    return tables


def _source(source: Any, where: Where) -> str:
    """The text of a ``DataSource``."""
    kind = source.WhichOneof("specifier")
    if kind == "inline_string":
        return str(source.inline_string)
    if kind == "inline_bytes":
        return bytes(source.inline_bytes).decode("utf-8", "replace")
    if kind == "environment_variable":
        value = os.environ.get(source.environment_variable)
        if value is None:
            where.problem(f"Environment variable doesn't exist: {source.environment_variable}")
        return value or ""
    if kind == "filename":
        try:
            with open(source.filename, encoding="utf-8", errors="replace") as file:
                return file.read()
        except OSError as error:
            where.problem(f"Invalid path: {source.filename} ({error.strerror})")
    return ""
