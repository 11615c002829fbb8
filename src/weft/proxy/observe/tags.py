"""Tags: the parts of a stat's name that are data, taken out of it by rule; and ``stats_config``.

``cluster.web.upstream_cx_total`` is the stat ``cluster.upstream_cx_total`` with the tag
``envoy.cluster_name=web``.  Prometheus output is made of the two.  The rules are in
:mod:`weft.proxy.observe.tag_rules`, loaded when somebody scrapes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from weft.api.problems import Where
from weft.proxy import matchers
from weft.proxy.observe.quantiles import BOUNDS
from weft.proxy.observe.stats import Snapshot

if TYPE_CHECKING:
    from weft.proxy.observe.tag_rules import TagRule

Matches = Callable[[str], bool]
Tags = tuple[tuple[str, str], ...]
"""(name, value), in the order to print."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TagSpec:
    """One entry of ``stats_tags``: of ``regex`` and ``fixed`` at most one is set."""

    name: str
    regex: str = ""
    fixed: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HistogramSetting:
    matches: Matches
    bounds: tuple[float, ...] = BOUNDS
    bins: int | None = None
    """Envoy: the bins kept per histogram.  Read, and without effect here: buckets are a sparse table."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StatsSettings:
    """``stats_config`` of a bootstrap."""

    tags: tuple[TagSpec, ...] = ()
    default_tags: bool = True
    admits: Matches | None = None
    """Which stats there are; None for all (``stats_matcher``)."""
    histograms: tuple[HistogramSetting, ...] = ()

    def bounds(self, name: str) -> tuple[float, ...]:
        """Upper bounds of the printed buckets of the histogram ``name``."""
        for setting in self.histograms:
            if setting.matches(name):
                return setting.bounds
        return BOUNDS

    def admit(self, snapshot: Snapshot) -> Snapshot:
        """``snapshot`` without what ``stats_matcher`` keeps out."""
        admits = self.admits
        if admits is None:
            return snapshot
        out = Snapshot()
        out.counters = {name: value for name, value in snapshot.counters.items() if admits(name)}
        out.gauges = {name: value for name, value in snapshot.gauges.items() if admits(name)}
        out.texts = {name: value for name, value in snapshot.texts.items() if admits(name)}
        out.histograms = {name: value for name, value in snapshot.histograms.items() if admits(name)}
        return out


DEFAULT: Final = StatsSettings()


class TagExtractor:
    """From a stat's name to its bare name and tags."""

    def __init__(self, settings: StatsSettings = DEFAULT) -> None:
        from weft.proxy.observe import tag_rules

        rules: list[TagRule] = list(tag_rules.DEFAULT_RULES) if settings.default_tags else []
        for spec in settings.tags:
            if spec.fixed is not None:
                rules.append(tag_rules.fixed_rule(spec.name, spec.fixed))
            elif spec.regex:
                rules.append(tag_rules.pattern_rule(spec.name, spec.regex))
            elif not settings.default_tags:
                rules.extend(rule for rule in tag_rules.DEFAULT_RULES if rule.tag == spec.name)
        self._anywhere = [rule for rule in rules if not rule.first]
        self._by_first: dict[str, list[TagRule]] = {}
        for rule in rules:
            if rule.first:
                self._by_first.setdefault(rule.first, []).append(rule)
        # With the default rules alone, `cluster.<any part>.rest` differs only in that part: a
        # thousand clusters then cost a hundred extractions.
        self._alike = not settings.tags
        self._shapes: dict[tuple[str, str], tuple[str, Tags]] = {}

    def extract(self, name: str) -> tuple[str, Tags]:
        """The bare name, and the tags."""
        if self._alike:
            first, _, rest = name.partition(".")
            if first in _SHAPED:
                second, _, rest = rest.partition(".")
                if second and rest and second not in _TELLING:
                    shape = self._shapes.get((first, rest))
                    if shape is None:
                        if len(self._shapes) >= _SHAPES_MOST:
                            self._shapes.clear()
                        shape = self._shapes[first, rest] = self._extract(f"{first}.{_HOLE}.{rest}")
                    bare, tags = shape
                    if _HOLE in bare:
                        bare = bare.replace(_HOLE, second)
                    return bare, tuple([tag if tag[1] != _HOLE else (tag[0], second) for tag in tags])
        return self._extract(name)

    def _extract(self, name: str) -> tuple[str, Tags]:
        parts = name.split(".")
        tags: dict[str, str] = {}
        holes: list[tuple[int, int]] = []
        for rules in (self._anywhere, self._by_first.get(parts[0], [])):
            for rule in rules:
                if rule.tag in tags:
                    continue
                found = rule.find(name, parts)
                if found is not None:
                    value, start, end = found
                    tags[rule.tag] = value
                    if end > start:
                        holes.append((start, end))
        return _without(name, holes), tuple(tags.items())


_SHAPED: Final = frozenset(("cluster", "http", "vhost", "tcp"))
"""First parts after which the default rules take any one part for a value alike."""
_TELLING: Final = frozenset(("rbac", "http_local_rate_limit"))
"""Second parts that rules of the form ``$.part.**`` look for."""
_HOLE: Final = "\x01"
_SHAPES_MOST: Final = 20_000


def _without(name: str, holes: list[tuple[int, int]]) -> str:
    if not holes:
        return name
    out: list[str] = []
    at = 0
    for start, end in sorted(holes):
        if start > at:
            out.append(name[at:start])
        at = max(at, end)
    out.append(name[at:])
    return "".join(out)


# -- from configuration --------------------------------------------------------------------------


def stats_settings(message: Any, where: Where) -> StatsSettings:
    """From ``envoy.config.metrics.v3.StatsConfig``."""
    specs: list[TagSpec] = []
    default_tags = not message.HasField("use_all_default_tags") or message.use_all_default_tags.value
    for i, tag in enumerate(message.stats_tags):
        spec = _tag_spec(tag, default_tags, where.field("stats_tags").item(i))
        if spec is not None and any(spec.name == other.name and other.regex == spec.regex for other in specs):
            spec = None  # an exact repetition adds nothing
        if spec is not None:
            specs.append(spec)
    histograms = [
        _histogram_setting(setting, where.field("histogram_bucket_settings").item(i))
        for i, setting in enumerate(message.histogram_bucket_settings)
    ]
    return StatsSettings(
        tags=tuple(specs),
        default_tags=default_tags,
        admits=_admits(message.stats_matcher, where.field("stats_matcher"))
        if message.HasField("stats_matcher")
        else None,
        histograms=tuple(histograms),
    )


def _tag_spec(tag: Any, default_tags: bool, where: Where) -> TagSpec | None:
    from weft.proxy.observe import tag_rules

    if not tag.tag_name:
        where.field("tag_name").problem("tag_name cannot be empty")
        return None
    which = tag.WhichOneof("tag_value")
    if which == "fixed_value":
        return TagSpec(name=tag.tag_name, fixed=tag.fixed_value)
    if which == "regex" and tag.regex:
        try:
            tag_rules.compile_pattern(tag.regex)
        except ValueError as error:
            where.field("regex").problem(f"invalid regex '{tag.regex}': {error}")
            return None
        return TagSpec(name=tag.tag_name, regex=tag.regex)
    if not any(rule.tag == tag.tag_name for rule in tag_rules.DEFAULT_RULES):
        where.field("tag_name").problem(
            f"no regex specified for tag specifier and no default regex for name: '{tag.tag_name}'"
        )
        return None
    return None if default_tags else TagSpec(name=tag.tag_name)


def _histogram_setting(setting: Any, where: Where) -> HistogramSetting:
    bounds = tuple(setting.buckets)
    if bounds and list(bounds) != sorted(set(bounds)):
        # Envoy sorts what it is given.
        bounds = tuple(sorted(set(bounds)))
    matches = string_matcher(setting.match, where.field("match"))
    bins = setting.bins.value if setting.HasField("bins") else None
    return HistogramSetting(matches=matches, bounds=bounds or BOUNDS, bins=bins)


def _admits(matcher: Any, where: Where) -> Matches | None:
    which = matcher.WhichOneof("stats_matcher")
    if which == "reject_all":
        return _nothing if matcher.reject_all else None
    if which is None:
        return None
    listed = getattr(matcher, which)
    patterns = [
        string_matcher(pattern, where.field(which).field("patterns").item(i))
        for i, pattern in enumerate(listed.patterns)
    ]
    if which == "inclusion_list":
        return lambda name: any(matches(name) for matches in patterns)
    return lambda name: not any(matches(name) for matches in patterns)


def _nothing(name: str) -> bool:
    return False


def string_matcher(message: Any, where: Where) -> Matches:
    """From ``envoy.type.matcher.v3.StringMatcher``, over text."""
    matcher = matchers.string_matcher(message, where)
    return lambda text: matcher.matches(text.encode("utf-8", "replace"))
