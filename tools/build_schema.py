"""Make ``src/weft/api/schema.bin``, the configuration schema that the package carries.

Envoy's v3 types come from the ``xds-protos`` distribution, which is needed to build and never to
run.  Its generated modules are *read*, not imported: each holds its file descriptor as one bytes
literal.  From those we keep the v3 files and what they depend on, take every option out of them,
and store the options that matter at run time (validation rules, deprecation, sensitivity) as a
small table beside them, so that loading needs no reflection on options at all.

Layout, read by :mod:`weft.api.schema`::

    b"WEFTSCH1"  length of the index (u32, little endian)  index (JSON)  blobs

The index names for every file its package, its imports and its place among the blobs (in an order
in which every import stands before its user), and for every package the place of its rules.

``python tools/build_schema.py [OUTPUT]`` in an environment with ``xds-protos`` and ``protobuf``.
"""

import ast
import importlib.metadata
import json
import os
import pathlib
import re
import struct
import sys
from collections.abc import Iterator
from typing import Any

MAGIC = b"WEFTSCH1"
HERE = pathlib.Path(__file__).resolve().parent.parent
OUTPUT = HERE / "src" / "weft" / "api" / "schema.bin"

ROOTS = ("xds/", "udpa/", "google/protobuf/", "google/rpc/status.proto")
"""Kept whatever they are, beside ``envoy/**/v3``."""

NEWER = pathlib.Path(__file__).resolve().with_name("newer.proto")
"""Definitions that xds-protos does not have yet; the form is explained there."""


def serialized_files() -> dict[str, bytes]:
    """Every file descriptor of xds-protos and of the protobuf run time, by proto file name."""
    found: dict[str, bytes] = {}
    for distribution in ("xds-protos", "protobuf"):
        for file in importlib.metadata.files(distribution) or ():
            if not file.name.endswith("_pb2.py"):
                continue
            literal = _descriptor_literal(pathlib.Path(str(file.locate())).read_text("utf-8"))
            if literal is not None:
                name = str(file)[: -len("_pb2.py")] + ".proto"
                found.setdefault(name, literal)
    return found


def _descriptor_literal(source: str) -> bytes | None:
    for node in ast.walk(ast.parse(source)):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr == "AddSerializedFile"
            and isinstance(node.args[0], ast.Constant)
            and isinstance(node.args[0].value, bytes)
        ):
            return node.args[0].value
    return None


def wanted(name: str) -> bool:
    if name.startswith("envoy/"):
        return "v3" in name.split("/")
    return name.startswith(ROOTS) and not name.startswith("google/protobuf/compiler/")


_FIELD = re.compile(
    r"(?P<label>repeated |optional )?(?:map<(?P<key>\w+), (?P<value>[\w.]+)>|(?P<type>[\w.]+)) (?P<name>\w+) = (?P<number>\d+);"
    r"(?:\s*// (?P<rules>\{.*\}))?"
)
_ENUM_VALUE = re.compile(r"(?P<name>\w+) = (?P<number>-?\d+);")
_OPENING = re.compile(r"(?P<kind>message|enum|oneof) (?P<name>\w+) \{(?P<rest>.*)")


class Newer:
    """Adds the definitions of ``newer.proto`` to file descriptors."""

    def __init__(self, files: dict[str, Any]) -> None:
        self._files = files
        self._rules: dict[tuple[str, str], dict[str, Any]] = {}
        self._types: list[tuple[Any, Any, str]] = []
        """Fields whose type is named but not resolved: file, field, name."""

    def add(self, text: str) -> dict[tuple[str, str], dict[str, Any]]:
        """Rules of what was added, by package and full name of the message."""
        from google.protobuf import descriptor_pb2

        file: Any = None
        stack: list[tuple[str, Any]] = []
        """What is open: (message, enum or oneof; the descriptor, or the oneof's index)."""
        names: list[str] = []
        for line in map(str.strip, text.splitlines()):
            if line.startswith("// in "):
                path = line.removeprefix("// in ")
                if path not in self._files:
                    self._files[path] = descriptor_pb2.FileDescriptorProto(name=path, syntax="proto3")
                file = self._files[path]
            elif line.startswith("package "):
                file.package = line.removeprefix("package ").removesuffix(";")
            elif line == "}":
                if stack.pop()[0] != "oneof":
                    names.pop()
            elif opening := _OPENING.fullmatch(line):
                self._open(file, stack, names, opening)
            elif stack and stack[-1][0] == "enum":
                value = _ENUM_VALUE.fullmatch(line)
                assert value is not None, line
                if value["name"] not in {known.name for known in stack[-1][1].value}:
                    stack[-1][1].value.add(name=value["name"], number=int(value["number"]))
            elif line and not line.startswith("//"):
                found = _FIELD.fullmatch(line)
                assert found is not None, line
                self._field(file, stack, names, found)
        self._resolve()
        return self._rules

    def _open(self, file: Any, stack: list[tuple[str, Any]], names: list[str], opening: Any) -> None:
        kind, name = opening["kind"], opening["name"]
        if kind == "oneof":
            message = stack[-1][1]
            known = [oneof.name for oneof in message.oneof_decl]
            if name not in known:
                message.oneof_decl.add(name=name)
                if "required" in opening["rest"]:
                    self._table(file, names)["oneofs"].append(name)
            stack.append((kind, [oneof.name for oneof in message.oneof_decl].index(name)))
            return
        scope = stack[-1][1] if stack else file
        if kind == "enum":
            siblings = scope.enum_type
        else:
            siblings = scope.nested_type if stack else scope.message_type
        found = next((sibling for sibling in siblings if sibling.name == name), None)
        stack.append((kind, siblings.add(name=name) if found is None else found))
        names.append(name)

    def _table(self, file: Any, names: list[str]) -> dict[str, Any]:
        return self._rules.setdefault(
            (file.package, ".".join([file.package, *names])), {"fields": {}, "oneofs": []}
        )

    def _field(self, file: Any, stack: list[tuple[str, Any]], names: list[str], found: Any) -> None:
        message = next(opened for kind, opened in reversed(stack) if kind == "message")
        name = found["name"]
        if found["rules"]:
            self._table(file, names)["fields"][name] = json.loads(found["rules"])
        if name in {known.name for known in message.field}:
            return
        field = message.field.add(name=name, number=int(found["number"]), label="LABEL_OPTIONAL")
        kind = found["type"]
        if found["key"]:
            entry_name = "".join(part.capitalize() for part in name.split("_")) + "Entry"
            entry = message.nested_type.add(name=entry_name)
            entry.options.map_entry = True
            for number, (part, part_kind) in enumerate((("key", found["key"]), ("value", found["value"])), 1):
                inner = entry.field.add(name=part, number=number, label="LABEL_OPTIONAL")
                self._types.append((file, inner, part_kind))
            kind = ".".join([file.package, *names, entry_name])
        if found["key"] or found["label"] == "repeated ":
            field.label = field.LABEL_REPEATED
        if stack[-1][0] == "oneof":
            field.oneof_index = stack[-1][1]
        elif found["label"] == "optional ":
            field.proto3_optional = True
            field.oneof_index = len(message.oneof_decl)
            message.oneof_decl.add(name=f"_{name}")
        self._types.append((file, field, kind))

    def _resolve(self) -> None:
        known: dict[str, tuple[bool, Any]] = {}
        """Full name -> (whether it is an enum, its file)."""

        def collect(scope: str, file: Any, messages: Any, enums: Any) -> None:
            known.update({f"{scope}.{enum.name}": (True, file) for enum in enums})
            for message in messages:
                known[f"{scope}.{message.name}"] = (False, file)
                collect(f"{scope}.{message.name}", file, message.nested_type, message.enum_type)

        for file in self._files.values():
            collect(file.package, file, file.message_type, file.enum_type)
        for file in {file.name: file for file, _, _ in self._types}.values():
            for message in file.message_type:
                _order_oneofs(message)
        for file, field, name in self._types:
            if "." not in name:
                field.type = getattr(field, f"TYPE_{name.upper()}")
                continue
            is_enum, home = known[name]
            field.type = field.TYPE_ENUM if is_enum else field.TYPE_MESSAGE
            field.type_name = f".{name}"
            if home.name != file.name and home.name not in file.dependency:
                file.dependency.append(home.name)


def _order_oneofs(message: Any) -> None:
    """Those that stand for ``optional`` go last, as descriptors must have them."""
    optional = {field.oneof_index for field in message.field if field.proto3_optional}
    order = sorted(range(len(message.oneof_decl)), key=lambda number: (number in optional, number))
    names = [message.oneof_decl[number].name for number in order]
    for oneof, name in zip(message.oneof_decl, names, strict=True):
        oneof.name = name
    for field in message.field:
        if field.HasField("oneof_index"):
            field.oneof_index = order.index(field.oneof_index)
    for nested in message.nested_type:
        _order_oneofs(nested)


class Build:
    """The files in dependency order, and their rules."""

    def __init__(self) -> None:
        from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

        raw = serialized_files()
        if "envoy/config/bootstrap/v3/bootstrap.proto" not in raw:
            raise SystemExit("build_schema: the xds-protos distribution is not installed")
        self.files: dict[str, Any] = {}
        self._raw = {name: descriptor_pb2.FileDescriptorProto.FromString(data) for name, data in raw.items()}
        self._newer_rules = Newer(self._raw).add(NEWER.read_text("utf-8"))
        for name in sorted(self._raw):
            if wanted(name):
                self._take(name)
        # The options of validate.proto and of the annotations are extensions; a pool of our own
        # that holds them can read what the default one keeps as unknown fields.
        pool = descriptor_pool.DescriptorPool()
        for file in self.files.values():
            pool.AddSerializedFile(file.SerializeToString())
        self._pool = pool
        self._options = {
            kind: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"google.protobuf.{kind}"))
            for kind in ("FieldOptions", "OneofOptions", "MessageOptions", "EnumValueOptions")
        }

    def _take(self, name: str) -> None:
        if name in self.files:
            return
        file = self._raw[name]
        for dependency in file.dependency:
            self._take(dependency)
        self.files[name] = file

    def _read(self, kind: str, options: Any) -> dict[str, Any]:
        """Options by name, extensions by full name."""
        message = self._options[kind].FromString(options.SerializeToString())
        return {
            (field.full_name if field.is_extension else field.name): value
            for field, value in message.ListFields()
        }

    def rules(self, file: Any) -> Iterator[tuple[str, dict[str, Any]]]:
        """For every message of ``file`` that has any: (full name, its table)."""
        for enum in file.enum_type:
            yield from self._enum_rules(f"{file.package}.{enum.name}", enum)
        for message in file.message_type:
            yield from self._message_rules(f"{file.package}.{message.name}", message)

    def _message_rules(self, full_name: str, message: Any) -> Iterator[tuple[str, dict[str, Any]]]:
        table: dict[str, Any] = {}
        options = self._read("MessageOptions", message.options)
        if options.get("validate.disabled") or options.get("validate.ignored"):
            table["off"] = 1
        if options.get("deprecated"):
            table["deprecated"] = 1
        required = [
            oneof.name
            for oneof in message.oneof_decl
            if self._read("OneofOptions", oneof.options).get("validate.required")
        ]
        if required:
            table["oneofs"] = required
        fields: dict[str, dict[str, Any]] = {}
        for field in message.field:
            entry: dict[str, Any] = {}
            options = self._read("FieldOptions", field.options)
            for name, value in options.items():
                if name == "validate.rules":
                    rules = _plain(value)
                    if rules:
                        entry["rules"] = rules
                elif name == "deprecated":
                    entry["deprecated"] = 1
                elif name == "udpa.annotations.sensitive":
                    entry["sensitive"] = 1
                elif name == "envoy.annotations.disallowed_by_default":
                    entry["disallowed"] = 1
                elif name == "envoy.annotations.deprecated_at_minor_version":
                    entry["since"] = value
            if entry:
                fields[field.name] = entry
        if fields:
            table["fields"] = fields
        if table:
            yield full_name, table
        for enum in message.enum_type:
            yield from self._enum_rules(f"{full_name}.{enum.name}", enum)
        for nested in message.nested_type:
            yield from self._message_rules(f"{full_name}.{nested.name}", nested)

    def previous(self, full_name: str, message: Any) -> Iterator[tuple[str, str]]:
        """(the name in v2, the name now) of a message and those in it."""
        options = self._read("MessageOptions", message.options)
        if "udpa.annotations.versioning" in options:
            yield options["udpa.annotations.versioning"].previous_message_type, full_name
        for nested in message.nested_type:
            yield from self.previous(f"{full_name}.{nested.name}", nested)

    def _enum_rules(self, full_name: str, enum: Any) -> Iterator[tuple[str, dict[str, Any]]]:
        values = {}
        for value in enum.value:
            options = self._read("EnumValueOptions", value.options)
            if options.get("envoy.annotations.disallowed_by_default_enum"):
                values[value.name] = "disallowed"
            elif options.get("deprecated"):
                values[value.name] = "deprecated"
        if values:
            yield full_name, {"values": values}

    def encode(self) -> bytes:
        blobs: list[bytes] = []
        at = 0

        def place(data: bytes) -> tuple[int, int]:
            nonlocal at
            blobs.append(data)
            at += len(data)
            return at - len(data), len(data)

        numbers = {name: number for number, name in enumerate(self.files)}
        files: list[Any] = []
        rules: dict[str, dict[str, Any]] = {}
        previous: dict[str, str] = {}
        for name, file in self.files.items():
            # WKT packages share one name; what is stored under it is only needed by package.
            rules.setdefault(file.package, {}).update(self.rules(file))
            for message in file.message_type:
                previous.update(self.previous(f"{file.package}.{message.name}", message))
            bare = type(file)()
            bare.CopyFrom(file)
            _strip(bare)
            files.append(
                [name, file.package, *place(bare.SerializeToString()), [numbers[d] for d in file.dependency]]
            )
        for (package, name), table in self._newer_rules.items():
            known = rules[package].setdefault(name, {})
            known["fields"] = known.get("fields", {}) | table["fields"]
            known["oneofs"] = sorted({*known.get("oneofs", ()), *table["oneofs"]})
        index = {
            "files": files,
            "rules": {package: place(_json(table)) for package, table in rules.items() if table},
            "previous": place(_json(previous)),
        }
        head = _json(index)
        return MAGIC + struct.pack("<I", len(head)) + head + b"".join(blobs)


def _json(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=True).encode()


def _plain(message: Any) -> Any:
    """A rules message as JSON: durations and timestamps in nanoseconds, bytes as Latin-1."""
    name = message.DESCRIPTOR.full_name
    if name in ("google.protobuf.Duration", "google.protobuf.Timestamp"):
        return message.seconds * 1_000_000_000 + message.nanos
    table: dict[str, Any] = {}
    for field, value in message.ListFields():
        if field.is_repeated:
            table[field.name] = [_scalar(item) for item in value]
        elif field.message_type is not None:
            table[field.name] = _plain(value)
        elif field.enum_type is not None:
            table[field.name] = field.enum_type.values_by_number[value].name
        else:
            table[field.name] = _scalar(value)
    return table


def _scalar(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("latin-1")
    if hasattr(value, "DESCRIPTOR"):
        return _plain(value)
    return value


def _strip(node: Any) -> None:
    """Take out every option but those that change the wire format or the meaning of a type."""
    for field, value in node.ListFields():
        if field.name == "options":
            kept = {"map_entry": value.map_entry} if getattr(value, "map_entry", False) else {}
            packed = (
                value.packed
                if field.message_type.name == "FieldOptions" and value.HasField("packed")
                else None
            )
            node.ClearField("options")
            if kept:
                node.options.map_entry = True
            if packed is not None:
                node.options.packed = packed
        elif field.name in ("source_code_info", "service"):
            node.ClearField(field.name)
        elif field.message_type is not None:
            for item in value if field.is_repeated else (value,):
                _strip(item)


def is_stale(output: pathlib.Path = OUTPUT) -> bool:
    """Whether there is no schema yet, or one older than this program."""
    newest = max(pathlib.Path(__file__).stat().st_mtime, NEWER.stat().st_mtime)
    return not output.exists() or output.stat().st_mtime < newest


def build(output: pathlib.Path = OUTPUT) -> pathlib.Path:
    data = Build().encode()
    # Replaced whole: a process that is just starting reads the old one or the new one.
    partial = output.with_name(f"{output.name}.{os.getpid()}")
    partial.write_bytes(data)
    partial.replace(output)
    return output


if __name__ == "__main__":
    path = build(pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else OUTPUT)
    print(f"{path}: {path.stat().st_size} bytes")
