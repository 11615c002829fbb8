"""Predicates: does an input have the value that is wanted?  And their combinations.

Verdicts are three-valued, as in Envoy: an input that cannot be known yet leaves a predicate
undecided.  *and* stops at the first that is not true, *or* passes over what is undecided and hopes
for a later one.
"""

from typing import Final

import xxhash

from weft.proxy.matchers import StringMatcher
from weft.proxy.matching.inputs import Input, NotYet, Subject
from weft.proxy.matching.trace import NO, UNDECIDED, YES, Trace
from weft.proxy.prefixes import PrefixTable, parsed
from weft.proxy.runtime import Chance
from weft.proxy.value_matchers import ABSENT, ValueMatcher

__all__ = [
    "NO", "UNDECIDED", "YES", "AllOf", "AnyOf", "Hashed", "InRanges", "MetadataPredicate", "Not",
    "Predicate", "Share", "Text", "ValuePredicate", "ValueTest",
]  # fmt: skip


class Predicate:
    """Yes, no or undecided.  This one says no; see the subclasses."""

    __slots__ = ()

    def holds(self, subject: Subject, trace: Trace | None = None) -> int:
        return NO

    def describe(self) -> str:
        return "never"


# -- of one value ----------------------------------------------------------------------------------


class ValueTest:
    """A condition on a value that is there.  This one says no."""

    __slots__ = ()

    def accepts(self, value: bytes, subject: Subject) -> bool:
        return False

    def describe(self) -> str:
        return "is impossible"


class Text(ValueTest):
    """``value_match``."""

    __slots__ = ("matcher",)

    def __init__(self, matcher: StringMatcher) -> None:
        self.matcher: StringMatcher = matcher

    def accepts(self, value: bytes, subject: Subject) -> bool:
        return self.matcher.matches(value)

    def describe(self) -> str:
        return self.matcher.describe()


class InRanges(ValueTest):
    """An IP address in one of some prefixes; what is no address is in none."""

    __slots__ = ("_table", "prefixes")

    def __init__(self, prefixes: tuple[str, ...]) -> None:
        self.prefixes: tuple[str, ...] = prefixes
        self._table: PrefixTable[bool] = PrefixTable(dict.fromkeys(prefixes, True))

    def accepts(self, value: bytes, subject: Subject) -> bool:
        address = parsed(value)
        return address is not None and self._table.find(address[0], address[1]) is not None

    def describe(self) -> str:
        return "is in " + ", ".join(self.prefixes)


class Share(ValueTest):
    """A share of the values, by their hash: the same value always falls on the same side."""

    __slots__ = ("chance", "seed")

    def __init__(self, chance: Chance, seed: int) -> None:
        self.chance: Chance = chance
        self.seed: int = seed

    def accepts(self, value: bytes, subject: Subject) -> bool:
        return self.chance.hits_value(_hash(value, self.seed), subject.runtime)

    def describe(self) -> str:
        key = f" (runtime {self.chance.key})" if self.chance.key else ""
        return f"is among {self.chance.numerator} of {self.chance.denominator} values{key}"


class Hashed(ValueTest):
    """A value whose hash, modulo ``modulo``, is at least ``threshold``."""

    __slots__ = ("modulo", "seed", "threshold")

    def __init__(self, threshold: int, modulo: int, seed: int) -> None:
        self.threshold: int = threshold
        self.modulo: int = modulo
        self.seed: int = seed

    def accepts(self, value: bytes, subject: Subject) -> bool:
        return _hash(value, self.seed) % self.modulo >= self.threshold

    def describe(self) -> str:
        return f"has a hash of at least {self.threshold} modulo {self.modulo}"


def _hash(value: bytes, seed: int) -> int:
    number: int = xxhash.xxh64_intdigest(value, seed)
    return number


class ValuePredicate(Predicate):
    """An input has a value, and the value passes a test."""

    __slots__ = ("input", "test")

    def __init__(self, input: Input, test: ValueTest) -> None:
        self.input: Input = input
        self.test: ValueTest = test

    def holds(self, subject: Subject, trace: Trace | None = None) -> int:
        value = self.input.get(subject)
        if value is None:
            verdict = NO
        elif isinstance(value, NotYet):
            verdict = UNDECIDED
        else:
            verdict = YES if self.test.accepts(value, subject) else NO
        if trace is not None:
            trace.asked(self.describe(), value, verdict)
        return verdict

    def describe(self) -> str:
        return f"{self.input.describe()} {self.test.describe()}"


class MetadataPredicate(Predicate):
    """A JSON-like value of metadata; an input that has no such values never matches."""

    __slots__ = ("input", "invert", "matcher")

    def __init__(self, input: Input, matcher: ValueMatcher, invert: bool) -> None:
        self.input: Input = input
        self.matcher: ValueMatcher = matcher
        self.invert: bool = invert

    def holds(self, subject: Subject, trace: Trace | None = None) -> int:
        input = self.input
        value = input.value(subject)
        if input.structured:
            verdict = YES if self.matcher.matches(value) != self.invert else NO
        else:
            value = input.get(subject)
            verdict = UNDECIDED if isinstance(value, NotYet) else NO
        if trace is not None:
            trace.asked(self.describe(), None if value is ABSENT else value, verdict)
        return verdict

    def describe(self) -> str:
        verdict = f"{self.input.describe()} {self.matcher.describe()}"
        return f"not ({verdict})" if self.invert else verdict


# -- combinations ----------------------------------------------------------------------------------


class AllOf(Predicate):
    __slots__ = ("predicates",)

    def __init__(self, predicates: tuple[Predicate, ...]) -> None:
        self.predicates: tuple[Predicate, ...] = predicates

    def holds(self, subject: Subject, trace: Trace | None = None) -> int:
        for predicate in self.predicates:
            verdict = predicate.holds(subject, trace)
            if verdict != YES:
                return verdict
        return YES

    def describe(self) -> str:
        return "(" + " and ".join([predicate.describe() for predicate in self.predicates]) + ")"


class AnyOf(Predicate):
    __slots__ = ("predicates",)

    def __init__(self, predicates: tuple[Predicate, ...]) -> None:
        self.predicates: tuple[Predicate, ...] = predicates

    def holds(self, subject: Subject, trace: Trace | None = None) -> int:
        answer = NO
        for predicate in self.predicates:
            verdict = predicate.holds(subject, trace)
            if verdict == YES:
                return YES
            if verdict == UNDECIDED:
                answer = UNDECIDED
        return answer

    def describe(self) -> str:
        return "(" + " or ".join([predicate.describe() for predicate in self.predicates]) + ")"


class Not(Predicate):
    __slots__ = ("predicate",)

    def __init__(self, predicate: Predicate) -> None:
        self.predicate: Predicate = predicate

    def holds(self, subject: Subject, trace: Trace | None = None) -> int:
        verdict = self.predicate.holds(subject, trace)
        if verdict == UNDECIDED:
            return UNDECIDED
        return NO if verdict == YES else YES

    def describe(self) -> str:
        return f"not ({self.predicate.describe()})"


NEVER: Final = Predicate()
