"""Which virtual host, and why not the others: the first half of a walk."""

from collections import defaultdict
from typing import Final

from weft.http.message import Request
from weft.proxy.explain.explanation import FAILED, LESS_SPECIFIC, TAKEN, Hosts, HostTried
from weft.proxy.explain.near import UNLIKE, unlikeness
from weft.proxy.route.domains import port_start
from weft.proxy.route.match import shown
from weft.proxy.route.table import RouteTable, VirtualHost
from weft.steps import Steps

MOST_HOSTS: Final = 10
"""Virtual hosts that are told of unless all are wanted."""
MOST_SLIPS: Final = 3
_SLIP: Final = 0.25
"""How unlike a name may be that was perhaps meant."""

_RELATED: Final = 0.05
_OTHER: Final = "another name"


def walk_domains(
    table: RouteTable, request: Request, everything: bool
) -> Steps[tuple[Hosts, list[VirtualHost]]]:
    """(what is told, the virtual hosts that fit, the one that is taken first)."""
    host = table.host_of(request)
    told_by = shown(table.host_header) if table.host_header else ":authority"
    if host is None:
        return Hosts(told_by=told_by, left_out=len(table.virtual_hosts)), []
    fitting = table.domains.fitting(host)
    first = fitting[0][1] if fitting else None
    tried: list[HostTried] = []
    told: set[int] = set()
    hosts: list[VirtualHost] = []
    for domain, virtual_host in fitting:
        if id(virtual_host) in told:
            continue
        told.add(id(virtual_host))
        hosts.append(virtual_host)
        taken = virtual_host is first
        why = _sort(domain) if taken else f"{_sort(domain)}; {shown(fitting[0][0])} is more specific"
        outcome = TAKEN if taken else LESS_SPECIFIC
        tried.append(HostTried(name=virtual_host.name, domain=shown(domain), outcome=outcome, why=why))
    others = yield from _others(table, host, told)
    kept = others if everything or len(table.virtual_hosts) <= MOST_HOSTS else _telling(others)
    for _, domain, name, why in kept:
        tried.append(HostTried(name=name, domain=shown(domain), outcome=FAILED, why=why))
        yield 3
    return Hosts(
        looked_for=shown(host),
        told_by=told_by,
        taken=None if first is None else first.name,
        tried=tuple(tried),
        left_out=len(others) - len(kept),
    ), hosts


_Other = tuple[float, bytes, str, str]
"""(how unlike its nearest domain is, that domain, the virtual host's name, why not)"""


def _others(table: RouteTable, host: bytes, told: set[int]) -> Steps[list[_Other]]:
    """Those that do not fit, in the order of the table, each with its nearest domain."""
    domains: defaultdict[int, list[bytes]] = defaultdict(list)
    for domain, virtual_host in table.domains.patterns():
        domains[id(virtual_host)].append(domain)
        yield 1
    out = []
    for virtual_host in table.virtual_hosts:
        if id(virtual_host) in told:
            continue
        best: tuple[float, bytes, str] = (2.0, b"", "it has no domain of its own")
        for domain in domains[id(virtual_host)]:
            difference, why = _difference(domain, host, table.ignore_port)
            if difference < best[0]:
                best = (difference, domain, why)
            yield 10
        out.append((best[0], best[1], virtual_host.name, best[2]))
    return out


def _telling(others: list[_Other]) -> list[_Other]:
    near = [other for other in others if other[0] <= _SLIP]
    return sorted(near, key=lambda other: other[0])[:MOST_SLIPS]


def _difference(domain: bytes, host: bytes, ignore_port: bool) -> tuple[float, str]:
    """How unlike, and the reason in words."""
    lower = host.lower()
    at = port_start(lower)
    name = lower if at < 0 else lower[:at]
    if at >= 0 and (
        domain == name or (domain.startswith(b"*") and name.endswith(domain[1:]) and name != domain[1:])
    ):
        remedy = "ignore_port_in_host_matching, strip_any_host_port or a domain with it would do"
        return _RELATED, f"the port {shown(lower[at:])} is a part of the name: {remedy}"
    if domain.startswith(lower + b":"):
        what = "and the table ignores the port of requests" if ignore_port else "and the request has none"
        return _RELATED, f"the domain has a port, {what}"
    if domain == b"*." + lower or domain == b"*" + lower:
        return _RELATED, "a suffix wildcard wants something before the suffix"
    if lower.endswith(b".") and domain == lower[:-1]:
        return _RELATED, "the dot at the end is a part of the name: strip_trailing_host_dot would do"
    if domain.endswith(b"*") and domain[:-1] == lower:
        return _RELATED, "a prefix wildcard wants something after the prefix"
    if domain.startswith(b"*"):
        tail = name[-len(domain) + 1 :]
        difference = unlikeness(domain[1:], tail, _SLIP)
        if difference == UNLIKE:
            return UNLIKE, "another suffix"
        return difference + _RELATED, f"another suffix; is {shown(tail)} a slip?"
    if domain.endswith(b"*"):
        return unlikeness(domain[:-1], name[: len(domain) - 1], _SLIP), "another prefix"
    difference = unlikeness(domain, name, _SLIP)
    return difference, _OTHER if difference == UNLIKE else f"{_OTHER}; did you mean this one?"


def _sort(domain: bytes) -> str:
    if domain == b"*":
        return "any name"
    if domain.startswith(b"*"):
        return "by its suffix"
    return "by its prefix" if domain.endswith(b"*") else "the exact name"
