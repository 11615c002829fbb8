"""What main asks of those who carry the traffic, be it one worker in its own process or many forked.

:class:`~weft.proxy.process.sole.SoleWorker` and :class:`~weft.proxy.process.forked.ForkedWorkers`.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

from weft.proxy.admin.view import ClusterStatus
from weft.proxy.assemble import ServerSettings
from weft.proxy.observe.stats import Snapshot
from weft.proxy.process.changes import Changes
from weft.proxy.process.watchdog import Watched
from weft.proxy.runtime import Value


class Carriers(Protocol):
    settings: ServerSettings
    """Main's newest; main sets it before :meth:`apply`."""
    runtime: dict[str, Value]
    watched: list[Watched]

    async def start(self) -> None:
        """Until all accept connections.  Raises StartError."""
        ...

    async def apply(self, changes: Changes, new_sockets: Sequence[str]) -> None:
        """``new_sockets``: listeners whose sockets were bound since."""
        ...

    async def drain(self, seconds: float) -> None:
        """Accept no more; return when what was under way has ended, or after ``seconds``."""
        ...

    async def stop(self) -> None:
        """End now."""
        ...

    async def snapshots(self) -> list[Snapshot]: ...
    async def histograms(self) -> Snapshot:
        """Histograms with a sample, at most a second old."""
        ...

    async def clusters(self) -> list[list[ClusterStatus]]: ...
    async def memory(self) -> list[dict[str, int]]:
        """Of processes other than main."""
        ...

    async def warming(self) -> list[str]:
        """Clusters that are not resolved yet."""
        ...

    def look(self, late: float) -> list[tuple[int, bool, bool]]:
        """The watchdog's round: (worker, a new miss, a new mega miss).  It comes ``late`` seconds
        after its time."""
        ...

    def replace_runtime(self, values: Mapping[str, Value]) -> None: ...
    def set_log_level(self, level: str, component: str) -> None: ...
    def reset_counters(self) -> None: ...
    def reopen_logs(self) -> None: ...
    def fail_healthcheck(self, failed: bool) -> None: ...
    def stop_listeners(self, *, inbound_only: bool, graceful: bool, skip_exit: bool) -> None: ...


class StartError(Exception):
    """The proxy cannot start; the text says why."""
