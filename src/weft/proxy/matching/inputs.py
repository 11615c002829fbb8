"""What a matcher looks at: one value of a connection or of an exchange on it.

An input gives bytes, None for a value that is not there, or :data:`NOT_YET` for one that cannot be
known at this point of the exchange (a response header while the request is routed).  The three are
different to the tree: what is not there matches nothing, what is not known leaves it undecided.

Inputs for connections work for exchanges too; of those the client's address is the one that a
trusted ``x-forwarded-for`` names.  Which inputs may be used where is settled in
:mod:`weft.proxy.matching.vocabulary`.
"""

import os
from typing import Any, Final
from urllib.parse import unquote_to_bytes

from weft.http.headers import Headers
from weft.http.message import Request
from weft.proxy.address import Address, is_local
from weft.proxy.observe.stream_info import ConnectionInfo, StreamInfo
from weft.proxy.runtime import Runtime
from weft.proxy.value_matchers import ABSENT

REQUEST: Final = 0
REQUEST_TRAILERS: Final = 1
RESPONSE: Final = 2
RESPONSE_TRAILERS: Final = 3


class Subject:
    """What is matched: a connection, or one exchange on it as far as it has come."""

    __slots__ = ("connection", "info", "request", "runtime")

    def __init__(
        self,
        connection: ConnectionInfo,
        runtime: Runtime,
        info: StreamInfo | None = None,
        request: Request | None = None,
    ) -> None:
        self.connection: ConnectionInfo = connection
        self.runtime: Runtime = runtime
        self.info: StreamInfo | None = info
        """None below HTTP."""
        self.request: Request | None = request

    @property
    def remote(self) -> Address:
        return self.connection.remote if self.info is None else self.info.remote


class NotYet:
    """No value so far."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "NOT_YET"


NOT_YET: Final = NotYet()


class Input:
    """One value of a subject.  This one is never there; see the subclasses."""

    __slots__ = ()

    def get(self, subject: Subject) -> bytes | NotYet | None:
        return None

    def value(self, subject: Subject) -> Any:
        """The same as a JSON-like value, of inputs that have one; ``ABSENT`` of others."""
        return ABSENT

    @property
    def structured(self) -> bool:
        """Whether :meth:`value` is what it has, and not :meth:`get`."""
        return False

    def describe(self) -> str:
        return "nothing"


class Missing(Input):
    """What no connection here has, such as the certificate of a client."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name: str = name

    def describe(self) -> str:
        return self.name


class Constant(Input):
    """An environment variable, read when the configuration is."""

    __slots__ = ("name", "text")

    def __init__(self, name: str) -> None:
        self.name: str = name
        found = os.environ.get(name)
        self.text: bytes | None = None if found is None else os.fsencode(found)

    def get(self, subject: Subject) -> bytes | NotYet | None:
        return self.text

    def describe(self) -> str:
        return f"environment variable {self.name}"


# -- of an exchange --------------------------------------------------------------------------------

_PARTS: Final = ("request header", "request trailer", "response header", "response trailer")


class HeaderInput(Input):
    """All values of one header field, joined by commas (``cookie`` too)."""

    __slots__ = ("name", "part")

    def __init__(self, name: str, part: int) -> None:
        self.name: bytes = name.lower().encode()
        self.part: int = part

    def get(self, subject: Subject) -> bytes | NotYet | None:
        info = subject.info
        name = self.name
        if self.part == REQUEST:
            request = subject.request
            if request is None:
                return NOT_YET
            if name.startswith(b":") or name == b"host":
                return request.header(name)
            return _joined(request.headers, name)
        if info is None:
            return NOT_YET
        if self.part == RESPONSE:
            response = info.response
            if response is None:
                return NOT_YET
            return response.header(name) if name == b":status" else _joined(response.headers, name)
        trailers = info.request_trailers if self.part == REQUEST_TRAILERS else info.response_trailers
        return NOT_YET if trailers is None else _joined(trailers, name)

    def describe(self) -> str:
        return f"{_PARTS[self.part]} {self.name.decode('utf-8', 'replace')}"


def _joined(headers: Headers, name: bytes) -> bytes | None:
    found: bytes | None = None
    for field in headers.fields:
        if field.name == name:
            if found is None:
                found = field.value
            else:
                found = found + b"," + field.value
    return found


class QueryInput(Input):
    """The first value of a query parameter, decoded."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name: bytes = name.encode()

    def get(self, subject: Subject) -> bytes | NotYet | None:
        request = subject.request
        if request is None or not request.path:
            return NOT_YET
        return _parameter(request.path, self.name)

    def describe(self) -> str:
        return f"query parameter {self.name.decode('utf-8', 'replace')}"


def _parameter(path: bytes, name: bytes) -> bytes | None:
    at = path.find(b"?")
    if at < 0:
        return None
    for part in path[at + 1 :].split(b"&"):
        key, _, value = part.partition(b"=")
        if key == name or (b"%" in key and unquote_to_bytes(key) == name):
            return unquote_to_bytes(value) if b"%" in value else value
    return None


STATUS: Final = 0
STATUS_CLASS: Final = 1
LOCAL_REPLY: Final = 2
_STATUS_NAMES: Final = ("response status", "class of the response status", "response is a local reply")


class StatusInput(Input):
    """``200``, its class ``2xx``, or whether the response is our own (``true``)."""

    __slots__ = ("kind",)

    def __init__(self, kind: int) -> None:
        self.kind: int = kind

    def get(self, subject: Subject) -> bytes | NotYet | None:
        info = subject.info
        if info is None or info.response is None:
            return NOT_YET
        status = info.response.status
        if self.kind == STATUS:
            return b"%d" % status
        if self.kind == STATUS_CLASS:
            return b"%dxx" % (status // 100) if 100 <= status < 600 else None
        return b"false" if info.details == "via_upstream" else b"true"

    def describe(self) -> str:
        return _STATUS_NAMES[self.kind]


# -- of a connection -------------------------------------------------------------------------------

DESTINATION_IP: Final = 0
DESTINATION_PORT: Final = 1
SOURCE_IP: Final = 2
SOURCE_PORT: Final = 3
DIRECT_SOURCE_IP: Final = 4
SOURCE_TYPE: Final = 5
SERVER_NAME: Final = 6
TRANSPORT_PROTOCOL: Final = 7
APPLICATION_PROTOCOL: Final = 8

_CONNECTION_NAMES: Final = (
    "destination IP", "destination port", "source IP", "source port", "direct source IP", "source type",
    "server name", "transport protocol", "application protocols",
)  # fmt: skip


class ConnectionInput(Input):
    """One of the facts above."""

    __slots__ = ("kind",)

    def __init__(self, kind: int) -> None:
        self.kind: int = kind

    def get(self, subject: Subject) -> bytes | NotYet | None:
        kind = self.kind
        connection = subject.connection
        if kind == DESTINATION_IP:
            return _ip(connection.local)
        if kind == DESTINATION_PORT:
            return _port(connection.local)
        if kind == SOURCE_IP:
            return _ip(subject.remote)
        if kind == SOURCE_PORT:
            return _port(subject.remote)
        if kind == DIRECT_SOURCE_IP:
            return _ip(connection.direct_remote)
        if kind == SOURCE_TYPE:
            return b"local" if is_local(subject.remote, connection.local) else None
        if kind == SERVER_NAME:
            return connection.server_name.encode() or None
        if kind == TRANSPORT_PROTOCOL:
            return connection.transport_protocol.encode() or None
        protocols = connection.application_protocols
        return ("'" + "','".join(protocols) + "'").encode() if protocols else None

    def describe(self) -> str:
        return _CONNECTION_NAMES[self.kind]


def _ip(address: Address) -> bytes | None:
    return address.ip.encode() if address.ip else None


def _port(address: Address) -> bytes | None:
    return b"%d" % address.port if address.ip else None


# -- of both ---------------------------------------------------------------------------------------


class FilterStateInput(Input):
    """A filter-state object as text, or one field of it."""

    __slots__ = ("field", "key")

    def __init__(self, key: str, field: str = "") -> None:
        self.key: str = key
        self.field: str = field

    def get(self, subject: Subject) -> bytes | NotYet | None:
        found = filter_state(self.key, subject.connection, subject.info)
        if self.field:
            found = found.get(self.field) if isinstance(found, dict) else None
        return None if found is None else str(found).encode("utf-8", "surrogateescape")

    def describe(self) -> str:
        return f"filter state {self.key}" + (f" field {self.field}" if self.field else "")


def filter_state(key: str, connection: ConnectionInfo, info: StreamInfo | None) -> Any:
    """The object of that key, of the exchange or else of its connection; None when there is none."""
    found: Any = None
    if info is not None:
        found = info.state(key)
    elif connection.filter_state is not None:
        found = connection.filter_state.get(key)
    return found


class MetadataInput(Input):
    """A value of dynamic metadata; for the metadata matcher alone."""

    __slots__ = ("namespace", "path")

    def __init__(self, namespace: str, path: tuple[str, ...]) -> None:
        self.namespace: str = namespace
        self.path: tuple[str, ...] = path

    def value(self, subject: Subject) -> Any:
        metadata = (
            subject.connection.dynamic_metadata if subject.info is None else subject.info.dynamic_metadata
        )
        value: Any = ABSENT if metadata is None else metadata.get(self.namespace, ABSENT)
        for key in self.path:
            if not isinstance(value, dict):
                return ABSENT
            value = value.get(key, ABSENT)
        return value

    @property
    def structured(self) -> bool:
        return True

    def describe(self) -> str:
        return f"metadata {':'.join((self.namespace, *self.path))}"
