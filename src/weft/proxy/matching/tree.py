"""A compiled matcher tree: from a connection or an exchange to an action.

What an action is, the tree does not know: routes, names of clusters, of filter chains, verdicts of a
filter.  :meth:`Tree.find` gives the first action that is reached; None when there is none, and
:data:`INCONCLUSIVE` when an input that decides is not known yet.  Both mean *no match* to who can
ask only once.

A branch that leads to nothing is no match: a list goes on with its next entry, a map with a shorter
prefix, a less specific range or domain, and what remains is ``on_no_match``.
"""

from typing import Final, Generic, TypeVar

from weft.proxy.matching.inputs import Input, NotYet, Subject
from weft.proxy.matching.predicates import Predicate
from weft.proxy.matching.trace import NO, UNDECIDED, YES, Trace
from weft.proxy.prefixes import PrefixTable, parsed

T = TypeVar("T")

_MOST_KEYS: Final = 5
"""Keys of a map that a question names."""


class Inconclusive:
    """No outcome: an input that decides is not known yet."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "INCONCLUSIVE"


INCONCLUSIVE: Final = Inconclusive()


class OnMatch(Generic[T]):
    """Where a branch leads: to an action, or to another tree."""

    __slots__ = ("action", "keep_matching", "tree")

    def __init__(
        self, action: T | None = None, tree: "Tree[T] | None" = None, keep_matching: bool = False
    ) -> None:
        self.action: T | None = action
        self.tree: Tree[T] | None = tree
        self.keep_matching: bool = keep_matching
        """Note the action, and go on as if it had not matched."""

    def resolve(self, subject: Subject, trace: Trace | None) -> T | Inconclusive | None:
        tree = self.tree
        if tree is None:
            found: T | Inconclusive | None = self.action
        else:
            if trace is not None:
                trace.depth += 1
            found = tree.find(subject, trace)
            if trace is not None:
                trace.depth -= 1
        if self.keep_matching and found is not None and not isinstance(found, Inconclusive):
            if trace is not None:
                trace.skipped.append(found)
            return None
        return found


class Tree(Generic[T]):
    """This one has ``on_no_match`` alone; see the subclasses."""

    def __init__(self, on_no_match: OnMatch[T] | None = None) -> None:
        self.on_no_match: OnMatch[T] | None = on_no_match

    def find(self, subject: Subject, trace: Trace | None = None) -> T | Inconclusive | None:
        return self._none(subject, trace)

    def _none(self, subject: Subject, trace: Trace | None) -> T | Inconclusive | None:
        rest = self.on_no_match
        return None if rest is None else rest.resolve(subject, trace)

    def describe(self) -> str:
        return "always"


class ListTree(Tree[T]):
    """``matcher_list``: the first predicate that holds and leads somewhere."""

    def __init__(
        self, entries: tuple[tuple[Predicate, OnMatch[T]], ...], on_no_match: OnMatch[T] | None = None
    ) -> None:
        super().__init__(on_no_match)
        self.entries: tuple[tuple[Predicate, OnMatch[T]], ...] = entries

    def find(self, subject: Subject, trace: Trace | None = None) -> T | Inconclusive | None:
        for predicate, on_match in self.entries:
            verdict = predicate.holds(subject, trace)
            if verdict == UNDECIDED:
                return INCONCLUSIVE
            if verdict == YES:
                found = on_match.resolve(subject, trace)
                if found is not None:
                    return found
        return self._none(subject, trace)

    def describe(self) -> str:
        return "; ".join([predicate.describe() for predicate, _ in self.entries])


class _MapTree(Tree[T]):
    """What all ``matcher_tree`` have: one input, whose value finds the branch."""

    def __init__(self, input: Input, keys: tuple[str, ...], verb: str, on_no_match: OnMatch[T] | None) -> None:
        super().__init__(on_no_match)
        self.input: Input = input
        more = f" (and {len(keys) - _MOST_KEYS} more)" if len(keys) > _MOST_KEYS else ""
        self._question: str = f"{input.describe()} {verb} {', '.join(map(repr, keys[:_MOST_KEYS]))}{more}"

    def find(self, subject: Subject, trace: Trace | None = None) -> T | Inconclusive | None:
        value = self.input.get(subject)
        if isinstance(value, NotYet):
            if trace is not None:
                trace.asked(self._question, None, UNDECIDED)
            return INCONCLUSIVE
        if value is not None:
            found = self._look_up(value, subject, trace)
            if found is not None:
                return found
        elif trace is not None:
            trace.asked(self._question, None, NO)
        return self._none(subject, trace)

    def _look_up(self, value: bytes, subject: Subject, trace: Trace | None) -> T | Inconclusive | None:
        raise NotImplementedError

    def _asked(self, value: bytes, hit: bool, trace: Trace | None) -> None:
        if trace is not None:
            trace.asked(self._question, value, YES if hit else NO)

    def describe(self) -> str:
        return self._question


class ExactTree(_MapTree[T]):
    """``exact_match_map``."""

    def __init__(
        self, input: Input, branches: dict[bytes, OnMatch[T]], on_no_match: OnMatch[T] | None = None
    ) -> None:
        super().__init__(input, texts(branches), "is one of", on_no_match)
        self.branches: dict[bytes, OnMatch[T]] = branches

    def _look_up(self, value: bytes, subject: Subject, trace: Trace | None) -> T | Inconclusive | None:
        branch = self.branches.get(value)
        self._asked(value, branch is not None, trace)
        return None if branch is None else branch.resolve(subject, trace)


class PrefixTree(_MapTree[T]):
    """``prefix_match_map``: the longest prefix that leads somewhere."""

    def __init__(
        self, input: Input, branches: dict[bytes, OnMatch[T]], on_no_match: OnMatch[T] | None = None
    ) -> None:
        super().__init__(input, texts(branches), "starts with one of", on_no_match)
        self.branches: dict[bytes, OnMatch[T]] = branches
        self._lengths: list[int] = sorted({len(prefix) for prefix in branches}, reverse=True)

    def _look_up(self, value: bytes, subject: Subject, trace: Trace | None) -> T | Inconclusive | None:
        size = len(value)
        asked = False
        for length in self._lengths:
            if length <= size:
                branch = self.branches.get(value[:length])
                if branch is not None:
                    if not asked:
                        asked = True
                        self._asked(value, True, trace)
                    found = branch.resolve(subject, trace)
                    if found is not None:
                        return found
        if not asked:
            self._asked(value, False, trace)
        return None


class Range(Generic[T]):
    """An entry of an IP matcher."""

    __slots__ = ("exclusive", "on_match", "prefixes")

    def __init__(self, prefixes: tuple[str, ...], on_match: OnMatch[T], exclusive: bool) -> None:
        self.prefixes: tuple[str, ...] = prefixes
        self.on_match: OnMatch[T] = on_match
        self.exclusive: bool = exclusive
        """Not tried after a more specific range that led to nothing."""


class RangeTree(_MapTree[T]):
    """``IPMatcher``: the most specific range that leads somewhere, of equal ones the first."""

    def __init__(
        self, input: Input, ranges: tuple[Range[T], ...], on_no_match: OnMatch[T] | None = None
    ) -> None:
        by_prefix: dict[str, list[Range[T]]] = {}
        for entry in ranges:
            for prefix in dict.fromkeys(entry.prefixes):
                by_prefix.setdefault(prefix, []).append(entry)
        super().__init__(input, tuple(by_prefix), "is in one of", on_no_match)
        self._table: PrefixTable[list[Range[T]]] = PrefixTable(by_prefix)

    def _look_up(self, value: bytes, subject: Subject, trace: Trace | None) -> T | Inconclusive | None:
        address = parsed(value)
        every = [] if address is None else self._table.find_all(address[0], address[1])
        self._asked(value, bool(every), trace)
        first = True
        for entries in every:
            for entry in entries:
                if first or not entry.exclusive:
                    found = entry.on_match.resolve(subject, trace)
                    if found is not None:
                        return found
                    first = False
        return None


class DomainTree(_MapTree[T]):
    """``ServerNameMatcher``: exact, then ``*.suffix`` from the longest, then ``*``; case counts."""

    def __init__(
        self, input: Input, branches: dict[bytes, OnMatch[T]], on_no_match: OnMatch[T] | None = None
    ) -> None:
        super().__init__(input, texts(branches), "is in the domain of one of", on_no_match)
        self._exact: dict[bytes, OnMatch[T]] = {}
        self._suffixes: dict[bytes, OnMatch[T]] = {}
        self._every: OnMatch[T] | None = None
        for domain, branch in branches.items():
            if domain == b"*":
                self._every = branch
            elif domain.startswith(b"*."):
                self._suffixes[domain[2:]] = branch
            else:
                self._exact[domain] = branch

    def _look_up(self, value: bytes, subject: Subject, trace: Trace | None) -> T | Inconclusive | None:
        branches = self._candidates(value) if value else []
        self._asked(value, bool(branches), trace)
        for branch in branches:
            found = branch.resolve(subject, trace)
            if found is not None:
                return found
        return None

    def _candidates(self, value: bytes) -> list[OnMatch[T]]:
        found: list[OnMatch[T]] = []
        branch = self._exact.get(value)
        if branch is not None:
            found.append(branch)
        if self._suffixes:
            dot = value.find(b".")
            while dot >= 0:
                branch = self._suffixes.get(value[dot + 1 :])
                if branch is not None:
                    found.append(branch)
                dot = value.find(b".", dot + 1)
        if self._every is not None:
            found.append(self._every)
        return found


def texts(branches: dict[bytes, OnMatch[T]]) -> tuple[str, ...]:
    return tuple([key.decode("utf-8", "replace") for key in branches])


def explain(tree: Tree[T], subject: Subject) -> tuple[T | None, Trace]:
    """What ``tree`` finds, with every question that led there."""
    trace = Trace()
    found = tree.find(subject, trace)
    return (None if isinstance(found, Inconclusive) else found), trace
