"""Which of many routes can match a path at all: an index over their path predicates.

Trying a thousand prefixes in turn is a thousand comparisons.  Most predicates begin with a literal
text, so the routes are found by it: one dict lookup per different length of text.  What has no such
text (regular expressions, any case) is always a candidate.
"""

from weft.proxy.route.match import EXACT, PREFIX, SEPARATED, PathMatch


class PathIndex:
    __slots__ = ("_always", "_by_text", "_lengths")

    def __init__(self, paths: list[PathMatch]) -> None:
        by_text: dict[bytes, list[int]] = {}
        always: list[int] = []
        for number, path in enumerate(paths):
            if path.kind in (PREFIX, EXACT, SEPARATED) and not path.ignore_case:
                by_text.setdefault(path.text, []).append(number)
            else:
                always.append(number)
        self._always: list[int] = always
        self._by_text: dict[bytes, list[int]] = by_text
        self._lengths: list[int] = sorted({len(text) for text in by_text})

    def candidates(self, path: bytes) -> list[int]:
        """Numbers of the routes that ``path`` may match, in their order."""
        found = self._always
        several = False
        size = len(path)
        by_text = self._by_text
        for length in self._lengths:
            if length > size:
                break
            more = by_text.get(path[:length])
            if more is not None:
                if found:
                    found = found + more
                    several = True
                else:
                    found = more
        return sorted(found) if several else found
