"""The admin server's own stats: ``http.admin.*`` and ``listener.admin.*``, by Envoy's names."""

from typing import ClassVar

from weft.proxy.observe.histogram import Histogram
from weft.proxy.observe.stats import Codes, StatGroup, rows


class AdminHttpStats(StatGroup):
    """Under ``http.admin.``."""

    STATS: ClassVar[tuple[tuple[str, str, int], ...]] = rows(
        "downstream_cx_destroy",
        "downstream_cx_protocol_error",
        "downstream_cx_total",
        "downstream_cx_tx_bytes_total",
        "downstream_rq_completed",
        "downstream_rq_total",
        gauges=("downstream_cx_active", "downstream_rq_active"),
    )
    HISTOGRAMS: ClassVar[tuple[tuple[str, str, str], ...]] = (("rq_time", "downstream_rq_time", "ms"),)

    def __init__(self) -> None:
        self.downstream_cx_destroy: int = 0
        self.downstream_cx_protocol_error: int = 0
        self.downstream_cx_total: int = 0
        self.downstream_cx_tx_bytes_total: int = 0
        self.downstream_rq_completed: int = 0
        self.downstream_rq_total: int = 0
        self.downstream_cx_active: int = 0
        self.downstream_rq_active: int = 0
        self.rq_time = Histogram()
        self.codes = Codes()

    def more(self) -> dict[str, int]:
        return {f"downstream_rq_{n}xx": 0 for n in range(1, 6)} | self.codes.named(
            "downstream_rq", each=False
        )

    def reset_counters(self) -> None:
        super().reset_counters()
        self.codes.reset()


class AdminListenerStats(StatGroup):
    """Under ``listener.admin.``: views of the same numbers."""

    STATS: ClassVar[tuple[tuple[str, str, int], ...]] = rows(
        "downstream_cx_destroy", "downstream_cx_total", gauges=("downstream_cx_active",)
    )

    def __init__(self, http: AdminHttpStats) -> None:
        self._http = http

    @property
    def downstream_cx_destroy(self) -> int:
        return self._http.downstream_cx_destroy

    @property
    def downstream_cx_total(self) -> int:
        return self._http.downstream_cx_total

    @property
    def downstream_cx_active(self) -> int:
        return self._http.downstream_cx_active

    def reset_counters(self) -> None:
        """The group they belong to does."""
