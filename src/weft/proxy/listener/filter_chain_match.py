"""Which filter chain carries a connection.

The criteria are asked in Envoy's order: destination port, destination IP, server name, transport
protocol, application protocol, directly connected source IP, source type, source IP, source port.
At each level the *most specific* entry is taken (exact before wildcard, longer prefix before
shorter), and there is no way back: when nothing below it fits, the connection has no chain, even
where a less specific entry would have led to one.  What remains then is the default chain.

Chains are compiled into nested tables, a level that no chain uses costing one dict lookup.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from weft.api.problems import Where
from weft.proxy.address import is_local
from weft.proxy.observe.stream_info import ConnectionInfo
from weft.proxy.prefixes import NO_PREFIX, PrefixTable, canonical_all, number_of

ANY_SOURCE: Final = 0
SAME_IP_OR_LOOPBACK: Final = 1
EXTERNAL: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainMatch:
    """The criteria of one chain; empty means any."""

    destination_port: int = 0
    prefixes: tuple[str, ...] = ()
    """Canonical networks (``10.0.0.0/8``), as all prefixes here."""
    server_names: tuple[str, ...] = ()
    """Lower-case; ``*.example.com`` is kept as ``.example.com``."""
    transport_protocol: str = ""
    application_protocols: tuple[str, ...] = ()
    direct_source_prefixes: tuple[str, ...] = ()
    source_type: int = ANY_SOURCE
    source_prefixes: tuple[str, ...] = ()
    source_ports: tuple[int, ...] = ()


EVERYTHING: Final = ChainMatch()


def check_suffix(message: Any, where: Where) -> None:
    """What no one has implemented is refused even where criteria are ignored."""
    if message.address_suffix or message.HasField("suffix_len"):
        where.problem("address_suffix and suffix_len are not implemented, in Envoy neither")


def chain_match(message: Any, where: Where) -> ChainMatch:
    """From a ``FilterChainMatch``."""
    check_suffix(message, where)
    names: list[str] = []
    for i, name in enumerate(message.server_names):
        bare = name[1:] if name.startswith("*.") else name
        if "*" in bare:
            where.field("server_names").item(i).problem(
                'partial wildcards are not supported in "server_names"'
            )
        names.append(bare.lower())
    return ChainMatch(
        destination_port=message.destination_port.value if message.HasField("destination_port") else 0,
        prefixes=canonical_all(message.prefix_ranges, where.field("prefix_ranges")),
        server_names=tuple(names),
        transport_protocol=message.transport_protocol,
        application_protocols=tuple(message.application_protocols),
        direct_source_prefixes=canonical_all(
            message.direct_source_prefix_ranges, where.field("direct_source_prefix_ranges")
        ),
        source_type=message.source_type,
        source_prefixes=canonical_all(message.source_prefix_ranges, where.field("source_prefix_ranges")),
        source_ports=tuple(message.source_ports),
    )


class _Sources:
    """The three levels below the directly connected source: type, then IP and port."""

    __slots__ = ("by_type", "typed")

    def __init__(self, by_type: "dict[int, PrefixTable[dict[int, int]]]") -> None:
        self.by_type = by_type
        self.typed: bool = SAME_IP_OR_LOOPBACK in by_type or EXTERNAL in by_type


_Protocols = dict[str, "PrefixTable[_Sources]"]
_Transports = dict[str, _Protocols]
_Names = dict[str, _Transports]


class ChainChooser:
    """Finds the chain of a connection.  Chains are numbers: their index among the listener's.

    This one finds none; see :class:`FilterChainMatcher`, and ``ChainTree`` in ``filter_chain_tree``.
    """

    def __init__(self, catch_all: int = -1) -> None:
        self.catch_all: int = catch_all
        """The chain, when there is just one and it takes everything; else -1."""

    def find(self, info: ConnectionInfo) -> int:
        """The index of the chain; -1 for the default chain, -2 for none at all."""
        return -1


class FilterChainMatcher(ChainChooser):
    """Compiled criteria."""

    def __init__(self, matches: tuple[ChainMatch, ...]) -> None:
        """``matches`` must not overlap (:func:`overlap`)."""
        super().__init__(0 if matches == (EVERYTHING,) else -1)
        self._ports: dict[int, PrefixTable[_Names]] = _compiled(matches)

    def find(self, info: ConnectionInfo) -> int:
        if self.catch_all >= 0:
            return self.catch_all
        local = info.local
        by_ip: PrefixTable[_Names] | None = None
        if local.ip:
            by_ip = self._ports.get(local.port)
        if by_ip is None:
            by_ip = self._ports.get(0)
            if by_ip is None:
                return -1
        number, v6 = number_of(local.ip)
        names = by_ip.find(number, v6)
        if names is None:
            return -1
        transports = _by_name(names, info.server_name)
        if transports is None:
            return -1
        protocols = transports.get(info.transport_protocol or "raw_buffer")
        if protocols is None:
            protocols = transports.get("")
            if protocols is None:
                return -1
        direct: PrefixTable[_Sources] | None = None
        for protocol in info.application_protocols:
            direct = protocols.get(protocol)
            if direct is not None:
                break
        if direct is None:
            direct = protocols.get("")
            if direct is None:
                return -1
        number, v6 = number_of(info.direct_remote.ip)
        sources = direct.find(number, v6)
        if sources is None:
            return -1
        return _by_source(sources, info)


def _by_name(names: _Names, server_name: str) -> _Transports | None:
    found = names.get(server_name) if server_name else None
    if found is not None:
        return found
    dot = server_name.find(".", 1)
    while 0 < dot < len(server_name) - 1:
        found = names.get(server_name[dot:])
        if found is not None:
            return found
        dot = server_name.find(".", dot + 1)
    return names.get("")


def _by_source(sources: _Sources, info: ConnectionInfo) -> int:
    by_type = sources.by_type
    table: PrefixTable[dict[int, int]] | None = None
    if sources.typed:
        table = by_type.get(SAME_IP_OR_LOOPBACK if is_local(info.remote, info.local) else EXTERNAL)
    if table is None:
        table = by_type.get(ANY_SOURCE)
        if table is None:
            return -1
    number, v6 = number_of(info.remote.ip)
    ports = table.find(number, v6)
    if ports is None:
        return -1
    chain = ports.get(info.remote.port)
    if chain is None:
        chain = ports.get(0)
    return -1 if chain is None else chain


_Leaf = tuple[int, str, str, str, str, str, int, str, int]


def _leaves(match: ChainMatch) -> Iterator[_Leaf]:
    """Every combination of single criteria that a chain stands for."""
    for prefix in match.prefixes or (NO_PREFIX,):
        for name in match.server_names or ("",):
            for protocol in match.application_protocols or ("",):
                for direct in match.direct_source_prefixes or (NO_PREFIX,):
                    for source in match.source_prefixes or (NO_PREFIX,):
                        for port in match.source_ports or (0,):
                            yield (
                                match.destination_port, prefix, name, match.transport_protocol, protocol,
                                direct, match.source_type, source, port,
                            )  # fmt: skip


def overlap(matches: tuple[ChainMatch, ...]) -> tuple[int, int] | None:
    """Two chains (or one twice) with a combination in common, which makes the choice ambiguous."""
    seen: dict[_Leaf, int] = {}
    for i, match in enumerate(matches):
        for leaf in _leaves(match):
            if leaf in seen:
                return seen[leaf], i
            seen[leaf] = i
    return None


def _compiled(matches: tuple[ChainMatch, ...]) -> dict[int, PrefixTable[_Names]]:
    tree: dict[Any, Any] = {}
    for i, match in enumerate(matches):
        for leaf in _leaves(match):
            level = tree
            for key in leaf[:-1]:
                level = level.setdefault(key, {})
            level.setdefault(leaf[-1], i)
    return {
        port: PrefixTable(
            {
                prefix: {
                    name: {
                        transport: {
                            protocol: PrefixTable(
                                {
                                    direct: _Sources(
                                        {kind: PrefixTable(by_ip) for kind, by_ip in types.items()}
                                    )
                                    for direct, types in directs.items()
                                }
                            )
                            for protocol, directs in protocols.items()
                        }
                        for transport, protocols in transports.items()
                    }
                    for name, transports in names.items()
                }
                for prefix, names in prefixes.items()
            }
        )
        for port, prefixes in tree.items()
    }
