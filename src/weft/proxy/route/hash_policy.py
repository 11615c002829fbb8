"""Hash policies: what of a request says to which host it belongs (``hash_policy``).

A policy is a list of methods.  Each turns a piece of the request into a 64-bit number (xxHash64,
seed 0), or has nothing to say; what several say is mixed by rotating the old value one bit to the
left and XOR-ing the new one.  The number means something only to balancers that hash
(:mod:`weft.proxy.upstream.hashing`); nobody else asks for it.  All numbers are Envoy's.
"""

from typing import Any, Final

import xxhash

from weft.api.problems import Where
from weft.api.values import optional_seconds
from weft.http.headers import Field
from weft.http.message import Request
from weft.proxy.matchers import cookie, query_parameter
from weft.proxy.observe.stream_info import StreamInfo
from weft.proxy.regex import Regex, Substitution, compile_substitution

NO_HASH: Final = -1
"""In place of a hash: nothing of the request says where it belongs."""

_MASK: Final = (1 << 64) - 1


def hash_bytes(data: bytes) -> int:
    """xxHash64 with seed 0."""
    return int(xxhash.xxh64_intdigest(data))


class HashMethod:
    """One entry of a policy.  This one never has anything to say; see the subclasses."""

    __slots__ = ("terminal",)

    def __init__(self, terminal: bool) -> None:
        self.terminal: bool = terminal
        """Once there is a hash, those after this one are not asked."""

    def hash(self, request: Request | None, info: StreamInfo, make: bool = True) -> int:
        """64 bits, or NO_HASH.  ``make``: a cookie may be made."""
        return NO_HASH

    def describe(self) -> str:
        return "nothing"


class HeaderHash(HashMethod):
    __slots__ = ("name", "regex", "substitution")

    def __init__(
        self,
        terminal: bool,
        name: bytes,
        regex: Regex | None = None,
        substitution: Substitution | None = None,
    ) -> None:
        super().__init__(terminal)
        self.name: bytes = name
        self.regex: Regex | None = regex
        self.substitution: Substitution | None = substitution

    def hash(self, request: Request | None, info: StreamInfo, make: bool = True) -> int:
        if request is None:
            return NO_HASH
        values = request.header_all(self.name)
        if not values:
            return NO_HASH
        regex, substitution = self.regex, self.substitution
        if regex is not None and substitution is not None:
            values = [regex.replace_all(value, substitution) for value in values]
        # Sorted, so that the order in which a client repeats a header does not matter.
        return hash_bytes(values[0] if len(values) == 1 else b"".join(sorted(values)))

    def describe(self) -> str:
        text = f"header {self.name.decode('latin-1')}"
        return text if self.regex is None else f"{text} rewritten by /{self.regex.pattern}/"


class CookieHash(HashMethod):
    """By a cookie; with a time to live, one is made for clients that have none."""

    __slots__ = ("_after", "_before", "made", "name")

    def __init__(
        self,
        terminal: bool,
        name: bytes,
        ttl: float | None = None,
        path: str = "",
        attributes: tuple[tuple[str, str], ...] = (),
    ) -> None:
        """``ttl``: seconds, 0 for a cookie of the session; None makes no cookies."""
        super().__init__(terminal)
        self.name: bytes = name
        self.made: bool = ttl is not None
        after = '"'
        if ttl is not None and int(ttl):
            after += f"; Max-Age={int(ttl)}"
        if path:
            after += f"; Path={path}"
        for key, value in attributes:
            after += f"; {key}={value}" if value else f"; {key}"
        self._before: bytes = name + b'="'
        self._after: bytes = after.encode() + b"; HttpOnly"

    def hash(self, request: Request | None, info: StreamInfo, make: bool = True) -> int:
        if request is None:
            return NO_HASH
        value = cookie(request.headers, self.name)
        if not value:
            if not (make and self.made):
                return NO_HASH
            value = self._make(info)
        return hash_bytes(value)

    def _make(self, info: StreamInfo) -> bytes:
        """The same for all requests of a connection, so that a race of two ends at one host."""
        # From both ends of the connection, the client as far as its word is believed.
        ends = info.remote.text + info.connection.local.text
        value = b"%016x" % hash_bytes(ends.encode())
        made = Field(b"set-cookie", self._before + value + self._after)
        if info.set_cookies is None:
            info.set_cookies = [made]
        else:
            info.set_cookies.append(made)
        return value

    def describe(self) -> str:
        return f"cookie {self.name.decode('latin-1')}" + (" (made when missing)" if self.made else "")


class SourceHash(HashMethod):
    """By the address of the client, without its port."""

    __slots__ = ()

    def hash(self, request: Request | None, info: StreamInfo, make: bool = True) -> int:
        ip = info.remote.ip
        return hash_bytes(ip.encode()) if ip else NO_HASH

    def describe(self) -> str:
        return "source address"


class QueryHash(HashMethod):
    __slots__ = ("name",)

    def __init__(self, terminal: bool, name: bytes) -> None:
        super().__init__(terminal)
        self.name: bytes = name

    def hash(self, request: Request | None, info: StreamInfo, make: bool = True) -> int:
        if request is None:
            return NO_HASH
        value = query_parameter(request.path, self.name)
        return NO_HASH if value is None else hash_bytes(value)

    def describe(self) -> str:
        return f"query parameter {self.name.decode('utf-8', 'replace')}"


class StateHash(HashMethod):
    """By an object of the filter state, of the stream or else of its connection."""

    __slots__ = ("key",)

    def __init__(self, terminal: bool, key: str) -> None:
        super().__init__(terminal)
        self.key: str = key

    def hash(self, request: Request | None, info: StreamInfo, make: bool = True) -> int:
        value = info.state(self.key)
        if value is None:
            return NO_HASH
        return hash_bytes(
            value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogateescape")
        )

    def describe(self) -> str:
        return f"filter state {self.key}"


class HashPolicy:
    """All of a route's, a balancer's or a TCP proxy's methods."""

    __slots__ = ("methods",)

    def __init__(self, methods: tuple[HashMethod, ...]) -> None:
        self.methods: tuple[HashMethod, ...] = methods

    def hash(self, request: Request | None, info: StreamInfo, make: bool = True) -> int:
        """64 bits, or NO_HASH.  ``request`` is None for a connection that is no HTTP.

        ``make``: cookies may be made for clients that have none.
        """
        found = NO_HASH
        for method in self.methods:
            value = method.hash(request, info, make)
            if value != NO_HASH:
                if found != NO_HASH:
                    value ^= ((found << 1) & _MASK) | (found >> 63)
                found = value
            if found != NO_HASH and method.terminal:
                break
        return found

    def describe(self) -> str:
        return ", ".join([method.describe() for method in self.methods])


# -- from configuration ----------------------------------------------------------------------------


def hash_policy(messages: Any, where: Where) -> HashPolicy | None:
    """From ``repeated RouteAction.HashPolicy``; None when there is none."""
    methods = []
    for i, message in enumerate(messages):
        method = _method(message, where.item(i))
        if method is not None:
            methods.append(method)
    return HashPolicy(tuple(methods)) if methods else None


def _method(message: Any, where: Where) -> HashMethod | None:
    kind = message.WhichOneof("policy_specifier")
    terminal: bool = message.terminal
    if kind == "header":
        name = message.header.header_name.lower().encode()
        if not message.header.HasField("regex_rewrite"):
            return HeaderHash(terminal, name)
        compiled = compile_substitution(
            message.header.regex_rewrite, where.field("header").field("regex_rewrite")
        )
        return None if compiled is None else HeaderHash(terminal, name, *compiled)
    if kind == "cookie":
        made = message.cookie
        attributes = tuple((attribute.name, attribute.value) for attribute in made.attributes)
        return CookieHash(terminal, made.name.encode(), optional_seconds(made, "ttl"), made.path, attributes)
    if kind == "connection_properties":
        return SourceHash(terminal) if message.connection_properties.source_ip else None
    if kind == "query_parameter":
        return QueryHash(terminal, message.query_parameter.name.encode())
    if kind == "filter_state":
        return StateHash(terminal, message.filter_state.key)
    return None  # a broken rule of the schema, and reported as such


def connection_hash_policy(messages: Any) -> HashPolicy | None:
    """From ``repeated envoy.type.v3.HashPolicy``, which TCP proxies have."""
    methods: list[HashMethod] = []
    for message in messages:
        kind = message.WhichOneof("policy_specifier")
        if kind == "source_ip":
            methods.append(SourceHash(False))
        elif kind == "filter_state":
            methods.append(StateHash(False, message.filter_state.key))
    return HashPolicy(tuple(methods)) if methods else None
