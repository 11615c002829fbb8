"""A filter chain as configured: its criteria, its filters, and what kind of socket is below them."""

from dataclasses import dataclass
from typing import Any

from weft.api.problems import Where
from weft.api.values import optional_seconds, wrapped
from weft.proxy.extension_config import resolve
from weft.proxy.extensions import NetworkFilterKind
from weft.proxy.listener.filter_chain_match import (
    EVERYTHING,
    ChainMatch,
    chain_match,
    check_suffix,
    overlap,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkFilterSettings:
    """One filter of a chain."""

    name: str
    kind: NetworkFilterKind
    settings: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class FilterChainSettings:
    name: str = ""
    match: ChainMatch = EVERYTHING
    filters: tuple[NetworkFilterSettings, ...] = ()
    """In order, the terminal last; none at all closes every connection at once, as in Envoy."""
    transport_protocol: str = "raw_buffer"
    """What the transport socket below the filters speaks."""
    use_proxy_protocol: bool = False
    """The deprecated ``use_proxy_proto``."""
    message_bytes: bytes = b""
    """The message, serialized: equal bytes mean an unchanged chain."""


def filter_chain_settings(message: Any, where: Where, *, by_name: bool = False) -> FilterChainSettings:
    """From a ``FilterChain``; ``by_name``: its criteria do not count."""
    filters: list[NetworkFilterSettings] = []
    place = where.field("filters")
    for i, entry in enumerate(message.filters):
        resolved = resolve("network_filter", entry, place.item(i))
        if resolved is None:
            continue
        kind, settings = resolved
        assert isinstance(kind, NetworkFilterKind)
        last = i == len(message.filters) - 1
        if kind.terminal and not last:
            place.item(i).problem(
                f"terminal filter named {entry.name} of type {kind.name} must be the last filter in a network filter chain"
            )
        elif last and not kind.terminal:
            place.item(i).problem(
                f"non-terminal filter named {entry.name} of type {kind.name} is the last filter in a network filter chain"
            )
        filters.append(NetworkFilterSettings(name=entry.name, kind=kind, settings=settings))
    if message.HasField("transport_socket"):
        # raw_buffer is the only kind yet; every other is a problem that resolve() reports.
        resolve("transport_socket", message.transport_socket, where.field("transport_socket"))
    # Without a handshake there is nothing that transport_socket_connect_timeout could cut short.
    optional_seconds(message, "transport_socket_connect_timeout")
    match = EVERYTHING
    if message.HasField("filter_chain_match"):
        place = where.field("filter_chain_match")
        if not by_name:
            match = chain_match(message.filter_chain_match, place)
        else:
            check_suffix(message.filter_chain_match, place)
            place.warn("the criteria of a chain are ignored where the listener has a filter_chain_matcher")
    return FilterChainSettings(
        name=message.name,
        match=match,
        filters=tuple(filters),
        use_proxy_protocol=wrapped(message, "use_proxy_proto", False),
        message_bytes=message.SerializeToString(deterministic=True),
    )


def filter_chains_settings(
    messages: Any, where: Where, *, by_name: bool = False
) -> tuple[FilterChainSettings, ...]:
    """From ``repeated FilterChain``; chains that could both be meant by one connection are a problem.

    ``by_name``: the listener has a ``filter_chain_matcher``, which names them.
    """
    before = len(where.problems.items)
    chains = tuple(
        filter_chain_settings(message, where.item(i), by_name=by_name) for i, message in enumerate(messages)
    )
    if by_name:
        _check_names(chains, where)
        return chains
    if len(where.problems.items) > before:
        return chains  # criteria may be missing, and chains only look alike
    seen: dict[ChainMatch, int] = {}
    for i, chain in enumerate(chains):
        first = seen.setdefault(chain.match, i)
        if first != i:
            where.item(i).problem(
                f"filter chain '{chain.name}' has the same matching rules defined as '{chains[first].name}'"
            )
    if len(seen) == len(chains):
        both = overlap(tuple(chain.match for chain in chains))
        if both is not None:
            where.item(both[1]).problem(
                f"multiple filter chains with overlapping matching rules are defined: this one and [{both[0]}]"
            )
    return chains


def _check_names(chains: tuple[FilterChainSettings, ...], where: Where) -> None:
    names: set[str] = set()
    for i, chain in enumerate(chains):
        place = where.item(i).field("name")
        if not chain.name:
            place.problem('"name" field is required when using a listener matcher')
        elif chain.name in names:
            place.problem(f"\"name\" field is duplicated with value '{chain.name}'")
        names.add(chain.name)
