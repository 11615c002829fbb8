"""What of a message this version acts on: everything else that is set is a problem that names it."""

from typing import Any

from weft.api.problems import Where


def only(message: Any, known: frozenset[str], where: Where) -> set[str]:
    """Report every field of ``message`` that is set and is not ``known``; the names of all that are set."""
    given: set[str] = set()
    for field, _ in message.ListFields():
        name: str = field.name
        given.add(name)
        if name not in known:
            where.field(name).problem(f"not supported yet: {name}")
    return given


def has(message: Any, field: str) -> bool:
    """Is the singular field set?  False where the schema does not know it."""
    return field in message.DESCRIPTOR.fields_by_name and message.HasField(field)


def items(message: Any, field: str) -> Any:
    """A repeated field; empty where the schema does not know it."""
    return getattr(message, field) if field in message.DESCRIPTOR.fields_by_name else ()
