"""``typed_per_filter_config``: what a route says to HTTP filters, by the filter's name in the chain.

The most specific place that names a filter wins whole (weighted cluster, route, virtual host,
table).  Filters that want them all ask for :meth:`~weft.proxy.route.table.Route.every_setting`.
"""

from typing import Any, Final

from weft.api.problems import Where
from weft.api.unpack import type_name, unpack
from weft.proxy import extensions
from weft.proxy.extensions import HttpFilterKind

FilterSettings = dict[str, Any]
"""Filter name -> its route settings, :data:`DISABLED` or :data:`ENABLED`."""


class Disabled:
    """The filter is left out for these requests."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "DISABLED"


class Enabled:
    """The filter runs as the chain configures it, even where the chain has it disabled."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "ENABLED"


DISABLED: Final = Disabled()
ENABLED: Final = Enabled()

_WRAPPER: Final = "envoy.config.route.v3.FilterConfig"


def filter_settings(messages: Any, where: Where) -> FilterSettings:
    """From a map of filter name to Any."""
    found: FilterSettings = {}
    for name in messages:
        settings = _one(name, messages[name], where.key(name))
        if settings is not None:
            found[name] = settings
    return found


def _one(name: str, config: Any, where: Where) -> Any | None:
    optional = False
    if type_name(config) == _WRAPPER:
        wrapper = unpack(config, where)
        if wrapper is None:
            return None
        if wrapper.disabled:
            return DISABLED
        if not wrapper.HasField("config"):
            where.problem(f"Empty route/virtual host per filter configuration for {name} filter")
            return None
        optional = wrapper.is_optional
        config = wrapper.config
        where = where.field("config")
        if not config.type_url:
            return ENABLED
    wanted = type_name(config)
    kind = extensions.find_for_route(wanted)
    if kind is None:
        if not optional:
            where.problem(
                f"Didn't find a registered implementation for '{name}' with type URL: '{wanted}' "
                "(not supported by this version of Weft)"
            )
        return None
    if not isinstance(kind, HttpFilterKind) or kind.route_settings is None:
        if not optional:
            where.problem(f"The filter {name} doesn't support virtual host or route specific configurations")
        return None
    message = unpack(config, where)
    return None if message is None else kind.route_settings(message, where)
