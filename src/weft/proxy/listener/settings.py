"""A listener as configured: from ``envoy.config.listener.v3.Listener`` to values."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from weft.api.problems import Where
from weft.api.values import optional_seconds, wrapped
from weft.proxy.extension_config import resolve
from weft.proxy.extensions import ListenerFilterKind
from weft.proxy.listener.addresses import ListenAddress, SocketOption, listen_address, socket_options
from weft.proxy.listener.chain_settings import (
    FilterChainSettings,
    filter_chain_settings,
    filter_chains_settings,
)
from weft.proxy.listener.filter_chain_tree import chain_tree
from weft.proxy.listener.port_predicate import PortPredicate, port_predicate
from weft.proxy.matching.tree import Tree
from weft.proxy.worker_counts import WorkerCounts

if TYPE_CHECKING:
    from weft.proxy.observe.access_log import AccessLogSettings

DEFAULT_BUFFER_LIMIT: Final = 1 << 20
"""1 MiB, Envoy's default of ``per_connection_buffer_limit_bytes``."""
DEFAULT_FILTERS_TIMEOUT: Final = 15.0
"""Seconds, Envoy's default of ``listener_filters_timeout``."""
MOST_BACKLOG: Final = 65535
"""Asks for whatever ``net.core.somaxconn`` allows, Envoy's default on Linux."""
_DIRECTIONS: Final = ("UNSPECIFIED", "INBOUND", "OUTBOUND")


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerFilterSettings:
    """One listener filter."""

    name: str
    kind: ListenerFilterKind
    settings: Any
    disabled: PortPredicate | None = None
    """Destination ports for which the filter is left out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerSettings:
    name: str
    """As configured, or made from the whole message when it has none."""
    addresses: tuple[ListenAddress, ...]
    """Never empty; the first one names the stats."""
    bind_to_port: bool = True
    filter_chains: tuple[FilterChainSettings, ...] = ()
    default_filter_chain: FilterChainSettings | None = None
    chain_tree: Tree[str] | None = None
    """``filter_chain_matcher``, to names of chains; None: the chains have criteria of their own."""
    listener_filters: tuple[ListenerFilterSettings, ...] = ()
    filters_timeout: float = DEFAULT_FILTERS_TIMEOUT
    """Seconds that listener filters may take together; 0 for no limit."""
    continue_on_filters_timeout: bool = False
    hand_off: bool = False
    """``use_original_dst``: give connections to the listener of their original destination."""
    buffer_limit: int = DEFAULT_BUFFER_LIMIT
    """Bytes buffered per connection before reading stops; 0 for no limit."""
    stat_prefix: str = ""
    reuse_port: bool = True
    """A socket per worker (SO_REUSEPORT), or one that all share."""
    backlog: int = MOST_BACKLOG
    transparent: bool = False
    freebind: bool = False
    tcp_fast_open: int | None = None
    """Length of the queue; None leaves the system's setting."""
    mptcp: bool = False
    socket_options: tuple[SocketOption, ...] = ()
    exact_balance: bool = False
    """Accepted without effect: a connection belongs to the process that the kernel gave it to."""
    ignore_global_limit: bool = False
    traffic_direction: str = "UNSPECIFIED"
    drain_only_on_change: bool = False
    """``drain_type: MODIFY_ONLY``: not drained because the health check fails."""
    metadata: Any = None
    """``envoy.config.core.v3.Metadata`` as plain values: namespace -> value."""
    access_logs: "tuple[AccessLogSettings, ...]" = ()
    connections: WorkerCounts = field(default_factory=WorkerCounts, compare=False, repr=False)
    """Connections of all workers, for the connection limit."""
    message_bytes: bytes = b""
    """The message, serialized: equal bytes mean an unchanged listener."""
    frame_bytes: bytes = b""
    """The same without its filter chains and how they are chosen: equal bytes mean that the sockets
    can stay."""

    @property
    def address(self) -> ListenAddress:
        return self.addresses[0]

    def changed_only_in_chains(self, new: "ListenerSettings") -> bool:
        """Whether :meth:`Listener.update` can take ``new`` in place, sockets and other chains untouched."""
        return self.name == new.name and self.frame_bytes == new.frame_bytes


def listener_settings(message: Any, where: Where) -> ListenerSettings | None:
    """From a ``Listener``; None when it is one that cannot be represented (after a problem)."""
    if not _supported(message, where):
        return None
    addresses = _addresses(message, where)
    if not addresses:
        return None
    serialized: bytes = message.SerializeToString(deterministic=True)
    frame = type(message)()
    frame.CopyFrom(message)
    del frame.filter_chains[:]
    frame.ClearField("default_filter_chain")
    frame.ClearField("filter_chain_matcher")

    matched = message.HasField("filter_chain_matcher")
    chains = filter_chains_settings(message.filter_chains, where.field("filter_chains"), by_name=matched)
    default = (
        filter_chain_settings(message.default_filter_chain, where.field("default_filter_chain"))
        if message.HasField("default_filter_chain")
        else None
    )
    if not chains and default is None:
        where.problem("no filter chains specified")
    hand_off = wrapped(message, "use_original_dst", False)
    filters = _listener_filters(message.listener_filters, where.field("listener_filters"))
    first = chains[0] if chains else default
    filters += _implied_filters(hand_off, first is not None and first.use_proxy_protocol)
    timeout = optional_seconds(message, "listener_filters_timeout")
    if timeout is not None and timeout < 0:
        where.field("listener_filters_timeout").problem("a duration must not be negative")
    return ListenerSettings(
        name=message.name or str(uuid.uuid5(uuid.NAMESPACE_OID, serialized.hex())),
        addresses=addresses,
        bind_to_port=_bind_to_port(message),
        filter_chains=chains,
        default_filter_chain=default,
        chain_tree=chain_tree(
            message.filter_chain_matcher,
            frozenset([chain.name for chain in chains]),
            where.field("filter_chain_matcher"),
        )
        if matched
        else None,
        listener_filters=filters,
        filters_timeout=DEFAULT_FILTERS_TIMEOUT if timeout is None else timeout,
        continue_on_filters_timeout=message.continue_on_listener_filters_timeout,
        hand_off=hand_off,
        buffer_limit=wrapped(message, "per_connection_buffer_limit_bytes", DEFAULT_BUFFER_LIMIT),
        stat_prefix=message.stat_prefix,
        # The deprecated reuse_port has no effect, as in Envoy.
        reuse_port=wrapped(message, "enable_reuse_port", True) and addresses[0].address.is_ip,
        backlog=wrapped(message, "tcp_backlog_size", MOST_BACKLOG),
        transparent=wrapped(message, "transparent", False),
        freebind=wrapped(message, "freebind", False),
        tcp_fast_open=message.tcp_fast_open_queue_length.value
        if message.HasField("tcp_fast_open_queue_length")
        else None,
        mptcp=message.enable_mptcp,
        socket_options=socket_options(message.socket_options, where.field("socket_options")),
        exact_balance=_exact_balance(message, where),
        ignore_global_limit=message.ignore_global_conn_limit,
        traffic_direction=_DIRECTIONS[message.traffic_direction]
        if message.traffic_direction < 3
        else "UNSPECIFIED",
        drain_only_on_change=message.drain_type == 1,
        metadata=_plain_metadata(message),
        access_logs=_access_logs(message, where),
        message_bytes=serialized,
        frame_bytes=frame.SerializeToString(deterministic=True),
    )


def _supported(message: Any, where: Where) -> bool:
    before = len(where.problems.items)
    if message.HasField("internal_listener"):
        where.field("internal_listener").problem("not supported yet: internal listeners")
    if message.HasField("api_listener"):
        where.field("api_listener").problem("not supported yet: API listeners")
    if message.HasField("fcds_config"):
        where.field("fcds_config").problem("not supported yet: filter chain discovery (FCDS)")
    return len(where.problems.items) == before


def _addresses(message: Any, where: Where) -> tuple[ListenAddress, ...]:
    if not message.HasField("address"):
        where.problem("address is necessary")
        return ()
    found: list[ListenAddress] = []
    first = listen_address(message.address, where.field("address"))
    if first is not None:
        found.append(first)
    for i, extra in enumerate(message.additional_addresses):
        place = where.field("additional_addresses").item(i)
        parsed = listen_address(extra.address, place.field("address"))
        if parsed is None:
            continue
        if extra.HasField("socket_options"):
            options = socket_options(
                extra.socket_options.socket_options, place.field("socket_options").field("socket_options")
            )
            parsed = ListenAddress(
                address=parsed.address,
                mode=parsed.mode,
                ipv4_compat=parsed.ipv4_compat,
                socket_options=options,
            )
        found.append(parsed)
    if message.enable_mptcp and not all(item.address.is_ip for item in found):
        where.field("enable_mptcp").problem("enable_mptcp can only be used with IP addresses")
    return tuple(found) if first is not None else ()


def _bind_to_port(message: Any) -> bool:
    if message.HasField("bind_to_port"):
        return bool(message.bind_to_port.value)
    if message.HasField("deprecated_v1"):
        return wrapped(message.deprecated_v1, "bind_to_port", True)
    return True


def _exact_balance(message: Any, where: Where) -> bool:
    if not message.HasField("connection_balance_config"):
        return False
    place = where.field("connection_balance_config")
    kind = message.connection_balance_config.WhichOneof("balance_type")
    if kind == "extend_balance":
        place.field("extend_balance").problem("not supported yet: connection balance extensions")
    elif kind is None:
        place.problem("balance_type is required")
    return bool(kind == "exact_balance")


def _listener_filters(messages: Any, where: Where) -> tuple[ListenerFilterSettings, ...]:
    filters: list[ListenerFilterSettings] = []
    for i, entry in enumerate(messages):
        resolved = resolve("listener_filter", entry, where.item(i))
        if resolved is None:
            continue
        kind, settings = resolved
        assert isinstance(kind, ListenerFilterKind)
        disabled = (
            port_predicate(entry.filter_disabled, where.item(i).field("filter_disabled"))
            if entry.HasField("filter_disabled")
            else None
        )
        filters.append(
            ListenerFilterSettings(name=entry.name, kind=kind, settings=settings, disabled=disabled)
        )
    return tuple(filters)


def _implied_filters(hand_off: bool, proxy_protocol: bool) -> tuple[ListenerFilterSettings, ...]:
    """Filters that older fields ask for; they run after the written ones."""
    filters: list[ListenerFilterSettings] = []
    if hand_off:
        from weft.proxy.listener.original_dst import ORIGINAL_DST, OriginalDstSettings

        filters.append(
            ListenerFilterSettings(name=ORIGINAL_DST.name, kind=ORIGINAL_DST, settings=OriginalDstSettings())
        )
    if proxy_protocol:
        from weft.proxy.listener.proxy_protocol import PROXY_PROTOCOL, ProxyProtocolSettings

        filters.append(
            ListenerFilterSettings(
                name=PROXY_PROTOCOL.name, kind=PROXY_PROTOCOL, settings=ProxyProtocolSettings()
            )
        )
    return tuple(filters)


def _access_logs(message: Any, where: Where) -> "tuple[AccessLogSettings, ...]":
    if not message.access_log:
        return ()
    from weft.proxy.observe.access_log import access_logs

    return access_logs(message.access_log, where.field("access_log"))


def _plain_metadata(message: Any) -> Any:
    if not message.HasField("metadata"):
        return None
    from google.protobuf.json_format import MessageToDict

    return {name: MessageToDict(value) for name, value in message.metadata.filter_metadata.items()}


def check_addresses(listeners: Sequence[ListenerSettings], places: Sequence[Where]) -> None:
    """Problems for listeners of one configuration that want the same address; one may name it twice."""
    # Port 0 is a new port for each bound listener; a virtual one can only ever be found by it.
    owners: dict[str, ListenerSettings] = {}
    for settings, where in zip(listeners, places, strict=True):
        for item in settings.addresses:
            text = item.address.text
            fresh = settings.bind_to_port and item.address.is_ip and item.address.port == 0
            if fresh:
                continue
            owner = owners.setdefault(text, settings)
            if owner is not settings:
                where.problem(
                    f"'{settings.name}' has duplicate address '{text}' as existing listener '{owner.name}'"
                )
                break
