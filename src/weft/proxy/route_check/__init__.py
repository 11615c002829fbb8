"""The route table check: requests that are described, what a table makes of them, and what was expected.

Behind ``weft route check``, which stands in for Envoy's ``router_check_tool``.  The steps: a table and
tests from files (``files``), each request through the table (``outcome``), what came out against
what was expected (``compare``), and which routes that has covered (``coverage``); ``check`` puts them
together.  Tables, matchers, rewrites and header rules are those that carry traffic.
"""
