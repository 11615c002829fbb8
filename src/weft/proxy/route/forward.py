"""The route action that forwards: to which cluster, how changed, and for how long.

:meth:`Forward.choose` names the cluster, :meth:`Forward.rewrite` changes path and authority.  The
router (``proxy/http/router``) does the rest.
"""

from typing import Any, ClassVar, Final

from weft.api.problems import Where
from weft.api.values import optional_seconds, without_effect, wrapped
from weft.http.message import Request
from weft.proxy.clock import Clock
from weft.proxy.observe.stream_info import StreamInfo
from weft.proxy.route.cluster_specifier import ClusterSpecifier, cluster_specifier
from weft.proxy.route.connect import ConnectSettings, upgrades
from weft.proxy.route.filter_settings import FilterSettings, filter_settings
from weft.proxy.route.hash_policy import NO_HASH, HashPolicy, hash_policy
from weft.proxy.route.header_rules import HeaderRules, chain, header_edits
from weft.proxy.route.internal_redirect import InternalRedirectPolicy
from weft.proxy.route.match import PathMatch
from weft.proxy.route.metadata import plain_metadata
from weft.proxy.route.mirror import Mirror, mirrors
from weft.proxy.route.rate_limit import RateLimits, rate_limits
from weft.proxy.route.retry import RetrySettings, retry_settings
from weft.proxy.route.rewrite import (
    HostRewrite,
    PathRewrite,
    host_rewrite,
    path_rewrite,
    replace_authority,
    rewrite_path,
    sound_host,
    sound_target,
)
from weft.proxy.route.supported import has, only
from weft.proxy.route.timeouts import GrpcTimeout, StreamLimit, grpc_timeout, stream_limit
from weft.proxy.route.unused import check_cors, check_early_data
from weft.proxy.runtime import Runtime

FORWARD: Final = 0

_NO_RUNTIME: Final = Runtime()

_LARGEST_SUM: Final = 2**32 - 1


class Target:
    """A cluster to forward to, with what is special about going there."""

    __slots__ = (
        "cluster", "cluster_header", "filter_settings", "host_rewrite", "metadata", "own_filter_settings",
        "request_headers", "response_headers", "runtime_key", "weight",
    )  # fmt: skip

    def __init__(
        self, cluster: str, *, cluster_header: bytes = b"", weight: int = 1, runtime_key: str = ""
    ) -> None:
        self.cluster: str = cluster
        """Empty when a request header that should name it does not."""
        self.cluster_header: bytes = cluster_header
        self.weight: int = weight
        self.runtime_key: str = runtime_key
        self.host_rewrite: bytes = b""
        """The authority to set before the header rules and :meth:`Forward.rewrite`; empty to leave it."""
        self.request_headers: HeaderRules | None = None
        """Its own; applied before those of the Route, whatever the table says of their order."""
        self.response_headers: HeaderRules | None = None
        self.filter_settings: FilterSettings | None = None
        """Complete (route, virtual host and table merged in); None when the route's hold as they are."""
        self.own_filter_settings: FilterSettings | None = None
        self.metadata: dict[str, Any] | None = None

    def named(self, cluster: str) -> "Target":
        """The same, going to the cluster that a request header named."""
        target = Target(cluster)
        target.host_rewrite = self.host_rewrite
        target.request_headers = self.request_headers
        target.response_headers = self.response_headers
        target.filter_settings = self.filter_settings
        target.own_filter_settings = self.own_filter_settings
        target.metadata = self.metadata
        return target


class Clusters:
    """How the cluster is chosen: one, one named by a header, or one of several by weight."""

    __slots__ = ("by_runtime", "hash_policy", "random_header", "single", "targets", "total")

    def __init__(self, targets: tuple[Target, ...], *, random_header: bytes = b"") -> None:
        self.targets: tuple[Target, ...] = targets
        self.single: Target | None = (
            targets[0] if len(targets) == 1 and not targets[0].cluster_header else None
        )
        self.total: int = sum([target.weight for target in targets])
        self.random_header: bytes = random_header
        """A request header whose number takes the place of the stream's random number."""
        self.by_runtime: bool = any(bool(target.runtime_key) for target in targets)
        self.hash_policy: HashPolicy | None = None
        """The route's, where its hash takes the place of the random number (``use_hash_policy``)."""

    def choose(
        self, request: Request, info: StreamInfo | None, random_value: int, runtime: Runtime | None
    ) -> Target:
        targets = self.targets
        chosen = targets[0]
        if len(targets) > 1:
            random_value = self.drawn(request, info, random_value)
            if self.by_runtime and runtime is not None:
                chosen = self._by_runtime(random_value, runtime)
            else:
                left = random_value % self.total
                for target in targets:
                    left -= target.weight
                    if left < 0:
                        chosen = target
                        break
        if chosen.cluster_header:
            name = request.header(chosen.cluster_header)
            return chosen.named("" if name is None else name.decode("utf-8", "replace"))
        return chosen

    def drawn(self, request: Request, info: StreamInfo | None, random_value: int) -> int:
        """The number that draws: the stream's, unless the request brings its own."""
        if self.hash_policy is not None and info is not None:
            value = self.hash_policy.hash(request, info, False)
            if value != NO_HASH:
                random_value = value
        if self.random_header:
            values = request.header_all(self.random_header)
            # More than one value would let two proxies disagree; Envoy takes it for none.
            if len(values) == 1:
                digits = values[0].removeprefix(b"+")
                bare = digits.lstrip(b"0") or b"0"
                if digits.isdigit() and len(bare) <= 20 and int(bare) < 2**64:
                    random_value = int(bare)
        return random_value

    def weights(self, runtime: Runtime | None) -> list[int]:
        """As they are now, in the order of the targets."""
        if runtime is None:
            return [target.weight for target in self.targets]
        return [
            max(runtime.integer(target.runtime_key, target.weight), 0)
            if target.runtime_key
            else target.weight
            for target in self.targets
        ]

    def _by_runtime(self, random_value: int, runtime: Runtime) -> Target:
        weights = self.weights(runtime)
        total = sum(weights)
        if not total:
            return self.targets[0]
        left = random_value % total
        for target, weight in zip(self.targets, weights, strict=True):
            left -= weight
            if left < 0:
                return target
        return self.targets[0]


class Forward:
    """Forward to a cluster.  Times are seconds; 0 means none, None leaves it to who is asked."""

    kind: ClassVar[int] = FORWARD

    def __init__(self, clusters: Clusters) -> None:
        self.clusters: Clusters = clusters
        self._single: Target | None = clusters.single
        self.specifier: ClusterSpecifier | None = None
        """A plugin that names the cluster, in place of ``clusters``."""
        self.path_rewrite: PathRewrite | None = None
        self.host_rewrite: HostRewrite | None = None
        self.auto_host_rewrite: bool = False
        """The authority becomes the host name of the host that is picked."""
        self.append_x_forwarded_host: bool = False
        self.timeout: float = 15.0
        self.idle_timeout: float | None = None
        self.flush_timeout: float | None = None
        self.stream_limit: StreamLimit | None = None
        self.grpc_timeout: GrpcTimeout | None = None
        self.has_stream_times: bool = False
        """Whether the route changes timeouts of the stream itself."""
        self.priority: int = 0
        """1 is high."""
        self.cluster_not_found_status: int = 503
        self.retry: RetrySettings | None = None
        self.mirrors: tuple[Mirror, ...] | None = None
        """Where else to send copies."""
        self.internal_redirects: InternalRedirectPolicy | None = None
        """Which redirects of the upstream to follow here; None to pass them on."""
        self.upgrades: dict[bytes, bool] = {}
        """Upgrade type, lower-case, to whether it is allowed here."""
        self.connect: ConnectSettings | None = None
        """Where CONNECT ends here; None: it is forwarded."""
        self.hash_policy: HashPolicy | None = None
        """For balancers that hash: what of the request says to which host it belongs."""
        self.rate_limits: RateLimits = ()
        """For rate limit filters; those of the virtual host come with them where they hold too."""
        self.metadata_match: dict[str, Any] | None = None
        """Wanted of hosts, for clusters with subsets."""

    def use(self, specifier: ClusterSpecifier) -> None:
        """Let a plugin name the cluster."""
        self.specifier = specifier
        self._single = None

    def choose(
        self,
        request: Request,
        random_value: int,
        runtime: Runtime | None = None,
        info: StreamInfo | None = None,
    ) -> Target:
        """The cluster, by the stream's stable random number; a plugin that names it may raise."""
        single = self._single
        if single is not None:
            return single
        specifier = self.specifier
        if specifier is not None and info is not None:
            found: Any = specifier.choose(request, info, random_value, runtime or _NO_RUNTIME)
            if found is not None and not isinstance(found, str):
                raise TypeError(f"a cluster specifier gave {found!r} for a cluster's name")
            return Target(found or "")
        return self.clusters.choose(request, info, random_value, runtime)

    def rewrite(
        self,
        request: Request,
        info: StreamInfo | None = None,
        clock: Clock | None = None,
        *,
        original_path: bool = True,
    ) -> str:
        """Change authority and path in place, once the request header rules have been applied.

        What comes of it may be nothing to send: then the name of the pseudo-header, else "".
        ``info`` and ``clock`` are for ``host_rewrite`` and ``path_rewrite`` that are format strings.
        ``original_path``: tell the upstream the old path and host, in ``x-envoy-original-path`` and
        ``x-envoy-original-host`` (not when the router suppresses Envoy's headers).
        """
        host_rewrite = self.host_rewrite
        if host_rewrite is not None:
            host = host_rewrite.host(request, info, clock)
            if host:
                replace_authority(request, host, self.append_x_forwarded_host, original_path)
                if not sound_host(host):
                    return ":authority"
        path_rewrite = self.path_rewrite
        if path_rewrite is not None and request.path:
            rewrite_path(request, path_rewrite, original_path, info, clock)
            if not sound_target(request.path):
                return ":path"
        return ""

    def replace_host(self, request: Request, host: bytes, original_host: bool = True) -> None:
        """For ``auto_host_rewrite``, once a host is picked."""
        replace_authority(request, host, self.append_x_forwarded_host, original_host)

    def cluster_names(self) -> set[str]:
        """Every cluster that is known to be named (not those that request headers name)."""
        names = {target.cluster for target in self.clusters.targets if target.cluster}
        return names if self.specifier is None else names | self.specifier.clusters()

    def describe(self) -> str:
        if self.specifier is not None:
            return f"forward to {self.specifier.describe()}"
        parts = []
        for target in self.clusters.targets:
            name = target.cluster or f"header {target.cluster_header.decode('latin-1')}"
            parts.append(
                name if len(self.clusters.targets) == 1 else f"{name} ({target.weight}/{self.clusters.total})"
            )
        return "forward to " + ", ".join(parts)


class FilterAction(Forward):
    """Left to a filter, which answers before the router is reached; the router has nowhere to forward."""

    def __init__(self) -> None:
        super().__init__(Clusters((Target(""),)))

    def describe(self) -> str:
        return "left to a filter"


# -- from configuration ----------------------------------------------------------------------------

_KNOWN: Final = frozenset(
    (
        "cluster", "cluster_header", "weighted_clusters", "cluster_specifier_plugin",
        "inline_cluster_specifier_plugin", "cluster_not_found_response_code",
        "prefix_rewrite", "regex_rewrite", "path_rewrite", "path_rewrite_policy", "host_rewrite_literal", "auto_host_rewrite",
        "host_rewrite_header", "host_rewrite_path_regex", "host_rewrite", "append_x_forwarded_host",
        "timeout", "idle_timeout", "flush_timeout", "retry_policy", "priority", "upgrade_configs",
        "request_mirror_policies", "internal_redirect_policy", "internal_redirect_action", "max_internal_redirects",
        "max_stream_duration", "max_grpc_timeout", "grpc_timeout_offset", "metadata_match",
        "retry_policy_typed_config", "hedge_policy",
        # Kept for filters and balancers that are not there yet; without them they do nothing.
        "rate_limits", "include_vh_rate_limits", "hash_policy", "cors", "early_data_policy",
    )
)  # fmt: skip
_WEIGHTED: Final = frozenset(("clusters", "total_weight", "runtime_key_prefix", "header_name", "use_hash_policy"))
_NOT_FOUND: Final = (503, 404, 500)


def forward(
    message: Any,
    match: PathMatch,
    name: str,
    outer_filters: tuple[FilterSettings, ...],
    default_retry: RetrySettings | None,
    host_limits: RateLimits,
    where: Where,
    specifiers: dict[str, ClusterSpecifier] | None = None,
) -> Forward:
    """From an ``envoy.config.route.v3.RouteAction``.

    ``name`` is the route table's, ``outer_filters`` the per-filter settings around the action (most
    specific first), ``default_retry`` and ``host_limits`` the virtual host's, ``specifiers`` the table's
    plugins.
    """
    _check(message, where)
    action = Forward(_clusters(message, name, outer_filters, where))
    _set_specifier(action, message, specifiers or {}, where)
    action.path_rewrite = path_rewrite(message, match, where)
    action.host_rewrite = host_rewrite(message, where)
    action.auto_host_rewrite = wrapped(message, "auto_host_rewrite", False)
    action.append_x_forwarded_host = message.append_x_forwarded_host
    _timeouts(action, message)
    action.hash_policy = hash_policy(message.hash_policy, where.field("hash_policy"))
    if wrapped(message.weighted_clusters, "use_hash_policy", False):
        action.clusters.hash_policy = action.hash_policy
    action.rate_limits = rate_limits(message.rate_limits, where.field("rate_limits"))
    if not action.rate_limits or wrapped(message, "include_vh_rate_limits", False):
        action.rate_limits += host_limits
    action.priority = message.priority
    action.cluster_not_found_status = _NOT_FOUND[message.cluster_not_found_response_code]
    action.retry = default_retry
    if message.HasField("retry_policy"):
        action.retry = retry_settings(message.retry_policy, where.field("retry_policy"))
    action.mirrors = mirrors(message.request_mirror_policies, where.field("request_mirror_policies"))
    if message.HasField("metadata_match"):
        action.metadata_match = plain_metadata(message.metadata_match)
    action.upgrades, action.connect = upgrades(message, where.field("upgrade_configs"))
    return action


def _set_specifier(
    action: Forward, message: Any, specifiers: dict[str, ClusterSpecifier], where: Where
) -> None:
    kind = message.WhichOneof("cluster_specifier")
    if kind == "inline_cluster_specifier_plugin":
        action.use(cluster_specifier(message.inline_cluster_specifier_plugin, where.field(kind)))
    elif kind == "cluster_specifier_plugin":
        name = message.cluster_specifier_plugin
        specifier = specifiers.get(name)
        if specifier is None:
            where.field(kind).problem(f"Unknown cluster specifier plugin name: {name} is used in the route")
        else:
            action.use(specifier)


def _timeouts(action: Forward, message: Any) -> None:
    action.stream_limit = stream_limit(message)
    action.grpc_timeout = grpc_timeout(message)
    timeout = optional_seconds(message, "timeout")
    if action.stream_limit is not None:
        action.timeout = 0.0  # as in Envoy, whoever limits the stream has no timeout besides
    elif timeout is not None:
        action.timeout = timeout
    action.idle_timeout = optional_seconds(message, "idle_timeout")
    if has(message, "flush_timeout"):
        action.flush_timeout = optional_seconds(message, "flush_timeout")
    action.has_stream_times = action.idle_timeout is not None or action.stream_limit is not None


def _check(message: Any, where: Where) -> None:
    only(message, _KNOWN, where)
    without_effect(message, ("hedge_policy", "retry_policy_typed_config"), where)
    if message.HasField("cors"):
        check_cors(message.cors, where.field("cors"))
    if message.HasField("early_data_policy"):
        check_early_data(message.early_data_policy, where.field("early_data_policy"))
    rewrites = (
        bool(message.prefix_rewrite),
        message.HasField("regex_rewrite"),
        message.HasField("path_rewrite_policy"),
        bool(getattr(message, "path_rewrite", "")),
    )
    if sum(rewrites) > 1:
        where.problem("Specify only one of prefix_rewrite, regex_rewrite or path_rewrite_policy")


def _clusters(message: Any, name: str, outer_filters: tuple[FilterSettings, ...], where: Where) -> Clusters:
    kind = message.WhichOneof("cluster_specifier")
    if kind == "cluster":
        return Clusters((Target(message.cluster),))
    if kind == "cluster_header":
        return Clusters((Target("", cluster_header=message.cluster_header.lower().encode()),))
    if kind != "weighted_clusters":
        if kind is None:
            where.problem("a route needs one of cluster, cluster_header, weighted_clusters")
        return Clusters((Target(""),))  # a plugin, if anything, names the cluster
    where = where.field("weighted_clusters")
    weighted = message.weighted_clusters
    only(weighted, _WEIGHTED, where)
    prefix: str = weighted.runtime_key_prefix
    targets: list[Target] = []
    for i, entry in enumerate(weighted.clusters):
        place = where.field("clusters").item(i)
        if entry.name and entry.cluster_header:
            place.problem("Only one of name or cluster_header can be specified")
        elif not entry.name and not entry.cluster_header:
            place.problem("At least one of name or cluster_header need to be specified")
        if not entry.HasField("weight"):
            place.problem("Field 'weight' is missing")
        target = Target(
            entry.name,
            cluster_header=b"" if entry.name else entry.cluster_header.lower().encode(),
            weight=wrapped(entry, "weight", 0),
            runtime_key=f"{prefix}.{entry.name}" if prefix else "",
        )
        target.host_rewrite = entry.host_rewrite_literal.encode()
        target.request_headers = chain(header_edits(entry, "request", place))
        target.response_headers = chain(header_edits(entry, "response", place))
        if entry.HasField("metadata_match"):
            target.metadata = plain_metadata(entry.metadata_match)
        own = filter_settings(entry.typed_per_filter_config, place.field("typed_per_filter_config"))
        if own:
            merged: FilterSettings = {}
            for outer in reversed(outer_filters):
                merged.update(outer)
            merged.update(own)
            target.filter_settings = merged
            target.own_filter_settings = own
        targets.append(target)
    if not targets:
        return Clusters((Target(""),))  # a broken rule of the schema, and reported as such
    clusters = Clusters(tuple(targets), random_header=weighted.header_name.lower().encode())
    if clusters.total == 0:
        where.problem("Sum of weights in the weighted_cluster must be greater than 0.")
    elif clusters.total > _LARGEST_SUM:
        where.problem(f"The sum of weights of all weighted clusters of route {name} exceeds {_LARGEST_SUM}")
    return clusters
