"""For which destination ports a listener filter is left out (``filter_disabled``)."""

from dataclasses import dataclass
from typing import Any, Final

from weft.api.problems import Where

ANY: Final = 0
RANGE: Final = 1
NOT: Final = 2
AND: Final = 3
OR: Final = 4


@dataclass(frozen=True, slots=True)
class PortPredicate:
    """A node of the tree; ``kind`` says which of the other fields count."""

    kind: int
    start: int = 0
    end: int = 0
    """First port beyond the range."""
    rules: "tuple[PortPredicate, ...]" = ()

    def matches(self, port: int) -> bool:
        kind = self.kind
        if kind == ANY:
            return True
        if kind == RANGE:
            return self.start <= port < self.end
        if kind == NOT:
            return not self.rules[0].matches(port)
        if kind == AND:
            return all(rule.matches(port) for rule in self.rules)
        return any(rule.matches(port) for rule in self.rules)


_DEEPEST: Final = 32


def port_predicate(message: Any, where: Where, depth: int = 0) -> PortPredicate:
    """From a ``ListenerFilterChainMatchPredicate``."""
    kind = message.WhichOneof("rule")
    if depth > _DEEPEST:
        where.problem("rules are nested too deeply")
        return PortPredicate(ANY)
    if kind == "destination_port_range":
        return PortPredicate(RANGE, message.destination_port_range.start, message.destination_port_range.end)
    if kind == "not_match":
        return PortPredicate(
            NOT, rules=(port_predicate(message.not_match, where.field("not_match"), depth + 1),)
        )
    if kind in ("and_match", "or_match"):
        place = where.field(kind).field("rules")
        inner = getattr(message, kind).rules
        return PortPredicate(
            AND if kind == "and_match" else OR,
            rules=tuple(port_predicate(rule, place.item(i), depth + 1) for i, rule in enumerate(inner)),
        )
    if kind is None:
        where.problem("rule is required")
    return PortPredicate(ANY)
