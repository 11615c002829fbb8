"""Commands about a stream's outcome, its bytes, and who was at either end."""

import os
import socket
from ipaddress import ip_network
from typing import Final

from weft.proxy.address import NOWHERE, Address
from weft.proxy.clock import Clock
from weft.proxy.observe import flags
from weft.proxy.observe.commands import (
    LENGTH,
    OPTIONAL,
    REQUIRED,
    Command,
    Constant,
    ConstantNumber,
    Number,
    Operator,
    Plain,
    Table,
    Unchecked,
    alone,
    nothing,
    printable,
)
from weft.proxy.observe.stream_info import StreamInfo

# -- outcome --------------------------------------------------------------------------------


class _Status(Number):
    def number(self, info: StreamInfo, clock: Clock) -> int:
        return info.status


class _Flags(Operator):
    def raw(self, info: StreamInfo, clock: Clock) -> bytes | None:
        return flags.short(info.flags).encode() if info.flags else b"-"


class _LongFlags(Operator):
    def raw(self, info: StreamInfo, clock: Clock) -> bytes | None:
        return flags.long(info.flags).encode()


class _Details(Unchecked):
    def __init__(self, allow_whitespace: bool) -> None:
        self._allow_whitespace = allow_whitespace

    def found(self, info: StreamInfo, clock: Clock) -> bytes | None:
        details = info.details
        if not details:
            return None
        raw = details.encode()
        return raw if self._allow_whitespace else raw.translate(_UNDERSCORED)


_UNDERSCORED: Final = bytes.maketrans(b" \t\n\v\f\r", b"______")


class _TerminationDetails(Unchecked):
    def found(self, info: StreamInfo, clock: Clock) -> bytes | None:
        details = info.termination_details or info.connection.termination_details
        return details.encode() if details else None


class _UpstreamFailure(Unchecked):
    def found(self, info: StreamInfo, clock: Clock) -> bytes | None:
        failure = info.upstream_failure
        return failure.encode().translate(_UNDERSCORED) if failure else None


class _DownstreamFailure(Unchecked):
    def found(self, info: StreamInfo, clock: Clock) -> bytes | None:
        failure = info.connection.transport_failure_reason
        return failure.encode().translate(_UNDERSCORED) if failure else None


class _CloseReason(Unchecked):
    """Why we closed the connection, as one word."""

    def __init__(self, upstream: bool) -> None:
        self._upstream = upstream

    def found(self, info: StreamInfo, clock: Clock) -> bytes | None:
        reason = info.upstream_local_close_reason if self._upstream else info.local_close_reason
        return reason.encode().translate(_UNDERSCORED) if reason else None


class _CloseType(Operator):
    """How the connection ended, as far as is known while the stream is logged."""

    def __init__(self, upstream: bool) -> None:
        self._upstream = upstream

    def raw(self, info: StreamInfo, clock: Clock) -> bytes | None:
        if self._upstream:
            return None if info.host is None else info.upstream_close_type.encode()
        return info.close_type.encode()


class _Protocol(Operator):
    def raw(self, info: StreamInfo, clock: Clock) -> bytes | None:
        return info.protocol.encode() if info.protocol else None


class _UpstreamProtocol(Operator):
    def raw(self, info: StreamInfo, clock: Clock) -> bytes | None:
        return info.upstream_protocol.encode() if info.upstream_protocol else None


class _RouteName(Operator):
    def raw(self, info: StreamInfo, clock: Clock) -> bytes | None:
        route = info.route
        return route.name.encode() if route is not None and route.name else None


class _VirtualClusterName(Operator):
    def raw(self, info: StreamInfo, clock: Clock) -> bytes | None:
        return info.virtual_cluster.encode() if info.virtual_cluster and info.attempts else None


class _AccessLogType(Operator):
    def raw(self, info: StreamInfo, clock: Clock) -> bytes | None:
        return (info.access_log_type or "NotSet").encode()


class _Attempts(Number):
    def number(self, info: StreamInfo, clock: Clock) -> int:
        return info.attempts


class _RouteResolutions(Number):
    def number(self, info: StreamInfo, clock: Clock) -> int:
        return 0 if info.request is None else 1


class _RouteResolutionTime(Number):
    """Microseconds; not measured, which is below what it could show."""

    def number(self, info: StreamInfo, clock: Clock) -> int:
        return -1 if info.request is None else 0


# -- bytes ----------------------------------------------------------------------------------


class _BytesReceived(Number):
    def number(self, info: StreamInfo, clock: Clock) -> int:
        return info.bytes_received


class _BytesSent(Number):
    def number(self, info: StreamInfo, clock: Clock) -> int:
        return info.bytes_sent


class _WireReceived(Number):
    def number(self, info: StreamInfo, clock: Clock) -> int:
        return info.wire_received


class _WireSent(Number):
    def number(self, info: StreamInfo, clock: Clock) -> int:
        return info.wire_sent


class _UpstreamWireReceived(Number):
    def number(self, info: StreamInfo, clock: Clock) -> int:
        return info.upstream_wire_received


class _UpstreamWireSent(Number):
    def number(self, info: StreamInfo, clock: Clock) -> int:
        return info.upstream_wire_sent


class _HeaderReceived(Number):
    def number(self, info: StreamInfo, clock: Clock) -> int:
        return info.header_received


class _HeaderSent(Number):
    def number(self, info: StreamInfo, clock: Clock) -> int:
        return info.header_sent


class _UpstreamHeaderReceived(Number):
    def number(self, info: StreamInfo, clock: Clock) -> int:
        return info.upstream_header_received


class _UpstreamHeaderSent(Number):
    def number(self, info: StreamInfo, clock: Clock) -> int:
        return info.upstream_header_sent


# -- ends -----------------------------------------------------------------------------------

DOWNSTREAM_REMOTE: Final = 0
DOWNSTREAM_DIRECT_REMOTE: Final = 1
DOWNSTREAM_LOCAL: Final = 2
DOWNSTREAM_DIRECT_LOCAL: Final = 3
UPSTREAM_REMOTE: Final = 4
UPSTREAM_LOCAL: Final = 5


def _end(info: StreamInfo, which: int) -> Address | None:
    if which == DOWNSTREAM_REMOTE:
        return info.remote
    if which == DOWNSTREAM_DIRECT_REMOTE:
        return info.connection.direct_remote
    if which == DOWNSTREAM_LOCAL:
        return info.connection.local
    if which == DOWNSTREAM_DIRECT_LOCAL:
        return info.connection.direct_local
    address = info.upstream_remote if which == UPSTREAM_REMOTE else info.upstream_local
    return None if address is NOWHERE else address


class _Address(Operator):
    def __init__(self, which: int) -> None:
        self._which = which

    def raw(self, info: StreamInfo, clock: Clock) -> bytes | None:
        address = _end(info, self._which)
        return None if address is None else address.text.encode()


class _AddressWithoutPort(Operator):
    """The IP alone, or with a mask its network; the path of a Unix socket."""

    def __init__(self, which: int, mask: int | None) -> None:
        self._which = which
        self._mask = mask

    def raw(self, info: StreamInfo, clock: Clock) -> bytes | None:
        address = _end(info, self._which)
        if address is None:
            return None
        mask = self._mask
        if mask is None:
            return (address.ip or address.path).encode()
        if mask < 0 or not address.is_ip:
            return b""
        widest = 128 if address.is_v6 else 32
        return str(ip_network(f"{address.ip}/{min(mask, widest)}", strict=False)).encode()


class _Port(Number):
    def __init__(self, which: int) -> None:
        self._which = which

    def number(self, info: StreamInfo, clock: Clock) -> int:
        address = _end(info, self._which)
        return -1 if address is None or not address.is_ip else address.port


class _UpstreamEndpointId(Operator):
    """Internal addresses have one; ours have none, which is empty."""

    def raw(self, info: StreamInfo, clock: Clock) -> bytes | None:
        return None if info.upstream_remote is NOWHERE else b""


def _without_port(which: int) -> Command:
    def build(parameter: str, length: int | None) -> Operator:
        try:
            mask = int(parameter) if len(parameter) < 12 else None
        except ValueError:
            mask = None
        return _AddressWithoutPort(which, mask)

    return Command(OPTIONAL, build)


def _address(which: int) -> Command:
    return alone(lambda: _Address(which))


def _port(which: int) -> Command:
    return alone(lambda: _Port(which))


class _ConnectionId(Number):
    def number(self, info: StreamInfo, clock: Clock) -> int:
        return info.connection.id


class _UpstreamConnectionId(Number):
    def number(self, info: StreamInfo, clock: Clock) -> int:
        return max(info.upstream_connection_id, 0)


class _UpstreamConnectionIds(Operator):
    def raw(self, info: StreamInfo, clock: Clock) -> bytes | None:
        return None if info.upstream_connection_id < 0 else b"%d" % info.upstream_connection_id


class _FilterChainName(Operator):
    def raw(self, info: StreamInfo, clock: Clock) -> bytes | None:
        name = info.connection.filter_chain_name
        return name.encode() if name else None


# -- upstream -------------------------------------------------------------------------------


class _Cluster(Operator):
    """The cluster by its ``alt_stat_name`` where it has one, or by its real name."""

    def __init__(self, raw_name: bool) -> None:
        self._raw_name = raw_name

    def raw(self, info: StreamInfo, clock: Clock) -> bytes | None:
        name = info.cluster_name
        if not name:
            return None
        cluster = info.cluster
        if cluster is not None and not self._raw_name:
            name = cluster.settings.alt_stat_name or name
        return name.encode()


class _UpstreamHost(Operator):
    def raw(self, info: StreamInfo, clock: Clock) -> bytes | None:
        host = info.host
        return None if host is None else host.address.text.encode()


class _UpstreamHostName(Operator):
    def __init__(self, with_port: bool) -> None:
        self._with_port = with_port

    def raw(self, info: StreamInfo, clock: Clock) -> bytes | None:
        host = info.host
        if host is None:
            return None
        name = host.hostname or host.address.text
        return (name if self._with_port else without_port(name)).encode()


class _HostsAttempted(Operator):
    def __init__(self, names: bool, with_port: bool) -> None:
        self._names = names
        self._with_port = with_port

    def raw(self, info: StreamInfo, clock: Clock) -> bytes | None:
        host = info.host
        attempted = info.attempted_hosts
        if not attempted:
            if host is None or info.upstream_remote is NOWHERE:  # chosen, but no connection came to be
                return None
            attempted = [host.address.text]
        if self._names and host is not None and host.hostname:
            attempted = [host.hostname if text == host.address.text else text for text in attempted]
        if not self._with_port:
            attempted = [without_port(text) for text in attempted]
        return ",".join(attempted).encode()


def without_port(host: str) -> str:
    """``host:80`` without the port; what has none stays as it is."""
    head, colon, port = host.rpartition(":")
    return head if colon and port.isdigit() and (":" not in head or head.endswith("]")) else host


class _Environment(Operator):
    """An environment variable, read once."""

    def __init__(self, name: str, length: int | None) -> None:
        value = os.environb.get(name.encode())
        self._value = b"-" if value is None else printable(value)[:length]

    def raw(self, info: StreamInfo, clock: Clock) -> bytes | None:
        return self._value

    def value(self, info: StreamInfo, clock: Clock) -> Plain:
        return self._value


def _host_name() -> Operator:
    return Constant(socket.gethostname().encode() or b"-")


_SILENT: Final = (
    "DOWNSTREAM_LOCAL_DNS_SAN",
    "DOWNSTREAM_LOCAL_EMAIL_SAN",
    "DOWNSTREAM_LOCAL_IP_SAN",
    "DOWNSTREAM_LOCAL_OTHERNAME_SAN",
    "DOWNSTREAM_LOCAL_SUBJECT",
    "DOWNSTREAM_LOCAL_URI_SAN",
    "DOWNSTREAM_PEER_CERT",
    "DOWNSTREAM_PEER_CHAIN_FINGERPRINTS_1",
    "DOWNSTREAM_PEER_CHAIN_FINGERPRINTS_256",
    "DOWNSTREAM_PEER_CHAIN_SERIALS",
    "DOWNSTREAM_PEER_DNS_SAN",
    "DOWNSTREAM_PEER_EMAIL_SAN",
    "DOWNSTREAM_PEER_FINGERPRINT_1",
    "DOWNSTREAM_PEER_FINGERPRINT_256",
    "DOWNSTREAM_PEER_IP_SAN",
    "DOWNSTREAM_PEER_ISSUER",
    "DOWNSTREAM_PEER_ISSUER_FINGERPRINT_256",
    "DOWNSTREAM_PEER_ISSUER_SERIAL",
    "DOWNSTREAM_PEER_OTHERNAME_SAN",
    "DOWNSTREAM_PEER_SERIAL",
    "DOWNSTREAM_PEER_SUBJECT",
    "DOWNSTREAM_PEER_URI_SAN",
    "DOWNSTREAM_TLS_CIPHER",
    "DOWNSTREAM_TLS_GROUP",
    "DOWNSTREAM_TLS_SESSION_ID",
    "DOWNSTREAM_TLS_VERSION",
    "TLS_JA3_FINGERPRINT",
    "TLS_JA4_FINGERPRINT",
    "UPSTREAM_LOCAL_DNS_SAN",
    "UPSTREAM_LOCAL_IP_SAN",
    "UPSTREAM_LOCAL_URI_SAN",
    "UPSTREAM_PEER_CERT",
    "UPSTREAM_PEER_DNS_SAN",
    "UPSTREAM_PEER_IP_SAN",
    "UPSTREAM_PEER_ISSUER",
    "UPSTREAM_PEER_SUBJECT",
    "UPSTREAM_PEER_URI_SAN",
    "UPSTREAM_SERVER_NAME",
    "UPSTREAM_TLS_CIPHER",
    "UPSTREAM_TLS_GROUP",
    "UPSTREAM_TLS_SESSION_ID",
    "UPSTREAM_TLS_VERSION",
)
"""What only TLS could tell."""

TABLE: Final[Table] = {
    "RESPONSE_CODE": alone(_Status),
    "RESPONSE_CODE_DETAILS": Command(OPTIONAL, lambda how, length: _Details(how == "ALLOW_WHITESPACES")),
    "RESPONSE_FLAGS": alone(_Flags),
    "RESPONSE_FLAGS_LONG": alone(_LongFlags),
    "CONNECTION_TERMINATION_DETAILS": alone(_TerminationDetails),
    "UPSTREAM_TRANSPORT_FAILURE_REASON": alone(_UpstreamFailure),
    "DOWNSTREAM_TRANSPORT_FAILURE_REASON": alone(_DownstreamFailure),
    "DOWNSTREAM_LOCAL_CLOSE_REASON": alone(lambda: _CloseReason(False)),
    "UPSTREAM_LOCAL_CLOSE_REASON": alone(lambda: _CloseReason(True)),
    "DOWNSTREAM_DETECTED_CLOSE_TYPE": alone(lambda: _CloseType(False)),
    "UPSTREAM_DETECTED_CLOSE_TYPE": alone(lambda: _CloseType(True)),
    "PROTOCOL": alone(_Protocol),
    "UPSTREAM_PROTOCOL": alone(_UpstreamProtocol),
    "ROUTE_NAME": alone(_RouteName),
    "VIRTUAL_CLUSTER_NAME": alone(_VirtualClusterName),
    "ACCESS_LOG_TYPE": alone(_AccessLogType),
    "UPSTREAM_REQUEST_ATTEMPT_COUNT": alone(_Attempts),
    "ROUTE_RESOLUTION_COUNT": alone(_RouteResolutions),
    "ROUTE_RESOLUTION_TIME_US": alone(_RouteResolutionTime),
    "BYTES_RECEIVED": alone(_BytesReceived),
    "BYTES_SENT": alone(_BytesSent),
    "BYTES_RETRANSMITTED": alone(lambda: ConstantNumber(0)),
    "PACKETS_RETRANSMITTED": alone(lambda: ConstantNumber(0)),
    "DOWNSTREAM_CX_RTT": alone(lambda: ConstantNumber(0)),
    "DOWNSTREAM_WIRE_BYTES_RECEIVED": alone(_WireReceived),
    "DOWNSTREAM_WIRE_BYTES_SENT": alone(_WireSent),
    "UPSTREAM_WIRE_BYTES_RECEIVED": alone(_UpstreamWireReceived),
    "UPSTREAM_WIRE_BYTES_SENT": alone(_UpstreamWireSent),
    "DOWNSTREAM_HEADER_BYTES_RECEIVED": alone(_HeaderReceived),
    "DOWNSTREAM_HEADER_BYTES_SENT": alone(_HeaderSent),
    "DOWNSTREAM_DECOMPRESSED_HEADER_BYTES_RECEIVED": alone(_HeaderReceived),
    "DOWNSTREAM_DECOMPRESSED_HEADER_BYTES_SENT": alone(_HeaderSent),
    "UPSTREAM_HEADER_BYTES_RECEIVED": alone(_UpstreamHeaderReceived),
    "UPSTREAM_HEADER_BYTES_SENT": alone(_UpstreamHeaderSent),
    "UPSTREAM_DECOMPRESSED_HEADER_BYTES_RECEIVED": alone(_UpstreamHeaderReceived),
    "UPSTREAM_DECOMPRESSED_HEADER_BYTES_SENT": alone(_UpstreamHeaderSent),
    "DOWNSTREAM_REMOTE_ADDRESS": _address(DOWNSTREAM_REMOTE),
    "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT": _without_port(DOWNSTREAM_REMOTE),
    "DOWNSTREAM_REMOTE_PORT": _port(DOWNSTREAM_REMOTE),
    "DOWNSTREAM_DIRECT_REMOTE_ADDRESS": _address(DOWNSTREAM_DIRECT_REMOTE),
    "DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT": _without_port(DOWNSTREAM_DIRECT_REMOTE),
    "DOWNSTREAM_DIRECT_REMOTE_PORT": _port(DOWNSTREAM_DIRECT_REMOTE),
    "DOWNSTREAM_LOCAL_ADDRESS": _address(DOWNSTREAM_LOCAL),
    "DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT": _without_port(DOWNSTREAM_LOCAL),
    "DOWNSTREAM_LOCAL_PORT": _port(DOWNSTREAM_LOCAL),
    "DOWNSTREAM_LOCAL_ADDRESS_ENDPOINT_ID": alone(lambda: Constant(b"")),
    "DOWNSTREAM_DIRECT_LOCAL_ADDRESS": _address(DOWNSTREAM_DIRECT_LOCAL),
    "DOWNSTREAM_DIRECT_LOCAL_ADDRESS_WITHOUT_PORT": _without_port(DOWNSTREAM_DIRECT_LOCAL),
    "DOWNSTREAM_DIRECT_LOCAL_PORT": _port(DOWNSTREAM_DIRECT_LOCAL),
    "DOWNSTREAM_DIRECT_LOCAL_ADDRESS_ENDPOINT_ID": alone(lambda: Constant(b"")),
    "UPSTREAM_REMOTE_ADDRESS": _address(UPSTREAM_REMOTE),
    "UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT": _without_port(UPSTREAM_REMOTE),
    "UPSTREAM_REMOTE_PORT": _port(UPSTREAM_REMOTE),
    "UPSTREAM_REMOTE_ADDRESS_ENDPOINT_ID": alone(_UpstreamEndpointId),
    "UPSTREAM_LOCAL_ADDRESS": _address(UPSTREAM_LOCAL),
    "UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT": _without_port(UPSTREAM_LOCAL),
    "UPSTREAM_LOCAL_PORT": _port(UPSTREAM_LOCAL),
    "CONNECTION_ID": alone(_ConnectionId),
    "UPSTREAM_CONNECTION_ID": alone(_UpstreamConnectionId),
    "UPSTREAM_CONNECTION_IDS_ATTEMPTED": alone(_UpstreamConnectionIds),
    "FILTER_CHAIN_NAME": alone(_FilterChainName),
    "UPSTREAM_CLUSTER": alone(lambda: _Cluster(False)),
    "UPSTREAM_CLUSTER_RAW": alone(lambda: _Cluster(True)),
    "UPSTREAM_HOST": alone(_UpstreamHost),
    "UPSTREAM_HOST_NAME": alone(lambda: _UpstreamHostName(True)),
    "UPSTREAM_HOST_NAME_WITHOUT_PORT": alone(lambda: _UpstreamHostName(False)),
    "UPSTREAM_HOSTS_ATTEMPTED": alone(lambda: _HostsAttempted(False, True)),
    "UPSTREAM_HOSTS_ATTEMPTED_WITHOUT_PORT": alone(lambda: _HostsAttempted(False, False)),
    "UPSTREAM_HOST_NAMES_ATTEMPTED": alone(lambda: _HostsAttempted(True, True)),
    "UPSTREAM_HOST_NAMES_ATTEMPTED_WITHOUT_PORT": alone(lambda: _HostsAttempted(True, False)),
    "HOSTNAME": alone(_host_name),
    "ENVIRONMENT": Command(REQUIRED | LENGTH, _Environment),
    **{name: nothing() for name in _SILENT},
}
