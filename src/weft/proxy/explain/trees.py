"""Matcher trees, asked by traffic's own ``find`` while it keeps a record of its questions."""

from typing import Final, TypeVar

from weft.http.message import Request
from weft.proxy.explain.explanation import NO, UNDECIDED, YES, TreeStep
from weft.proxy.matching.inputs import Subject
from weft.proxy.matching.trace import Trace
from weft.proxy.matching.tree import Inconclusive, Tree
from weft.proxy.observe.stream_info import StreamInfo
from weft.proxy.runtime import Runtime

T = TypeVar("T")

_VERDICTS: Final = (NO, YES, UNDECIDED)
"""By the numbers of ``matching.trace``."""


def asked(
    tree: Tree[T], request: Request, info: StreamInfo, runtime: Runtime
) -> tuple[T | None, tuple[TreeStep, ...]]:
    """(where the tree leads, the questions on the way)"""
    trace = Trace()
    found = tree.find(Subject(info.connection, runtime, info, request), trace)
    steps = [
        TreeStep(depth=step.depth, question=step.question, seen=step.seen, verdict=_VERDICTS[step.verdict])
        for step in trace.steps
    ]
    return None if isinstance(found, Inconclusive) else found, tuple(steps)
