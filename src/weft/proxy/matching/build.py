"""From ``xds.type.matcher.v3.Matcher`` (or Envoy's older message of the same shape) to a Tree.

Whoever uses matchers has a :class:`~weft.proxy.matching.vocabulary.Grammar` and calls
:func:`matcher_tree`; :func:`actions_of` walks the actions of a message that is not compiled.
"""

from collections.abc import Iterator
from typing import Any, Final, Generic, TypeVar

from weft.api.problems import Where
from weft.api.unpack import type_name, unpack
from weft.proxy.matchers import string_matcher
from weft.proxy.matching.inputs import Input
from weft.proxy.matching.predicates import NEVER, AllOf, AnyOf, Not, Predicate, Text, ValuePredicate
from weft.proxy.matching.tree import (
    DomainTree,
    ExactTree,
    ListTree,
    OnMatch,
    PrefixTree,
    Range,
    RangeTree,
    Tree,
)
from weft.proxy.matching.vocabulary import NOT_SUPPORTED, PREDICATES, Grammar
from weft.proxy.prefixes import canonical_all

T = TypeVar("T")

DEEPEST: Final = 100
"""Levels of trees and predicates in each other; Envoy's messages end at 100 levels of everything."""

_RANGES: Final = "xds.type.matcher.v3.IPMatcher"
_DOMAINS: Final = "xds.type.matcher.v3.ServerNameMatcher"


def matcher_tree(message: Any, grammar: Grammar[T], where: Where) -> Tree[T]:
    """The tree; what cannot be had (after a problem) matches nothing."""
    return _Reader(grammar).tree(message, where)


class _Reader(Generic[T]):
    def __init__(self, grammar: Grammar[T]) -> None:
        self._grammar = grammar
        self._depth = 0

    # -- trees -----------------------------------------------------------------------------------

    def tree(self, message: Any, where: Where) -> Tree[T]:
        if self._too_deep(where):
            return Tree()
        self._depth += 1
        kind = message.WhichOneof("matcher_type")
        if kind == "matcher_list":
            tree: Tree[T] = self._list(message.matcher_list, where.field(kind))
        elif kind == "matcher_tree":
            tree = self._map(message.matcher_tree, where.field(kind))
        else:
            tree = Tree()
        tree.on_no_match = self._on_match(message.on_no_match, where.field("on_no_match"))
        self._depth -= 1
        return tree

    def _list(self, message: Any, where: Where) -> Tree[T]:
        entries: list[tuple[Predicate, OnMatch[T]]] = []
        for i, entry in enumerate(message.matchers):
            place = where.field("matchers").item(i)
            predicate = self._predicate(entry.predicate, place.field("predicate"))
            branch = self._branch(entry.on_match, place.field("on_match"))
            if branch is not None:
                entries.append((predicate, branch))
        return ListTree(tuple(entries))

    def _map(self, message: Any, where: Where) -> Tree[T]:
        input = self._input(message.input, where.field("input"))
        kind = message.WhichOneof("tree_type")
        if kind == "custom_match":
            return self._custom(input, message.custom_match, where.field(kind))
        if kind not in ("exact_match_map", "prefix_match_map"):
            where.problem("one of exact_match_map, prefix_match_map, custom_match is required")
            return Tree()
        entries = getattr(message, kind).map
        place = where.field(kind).field("map")
        branches: dict[bytes, OnMatch[T]] = {}
        for key in sorted(entries):
            branch = self._branch(entries[key], place.key(key))
            if branch is not None:
                branches[key.encode()] = branch
        if kind == "exact_match_map":
            return ExactTree(input, branches)
        return PrefixTree(input, branches)

    def _custom(self, input: Input, extension: Any, where: Where) -> Tree[T]:
        name = type_name(extension.typed_config)
        if name not in (_RANGES, _DOMAINS):
            _refuse(extension, "custom matcher", where)
            return Tree()
        place = where.field("typed_config")
        message = unpack(extension.typed_config, place)
        if message is None:
            return Tree()
        return (
            self._ranges(input, message, place) if name == _RANGES else self._domains(input, message, place)
        )

    def _ranges(self, input: Input, message: Any, where: Where) -> Tree[T]:
        ranges: list[Range[T]] = []
        for i, entry in enumerate(message.range_matchers):
            place = where.field("range_matchers").item(i)
            prefixes = canonical_all(entry.ranges, place.field("ranges"))
            branch = self._branch(entry.on_match, place.field("on_match"))
            if branch is not None:
                ranges.append(Range(prefixes, branch, entry.exclusive))
        return RangeTree(input, tuple(ranges))

    def _domains(self, input: Input, message: Any, where: Where) -> Tree[T]:
        branches: dict[bytes, OnMatch[T]] = {}
        for i, entry in enumerate(message.domain_matchers):
            place = where.field("domain_matchers").item(i)
            branch = self._branch(entry.on_match, place.field("on_match"))
            for j, domain in enumerate(entry.domains):
                at = place.field("domains").item(j)
                if domain.encode() in branches:
                    at.problem(f"Duplicate domain in ServerNameMatcher: {domain}")
                elif _domain_is_right(domain, at) and branch is not None:
                    branches[domain.encode()] = branch
        return DomainTree(input, branches)

    # -- branches --------------------------------------------------------------------------------

    def _branch(self, message: Any, where: Where) -> OnMatch[T] | None:
        if message.WhichOneof("on_match") is None:
            where.problem("one of matcher, action is required")  # Envoy crashes inside of custom matchers
            return None
        return self._on_match(message, where)

    def _on_match(self, message: Any, where: Where) -> OnMatch[T] | None:
        keep = getattr(message, "keep_matching", False)
        if keep and not self._grammar.keep_matching:
            where.field("keep_matching").problem("keep_matching is not supported in this context")
        kind = message.WhichOneof("on_match")
        if kind == "matcher":
            return OnMatch(None, self.tree(message.matcher, where.field("matcher")), keep)
        if kind == "action":
            return OnMatch(self._action(message.action, where.field("action")), None, keep)
        return None

    def _action(self, extension: Any, where: Where) -> T | None:
        build = self._grammar.actions.get(type_name(extension.typed_config))
        if build is None:
            _refuse(extension, "action", where)
            return None
        place = where.field("typed_config")
        message = unpack(extension.typed_config, place)
        return None if message is None else build(message, place)

    # -- predicates ------------------------------------------------------------------------------

    def _predicate(self, message: Any, where: Where) -> Predicate:
        if self._too_deep(where):
            return NEVER
        self._depth += 1
        kind = message.WhichOneof("match_type")
        if kind == "single_predicate":
            predicate = self._single(message.single_predicate, where.field(kind))
        elif kind == "not_matcher":
            predicate = Not(self._predicate(message.not_matcher, where.field(kind)))
        elif kind in ("or_matcher", "and_matcher"):
            place = where.field(kind).field("predicate")
            found = tuple(
                self._predicate(one, place.item(i)) for i, one in enumerate(getattr(message, kind).predicate)
            )
            predicate = AnyOf(found) if kind == "or_matcher" else AllOf(found)
        else:
            where.problem("one of single_predicate, or_matcher, and_matcher, not_matcher is required")
            predicate = NEVER
        self._depth -= 1
        return predicate

    def _single(self, message: Any, where: Where) -> Predicate:
        input = self._input(message.input, where.field("input"))
        kind = message.WhichOneof("matcher")
        if kind == "value_match":
            return ValuePredicate(input, Text(string_matcher(message.value_match, where.field(kind))))
        if kind != "custom_match":
            where.problem("one of value_match, custom_match is required")
            return NEVER
        extension, where = message.custom_match, where.field(kind)
        build = PREDICATES.get(type_name(extension.typed_config))
        if build is None:
            _refuse(extension, "matcher", where)
            return NEVER
        place = where.field("typed_config")
        config = unpack(extension.typed_config, place)
        return NEVER if config is None else build(input, config, place) or NEVER

    def _input(self, extension: Any, where: Where) -> Input:
        grammar = self._grammar
        name = type_name(extension.typed_config)
        build = grammar.inputs.get(name)
        if build is None:
            _refuse(extension, "input", where)
            return Input()
        if grammar.only_inputs and name not in grammar.only_inputs:
            where.problem(f"{grammar.only_inputs_text}, saw {extension.typed_config.type_url}")
            return Input()
        message = unpack(extension.typed_config, where.field("typed_config"))
        return Input() if message is None else build(message)

    def _too_deep(self, where: Where) -> bool:
        if self._depth < DEEPEST:
            return False
        where.problem(f"more than {DEEPEST} matchers and predicates in each other")
        return True


def _refuse(extension: Any, what: str, where: Where) -> None:
    name = type_name(extension.typed_config)
    if not name:
        where.problem(f"the {what} '{extension.name}' has no typed_config, so it is not known what it is")
    elif name in NOT_SUPPORTED:
        where.problem(f"not supported: {NOT_SUPPORTED[name]} (the {what} '{extension.name}' of type {name})")
    else:
        where.problem(
            f"Didn't find a registered implementation for '{extension.name}' with type URL: '{name}' "
            f"(no {what} of this type here)"
        )


def _domain_is_right(domain: str, where: Where) -> bool:
    if domain == "*":
        return True
    if not domain:
        where.problem("Empty domain in ServerNameMatcher")
    elif "*" in domain and (domain.find("*") != 0 or len(domain) < 3 or domain[1] != "."):
        where.problem(
            f"Invalid wildcard domain format: {domain}. Only '*' and '*.domain' patterns are supported"
        )
    elif "*" in domain[1:]:
        where.problem(f"Invalid wildcard domain format: {domain}. Multiple wildcards are not supported")
    else:
        return True
    return False


def actions_of(message: Any, where: Where) -> Iterator[tuple[Any, Where]]:
    """Every action (a TypedExtensionConfig) of a matcher message, with its place."""
    stack = [_branches(message, where)]
    while stack:
        for on_match, place in stack[-1]:
            kind = on_match.WhichOneof("on_match")
            if kind == "matcher":
                stack.append(_branches(on_match.matcher, place.field("matcher")))
                break
            if kind == "action":
                yield on_match.action, place.field("action")
        else:
            stack.pop()


def _branches(matcher: Any, where: Where) -> Iterator[tuple[Any, Where]]:
    place = where.field("matcher_list").field("matchers")
    for i, entry in enumerate(matcher.matcher_list.matchers):
        yield entry.on_match, place.item(i).field("on_match")
    where_tree = where.field("matcher_tree")
    for kind in ("exact_match_map", "prefix_match_map"):
        entries = getattr(matcher.matcher_tree, kind).map
        for key in sorted(entries):
            yield entries[key], where_tree.field(kind).field("map").key(key)
    extension = matcher.matcher_tree.custom_match
    name = type_name(extension.typed_config)
    if name in (_RANGES, _DOMAINS):
        field = "range_matchers" if name == _RANGES else "domain_matchers"
        custom = unpack(extension.typed_config, Where.nowhere())
        place = where_tree.field("custom_match").field("typed_config").field(field)
        for i, entry in enumerate(getattr(custom, field) if custom is not None else ()):
            yield entry.on_match, place.item(i).field("on_match")
    yield matcher.on_no_match, where.field("on_no_match")
