"""What a worker lends to the parts that are built in it.

Small on purpose: the parts every running object needs, and nothing of the configuration.
"""

import asyncio
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING

from weft.proxy.clock import Clock
from weft.proxy.deadlines import Deadlines
from weft.proxy.observe.stats import Store
from weft.proxy.runtime import Runtime
from weft.proxy.upstream.shadow import Shadows

if TYPE_CHECKING:
    from weft.proxy.observe.files import LogFiles
    from weft.proxy.upstream.directory import Clusters


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who this proxy is: the ``node`` of the bootstrap and the command line."""

    node_id: str = ""
    cluster: str = ""
    zone: str = ""
    region: str = ""
    sub_zone: str = ""
    address: str = ""
    """Of this machine, as others see it; empty when it has none but loopback."""
    metadata: dict[str, object] = field(default_factory=dict)


class ConnectionNumbers:
    """Numbers of connections, downstream and upstream alike, unique in a worker."""

    def __init__(self) -> None:
        self.last: int = -1

    def next(self) -> int:
        self.last += 1
        return self.last


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerContext:
    """One per worker."""

    loop: asyncio.AbstractEventLoop
    clock: Clock
    deadlines: Deadlines
    random: Random
    stats: Store
    runtime: Runtime
    clusters: "Clusters"
    log_files: "LogFiles"
    identity: Identity = Identity()
    numbers: ConnectionNumbers = field(default_factory=ConnectionNumbers)
    shadows: Shadows = field(default_factory=Shadows)
    index: int = 0
    """Number of this worker, from 0."""
