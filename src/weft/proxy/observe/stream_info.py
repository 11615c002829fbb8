"""What is known of one connection or request: the record that logs, filters and headers read.

Raw facts only, in the units in which they were met (loop time, bytes); ``proxy/observe/formatter``
turns them into text.  An HTTP stream is a :class:`StreamInfo` itself, so keeping the record costs
no object of its own.
"""

from typing import TYPE_CHECKING, Any

from mypy_extensions import mypyc_attr

from weft.http.headers import Field, Headers
from weft.http.message import Request, Response
from weft.proxy.address import NOWHERE, Address

if TYPE_CHECKING:
    from weft.proxy.route.table import Route, VirtualHost
    from weft.proxy.upstream.cluster import Cluster
    from weft.proxy.upstream.host import Host


class ConnectionInfo:
    """One downstream connection, as its listener and listener filters found it."""

    def __init__(self, id: int, start: float, remote: Address, local: Address) -> None:
        self.id = id
        self.start = start
        self.remote = remote
        """The peer, possibly told by a listener filter (PROXY protocol)."""
        self.direct_remote = remote
        """The peer of the socket itself."""
        self.local = local
        """Where the client wanted to go; restored by original_dst."""
        self.direct_local = local
        self.local_restored: bool = False
        self.server_name: str = ""
        """SNI, from a listener filter or TLS."""
        self.transport_protocol: str = ""
        """``raw_buffer`` or ``tls`` once a listener filter knows; empty before."""
        self.application_protocols: list[str] = []
        self.listener_name: str = ""
        self.listener_address: str = ""
        self.listener_stat_prefix: str = ""
        """``listener.<address or stat_prefix>.``"""
        self.listener_metadata: Any = None
        self.traffic_direction: str = "UNSPECIFIED"
        self.filter_chain_name: str = ""
        self.termination_details: str = ""
        self.transport_failure_reason: str = ""
        self.bytes_received: int = 0
        self.bytes_sent: int = 0
        self.dynamic_metadata: dict[str, Any] | None = None
        """Set by listener and network filters: namespace -> plain (JSON-like) value."""
        self.filter_state: dict[str, Any] | None = None


@mypyc_attr(allow_interpreted_subclasses=True)
class StreamInfo:
    """One request, or one proxied TCP connection.  Times are loop times; 0.0 means *not yet*."""

    def __init__(self, connection: ConnectionInfo, start: float) -> None:
        self.connection = connection
        self.remote: Address = connection.remote
        """The client: the peer, or whom a trusted ``x-forwarded-for`` names (then with port 0)."""
        self.start = start
        self.request: Request | None = None
        self.original_path: bytes = b""
        """The path as the client sent it, when the route rewrote it."""
        self.response: Response | None = None
        """What went downstream."""
        self.response_trailers: Headers | None = None
        self.request_trailers: Headers | None = None
        self.upstream_request_headers_bytes: int = 0
        self.status: int = 0
        self.flags: int = 0
        """Bits of ``proxy/observe/flags``."""
        self.details: str = ""
        """Envoy's response code details, such as ``via_upstream``."""
        self.termination_details: str = ""
        self.upstream_failure: str = ""
        """Why the upstream transport failed; empty for not."""
        self.local_close_reason: str = ""
        """Why we closed the downstream connection."""
        self.upstream_local_close_reason: str = ""
        self.close_type: str = "Normal"
        """How the downstream connection ended: ``Normal``, ``LocalReset``, ``RemoteReset``."""
        self.upstream_close_type: str = "Normal"

        self.protocol: str = ""
        """``HTTP/1.1``; empty for TCP."""
        self.upstream_protocol: str = ""
        self.virtual_host: VirtualHost | None = None
        self.route: Route | None = None
        self.virtual_cluster: str = ""
        """What ``VirtualHost.virtual_cluster`` said of the request as it came."""
        self.cluster_name: str = ""
        self.cluster: Cluster | None = None
        self.host: Host | None = None
        self.attempts: int = 0
        self.attempted_hosts: list[str] | None = None
        self.upstream_local: Address = NOWHERE
        self.upstream_remote: Address = NOWHERE
        self.upstream_connection_id: int = -1

        self.bytes_received: int = 0
        """Body bytes from downstream."""
        self.bytes_sent: int = 0
        """Body bytes to downstream."""
        self.wire_received: int = 0
        self.wire_sent: int = 0
        self.upstream_wire_received: int = 0
        self.upstream_wire_sent: int = 0
        self.header_received: int = 0
        """Bytes of the header fields of the request as received: names, values and 3 for each."""
        self.header_sent: int = 0
        """Bytes of the header fields of the response as sent: names, values and 4 for each."""
        self.upstream_header_received: int = 0
        self.upstream_header_sent: int = 0

        self.request_end: float = 0.0
        """Last byte of the request received."""
        self.upstream_connect_start: float = 0.0
        self.upstream_connect_end: float = 0.0
        self.first_upstream_sent: float = 0.0
        self.last_upstream_sent: float = 0.0
        self.first_upstream_received: float = 0.0
        self.last_upstream_received: float = 0.0
        self.first_downstream_sent: float = 0.0
        self.last_downstream_sent: float = 0.0
        self.end: float = 0.0

        self.dynamic_metadata: dict[str, Any] | None = None
        """Namespace -> plain value."""
        self.filter_state: dict[str, Any] | None = None
        self.set_cookies: list[Field] | None = None
        """``set-cookie`` fields for the response: cookies that a hash policy made."""
        self.access_log_type: str = ""
        """Envoy's AccessLogType such as ``DownstreamEnd``."""

    def state(self, key: str) -> Any:
        """The filter state object ``key`` of the stream, else of its connection; None for none."""
        found: Any = None
        if self.filter_state is not None:
            found = self.filter_state.get(key)
        if found is None and self.connection.filter_state is not None:
            found = self.connection.filter_state.get(key)
        return found
