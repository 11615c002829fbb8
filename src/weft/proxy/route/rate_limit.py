"""``rate_limits`` of routes and virtual hosts: by what descriptors a request is to be limited.

Kept here for the filters that ask (``ratelimit``, ``local_ratelimit``): a :class:`RateLimit` is a
list of actions, each of which adds one entry (key, value) to the descriptor or, when it finds
nothing to say, voids it.  A route that has limits of its own, or does not ask for them with
``include_vh_rate_limits``, is not under those of its virtual host.
"""

from ipaddress import ip_network
from typing import Any, Final

from weft.api.problems import Where
from weft.api.values import wrapped
from weft.http.message import Request
from weft.proxy.matchers import (
    HeaderMatcher,
    QueryParameterMatcher,
    header_matcher,
    query_parameter,
    query_parameter_matcher,
)
from weft.proxy.observe.stream_info import StreamInfo

Entry = tuple[str, str]
"""Descriptor key and value."""

SKIP: Final[Entry] = ("", "")
"""An action that adds nothing, and voids nothing."""


class DescriptorAction:
    """Adds an entry to the descriptor.  This one never has anything to say; see the subclasses."""

    __slots__ = ("key",)

    def __init__(self, key: str) -> None:
        self.key: str = key

    def entry(self, request: Request, info: StreamInfo, service: str) -> Entry | None:
        """The entry, SKIP, or None: no descriptor at all.  ``service``: the local cluster's name."""
        return None


class Fixed(DescriptorAction):
    """``generic_key``."""

    __slots__ = ("value",)

    def __init__(self, key: str, value: str) -> None:
        super().__init__(key)
        self.value: str = value

    def entry(self, request: Request, info: StreamInfo, service: str) -> Entry | None:
        return (self.key, self.value) if self.value else None


class SourceCluster(DescriptorAction):
    __slots__ = ()

    def entry(self, request: Request, info: StreamInfo, service: str) -> Entry | None:
        return (self.key, service)


class DestinationCluster(DescriptorAction):
    __slots__ = ()

    def entry(self, request: Request, info: StreamInfo, service: str) -> Entry | None:
        return (self.key, info.cluster_name) if info.cluster_name else None


class FromHeader(DescriptorAction):
    __slots__ = ("name", "skip")

    def __init__(self, key: str, name: bytes, skip: bool) -> None:
        super().__init__(key)
        self.name: bytes = name
        self.skip: bool = skip

    def entry(self, request: Request, info: StreamInfo, service: str) -> Entry | None:
        value = request.header(self.name)
        if value is None:
            return SKIP if self.skip else None
        return (self.key, value.decode("utf-8", "replace")) if value else None


class FromQuery(DescriptorAction):
    __slots__ = ("name", "skip")

    def __init__(self, key: str, name: bytes, skip: bool) -> None:
        super().__init__(key)
        self.name: bytes = name
        self.skip: bool = skip

    def entry(self, request: Request, info: StreamInfo, service: str) -> Entry | None:
        value = query_parameter(request.path, self.name)
        if value is None:
            return SKIP if self.skip else None
        return (self.key, value.decode("utf-8", "replace")) if value else None


class FromAddress(DescriptorAction):
    """The client's address; with mask lengths below 32 and 128 its network."""

    __slots__ = ("_v4", "_v6")

    def __init__(self, key: str, v4: int = -1, v6: int = -1) -> None:
        super().__init__(key)
        self._v4: int = v4
        self._v6: int = v6

    def entry(self, request: Request, info: StreamInfo, service: str) -> Entry | None:
        ip = info.remote.ip
        if not ip:
            return None
        length = self._v6 if ":" in ip else self._v4
        if length < 0:
            return (self.key, ip)
        return (self.key, str(ip_network((ip, length), strict=False)))


class ByHeaders(DescriptorAction):
    """``header_value_match``: a fixed value where all headers match, or not all when so asked."""

    __slots__ = ("expected", "matchers", "value")

    def __init__(self, key: str, value: str, matchers: tuple[HeaderMatcher, ...], expected: bool) -> None:
        super().__init__(key)
        self.value: str = value
        self.matchers: tuple[HeaderMatcher, ...] = matchers
        self.expected: bool = expected

    def entry(self, request: Request, info: StreamInfo, service: str) -> Entry | None:
        found = all(matcher.matches(request) for matcher in self.matchers)
        return (self.key, self.value) if found == self.expected else None


class ByQuery(DescriptorAction):
    """``query_parameter_value_match``, likewise."""

    __slots__ = ("expected", "matchers", "value")

    def __init__(
        self, key: str, value: str, matchers: tuple[QueryParameterMatcher, ...], expected: bool
    ) -> None:
        super().__init__(key)
        self.value: str = value
        self.matchers: tuple[QueryParameterMatcher, ...] = matchers
        self.expected: bool = expected

    def entry(self, request: Request, info: StreamInfo, service: str) -> Entry | None:
        found = all(matcher.matches(request.path) for matcher in self.matchers)
        return (self.key, self.value) if found == self.expected else None


class FromMetadata(DescriptorAction):
    """A text in the dynamic metadata, or with ``of_route`` in that of the route."""

    __slots__ = ("default", "of_route", "path", "skip")

    def __init__(self, key: str, path: tuple[str, ...], default: str, of_route: bool, skip: bool) -> None:
        super().__init__(key)
        self.path: tuple[str, ...] = path
        self.default: str = default
        self.of_route: bool = of_route
        self.skip: bool = skip

    def entry(self, request: Request, info: StreamInfo, service: str) -> Entry | None:
        value: Any = info.dynamic_metadata
        if self.of_route:
            value = None if info.route is None else info.route.metadata
        for name in self.path:
            value = value.get(name) if isinstance(value, dict) else None
        if isinstance(value, str) and value:
            return (self.key, value)
        if self.default:
            return (self.key, self.default)
        return SKIP if self.skip else None


class RateLimit:
    """One ``RateLimit``: a descriptor, and who may switch it off."""

    __slots__ = ("actions", "disable_key", "on_stream_done", "stage")

    def __init__(
        self, actions: tuple[DescriptorAction, ...], stage: int, disable_key: str, on_stream_done: bool
    ) -> None:
        self.actions: tuple[DescriptorAction, ...] = actions
        self.stage: int = stage
        self.disable_key: str = disable_key
        """Runtime key ``ratelimit.<key>.http_filter_enabled``; empty for none."""
        self.on_stream_done: bool = on_stream_done
        """Counted when the stream is over, and not for the decision."""

    def descriptor(self, request: Request, info: StreamInfo, service: str) -> list[Entry] | None:
        """The entries; None when one of them is missing, and when there are none."""
        entries: list[Entry] = []
        for action in self.actions:
            entry = action.entry(request, info, service)
            if entry is None:
                return None
            if entry != SKIP:
                entries.append(entry)
        return entries or None


RateLimits = tuple[RateLimit, ...]


# -- from configuration ----------------------------------------------------------------------------


def rate_limits(messages: Any, where: Where) -> RateLimits:
    """From ``repeated envoy.config.route.v3.RateLimit``."""
    found = []
    for i, message in enumerate(messages):
        place = where.item(i)
        if message.HasField("limit"):
            place.field("limit").warn("read without effect: no filter asks for limits of its own yet")
        actions = tuple(
            action
            for j, one in enumerate(message.actions)
            if (action := _action(one, place.field("actions").item(j))) is not None
        )
        found.append(
            RateLimit(
                actions, wrapped(message, "stage", 0), message.disable_key, message.apply_on_stream_done
            )
        )
    return tuple(found)


def _action(message: Any, where: Where) -> DescriptorAction | None:
    kind = message.WhichOneof("action_specifier")
    if kind is None:
        return None  # a broken rule of the schema, and reported as such
    one = getattr(message, kind)
    where = where.field(kind)
    if kind == "source_cluster":
        return SourceCluster(kind)
    if kind == "destination_cluster":
        return DestinationCluster(kind)
    if kind == "request_headers":
        return FromHeader(one.descriptor_key, one.header_name.lower().encode(), one.skip_if_absent)
    if kind == "query_parameters":
        return FromQuery(one.descriptor_key, one.query_parameter_name.encode(), one.skip_if_absent)
    if kind == "remote_address":
        return FromAddress(kind)
    if kind == "masked_remote_address":
        return FromAddress(
            kind, wrapped(one, "v4_prefix_mask_len", 32), wrapped(one, "v6_prefix_mask_len", 128)
        )
    if kind == "generic_key":
        return Fixed(one.descriptor_key or kind, one.descriptor_value or getattr(one, "default_value", ""))
    if kind == "header_value_match":
        place = where.field("headers")
        headers = tuple(header_matcher(header, place.item(i)) for i, header in enumerate(one.headers))
        return ByHeaders(
            one.descriptor_key or "header_match",
            one.descriptor_value,
            headers,
            wrapped(one, "expect_match", True),
        )
    if kind == "query_parameter_value_match":
        place = where.field("query_parameters")
        parameters = tuple(
            query_parameter_matcher(parameter, place.item(i))
            for i, parameter in enumerate(one.query_parameters)
        )
        return ByQuery(
            one.descriptor_key or "query_match",
            one.descriptor_value,
            parameters,
            wrapped(one, "expect_match", True),
        )
    if kind in ("dynamic_metadata", "metadata"):
        path = (one.metadata_key.key, *[segment.key for segment in one.metadata_key.path])
        of_route = kind == "metadata" and one.source == 1
        return FromMetadata(
            one.descriptor_key, path, one.default_value, of_route, getattr(one, "skip_if_absent", False)
        )
    where.problem(f"not supported yet: the rate limit action {kind}")
    return None
