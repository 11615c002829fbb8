"""Parts of routes that nothing here acts on yet: read for what Envoy would refuse in them.

CORS policies and tracing wait for the filters that read them.  A configuration that Envoy refuses for
them must not be accepted here.
"""

from typing import Any, Final

from weft.api.problems import Where
from weft.api.unpack import type_name
from weft.proxy.matchers import string_matcher
from weft.proxy.observe.formatter import compile_format

_EARLY_DATA: Final = ("envoy.extensions.early_data.v3.DefaultEarlyDataPolicy",)


def check_cors(message: Any, where: Where) -> None:
    """Of an ``envoy.config.route.v3.CorsPolicy``."""
    place = where.field("allow_origin_string_match")
    for i, matcher in enumerate(message.allow_origin_string_match):
        string_matcher(matcher, place.item(i))


def check_tracing(message: Any, where: Where) -> None:
    """Of an ``envoy.config.route.v3.Tracing``."""
    place = where.field("custom_tags")
    for i, tag in enumerate(message.custom_tags):
        if tag.WhichOneof("type") == "value":
            compile_format(tag.value, place.item(i).field("value"))
    for name in ("operation", "upstream_operation"):
        text: str = getattr(message, name)
        if text:
            compile_format(text, where.field(name))


def check_early_data(extension: Any, where: Where) -> None:
    """Of a ``RouteAction.early_data_policy``."""
    _known(extension, _EARLY_DATA, where)


def _known(extension: Any, types: tuple[str, ...], where: Where) -> None:
    kind = type_name(extension.typed_config)
    if kind not in types:
        where.problem(
            f"Didn't find a registered implementation for '{extension.name}' with type URL: '{kind}'"
        )
