import pytest
from hypothesis import given
from hypothesis import strategies as st

from weft.proxy.route.domains import Domains, port_start

NAMES = [
    "a.test", "*.test", "*.a.test", "*-x.test", "a.*", "a.b.*", "*", "a.test:81", "*:80", "[::1]:8080", "a.*.test", "*b*",
]  # fmt: skip


@pytest.mark.parametrize(("host", "found"), [
    ("a.test", "a.test"),
    ("A.TEST", "a.test"),
    ("a.test:81", "a.test:81"),
    ("a.test:82", "a.*"),
    ("b.test", "*.test"),
    ("b.a.test", "*.a.test"),
    ("B.A.test", "*.a.test"),
    (".a.test", "*.test"),
    ("q-x.test", "*-x.test"),
    ("-x.test", "*.test"),
    ("a.b.c", "a.b.*"),
    ("a.b.", "a.*"),
    ("a.c", "a.*"),
    ("a.", "*"),
    ("c:80", "*:80"),
    ("[::1]:8080", "[::1]:8080"),
    ("a.*.test", "a.*.test"),
    ("xb*", "*b*"),
    ("b*", "*"),
    ("", "*"),
])  # fmt: skip
def test_the_most_specific_domain_is_found(host, found):
    domains = Domains()
    for name in NAMES:
        assert domains.add(name.encode(), name)

    assert domains.find(host.encode()) == found


@pytest.mark.parametrize("name", ["*", "a.test", "A.test", "*.TEST", "A.*"])
def test_a_domain_is_added_once(name):
    domains = Domains()
    for known in NAMES:
        domains.add(known.encode(), known)

    assert not domains.add(name.encode(), "again")


def reference(names, host):
    """Envoy's rules, tried one by one."""
    host = host.lower()
    exact = [n for n in names if n == host and n != "*" and not n.startswith("*") and not n.endswith("*")]
    suffixes = [n for n in names if n.startswith("*") and n != "*" and len(n) <= len(host) and host.endswith(n[1:])]
    prefixes = [n for n in names if n.endswith("*") and not n.startswith("*") and len(n) <= len(host) and host.startswith(n[:-1])]
    for found in (exact, sorted(suffixes, key=len, reverse=True), sorted(prefixes, key=len, reverse=True)):
        if found:
            return found[0]
    return "*" if "*" in names else None


LABEL = st.text(alphabet="ab.*:", max_size=5)


@given(st.sets(LABEL, max_size=12), LABEL)
def test_against_the_rules_one_by_one(names, host):
    domains = Domains()
    for name in names:
        domains.add(name.encode(), name)

    assert domains.find(host.encode()) == reference(names, host)


@pytest.mark.parametrize(("host", "at"), [
    (b"a.test", -1), (b"a.test:80", 6), (b"a.test:", 6), (b"[::1]", -1), (b"[::1]:80", 5), (b"", -1), (b":80", 0),
])  # fmt: skip
def test_where_the_port_starts(host, at):
    assert port_start(host) == at
