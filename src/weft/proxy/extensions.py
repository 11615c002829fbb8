"""Every extension by name and by type: the one list of built-ins, and where third parties come in.

A *kind* says how an extension's protobuf configuration becomes settings (once, when configuration
arrives) and how settings become a running object (per worker, connection or stream).  Built-ins
are named here and imported when a configuration first uses them.  Third parties register by the
entry-point group ``weft.<category>`` (for example ``weft.http_filter``), the entry point being a
kind.  An unknown name is an error that names it.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from weft.api.problems import Where


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """An extension.  ``name`` is Envoy's; ``type`` the full name of its configuration message."""

    name: str
    type: str
    settings: Callable[[Any, Where], Any]
    """From the configuration message to frozen settings; problems go to the Where."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkFilterKind(Kind):
    """``build(settings, context)`` is called once per worker and filter chain.

    It returns a :class:`~weft.proxy.network.connection.Terminal` when ``terminal``, else a
    factory of one :class:`~weft.proxy.network.connection.NetworkFilter` per connection.
    """

    build: Callable[..., Any]
    terminal: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerFilterKind(Kind):
    """``build(settings, context, stats_scope)`` returns a factory of one filter per connection."""

    build: Callable[..., Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpFilterKind(Kind):
    """``build(settings, context, stat_prefix)`` returns a factory of one filter per stream."""

    build: Callable[..., Any]
    terminal: bool = False
    route_settings: Callable[[Any, Where], Any] | None = None
    """Settings of ``typed_per_filter_config``; None when there is none."""
    route_type: str = ""
    """Full name of that message; empty when it is ``type``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessLoggerKind(Kind):
    """``build(settings, context)`` returns an object with ``log(stream_info)``."""

    build: Callable[..., Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterSpecifierKind(Kind):
    """``build(settings)`` returns a :class:`~weft.proxy.route.cluster_specifier.ClusterSpecifier`,
    once per route table."""

    build: Callable[[Any], Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class InternalRedirectPredicateKind(Kind):
    """``build(settings, route_name)`` returns the
    :class:`~weft.proxy.route.internal_redirect.InternalRedirectPredicate` of one route."""

    build: Callable[..., Any]


@dataclass(frozen=True, slots=True)
class BuiltIn:
    name: str
    type: str
    place: str
    """``module:ATTRIBUTE`` of the kind."""
    route_type: str = ""
    """Of an HTTP filter: the type in ``typed_per_filter_config``, where it is not ``type``."""


_NETWORK = "envoy.extensions.filters.network."
_LISTENER = "envoy.extensions.filters.listener."
_HTTP = "envoy.extensions.filters.http."
_LOG = "envoy.extensions.access_loggers."
_REDIRECT = "envoy.extensions.internal_redirect."

BUILT_IN: Final[dict[str, tuple[BuiltIn, ...]]] = {
    "listener_filter": (
        BuiltIn("envoy.filters.listener.original_dst", _LISTENER + "original_dst.v3.OriginalDst", "weft.proxy.listener.original_dst:ORIGINAL_DST"),
        BuiltIn("envoy.filters.listener.proxy_protocol", _LISTENER + "proxy_protocol.v3.ProxyProtocol", "weft.proxy.listener.proxy_protocol:PROXY_PROTOCOL"),
        BuiltIn("envoy.filters.listener.http_inspector", _LISTENER + "http_inspector.v3.HttpInspector", "weft.proxy.listener.http_inspector:HTTP_INSPECTOR"),
    ),
    "network_filter": (
        BuiltIn("envoy.filters.network.http_connection_manager", _NETWORK + "http_connection_manager.v3.HttpConnectionManager", "weft.proxy.http.connection_manager:HTTP_CONNECTION_MANAGER"),
        BuiltIn("envoy.filters.network.tcp_proxy", _NETWORK + "tcp_proxy.v3.TcpProxy", "weft.proxy.network.tcp_proxy:TCP_PROXY"),
        BuiltIn("envoy.filters.network.direct_response", _NETWORK + "direct_response.v3.Config", "weft.proxy.network.direct_response:DIRECT_RESPONSE"),
        BuiltIn("envoy.filters.network.echo", _NETWORK + "echo.v3.Echo", "weft.proxy.network.echo:ECHO"),
        BuiltIn("envoy.filters.network.connection_limit", _NETWORK + "connection_limit.v3.ConnectionLimit", "weft.proxy.network.connection_limit:CONNECTION_LIMIT"),
        BuiltIn("envoy.filters.network.local_ratelimit", _NETWORK + "local_ratelimit.v3.LocalRateLimit", "weft.proxy.network.local_ratelimit:LOCAL_RATELIMIT"),
    ),
    "http_filter": (
        BuiltIn("envoy.filters.http.router", _HTTP + "router.v3.Router", "weft.proxy.http.router:ROUTER"),
        BuiltIn("envoy.filters.http.header_mutation", _HTTP + "header_mutation.v3.HeaderMutation", "weft.proxy.http.header_mutation:HEADER_MUTATION", _HTTP + "header_mutation.v3.HeaderMutationPerRoute"),
    ),
    "access_logger": (
        BuiltIn("envoy.access_loggers.file", _LOG + "file.v3.FileAccessLog", "weft.proxy.observe.access_log:FILE"),
        BuiltIn("envoy.access_loggers.stdout", _LOG + "stream.v3.StdoutAccessLog", "weft.proxy.observe.access_log:STDOUT"),
        BuiltIn("envoy.access_loggers.stderr", _LOG + "stream.v3.StderrAccessLog", "weft.proxy.observe.access_log:STDERR"),
    ),
    "cluster_specifier": (
        BuiltIn("envoy.router.cluster_specifier_plugin.matcher", "envoy.extensions.router.cluster_specifiers.matcher.v3.MatcherClusterSpecifier", "weft.proxy.route.cluster_specifier:MATCHER"),
    ),
    "internal_redirect_predicate": (
        BuiltIn("envoy.internal_redirect_predicates.previous_routes", _REDIRECT + "previous_routes.v3.PreviousRoutesConfig", "weft.proxy.route.internal_redirect:PREVIOUS_ROUTES"),
        BuiltIn("envoy.internal_redirect_predicates.allow_listed_routes", _REDIRECT + "allow_listed_routes.v3.AllowListedRoutesConfig", "weft.proxy.route.internal_redirect:ALLOW_LISTED_ROUTES"),
        BuiltIn("envoy.internal_redirect_predicates.safe_cross_scheme", _REDIRECT + "safe_cross_scheme.v3.SafeCrossSchemeConfig", "weft.proxy.route.internal_redirect:SAFE_CROSS_SCHEME"),
    ),
    "transport_socket": (
        BuiltIn("envoy.transport_sockets.raw_buffer", "envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer", "weft.proxy.network.raw_buffer:RAW_BUFFER"),
    ),
}  # fmt: skip
"""Category -> its built-ins."""


def find(category: str, name: str, type_name: str) -> Kind | None:
    """The kind for a configuration message of ``type_name`` (full name), else for ``name``."""
    built_ins = BUILT_IN.get(category, ())
    for entry in built_ins:
        if entry.type == type_name:
            return _load(entry.place)
    if not type_name:
        for entry in built_ins:
            if entry.name == name:
                return _load(entry.place)
    from importlib import metadata  # 8 ms that only a third party's extension costs

    for point in metadata.entry_points(group=f"weft.{category}"):
        kind = point.load()
        if isinstance(kind, Kind) and (kind.type == type_name or (not type_name and kind.name == name)):
            return kind
    return None


def find_for_route(type_name: str) -> Kind | None:
    """The HTTP filter whose settings for a route are a message of ``type_name`` (full name)."""
    for entry in BUILT_IN["http_filter"]:
        if type_name and type_name in (entry.type, entry.route_type):
            return _load(entry.place)
    from importlib import metadata  # 8 ms that only a third party's extension costs

    for point in metadata.entry_points(group="weft.http_filter"):
        kind = point.load()
        if isinstance(kind, HttpFilterKind) and type_name in (kind.type, kind.route_type or kind.type):
            return kind
    return None


ENVOY_CATEGORIES: Final[dict[str, str]] = {
    "listener_filter": "envoy.filters.listener",
    "network_filter": "envoy.filters.network",
    "http_filter": "envoy.filters.http",
    "access_logger": "envoy.access_loggers",
    "cluster_specifier": "envoy.router.cluster_specifier_plugin",
    "internal_redirect_predicate": "envoy.internal_redirect_predicates",
    "transport_socket": "envoy.transport_sockets.downstream",
}
"""Our categories by Envoy's names, as ``/server_info`` and ``--disable-extensions`` have them."""


def disable(text: str) -> bool:
    """``--disable-extensions``: forget the built-in ``category/name``; false when there is none.

    For this process, before a configuration is read.
    """
    envoy_category, _, name = text.partition("/")
    for category, known in ENVOY_CATEGORIES.items():
        left = tuple(entry for entry in BUILT_IN[category] if entry.name != name)
        if known == envoy_category and len(left) < len(BUILT_IN[category]):
            BUILT_IN[category] = left
            return True
    return False


def names(category: str) -> list[str]:
    return [entry.name for entry in BUILT_IN.get(category, ())]


def _load(place: str) -> Kind:
    module, attribute = place.split(":")
    kind = getattr(importlib.import_module(module), attribute)
    assert isinstance(kind, Kind), place
    return kind
