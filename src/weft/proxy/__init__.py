"""The data plane.

A worker owns everything here privately and replaces it whole: listeners accept, network filters
and the HTTP connection manager carry, the router asks a cluster for a host and its pool for a
connection.  ``downstream`` (listener, network, http) and ``upstream`` meet only in ``http/router``
and ``network/tcp_proxy``.  ``process`` starts and feeds workers; ``admin`` and ``observe`` look.
"""
