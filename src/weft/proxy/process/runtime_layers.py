"""The layers of the runtime: from ``layered_runtime`` to flat keys.

A layer is a tree (a Struct, or a directory of small files); a key is the path through it joined by
dots.  Later layers win.  The last one that operators write to, over ``POST /runtime_modify``, is
the admin layer; there is at most one.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from weft.api.problems import Where
from weft.proxy.context import Identity
from weft.proxy.runtime import Value


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeLayer:
    """One layer.  Values are as written: a number or a truth value also comes as text from a file."""

    name: str
    values: dict[str, Value] = field(default_factory=dict)
    admin: bool = False
    """Operators write to this one."""
    disk: bool = False
    """Read from a directory."""


def runtime_layers(message: Any, where: Where, identity: Identity) -> tuple[RuntimeLayer, ...]:
    """From ``layered_runtime`` of a bootstrap."""
    layers: list[RuntimeLayer] = []
    if not message.layers:
        return (RuntimeLayer(name="", admin=True),)
    for i, layer in enumerate(message.layers):
        here = where.field("layers").item(i)
        if any(known.name == layer.name for known in layers):
            here.field("name").problem(f"Duplicate layer name: {layer.name}")
        kind = layer.WhichOneof("layer_specifier")
        values: dict[str, Value] = {}
        if kind == "static_layer":
            _flatten(layer.static_layer.fields, "", values, here.field("static_layer"))
        elif kind == "disk_layer":
            disk = layer.disk_layer
            path = os.path.join(disk.symlink_root, disk.subdirectory)
            if disk.append_service_cluster:
                path = os.path.join(path, identity.cluster)
            _read_tree(path, "", values, here.field("disk_layer"))
        elif kind == "rtds_layer":
            here.field("rtds_layer").problem("not supported yet: runtime by discovery (RTDS)")
        elif kind == "admin_layer" and any(known.admin for known in layers):
            here.problem("Too many admin layers specified in LayeredRuntime, at most one may be specified")
        layers.append(
            RuntimeLayer(
                name=layer.name, values=values, admin=kind == "admin_layer", disk=kind == "disk_layer"
            )
        )
    return tuple(layers)


def merged(layers: tuple[RuntimeLayer, ...], admin: Mapping[str, str]) -> dict[str, Value]:
    """All layers as one, ``admin`` standing in for the admin layer."""
    values: dict[str, Value] = {}
    for layer in layers:
        if layer.admin:
            values.update({key: parsed(text) for key, text in admin.items()})
        else:
            values.update(layer.values)
    return values


def parsed(text: str) -> Value:
    """A value that was written as text: a whole number, a number, a truth value, or the text."""
    word = text.strip()
    if word.lower() in ("true", "false"):
        return word.lower() == "true"
    if 0 < len(word) <= 20 and word[-1:].isdigit() and word.removeprefix("-").isdigit():
        return int(word)
    try:
        # float() takes words such as "nan" and "1_0", which are no numbers to an operator.
        return float(word) if word[:1] in "-+.0123456789" and "_" not in word else text
    except ValueError:
        return text


def text_of(value: Value) -> str:
    """As the admin page prints it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _flatten(fields: Any, prefix: str, into: dict[str, Value], where: Where) -> None:
    for key in sorted(fields):
        value = fields[key]
        name = f"{prefix}.{key}" if prefix else key
        kind = value.WhichOneof("kind")
        if kind == "string_value":
            into[name] = parsed(value.string_value)
        elif kind == "bool_value":
            into[name] = value.bool_value
        elif kind == "number_value":
            number = value.number_value
            into[name] = int(number) if number == int(number) else number
        elif kind == "struct_value":
            inner = value.struct_value.fields
            if "numerator" in inner or "denominator" in inner:
                into[name] = _fraction(inner)
            else:
                _flatten(inner, name, into, where)
        else:
            where.problem(f"Invalid runtime entry value for {name}")


def _fraction(fields: Any) -> str:
    """A FractionalPercent as text that ``Runtime.fraction`` reads: ``numerator/denominator``."""
    numerator = int(fields["numerator"].number_value) if "numerator" in fields else 0
    word = fields["denominator"].string_value if "denominator" in fields else "HUNDRED"
    return f"{numerator}/{ {'TEN_THOUSAND': 10_000, 'MILLION': 1_000_000}.get(word, 100) }"


def _read_tree(path: str, prefix: str, into: dict[str, Value], where: Where) -> None:
    """A directory of files, a key each; a missing directory is an empty layer, as in Envoy."""
    try:
        entries = sorted(os.scandir(path), key=lambda entry: entry.name)
    except OSError:
        return
    for entry in entries:
        name = f"{prefix}.{entry.name}" if prefix else entry.name
        try:
            if entry.is_dir():
                if not entry.name.startswith("."):  # Kubernetes' ..data is the same tree again
                    _read_tree(entry.path, name, into, where)
            else:
                with open(entry.path, encoding="utf-8") as file:
                    lines = [line for line in file if not line.startswith("#")]
                into[name] = parsed("".join(lines).strip())
        except (OSError, UnicodeDecodeError) as error:
            where.warn(f"{entry.path} is left out: {error}")
