"""What a worker tells main each second, so that its death loses at most a second of counts.

Only prefixes of which something changed are told: a worker with a thousand clusters talks about the
five that are called.  They are looked at a few at a time, so that no request waits for it.
"""

from weft.proxy.observe.stats import Snapshot, Store, read_group

_AT_ONCE = 50
"""Prefixes looked at between two turns of the loop; about half a millisecond."""


class Flush:
    """Goes round the prefixes of a store; :meth:`step` is called by a timer of the worker."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._seen: dict[str, list[object]] = {}
        self._left: list[str] = []

    def begin(self) -> None:
        """Start a round, dropping what is left of the last."""
        self._left = self._store.prefixes()
        if len(self._seen) > 2 * len(self._left) + 100:
            known = set(self._left)
            self._seen = {prefix: seen for prefix, seen in self._seen.items() if prefix in known}

    def step(self) -> bytes:
        """The next changed prefixes as ``stats.decode`` reads them; empty when nothing changed."""
        changed = Store()
        any_changed = False
        for prefix in self._left[:_AT_ONCE]:
            groups = self._store.groups_of(prefix)
            now: list[object] = [read_group(group) for group in groups]
            if now != self._seen.get(prefix):
                self._seen[prefix] = now
                any_changed = True
                for group in groups:
                    changed.register(prefix, group)
        del self._left[:_AT_ONCE]
        return changed.pack() if any_changed else b""

    @property
    def done(self) -> bool:
        """The round is over."""
        return not self._left


def overlay(known: Snapshot, newer: Snapshot) -> None:
    """Put what :meth:`Flush.step` told over what was known.  Gauges die with their worker: left out."""
    known.counters.update(newer.counters)
    known.histograms.update(newer.histograms)
