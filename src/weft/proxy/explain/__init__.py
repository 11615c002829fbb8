"""Why did my request (not) match?  Route tables that tell what they do, step by step.

``question`` (what was asked) -> ``rehearsal`` (admission and local answers, played by the very objects
that carry traffic) -> ``walk`` (virtual hosts and routes, asked one by one) with ``near`` (what would
have matched) -> ``plan`` (what the route does) -> ``explanation`` (frozen, JSON-shaped) -> ``text``.
``explain`` joins them; ``tables`` finds the route tables of a configuration.

Nothing in here matches anything by itself: every verdict is that of ``proxy/route`` and
``proxy/matchers``, and :func:`~weft.proxy.explain.explain.explain` insists that the whole agrees with
:meth:`~weft.proxy.route.table.RouteTable.find`.  No request pays for it: the data plane does not know
this package.
"""
