"""The configuration schema: every message type that a configuration may name.

A private descriptor pool over ``schema.bin`` (made by ``tools/build_schema.py`` when the package is
built, so nothing generated is imported and no other package's descriptors can clash with ours).
Files are added package by package when a type of theirs is first asked for: a sidecar that uses
forty packages does not pay for two hundred.  The validation rules lie beside the descriptors and
are read in the same lazy way; :mod:`weft.api.validate` gives them their meaning.
"""

import functools
import json
import os.path
import struct
from typing import Any, Final

from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

_MAGIC: Final = b"WEFTSCH1"


class _File:
    __slots__ = ("added", "at", "imports", "size")

    def __init__(self, at: int, size: int, imports: list[int]) -> None:
        self.at = at
        self.size = size
        self.imports = imports
        self.added = False


class Schema:
    """The pool, and what of it has been loaded so far."""

    def __init__(self, data: bytes) -> None:
        if data[:8] != _MAGIC:
            raise RuntimeError("weft/api/schema.bin is not a schema; rebuild it with tools/build_schema.py")
        (size,) = struct.unpack_from("<I", data, 8)
        index = json.loads(data[12 : 12 + size])
        self._data = memoryview(data)[12 + size :]
        self._files: list[_File] = []
        self._packages: dict[str, list[int]] = {}
        for number, (_, package, at, length, imports) in enumerate(index["files"]):
            self._files.append(_File(at, length, imports))
            self._packages.setdefault(package, []).append(number)
        self._rule_places: dict[str, list[int]] = index["rules"]
        self._rules: dict[str, dict[str, Any]] = {}
        self._previous_place: list[int] = index["previous"]
        self.pool = DescriptorPool()

    def find(self, full_name: str) -> Any | None:
        """The descriptor of a message type, or None."""
        package = full_name.rpartition(".")[0]
        while package and package not in self._packages:
            package = package.rpartition(".")[0]  # a nested type
        if not package:
            return None
        self._load(package)
        try:
            return self.pool.FindMessageTypeByName(full_name)
        except KeyError:
            return None

    def rules(self, descriptor: Any) -> dict[str, Any]:
        """The rule table of a message or enum type; empty when it has none."""
        package = descriptor.file.package
        table = self._rules.get(package)
        if table is None:
            at, size = self._rule_places.get(package, (0, 0))
            table = self._rules[package] = json.loads(bytes(self._data[at : at + size])) if size else {}
        found: dict[str, Any] = table.get(descriptor.full_name, {})
        return found

    def previous_names(self) -> dict[str, str]:
        """From the full name of a v2 message type to that of its v3 successor."""
        at, size = self._previous_place
        names: dict[str, str] = json.loads(bytes(self._data[at : at + size]))
        return names

    def all_types(self) -> list[str]:
        """Full names of every message type.  Loads everything; for suggestions and tools."""
        names: list[str] = []
        for package in self._packages:
            self._load(package)
        from google.protobuf import descriptor_pb2

        for package, numbers in self._packages.items():
            for number in numbers:
                file = descriptor_pb2.FileDescriptorProto.FromString(self._blob(number))
                for message in file.message_type:
                    _names(package, message, names)
        return names

    def _blob(self, number: int) -> bytes:
        file = self._files[number]
        return bytes(self._data[file.at : file.at + file.size])

    def _load(self, package: str) -> None:
        for number in self._packages[package]:
            self._add(number)

    def _add(self, number: int) -> None:
        file = self._files[number]
        if file.added:
            return
        file.added = True
        for imported in file.imports:
            self._add(imported)
        self.pool.AddSerializedFile(self._blob(number))


def _names(scope: str, message: Any, into: list[str]) -> None:
    if message.options.map_entry:
        return
    name = f"{scope}.{message.name}"
    into.append(name)
    for nested in message.nested_type:
        _names(name, nested, into)


@functools.cache
def schema() -> Schema:
    """The one schema of this process."""
    # Not importlib.resources: importing that costs more than the schema does.
    with open(os.path.join(os.path.dirname(__file__), "schema.bin"), "rb") as file:
        return Schema(file.read())


@functools.cache
def find_type(full_name: str) -> Any | None:
    """The descriptor of a message type, or None."""
    return schema().find(full_name)


def has_type(full_name: str) -> bool:
    return find_type(full_name) is not None


@functools.cache
def message_class(full_name: str) -> Any:
    """The class of a message type; KeyError when there is no such type."""
    descriptor = find_type(full_name)
    if descriptor is None:
        raise KeyError(full_name)
    return GetMessageClass(descriptor)


def parse(full_name: str, data: bytes) -> Any:
    """A message from its wire form.  Raises ``google.protobuf.message.DecodeError``."""
    return message_class(full_name).FromString(data)


def is_map(field: Any) -> bool:
    message_type = field.message_type
    return bool(
        message_type is not None
        and field.is_repeated
        and message_type.has_options  # false for almost all, as the schema has no other options
        and message_type.GetOptions().map_entry
    )


@functools.cache
def rules(descriptor: Any) -> dict[str, Any]:
    """The rule table of a message or enum type (see ``tools/build_schema.py``)."""
    return schema().rules(descriptor)
