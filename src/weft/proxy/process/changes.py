"""What is different between two configurations of one proxy.

Resources are compared by their deterministic bytes, so one that only moved in the file, or was only
written differently, is not touched.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from weft.proxy.assemble import ServerSettings, rest_of
from weft.proxy.listener.settings import ListenerSettings
from weft.proxy.upstream.settings import ClusterSettings


class _Named(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def message_bytes(self) -> bytes: ...


_T = TypeVar("_T", bound=_Named)


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """From one configuration to the next."""

    added_clusters: tuple[ClusterSettings, ...] = ()
    changed_clusters: tuple[ClusterSettings, ...] = ()
    gone_clusters: tuple[str, ...] = ()
    added_listeners: tuple[ListenerSettings, ...] = ()
    changed_listeners: tuple[ListenerSettings, ...] = ()
    gone_listeners: tuple[str, ...] = ()
    runtime: bool = False
    rest: bool = False
    """Something changed that takes a restart: node, admin, stats, watchdog ..."""

    def __bool__(self) -> bool:
        return self != NOTHING

    def __str__(self) -> str:
        parts: list[str] = []
        for what, names in (
            ("clusters added", _names(self.added_clusters)),
            ("clusters changed", _names(self.changed_clusters)),
            ("clusters removed", self.gone_clusters),
            ("listeners added", _names(self.added_listeners)),
            ("listeners changed", _names(self.changed_listeners)),
            ("listeners removed", self.gone_listeners),
        ):
            if names:
                shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
                parts.append(f"{what}: {shown}")
        if self.runtime:
            parts.append("runtime changed")
        if self.rest:
            parts.append(
                "changed, but only a restart puts it into effect: what is neither listener, cluster nor runtime"
            )
        return "; ".join(parts) or "nothing changed"


NOTHING = Changes()


def changes(old: ServerSettings, new: ServerSettings) -> Changes:
    added_clusters, changed_clusters, gone_clusters = _compare(old.clusters, new.clusters)
    added_listeners, changed_listeners, gone_listeners = _compare(old.listeners, new.listeners)
    return Changes(
        added_clusters=added_clusters,
        changed_clusters=changed_clusters,
        gone_clusters=gone_clusters,
        added_listeners=added_listeners,
        changed_listeners=changed_listeners,
        gone_listeners=gone_listeners,
        runtime=old.runtime != new.runtime,
        rest=old.bootstrap != new.bootstrap and rest_of(old.bootstrap) != rest_of(new.bootstrap),
    )


def _compare(old: Sequence[_T], new: Sequence[_T]) -> tuple[tuple[_T, ...], tuple[_T, ...], tuple[str, ...]]:
    """(added, changed, names that are gone)."""
    before = {one.name: one.message_bytes for one in old}
    now = {one.name for one in new}
    added = tuple(one for one in new if one.name not in before)
    changed = tuple(one for one in new if one.name in before and before[one.name] != one.message_bytes)
    return added, changed, tuple(name for name in before if name not in now)


def _names(resources: Sequence[_Named]) -> tuple[str, ...]:
    return tuple(one.name for one in resources)
