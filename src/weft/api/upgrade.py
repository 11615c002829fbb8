"""Old names (the v2 style of 2018 to 2020) to v3 ones, on the nodes of a document.

Only documents that are unmistakably old are touched: those in which no ``@type`` names a v3 type.
There, whatever v3 has no field for but v2 had is rewritten, with a warning for each; a document
written for v3 means what it says, mistakes included.  The walk follows the v3 types, so an old name
is found wherever its message may stand.
"""

import functools
from collections.abc import Callable
from typing import Any, Final

from weft.api.document import LIST, MAP, NULL, STRING, Node
from weft.api.old_names import CHANGES, HOST, NAMES, new_mapping, new_text, take
from weft.api.paths import Path
from weft.api.schema import find_type, is_map, schema

Report = Callable[[Path, Node, str, bool], None]

BOOTSTRAP: Final = "envoy.config.bootstrap.v3.Bootstrap"
_MAX_DEPTH: Final = 200


def upgrade_bootstrap(root: Node, report: Report) -> Node:
    """``root`` with old names replaced, in place."""
    if not _names_v3(root, set()):
        upgrade = _Upgrade(report)
        upgrade.walk(root, find_type(BOOTSTRAP), None)
        upgrade.drop_empty_sources(root)
    return root


def _names_v3(node: Node, seen: set[int]) -> bool:
    """Whether any ``@type`` in the tree is of v3 (or of something that v2 never had)."""
    if node.kind == LIST:
        if id(node) in seen:
            return False
        seen.add(id(node))
        return any(_names_v3(item, seen) for item in node.items)
    if node.kind != MAP or id(node) in seen:
        return False
    seen.add(id(node))
    for key, value in node.pairs:
        if key.text == "@type" and ".v3" in value.text:
            return True
        if value.kind >= LIST and _names_v3(value, seen):
            return True
    return False


class _Upgrade:
    def __init__(self, report: Report) -> None:
        self._report = report
        self._done: set[int] = set()
        self._depth = 0
        self.count = 0

    def walk(self, node: Node, descriptor: Any, path: Path) -> None:
        """Upgrade a mapping that stands for a message, and everything in it."""
        if node.kind != MAP or id(node) in self._done or self._depth > _MAX_DEPTH:
            return
        self._done.add(id(node))
        self._depth += 1
        name = descriptor.full_name
        if name == "google.protobuf.Any":
            self._any(node, path)
        else:
            for change in CHANGES.get(name, ()):
                change(self.warn, node, path)
            kinds = NAMES.get(name)
            if kinds is not None:
                self._extension(node, kinds, path)
            self._fields(node, descriptor, path)
        self._depth -= 1

    def _fields(self, node: Node, descriptor: Any, path: Path) -> None:
        fields = _message_fields(descriptor)
        for key, value in node.pairs:
            found = fields.get(key.text)
            if found is None or value.kind < LIST:
                continue
            field, inner = found
            here = (path, field.name)
            if is_map(field):
                if value.kind == MAP:
                    for entry_key, entry in value.pairs:
                        self.walk(entry, inner, (here, f'["{entry_key.text}"]'))
            elif value.kind == LIST:
                for number, item in enumerate(value.items):
                    self.walk(item, inner, (here, f"[{number}]"))
            else:
                self.walk(value, inner, here)

    def _any(self, node: Node, path: Path) -> None:
        type_node = node.get("@type")
        if type_node is None or type_node.kind != STRING:
            return
        old = type_node.text.rpartition("/")[2]
        name = _previous_names().get(old, old)
        if name != old:
            self.warn((path, "@type"), type_node, f"the old type {old!r}", name)
            type_node.text = HOST + name
        descriptor = find_type(name)
        if descriptor is not None and not name.startswith("google.protobuf."):
            for change in CHANGES.get(name, ()):
                change(self.warn, node, path)
            self._fields(node, descriptor, path)

    def _extension(self, node: Node, kinds: "dict[str, tuple[str, str]]", path: Path) -> None:
        """``{name, config}`` or a bare old name: give it the typed_config it stands for."""
        name = node.get("name")
        if name is None or name.kind != STRING or name.text not in kinds:
            return
        if node.get("typed_config") is not None or node.get("typedConfig") is not None:
            return
        if node.get("config_discovery") is not None:
            return
        new_name, type_name = kinds[name.text]
        if name.text == new_name and node.get("config") is None and not self.count:
            return  # nothing here is old
        config = take(node, "config")
        key, value = config or (new_text("typed_config", name), new_mapping([], name))
        if value.kind == NULL:
            value = new_mapping([], value)
        if value.kind != MAP:
            node.pairs.append((key, value))  # the conversion will say what is wrong
            return
        if config is not None:
            self.warn((path, "config"), key, "the old field 'config'", f"typed_config of {type_name}")
        elif name.text == new_name:
            self.warn((path, "name"), name, "no typed_config", f"one of {type_name}")
        if name.text != new_name:
            self.warn((path, "name"), name, f"the old name {name.text!r}", new_name)
            name.text = new_name
        value.pairs.insert(0, (new_text("@type", key), new_text(HOST + type_name, key)))
        node.pairs.append((new_text("typed_config", key), value))

    def drop_empty_sources(self, root: Node) -> None:
        """``cds_config: {}``, which said nothing, where the rest of the document is old as well."""
        dynamic = root.get("dynamic_resources")
        if not self.count or dynamic is None or dynamic.kind != MAP:
            return
        for name in ("cds_config", "lds_config"):
            source = dynamic.get(name)
            if source is not None and source.kind == MAP and not source.pairs:
                found = take(dynamic, name)
                assert found is not None
                self.warn(((None, "dynamic_resources"), name), found[0], f"the empty {name}", "absent")

    def warn(self, path: Path, node: Node, old: str, new: str) -> None:
        self.count += 1
        self._report(path, node, f"{old} is read as {new}", True)


@functools.cache
def _previous_names() -> dict[str, str]:
    return schema().previous_names()


@functools.cache
def _message_fields(descriptor: Any) -> dict[str, tuple[Any, Any]]:
    """Field names in both styles -> (field, type of the message in it)."""
    fields: dict[str, tuple[Any, Any]] = {}
    for field in descriptor.fields:
        inner = (
            field.message_type.fields_by_name["value"].message_type if is_map(field) else field.message_type
        )
        if inner is not None:
            fields[field.name] = fields[field.json_name] = (field, inner)
    return fields
