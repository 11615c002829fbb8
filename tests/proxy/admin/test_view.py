"""Clusters of several workers become one list."""

import copy

import orjson

from weft.proxy.admin.view import HostStatus, cluster_from_plain, merge_clusters


def test_a_cluster_survives_the_way_to_main(web):
    web.default = web.high

    assert cluster_from_plain(orjson.loads(orjson.dumps(web.plain()))) == web


def test_counts_of_the_same_host_add_up(web):
    other = copy.deepcopy(web)
    other.hosts[0].counters = {"cx_total": 4, "rq_success": 2}
    other.hosts[0].gauges = {"cx_active": 5, "rq_active": 1}

    (merged,) = merge_clusters([[web], [other]])

    assert merged.hosts[0].counters == {"cx_connect_fail": 3, "cx_total": 7, "rq_error": 3, "rq_success": 2}
    assert merged.hosts[0].gauges == {"cx_active": 6, "rq_active": 1}
    assert len(merged.hosts) == 2


def test_hosts_that_only_one_worker_resolved_are_kept(web):
    other = copy.deepcopy(web)
    other.hosts = [HostStatus(address="127.0.0.9:1"), HostStatus(address="127.0.0.1:18099", priority=1)]

    (merged,) = merge_clusters([[web], [other], []])

    # The same address at another priority is another host.
    assert [(host.address, host.priority) for host in merged.hosts] == [
        ("127.0.0.1:18099", 0),
        ("127.0.0.2:18099", 1),
        ("127.0.0.9:1", 0),
        ("127.0.0.1:18099", 1),
    ]
