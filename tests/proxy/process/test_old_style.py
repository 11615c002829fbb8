"""A file of the v2 time carries traffic: names and fields that Envoy itself has forgotten."""

import pytest

from weft.testing.process import eventually

QUICK_LOGS = ("--file-flush-interval-msec", "20")
OLD = """\
admin:
  access_log_path: {directory}/admin.log
  address: {{socket_address: {{address: 127.0.0.1, port_value: 0}}}}
static_resources:
  listeners:
  - name: shop
    address: {{socket_address: {{address: 127.0.0.1, port_value: 0}}}}
    filter_chains:
    - filters:
      - name: envoy.http_connection_manager
        config:
          codec_type: auto
          stat_prefix: shop
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes:
              - match: {{prefix: /goods}}
                route: {{cluster: goods}}
          http_filters:
          - name: envoy.router
  - name: raw
    address: {{socket_address: {{address: 127.0.0.1, port_value: 0}}}}
    filter_chains:
    - filters:
      - name: envoy.tcp_proxy
        config: {{stat_prefix: raw, cluster: goods}}
  clusters:
  - name: goods
    connect_timeout: 0.25s
    type: strict_dns
    dns_lookup_family: v4_only
    lb_policy: round_robin
    hosts: [{{socket_address: {{address: localhost, port_value: {port}}}}}]
"""


@pytest.mark.parametrize("workers", ["1", "2"])
def test_an_old_file_carries_traffic(start, upstream, tmp_path, workers):
    proxy = start(OLD.format(port=upstream.port, directory=tmp_path), "--concurrency", workers, *QUICK_LOGS).ready()

    assert proxy.get("/goods/1", "shop") == (200, "upstream")
    assert proxy.get("/else", "shop")[0] == 404
    assert proxy.get("/anything", "raw") == (200, "upstream")
    for old in ("access_log_path", "envoy.http_connection_manager", "envoy.router", "envoy.tcp_proxy", "config", "hosts"):
        assert any(f"the old name '{old}'" in line or f"the old field '{old}'" in line for line in proxy.log.splitlines()), old
    eventually(lambda: '"GET /ready' in (tmp_path / "admin.log").read_text(), "the line of the admin server")
