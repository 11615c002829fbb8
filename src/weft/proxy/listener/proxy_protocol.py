"""The true ends of a connection, told by a proxy in front (PROXY protocol 1 and 2).

The counterpart of Envoy's ``envoy.filters.listener.proxy_protocol``; the bytes are the work of
:mod:`weft.codec.proxy_protocol`.  Whoever can reach this listener can claim any address: that is the
protocol, and why it is never on unless asked for.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from weft.api.problems import Where
from weft.codec.errors import PeerError
from weft.codec.proxy_protocol import ProxyHeader, parse, version_of
from weft.proxy.address import Address
from weft.proxy.context import WorkerContext
from weft.proxy.extensions import ListenerFilterKind
from weft.proxy.listener.filter import CLOSE, CONTINUE, WAIT, Accepted, ListenerFilter
from weft.proxy.observe.stats import StatGroup, rows

NAMESPACE: Final = "envoy.filters.listener.proxy_protocol"
TLV_STATE: Final = "envoy.network.proxy_protocol.tlv"
PASS_THROUGH_STATE: Final = "envoy.network.proxy_protocol_options"


class ProxyProtocolStats(StatGroup):
    """``proxy_proto.`` or ``proxy_proto.<stat_prefix>.``"""

    STATS = rows(
        "not_found_allowed",
        "not_found_disallowed",
        "versions.v1.disallowed",
        "versions.v1.error",
        "versions.v1.found",
        "versions.v2.disallowed",
        "versions.v2.error",
        "versions.v2.found",
    )

    def __init__(self) -> None:
        self.not_found_allowed: int = 0
        self.not_found_disallowed: int = 0
        self.versions__v1__disallowed: int = 0
        self.versions__v1__error: int = 0
        self.versions__v1__found: int = 0
        self.versions__v2__disallowed: int = 0
        self.versions__v2__error: int = 0
        self.versions__v2__found: int = 0


class LegacyStats(StatGroup):
    """``downstream_cx_proxy_proto_error``, at the root as in Envoy."""

    STATS = rows("downstream_cx_proxy_proto_error")

    def __init__(self) -> None:
        self.downstream_cx_proxy_proto_error: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TlvRule:
    """Keep the value of a TLV of type ``kind`` as ``namespace``/``key``."""

    kind: int
    namespace: str
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyProtocolSettings:
    stat_prefix: str = ""
    optional: bool = False
    """``allow_requests_without_proxy_protocol``."""
    disallowed: tuple[int, ...] = ()
    """Versions refused."""
    rules: tuple[TlvRule, ...] = ()
    to_filter_state: bool = False
    """Where values go: filter state instead of dynamic metadata."""
    pass_all: bool = False
    """Keep every TLV for an upstream that speaks the PROXY protocol."""
    passed: tuple[int, ...] = ()
    """Keep TLVs of these types."""


def proxy_protocol_settings(message: Any, where: Where) -> ProxyProtocolSettings:
    disallowed = tuple(sorted({1 if version == 0 else 2 for version in message.disallowed_versions}))
    if disallowed == (1, 2):
        where.field("disallowed_versions").problem("all PROXY protocol versions are disallowed")
    rules = tuple(
        TlvRule(
            kind=rule.tlv_type,
            namespace=rule.on_tlv_present.metadata_namespace or NAMESPACE,
            key=rule.on_tlv_present.key,
        )
        for rule in message.rules
        if rule.HasField("on_tlv_present")
    )
    passing = message.HasField("pass_through_tlvs")
    pass_all = passing and message.pass_through_tlvs.match_type == 0
    return ProxyProtocolSettings(
        stat_prefix=message.stat_prefix,
        optional=message.allow_requests_without_proxy_protocol,
        disallowed=disallowed,
        rules=rules,
        to_filter_state=message.tlv_location == 1,
        pass_all=pass_all,
        passed=tuple(message.pass_through_tlvs.tlv_type) if passing and not pass_all else (),
    )


class ProxyProtocolFilter(ListenerFilter):
    """Keeps no state: one for all connections."""

    def __init__(
        self, settings: ProxyProtocolSettings, stats: ProxyProtocolStats, legacy: LegacyStats
    ) -> None:
        self._settings = settings
        self._stats = stats
        self._legacy = legacy

    def on_accept(self, accepted: Accepted) -> int:
        return WAIT

    def on_data(self, accepted: Accepted) -> int:
        stats = self._stats
        settings = self._settings
        data = accepted.buffer
        version = version_of(data)
        if version < 0:
            return WAIT
        if settings.optional and (version == 0 or version in settings.disallowed):
            stats.not_found_allowed += 1
            return CONTINUE
        try:
            header = parse(data)
        except PeerError as error:
            if version == 0:
                stats.not_found_disallowed += 1
            elif version == 1:
                stats.versions__v1__error += 1
            else:
                stats.versions__v2__error += 1
            self._legacy.downstream_cx_proxy_proto_error += 1
            accepted.info.termination_details = error.kind
            return CLOSE
        if header is None:
            return WAIT
        if version == 1:
            stats.versions__v1__found += 1
        else:
            stats.versions__v2__found += 1
        if version in settings.disallowed:
            if version == 1:
                stats.versions__v1__disallowed += 1
            else:
                stats.versions__v2__disallowed += 1
            accepted.info.termination_details = "proxy_protocol_version_disallowed"
            return CLOSE
        accepted.buffer = data[header.length :]
        if not header.command_local:
            self._apply(header, accepted)
        return CONTINUE

    def _apply(self, header: ProxyHeader, accepted: Accepted) -> None:
        info = accepted.info
        info.remote = Address(header.source, header.source_port)
        local = Address(header.destination, header.destination_port)
        if local != info.local:
            info.local = local
            info.local_restored = True
        if not header.tlvs:
            return
        settings = self._settings
        for rule in settings.rules:
            for kind, value in header.tlvs:
                if kind == rule.kind:
                    self._keep(accepted, rule, sanitized(value))
        if settings.pass_all or settings.passed:
            kept = [
                (kind, value) for kind, value in header.tlvs if settings.pass_all or kind in settings.passed
            ]
            if info.filter_state is None:
                info.filter_state = {}
            info.filter_state[PASS_THROUGH_STATE] = kept

    def _keep(self, accepted: Accepted, rule: TlvRule, value: str) -> None:
        info = accepted.info
        if self._settings.to_filter_state:
            if info.filter_state is None:
                info.filter_state = {}
            info.filter_state.setdefault(TLV_STATE, {})[rule.key] = value
            return
        if info.dynamic_metadata is None:
            info.dynamic_metadata = {}
        info.dynamic_metadata.setdefault(rule.namespace, {})[rule.key] = value


def sanitized(value: bytes) -> str:
    """Valid UTF-8 as it is, with ``!`` for every other byte (as Envoy; CVE-2024-23324)."""
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        text = value.decode("utf-8", "surrogateescape")
        return "".join(["!" if 0xDC80 <= ord(letter) <= 0xDCFF else letter for letter in text])


def _build(
    settings: ProxyProtocolSettings, context: WorkerContext, scope: str
) -> Callable[[], ListenerFilter]:
    stats = ProxyProtocolStats()
    legacy = LegacyStats()
    prefix = f"proxy_proto.{settings.stat_prefix}." if settings.stat_prefix else "proxy_proto."
    context.stats.register(prefix, stats)
    context.stats.register("", legacy)
    only = ProxyProtocolFilter(settings, stats, legacy)
    return lambda: only


PROXY_PROTOCOL: Final = ListenerFilterKind(
    name="envoy.filters.listener.proxy_protocol",
    type="envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol",
    settings=proxy_protocol_settings,
    build=_build,
)
