"""A snapshot in portions: with a thousand clusters it has a hundred thousand stats.

A portion holds all stats of one prefix, such as ``cluster.web.``, so whatever is told from several
stats of one object can be told from its portion.
"""

from collections.abc import Iterator, Mapping
from operator import itemgetter
from typing import Final, TypeVar

from weft.proxy.observe.stats import Snapshot
from weft.steps import Steps

T = TypeVar("T")
_STEP: Final = 1000


def portions(snapshot: Snapshot) -> Steps[Iterator[Snapshot]]:
    """In the order of names: what is sorted in each is sorted in all of them together."""
    out: dict[str, Snapshot] = {}
    counters = yield from _grouped(snapshot.counters)
    for prefix, numbers in counters.items():
        _of(out, prefix).counters = numbers
    gauges = yield from _grouped(snapshot.gauges)
    for prefix, numbers in gauges.items():
        _of(out, prefix).gauges = numbers
    texts = yield from _grouped(snapshot.texts)
    for prefix, words in texts.items():
        _of(out, prefix).texts = words
    histograms = yield from _grouped(snapshot.histograms)
    for prefix, group in histograms.items():
        _of(out, prefix).histograms = group
    return _let_go([portion for _, portion in sorted(out.items(), key=itemgetter(0))])


def _let_go(portions: list[Snapshot]) -> Iterator[Snapshot]:
    """One after the other, each freed when the next is taken: to free all at the end takes its time too."""
    portions.reverse()
    while portions:
        yield portions.pop()


def size(portion: Snapshot) -> int:
    """How many stats are in it; a histogram is as much work as ten."""
    return len(portion.counters) + len(portion.gauges) + len(portion.texts) + 10 * len(portion.histograms)


def _of(portions: dict[str, Snapshot], prefix: str) -> Snapshot:
    portion = portions.get(prefix)
    if portion is None:
        portion = portions[prefix] = Snapshot()
    return portion


def _grouped(stats: Mapping[str, T]) -> Steps[dict[str, dict[str, T]]]:
    """By the first two parts, with the dot behind them: no such prefix begins another one, so names
    are in the order of their prefixes.  A name of fewer parts is a group of its own."""
    out: dict[str, dict[str, T]] = {}
    prefix = "\n"
    group: dict[str, T] = {}
    for number, (name, value) in enumerate(stats.items()):
        if not name.startswith(prefix):  # neighbours are mostly of one object
            second = name.find(".", name.find(".") + 1)
            prefix = name[: second + 1]
            if second < 0:
                out[name] = {name: value}
                prefix = "\n"
                continue
            group = out.setdefault(prefix, {})
        group[name] = value
        if number % _STEP == 0:
            yield _STEP // 5
    return out
