"""From a named, typed piece of configuration to the extension that it asks for and its settings.

Listener filters, network filters, HTTP filters, access loggers and transport sockets all come as
``{name, typed_config}``.  The type decides, the name is for people (and for ``typed_per_filter_config``);
:mod:`weft.proxy.extensions` knows which types there are.
"""

from typing import Any

from weft.api.problems import Where
from weft.proxy import extensions
from weft.proxy.extensions import Kind


def resolve(category: str, extension: Any, where: Where) -> tuple[Kind, Any] | None:
    """The kind that ``extension`` names, and its settings; None after a problem.

    ``extension`` is any message with ``name`` and ``typed_config``.  None without a problem means
    that the extension is unknown and the configuration says ``is_optional``.
    """
    from weft.api.unpack import type_name, unpack

    name: str = extension.name
    if _has(extension, "config_discovery"):
        where.field("config_discovery").problem("not supported yet: extension configuration by discovery (ECDS)")
        return None
    optional = getattr(extension, "is_optional", False)
    if not extension.HasField("typed_config"):
        # As in Envoy, a name alone says nothing: only a type leads to an extension.
        if not optional:
            where.problem(f"extension '{name}' has no typed_config, so it is not known what it is")
        return None
    wanted = type_name(extension.typed_config)
    kind = extensions.find(category, name, wanted) if wanted else None
    if kind is None:
        if not optional:
            where.problem(_unknown(category, name, wanted))
        return None
    place = where.field("typed_config")
    message = unpack(extension.typed_config, place)
    if message is None:
        return None
    return kind, kind.settings(message, place)


def _has(message: Any, field: str) -> bool:
    return field in message.DESCRIPTOR.fields_by_name and message.HasField(field)


def _unknown(category: str, name: str, type_name: str) -> str:
    from difflib import get_close_matches

    text = f"extension '{name}' (type {type_name or 'unknown'}) is not supported by this version of Weft"
    # The last word tells: everything before it is the same for all of a kind.
    known = {entry.rpartition(".")[2]: entry for entry in extensions.names(category)}
    near = get_close_matches(name.rpartition(".")[2], known, n=1, cutoff=0.75)
    if near and known[near[0]] != name:
        text += f"; did you mean '{known[near[0]]}'?"
    return text
