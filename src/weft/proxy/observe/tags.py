"""Tags: the parts of a stat's name that are data, taken out of it by rule.

``cluster.web.upstream_cx_total`` is the stat ``cluster.upstream_cx_total`` with the tag
``envoy.cluster_name=web``.  Prometheus output is made of the two.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class StatsSettings:
    """``stats_config`` of a bootstrap."""


DEFAULT = StatsSettings()
