"""Which inputs and which matchers of values there are, by the type of their configuration.

A *grammar* is what one place of the configuration allows: its inputs, its actions.  Envoy has the
same split: an HTTP input in a filter-chain matcher is an unknown type.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from weft.api.problems import Where
from weft.api.values import fraction
from weft.proxy.matching import inputs
from weft.proxy.matching.inputs import (
    ConnectionInput,
    Constant,
    FilterStateInput,
    HeaderInput,
    Input,
    MetadataInput,
    Missing,
    QueryInput,
    StatusInput,
)
from weft.proxy.matching.predicates import (
    Hashed,
    InRanges,
    MetadataPredicate,
    Predicate,
    Share,
    ValuePredicate,
)
from weft.proxy.prefixes import canonical_all
from weft.proxy.runtime import Chance
from weft.proxy.value_matchers import value_matcher

T = TypeVar("T")

InputBuilder = Callable[[Any], Input]
PredicateBuilder = Callable[[Input, Any, Where], Predicate | None]
ActionBuilder = Callable[[Any, Where], T | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Grammar(Generic[T]):
    """What a matcher may say in one place of the configuration."""

    inputs: dict[str, InputBuilder]
    """By the full name of the configuration's type."""
    actions: dict[str, ActionBuilder[T]]
    only_inputs: frozenset[str] = frozenset()
    """Of ``inputs``, those that are any use here; empty for all."""
    only_inputs_text: str = ""
    """How Envoy refuses the others; the type follows."""
    keep_matching: bool = True


_NETWORK: Final = "envoy.extensions.matching.common_inputs.network.v3."
_SSL: Final = "envoy.extensions.matching.common_inputs.ssl.v3."
_HTTP: Final = "envoy.type.matcher.v3."
_TESTS: Final = "envoy.extensions.matching.input_matchers."

REQUEST_HEADER: Final = _HTTP + "HttpRequestHeaderMatchInput"
FILTER_STATE: Final = _NETWORK + "FilterStateInput"
ENVIRONMENT: Final = "envoy.extensions.matching.common_inputs.environment_variable.v3.Config"


def _connection(kind: int) -> InputBuilder:
    return lambda message: ConnectionInput(kind)


def _header(part: int) -> InputBuilder:
    return lambda message: HeaderInput(message.header_name, part)


def _status(kind: int) -> InputBuilder:
    return lambda message: StatusInput(kind)


def _missing(name: str) -> InputBuilder:
    return lambda message: Missing(name)


def _filter_state(message: Any) -> Input:
    return FilterStateInput(message.key, getattr(message, "field", ""))


_EVERYWHERE: Final[dict[str, InputBuilder]] = {
    _NETWORK + "DestinationIPInput": _connection(inputs.DESTINATION_IP),
    _NETWORK + "DestinationPortInput": _connection(inputs.DESTINATION_PORT),
    _NETWORK + "SourceIPInput": _connection(inputs.SOURCE_IP),
    _NETWORK + "SourcePortInput": _connection(inputs.SOURCE_PORT),
    _NETWORK + "DirectSourceIPInput": _connection(inputs.DIRECT_SOURCE_IP),
    _NETWORK + "SourceTypeInput": _connection(inputs.SOURCE_TYPE),
    _NETWORK + "ServerNameInput": _connection(inputs.SERVER_NAME),
    _NETWORK + "NetworkNamespaceInput": _missing("network namespace"),
    FILTER_STATE: _filter_state,
    _SSL + "UriSanInput": _missing("URI of the client certificate"),
    _SSL + "DnsSanInput": _missing("DNS name of the client certificate"),
    _SSL + "SubjectInput": _missing("subject of the client certificate"),
    ENVIRONMENT: lambda message: Constant(message.name),
}

NETWORK_INPUTS: Final[dict[str, InputBuilder]] = {
    **_EVERYWHERE,
    _NETWORK + "TransportProtocolInput": _connection(inputs.TRANSPORT_PROTOCOL),
    _NETWORK + "ApplicationProtocolInput": _connection(inputs.APPLICATION_PROTOCOL),
}
"""What is known of a connection."""

HTTP_INPUTS: Final[dict[str, InputBuilder]] = {
    **_EVERYWHERE,
    REQUEST_HEADER: _header(inputs.REQUEST),
    _HTTP + "HttpRequestTrailerMatchInput": _header(inputs.REQUEST_TRAILERS),
    _HTTP + "HttpResponseHeaderMatchInput": _header(inputs.RESPONSE),
    _HTTP + "HttpResponseTrailerMatchInput": _header(inputs.RESPONSE_TRAILERS),
    _HTTP + "HttpRequestQueryParamMatchInput": lambda message: QueryInput(message.query_param),
    _HTTP + "HttpResponseStatusCodeMatchInput": _status(inputs.STATUS),
    _HTTP + "HttpResponseStatusCodeClassMatchInput": _status(inputs.STATUS_CLASS),
    _HTTP + "HttpResponseLocalReplyMatchInput": _status(inputs.LOCAL_REPLY),
    _NETWORK + "DynamicMetadataInput": lambda message: MetadataInput(
        message.filter, tuple([segment.key for segment in message.path])
    ),
}
"""What is known of an exchange."""


# -- matchers of values ----------------------------------------------------------------------------


def _ip(input: Input, message: Any, where: Where) -> Predicate | None:
    return ValuePredicate(input, InRanges(canonical_all(message.cidr_ranges, where.field("cidr_ranges"))))


def _share(input: Input, message: Any, where: Where) -> Predicate | None:
    wanted = message.runtime_fraction
    chance = Chance(*fraction(wanted.default_value), wanted.runtime_key)
    return ValuePredicate(input, Share(chance, message.seed))


def _hashed(input: Input, message: Any, where: Where) -> Predicate | None:
    if message.threshold > message.modulo:
        where.problem(f"threshold cannot be greater than modulo: {message.threshold} > {message.modulo}")
        return None
    if not message.modulo:
        where.field("modulo").problem("value must be greater than 0")
        return None
    return ValuePredicate(input, Hashed(message.threshold, message.modulo, message.seed))


def _metadata(input: Input, message: Any, where: Where) -> Predicate | None:
    return MetadataPredicate(input, value_matcher(message.value, where.field("value")), message.invert)


PREDICATES: Final[dict[str, PredicateBuilder]] = {
    _TESTS + "ip.v3.Ip": _ip,
    _TESTS + "runtime_fraction.v3.RuntimeFraction": _share,
    _TESTS + "consistent_hashing.v3.ConsistentHashing": _hashed,
    _TESTS + "metadata.v3.Metadata": _metadata,
}
"""``custom_match`` of a predicate."""

NOT_SUPPORTED: Final[dict[str, str]] = {
    "xds.type.matcher.v3.CelMatcher": "CEL expressions",
    "xds.type.matcher.v3.HttpAttributesCelMatchInput": "CEL expressions",
    "envoy.extensions.matching.input_matchers.dynamic_modules.v3.DynamicModuleMatcher": "dynamic modules",
    "envoy.extensions.matching.http.dynamic_modules.v3.DynamicModuleDataInput": "dynamic modules",
}
"""What Envoy has and Weft has not."""
