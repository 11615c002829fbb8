"""Hosts by name: resolving at start and again and again, keeping the last good answer.

One :class:`Name` per endpoint of a cluster.  It is a deadline, not a task: between resolutions it
costs an entry in the worker's heap.  A failed resolution changes nothing but the time of the next
one.  That a name has no address (any more) is an answer and empties the endpoint, as in Envoy with
its default resolver; a LOGICAL_DNS cluster takes it for a failure.
"""

import asyncio
import socket
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Protocol

from weft.proxy.context import WorkerContext
from weft.proxy.deadlines import Deadline
from weft.proxy.upstream.discovery import DnsSettings, Family
from weft.proxy.upstream.endpoints import EndpointSettings, plain_ip
from weft.proxy.upstream.stats import ClusterStats


@dataclass(frozen=True, slots=True)
class Answer:
    """Addresses in the resolver's order; empty: the name exists without, or does not exist."""

    addresses: tuple[str, ...]
    ttl: float | None = None
    """Seconds; None where the resolver does not tell."""


class Resolver(Protocol):
    """Asks for the addresses of a name.  Raises ``OSError`` when there is no answer."""

    async def resolve(self, name: str, *, v6: bool) -> Answer: ...


_NO_SUCH_NAME = {socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME), socket.EAI_FAMILY}
_ADDRESS_FAMILY = {socket.EAI_NONAME, getattr(socket, "EAI_ADDRFAMILY", socket.EAI_NONAME)}


class SystemResolver:
    """The loop's ``getaddrinfo``: hosts file, search domains and all.  It tells no time to live."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    async def resolve(self, name: str, *, v6: bool) -> Answer:
        family = socket.AF_INET6 if v6 else socket.AF_INET
        try:
            found = await self._loop.getaddrinfo(name, 0, family=family, type=socket.SOCK_STREAM)
        except socket.gaierror as error:
            if error.errno in _NO_SUCH_NAME or error.errno in _ADDRESS_FAMILY:
                return Answer(())
            raise
        except UnicodeError as error:
            raise OSError(f"{name!r} is no DNS name: {error}") from error
        addresses: list[str] = []
        for entry in found:
            ip = str(entry[4][0])
            if ip not in addresses:
                addresses.append(ip)
        return Answer(tuple(addresses))


async def addresses_of(name: str, family: Family, resolver: Resolver) -> Answer:
    """The addresses of ``name`` that ``family`` wants."""
    literal = plain_ip(name)
    if literal:
        return Answer((literal,))  # whatever the family: nothing is asked
    if family is Family.V4_ONLY or family is Family.V6_ONLY:
        return await resolver.resolve(name, v6=family is Family.V6_ONLY)
    first_v6 = family is not Family.V4_PREFERRED
    if family is Family.ALL:
        return await _both(name, resolver)
    answer = await resolver.resolve(name, v6=first_v6)
    if answer.addresses:
        return answer
    return await resolver.resolve(name, v6=not first_v6)


async def _both(name: str, resolver: Resolver) -> Answer:
    """IPv4 and IPv6 addresses; one of the two may fail."""
    found: list[str] = []
    ttl: float | None = None
    failure: OSError | None = None
    for v6 in (False, True):
        try:
            answer = await resolver.resolve(name, v6=v6)
        except OSError as error:
            failure = error
            continue
        found.extend(answer.addresses)
        if answer.ttl is not None:
            ttl = answer.ttl if ttl is None else min(ttl, answer.ttl)
    if failure is not None and not found:
        raise failure
    return Answer(tuple(found), ttl)


class BackOff:
    """Waits between failures: a random part of a window that doubles up to a maximum.  Seconds."""

    def __init__(self, base: float, longest: float) -> None:
        self.base = base
        self.longest = longest
        self.window = base

    def next(self, random: Random) -> float:
        window = self.window
        self.window = min(self.longest, window * 2)
        return random.random() * window

    def reset(self) -> None:
        self.window = self.base


class Name(Deadline):
    """One endpoint's name and what it last resolved to; as a deadline, the time of the next resolution."""

    def __init__(
        self,
        context: WorkerContext,
        resolver: Resolver,
        settings: DnsSettings,
        endpoint: EndpointSettings,
        stats: ClusterStats,
        on_answer: Callable[[bool], None],
        single: bool,
    ) -> None:
        super().__init__(context.deadlines)
        self.endpoint = endpoint
        self.addresses: tuple[str, ...] = ()
        """The last good answer."""
        self.resolved: bool = False
        """The first resolution is over, well or not."""
        self.error: str = ""
        """Why the last one failed; empty for not."""
        self._context = context
        self._resolver = resolver
        self._settings = settings
        self._stats = stats
        self._on_answer = on_answer
        self._single: bool = single
        """Only the first address counts, and an answer without any is a failure: the last good one stays."""
        self._back_off = (
            BackOff(settings.failure_base, settings.failure_max) if settings.failure_base else None
        )
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        if self._task is None:
            self._task = self._context.loop.create_task(self._resolve())

    def stop(self) -> None:
        self.clear()
        if self._task is not None:
            self._task.cancel()
            self._task = None

    def expired(self, now: float) -> None:
        self.start()

    async def _resolve(self) -> None:
        stats = self._stats
        stats.update_attempt += 1
        try:
            answer = await addresses_of(self.endpoint.name, self._settings.family, self._resolver)
            if self._single and not answer.addresses:
                raise OSError(f"{self.endpoint.name!r} has no address")
        except OSError as error:
            self.error = str(error) or type(error).__name__
            stats.update_failure += 1
            self._done(False, self._after_failure())
            return
        self.error = ""
        stats.update_success += 1
        # Servers rotate the addresses of a name: another order is no change, but for the one host of LOGICAL_DNS.
        if self._single:
            changed = answer.addresses[:1] != self.addresses[:1]
        else:
            changed = set(answer.addresses) != set(self.addresses)
        if changed:
            self.addresses = answer.addresses
        else:
            stats.update_no_rebuild += 1
        self._done(changed, self._after_answer(answer))

    def _done(self, changed: bool, wait: float) -> None:
        self._task = None
        self.resolved = True
        self.set(self._context.clock.now() + wait)
        self._on_answer(changed)

    def _after_answer(self, answer: Answer) -> float:
        settings = self._settings
        if self._back_off is not None:
            self._back_off.reset()
        wait = settings.refresh
        if settings.respect_ttl and answer.ttl:
            wait = answer.ttl
        if settings.jitter > 0.0:
            wait += self._context.random.random() * settings.jitter
        return wait

    def _after_failure(self) -> float:
        if self._back_off is None:
            return self._settings.refresh
        return max(0.001, self._back_off.next(self._context.random))
