"""What main and its workers say to each other.

Orders go to a worker and are not answered; questions are, under the tag of the question; reports
come from a worker by themselves.  Bodies are JSON, but for resources, which stay the bytes of their
protobuf messages: a worker makes its settings from these, as main did when it checked them.
"""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

# Orders.
SOCKET: Final = 1
"""Listening sockets of a listener that the next UPDATE brings; body: its name."""
UPDATE: Final = 2
DRAIN: Final = 3
"""Stop accepting, let what is under way end, then end the process."""
STOP: Final = 4
"""End the process now."""
LOG_LEVEL: Final = 5
RESET_COUNTERS: Final = 6
REOPEN_LOGS: Final = 7
RUNTIME: Final = 8
HEALTHCHECK: Final = 9
STOP_LISTENERS: Final = 10

# Questions.
STATS: Final = 20
CLUSTERS: Final = 21
MEMORY: Final = 22

# Reports.
STARTED: Final = 30
FAILED: Final = 31
"""The worker could not start; body: why."""
FLUSH: Final = 32
"""Changed stats, as ``stats.decode`` reads them."""
ANSWER: Final = 33

_SIZE: Final = struct.Struct("<I")


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """Resources that changed, in the order in which they are put into effect: clusters that are new
    or different, listeners that are gone, listeners that are new or different, clusters that are gone."""

    clusters: Sequence[bytes] = ()
    """``envoy.config.cluster.v3.Cluster``."""
    listeners: Sequence[bytes] = ()
    """``envoy.config.listener.v3.Listener``."""
    gone_listeners: Sequence[str] = ()
    gone_clusters: Sequence[str] = ()
    slots: Mapping[str, int] = field(default_factory=dict)
    """Places of new clusters in the shared rows of limits."""


def encode_update(update: Update) -> bytes:
    head = orjson.dumps(
        {
            "clusters": len(update.clusters),
            "listeners": len(update.listeners),
            "gone_listeners": list(update.gone_listeners),
            "gone_clusters": list(update.gone_clusters),
            "slots": dict(update.slots),
        }
    )
    parts = [head, *update.clusters, *update.listeners]
    return b"".join(piece for part in parts for piece in (_SIZE.pack(len(part)), part))


def decode_update(data: bytes) -> Update:
    parts: list[bytes] = []
    at = 0
    while at < len(data):
        (size,) = _SIZE.unpack_from(data, at)
        parts.append(data[at + 4 : at + 4 + size])
        at += 4 + size
    head: dict[str, Any] = orjson.loads(parts[0])
    middle = 1 + head["clusters"]
    return Update(
        clusters=tuple(parts[1:middle]),
        listeners=tuple(parts[middle:]),
        gone_listeners=tuple(head["gone_listeners"]),
        gone_clusters=tuple(head["gone_clusters"]),
        slots=head["slots"],
    )
