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
import struct
import sys
from collections.abc import Iterator
from typing import Any

MAGIC = b"WEFTSCH1"
HERE = pathlib.Path(__file__).resolve().parent.parent
OUTPUT = HERE / "src" / "weft" / "api" / "schema.bin"

ROOTS = ("xds/", "udpa/", "google/protobuf/", "google/rpc/status.proto")
"""Kept whatever they are, beside ``envoy/**/v3``."""

NEWER = {
    "envoy/config/route/v3/route_components.proto": {
        "CookieMatcher": (
            ("name", 1, "string", ""),
            ("string_match", 2, ".envoy.type.matcher.v3.StringMatcher", ""),
            ("invert_match", 3, "bool", ""),
        ),
        "RouteMatch": (("cookies", 17, ".envoy.config.route.v3.CookieMatcher", "repeated"),),
        "RedirectAction": (("path_rewrite", 10, "string", "path_rewrite_specifier"),),
        "RetryPolicy": (("refresh_cluster_on_retry", 14, "bool", ""),),
    },
}
"""Fields that Envoy has and xds-protos does not have yet, by file and message: name, number, type,
and ``repeated`` or the oneof it belongs to."""
NEWER_RULES: dict[str, dict[str, Any]] = {
    "envoy.config.route.v3.CookieMatcher": {
        "fields": {
            "name": {"rules": {"string": {"min_len": 1, "max_bytes": 1024}}},
            "string_match": {"rules": {"message": {"required": True}}},
        }
    },
}
"""Their validation rules, by message."""


def add_newer(files: dict[str, Any]) -> None:
    """Put NEWER into the file descriptors, where they are not there by now."""
    for file_name, messages in NEWER.items():
        file = files[file_name]
        for message_name, fields in messages.items():
            found = [message for message in file.message_type if message.name == message_name]
            message = found[0] if found else file.message_type.add(name=message_name)
            known = {field.name for field in message.field}
            oneofs = [oneof.name for oneof in message.oneof_decl]
            for name, number, kind, rest in fields:
                if name in known:
                    continue
                field = message.field.add(name=name, number=number)
                field.label = field.LABEL_REPEATED if rest == "repeated" else field.LABEL_OPTIONAL
                if kind.startswith("."):
                    field.type = field.TYPE_MESSAGE
                    field.type_name = kind
                else:
                    field.type = field.TYPE_BOOL if kind == "bool" else field.TYPE_STRING
                if rest in oneofs:
                    field.oneof_index = oneofs.index(rest)


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


class Build:
    """The files in dependency order, and their rules."""

    def __init__(self) -> None:
        from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

        raw = serialized_files()
        if "envoy/config/bootstrap/v3/bootstrap.proto" not in raw:
            raise SystemExit("build_schema: the xds-protos distribution is not installed")
        self.files: dict[str, Any] = {}
        self._raw = {name: descriptor_pb2.FileDescriptorProto.FromString(data) for name, data in raw.items()}
        add_newer(self._raw)
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
        for name, table in NEWER_RULES.items():
            rules[name.rpartition(".")[0]].setdefault(name, table)
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
    return not output.exists() or output.stat().st_mtime < pathlib.Path(__file__).stat().st_mtime


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
