"""From a host name to what was configured for it: exact, ``*.suffix``, ``prefix.*``, ``*``.

Exact names are one dict.  Wildcards are one dict per length, longest first, so the cost grows with
the number of different lengths and not with the number of names; suffixes go before prefixes.
"""

from typing import Generic, TypeVar

T = TypeVar("T")


class Domains(Generic[T]):
    """Names are compared in lower case."""

    __slots__ = ("_exact", "_prefixes", "_suffixes", "default")

    def __init__(self) -> None:
        self.default: T | None = None
        """What ``*`` stands for."""
        self._exact: dict[bytes, T] = {}
        self._suffixes: list[tuple[int, dict[bytes, T]]] = []
        self._prefixes: list[tuple[int, dict[bytes, T]]] = []

    @property
    def only_default(self) -> bool:
        return not self._exact and not self._suffixes and not self._prefixes

    def add(self, domain: bytes, value: T) -> bool:
        """False when the domain is there already."""
        domain = domain.lower()
        if domain == b"*":
            if self.default is not None:
                return False
            self.default = value
            return True
        if domain.startswith(b"*"):
            table = _of_length(self._suffixes, len(domain) - 1)
            domain = domain[1:]
        elif domain.endswith(b"*"):
            table = _of_length(self._prefixes, len(domain) - 1)
            domain = domain[:-1]
        else:
            table = self._exact
        if domain in table:
            return False
        table[domain] = value
        return True

    def patterns(self) -> list[tuple[bytes, T]]:
        """Every domain and what stands for it, in the order in which they are asked."""
        out = list(self._exact.items())
        for _, table in self._suffixes:
            out += [(b"*" + text, value) for text, value in table.items()]
        for _, table in self._prefixes:
            out += [(text + b"*", value) for text, value in table.items()]
        if self.default is not None:
            out.append((b"*", self.default))
        return out

    def fitting(self, host: bytes) -> list[tuple[bytes, T]]:
        """The domains that are good for ``host``; :meth:`find` takes the first."""
        lower = host.lower()
        size = len(lower)
        out: list[tuple[bytes, T]] = []
        if lower in self._exact:
            out.append((lower, self._exact[lower]))
        for length, table in self._suffixes:
            text = lower[size - length :] if length < size else b""
            if text in table:
                out.append((b"*" + text, table[text]))
        for length, table in self._prefixes:
            text = lower[:length] if length < size else b""
            if text in table:
                out.append((text + b"*", table[text]))
        if self.default is not None:
            out.append((b"*", self.default))
        return out

    def find(self, host: bytes) -> T | None:
        found = self._exact.get(host)
        if found is not None:
            return found
        lower = host.lower()
        if lower != host:
            found = self._exact.get(lower)
            if found is not None:
                return found
        size = len(lower)
        for length, table in self._suffixes:
            # Strictly shorter: *.example.com is not for .example.com.
            if length < size:
                found = table.get(lower[size - length :])
                if found is not None:
                    return found
        for length, table in self._prefixes:
            if length < size:
                found = table.get(lower[:length])
                if found is not None:
                    return found
        return self.default


def _of_length(tables: list[tuple[int, dict[bytes, T]]], length: int) -> dict[bytes, T]:
    for known, table in tables:
        if known == length:
            return table
    table = {}
    tables.append((length, table))
    tables.sort(key=_length, reverse=True)
    return table


def _length(entry: tuple[int, dict[bytes, T]]) -> int:
    return entry[0]


def port_start(host: bytes) -> int:
    """Where the port of an authority begins (at its colon); -1 when it has none."""
    at = host.rfind(b":")
    if at < 0 or host.rfind(b"]") > at:
        return -1  # inside an IPv6 address
    return at
