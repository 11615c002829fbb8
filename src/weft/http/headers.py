"""Header fields as the proxy carries them.

A :class:`Field` keeps its serialized form (``wire``), so that forwarding a header that nobody
touched is one pointer in a ``join``, and a ``bit`` that tells at a glance whether it is one of the
names the proxy itself has to look at.  :class:`Headers` ORs these bits into ``mask``: a request
without ``expect`` costs no search for ``expect``.

``mask`` says *may contain*: removing a field does not clear it.  Names are lower-case bytes.
"""

from collections.abc import Iterable, Iterator
from typing import Final

from weft.http.joined import JOINED_IN_REQUESTS, JOINED_IN_RESPONSES

HOST: Final = 1 << 0
CONTENT_LENGTH: Final = 1 << 1
TRANSFER_ENCODING: Final = 1 << 2
CONNECTION: Final = 1 << 3
EXPECT: Final = 1 << 4
UPGRADE: Final = 1 << 5
TE: Final = 1 << 6
FORWARDED_FOR: Final = 1 << 7
FORWARDED_PROTO: Final = 1 << 8
REQUEST_ID: Final = 1 << 9
ENVOY: Final = 1 << 10
"""Any ``x-envoy-*`` name."""
VIA: Final = 1 << 11
KEEP_ALIVE: Final = 1 << 12
PROXY_CONNECTION: Final = 1 << 13
USER_AGENT: Final = 1 << 14
COOKIE: Final = 1 << 15
SERVER: Final = 1 << 16
DATE: Final = 1 << 17
CONTENT_TYPE: Final = 1 << 18
FORWARDED_OTHER: Final = 1 << 19
"""``x-forwarded-host``, ``x-forwarded-port``, ``x-forwarded-client-cert``."""
UNDERSCORE: Final = 1 << 20
"""Any name with an underscore."""
GRPC_TIMEOUT: Final = 1 << 21
TRAILER: Final = 1 << 22
B3_OR_TRACE: Final = 1 << 23
"""Trace context: ``traceparent``, ``x-b3-*``, ``x-client-trace-id``."""
HTTP2_SETTINGS: Final = 1 << 24

_BITS: Final[dict[bytes, int]] = {
    b"host": HOST,
    b"content-length": CONTENT_LENGTH,
    b"transfer-encoding": TRANSFER_ENCODING,
    b"connection": CONNECTION,
    b"expect": EXPECT,
    b"upgrade": UPGRADE,
    b"te": TE,
    b"x-forwarded-for": FORWARDED_FOR,
    b"x-forwarded-proto": FORWARDED_PROTO,
    b"x-request-id": REQUEST_ID,
    b"via": VIA,
    b"keep-alive": KEEP_ALIVE,
    b"proxy-connection": PROXY_CONNECTION,
    b"user-agent": USER_AGENT,
    b"cookie": COOKIE,
    b"server": SERVER,
    b"date": DATE,
    b"content-type": CONTENT_TYPE,
    b"x-forwarded-host": FORWARDED_OTHER,
    b"x-forwarded-port": FORWARDED_OTHER,
    b"x-forwarded-client-cert": FORWARDED_OTHER,
    b"grpc-timeout": GRPC_TIMEOUT,
    b"trailer": TRAILER,
    b"traceparent": B3_OR_TRACE,
    b"x-client-trace-id": B3_OR_TRACE,
    b"http2-settings": HTTP2_SETTINGS,
}


_FIRST_JOIN_BIT: Final = 25
_LAST_JOIN_BIT: Final = 61
_OWN: Final = frozenset(name for name, bit in _BITS.items() if bit not in (FORWARDED_OTHER, B3_OR_TRACE))


def _join_bits() -> dict[bytes, int]:
    """A bit for every name whose fields are joined and that has none of its own yet."""
    out: dict[bytes, int] = {}
    at = _FIRST_JOIN_BIT
    for name in sorted((JOINED_IN_REQUESTS | JOINED_IN_RESPONSES) - _OWN):
        out[name] = 1 << at
        at = at + 1 if at < _LAST_JOIN_BIT else _FIRST_JOIN_BIT
    return out


_JOIN_BITS: Final = _join_bits()


def _joinable() -> int:
    bits = 0
    for bit in _JOIN_BITS.values():
        bits |= bit
    for name in (JOINED_IN_REQUESTS | JOINED_IN_RESPONSES) & _OWN:
        bits |= _BITS[name]
    return bits


JOINABLE: Final = _joinable()
"""A second field with one of these bits is *perhaps* one that joins the first (bits are shared)."""


def bit_of(name: bytes) -> int:
    """The bits of a lower-case name; 0 for a name the proxy never looks at."""
    bits = _BITS.get(name, 0) | _JOIN_BITS.get(name, 0)
    if name.startswith(b"x-envoy-"):
        bits |= ENVOY
    elif name.startswith(b"x-b3-"):
        bits |= B3_OR_TRACE
    if b"_" in name:
        bits |= UNDERSCORE
    return bits


class Field:
    """One header field, immutable by convention: it is shared between requests."""

    __slots__ = ("bit", "name", "note", "value", "wire")

    def __init__(self, name: bytes, value: bytes) -> None:
        self.name = name
        self.value = value
        self.wire = name + b": " + value + b"\r\n"
        self.bit: int = bit_of(name)
        self.note: int = 0
        """What a codec made of the value, once: the number of a ``content-length``, the options of
        ``connection`` as bits."""

    def __repr__(self) -> str:
        return f"Field({self.name!r}, {self.value!r})"


class Headers:
    """An ordered multi-map of header fields.

    Hot code works on ``fields`` and ``mask`` directly; everybody else uses the methods, which take
    names and values as ``bytes`` or ``str`` (names in any case).
    """

    __slots__ = ("fields", "mask")

    def __init__(self, fields: list[Field] | None = None, mask: int = 0) -> None:
        self.fields: list[Field] = [] if fields is None else fields
        self.mask: int = mask

    @staticmethod
    def of(pairs: Iterable[tuple[bytes, bytes]]) -> "Headers":
        headers = Headers()
        for name, value in pairs:
            headers.add(name, value)
        return headers

    def copy(self) -> "Headers":
        return Headers(self.fields.copy(), self.mask)

    # -- lower-case bytes names: what the proxy itself uses ------------------------------------

    def find(self, name: bytes) -> bytes | None:
        """The first value of ``name`` (lower-case), or None."""
        for field in self.fields:
            if field.name == name:
                return field.value
        return None

    def find_all(self, name: bytes) -> list[bytes]:
        """Every value of ``name`` (lower-case), in order."""
        return [field.value for field in self.fields if field.name == name]

    def joined(self, name: bytes) -> bytes | None:
        """All values of ``name`` joined by a comma (RFC 9110 5.3), or None when there is none."""
        values = self.find_all(name)
        if not values:
            return None
        return values[0] if len(values) == 1 else b",".join(values)

    def append(self, field: Field) -> None:
        self.fields.append(field)
        self.mask |= field.bit

    def put(self, field: Field) -> None:
        """Set ``field``: the first of that name is replaced in place, others are dropped."""
        name = field.name
        fields = self.fields
        at = -1
        for i in range(len(fields)):
            if fields[i].name == name:
                at = i
                break
        if at < 0:
            fields.append(field)
        else:
            fields[at] = field
            if at + 1 < len(fields):
                rest = [f for f in fields[at + 1 :] if f.name != name]
                if len(rest) != len(fields) - at - 1:
                    fields[at + 1 :] = rest
        self.mask |= field.bit

    def drop(self, name: bytes) -> bool:
        """Remove every field of ``name`` (lower-case); true when there was one."""
        kept = [field for field in self.fields if field.name != name]
        if len(kept) == len(self.fields):
            return False
        self.fields = kept
        return True

    # -- for users: str or bytes, names in any case ------------------------------------------

    def get(self, name: str | bytes, default: bytes | None = None) -> bytes | None:
        value = self.find(_name(name))
        return default if value is None else value

    def get_all(self, name: str | bytes) -> list[bytes]:
        return self.find_all(_name(name))

    def add(self, name: str | bytes, value: str | bytes) -> None:
        self.append(Field(_token(name), _value(value)))

    def set(self, name: str | bytes, value: str | bytes) -> None:
        self.put(Field(_token(name), _value(value)))

    def remove(self, name: str | bytes) -> bool:
        return self.drop(_name(name))

    def items(self) -> list[tuple[bytes, bytes]]:
        return [(field.name, field.value) for field in self.fields]

    def __getitem__(self, name: str | bytes) -> bytes:
        value = self.find(_name(name))
        if value is None:
            raise KeyError(name)
        return value

    def __setitem__(self, name: str | bytes, value: str | bytes) -> None:
        self.put(Field(_token(name), _value(value)))

    def __delitem__(self, name: str | bytes) -> None:
        self.drop(_name(name))

    def __contains__(self, name: object) -> bool:
        if isinstance(name, bytes):
            return self.find(_name(name)) is not None
        return isinstance(name, str) and self.find(_name(name)) is not None

    def __iter__(self) -> Iterator[bytes]:
        return iter([field.name for field in self.fields])

    def __len__(self) -> int:
        return len(self.fields)

    def __repr__(self) -> str:
        return f"Headers({self.items()!r})"

    def size(self) -> int:
        """Bytes of all names and values, as Envoy counts ``%REQUEST_HEADERS_BYTES%``."""
        total = 0
        for field in self.fields:
            total += len(field.name) + len(field.value)
        return total


def _name(name: str | bytes) -> bytes:
    return (name.encode("latin-1") if isinstance(name, str) else name).lower()


def _token(name: str | bytes) -> bytes:
    raw = _name(name)
    if not raw or raw.translate(None, _TOKEN):
        raise ValueError(f"not the name of a header (RFC 9110 5.1): {raw!r}")
    return raw


_TOKEN: Final = b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz"


def _value(value: str | bytes) -> bytes:
    raw = value.encode("utf-8") if isinstance(value, str) else value
    if b"\r" in raw or b"\n" in raw or b"\0" in raw:
        raise ValueError(f"a header value may not contain CR, LF or NUL: {raw!r}")
    return raw
