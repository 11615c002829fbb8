"""Edits of headers one after another: ``envoy.config.common.mutation_rules.v3.HeaderMutation``.

Unlike the header rules of routes (:mod:`weft.proxy.route.header_rules`), which have an order of
their own, these are carried out as written and each sees what those before it did.  The filter
``header_mutation`` and request mirroring use them.
"""

from dataclasses import dataclass
from typing import Any

from weft.api.problems import Where
from weft.http.headers import Headers
from weft.proxy.clock import Clock
from weft.proxy.matchers import StringMatcher, string_matcher
from weft.proxy.observe.stream_info import StreamInfo
from weft.proxy.route.header_rules import ADD_IF_ABSENT, APPEND, OVERWRITE, Edit, append_joined, header_edit
from weft.proxy.route.supported import items


@dataclass(frozen=True, slots=True)
class HeaderMutation:
    """One edit: exactly one of the three."""

    edit: Edit | None = None
    removed: bytes = b""
    """A name, lower-case."""
    removed_names: StringMatcher | None = None


def mutate(
    headers: Headers,
    mutations: tuple[HeaderMutation, ...],
    joined: frozenset[bytes],
    info: StreamInfo,
    clock: Clock,
) -> None:
    """Carry out the edits one after another: each sees what those before it did."""
    for mutation in mutations:
        edit = mutation.edit
        if edit is None:
            if mutation.removed_names is not None:
                matcher = mutation.removed_names
                headers.fields = [field for field in headers.fields if not matcher.matches(field.name)]
            else:
                headers.drop(mutation.removed)
            continue
        made = edit.made(info, clock)
        if made is None:
            continue
        if edit.action == APPEND:
            if edit.name in joined:
                append_joined(headers, made)
            else:
                headers.append(made)
            continue
        there = headers.find(edit.name) is not None
        if (edit.action == ADD_IF_ABSENT and there) or (edit.action == OVERWRITE and not there):
            continue
        headers.drop(edit.name)
        headers.append(made)


def header_mutations_of(message: Any, field: str, where: Where) -> tuple[HeaderMutation, ...]:
    """From the repeated field ``field`` of ``message``; ``where`` is the message's place."""
    where = where.field(field)
    found = []
    for i, mutation in enumerate(items(message, field)):
        place = where.item(i)
        kind = mutation.WhichOneof("action")
        if kind == "append":
            edit = header_edit(mutation.append, place.field("append"))
            if edit is not None:
                found.append(HeaderMutation(edit))
        elif kind == "remove":
            found.append(HeaderMutation(removed=mutation.remove.lower().encode()))
        elif kind == "remove_on_match":
            matcher = string_matcher(
                mutation.remove_on_match.key_matcher, place.field("remove_on_match").field("key_matcher")
            )
            found.append(HeaderMutation(removed_names=matcher))
        else:
            place.problem("a header mutation needs one of append, remove, remove_on_match")
    return tuple(found)
