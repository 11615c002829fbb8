"""Which balancer a cluster asks for, and its parameters.

Both ways of asking lead here: ``lb_policy`` with its configuration fields, and
``load_balancing_policy``, a list of extensions of which the first known one counts.
"""

from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any, Final

from weft.api.problems import Where
from weft.api.values import wrapped
from weft.proxy.route.hash_policy import HashPolicy, hash_policy


class Algorithm(Enum):
    ROUND_ROBIN = "round_robin"
    LEAST_REQUEST = "least_request"
    RANDOM = "random"
    RING_HASH = "ring_hash"
    MAGLEV = "maglev"


_HASHING: Final = (Algorithm.RING_HASH, Algorithm.MAGLEV)


class HashFunction(Enum):
    XX_HASH = "xx_hash"
    MURMUR_HASH_2 = "murmur_hash_2"


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicySettings:
    algorithm: Algorithm = Algorithm.ROUND_ROBIN
    choice_count: int = 2
    """Least request: hosts drawn per pick when weights are equal."""
    full_scan: bool = False
    """Least request: look at every host in place of drawing."""
    bias: float = 1.0
    """Least request with unequal weights: how much requests under way count against weight."""
    bias_key: str = ""
    """Runtime key of ``bias``; empty for none."""
    locality_weighted: bool = False
    panic_threshold: float = 50.0
    """Percent of healthy hosts below which all hosts are used; 0 switches that off."""
    fail_on_panic: bool = False
    """In panic answer with no host, in place of any host."""
    minimum_ring_size: int = 1024
    """Ring hash: places on the ring, at least (fewer only if ``maximum_ring_size`` says so)."""
    maximum_ring_size: int = 8 * 1024 * 1024
    hash_function: HashFunction = HashFunction.XX_HASH
    table_size: int = 65537
    """Maglev: a prime."""
    use_hostname: bool = False
    """Hosts stand in the table by their names in place of their addresses."""
    hash_balance_factor: int = 0
    """Percent of its fair share of requests under way that a host may have; 0 for any."""
    hash_policy: HashPolicy | None = field(default=None, compare=False)
    """What to hash, in place of what routes say.  Equal if ``hash_policy_bytes`` are."""
    hash_policy_bytes: bytes = b""

    @property
    def hashes(self) -> bool:
        return self.algorithm in _HASHING


ROUND_ROBIN: Final = PolicySettings()

_POLICIES: Final = "envoy.extensions.load_balancing_policies."
_ALGORITHMS: Final = {
    _POLICIES + "round_robin.v3.RoundRobin": Algorithm.ROUND_ROBIN,
    _POLICIES + "least_request.v3.LeastRequest": Algorithm.LEAST_REQUEST,
    _POLICIES + "random.v3.Random": Algorithm.RANDOM,
    _POLICIES + "ring_hash.v3.RingHash": Algorithm.RING_HASH,
    _POLICIES + "maglev.v3.Maglev": Algorithm.MAGLEV,
}
_KNOWN_TO_ENVOY: Final = frozenset(
    _POLICIES + name
    for name in (
        "client_side_weighted_round_robin.v3.ClientSideWeightedRoundRobin",
        "cluster_provided.v3.ClusterProvided",
        "dynamic_modules.v3.DynamicModulesLoadBalancerConfig",
        "load_aware_locality.v3.LoadAwareLocality",
        "override_host.v3.OverrideHost",
        "peak_ewma.v3.PeakEwma",
        "pick_first.v3.PickFirst",
        "random_subsetting.v3.RandomSubsetting",
        "subset.v3.Subset",
        "wrr_locality.v3.WrrLocality",
    )
)


def policy_settings(cluster: Any, where: Where, *, provided: bool = False) -> PolicySettings:
    """From the ``Cluster`` message.  ``provided``: its type may come with a balancer of its own."""
    name = cluster.DESCRIPTOR.enum_types_by_name["LbPolicy"].values_by_number[cluster.lb_policy].name
    if name == "LOAD_BALANCING_POLICY_CONFIG" or cluster.HasField("load_balancing_policy"):
        if not cluster.HasField("load_balancing_policy"):
            where.problem(
                "field load_balancing_policy needs to be set with lb_policy LOAD_BALANCING_POLICY_CONFIG"
            )
            return ROUND_ROBIN
        found = _from_list(cluster.load_balancing_policy, where.field("load_balancing_policy"))
        if cluster.HasField("lb_subset_config"):
            where.field("lb_subset_config").problem(
                "load_balancing_policy cannot be combined with lb_subset_config"
            )
        if cluster.HasField("common_lb_config"):
            if cluster.common_lb_config.WhichOneof("locality_config_specifier"):
                where.field("common_lb_config").problem(
                    "cannot be used for zone-aware or locality-weighted balancing together with load_balancing_policy"
                )
        return _panic(found, cluster, where)
    place = where.field("lb_policy")
    settings = ROUND_ROBIN
    if name == "ROUND_ROBIN":
        _no_slow_start(cluster.round_robin_lb_config, where.field("round_robin_lb_config"))
    elif name == "LEAST_REQUEST":
        settings = _least_request(cluster.least_request_lb_config, where.field("least_request_lb_config"))
    elif name == "RANDOM":
        settings = PolicySettings(algorithm=Algorithm.RANDOM)
    elif name == "RING_HASH":
        settings = _consistent(
            _ring(cluster.ring_hash_lb_config, 1, where.field("ring_hash_lb_config")),
            cluster.common_lb_config,
            where.field("common_lb_config"),
        )
    elif name == "MAGLEV":
        settings = _consistent(
            _maglev(cluster.maglev_lb_config, where.field("maglev_lb_config")),
            cluster.common_lb_config,
            where.field("common_lb_config"),
        )
    elif name == "CLUSTER_PROVIDED":
        if not provided:
            place.problem("cluster provided LB specified but this type of cluster does not provide one")
    else:
        place.problem(f"not supported yet: lb_policy {name}")
    if cluster.lb_subset_config.subset_selectors:
        where.field("lb_subset_config").problem("not supported yet: subset balancing")
    return _panic(
        _locality(settings, cluster.common_lb_config, where.field("common_lb_config")), cluster, where
    )


def _panic(settings: PolicySettings, cluster: Any, where: Where) -> PolicySettings:
    common = cluster.common_lb_config
    if not common.HasField("healthy_panic_threshold"):
        return settings
    # Envoy rounds to a whole percent, away from zero.
    return replace(settings, panic_threshold=float(int(common.healthy_panic_threshold.value + 0.5)))


def _from_list(message: Any, where: Where) -> PolicySettings:
    from weft.api.unpack import type_name, unpack

    seen: list[str] = []
    for i, policy in enumerate(message.policies):
        extension = policy.typed_extension_config
        place = where.field("policies").item(i).field("typed_extension_config")
        wanted = type_name(extension.typed_config)
        algorithm = _ALGORITHMS.get(wanted)
        if algorithm is None:
            seen.append(extension.name)
            if wanted in _KNOWN_TO_ENVOY:
                # Envoy would take this one: passing to the next would balance differently.
                place.problem(f"not supported yet: load balancing policy '{extension.name}' (type {wanted})")
                return ROUND_ROBIN
            continue
        place = place.field("typed_config")
        inner = unpack(extension.typed_config, place)
        if inner is None:
            return ROUND_ROBIN
        if algorithm is Algorithm.LEAST_REQUEST:
            settings = _least_request(inner, place)
        elif algorithm in _HASHING:
            made = _ring(inner, 2, place) if algorithm is Algorithm.RING_HASH else _maglev(inner, place)
            weighted = inner.HasField("locality_weighted_lb_config")
            return replace(_consistent(made, inner, place), locality_weighted=weighted)
        else:
            settings = PolicySettings(algorithm=algorithm)
            if algorithm is Algorithm.ROUND_ROBIN:
                _no_slow_start(inner, place)
        return _locality(settings, inner.locality_lb_config, place.field("locality_lb_config"))
    where.problem(f"no registered load balancing policy among: {', '.join(seen) or 'none'}")
    return ROUND_ROBIN


def _least_request(message: Any, where: Where) -> PolicySettings:
    _no_slow_start(message, where)
    bias, key = 1.0, ""
    if message.HasField("active_request_bias"):
        bias, key = message.active_request_bias.default_value, message.active_request_bias.runtime_key
    full_scan = False
    fields = message.DESCRIPTOR.fields_by_name
    if "selection_method" in fields:
        full_scan = message.selection_method == 1 or wrapped(message, "enable_full_scan", False)
    return PolicySettings(
        algorithm=Algorithm.LEAST_REQUEST,
        choice_count=wrapped(message, "choice_count", 2),
        full_scan=full_scan,
        bias=bias,
        bias_key=key,
    )


def _ring(message: Any, murmur: int, where: Where) -> PolicySettings:
    """From either ring hash message; ``murmur`` is the number of MURMUR_HASH_2 in its enum."""
    settings = PolicySettings(
        algorithm=Algorithm.RING_HASH,
        minimum_ring_size=wrapped(message, "minimum_ring_size", 1024),
        maximum_ring_size=wrapped(message, "maximum_ring_size", 8 * 1024 * 1024),
        hash_function=HashFunction.MURMUR_HASH_2 if message.hash_function == murmur else HashFunction.XX_HASH,
    )
    least, most = settings.minimum_ring_size, settings.maximum_ring_size
    if least > most:
        where.problem(f"ring hash: minimum_ring_size ({least}) > maximum_ring_size ({most})")
    return settings


def _maglev(message: Any, where: Where) -> PolicySettings:
    size = wrapped(message, "table_size", 65537)
    if not _is_prime(size):
        where.field("table_size").problem("The table size of maglev must be prime number")
    return PolicySettings(algorithm=Algorithm.MAGLEV, table_size=size)


def _is_prime(number: int) -> bool:
    """For the few million that a table may have."""
    return number > 1 and all(number % divisor for divisor in range(2, int(number**0.5) + 1))


def _consistent(settings: PolicySettings, message: Any, where: Where) -> PolicySettings:
    """``consistent_hashing_lb_config``, and the fields that said the same before it."""
    fields = message.DESCRIPTOR.fields_by_name
    if "use_hostname_for_hashing" in fields:
        settings = replace(
            settings,
            use_hostname=message.use_hostname_for_hashing,
            hash_balance_factor=wrapped(message, "hash_balance_factor", 0),
        )
    if not message.HasField("consistent_hashing_lb_config"):
        return settings
    config = message.consistent_hashing_lb_config
    settings = replace(
        settings,
        use_hostname=config.use_hostname_for_hashing,
        hash_balance_factor=wrapped(config, "hash_balance_factor", 0),
    )
    if "hash_policy" in config.DESCRIPTOR.fields_by_name and config.hash_policy:
        place = where.field("consistent_hashing_lb_config").field("hash_policy")
        settings = replace(
            settings,
            hash_policy=hash_policy(config.hash_policy, place),
            hash_policy_bytes=b"\0".join(
                policy.SerializeToString(deterministic=True) for policy in config.hash_policy
            ),
        )
    return settings


def _no_slow_start(message: Any, where: Where) -> None:
    if message.HasField("slow_start_config"):
        where.field("slow_start_config").problem("not supported yet: slow start")


def _locality(settings: PolicySettings, message: Any, where: Where) -> PolicySettings:
    """``locality_weighted_lb_config``; zone-aware balancing acts only where the bootstrap names a local cluster."""
    which = message.WhichOneof("locality_config_specifier")
    if which == "locality_weighted_lb_config":
        return replace(settings, locality_weighted=True)
    if which == "zone_aware_lb_config":
        zone = message.zone_aware_lb_config
        if zone.fail_traffic_on_panic:
            return replace(settings, fail_on_panic=True)
    return settings
