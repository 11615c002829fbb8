"""The default tags: which part of which stat's name is data, by Envoy's names and rules.

Two kinds of rule.  A token rule such as ``vhost.*.vcluster.$.**`` looks at the dotted parts of a
name: ``*`` is any one part, ``**`` one or more, ``$`` the part that is the tag's value and leaves
the name.  A pattern rule is an RE2 expression whose first group leaves the name and whose last
group is the value.  Every rule sees the whole name as it was; what all of them take out is removed
at the end.

Rules that do not begin with a fixed part of a name come first, whatever their place in the list;
that is Envoy's order of tags, and a Prometheus label set is compared by people.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import re2

Found = tuple[str, int, int]
"""(value, where the removed part starts, where it ends)."""


@dataclass(frozen=True, slots=True)
class TagRule:
    """``find`` takes a name and its dotted parts."""

    tag: str
    first: str
    """The first part that a name must have for this rule; empty for any."""
    find: Callable[[str, list[str]], Found | None]


def token_rule(tag: str, pattern: str) -> TagRule:
    parts = pattern.split(".")
    rest = parts[-1] == "**"
    if rest:
        parts.pop()
    value_at = parts.index("$")
    fixed = [(i, part) for i, part in enumerate(parts) if part not in ("*", "$")]
    size = len(parts)

    def find(name: str, tokens: list[str]) -> Found | None:
        if len(tokens) <= size if rest else len(tokens) != size:
            return None
        for i, part in fixed:
            if tokens[i] != part:
                return None
        value = tokens[value_at]
        start = sum(len(token) + 1 for token in tokens[:value_at])
        end = start + len(value)
        return (value, start, end + 1) if end < len(name) else (value, max(0, start - 1), end)

    first = parts[0] if parts[0] not in ("*", "$") else ""
    return TagRule(tag, first, find)


def pattern_rule(tag: str, pattern: str, *, needs: str = "", unless: str = "") -> TagRule:
    """``needs``: a text that every matching name contains (saves the search); ``unless``: a value that is none.

    Raises ValueError for a pattern that is no regular expression.
    """
    compiled = compile_pattern(pattern)
    groups = compiled.groups
    first = _fixed_start(pattern)

    def find(name: str, tokens: list[str]) -> Found | None:
        if needs and needs not in name:
            return None
        match = compiled.search(name)
        if match is None:
            return None
        # A group that took no part is an empty value and takes nothing out, as in Envoy.
        value: str = (match.group(min(groups, 2)) or "") if groups else ""
        if unless and value == unless:
            return None
        if groups == 0 or match.group(1) is None:
            return value, 0, 0
        return value, match.start(1), match.end(1)

    return TagRule(tag, first, find)


def compile_pattern(pattern: str) -> Any:
    """RE2, else what only a backtracking engine knows (look-ahead), which Envoy uses for tags.

    The texts are stat names, which come from the configuration as the pattern does.
    """
    try:
        return re2.compile(pattern)
    except re2.error as error:
        try:
            return re.compile(pattern)
        except re.error:
            reason = error.args[0] if error.args else ""
            raise ValueError(
                reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)
            ) from None


def fixed_rule(tag: str, value: str) -> TagRule:
    return TagRule(tag, "", lambda name, tokens: (value, 0, 0))


def _fixed_start(pattern: str) -> str:
    """The whole first part that ``^part\\.`` demands; empty when the pattern demands none."""
    if not pattern.startswith("^"):
        return ""
    end = 1
    while end < len(pattern) and (pattern[end].isalnum() or pattern[end] == "_"):
        end += 1
    return pattern[1:end] if pattern.startswith("\\.", end) else ""


_PART: Final = r"[^.]+"
_ADDRESS: Final = r"(?:\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}|\[[a-fA-F_\d]+\])_\d+"
_EITHER_SIDE: Final = r"^(?:listener|cluster)\..*?"

DEFAULT_RULES: Final[tuple[TagRule, ...]] = (
    pattern_rule("envoy.response_code", r"_rq(_(\d{3}))$", needs="_rq_"),
    pattern_rule("envoy.response_code_class", r"_rq_((\d))xx$", needs="_rq_"),
    pattern_rule(
        "envoy.dynamo_partition_id",
        rf"^http\.{_PART}\.dynamodb\.table\.{_PART}\.capacity\.{_PART}(\.__partition_id=(\w{{7}}))$",
        needs=".dynamodb.table.",
    ),
    pattern_rule(
        "envoy.dynamo_operation",
        rf"^http\.{_PART}\.dynamodb.(?:operation|table\.{_PART}\.capacity)(\.({_PART}))(?:\.|$)",
        needs=".dynamodb.",
    ),
    token_rule("envoy.mongo_callsite", "mongo.*.collection.*.callsite.$.query.**"),
    pattern_rule(
        "envoy.dynamo_table", rf"^http\.{_PART}\.dynamodb.(?:table|error)\.(({_PART})\.)", needs=".dynamodb."
    ),
    token_rule("envoy.mongo_collection", "mongo.*.collection.$.**"),
    token_rule("envoy.mongo_cmd", "mongo.*.cmd.$.**"),
    token_rule("envoy.grpc_bridge_method", "cluster.*.grpc.*.$.**"),
    token_rule("envoy.http_user_agent", "http.*.user_agent.$.**"),
    token_rule("envoy.virtual_cluster", "vhost.*.vcluster.$.**"),
    token_rule("envoy.fault_downstream_cluster", "http.*.fault.$.**"),
    pattern_rule("envoy.ssl_cipher", r"^listener\..*?\.ssl\.ciphers(\.([\w-]+))$", needs=".ssl.ciphers."),
    pattern_rule(
        "envoy.ssl_cipher_suite", rf"^cluster\.{_PART}\.ssl\.ciphers(\.([\w-]+))$", needs=".ssl.ciphers."
    ),
    pattern_rule(
        "envoy.ssl_version", rf"{_EITHER_SIDE}\.ssl\.versions(\.(TLSv\d\.\d))$", needs=".ssl.versions."
    ),
    pattern_rule("envoy.ssl_curve", rf"{_EITHER_SIDE}\.ssl\.curves(\.([\w-]+))$", needs=".ssl.curves."),
    pattern_rule("envoy.ssl_sigalg", rf"{_EITHER_SIDE}\.ssl\.sigalgs(\.([\w-]+))$", needs=".ssl.sigalgs."),
    pattern_rule(
        "envoy.tls_certificate",
        rf"{_EITHER_SIDE}\.ssl\.certificate\.(({_PART})\.).*$",
        needs=".ssl.certificate.",
    ),
    token_rule("envoy.grpc_bridge_service", "cluster.*.grpc.$.**"),
    token_rule("envoy.tcp_prefix", "tcp.$.**"),
    token_rule("envoy.udp_prefix", "udp.$.**"),
    token_rule("envoy.clientssl_prefix", "auth.clientssl.$.**"),
    token_rule("envoy.ratelimit_prefix", "ratelimit.$.**"),
    token_rule("envoy.local_http_ratelimit_prefix", "$.http_local_rate_limit.**"),
    token_rule("envoy.local_network_ratelimit_prefix", "local_rate_limit.$.**"),
    token_rule("envoy.local_listener_ratelimit_prefix", "listener_local_ratelimit.$.**"),
    token_rule("envoy.dns_filter_prefix", "dns_filter.$.**"),
    token_rule("envoy.connection_limit_prefix", "connection_limit.$.**"),
    token_rule("envoy.rbac_prefix", "$.rbac.**"),
    pattern_rule(
        "envoy.rbac_policy_name",
        rf"^http\.{_PART}\.rbac\.(?:{_PART}\.)?policy\.(({_PART})\.)(?:allowed|shadow_allowed|denied|shadow_denied)$",
        needs=".rbac.",
    ),
    pattern_rule("envoy.rbac_http_prefix", rf"^http\.{_PART}\.rbac\.(({_PART})\.)", needs=".rbac."),
    token_rule("envoy.ext_authz_prefix", "cluster.*.ext_authz.$.**"),
    token_rule("envoy.ext_authz_prefix", "http.*.ext_authz.$.**"),
    token_rule("envoy.cluster_name", "cluster.$.**"),
    pattern_rule("envoy.http_conn_manager_prefix", rf"^listener\..*?\.http\.(({_PART})\.)", needs=".http."),
    token_rule("envoy.http_conn_manager_prefix", "http.$.**"),
    pattern_rule("envoy.listener_address", rf"^listener\.(({_ADDRESS}|{_PART})\.)", unless="admin"),
    token_rule("envoy.virtual_host", "vhost.$.**"),
    token_rule("envoy.route", "vhost.*.route.$.**"),
    token_rule("envoy.mongo_prefix", "mongo.$.**"),
    pattern_rule("envoy.rds_route_config", rf"^http\.{_PART}\.rds\.(([\w\-.]+)\.)\w+?$", needs=".rds."),
    pattern_rule(
        "envoy.scoped_rds_config", rf"^http\.{_PART}\.scoped_rds\.(([\w\-.]+)\.)\w+?$", needs=".scoped_rds."
    ),
    pattern_rule(
        "envoy.worker_id",
        rf"^(?:listener\.(?:{_ADDRESS}|{_PART})|server|listener_manager|thread_local_cluster_manager)\.worker_((\d+)\.)",
        needs=".worker_",
    ),
    token_rule("envoy.thrift_prefix", "thrift.$.**"),
    token_rule("envoy.redis_prefix", "redis.$.**"),
    pattern_rule("envoy.proxy_protocol_version", rf"^proxy_proto\.((?:{_PART}\.)?versions\.v(\d)\.)\w+$"),
    pattern_rule("envoy.proxy_protocol_prefix", rf"^proxy_proto\.(({_PART})\.).+$", unless="versions"),
    token_rule("envoy.google_grpc_client_prefix", "grpc.$.**"),
    pattern_rule("envoy.xds_resource_name", rf"^sds\.(({_PART})\.).+"),
    pattern_rule(
        "envoy.health_check_name",
        rf"^cluster\.{_PART}\.health_check(\.name\.({_PART}))\..+",
        needs=".health_check.name.",
    ),
)
