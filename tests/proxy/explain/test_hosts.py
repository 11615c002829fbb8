"""Why this virtual host, and why not the others."""

import pytest

from weft.proxy.explain.explanation import FAILED, LESS_SPECIFIC, TAKEN


def hosts(*domains, **more):
    names = [domain if isinstance(domain, list) else [domain] for domain in domains]
    route = {"match": {"prefix": "/"}, "direct_response": {"status": 200}}
    return {"virtual_hosts": [{"name": one[0], "domains": one, "routes": [route]} for one in names], **more}


@pytest.mark.parametrize(
    ("host", "verdicts"),
    [
        ("a.test", {"a.test": TAKEN, "*.test": LESS_SPECIFIC, "a.*": LESS_SPECIFIC, "*": LESS_SPECIFIC, "*.a.test": FAILED}),
        ("x.a.test", {"*.a.test": TAKEN, "*.test": LESS_SPECIFIC, "*": LESS_SPECIFIC, "a.test": FAILED, "a.*": FAILED}),
        ("a.example", {"a.*": TAKEN, "*": LESS_SPECIFIC, "a.test": FAILED, "*.test": FAILED, "*.a.test": FAILED}),
        ("other", {"*": TAKEN, "a.test": FAILED, "*.test": FAILED, "*.a.test": FAILED, "a.*": FAILED}),
    ],
)
def test_the_order_of_domains(asked, host, verdicts):
    told = asked(hosts("a.test", "*.test", "*.a.test", "a.*", "*"), f"http://{host}/").hosts

    assert {one.name: one.outcome for one in told.tried} == verdicts
    assert told.tried[0].outcome == TAKEN
    assert told.taken == told.tried[0].name


@pytest.mark.parametrize(
    ("domain", "host", "why"),
    [
        ("a.test", "a.test:8080", "the port :8080 is a part of the name"),
        ("*.a.test", "b.a.test:8080", "the port :8080 is a part of the name"),
        ("a.test:8080", "a.test", "the domain has a port, and the request has none"),
        ("*.a.test", "a.test", "a suffix wildcard wants something before the suffix"),
        ("a.test", "a.test.", "strip_trailing_host_dot would do"),
        ("a.*", "a.", "a prefix wildcard wants something after the prefix"),
        ("shop.example.com", "shop.exmaple.com", "did you mean this one?"),
        ("*.example.com", "shop.exmaple.com", "is .exmaple.com a slip?"),
        ("shop.example.com", "bank.test", "another name"),
        ("*.example.com", "bank.test", "another suffix"),
        ("shop.*", "bank.test", "another prefix"),
    ],
)
def test_why_a_domain_does_not_fit(asked, domain, host, why):
    told = asked(hosts(domain), f"http://{host}/")

    assert not told.matched
    assert why in told.hosts.tried[0].why
    assert told.plan.answer.details == "route_not_found"


def test_a_domain_with_a_port_where_ports_are_ignored(asked):
    told = asked(hosts("a.test:80", ignore_port_in_host_matching=True), "http://a.test:80/").hosts

    assert told.looked_for == "a.test"
    assert "the table ignores the port" in told.tried[0].why


def test_the_nearest_domain_of_a_virtual_host_is_told(asked):
    told = asked(hosts(["one.test", "shop.test", "other.test"]), "http://shop.tset/").hosts

    assert told.tried[0].domain == "shop.test"


def test_a_virtual_host_that_fits_twice_is_told_once(asked):
    told = asked(hosts(["*.test", "a.*"], "*"), "http://a.test/").hosts

    assert [(one.name, one.domain) for one in told.tried] == [("*.test", "*.test"), ("*", "*")]


def test_of_thousands_only_the_near_ones_are_told(asked):
    config = hosts(*[f"service-{i}.mesh.test" for i in range(3000)], "billing.example.com")

    told = asked(config, "http://biling.example.com/").hosts
    every = asked(config, "http://biling.example.com/", all=True).hosts

    assert [one.name for one in told.tried] == ["billing.example.com"]
    assert (told.left_out, len(every.tried), every.left_out) == (3000, 3001, 0)


def test_the_header_that_stands_for_the_host(asked):
    config = hosts("a.test", vhost_header="x-host")

    found = asked(config, "http://other/", headers={"x-host": "a.test"})
    missing = asked(config, "http://a.test/")

    assert (found.matched, found.hosts.told_by) == (True, "x-host")
    assert (missing.matched, missing.hosts.looked_for) == (False, None)
    assert missing.notes == ("vhost_header says that header x-host names the host, and the request has none",)


def test_only_the_most_specific_virtual_host_is_asked(asked):
    config = hosts("*")
    config["virtual_hosts"].append(
        {"name": "shop", "domains": ["shop.test"], "routes": [{"match": {"prefix": "/api"}, "route": {"cluster": "c"}}]}
    )

    told = asked(config, "http://shop.test/")

    assert not told.matched
    assert told.notes[0].startswith("virtual host * has a route for this")


def test_tls_that_is_required(asked):
    config = hosts("a.test")
    config["virtual_hosts"][0]["require_tls"] = "ALL"

    told = asked(config, "http://a.test/x?y")

    assert (told.matched, told.routes) == (True, None)
    assert told.plan.answer.location == "https://a.test/x?y"
    assert "require_tls" in told.notes[0]
    assert asked(config, "https://a.test/x?y").plan.answer.status == 200
